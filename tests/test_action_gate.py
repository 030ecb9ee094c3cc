"""The action gate: what is out of scope is limited or blocked, stopping always passes, a flood of refusals is a few records."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import msgpack
import pytest
from c_programs import STRICT, answers, compiled, compiler, sanitizers
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor import events
from edge_monitor.action_gate import QUIET_NS, ActionGate, Outcome, Range, Rule, shortened
from edge_monitor.action_reports import TOPIC, ActionReports
from edge_monitor.consumer import Answer, Reason
from edge_monitor.core.messages import Channel
from edge_monitor.errors import UsageError
from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.verify import verify

GO, LATE = Answer(True, Reason.GO), Answer(False, Reason.HEARTBEAT_LATE)
MS = 1_000_000
INF, NAN = math.inf, math.nan
STOP = (0.0, 0.0, 0.0)


def gate(**changes) -> ActionGate:
    """A gate with everything in it; tests/action_gate.c has the same one."""
    arguments = {
        "max_speed": 5.0,
        "commands": {"climb": Range(-1.0, 2.5, unit="m/s"), "tilt": Range(0.0, 0.25, block=True)},
        "budgets": {"drop": 3, "never": 0},
        "stops": ["land"],
        "used": {"drop": 1},
    }
    return ActionGate("continue", **{**arguments, **changes})


def test_what_is_in_scope_passes_as_it_is():
    """A velocity, a command and an action within their limits are granted unchanged, without a record."""
    scope = gate()
    told = [
        scope.velocity((3.0, 0.0, -4.0), GO, 0), scope.command("climb", 2.5, GO, 0), scope.command("climb", -1.0, GO, 0),
        scope.command("tilt", 0.25, GO, 0), scope.action("drop", GO, 0), scope.action("land", GO, 0),
    ]  # fmt: skip
    assert {(v.outcome, v.rule, v.record) for v in told} == {(Outcome.PASSED, Rule.NONE, None)}
    assert [v.granted for v in told] == [(3.0, 0.0, -4.0), (2.5,), (-1.0,), (0.25,), (), ()]


def test_what_is_too_much_is_limited():
    """A velocity that is too fast keeps its direction, a command goes to the nearer end, and the record has both numbers."""
    scope = gate()
    fast = scope.velocity((30.0, 0.0, -40.0), GO, 7)
    assert (fast.outcome, fast.rule) == (Outcome.LIMITED, Rule.SPEED)
    assert fast.granted == pytest.approx((3.0, 0.0, -4.0))
    assert fast.record == {
        "subject": "velocity", "gate": "continue", "outcome": "limited", "rule": "speed", "requested": [30.0, 0.0, -40.0],
        "granted": list(fast.granted), "unit": "m/s", "reason": "", "counts": {"speed": 1}, "since_ns": 7,
    }  # fmt: skip
    assert scope.command("climb", 2.5000001, GO, 0).granted == (2.5,)
    assert scope.command("climb", -9.0, GO, 0).granted == (-1.0,)


def test_what_may_not_be_limited_is_blocked():
    """Outside a range that blocks, nothing is granted; nor is a command or action that nobody declared."""
    scope = gate()
    tilt = scope.command("tilt", 0.3, GO, 0)
    assert (tilt.outcome, tilt.rule, tilt.granted) == (Outcome.BLOCKED, Rule.RANGE, ())
    for told in (scope.command("drop", 1, GO, 0), scope.action("climb", GO, 0), scope.action("x" * 999, GO, 0)):
        assert (told.outcome, told.rule, told.granted) == (Outcome.BLOCKED, Rule.SCOPE, ())
    none = ActionGate("continue").velocity((0.1, 0, 0), GO, 0)
    assert (none.outcome, none.rule, none.granted) == (Outcome.BLOCKED, Rule.SCOPE, STOP)


@pytest.mark.parametrize("answer", [GO, LATE])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_numbers_that_are_none_are_blocked(bad, answer):
    """NaN and infinity are blocked in every component, and the record holds no NaN."""
    for i in range(3):
        request = [1.0, 1.0, 1.0]
        request[i] = bad
        told = gate().velocity(request, answer, 0)
        assert (told.outcome, told.rule, told.granted) == (Outcome.BLOCKED, Rule.NOT_FINITE, STOP)
        json.dumps(told.record, allow_nan=False)
    told = gate().command("climb", bad, answer, 0)
    assert (told.outcome, told.rule, told.granted) == (Outcome.BLOCKED, Rule.NOT_FINITE, ())
    json.dumps(told.record, allow_nan=False)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason != Reason.GO])
def test_without_go_only_stopping_passes(reason):
    """Whatever the reason of a NO_GO, all is blocked but a velocity of zero and the actions that stop."""
    scope, answer = gate(), Answer(False, reason)
    blocked = [
        scope.velocity((0.1, 0.0, 0.0), answer, 0), scope.command("climb", 0.0, answer, 0), scope.action("drop", answer, 0)
    ]  # fmt: skip
    assert {(v.outcome, v.rule) for v in blocked} == {(Outcome.BLOCKED, Rule.NO_GO)}
    assert [v.granted for v in blocked] == [STOP, (), ()]
    assert [v.record["reason"] for v in blocked] == [reason.name.lower()] * 3
    assert scope.used == {"drop": 1, "never": 0}
    assert (
        scope.velocity((0.0, -0.0, 0.0), answer, 0).outcome == scope.action("land", answer, 0).outcome == Outcome.PASSED
    )


def test_budgets_are_of_a_mission():
    """A granted action counts, a blocked one does not; the budget holds over a restart that gives `used`, and begins anew."""
    scope = gate()
    told = [scope.action("drop", answer, 0).rule for answer in (GO, LATE, GO, GO, GO)]
    assert told == [Rule.NONE, Rule.NO_GO, Rule.NONE, Rule.BUDGET, Rule.BUDGET]
    assert gate(used=scope.used).action("drop", GO, 0).rule == Rule.BUDGET
    scope.new_mission()
    assert [scope.action("drop", GO, 0).outcome for _ in range(4)] == [Outcome.PASSED] * 3 + [Outcome.BLOCKED]
    assert scope.action("never", GO, 0).rule == Rule.BUDGET


def test_a_flood_is_a_few_records():
    """A minute of 1 kHz of blocked commands is one record at its begin and one at its end, which has the number of all others."""
    scope = gate()
    told = [scope.velocity((9, 9, 9), LATE, i * MS).record for i in range(60_000)]
    assert [record is not None for record in told] == [True] + [False] * 59_999
    end = scope.velocity((1, 1, 1), GO, 60_000 * MS)
    assert (end.outcome, end.record["rule"], end.record["counts"]) == (Outcome.PASSED, "no_go", {"no_go": 59_999})
    assert end.record["since_ns"] == MS
    assert scope.velocity((1, 1, 1), GO, 90_000 * MS).record is None


def test_a_record_is_due_a_second_after_the_one_before():
    """A change of rule one nanosecond earlier is counted, not told; at the second it is told, from time 0 on."""
    scope = gate()
    assert scope.velocity((9, 9, 9), GO, 0).record["counts"] == {"speed": 1}
    assert scope.velocity((9, 9, 9), LATE, 1).record is None
    assert scope.velocity((9, 9, 9), LATE, QUIET_NS - 1).record is None
    told = scope.velocity((9, 9, 9), LATE, QUIET_NS).record
    assert (told["counts"], told["since_ns"]) == ({"no_go": 3}, 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 300 * MS, QUIET_NS])), max_size=60))
def test_no_refusal_is_lost_and_none_floods(requests):
    """However rules alternate: a second has one record of a subject at most, and all records together count every refusal."""
    scope, now, records, refused = gate(), 0, [], Counter()
    for kind, step in requests:
        now += step
        value, answer = ((1.0, GO), (9.0, GO), (1.0, LATE), (NAN, GO))[kind]
        told = scope.command("climb", value, answer, now)
        if told.rule:
            refused[told.rule.name.lower()] += 1
        if told.record:
            records.append((now, told.record))
    times = [at for at, _ in records]
    assert all(later - earlier >= QUIET_NS for earlier, later in pairwise(times))
    counted = Counter()
    for record in [record for _, record in records] + scope.flush(now):
        counted.update(record["counts"])
    assert counted == refused
    assert scope.flush(now) == []


floats = st.floats(allow_nan=False, allow_infinity=False)


@given(floats, floats, floats, st.floats(0, 1e6))
def test_a_granted_velocity_is_never_too_fast(x, y, z, most):
    """For any finite velocity, the one granted is no longer than the limit, by exact arithmetic, and points the same way."""
    told = gate(max_speed=most).velocity((x, y, z), GO, 0)
    length = sum(Fraction(part) ** 2 for part in told.granted)
    rounding = 1 + Fraction(1, 10**15)
    assert length <= Fraction(most) ** 2 * (rounding if told.outcome == Outcome.PASSED else 1)
    for requested, granted in zip((x, y, z), told.granted, strict=True):
        assert requested * granted >= 0 and abs(granted) <= abs(requested)
    if told.outcome == Outcome.LIMITED and most > 1e-200:
        assert length >= (Fraction(most) * (1 - 3 * Fraction(1, 10**15))) ** 2


def test_shortening_needs_no_range():
    """The smallest and the greatest vectors neither overflow nor vanish."""
    assert shortened(1.7e308, -1.7e308, 1.7e308, 3.0) == pytest.approx((math.sqrt(3), -math.sqrt(3), math.sqrt(3)))
    assert shortened(5e-324, 0.0, 0.0, 1.0) is None
    assert shortened(0.0, 2.0, 0.0, 0.0) == STOP


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"max_speed": -1}, "max_speed"),
        ({"max_speed": NAN}, "max_speed"),
        ({"max_speed": INF}, "max_speed"),
        ({"commands": {"climb": Range(1, 0)}}, "climb"),
        ({"commands": {"climb": Range(NAN, 1)}}, "climb"),
        ({"commands": {"climb": Range(0, INF)}}, "climb"),
        ({"commands": {"climb": Range(-INF, 0)}}, "climb"),
        ({"commands": {"": Range(0, 1)}}, "0 bytes"),
        ({"commands": {"climb": Range(0, 1, unit="seventeen letters")}}, "no unit"),
        ({"commands": {"climb": Range(0, 1, unit="m\n")}}, "no unit"),
        ({"budgets": {"drop": -1}}, "drop"),
        ({"budgets": {"drop": 1 << 32}}, "drop"),
        ({"budgets": {"drop": 1}, "used": {"drop": 1 << 32}}, "drop"),
        ({"budgets": {"drop": 1}, "stops": ["drop"]}, "each in one"),
        ({"stops": [f"stop{i}" for i in range(17)]}, "16 names"),
        ({"used": {"lift": 1}}, "lift"),
        ({"budgets": {"drop": 1}, "used": {"drop": -1}}, "drop"),
    ],
)
def test_a_scope_that_is_none_is_a_usage_error(arguments, says):
    """Limits that make no sense are refused with their name."""
    with pytest.raises(UsageError, match=says):
        ActionGate("continue", **arguments)


def test_a_scope_at_its_ends_is_taken():
    """Sixteen names, a range of one value, a speed of zero and the greatest budget are in order."""
    stops = [f"stop{i}" for i in range(14)]
    most = (1 << 32) - 1
    scope = ActionGate(
        "continue",
        max_speed=0,
        commands={"flaps": Range(2, 2)},
        budgets={"drop": most},
        stops=stops,
        used={"drop": most},
    )
    assert scope.command("flaps", 3, GO, 0).granted == scope.command("flaps", 2, GO, 0).granted == (2,)
    assert scope.action("drop", GO, 0).rule == Rule.BUDGET
    assert scope.velocity((1, 0, 0), GO, 0).granted == STOP


def as_numbers(words):
    """Words of a line, hexadecimal floats as numbers: 0 and -0 are equal."""
    return [float.fromhex(word) if word[:3] in ("0x0", "0x1", "-0x") else word for word in words]


def test_what_was_held_back_is_journaled(tmp_path):
    """A record becomes an `action.blocked` event that the journal takes as it is, NaN requests included."""
    key = SigningKey("robot", bytes(range(32)))
    scope = gate()
    told = (
        scope.velocity((NAN, INF, 1), GO, 5),
        scope.velocity((9, 9, 9), GO, 2 * QUIET_NS),
        scope.action("never", GO, 6),
    )
    records = [verdict.record for verdict in told]
    with Journal.create_or_open(tmp_path / "j.db", key) as journal:
        reports = ActionReports(["continue"])
        reports.add_channel(Channel(3, TOPIC, "action", "msgpack", "none", ""))
        for number, record in enumerate(records):
            event = events.from_blocked(reports.take(9 + number * QUIET_NS, 3, msgpack.packb(record)))
            assert (event.type, event.rules, event.payload["rule"]) == ("action.blocked", ("continue",), record["rule"])
            journal.append(Entry(event.type, Severity.MARGINAL, event.t_effective, event.t_decided, event.payload))
    report = verify(tmp_path / "j.db", [key.verifier])
    assert report.ok, report.findings


def test_c_holds_back_the_same(tmp_path):
    """20,000 random requests get the same outcome, rule and granted bits from consumer/edge_action.h, and edge_report.h
    makes the very bytes of the records."""
    program = compiled(Path(__file__).parent / "action_gate.c", tmp_path / "gate", *STRICT, *sanitizers(tmp_path))
    chance = random.Random(6)
    scope, now, lines, expected, seen = gate(), 0, [], [], Counter()

    def print_as_c(what, outcome, rule, granted, record):
        words = [what, str(int(outcome)), str(int(rule)), *(value.hex() for value in (*granted, 0.0, 0.0, 0.0)[:3])]
        if record:
            words.append(msgpack.packb(record).hex())
        expected.append(as_numbers(words))
        seen[rule] += 1

    for _ in range(20_000):
        now = max(0, now + chance.choice((0, MS, 20 * MS, 400 * MS, -MS)))
        reason = Reason.GO if chance.random() < 0.8 else chance.choice(list(Reason))
        answer = Answer(reason == Reason.GO, reason)
        values = [
            chance.choice((0.0, -0.0, 1.0, chance.gauss(0, 3), chance.uniform(-1e9, 1e9), 1e308, 5e-324))
            for _ in range(3)
        ]
        if chance.random() < 0.05:
            values[chance.randrange(3)] = chance.choice((NAN, INF, -INF))
        name = chance.choice(("climb", "tilt", "drop", "never", "land", "other", "y" * 40))
        what = chance.choice("vvvccccaaa") if chance.random() < 0.97 else chance.choice("fn")
        lines.append(" ".join([what, name, *(value.hex() for value in values), str(int(reason)), str(now)]))
        if what == "v":
            told = scope.velocity(values, answer, now)
        elif what == "c":
            told = scope.command(name, values[0], answer, now)
        elif what == "a":
            told = scope.action(name, answer, now)
        else:
            if what == "n":
                scope.new_mission()
            for record in scope.flush(now):
                print_as_c("flushed", Outcome.PASSED, Rule.NONE, (), record)
            continue
        print_as_c("told", told.outcome, told.rule, told.granted, told.record)
    told = [as_numbers(line.split()) for line in answers(program, "\n".join(lines).encode())]
    assert told == expected
    assert set(seen) == set(Rule) and min(seen.values()) > 100, seen


def test_the_gate_is_cplusplus_too(tmp_path):
    """A C++ compiler takes edge_action.h without a warning."""
    compiled(
        Path(__file__).parent / "action_gate.c", tmp_path / "gate", "-x", "c++", "-std=c++11", *STRICT[1:],
        command=compiler("g++", "clang++", "c++"),
    )  # fmt: skip
