"""``traces``: the signals that an event's checks read, around it, out of a tape; thinned to what can be drawn.

Only what the journal signed is shown: the caller names digests of the tape's parts that stand in signed records, and no sample
behind the last one that holds comes out. Nothing here decides anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from ..core.check_spec import CheckSpec
from ..core.commands import ReloadEnvelope, from_payload
from ..core.decision_specs import Criterion
from ..core.samples import FLAG_CAUSE, ITEM_SAMPLE, ITEM_SHIFT, SAMPLE, Cause
from ..core.signals import Signal
from ..decider import made_under
from ..envelope import Envelope, loads
from ..errors import ConfigError, UsageError, VerificationError
from ..vocabulary import constants
from .format import Block, Kind, TapeError
from .reader import Tape
from .recorder import Words

MOST_SIGNALS = 8
MOST_STATES = 60  #: changes of a state that are told
MOST_NOTES = 8
LARGEST = 1e100  #: beyond it, either way, nothing is drawn: differences must stay numbers
SECOND = 1_000_000_000
#: Types whose subject is no check: what they speak of are the signals that say who commands.
COMMAND = ("authority.", "override.", "failsafe.", "handover.")


class Anchor(msgspec.Struct, frozen=True, array_like=True):
    """What a signed record says of a tape: the digest (hex) of the first ``size`` bytes of block ``block``."""

    block: int
    size: int
    digest: str


class Wanted(msgspec.Struct, frozen=True):
    """``names``: of checks, gates or signals; ``type``: of the event; ``at``, ``begin``, ``end``: ns of the stream's clock.

    ``points``: pieces into which a trace is cut, each of which keeps its lowest and its highest value.
    """

    type: str
    names: tuple[str, ...]
    at: int
    begin: int
    end: int
    anchors: tuple[Anchor, ...]
    points: int = 240


class Trace(msgspec.Struct):
    """One signal. ``points``: (s since the event, value), None where nothing counts from there on; ``states``: (s since the
    event, name) of a signal whose values have names. ``limits``: (what, value). ``samples``: before it was thinned."""

    name: str
    unit: str
    limits: list[tuple[str, float]]
    samples: int
    lost: int  #: samples that do not count: not a number, invalid, or beyond :data:`LARGEST`
    low: float | None = None
    high: float | None = None
    at: float | None = None  #: the last value before the event, or of its moment
    points: list[tuple[float, float | None]] = []
    states: list[tuple[float, str]] = []


class Check(msgspec.Struct):
    """A check in words: what it asks of which signals."""

    name: str
    words: str


class Traces(msgspec.Struct):
    """What came out. ``failure``: why nothing did, for people; ``covered``: s since the event up to which it is proven."""

    failure: str = ""
    covered: float = 0.0
    checks: list[Check] = []
    signals: list[Trace] = []
    notes: list[str] = []


def traces(tape: Tape, envelopes: Sequence[bytes], wanted: Wanted) -> Traces:
    """The signals around an event. ``envelopes``: files among which the one is that was in force.

    Raises ``VerificationError`` where the tape is not the one that was signed, or nothing in it can be named.
    """
    end = _proven(tape, wanted.anchors)
    found = Traces(notes=[f"the black box {words}" for words in tape.damages[:MOST_NOTES]])
    envelope = _envelope(tape, envelopes, wanted)
    names, checks = _meant(envelope, wanted)
    found.checks = [Check(check.name, in_words(check, envelope)) for check in checks]
    if len(names) > MOST_SIGNALS:
        found.notes.append(f"signals that are not drawn, for want of room: {', '.join(names[MOST_SIGNALS:])}"[:300])
    number = {signal.name: place for place, signal in enumerate(envelope.signals)}
    chosen = {name: number[name] for name in names[:MOST_SIGNALS]}
    taken = _taken(tape, envelope, end, wanted, chosen, found)
    found.signals += [_trace(envelope.signals[place], taken, place, checks, wanted) for place in chosen.values()]
    return found


@dataclass(slots=True)
class _Taken:
    """Samples of a window, what the numbers of texts stand for, and when the last entry was that is proven, ns."""

    rows: np.ndarray
    words: Words
    last: int


def _proven(tape: Tape, anchors: Sequence[Anchor]) -> tuple[int, int]:
    """Block and byte up to which signed digests hold. Raises ``VerificationError``."""
    blocks = {block.sequence: block for block in tape.blocks}
    held = (-1, -1)
    for anchor in anchors:
        block = blocks.get(anchor.block)
        if block is None or anchor.size > len(block.raw):
            continue
        if block.digest(anchor.size).hex() != anchor.digest:
            raise VerificationError(
                f"it is not the black box that the robot signed: block {anchor.block} differs from the signed digest"
            )
        held = max(held, (anchor.block, anchor.size))
    if held[0] < 0:
        raise VerificationError("no signed digest covers any part of it, so that nothing in it is proven")
    return held


def _envelope(tape: Tape, files: Sequence[bytes], wanted: Wanted) -> Envelope:
    """The envelope that was in force at the event."""
    digest, risk = _in_force(tape, wanted.at)
    for data in files:
        try:
            envelope = loads(data, risk=risk, references=False)
        except (ConfigError, UsageError):
            continue
        if envelope.digest == digest:
            return envelope
    raise VerificationError(
        f"envelope {digest[:16]}…, which says what the numbers in it are, was not delivered: the signals have no names here"
    )


def _in_force(tape: Tape, at: int) -> tuple[str, str]:
    """Digest and risk profile of the envelope under which the last block before ``at`` begins."""
    found: tuple[str, str] | None = None
    for block in tape.blocks:
        first = next(block.entries(), None)
        begun, under = _begins(block)
        if first is None or under is None or (found is not None and begun > at):
            break
        found = under
    if found is None:
        raise VerificationError("it does not begin with a state: it was made by another version of edge-monitor")
    return found


def _begins(block: Block) -> tuple[int, tuple[str, str] | None]:
    """When a block's first item was, ns, and the envelope that was in force then; None where it does not say."""
    under = None
    for entry in block.entries():
        if entry.kind == Kind.SNAPSHOT:
            try:
                under = made_under(msgspec.msgpack.decode(entry.payload)[1])
            except (ValueError, TypeError, LookupError, msgspec.MsgspecError):
                return 0, None
        elif entry.kind in (Kind.ITEMS, Kind.START, Kind.UNTIL) and len(entry.payload) >= 8:
            return int.from_bytes(entry.payload[:8], "little", signed=True), under
    return 0, under


