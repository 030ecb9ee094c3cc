"""The ``hard_cases`` section: which frames of each hour are worth to be looked at again, and by which signals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ..core.signals import Signal
from .drift import ReferenceFile
from .fields import Model, PositiveDuration, SignalName
from .problems import Finding, Path, shown

if TYPE_CHECKING:
    from ..baselines import Baseline
    from ..core.perception.hard_cases import HardCaseSpec

TAILS = {"low": -1, "both": 0, "high": 1}


class Score(Model):
    """How one signal says that a frame is strange."""

    reference: ReferenceFile = Field(description="file made by `edge-replay calibrate`")
    tail: Literal["low", "high", "both"] = Field(
        description="which values are strange: low ones (confidence, margin), high ones (entropy), or both"
    )


class HardCases(Model):
    """The strangest frames of each hour. They are events, `hardcase.captured`, and decide nothing."""

    scores: Annotated[dict[SignalName, Score], Field(min_length=1)] = Field(
        description="`{signal: {reference: FILE, tail: low}}`; a frame is a message that brings one of these signals"
    )
    mode: SignalName = Field("", description="signal that tells the mode; each mode is ranked apart")
    top: int = Field(20, description="frames told of each period, and mode", ge=1, le=1000)
    every: PositiveDuration = Field(
        3_600_000_000_000, description="the period, counted from time 0 of the stream's clock"
    )
    worst_p: float = Field(0.01, description="frames with a larger p-value are no candidates", gt=0, le=1)

    def references(self) -> Iterator[tuple[Path, str, str]]:
        """Signals that it reads: place, name, and how they are watched."""
        if self.mode:
            yield ("mode",), self.mode, "change"
        for name in self.scores:
            yield ("scores", name), name, "each"

    def findings(self, signals: Mapping[str, Signal]) -> Iterator[Finding]:
        """What is wrong with it; of the signals only those that are known are looked at."""
        for name, score in self.scores.items():
            if name not in signals:
                continue
            place: Path = ("scores", name)
            if len(topics(name, signals)) > 1:
                listed = ", ".join(topics(name, signals))
                yield Finding(place, f"is made of several topics ({listed}): a frame is a message of one")
            if score.reference.content is not None:
                findings = self._against_reference(signals[name], score.reference.content)
                yield from (found.under((*place, "reference")) for found in findings)

    def _against_reference(self, signal: Signal, baseline: Baseline) -> Iterator[Finding]:
        """A reference of another signal, unit or mode, or too small for the p that is asked for."""
        header = baseline.header
        if header["signal"] != signal.name:
            yield Finding((), f"was made of signal {shown(header['signal'])}, not of `{signal.name}`")
        elif header["unit"] != signal.unit:
            yield Finding((), f"was made in {shown(header['unit'])}: calibrate anew")
        if header["mode_signal"] != self.mode:
            has = f"has the modes of {shown(header['mode_signal'])}" if header["mode_signal"] else "has no modes"
            yield Finding((), f"{has}: calibrate anew or change `mode`")
        least = min(len(baseline.sample(i)) for i in range(len(baseline.modes)))
        if 1 / (least + 1) > self.worst_p:
            message = f"holds {least} values of a mode: no p is below {1 / (least + 1):.3g}, and `worst_p` is {self.worst_p:g}"
            yield Finding((), message)

    def lower(self, signals: Mapping[str, Signal]) -> HardCaseSpec:
        """As core.perception.hard_cases takes it; ``signals``: all, in the plan's order."""
        import numpy as np

        from ..core.perception.hard_cases import HardCaseSpec, ScoreSpec

        index = {name: i for i, name in enumerate(signals)}
        baselines = {name: score.reference.content for name, score in self.scores.items()}
        known = [one for one in baselines.values() if one is not None]
        modes = tuple(sorted({mode for one in known for mode in one.modes})) or (0.0,)
        scores = []
        for name in sorted(self.scores):
            baseline = baselines[name]
            at = [baseline.modes.index(m) if baseline is not None and m in baseline.modes else -1 for m in modes]
            centre, scale, samples = [], [], []
            for i in at:
                here = baseline if i >= 0 else None
                centre.append(float(here.arrays["centre"][i]) if here else 0.0)
                scale.append(float(here.arrays["scale"][i]) if here else 1.0)
                samples.append(here.sample(i) if here else np.zeros(0))
            (topic,) = topics(name, signals)
            tail = TAILS[self.scores[name].tail]
            scores.append(ScoreSpec(index[name], topic, tail, tuple(centre), tuple(scale), tuple(samples)))
        mode = index[self.mode] if self.mode else None
        return HardCaseSpec(tuple(scores), self.top, self.worst_p, self.every, mode, modes)


def topics(name: str, signals: Mapping[str, Signal]) -> tuple[str, ...]:
    """The topics that a signal comes from; a derived one from those of all that it is made of."""
    found: dict[str, None] = {}
    left, seen = [name], {name}
    while left:
        signal = signals[left.pop()]
        if signal.expr is None:
            found[signal.topic] = None
            continue
        new = [one for one in signal.expr.signals() if one not in seen and one in signals]
        left += new
        seen.update(new)
    return tuple(sorted(found))
