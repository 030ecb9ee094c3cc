"""Another envelope in the middle of the stream: what comes after what, and what stands against it.

:class:`Parts` are all that an envelope is compiled to. A :class:`Successor` is made beforehand, by any thread; the switch is
one instant of the stream (docs/reload.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .core.authority import Authority
from .core.commands import ReloadEnvelope
from .core.engine import Engine
from .core.gates import Gates, Reason
from .core.handover import Handover
from .core.plan import Plan
from .core.samples import Cause, Latch, Verdict
from .core.transplant import History, Kinship, kinship, renewed, transplant
from .envelope import Envelope
from .envelope.loosening import altered_signals, differences, loosened
from .whereabouts import Whereabouts, Witness

if TYPE_CHECKING:
    from .decider import Decider
    from .hard_cases import HardCaseMiner
    from .vocabulary import Vocabulary

MOST_NAMES = 64  #: in each list of what is different


@dataclass(slots=True)
class Parts:
    """What decides by an envelope."""

    envelope: Envelope
    engine: Engine
    gates: Gates
    authority: Authority | None
    handover: Handover | None
    whereabouts: Whereabouts
    miner: HardCaseMiner | None

    @classmethod
    def of(cls, envelope: Envelope, decider: Decider, vocabulary: Vocabulary, witness: Witness | None) -> Parts:
        """Parts in which nothing has happened yet. ``decider``: whose they are; it names states and texts."""
        spec = envelope.authority
        active = None
        if spec is not None and spec.active:
            value = spec.active_value
            active = (spec.active, float(vocabulary.texts.code(value)) if isinstance(value, str) else value)
        plan = Plan.build(
            envelope.signals,
            envelope.checks,
            mode=spec.mode if spec else None,
            active=active,
            text_code=vocabulary.texts.code,
            references=envelope.reference_digests,
        )
        names = tuple(signal.name for signal in envelope.signals)
        severities = {check.name: check.severity for check in envelope.checks}
        return cls(
            envelope,
            Engine(plan),
            Gates(envelope.gates, [check.name for check in envelope.checks], severities),
            Authority(spec, names, text=decider.text, label=decider.label) if spec else None,
            Handover(envelope.handover, envelope.gates) if envelope.handover else None,
            Whereabouts(envelope, witness),
            _miner(envelope),
        )


@dataclass(slots=True)
class Successor:
    """Parts that are to take over, and how they are akin to those that decide now."""

    before: Parts
    parts: Parts
    kin: Kinship
    altered: frozenset[str]
    loosened: tuple[str, ...]

    @classmethod
    def of(cls, old: Parts, new: Parts) -> Successor:
        """Compare; takes milliseconds."""
        altered = frozenset(altered_signals(old.envelope, new.envelope))
        kin = kinship(old.engine.plan, new.engine.plan, altered)
        return cls(old, new, kin, altered, tuple(loosened(old.envelope, new.envelope)))

    def against(self, old: Parts) -> Iterator[tuple[str, str]]:
        """Why it can't take over from ``old`` now: (code, message) of each reason."""
        mine, theirs = self.parts.envelope, old.envelope
        for name in ("id", "vehicle", "claim"):
            was, now = getattr(theirs, name), getattr(mine, name)
            if was != now:
                yield f"other_{name}", f"its {name} is {now!r}, and that of the envelope in force {was!r}"
        machine = old.handover
        if machine is not None:
            if machine.open is not None:
                yield "handover", f"handover {machine.open.terms.id} is open: reload when it has ended"
            if machine.mrm is not None:
                yield "handover", "the minimal-risk manoeuvre has been asked for: reload when it has ended"
            if machine.pending and self.parts.handover is None:
                yield "handover", f"handover {', '.join(machine.pending)} waits for a signature: have it signed first"
        latches = {spec.name: spec.latch for spec in self.parts.engine.plan.check_specs}
        for spec, state in zip(old.engine.plan.check_specs, old.engine.checks, strict=True):
            if state["latched"] and latches.get(spec.name, Latch.WHEN_CLEARED) == Latch.WHEN_CLEARED:
                yield "latch", f"the latch of {spec.name} is set, and would go: reset it first"
        moving = in_motion(old)
        if moving:
            for line in self.loosened:
                yield "loosening", f"{line} (looser, and {moving})"

    def take_over(self, old: Parts, t: int, history: History | None) -> tuple[np.ndarray, dict[str, int]]:
        """Continue at ``t`` (ns) what ``old`` has been at; answers the TRANSITION rows of the switch, and since when each
        check says what it says (ns)."""
        mine, kept = self.parts, self._kept
        retold = set[str]()
        if mine.authority is not None:
            if old.authority is not None and _same_authority(old, mine, kept):
                mine.authority.restore(old.authority.snapshot())
            else:
                retold |= _read_by_authority(mine)
        if mine.envelope.bins and _same_domain(old, mine, kept):
            mine.whereabouts.succeed(old.whereabouts, t)
        else:
            mine.whereabouts.succeed(None, t)
            retold |= {mine.envelope.signals[spec.signal].name for spec in mine.envelope.bins}
        if mine.miner is not None and old.miner is not None and self.goes_on_mining(old):
            mine.miner.restore(old.miner.snapshot())
        elif mine.miner is not None and mine.miner.spec.mode is not None:
            retold.add(mine.envelope.signals[mine.miner.spec.mode].name)
        since = transplant(old.engine, mine.engine, self.kin, history, retold).tolist()
        names = [spec.name for spec in mine.engine.plan.check_specs]
        return mine.engine.advance(renewed(t)), dict(zip(names, since, strict=True))

    def goes_on_mining(self, old: Parts) -> bool:
        """Whether hard cases are the same, and what has been ranked stays."""
        return _same_cases(old, self.parts, self._kept)

    @property
    def _kept(self) -> set[str]:
        return {self.parts.engine.plan.signal_specs[i].name for i in np.flatnonzero(self.kin.signals >= 0)}

    @property
    def unchanged(self) -> set[str]:
        """Names of the checks that go on as they are."""
        return {self.parts.engine.plan.check_specs[i].name for i in np.flatnonzero(self.kin.checks >= 0)}

    def reasons(self) -> list[Reason]:
        """What the other checks say now."""
        states = self.parts.engine.checks
        return [
            Reason(
                spec.name, Verdict(int(state["verdict"])), Cause(int(state["cause"])),
                float(state["value"]), float(state["limit"]), float(state["margin"]),
            )
            for spec, state, at in zip(self.parts.engine.plan.check_specs, states, self.kin.checks, strict=True)
            if at < 0
        ]  # fmt: skip

    def named(self, order: ReloadEnvelope) -> dict[str, Any]:
        """Which envelope it is, and who wants it: for payloads."""
        mine = self.parts.envelope
        return {
            "envelope": mine.id,
            "envelope_version": mine.version,
            "envelope_digest": mine.digest,
            "risk": mine.risk,
            "by": {"person": order.person, "reason": order.reason, "path": order.path},
        }

    def told(self, old: Parts, order: ReloadEnvelope, history: History | None, t: int) -> dict[str, Any]:
        """The payload of ``envelope.activated``."""
        mine = self.parts.envelope
        return {
            **self.named(order),
            **(order.approval or {}),
            "plan_digest": self.parts.engine.plan.digest(),
            "previous": {
                "envelope_version": old.envelope.version,
                "envelope_digest": old.envelope.digest,
                "risk": old.envelope.risk,
                **old.whereabouts.account(t),
            },
            "changes": {
                what: {word: names[:MOST_NAMES] for word, names in found.items()}
                for what, found in differences(old.envelope, mine).items()
            },
            "loosened": list(self.loosened[:MOST_NAMES]),
            "history_ns": 0 if history is None else t - history.t,
        }


