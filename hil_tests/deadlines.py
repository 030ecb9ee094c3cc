"""The table of deadlines: which fault, what must tell it, and how long that may take.

Time counts from the injection (CLOCK_BOOTTIME of the harness) to the consumer's NO_GO and to the event, whichever is later.
``blames``: the only checks that may fail; a fault of one sensor must not be put down to another.
"""

from __future__ import annotations

from typing import NamedTuple

#: ms until GO again once a fault has ended.
RECOVERY_MS = 5_000
DRAIN_MS = 20  #: two turns of a monitor that is not short of a processor


class Scenario(NamedTuple):
    """One row."""

    number: int
    fault: str  #: of ``faults.FAULTS``
    event: str  #: type of the event that tells it
    subject: str
    deadline_ms: int
    why: str  #: what the deadline is made of
    blames: tuple[str, ...] = ()  #: besides ``subject``


TABLE = (
    Scenario(1, "bias", "check.fail", "altitudes_agree", 160, "fail_for 100 ms, period 20 ms"),
    Scenario(2, "noise_up", "check.fail", "gyro_noise", 150, "half of the samples are beyond the limit, period 10 ms"),
    Scenario(3, "noise_down", "check.fail", "gyro_alive", 1_060, "window 1 s, period 10 ms"),
    Scenario(4, "freeze", "check.fail", "acceleration_alive", 360, "window 300 ms, period 10 ms"),
    Scenario(5, "dropout", "input.lost", "/odom", 200 + DRAIN_MS, "max_age 200 ms", ("speed_alive",)),
    Scenario(6, "dropout", "check.fail", "speed_alive", 200 + DRAIN_MS, "stale after 200 ms"),
    Scenario(7, "delay", "check.fail", "imu_latency", 210, "150 ms of delay, period 10 ms"),
    Scenario(8, "spike", "check.fail", "range_spike", 60, "period 20 ms"),
    Scenario(9, "nan", "check.fail", "speed_valid", 60, "period 20 ms"),
    Scenario(10, "wrong_units", "check.fail", "speed_limit", 60, "period 20 ms"),
    Scenario(11, "topic_swap", "check.fail", "range_limit", 60, "period 20 ms", ("range_spike", "altitudes_agree")),
    Scenario(12, "clock_ahead", "check.fail", "imu_latency", 50, "period 10 ms"),
    Scenario(13, "clock_behind", "check.fail", "imu_latency", 50, "period 10 ms"),
    Scenario(14, "flood", "check.fail", "range_rate", 100, "80 messages at 20,000/s"),
    Scenario(15, "flood", "input.lost", "/range", 2_000, "5,000 messages beyond the rate", ("range_rate",)),
)
