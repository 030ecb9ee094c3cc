"""What a vehicle tells of its action gate: validated, a few events whatever comes, the same however the stream is cut."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import msgpack
import numpy as np
import pytest

from edge_monitor.action_reports import COMPLAINT_NS, OTHERS, QUIET_NS, READ, SUBJECTS, TOPIC, ActionReports
from edge_monitor.core.commands import ReportAction, from_payload
from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import MESSAGE
from edge_monitor.envelope import loads
from edge_monitor.errors import UsageError
from edge_monitor.events import Event
from edge_monitor.runtime import Monitor

MS, S = 1_000_000, 1_000_000_000
ENVELOPE = b"""
edge_monitor: 1
envelope: {id: live, version: 1, vehicle: bench}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 300 ms}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, severity: critical}
gates:
  drive: {require: all, criteria: [speed_limit], lease: 5 s}
"""
RECORD = {
    "subject": "velocity", "gate": "drive", "outcome": "limited", "rule": "speed", "requested": [6.0, 0.0, 8.0],
    "granted": [3.0, 0.0, 4.0], "unit": "m/s", "reason": "", "counts": {"speed": 1}, "since_ns": 5,
}  # fmt: skip


def reports() -> ActionReports:
    """Reports about the gate `drive`, on channel 7."""
    made = ActionReports(["drive"])
    made.add_channel(Channel(7, "/" + TOPIC, "action", "msgpack", "none", ""))
    return made


def packed(**changes: object) -> bytes:
    """A report with changes; None leaves a field out."""
    return msgpack.packb({key: value for key, value in {**RECORD, **changes}.items() if value is not None})


def test_a_report_is_a_command_with_all_that_it_says() -> None:
    """Numbers that are none are words, a time of the future is now, and the command survives its own payload."""
    report = reports().take(9, 7, packed(requested=[float("nan"), float("-inf"), 1], since_ns=50))
    assert isinstance(report, ReportAction)
    assert (report.requested, report.granted, report.unit) == ((None, "-inf", 1.0), (3.0, 0.0, 4.0), "m/s")
    assert (report.rules, report.counts, report.since, report.t) == (("speed",), (1,), 9, 9)
    assert from_payload(report.payload()) == report
    assert from_payload(msgpack.unpackb(msgpack.packb(report.payload()))) == report
    with pytest.raises(UsageError, match="one each"):
        from_payload({**report.payload(), "counts": []})


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"\xc1", "malformed"), (b"", "truncated"), (msgpack.packb([1]), "object"), (packed(gate="fly"), "no gate 'fly'"),
        (packed(gate=None), "gate"), (packed(subject=""), "length"), (packed(outcome="passed"), "limited or blocked"),
        (packed(rule="no rule"), "rule"), (packed(requested=[1.0] * 9), "at most 8"), (packed(requested=["many"]), "requested"),
        (packed(granted=[{}]), "granted"), (packed(counts={"speed": -1}), "counts"), (packed(counts={"a b": 1}), "rules"),
        (packed(counts={str(n): 1 for n in range(17)}), "counts"), (packed(since_ns=-1), "since_ns"),
        (packed(note="x" * 5000), "at most 4096 bytes"), (b"\x81\xa1x" + b"\x91" * 4000, "recurs"),
        (packed(since_ns=2**64 - 1), "since_ns"),
    ],
)  # fmt: skip
def test_what_is_no_report_is_a_damage_that_says_why(message: bytes, says: str) -> None:
    """Nothing that is sent raises; the damage names the topic and what is wrong."""
    found = reports().take(9, 7, message)
    assert isinstance(found, Damage) and (found.where, found.lost_messages) == (TOPIC, 1)
    assert says.lower() in found.what.lower()


def test_other_encodings_are_no_reports() -> None:
    """A channel of raw arrays on the topic is told as what it is."""
    made = ActionReports(["drive"])
    made.add_channel(Channel(1, TOPIC, "action", "f64le", "stamp", ""))
    found = made.take(9, 1, bytes(8))
    assert isinstance(found, Damage) and "MessagePack" in found.what
    made.add_channel(Channel(1, "/odom", "Odometry", "msgpack", "none", ""))
    assert list(made.channels) == []


def test_a_name_may_be_anything_and_is_one_line() -> None:
    """Control characters, the wrong direction and length of a requested name don't keep it out of the record."""
    report = reports().take(9, 7, packed(subject="drop\n\x00\u202e" + "ä" * 99))
    assert isinstance(report, ReportAction)
    assert report.subject.startswith("drop\ufffd\ufffd\ufffdä") and len(report.subject.encode()) <= 64


def test_garbage_is_one_damage_a_minute_with_its_count() -> None:
    """The first is told, the others with the next one, when its minute is over."""
    made = reports()
    assert isinstance(made.take(0, 7, b""), Damage)
    assert all(made.take(n * 20 * MS, 7, b"") is None for n in range(1, 51))
    assert made.due == COMPLAINT_NS
    assert made.flush(COMPLAINT_NS - 1) == []
    (told,) = made.flush(COMPLAINT_NS)
    assert isinstance(told, Damage) and told.lost_messages == 50 and told.t == COMPLAINT_NS and made.due is None