def in_motion(parts: Parts) -> str:
    """Why the vehicle must be taken to be under way; empty where it is known not to be.

    Where the vehicle says whether it is active, that decides. Else it is at rest only while no gate is GO and neither
    autonomy nor a fallback commands.
    """
    authority = parts.authority
    if authority is not None and parts.envelope.authority is not None and parts.envelope.authority.active:
        known = authority.command.decision == authority.command.execution == "none"
        return "" if known else "the vehicle is not known to be inactive"
    going = [name for name, go in parts.gates.state().items() if go]
    if going:
        return f"gate {', '.join(going)} is GO"
    if authority is not None:
        moving = {authority.command.decision, authority.command.execution} & {"autonomy", "fallback"}
        if moving:
            return f"{' and '.join(sorted(moving))} commands"
    return ""


def _same_authority(old: Parts, new: Parts, kept: Collection[str]) -> bool:
    return old.envelope.authority == new.envelope.authority and _read_by_authority(new) <= set(kept)


def _read_by_authority(parts: Parts) -> set[str]:
    spec = parts.envelope.authority
    if spec is None:
        return set()
    named = {spec.mode, spec.intention, spec.failsafe, spec.active} - {""}
    return named | set(spec.reason_texts) | {signal for _, signal in spec.reason_flags}


def _same_domain(old: Parts, new: Parts, kept: Collection[str]) -> bool:
    def bins(parts: Parts) -> dict[str, int]:
        return {parts.envelope.signals[spec.signal].name: spec.axis for spec in parts.envelope.bins}

    return old.envelope.odd == new.envelope.odd and bins(old) == bins(new) and set(bins(new)) <= set(kept)


def _same_cases(old: Parts, new: Parts, kept: Collection[str]) -> bool:
    if old.miner is None or new.miner is None:
        return False
    names = {new.envelope.signals[score.signal].name for score in new.miner.spec.scores}
    if new.miner.spec.mode is not None:
        names.add(new.envelope.signals[new.miner.spec.mode].name)
    return old.envelope.hard_case_model == new.envelope.hard_case_model and names <= set(kept)


def _miner(envelope: Envelope) -> HardCaseMiner | None:
    """What follows hard cases; nothing is imported where the envelope asks for none."""
    if envelope.hard_cases is None:
        return None
    from .hard_cases import HardCaseMiner

    return HardCaseMiner(envelope.hard_cases)
