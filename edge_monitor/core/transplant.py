"""From one plan to another while the stream runs: what is the same in both goes on, the rest is worked out anew.

A check that is the same, over signals that are the same, keeps its state, bit for bit. A check that is new or changed gets
the state that it would have had if its plan had been in force for as long as items are kept (:class:`History`): the new
plan runs over them, from the values in force at their beginning. So windows, hysteresis and debouncing are those of the
new limits over the raw values, whatever kind of check it is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .advance import TELL_LATCH, TOLD
from .check_spec import CheckSpec
from .engine import Engine
from .plan import ROLE_ACTIVE, ROLE_DERIVED, ROLE_MODE, Plan
from .samples import (
    FLAG_END,
    ITEM_RENEWED,
    ITEM_SAMPLE,
    ITEM_SHIFT,
    ITEM_SOURCE_STATUS,
    NEVER,
    SAMPLE,
    UNSEEN,
    Cause,
    Verdict,
)


class History(NamedTuple):
    """Items that are kept of a stream, by the indices of the old plan. ``base``: the last ones of each signal up to ``t``
    (ns), by time; ``items``: all that came after those, in order. Both are rows of SAMPLE; those of signals
    that nobody needs may be left out."""

    t: int
    base: np.ndarray
    items: np.ndarray


@dataclass(frozen=True, slots=True)
class Kinship:
    """What of a new plan is in the old one: indices there, -1 for none.

    ``signals``: the same quantity, read in the same way; ``checks``: the same check; ``namesakes``: one of that name.
    ``wanted``: (old signals,) True for those whose items are needed to work out the rest.
    """

    signals: np.ndarray
    checks: np.ndarray
    namesakes: np.ndarray
    wanted: np.ndarray

    @property
    def is_whole(self) -> bool:
        """Whether nothing is new or changed."""
        return bool((self.signals >= 0).all() and (self.checks >= 0).all())


def kinship(old: Plan, new: Plan, altered: Collection[str] = ()) -> Kinship:
    """Compare two plans. ``altered``: signals that mean something else now, though they are read as before."""
    were = {signal.name: (i, signal) for i, signal in enumerate(old.signal_specs)}
    checked = {spec.name: (i, spec) for i, spec in enumerate(old.check_specs)}
    specs = {signal.name: signal for signal in new.signal_specs}
    same: dict[str, bool] = {}

    def is_same(name: str) -> bool:
        if name not in same:
            signal = specs[name]
            same[name] = (
                name not in altered
                and name in were
                and were[name][1].meaning == signal.meaning
                and all(map(is_same, signal.made_of))
            )
        return same[name]

    signals = np.array([were[name][0] if is_same(name) else -1 for name in specs], np.int64)
    checks = np.full(len(new.check_specs), -1, np.int64)
    namesakes = np.full(len(new.check_specs), -1, np.int64)
    needed: set[str] = {name for name, signal in specs.items() if signal.made_of and not same[name]}
    roles = new.signals["role"] & (ROLE_MODE | ROLE_ACTIVE)
    clearing = {name for name, role in zip(specs, roles, strict=True) if role}  # by what latches are cleared
    for i, spec in enumerate(new.check_specs):
        at, was = checked.get(spec.name, (-1, None))
        namesakes[i] = at
        if was is not None and _decides_as(spec, was) and all(same[name] for name in spec.signals):
            checks[i] = at
        else:
            needed |= set(spec.signals)
            needed |= clearing
    wanted = np.zeros(len(old.signal_specs), np.bool_)
    left, seen = list(needed), set(needed)
    while left:
        name = left.pop()
        if same[name]:
            wanted[were[name][0]] = True
        more = set(specs[name].made_of) - seen
        seen |= more
        left += more
    return Kinship(signals, checks, namesakes, wanted)


def transplant(
    old: Engine, new: Engine, kin: Kinship, history: History | None, retold: Collection[str] = ()
) -> np.ndarray:
    """Put the state that follows from ``old`` into ``new``, which has taken nothing yet. Both stand at one time after it.

    The next item that ``new`` takes must be :func:`renewed`, at that time. ``retold``: signals whose values are told to
    watchers again. Answers (c,) int64: since when, ns, each check says what it says, by the new plan.
    """
    if new.plan.digest() == old.plan.digest() and not retold and kin.is_whole:
        new.restore(old.snapshot())
        changed: np.ndarray = new.memory.states["t_changed"].copy()
        return changed
    now = int(old.memory.head[0]["now"])
    known = _mapped(history or _in_force(old, now), kin)
    start, taken = _run(new, known, now, None)
    offset = old.memory.signals["count"][kin.signals] - taken
    offset[kin.signals < 0] = 0
    _run(new, known, now, np.maximum(offset, start))
    if known.t > old.memory.head[0]["first"]:
        _fail_what_has_failed_throughout(new, known.t)
    since: np.ndarray = new.memory.states["t_changed"].copy()
    same = kin.checks >= 0
    since[same] = old.memory.states["t_changed"][kin.checks[same]]
    _continue_signals(old, new, kin, now, retold)
    _continue_checks(old, new, kin, now)
    _find_next(new)
    return since


def renewed(t: int) -> np.ndarray:
    """(1,) SAMPLE: the item by which an engine tells, at ``t`` (ns), what came of a transplant."""
    return np.array([(t, 0, ITEM_RENEWED << ITEM_SHIFT, 0.0)], SAMPLE)


def _decides_as(one: CheckSpec, other: CheckSpec) -> bool:
    """Whether two checks of one name over signals that are the same decide alike."""
    fields = ("kind", "signals", "params", "table", "formula", "texts", "fail_for", "pass_for", "latch")
    return all(getattr(one, name) == getattr(other, name) for name in fields)


def _in_force(old: Engine, now: int) -> History:
    """Where no items are kept: the values in force, and nothing of how they came to be."""
    rows = []
    for s, (signal, fixed) in enumerate(zip(old.memory.signals, old.plan.signals, strict=True)):
        if signal["count"] == 0 or fixed["role"] & ROLE_DERIVED:
            continue
        cause = int(signal["cause"])
        stale = cause == Cause.STALE
        rows.append((int(signal["t"]), s, FLAG_END | (0 if stale else cause), float(signal["value"])))
        if signal["lost"] and not stale:
            rows.append((now, s, cause | ITEM_SOURCE_STATUS << ITEM_SHIFT, 0.0))
    rows.sort(key=lambda row: row[0])
    return History(now, np.array(rows, SAMPLE), np.zeros(0, SAMPLE))


def _mapped(history: History, kin: Kinship) -> History:
    """The history by the indices of the new plan, without what that does not have."""
    there = np.full(max(len(kin.wanted), 1), -1, np.int64)
    kept = np.flatnonzero(kin.signals >= 0)
    there[kin.signals[kept]] = kept
    parts = []
    for rows in (history.base, history.items):
        signals = there[rows["signal"]]
        part = whole_instants(rows, signals >= 0)
        part["signal"] = signals[signals >= 0]
        parts.append(part)
    return History(history.t, *parts)


def whole_instants(items: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The rows of ``items`` (SAMPLE) where ``keep``, each instant still ended by its last one."""
    ends = (items["flags"] & FLAG_END != 0) | ((items["flags"] >> ITEM_SHIFT) & 0xFF != ITEM_SAMPLE)
    instant = (np.cumsum(ends) - ends)[keep]
    rows: np.ndarray = items[keep].copy()
    if len(rows):
        last = np.append(instant[1:] != instant[:-1], True)
        is_sample = (rows["flags"] >> ITEM_SHIFT) & 0xFF == ITEM_SAMPLE
        rows["flags"][last & is_sample] |= FLAG_END
    return rows


