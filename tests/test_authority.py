"""Who is in command: mapping of modes, failsafes, and the reasons that the vehicle itself gave."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from edge_monitor.core.authority import NOT_RECORDED, Authority, Change, Command
from edge_monitor.core.decision_specs import AuthoritySpec
from edge_monitor.core.samples import FLAG_INSTANT_END, TRANSITION, Cause, TransitionKind, Verdict

MS = 1_000_000
S = 1_000_000_000

#: PX4's numbers of nav_state (vehicle_status.msg).
MANUAL, ALTCTL, POSCTL, MISSION, LOITER, RTL, LAND = 0, 1, 2, 3, 4, 5, 18
LABELS = {
    MANUAL: "MANUAL",
    ALTCTL: "ALTCTL",
    POSCTL: "POSCTL",
    MISSION: "AUTO_MISSION",
    RTL: "AUTO_RTL",
    LAND: "AUTO_LAND",
}
SIGNALS = ("nav", "intention", "failsafe", "arming", "text", "gps_lost", "link_lost")
TEXTS = {1.0: "Pilot took over using sticks", 2.0: " Failsafe activated ", 3.0: ""}

PX4 = AuthoritySpec(
    mode="nav",
    modes=((MANUAL, "human"), (ALTCTL, "human"), (POSCTL, "human"), (MISSION, "autonomy"), (LAND, "autonomy")),
    intention="intention",
    failsafe="failsafe",
    active="arming",
    active_value=2.0,
    reason_texts=("text",),
    reason_flags=(("local position invalid", "gps_lost"), ("link lost", "link_lost")),
    within=500 * MS,
)


def authority(spec: AuthoritySpec = PX4, names: tuple[str, ...] = SIGNALS) -> Authority:
    """A machine over synthetic signals; ``text`` carries text, the others numbers."""
    return Authority(
        spec, names,
        text=lambda signal, value: TEXTS[value] if signal == "text" else None,
        label=lambda signal, value: LABELS.get(int(value), f"{value:g}"),
    )  # fmt: skip


def values(t: int, decided: int | None = None, **signals: float | None) -> np.ndarray:
    """One instant of VALUE rows; None: the signal has no value any more."""
    rows = np.zeros(len(signals), TRANSITION)
    for row, (name, value) in zip(rows, signals.items(), strict=True):
        row["t_effective"], row["t_decided"] = t, t if decided is None else decided
        row["kind"], row["subject"] = TransitionKind.VALUE, SIGNALS.index(name)
        row["verdict"], row["cause"] = (
            (Verdict.PASS, Cause.NONE) if value is not None else (Verdict.UNKNOWN, Cause.STALE)
        )
        row["value"] = math.nan if value is None else value
    rows[-1]["flags"] = FLAG_INSTANT_END
    return rows


def flying(mode: int = MISSION) -> Authority:
    """An armed vehicle in ``mode`` as intended, without a failsafe, since 1 s."""
    machine = authority()
    machine.step(values(1 * S, nav=mode, intention=mode, failsafe=0, arming=2))
    return machine


def told(changes: list[Change]) -> list[tuple[str, str, str]]:
    """Type, and decision authority before and after."""
    return [(change.type, change.before.decision, change.after.decision) for change in changes]


def test_unknown_until_the_mode_and_the_arming_state_are_known() -> None:
    """Nobody is named before the vehicle has said both its mode and whether it is armed."""
    machine = authority()
    assert machine.command == Command("unknown", "unknown")
    assert machine.step(values(1, nav=MISSION)) == []
    assert machine.command.decision == "unknown"
    assert told(machine.step(values(2, arming=2))) == [("authority.changed", "unknown", "autonomy")]


def test_a_snapshot_goes_on_as_the_machine_would() -> None:
    """A machine put back from a snapshot, through MessagePack, has modes, reasons, flags and failsafe as they were."""
    machine = flying()
    machine.step(values(2 * S, gps_lost=1, text=2.0))
    machine.step(values(2 * S + 1, failsafe=1, nav=RTL))
    again = authority()
    again.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(machine.snapshot())))
    assert again.snapshot() == machine.snapshot()
    rows = values(2 * S + 2, failsafe=0, nav=MANUAL, intention=MANUAL, gps_lost=0)
    changes = machine.step(rows)
    assert again.step(rows) == changes
    assert [change.type for change in changes] == ["authority.changed", "failsafe.end"]
    assert "Failsafe activated" in changes[0].causes


def test_none_when_inactive() -> None:
    """A disarmed vehicle is in nobody's command, whatever its mode; arming hands it to the mode's."""
    machine = authority()
    changes = machine.step(values(1, nav=MISSION, intention=MISSION, failsafe=0, arming=1))
    assert told(changes) == [("authority.changed", "unknown", "none")]
    assert machine.command == Command("none", "none", "AUTO_MISSION", "AUTO_MISSION")
    assert told(machine.step(values(2, arming=2))) == [("authority.changed", "none", "autonomy")]
    assert told(machine.step(values(3, arming=1))) == [("authority.changed", "autonomy", "none")]


def test_without_an_active_signal_the_mode_alone_decides() -> None:
    """An envelope that names no arming state takes the vehicle for active."""
    machine = authority(AuthoritySpec(mode="nav", modes=((MANUAL, "human"),)))
    assert told(machine.step(values(1, nav=MANUAL))) == [("authority.changed", "unknown", "human")]


def test_an_unmapped_mode_is_unknown() -> None:
    """A mode that the envelope does not map is unknown, never the last known one."""
    machine = flying()
    (change,) = machine.step(values(2 * S, nav=LOITER, intention=LOITER))
    assert (change.after.decision, change.after.execution, change.after.mode) == ("unknown", "unknown", "4")


@pytest.mark.parametrize("signal", ["nav", "arming"])
def test_a_lost_mode_is_unknown(signal: str) -> None:
    """When the mode or the arming state is no longer known, neither is who commands."""
    machine = flying()
    (change,) = machine.step(values(5 * S, 9 * S, **{signal: None}))
    assert (change.after.decision, change.t_effective, change.t_decided) == ("unknown", 5 * S, 9 * S)


def test_a_change_between_two_modes_of_one_authority_is_none() -> None:
    """POSCTL to ALTCTL is the same human: no change of authority is reported, the mode is kept up to date."""
    machine = flying(POSCTL)
    assert machine.step(values(2 * S, nav=ALTCTL, intention=ALTCTL)) == []
    assert machine.command == Command("human", "human", "ALTCTL", "ALTCTL")


def test_px4_failsafe_with_another_intention_is_a_fallback() -> None:
    """A failsafe that flies another mode than the user asked for decides; autonomy executes. Both ends are reported."""
    machine = flying(POSCTL)
    changes = machine.step(values(2 * S, nav=LAND, intention=POSCTL, failsafe=1))
    assert told(changes) == [("authority.changed", "human", "fallback"), ("failsafe.start", "human", "fallback")]
    assert changes[0].after == Command("fallback", "autonomy", "AUTO_LAND", "POSCTL")
    changes = machine.step(values(4 * S, nav=POSCTL, failsafe=0))
    assert told(changes) == [("authority.changed", "fallback", "human"), ("failsafe.end", "fallback", "human")]


def test_px4_failsafe_in_the_intended_mode_is_no_fallback() -> None:
    """A failsafe that leaves the mode as the user wants it starts a failsafe and no change of command."""
    machine = flying(POSCTL)
    changes = machine.step(values(2 * S, failsafe=1))
    assert told(changes) == [("failsafe.start", "human", "human")]


def test_a_failsafe_whose_intention_is_not_known_is_a_fallback() -> None:
    """Unknown is not safe: during a failsafe an unknown intention can't show that the user wants this mode."""
    machine = flying(POSCTL)
    machine.step(values(2 * S, intention=None))
    assert machine.command.decision == "human"
    machine.step(values(3 * S, failsafe=1))
    assert machine.command.decision == "fallback"


