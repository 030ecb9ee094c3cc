"""Another envelope in the middle of a stream: what is GO, what is refused, and what goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reload_world import (
    ARMED,
    AUTHORITY,
    BASE,
    BASE_CHECKS,
    BATTERY,
    MODE,
    MS,
    SIGNALS,
    SPEED,
    TEXTS,
    S,
    World,
    file,
    tighter,
    types,
)

from edge_monitor import envelope as envelopes
from edge_monitor.core.commands import (
    AcceptHandover,
    ReloadEnvelope,
    RequestHandover,
    ResetLatch,
    Waive,
)
from edge_monitor.envelope import Envelope


def test_a_tighter_limit_in_motion_is_in_force_at_once() -> None:
    """What keeps to the new limit stays GO without a break; what does not is NO_GO at the very instant."""
    for speed, go in ((5.0, True), (11.5, False)):
        world = World(BASE)
        world.drive(2, speed=speed, battery=0.9, mode=1, armed=1)
        assert world.go == {"drive": True}
        found, refused = world.reload(tighter(10))
        assert refused == "" and world.go == {"drive": go}
        activated = found[0]
        assert activated.type == "envelope.activated" and activated.t_effective == world.now
        assert activated.payload["previous"]["envelope_digest"] == BASE.digest
        assert activated.payload["envelope_digest"] == tighter(10).digest == world.decider.envelope.digest
        assert activated.payload["changes"] == {"checks": {"changed": ["speed_limit"]}, "signals": {}, "gates": {}}
        assert types(found[1:]) == ([] if go else ["check.fail", "gate.no_go"])
        assert not go or types([e for e in world.say({SPEED: 9.9}) if e.type.startswith("gate.")]) == []


def test_a_looser_limit_in_motion_is_refused_and_nothing_changes() -> None:
    """The old envelope stays in force, bit for bit; the event names each thing that is looser; on the ground it is taken."""
    world = World(BASE)
    world.drive(2, speed=5.0, battery=0.9, mode=1, armed=1)
    before, told = world.decider.snapshot(), world.decider.told
    found, refused = world.reload(tighter(14))
    assert "max 12 → 14" in refused and "not known to be inactive" in refused
    assert (
        types(found) == ["envelope.rejected"] and [r["code"] for r in found[0].payload["reasons"]] == ["loosening"] * 2
    )
    assert found[0].payload["by"]["person"] == "ada" and found[0].payload["envelope_version"] == 2
    world.decider.told = told
    assert world.decider.snapshot() == before
    world.drive(1, speed=0.0, battery=0.9, mode=0, armed=0)
    found, refused = world.reload(tighter(14))
    assert refused == "" and found[0].payload["loosened"]


def test_the_same_envelope_changes_nothing() -> None:
    """A reload of what is in force leaves every bit of the state, and what follows, as it was."""
    one, other = World(BASE), World(BASE)
    for world in (one, other):
        world.drive(2, speed=11.5, battery=0.9, mode=1, armed=1)
        world.drive(0.3, speed=13.0)
    found, refused = one.reload(BASE)
    assert (types(found), refused) == (["envelope.activated"], "")
    one.decider.told = other.decider.told
    assert one.decider.snapshot() == other.decider.snapshot()
    assert one.decider.engine.digest() == other.decider.engine.digest()


def test_a_loosened_gate_is_go_after_the_switch_not_at_it() -> None:
    """On the ground a limit that is raised makes no GO by the switch itself; `go_after` counts from there."""
    for dwell, first in ((0, 1), (2, 2 * S)):
        world = World(BASE)
        world.drive(1, speed=13.0, battery=0.9, mode=0, armed=0)
        assert world.go == {"drive": False}
        looser = file(
            """speed_limit: {kind: bounds, signal: speed, max: 20, severity: critical}
            battery_ok: {kind: bounds, signal: battery, min: 0.3}""",
            f"drive: {{require: all, criteria: [speed_limit, battery_ok], lease: 1 s, go_after: {dwell} s}}", version=2,
        )  # fmt: skip
        found, refused = world.reload(looser)
        assert refused == "" and "gate.go" not in types(found) and world.go == {"drive": False}
        switched = world.now
        world.drive(3, speed=13.0, battery=0.9)
        (go,) = [event for event in world.told if event.type == "gate.go"]
        assert go.t_effective == switched + first


def test_a_gate_that_a_longer_go_after_ends_says_why() -> None:
    """A GO that the new `go_after` does not yet allow ends at the switch, with a cause though no criterion fails."""
    world = World(BASE)
    world.drive(1, speed=5.0, battery=0.9, mode=0, armed=0)
    assert world.go == {"drive": True}
    found, refused = world.reload(
        file(
            BASE_CHECKS,
            "drive: {require: all, criteria: [speed_limit, battery_ok], lease: 1 s, go_after: 5 s}", version=2,
        )
    )  # fmt: skip
    (ended,) = [event for event in found if event.type == "gate.no_go"]
    assert refused == "" and "not yet for `go_after`" in ended.payload["cause"]
    assert {one["verdict"] for one in ended.payload["reasons"]} == {"PASS"}


def test_windows_are_judged_by_the_new_limit() -> None:
    """A formula's and a count's window hold what came before the switch: a new limit sees it."""

    def checks(speed: float, rate: int) -> str:
        return f"""slow: {{kind: formula, formula: "historically[0 s, 2 s](speed <= {speed})"}}
            rate: {{kind: frequency, signal: speed, min: {rate} Hz, window: 2 s}}"""

    gates = "drive: {require: all, criteria: [slow, rate]}"
    for speed, rate, fails in ((10, 5, []), (6, 5, ["slow"]), (10, 20, ["rate"]), (6, 20, ["rate", "slow"])):
        world = World(file(checks(12, 5), gates))
        world.drive(3, speed=5.0, mode=1, armed=1)
        world.drive(0.5, speed=8.0, mode=1, armed=1)
        world.drive(0.5, speed=5.0, mode=1, armed=1)
        assert world.go == {"drive": True}
        found, refused = world.reload(file(checks(speed, rate), gates, version=2))
        assert refused == "" and [e.subject for e in found if e.type == "check.fail"] == fails
        assert world.go == {"drive": not fails}
        if fails == ["slow"]:  # the last one was at 8 m/s 0.6 s ago, for one nanosecond less than a message
            world.drive(2, speed=5.0, mode=1, armed=1)
            passed = next(
                e
                for e in world.told
                if e.type == "check.pass" and e.subject == "slow" and e.t_effective > found[0].t_effective
            )
            alone = World(file(checks(speed, rate), gates))
            for seconds, value in ((3, 5.0), (0.5, 8.0), (2.5, 5.0)):
                alone.drive(seconds, speed=value, mode=1, armed=1)
            assert passed.t_effective == next(e for e in reversed(alone.told) if e.type == "check.pass").t_effective


def test_without_kept_items_a_window_starts_anew() -> None:
    """Where nothing is kept, a window that time must fill is unknown until it is full, and a gate that needs it NO_GO."""
    gates, more = (
        "drive: {require: all, criteria: [slow]}",
        'slow: {kind: formula, formula: "historically[0 s, 1 s](speed <= ',
    )
    world = World(file(f'{more}12)"}}', gates))
    world.drive(2, speed=5.0, mode=1, armed=1)
    found, refused = world.reload(file(f'{more}11)"}}', gates, version=2), history=False)
    assert refused == "" and world.go == {"drive": False}
    assert next(e for e in found if e.type == "check.unknown").payload["cause"] == "warming"
    world.drive(1.2, speed=5.0, mode=1, armed=1)
    assert world.go == {"drive": True}


def test_a_signal_that_counts_for_less_is_stale_at_once() -> None:
    """A shorter `max_age` acts on the value in force: it is lost at the switch where it is older than that."""
    world = World(BASE)
    world.drive(1, speed=5.0, battery=0.9, mode=1, armed=1)
    world.drive(3, speed=5.0, mode=1, armed=1)
    assert world.go == {"drive": True}
    shorter = envelopes.loads(TEXTS[tighter(12).digest].replace("max_age: 10 s", "max_age: 2 s").encode())
    found, refused = world.reload(shorter)
    assert refused == "" and types(found) == ["envelope.activated", "input.lost", "check.unknown", "gate.no_go"]
    assert found[1].payload["signals"] == ["battery"]
    assert {e.t_effective for e in found} == {world.now}


def rules(
    limit: float, latch: str = "manual", version: int = 2, name: str = "speed_limit", severity: str = "marginal"
) -> Envelope:
    """One check with a latch, and a gate."""
    return file(
        f"{name}: {{kind: bounds, signal: speed, max: {limit}, latch: {latch}, severity: {severity}}}",
        f"drive: {{require: all, criteria: [{name}], lease: 1 s}}", version=version,
    )  # fmt: skip


def test_a_latch_that_is_set_stays_set() -> None:
    """It outlives a change of its check; an envelope without it is refused until a person has reset it."""
    world = World(rules(12, version=1))
    world.drive(0.5, speed=13.0, mode=0, armed=0)
    world.drive(0.5, speed=5.0)
    _, refused = world.reload(rules(11))
    assert refused == "" and world.go == {"drive": False} and world.decider.engine.checks["latched"].tolist() == [1]
    for other in (rules(11, latch="when_cleared", version=3), rules(11, name="other", version=3)):
        found, refused = world.reload(other)
        assert "the latch of speed_limit is set" in refused and types(found) == ["envelope.rejected"]
    world.decider.command(ResetLatch(t=world.now, check="speed_limit", person="ada", reason="looked"))
    _, refused = world.reload(rules(11, latch="when_cleared", version=3))
    assert refused == ""


def test_a_latch_that_would_be_set_is_set() -> None:
    """A new limit that was broken while items are kept has its latch set, and the journal is told so."""
    world = World(rules(12, version=1))
    world.drive(0.5, speed=11.0, mode=0, armed=0)
    world.drive(1, speed=5.0)
    found, _ = world.reload(rules(10))
    assert types(found) == ["envelope.activated", "check.fail", "latch.set", "gate.no_go"]


def test_waivers_go_on_with_their_criterion() -> None:
    """A waiver stays where its check is the same; where it is not, it is withdrawn and the gate judged without it."""
    for other, stays in ((rules(12, latch="when_cleared"), True), (rules(11, latch="when_cleared"), False),
                         (rules(12, latch="when_cleared", severity="critical"), False)):  # fmt: skip
        world = World(rules(12, latch="when_cleared", version=1))
        world.drive(1, speed=13.0, mode=0, armed=0)
        order = Waive(t=world.now, check="speed_limit", persons=("ada",), reason="known", expires=world.now + 60 * S)
        world.note(world.decider.command(order)[0])
        assert world.go == {"drive": True}
        found, refused = world.reload(other)
        assert refused == "" and world.go == {"drive": stays}
        told = [(e.payload["state"], e.payload.get("cause")) for e in found if e.type == "gate.waived"]
        assert told == ([] if stays else [("withdrawn", "another envelope is in force")])
        assert ("gate.no_go" in types(found)) is not stays


HANDOVER = AUTHORITY + "handover: {accept_within: 10 s, complete_within: 10 s, attest_within: 1 min, gates: [drive]}\n"


def handed(limit: float, version: int, more: str = HANDOVER) -> Envelope:
    """An envelope with handovers."""
    gate = "drive: {require: all, criteria: [speed_limit], lease: 1 s, on_no_go: transition_demand, then: {after: 20 s, do: mrm}}"
    if "handover" not in more:
        gate = "drive: {require: all, criteria: [speed_limit], lease: 1 s}"
    return file(f"speed_limit: {{kind: bounds, signal: speed, max: {limit}}}", gate, version=version, more=more)


def test_no_reload_while_a_handover_is_under_way() -> None:
    """Neither a tighter nor a looser envelope is taken while one is open; who is responsible goes on across a reload."""
    world = World(handed(12, 1))
    world.drive(1, speed=5.0, mode=0, armed=1)
    request = RequestHandover(t=world.now, id="h1", to="autonomy", person="ada", reason="go")
    assert world.decider.command(request)[1] == ""
    found, refused = world.reload(handed(11, 2))
    assert refused == "handover h1 is open: reload when it has ended" and types(found) == ["envelope.rejected"]
    world.drive(1, speed=5.0, mode=1, armed=1)
    machine = world.decider.handover
    assert machine is not None and machine.open is None and list(machine.pending) == ["h1"]
    found, refused = world.reload(handed(11, 2))
    assert (types(found), refused) == (["envelope.activated"], "")
    assert world.decider.handover is not None and world.decider.handover.responsible == "autonomy"
    world.drive(1, speed=11.5, mode=1, armed=1)
    assert types(world.told)[-3:] == ["check.fail", "gate.no_go", "handover.requested"]
    accept = AcceptHandover(t=world.now, id="h1", person="ada", signature=bytes(64))
    assert types(world.decider.command(accept)[0]) == ["handover.accepted"]


def test_a_demand_follows_a_switch_that_makes_a_gate_no_go() -> None:
    """In motion, a limit that is not kept demands a handover at the very instant."""
    world = World(handed(12, 1))
    world.drive(1, speed=11.5, mode=1, armed=1)
    found, _ = world.reload(handed(11, 2))
    assert types(found) == ["envelope.activated", "check.fail", "gate.no_go", "handover.requested"]
    assert {event.t_effective for event in found} == {world.now}


def test_sections_come_and_go_on_the_ground_only() -> None:
    """Handover and authority may be added or taken away while the vehicle is inactive; the machine begins with who commands."""
    world = World(handed(12, 1, AUTHORITY))
    world.drive(1, speed=5.0, mode=0, armed=1)
    _, refused = world.reload(handed(12, 2))
    assert "handover: the section is new" in refused
    world.drive(1, speed=0.0, mode=0, armed=0)
    _, refused = world.reload(handed(12, 2))
    assert refused == "" and world.decider.handover is not None
    world.drive(1, speed=5.0, mode=0, armed=1)
    assert world.decider.handover.responsible == "human"
    world.drive(1, speed=0.0, mode=0, armed=0)
    other = HANDOVER.replace("autonomy: [AUTO], human: [MANUAL]", "autonomy: [], human: [AUTO, MANUAL]")
    found, refused = world.reload(handed(12, 3, other))
    assert refused == "" and "authority.changed" in types(found)
    world.drive(1, speed=5.0, mode=1, armed=1)
    assert world.decider.authority is not None and world.decider.authority.command.decision == "human"


def test_time_in_each_condition_is_told_of_the_envelope_under_which_it_passed() -> None:
    """At the switch the old envelope's account closes, the new one's begins there, in the conditions that go on."""
    signals = SIGNALS + "  lux: {topic: /light, field: lux, unit: lx, max_age: 9 s}\n"
    odd = AUTHORITY + "odd: {illuminance: lux, domain: {light: [day]}}\n"
    gates = "drive: {require: all, criteria: [speed_limit, battery_ok], lease: 1 s}"
    old = file(BASE_CHECKS, gates, more=odd, signals=signals)
    new = file(BASE_CHECKS.replace("max: 12", "max: 11.5"), gates, more=odd, signals=signals, version=2)
    bins = [signal.name for signal in old.signals].index("odd_light")
    world = World(old)
    begun = world.now + S
    world.say({bins: 3.0}, after=S)
    world.say({bins: 0.0}, after=2 * S)
    _, refused = world.reload(new)
    assert refused == ""
    world.say({bins: 3.0}, after=4 * S)
    stopped = world.note(world.decider.finish())[-1]

    def cells(account: dict[str, Any]) -> dict[str, int]:
        return {light: ns for _, light, _, _, ns in account["cells"]}

    (activated,) = [event for event in world.told if event.type == "envelope.activated"]
    assert cells(activated.payload["previous"]["odd"]) == {"day": 2 * S}
    assert activated.payload["previous"]["odd"]["since_ns"] == begun
    assert cells(stopped.payload["odd"]) == {"night": 4 * S}
    assert stopped.payload["odd"]["since_ns"] == activated.t_effective


def test_gates_come_and_go() -> None:
    """A gate that is new is NO_GO at the switch, one that is taken away ends with a NO_GO."""
    other = file(BASE_CHECKS, "go: {require: all, criteria: [speed_limit], lease: 1 s}", version=2)
    world = World(BASE)
    world.drive(1, speed=5.0, battery=0.9, mode=0, armed=0)
    found, refused = world.reload(other)
    assert refused == "" and [(e.type, e.subject) for e in found] == [
        ("envelope.activated", "yard"),
        ("gate.no_go", "drive"),
    ]
    world.drive(0.2, speed=5.0)
    assert [(e.type, e.subject) for e in world.told[-1:]] == [("gate.go", "go")]


@pytest.mark.parametrize(("head", "code"), [("claim", "other_claim"), ("vehicle", "other_vehicle"), ("id", "other_id")])
def test_an_envelope_of_something_else_is_refused(head: str, code: str) -> None:
    """Another id, vehicle or claim is another envelope, on the ground too."""
    world = World(BASE)
    world.drive(1, speed=0.0, mode=0, armed=0)
    text = TEXTS[BASE.digest]
    was, now = {
        "claim": ("vehicle: rover", "vehicle: rover, claim: G9"),
        "vehicle": ("vehicle: rover", "vehicle: boat"),
        "id": ("id: yard", "id: field"),
    }[head]
    text = text.replace(was, now)
    found, _ = world.reload(envelopes.loads(text.encode()))
    assert [reason["code"] for reason in found[0].payload["reasons"]] == [code]


def test_only_what_was_offered_is_put_in_force() -> None:
    """A command for another digest, or one that comes a second time, does nothing."""
    world = World(BASE)
    world.drive(1, speed=0.0, mode=0, armed=0)
    order = ReloadEnvelope(t=world.now, path="x", file="00" * 32, digest="11" * 32, risk="medium")
    world.decider.offer(world.decider.prepare(tighter(11)))
    assert world.decider.command(order) == ([], "no envelope 1111111111111111 has been prepared")
    assert world.decider.envelope.digest == BASE.digest


# Two envelopes over the same signals, at random.


@st.composite
def some_envelope(draw: Callable[..., Any], version: int) -> Envelope:
    """Limits, debouncing, windows and gates at random."""
    times = st.sampled_from(["0 s", "200 ms", "1 s"])
    limit = st.sampled_from([4, 6, 8])
    lines = []
    for name in draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True)):
        debounce = f"fail_for: {draw(times)}, pass_for: {draw(times)}"
        top = draw(limit)
        kind = draw(st.sampled_from([
            f"kind: bounds, signal: speed, max: {top}, leave: {top - draw(st.sampled_from([0, 1]))}",
            f'kind: formula, formula: "historically[0 s, {draw(times)}](speed <= {top})"',
            f'kind: formula, formula: "once[0 s, {draw(times)}](speed < {top} and battery > 0.5)"',
            f"kind: frequency, signal: speed, min: {draw(st.sampled_from([4, 8]))} Hz, window: 1 s",
            f"kind: rate, signal: speed, max: {top}", "kind: stale, signal: battery, max: 700 ms",
            f"kind: bounds, signal: battery, min: {draw(st.sampled_from([0.4, 0.6]))}",
        ]))  # fmt: skip
        lines.append(f"{name}: {{{kind}, {debounce}}}")
    names = [line[0] for line in lines]
    gates = []
    for gate in ("g", "h"):
        chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
        require, hold = (
            draw(st.sampled_from(["all", "any"])),
            draw(st.sampled_from(["", ", on_unknown: {hold: 500 ms}"])),
        )
        gates.append(
            f"{gate}: {{require: {require}, criteria: [{', '.join(chosen)}], lease: 1 s, go_after: {draw(times)}{hold}}}"
        )
    return file("\n".join(lines), "\n".join(gates), version=version)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_either_envelope_would_refuse_is_not_go(data: st.DataObject) -> None:
    """At the switch a gate is GO only if it was under the old envelope, and had the new one been in force all the time it
    would be too; no GO takes effect at the switch; and the checks go on as under the new one."""
    one, other = data.draw(some_envelope(1)), data.draw(some_envelope(2))
    world, alone = World(one), World(other)
    speed = st.sampled_from([3.0, 5.0, 7.0, 9.0, float("nan")])
    steps = data.draw(
        st.lists(st.tuples(speed, st.booleans(), st.sampled_from([100, 100, 100, 400, 1200])), max_size=40)
    )
    at = data.draw(st.integers(0, len(steps)))

    def step(worlds: list[World], value: float, battery: bool, after: int) -> None:
        for each in worlds:
            each.say({SPEED: value, **({BATTERY: 0.5} if battery else {}), MODE: 0, ARMED: 0}, after * MS)

    for one_step in [(5.0, True, 100), *steps[:at]]:
        step([world, alone], *one_step)
    before = world.go
    found, refused = world.reload(other)
    assert refused == "" and all(event.t_effective == world.now for event in found) and "gate.go" not in types(found)
    after = world.go
    for each in (world, alone):
        each.note(each.decider.until(each.now + 1))
    for gate, go in after.items():
        assert not go or (before.get(gate, False) and alone.go[gate])
    for ours, theirs in zip(world.decider.engine.checks, alone.decider.engine.checks, strict=True):
        assert ours["verdict"] == theirs["verdict"]
    switched = world.now
    for one_step in steps[at:]:
        step([world, alone], *one_step)
    names = {check.name for check in other.checks} - {check.name for check in one.checks if check in other.checks}

    def told(each: World) -> list[tuple[int, str, str]]:
        rows = [(e.t_effective, e.type, e.subject) for e in each.told if e.type.startswith("check.")]
        return [row for row in rows if row[0] > switched and row[2] in names]

    assert told(world) == told(alone)