def _meant(envelope: Envelope, wanted: Wanted) -> tuple[list[str], list[CheckSpec]]:
    """The measured signals that an event is about, and its checks. Raises ``VerificationError`` where there are none."""
    checks = {check.name: check for check in envelope.checks}
    gates = {gate.name: gate for gate in envelope.gates}
    signals = {signal.name: signal for signal in envelope.signals}
    meant: dict[str, CheckSpec] = {}
    names: dict[str, None] = {}
    for name in wanted.names:
        if name in checks:
            meant[name] = checks[name]
        elif name in signals:
            names[name] = None
    if not meant:
        for name in wanted.names:
            if name in gates:
                meant |= {one: checks[one] for one in _criteria(gates[name].expression) if one in checks}
    spec = envelope.authority
    if wanted.type.startswith(COMMAND) and spec is not None:
        names |= {one: None for one in (spec.mode, spec.intention, spec.failsafe, spec.active) if one in signals}
    for check in meant.values():
        names |= dict.fromkeys(check.signals)
    measured = dict.fromkeys(one for name in names for one in _measured(name, signals))
    if not measured:
        raise VerificationError("the record names no check, gate or signal of the envelope: no signal belongs to it")
    return list(measured), list(meant.values())


def _criteria(node: Criterion) -> Iterator[str]:
    if node.check:
        yield node.check
    for child in node.children:
        yield from _criteria(child)


def _measured(name: str, signals: dict[str, Signal], depth: int = 16) -> Iterator[str]:
    """A signal, or those that it is made of."""
    signal = signals.get(name)
    if signal is None or depth == 0:
        return
    if not signal.made_of:
        yield name
    for one in signal.made_of:
        yield from _measured(one, signals, depth - 1)


