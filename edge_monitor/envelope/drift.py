"""The ``drift`` kind: a detector on a signal, or on several at once, and the file that holds their reference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator
from pydantic import WithJsonSchema as JsonSchema

from .. import baselines
from ..core.check_spec import CheckSpec
from ..core.drift import adwin, compat, edetector, pipeline, vector
from .check_model import CheckModel, Signals
from .fields import PositiveDuration, SignalName
from .named_files import AS_DIGEST, AS_NAME, NamedFile, read_by
from .problems import Finding, shown
from .units import positive_duration, shown_duration

#: Detectors that can do without a reference; they only say that something changed, and promise nothing.
FREE = frozenset({"adwin", "page_hinkley", "kswin", "multinomial"})
#: Detectors whose false alarms are promised, where the reference is calibrated.
PROMISED = frozenset({"edetector", "mahalanobis"})
#: Blocks for which the statistic must lie below the resolve line, where the file does not say how long.
RESOLVE_BLOCKS = 10


def _false_alarms(value: object) -> int:
    """``1 per 10 h`` in ns an alarm."""
    found = re.fullmatch(r"(?:at most )?1 per (.+)", value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"expected such as `1 per 10 h`, got {shown(value)}")
    return positive_duration(found[1])


ReferenceFile = Annotated[
    NamedFile[baselines.Baseline],
    read_by(baselines.load, "reference file such as `baselines/imu_hover.npz`"),
    AS_DIGEST,
    AS_NAME,
]
FalseAlarms = Annotated[
    int,
    PlainValidator(_false_alarms),
    JsonSchema({"type": "string", "pattern": "^(at most )?1 per ", "examples": ["1 per 10 h"]}),
]


class Drift(CheckModel):
    """The signal, or several at once, no longer behaves as in its reference (or, for detectors without one, as before)."""

    signal_fields: ClassVar[tuple[str, ...]] = ("signal", "signals", "mode")

    kind: Literal["drift"]
    signal: SignalName = Field("", description="what is watched")
    signals: tuple[SignalName, ...] = Field(
        (),
        description="for `mahalanobis` and `mmd`: what is watched, together",
        min_length=2,
        max_length=vector.MAX_DIMENSIONS,
    )
    mode: SignalName = Field("", description="signal that tells the mode; each mode has a reference of its own")
    detector: Literal[
        "edetector", "cusum", "ewma", "variance", "focus", "histogram", "adwin", "page_hinkley", "kswin", "multinomial",
        "mahalanobis", "mmd",
    ] = Field("edetector", description="`edetector` and `mahalanobis` are those whose false alarms are promised")  # fmt: skip
    reference: ReferenceFile | None = Field(
        None,
        description="file made by `edge-replay calibrate`; not needed by `adwin`, `page_hinkley`, `kswin`, `multinomial`",
    )
    false_alarms: FalseAlarms | None = Field(
        None, description="`1 per 10 h`: of all drift checks of the robot together; what calibration aims at"
    )
    share: float = Field(
        0.0, description="this check's part of the false alarms; 0: what others leave, evenly", ge=0, le=1
    )
    score: Literal["shift", "energy", "quiet"] = Field(
        "shift",
        description="what `edetector` and `mahalanobis` watch: the level, more noise (or a broken correlation), or less "
        "(a dying sensor)",
    )
    resolve: float = Field(0.5, description="an alarm is over below this part of the limit …", gt=0, le=1)
    resolve_for: PositiveDuration | None = Field(None, description="… for so long; ten blocks where not given")
    shares: tuple[float, ...] = Field(
        (), description="for `multinomial`: the usual share of each class, the signal being the class's number from 0"
    )
    settings: dict[str, float] = Field(
        default_factory=dict, description="the detector's own numbers, such as `{delta: 0.002}`; see its page"
    )

    @property
    def calibrated(self) -> bool:
        """Are its false alarms promised?"""
        return not FREE.intersection((self.detector,)) and bool(self._table()[pipeline.CALIBRATED])

    @property
    def value_ns(self) -> int:
        """Time between two values of the detector, ns; 0 where no reference says it."""
        baseline = self.reference.content if self.reference else None
        if baseline is None:
            return 0
        single = self.detector in baselines.SINGLE or self.detector in baselines.PLAIN
        return round((1 if single else int(baseline.header["block"])) * float(baseline.header["period_s"]) * 1e9)

    def findings(self, signals: Signals) -> Iterator[Finding]:
        if self.fail_for:
            yield Finding(("fail_for",), "has no meaning for drift: an alarm is an instant")
        if self.pass_for:
            yield Finding(("pass_for",), "is called `resolve_for` here")
        yield from self._what_is_watched()
        if self.reference is None:
            if self.detector not in FREE:
                message = f"is required by `{self.detector}`: make one with `edge-replay calibrate`"
                yield Finding(("reference",), message)
            elif self.mode:
                yield Finding(("mode",), "needs `reference`: without one there is nothing to tell modes apart by")
        else:
            yield from self._against_reference(signals)
        if (self.detector == "multinomial") != bool(self.shares):
            message = "is required by `multinomial`" if not self.shares else f"has no meaning for `{self.detector}`"
            yield Finding(("shares",), message)
        elif self._has_table():
            try:
                self._table()
            except (ValueError, TypeError) as error:
                place: tuple[str, ...] = ("settings",) if self.settings else ("detector",)
                yield Finding(place, f"does not fit `{self.detector}`: {error}")

    def _what_is_watched(self) -> Iterator[Finding]:
        """One signal, or several at once, as the detector takes them."""
        needed, other = ("signals", "signal") if self.detector in pipeline.VECTOR else ("signal", "signals")
        if getattr(self, other):
            yield Finding((other,), f"has no meaning for `{self.detector}`: it watches `{needed}`")
        elif not getattr(self, needed):
            yield Finding((needed,), "is required" if needed == "signal" else f"is required by `{self.detector}`")
        for i, name in enumerate(self.signals):
            if name in self.signals[:i]:
                yield Finding(("signals", i), f"names `{name}` once more")

    @property
    def watched(self) -> tuple[str, ...]:
        """The names of what is watched: one, or several at once."""
        return self.signals or (self.signal,)

    def _against_reference(self, signals: Signals) -> Iterator[Finding]:
        """A reference of another signal, unit, mode or promise than the check asks for."""
        baseline = self.reference.content if self.reference else None
        if baseline is None:
            return
        header = baseline.header
        if baseline.signals != self.watched:
            many = "s" if baseline.several else ""
            made, here = ", ".join(baseline.signals), ", ".join(self.watched)
            yield Finding(("reference",), f"was made of signal{many} {shown(made)}, not of `{here}`")
        elif baseline.units != tuple(signals[name].unit for name in self.watched):
            yield Finding(("reference",), f"was made in {shown(', '.join(baseline.units))}: calibrate anew")
        residual = signals[self.signal].residual if self.signal else None
        if header.get("model", "") != (residual.digest if residual else ""):
            yield Finding(("reference",), f"was made of `{self.signal}` with another model: calibrate anew")
        if header["mode_signal"] != self.mode:
            message = f"has the modes of {shown(header['mode_signal'])}" if header["mode_signal"] else "has no modes"
            yield Finding(("mode",) if self.mode else ("reference",), f"{message}: calibrate anew or change `mode`")
        if self.detector in PROMISED and header["score"] != self.score:
            yield Finding(("score",), f"is {shown(header['score'])} in the reference: calibrate anew")
        asked = header["promise"].get("interval_s")
        if self.false_alarms is not None and asked != self.false_alarms / 1e9:
            have = shown_duration(round(float(asked) * 1e9)) if asked else "none"
            yield Finding(("false_alarms",), f"differs from the reference's `1 per {have}`: calibrate anew")

    def _has_table(self) -> bool:
        """Can the table be made, as far as `reference` and what is watched go?"""
        if next(self._what_is_watched(), None) is not None:
            return False
        if self.reference is None:
            return self.detector in FREE
        baseline = self.reference.content
        return baseline is not None and baseline.signals == self.watched

    def _table(self) -> tuple[float, ...]:
        numbers: dict[str, Any] = {
            name: int(value) if value.is_integer() else value for name, value in self.settings.items()
        }
        if self.reference is not None and self.reference.content is not None:
            return self.reference.content.table(self.detector, resolve=self.resolve, **numbers)
        if self.reference is not None:
            return ()
        if self.detector == "multinomial":
            if "threshold" not in numbers:
                raise ValueError("needs a `threshold`: the mean number of blocks between false alarms")
            params = edetector.multinomial_params(shares=self.shares, **numbers)
            return pipeline.pack(pipeline.MULTINOMIAL, [pipeline.Row(params)], resolve=self.resolve)
        make = {"adwin": adwin.adwin_params, "page_hinkley": compat.page_hinkley_params, "kswin": compat.kswin_params}
        params = make[self.detector](**numbers)  # type: ignore[operator]
        return pipeline.pack(pipeline.DETECTORS[self.detector], [pipeline.Row(params)], resolve=self.resolve)

    def table(self, signals: Signals) -> tuple[float, ...]:
        return self._table()

    def lower(self, name: str, signals: Signals) -> CheckSpec:
        resolve_for = self.resolve_for or 0
        baseline = self.reference.content if self.reference else None
        if not resolve_for and baseline is not None:
            resolve_for = round(
                RESOLVE_BLOCKS * float(baseline.header["block"]) * float(baseline.header["period_s"]) * 1e9
            )
        return replace(super().lower(name, signals), pass_for=resolve_for)