def _run(engine: Engine, known: History, now: int, counts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Run the plan over what is kept, from ``known.t`` to ``now``; nothing before counts but the values in force.

    ``counts``: samples of each signal before that (None: those of the base). Answers these, and how many came after.
    """
    memory = engine.memory
    engine.begin()
    engine.advance(known.base)
    engine.advance(until=known.t)
    engine.begin_checks()
    if counts is not None:
        memory.signals["count"] = counts
    start: np.ndarray = memory.signals["count"].copy()
    memory.states["listed"] = 1
    memory.checks_listed[:] = np.arange(len(memory.states))
    memory.head[0]["n_checks"] = len(memory.states)
    engine.advance(renewed(known.t))
    engine.advance(known.items)
    engine.advance(until=now)
    return start, memory.signals["count"] - start


def _fail_what_has_failed_throughout(engine: Engine, since: int) -> None:
    """What has been failing for as long as anything is known may have failed for longer: it is not given ``fail_for``."""
    states = engine.memory.states
    pending = (states["raw"] == Verdict.FAIL) & (states["fail_since"] == since)
    states["known"][pending] = states["verdict"][pending] = Verdict.FAIL
    states["cause"][pending] = Cause.NONE
    states["fail_since"][pending] = UNSEEN
    states["due"][pending] = NEVER
    states["latched"][pending & (engine.plan.checks["latch"] != 0)] = 1


def _continue_signals(old: Engine, new: Engine, kin: Kinship, now: int, retold: Collection[str]) -> None:
    """Signals that are the same go on with their values, under the new plan's ``max_age``; list what is to be told."""
    memory, before = new.memory, old.memory
    for d, row in enumerate(new.plan.derived):
        at = kin.signals[row["signal"]]
        if at < 0:
            continue
        e = int(np.flatnonzero(old.plan.derived["signal"] == at)[0])
        was = old.plan.derived[e]
        _copy(before.node_states, was["node_start"], memory.node_states, row["node_start"], row["node_len"])
        _copy(before.ring, old.plan.derived_rings[e][0], memory.ring, *new.plan.derived_rings[d])
        memory.wakes[d] = before.wakes[e]
    told = []
    for s, (at, spec) in enumerate(zip(kin.signals.tolist(), new.plan.signal_specs, strict=True)):
        signal = memory.signals[s]
        signal["listed"] = 0
        news = at < 0
        if at >= 0:
            memory.signals[s] = before.signals[at]
            was_spec = old.plan.signal_specs[at]
            if spec.max_age != was_spec.max_age:
                news = _age(signal, spec.max_age, now, derived=bool(spec.made_of))
            news = news or (old.plan.signals[at]["watch"] == 0 and new.plan.signals[s]["watch"] != 0)
        if at < 0 or spec.name in retold:
            signal["shown_cause"], signal["shown"] = Cause.NEVER_RECEIVED, np.nan
            news = True
        if news:
            signal["listed"] = 1
            told.append(s)
    memory.signals_listed[: len(told)] = told
    memory.head[0] = before.head[0]
    memory.head[0]["n_signals"] = len(told)


def _age(signal: np.void, max_age: int | None, now: int, *, derived: bool) -> bool:
    """Let a value count for another ``max_age``; True where that makes it stale. One that is stale is not revived."""
    if signal["count"] == 0 or signal["lost"] or signal["cause"] == Cause.STALE:
        return False
    if derived and signal["cause"] != Cause.NONE:
        return False
    signal["deadline"] = NEVER if max_age is None else int(signal["t"]) + max_age
    if signal["deadline"] >= now:
        return False
    signal["deadline"], signal["cause"] = NEVER, Cause.STALE
    return True


def _continue_checks(old: Engine, new: Engine, kin: Kinship, now: int) -> None:
    memory, before = new.memory, old.memory
    for i, (at, namesake) in enumerate(zip(kin.checks.tolist(), kin.namesakes.tolist(), strict=True)):
        state, row = memory.states[i], new.plan.checks[i]
        if at >= 0:
            was = old.plan.checks[at]
            memory.states[i] = before.states[at]
            _copy(before.node_states, was["node_start"], memory.node_states, row["node_start"], row["node_len"])
            _copy(before.ring, was["ring_start"], memory.ring, row["ring_start"], row["ring_len"])
            _copy(before.pool, was["pool_start"], memory.pool, row["pool_start"], row["pool_len"])
            continue
        same_name = before.states[namesake] if namesake >= 0 else np.zeros(1, before.states.dtype)[0]
        if namesake < 0:
            same_name["verdict"], same_name["t_changed"] = Verdict.UNKNOWN, now
        was_latched = same_name["latched"] != 0 and row["latch"] != 0
        if was_latched:
            state["verdict"], state["cause"] = Verdict.FAIL, Cause.NONE
        latches = state["latched"] != 0 and not was_latched
        state["latched"] = was_latched or latches
        state["listed"] = TOLD + same_name["verdict"] + (TELL_LATCH if latches else 0)
        _account(state, same_name, int(before.head[0]["first"]), now)


def _account(state: np.void, before: np.void, first: int, now: int) -> None:
    """What has been counted of a check of that name goes on."""
    for name in ("fails", "fail_ns", "unknown_ns", "t_changed"):
        state[name] = before[name]
    if state["verdict"] == before["verdict"]:
        return
    spent = now - (first if before["t_changed"] == UNSEEN else int(before["t_changed"]))
    if before["verdict"] != Verdict.PASS:
        state["fail_ns" if before["verdict"] == Verdict.FAIL else "unknown_ns"] += spent
    state["fails"] += state["verdict"] == Verdict.FAIL
    state["t_changed"] = now


def _find_next(new: Engine) -> None:
    """Find the first deadline of all."""
    memory = new.memory
    deadlines = (memory.signals["deadline"], memory.states["due"], memory.states["wake"], memory.wakes)
    memory.head[0]["next"] = min(int(one.min()) for one in deadlines if len(one))


def _copy(source: np.ndarray, at: int, target: np.ndarray, start: int, length: int) -> None:
    target[start : start + length] = source[at : at + length]