def test_a_flood_is_an_event_a_second_and_no_count_is_lost() -> None:
    """Of one subject a report at once, then one a second with the sums; beyond a number a second they are counted unread."""
    made, told = reports(), []
    for n in range(10 * 90):  # 90 a second
        t = n * S // 90
        if made.due is not None and made.due < t:
            told += made.flush(t)
        found = made.take(t, 7, packed(counts={"speed": 2, "no_go": 1}, since_ns=t))
        told += [found] if found else []
    told += made.finish(10 * S)
    times = [report.t for report in told]
    assert len(told) <= 11 and all(b - a >= QUIET_NS for a, b in pairwise(times[:-1]))
    assert sum(report.reports for report in told) == 900
    counts = Counter()
    for report in told:
        counts.update(dict(zip(report.rules, report.counts, strict=True)))
    assert counts == {"speed": 1800, "no_go": 900}
    found = [made.take(20 * S, 7, packed()) for _ in range(READ + 50)]
    assert isinstance(found[READ], Damage) and f"more than {READ}" in found[READ].what
    assert sum(one is not None for one in found) == 2


def test_many_names_are_told_together() -> None:
    """Beyond a number of subjects at one time the rest is one; once they are quiet there is room again."""
    made = reports()
    found = [made.take(n, 7, packed(subject=f"name{n}")) for n in range(SUBJECTS + 5)]
    subjects = [report.subject for report in found if isinstance(report, ReportAction)]
    assert subjects == [f"name{n}" for n in range(SUBJECTS)] + [OTHERS]
    (others,) = made.flush(10 * S)
    assert isinstance(others, ReportAction) and (others.subject, others.reports) == (OTHERS, 4)
    later = made.take(30 * S, 7, packed(subject="new"))
    assert isinstance(later, ReportAction) and later.subject == "new"


def test_a_clock_that_steps_back_holds_nothing_up() -> None:
    """A report of before the last one is told at once."""
    made = reports()
    assert made.take(100 * S, 7, packed()) is not None
    assert made.take(5 * S, 7, packed()) is not None


Message = tuple[int, int, bytes]


def batch(rows: list[Message]) -> Batch:
    """Messages (time, channel, bytes) as a batch."""
    made, data = np.zeros(len(rows), MESSAGE), b""
    for row, (t, channel, payload) in zip(made, rows, strict=True):
        row["t"], row["channel"], row["start"], row["size"] = t, channel, len(data), len(payload)
        data += payload
    return Batch(np.frombuffer(data, np.uint8), made)


def run(rows: list[Message], cuts: list[int], marks: bool) -> tuple[list[Event], str]:
    """Events of a run that is cut so, and the engine's digest; ``marks``: a time mark after each batch."""
    monitor = Monitor(loads(ENVELOPE))
    monitor.feed(Channel(0, "/odom", "Odometry", "msgpack", "none", ""))
    monitor.feed(Channel(1, TOPIC, "action", "msgpack", "none", ""))
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        if begin < end:
            found += monitor.feed(batch(rows[begin:end]))
            if marks:
                found += monitor.until(rows[end - 1][0])
    found += monitor.finish()
    return found, monitor.engine.digest()


def effect(event: Event) -> tuple[object, ...]:
    """All of an event but when it was decided, and the digest of a state that holds it."""
    payload = {key: value for key, value in event.payload.items() if key != "engine_digest"}
    return event.type, event.subject, event.t_effective, event.severity, event.rules, payload


def test_events_are_the_same_however_the_stream_is_cut() -> None:
    """Samples, reports, floods and garbage, message by message or all at once, with time marks between or without."""
    chance = random.Random(11)
    for trial in range(6):
        t, rows = S, list[Message]()
        for _ in range(200):
            t += chance.choice((0, 1, 3 * MS, 40 * MS, 400 * MS, QUIET_NS))
            if chance.random() < 0.5:
                rows.append((t, 0, msgpack.packb({"speed": chance.choice((5.0, 13.0))})))
            else:
                body = packed(subject=chance.choice("abc"), counts={"speed": chance.randrange(1, 5)})
                rows.append((t, 1, body if chance.random() < 0.9 else b"\xc1"))
        rows.append((t + S, 0, msgpack.packb({"speed": 1.0})))  # a report that is held back makes no time pass
        whole = run(rows, [], False)
        assert run(rows, list(range(1, len(rows))), False) == whole, trial
        assert run(rows, sorted(chance.sample(range(len(rows)), 20)), False) == whole, trial
        # A time mark may reveal something earlier than the next message does: when it is decided is another matter then.
        marked, _ = run(rows, sorted(chance.sample(range(len(rows)), 20)), True)
        assert [effect(event) for event in marked] == [effect(event) for event in whole[0]], trial
        blocked = [event for event in whole[0] if event.type == "action.blocked"]
        assert len(blocked) > 20 and any(event.payload["reports"] > 1 for event in blocked)
        assert all(event.t_decided >= event.t_effective for event in whole[0])
        assert [event.t_decided for event in whole[0]] == sorted(event.t_decided for event in whole[0])
