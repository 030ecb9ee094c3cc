"""The engine as plain Python: whole histories, every deadline found by looking, no state that could be forgotten.

Written from SEMANTICS §1-2 and docs/architecture.md. It works on specifications (not on compiled rows), keeps every
arrival since the last clock jump, and at each deadline evaluates *every* check; what the engine skips must not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from edge_monitor.core.check_spec import CheckSpec
from edge_monitor.core.samples import (
    FLAG_CAUSE,
    FLAG_END,
    FLAG_INSTANT_END,
    FLAG_LATCHED,
    ITEM_MISSION_END,
    ITEM_RESET_LATCH,
    ITEM_SAMPLE,
    ITEM_SET_LATCH,
    ITEM_SHIFT,
    ITEM_SOURCE_STATUS,
    ITEM_UNTIL,
    Cause,
    Latch,
    TransitionKind,
    Verdict,
)
from edge_monitor.core.signals import Signal

from .checks import Answer, Input, deadlines, say

SECOND = 1_000_000_000
NAN = math.nan


@dataclass
class Row:
    """One transition, in the words of ``TRANSITION``."""

    t_effective: int
    t_decided: int
    kind: TransitionKind
    subject: int
    verdict: Verdict
    cause: Cause = Cause.NONE
    previous: Verdict = Verdict.PASS
    margin: float = NAN
    value: float = NAN
    limit: float = NAN
    flags: int = 0


@dataclass
class Watched:
    """What watchers of a signal were last told."""

    cause: Cause = Cause.NEVER_RECEIVED
    value: float = NAN


@dataclass
class Check:
    """A check: its specification, its debounced memory, and the history of its verdicts."""

    spec: CheckSpec
    verdict: Verdict = Verdict.UNKNOWN
    known: Verdict | None = None  # what the last known values gave, debounced
    raw: Verdict = Verdict.UNKNOWN
    answer: Answer | None = None
    fail_since: int | None = None
    pass_since: int | None = None
    latched: bool = False
    released: bool = False  # a command put the latch on or took it off in this instant
    margins: list[tuple[float, int]] = field(default_factory=list)
    spans: list[tuple[int, Verdict]] = field(default_factory=list)  # (from, verdict); a jump closes the last one
    booked: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))

    def book(self, until: int) -> None:
        """Count the time of the verdict in force up to ``until``."""
        start, verdict = self.spans[-1]
        self.booked[verdict] += until - start


class EngineOracle:
    """Same interface as ``Engine``, for rows of SAMPLE; answers lists of :class:`Row`."""

    def __init__(
        self,
        signals: Sequence[Signal],
        checks: Sequence[CheckSpec],
        mode: str | None = None,
        active: tuple[str, float] | None = None,
    ) -> None:
        names = [signal.name for signal in signals]
        self.specs = signals
        self.inputs = [Input() for _ in signals]
        self.watched = [Watched() for _ in signals]
        self.checks = [Check(spec) for spec in checks]
        self.reads = [[names.index(name) for name in spec.signals] for spec in checks]
        self.mode = None if mode is None else names.index(mode)
        self.active = None if active is None else (names.index(active[0]), active[1])
        self.now: int | None = None
        self.fired = -(1 << 62)  # deadlines up to here have taken effect
        self.open: list[tuple[int, float, Cause]] | None = None  # samples of the message being read
        self.dropping = False
        self.dropped = self.jumps = 0
        self.rows: list[Row] = []

    def advance(self, items: np.ndarray, until: int | None = None) -> list[Row]:
        """Walk the items, then time."""
        self.rows = []
        for item in items:
            self._item(int(item["t"]), int(item["signal"]), int(item["flags"]), float(item["value"]))
        if until is not None:
            self._until(until, until)
        return self.rows

    def finish(self, t: int) -> list[Row]:
        """End the stream: deadlines at ``t`` fire too."""
        self.rows = []
        self._until(t, t + 1)
        return self.rows

    def _start(self, t: int) -> None:
        if self.now is None:
            self.now = t
            for check in self.checks:
                check.spans.append((t, Verdict.UNKNOWN))

    def _until(self, t: int, limit: int) -> None:
        self._start(t)
        assert self.now is not None
        if t >= self.now:
            self._fire(limit, t)
            self.now = t

    def _item(self, t: int, subject: int, flags: int, value: float) -> None:
        kind = (flags >> ITEM_SHIFT) & 0xFF
        cause = Cause(flags & FLAG_CAUSE)
        if kind == ITEM_SAMPLE and self.open is not None:
            self.open.append((subject, value, cause))
        elif kind == ITEM_SAMPLE and self.dropping:
            self.dropped += 1
        else:
            self._start(t)
            assert self.now is not None
            if kind == ITEM_SAMPLE and self.now - SECOND <= t < self.now:
                self.dropping = True
                self.dropped += 1
            else:
                if kind == ITEM_SAMPLE and t < self.now:
                    self._jump(t)
                t = max(t, self.now)
                self._fire(t, t)
                self.now = t
                if kind == ITEM_SAMPLE:
                    self.open = [(subject, value, cause)]
                elif kind != ITEM_UNTIL:
                    self._instant(lambda: self._command(kind, subject, cause))
        if kind == ITEM_SAMPLE and flags & FLAG_END:
            if self.open is not None:
                samples, self.open = self.open, None
                self._instant(lambda: self._message(samples))
            self.dropping = False

    def _instant(self, act) -> None:  # type: ignore[no-untyped-def]
        before = len(self.rows)
        act()
        if len(self.rows) > before:
            self.rows[-1].flags |= FLAG_INSTANT_END

    def _fire(self, limit: int, decided: int) -> None:
        while True:
            due = [d for signal in range(len(self.specs)) if (d := self._expiry(signal)) is not None]
            for check, reads in zip(self.checks, self.reads, strict=True):
                due += deadlines(check.spec, [self.inputs[i] for i in reads])
                if check.fail_since is not None:
                    due.append(check.fail_since + check.spec.fail_for)
                if check.pass_since is not None:
                    due.append(check.pass_since + check.spec.pass_for)
            due = [t for t in due if self.fired < t < limit]
            if not due:
                self.fired = limit - 1
                return
            self._instant(partial(self._deadline, min(due), decided))

    def _expiry(self, signal: int) -> int | None:
        """When the value in force stops to count; None: not by time."""
        source, max_age = self.inputs[signal], self.specs[signal].max_age
        return None if max_age is None or not source.arrivals or source.gone else source.arrivals[-1] + max_age

    def _deadline(self, t: int, decided: int) -> None:
        self.fired = t
        for i, source in enumerate(self.inputs):
            if self._expiry(i) == t:
                source.lose(t, Cause.STALE)
                self.rows.append(Row(t, decided, TransitionKind.INPUT, i, Verdict.UNKNOWN, Cause.STALE))
                self._show(i, t, decided)
        for i in range(len(self.checks)):
            self._settle(i, t, decided, after=True)

    def _message(self, samples: list[tuple[int, float, Cause]]) -> None:
        t = self.now
        assert t is not None
        last = {signal: (math.nan if cause else value, cause) for signal, value, cause in samples}
        for signal, (value, cause) in last.items():
            self.inputs[signal].receive(t, value, Cause.NAN if cause == Cause.NONE and math.isnan(value) else cause)
        for signal in last:
            source = self.inputs[signal]
            if source.lost:
                source.lost = False
                self.rows.append(Row(t, t, TransitionKind.INPUT, signal, Verdict.PASS, previous=Verdict.UNKNOWN))
            told = self.watched[signal]
            if told.cause == Cause.NONE and source.cause == Cause.NONE:
                ended = self.active == (signal, told.value) and source.value != told.value
                if (signal == self.mode and source.value != told.value) or ended:
                    self._unlatch([i for i, c in enumerate(self.checks) if c.spec.latch == Latch.ON_MODE_CHANGE], t)
                if ended:
                    self._unlatch([i for i, c in enumerate(self.checks) if c.spec.latch == Latch.ON_MISSION_END], t)
            self._show(signal, t, t)
        self._settle_readers(set(last), t)

    def _command(self, kind: int, subject: int, cause: Cause) -> None:
        t = self.now
        assert t is not None
        if kind == ITEM_RESET_LATCH:
            self._unlatch([subject], t)
        elif kind == ITEM_SET_LATCH:
            check = self.checks[subject]
            if check.spec.latch:
                check.latched, check.released = True, True
        elif kind == ITEM_MISSION_END:
            ends = (Latch.ON_MODE_CHANGE, Latch.ON_MISSION_END)
            for latch in ends:
                self._unlatch([i for i, check in enumerate(self.checks) if check.spec.latch == latch], t)
        elif kind == ITEM_SOURCE_STATUS:
            source = self.inputs[subject]
            if cause == Cause.NONE:
                if not source.lost:
                    return
                source.lose(t, Cause.STALE if source.arrivals else Cause.NEVER_RECEIVED)
            else:
                if not source.lost or source.cause != cause:
                    self.rows.append(Row(t, t, TransitionKind.INPUT, subject, Verdict.UNKNOWN, cause))
                source.lose(t, cause)
            self._show(subject, t, t)
            self._settle_readers({subject}, t)
        if kind in (ITEM_RESET_LATCH, ITEM_SET_LATCH, ITEM_MISSION_END):
            self._settle_readers(set(), t)

    def _settle_readers(self, signals: set[int], t: int) -> None:
        for i, check in enumerate(self.checks):
            if signals.intersection(self.reads[i]) or check.released:
                check.released = False
                self._settle(i, t, t, after=False)

    def _jump(self, t: int) -> None:
        before = self.now
        assert before is not None

        def act() -> None:
            step = (t - before) / 1e9
            self.rows.append(Row(t, t, TransitionKind.CLOCK, -1, Verdict.UNKNOWN, Cause.CLOCK, value=step))
            self.now, self.fired = t, t - 1
            self.jumps += 1
            for i in range(len(self.inputs)):
                self.inputs[i] = Input(value=self.inputs[i].value)
                self._show(i, t, t)
            for i, check in enumerate(self.checks):
                check.book(before)
                check.spans.append((t, check.verdict))
                check.known = check.fail_since = check.pass_since = None
                self._settle(i, t, t, after=False)

        self._instant(act)

    def _unlatch(self, indices: list[int], t: int) -> None:
        for i in indices:
            check = self.checks[i]
            if check.latched and check.known == Verdict.PASS and check.raw == Verdict.PASS:
                check.latched, check.released = False, True
                answer = check.answer
                assert answer is not None
                numbers = (answer.margin, answer.value, answer.limit)
                self.rows.append(
                    Row(t, t, TransitionKind.LATCH, i, Verdict.PASS, Cause.NONE, Verdict.FAIL, *numbers)
                )  # fmt: skip

    def _show(self, signal: int, t: int, decided: int) -> None:
        source, told = self.inputs[signal], self.watched[signal]
        watch = self.specs[signal].watch
        if not watch and signal != self.mode and (self.active is None or signal != self.active[0]):
            return
        known = source.cause == Cause.NONE
        changed = source.cause != told.cause or (known and source.value != told.value)
        if changed or (watch == "each" and known):
            verdict = Verdict.PASS if known else Verdict.UNKNOWN
            previous = Verdict.PASS if told.cause == Cause.NONE else Verdict.UNKNOWN
            self.rows.append(
                Row(
                    t,
                    decided,
                    TransitionKind.VALUE,
                    signal,
                    verdict,
                    source.cause,
                    previous,
                    value=source.value if known else NAN,
                    limit=told.value,
                )
            )
            told.cause, told.value = source.cause, source.value

    def _settle(self, i: int, t: int, decided: int, *, after: bool) -> None:
        check = self.checks[i]
        inputs = [self.inputs[k] for k in self.reads[i]]
        answer = say(check.spec, inputs, t, after=after, failed=check.known == Verdict.FAIL)
        check.raw, check.answer = answer.verdict, answer
        strict = say(check.spec, inputs, t, after=after, failed=False).margin
        if not math.isnan(strict):
            check.margins.append((strict, t))
        verdict, cause = self._debounce(check, t)
        if check.latched:
            verdict = Verdict.FAIL
        if verdict == check.verdict:
            return
        numbers = (answer.margin, answer.value, answer.limit)
        previous, check.verdict = check.verdict, verdict
        check.book(t)
        check.spans.append((t, verdict))
        flags = FLAG_LATCHED if check.latched else 0
        self.rows.append(Row(t, decided, TransitionKind.CHECK, i, verdict, cause, previous, *numbers, flags))
        if verdict == Verdict.FAIL and check.spec.latch and not check.latched:
            check.latched = True
            self.rows.append(
                Row(t, decided, TransitionKind.LATCH, i, verdict, Cause.NONE, Verdict.PASS, *numbers, FLAG_LATCHED)
            )

    def _debounce(self, check: Check, t: int) -> tuple[Verdict, Cause]:
        """The verdict that the raw answer leads to, and why it is unknown."""
        answer = check.answer
        assert answer is not None
        if answer.verdict == Verdict.UNKNOWN:  # neither resets a pending failure nor earns a pass
            check.pass_since = None
            return Verdict.UNKNOWN, answer.cause
        if answer.verdict == Verdict.FAIL:
            check.pass_since = None
            if check.known == Verdict.FAIL:
                return Verdict.FAIL, answer.cause
            if check.fail_since is None:
                check.fail_since = t
            if t >= check.fail_since + check.spec.fail_for:
                check.known, check.fail_since = Verdict.FAIL, None
                return Verdict.FAIL, answer.cause
            return (Verdict.PASS, Cause.NONE) if check.verdict == Verdict.PASS else (Verdict.UNKNOWN, Cause.WARMING)
        check.fail_since = None
        if check.known == Verdict.FAIL:
            if check.pass_since is None:
                check.pass_since = t
            if t < check.pass_since + check.spec.pass_for:
                return Verdict.FAIL, Cause.NONE
        check.known, check.pass_since = Verdict.PASS, None
        return Verdict.PASS, Cause.NONE