def _taken(
    tape: Tape, envelope: Envelope, end: tuple[int, int], wanted: Wanted, chosen: dict[str, int], found: Traces
) -> _Taken:
    """The samples of the chosen signals in the window, up to what is proven."""
    taken = _Taken(np.empty(0, SAMPLE), Words(constants(envelope)), 0)
    numbers = np.array(sorted(chosen.values()), np.int32)
    parts: list[np.ndarray] = []
    for block in tape.blocks:
        if block.sequence > end[0]:
            break
        known = False
        for entry in block.entries():
            if block.sequence == end[0] and entry.end > end[1]:
                break
            payload = entry.payload
            try:
                if entry.kind == Kind.SNAPSHOT:
                    words, state = msgspec.msgpack.decode(payload)
                    known = made_under(state) == (envelope.digest, envelope.risk)
                    taken.words = Words(constants(envelope))
                    if known:
                        taken.words.learn(*words)
                elif entry.kind == Kind.WORDS and known:
                    taken.words.learn(*msgspec.msgpack.decode(payload))
                elif entry.kind == Kind.COMMAND and isinstance(
                    from_payload(msgspec.msgpack.decode(payload)), ReloadEnvelope
                ):
                    known = False
                    if wanted.begin <= taken.last <= wanted.end and len(found.notes) < MOST_NOTES:
                        at = (taken.last - wanted.at) / SECOND
                        found.notes.append(f"another envelope was offered at {at:+.3f} s: nothing is drawn from there")
                elif entry.kind == Kind.ITEMS:
                    rows = np.frombuffer(payload, SAMPLE)
                    if len(rows):
                        taken.last = int(rows["t"][-1])
                    if known:
                        parts.append(_within(rows, numbers, wanted))
                elif entry.kind in (Kind.START, Kind.UNTIL):
                    taken.last = int.from_bytes(payload[:8], "little", signed=True)
            except (ValueError, TypeError, IndexError, UsageError, msgspec.MsgspecError) as error:
                raise TapeError(f"it holds what was never recorded: {error}") from None
    found.covered = (taken.last - wanted.at) / SECOND
    begun = _begins(tape.blocks[0])[0]
    if begun > wanted.begin:
        found.notes.append(f"the black box begins at {(begun - wanted.at) / SECOND:+.3f} s")
    if taken.last < wanted.end:
        found.notes.append(f"the black box ends at {found.covered:+.3f} s")
    taken.rows = np.concatenate(parts) if parts else taken.rows
    return taken


def _within(rows: np.ndarray, numbers: np.ndarray, wanted: Wanted) -> np.ndarray:
    kept = (rows["t"] >= wanted.begin) & (rows["t"] <= wanted.end) & np.isin(rows["signal"], numbers)
    found: np.ndarray = rows[kept & ((rows["flags"] >> ITEM_SHIFT & 0xFF) == ITEM_SAMPLE)]
    return found


def _trace(signal: Signal, taken: _Taken, number: int, checks: list[CheckSpec], wanted: Wanted) -> Trace:
    rows = taken.rows[taken.rows["signal"] == number]
    rows = rows[np.argsort(rows["t"], kind="stable")]
    t, v = rows["t"].astype(np.int64), rows["value"].astype(np.float64)
    v[((rows["flags"] & FLAG_CAUSE) != Cause.NONE) | ~(np.abs(v) <= LARGEST)] = math.nan
    whole = np.isfinite(v)
    trace = Trace(signal.name, signal.unit, _limits(signal.name, checks), len(v), int((~whole).sum()))
    if whole.any():
        trace.low, trace.high = float(v[whole].min()), float(v[whole].max())
        before = np.flatnonzero(whole & (t <= wanted.at))
        trace.at = float(v[before[-1]]) if len(before) else None
    named = {value: name for name, value in signal.values}
    if named or taken.words.is_text(signal.name):
        trace.states = _states(t, v, named, taken.words, wanted.at)
        trace.low = trace.high = trace.at = None
        return trace
    t, v = _broken(t, v, signal.max_age, wanted)
    kept = _thinned(t, v, wanted)
    trace.points = [
        (round((int(t[i]) - wanted.at) / SECOND, 6), float(v[i]) if math.isfinite(v[i]) else None) for i in kept
    ]
    return trace


def _broken(t: np.ndarray, v: np.ndarray, max_age: int | None, wanted: Wanted) -> tuple[np.ndarray, np.ndarray]:
    """A value that counts no more breaks the line: where no sample came for longer than ``max_age`` after one."""
    if max_age is None or not len(t):
        return t, v
    following = np.append(t[1:], wanted.end)
    late = np.flatnonzero(following - t > max_age)
    return np.insert(t, late + 1, t[late] + max_age), np.insert(v, late + 1, math.nan)