def test_a_mapped_fallback_mode_is_a_failsafe_where_no_signal_says_so() -> None:
    """Vehicles without a failsafe flag enter one by a mode that the envelope maps to ``fallback``."""
    machine = authority(AuthoritySpec(mode="nav", modes=((MISSION, "autonomy"), (RTL, "fallback"))))
    machine.step(values(1, nav=MISSION))
    changes = machine.step(values(2, nav=RTL))
    assert told(changes) == [("authority.changed", "autonomy", "fallback"), ("failsafe.start", "autonomy", "fallback")]
    changes = machine.step(values(3, nav=MISSION))
    assert told(changes) == [("authority.changed", "fallback", "autonomy"), ("failsafe.end", "fallback", "autonomy")]


def test_one_message_is_one_change() -> None:
    """Fields of one message count together: no authority that lies between two of them is ever reported."""
    machine = flying(POSCTL)
    changes = machine.step(values(2 * S, nav=MISSION, intention=MISSION, failsafe=0, arming=1))
    assert told(changes) == [("authority.changed", "human", "none")]


def test_a_text_of_the_last_moments_is_the_reason() -> None:
    """Text that came within the window before a change is its cause, without the blanks around it."""
    machine = flying()
    machine.step(values(2 * S, text=1))
    machine.step(values(2 * S + 1, text=2))
    (change,) = machine.step(values(2 * S + 500 * MS, nav=POSCTL, intention=POSCTL))
    assert change.causes == ("Pilot took over using sticks", "Failsafe activated")
    assert change.cause == "Pilot took over using sticks; Failsafe activated"


def test_older_reasons_do_not_count() -> None:
    """Text from before the window is no reason: none found is written as such, never guessed."""
    machine = flying()
    machine.step(values(2 * S, text=1))
    (change,) = machine.step(values(2 * S + 500 * MS + 1, nav=POSCTL, intention=POSCTL))
    assert (change.causes, change.cause) == ((), NOT_RECORDED)
    assert NOT_RECORDED == "not recorded"