def _thinned(t: np.ndarray, v: np.ndarray, wanted: Wanted) -> list[int]:
    """Places of the lowest and the highest value of each piece of the window, and of one break in it."""
    if len(t) <= 2 * wanted.points:
        return list(range(len(t)))
    edges = np.linspace(wanted.begin, wanted.end, wanted.points + 1)[1:-1]
    kept: set[int] = set()
    for part in np.split(np.arange(len(t)), np.searchsorted(t, edges)):
        if not len(part):
            continue
        whole = part[np.isfinite(v[part])]
        if len(whole):
            kept |= {int(whole[np.argmin(v[whole])]), int(whole[np.argmax(v[whole])])}
        if len(whole) < len(part):
            kept.add(int(part[~np.isfinite(v[part])][0]))
    return sorted(kept)


def _states(t: np.ndarray, v: np.ndarray, named: dict[float, str], words: Words, at: int) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    for time, value in zip(t.tolist(), v.tolist(), strict=True):
        if not math.isfinite(value):
            name = "(does not count)"
        elif named:
            name = named.get(value, f"{value:g}")
        else:
            name = words.texts.text(int(value)) if 0 <= value < len(words.texts) else f"{value:g}"
        if not found or found[-1][1] != name:
            found.append((round((time - at) / SECOND, 6), name[:80]))
            if len(found) > MOST_STATES:
                break
    return found


def _limits(signal: str, checks: list[CheckSpec]) -> list[tuple[str, float]]:
    """Limits that a line across the signal can show."""
    found: list[tuple[str, float]] = []
    for check in checks:
        if check.kind in ("bounds", "latency") and check.signals == (signal,):
            found += _finite(check, ("max", "leave_max", "min", "leave_min"))
        elif check.kind == "geofence" and signal == check.signals[-1] and len(check.signals) > 2:
            found += _finite(check, ("max_altitude", "min_altitude"))
        elif check.kind == "valid" and check.signals[1:] == (signal,):
            found += _finite(check, ("covariance_max",))
    return found


def _finite(check: CheckSpec, names: Sequence[str]) -> list[tuple[str, float]]:
    given: dict[float, str] = {}
    for name in names:
        value = check.params.get(name, math.inf)
        if math.isfinite(value):  # without hysteresis the way back is the limit itself
            given.setdefault(value, name.replace("_", " "))
    return [(f"{check.name}: {name}", value) for value, name in given.items()]


def in_words(check: CheckSpec, envelope: Envelope) -> str:
    """What a check asks, on one line."""
    unit = f" {check.unit}" if check.unit else ""
    params = {name: value for name, value in check.params.items() if math.isfinite(value)}
    about = " and ".join(check.signals[:MOST_SIGNALS])
    if check.kind == "formula":
        said = str(getattr(envelope.models.get(check.name), "formula", ""))[:500]
    elif check.kind in ("bounds", "rate", "latency", "agreement"):
        shown = [
            f"{name.replace('_', ' ')} {value:g}{unit}" for name, value in params.items() if name != "wrap" or value
        ]
        what = {"rate": "change of ", "agreement": "difference of "}.get(check.kind, "")
        said = f"{what}{about}: {', '.join(shown)}"
    elif check.kind in ("stale", "frequency", "jitter"):
        times = ("max", "window", "period") if check.kind != "frequency" else ("window",)
        shown = [
            f"{name} {value / SECOND:g} s" if name in times else f"{name} {value:g} Hz"
            for name, value in params.items()
        ]
        said = f"messages of {about}: {', '.join(shown)}"
    elif check.kind in ("one_of", "equals"):
        named = {value: name for one in envelope.signals if one.name in check.signals for name, value in one.values}
        said = f"{about}: {', '.join([*check.texts, *(named.get(value, f'{value:g}') for value in check.table)])}"
    elif check.kind == "geofence":
        way = "outside" if params.get("keep_out") else "inside"
        said = f"{way} a polygon of {len(check.table) // 2} corners"
        bands = (name for name in ("min_altitude", "max_altitude") if name in params)
        said += "".join(f", {name.replace('_', ' ')} {params[name]:g} m" for name in bands)
    else:
        said = f"{about}: {check.kind}"
    return f"{said}, for {check.fail_for / SECOND:g} s" if check.fail_for else said


__all__ = ["Anchor", "Check", "Trace", "Traces", "Wanted", "in_words", "traces"]