def test_text_in_the_same_instant_counts_and_an_empty_one_does_not() -> None:
    """A reason may come in the very message that changes command; empty text says nothing."""
    machine = flying()
    (change,) = machine.step(values(2 * S, text=1, nav=POSCTL, intention=POSCTL))
    assert change.causes == ("Pilot took over using sticks",)
    machine = flying()
    (change,) = machine.step(values(2 * S, text=3, nav=POSCTL, intention=POSCTL))
    assert change.cause == NOT_RECORDED


def test_a_condition_is_a_reason_when_it_comes_and_when_it_goes() -> None:
    """A flag says something when it rises or falls, and not while it stays as it is or was never up."""
    machine = flying()
    machine.step(values(2 * S, gps_lost=1, link_lost=0))
    (change,) = machine.step(values(2 * S + 1, nav=POSCTL, intention=POSCTL))
    assert change.causes == ("local position invalid",)
    machine.step(values(9 * S, gps_lost=1, link_lost=0))
    machine.step(values(9 * S + 1, link_lost=0))
    (change,) = machine.step(values(9 * S + 2, nav=MISSION, intention=MISSION))
    assert change.cause == NOT_RECORDED
    machine.step(values(20 * S, gps_lost=None))
    machine.step(values(20 * S + 1, gps_lost=0))
    (change,) = machine.step(values(20 * S + 2, nav=POSCTL, intention=POSCTL))
    assert change.cause == NOT_RECORDED


def test_only_what_the_envelope_names_is_a_reason() -> None:
    """The mode's own text explains nothing; a text that is no longer known says nothing."""
    machine = authority(AuthoritySpec(mode="text", modes=((TEXTS[1.0], "human"),)))
    (change,) = machine.step(values(1, text=1))
    assert change.cause == NOT_RECORDED
    machine = flying()
    machine.step(values(2 * S, text=None))
    (change,) = machine.step(values(2 * S + 1, nav=POSCTL, intention=POSCTL))
    assert change.cause == NOT_RECORDED


@pytest.mark.parametrize("texts", [64, 65])
def test_the_newest_texts_count_where_there_are_too_many(texts: int) -> None:
    """Of the texts in the window the newest 64 are kept; one that is just as old as the window is long is among them."""
    spec = AuthoritySpec(mode="nav", modes=((MANUAL, "human"),), reason_texts=("text",), within=500 * MS)
    machine = Authority(spec, SIGNALS, text=lambda signal, value: f"{value:g}" if signal == "text" else None,
                        label=lambda signal, value: f"{value:g}")  # fmt: skip
    for k in range(texts):
        machine.step(values(2 * S if k < texts - 1 else 2 * S + 500 * MS, text=k))
    (change,) = machine.step(values(2 * S + 500 * MS, nav=MANUAL))
    assert change.causes == tuple(f"{k}" for k in range(texts - 64, texts))


def test_the_same_reason_is_given_once() -> None:
    """A text that repeats within the window is one reason."""
    machine = flying()
    for k in range(3):
        machine.step(values(2 * S + k, text=1))
    (change,) = machine.step(values(2 * S + 10, nav=POSCTL, intention=POSCTL))
    assert change.causes == ("Pilot took over using sticks",)


def test_conditions_that_hold_are_reasons_of_a_fallback_however_old() -> None:
    """A fallback is explained by every condition in force, even one long before; a mode change asked for is not."""
    machine = flying(POSCTL)
    machine.step(values(2 * S, gps_lost=1))
    (change,) = machine.step(values(10 * S, nav=MISSION, intention=MISSION))
    assert change.cause == NOT_RECORDED
    changes = machine.step(values(20 * S, nav=LAND, failsafe=1))
    assert [change.causes for change in changes] == [("local position invalid",)] * 2


def test_a_condition_that_clears_is_a_reason_too() -> None:
    """The end of a failsafe is explained by the condition that went away."""
    machine = flying(POSCTL)
    machine.step(values(2 * S, link_lost=1))
    machine.step(values(2 * S, nav=LAND, failsafe=1))
    machine.step(values(9 * S, link_lost=0))
    changes = machine.step(values(9 * S + 100 * MS, nav=POSCTL, failsafe=0))
    assert [change.cause for change in changes] == ["link lost: cleared"] * 2


def test_a_clock_jump_forgets_recent_reasons() -> None:
    """Text from before a backward step of the clock explains nothing after it, though its time looks near."""
    machine = flying()
    machine.step(values(100 * S, text=1))
    jump = np.zeros(1, TRANSITION)
    jump["t_effective"] = jump["t_decided"] = 50 * S
    jump["kind"], jump["subject"], jump["flags"] = TransitionKind.CLOCK, -1, FLAG_INSTANT_END
    assert machine.step(jump) == []
    (change,) = machine.step(values(50 * S + 1, nav=POSCTL, intention=POSCTL))
    assert change.cause == NOT_RECORDED


def test_modes_that_are_text_map_by_their_text() -> None:
    """A mode given as text is compared as text, and so is an active state."""
    spec = AuthoritySpec(mode="text", modes=((TEXTS[1.0], "human"),), active="nav", active_value=1.0)
    machine = authority(spec)
    assert told(machine.step(values(1, text=1, nav=1))) == [("authority.changed", "unknown", "human")]
    assert machine.command.mode == TEXTS[1.0]
