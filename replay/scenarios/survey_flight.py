"""Fly the survey mission of the demo in JSBSim and record it: ``python survey_flight.py OUT.mcap [--seed 7]``.

A lawn-mower survey in turbulence with, one after the other, a blocked pitot tube, a pilot who takes over and hands
back, a leg that leaves the geofence, a radio dropout and the return it causes. Same seed, same bytes.
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, Protocol

from plane import STEPS_PER_SECOND, Plane, State, Targets, line_course, line_progress, wrap
from sensors import Sensors, flag, text

START = 1_749_891_600_000_000_000  # 2025-06-14 09:00:00 UTC; fixed, so that two runs give the same bytes
MILLISECOND = 1_000_000
STEP = 1_000_000_000 // STEPS_PER_SECOND

SURVEY_HEIGHT = 120.0  # m above home
SURVEY_SPEED = 42.0  # m/s calibrated airspeed
FENCE_EAST = 1250.0  # m; the eastern side of the geofence in configs/survey_plane.yaml

Point = tuple[float, float]
#: Survey legs from west and east of home, north to south (m). The third was planned 850 m too long, out of the fence.
LEGS: tuple[tuple[Point, Point], ...] = (
    ((-650.0, 2390.0), (650.0, 2390.0)),
    ((650.0, 1760.0), (-650.0, 1760.0)),
    ((-650.0, 1130.0), (1500.0, 1130.0)),
    ((650.0, 500.0), (-650.0, 500.0)),
)
RETURN_LEG: tuple[Point, Point] = ((0.0, 500.0), (-1300.0, 500.0))
RUNWAY: tuple[Point, Point] = ((-300.0, 0.0), (700.0, 0.0))

# What is injected, in seconds since the start.
HAND_OVER = 18.0
PITOT_FAULT = (("frozen", 80.0), ("leaking", 86.0), ("invalid", 98.0), ("", 112.0))
PILOT_TAKES_OVER, PILOT_HANDS_BACK = 104.0, 126.0
LATE_ODOMETRY = {60.0: 180 * MILLISECOND, 150.0: 240 * MILLISECOND}
RADIO_DROPOUT = (240.0, 242.0)  # odometry is lost; everything else goes another way
LINK_LOST, RETURN_CONFIRMED = 243.0, 262.0

#: Topic: (samples per second, usual latency in ns).
SENSOR_RATES = {
    "/imu": (25, 2 * MILLISECOND),
    "/odom": (10, 6 * MILLISECOND),
    "/airspeed": (10, 4 * MILLISECOND),
    "/fix": (5, 45 * MILLISECOND),
    "/fix_velocity": (5, 46 * MILLISECOND),
    "/battery": (1, 10 * MILLISECOND),
}
STATE_RATES = {"/mode": 2, "/mode_intention": 1, "/failsafe": 2, "/armed": 1}
JITTER = MILLISECOND // 16  # latencies vary by 0 … 31 of these


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happens at a time: what the vehicle says of it, and what its published state becomes."""

    seconds: float
    reason: str = ""
    failsafe: bool | None = None
    intention: str = ""
    mode: str = ""


INCIDENTS = (
    Incident(HAND_OVER, "Mission started by operator", intention="AUTO_MISSION", mode="AUTO_MISSION"),
    Incident(98.0, "Airspeed invalid"),
    Incident(PILOT_TAKES_OVER, "Pilot took over using sticks", intention="MANUAL", mode="MANUAL"),
    Incident(PILOT_HANDS_BACK, "Pilot handed back to mission", intention="AUTO_MISSION", mode="AUTO_MISSION"),
    Incident(LINK_LOST, "Data link lost", failsafe=True, mode="AUTO_RTL"),
    Incident(RETURN_CONFIRMED, "Data link regained, return confirmed", failsafe=False, intention="AUTO_RTL"),
)


class Vehicle:
    """What the vehicle publishes of itself. A change is announced in order: reason, failsafe, intention, mode."""

    def __init__(self, publish: Callable[[str, Any, int], None]) -> None:
        self._publish = publish
        self._values: dict[str, Any] = {
            "/mode": text("MANUAL"),
            "/mode_intention": text("MANUAL"),
            "/failsafe": flag(False),
            "/armed": flag(True),
        }
        self._due: list[tuple[int, int, str, Any]] = []
        self._announced = 0

    @property
    def mode(self) -> str:
        """The mode last published."""
        return str(self._values["/mode"].data)

    def announce(self, now: int, incident: Incident) -> None:
        """Publish the reason at once and each change 10 ms after the one before."""
        changes = [
            ("/status_text", text(incident.reason) if incident.reason else None),
            ("/failsafe", None if incident.failsafe is None else flag(incident.failsafe)),
            ("/mode_intention", text(incident.intention) if incident.intention else None),
            ("/mode", text(incident.mode) if incident.mode else None),
        ]
        for number, (topic, message) in enumerate(change for change in changes if change[1] is not None):
            self._put(now + number * 10 * MILLISECOND, topic, message)

    def disarm(self, now: int) -> None:
        """Publish that the motor is off and nobody commands the plane."""
        self._put(now, "/status_text", text("Disarmed after landing"))
        self._put(now + 10 * MILLISECOND, "/armed", flag(False))

    def _put(self, due: int, topic: str, message: Any) -> None:
        self._announced += 1
        heapq.heappush(self._due, (due, self._announced, topic, message))

    def step(self, now: int) -> None:
        """Publish what is due at ``now`` (ns): changes first, then the states whose period has come."""
        while self._due and self._due[0][0] <= now:
            _, _, topic, message = heapq.heappop(self._due)
            self._values[topic] = message
            self._publish(topic, message, now)
        for topic, rate in STATE_RATES.items():
            if (now - START) % (1_000_000_000 // rate) == 0:
                self._publish(topic, self._values[topic], now)


class Outlet(Protocol):
    """Where messages go: a recording, or a monitor."""

    def add(self, topic: str, message: Any, *, stamp: int, arrival: int) -> None:
        """Take ``message``, published at ``stamp`` and to be received at ``arrival`` (ns since the epoch)."""


class Flight:
    """The mission from the first leg to the stop on the runway, one 5 ms step at a time."""

    def __init__(self, seed: int, outlet: Outlet) -> None:
        self._outlet = outlet
        self._latency = Random(seed + 1)
        self._sensors = Sensors(seed)
        self._plane = Plane(
            seed=seed, east=-1500.0, north=2360.0, up=112.0, course=math.radians(88), airspeed=SURVEY_SPEED
        )
        self._plane.set_wind(east=2.0, north=-1.0, turbulence=5.0)
        self._vehicle = Vehicle(self._publish_state)
        self._incidents = list(INCIDENTS)
        self._leg = 0
        self._airspeed = SURVEY_SPEED
        self._outside = False
        self._stopped: float | None = None

    def steps(self) -> Iterator[int]:
        """Fly until five seconds after the plane is disarmed; yields the time (ns) after each step."""
        step = 0
        while self._stopped is None or step < (self._stopped + 5.0) * STEPS_PER_SECOND:
            seconds, now = step / STEPS_PER_SECOND, START + step * STEP
            state = self._plane.state()
            self._record(state, seconds, now)
            self._narrate(state, seconds, now)
            self._vehicle.step(now)
            self._control(state, seconds)
            yield now
            step += 1

    def _publish_state(self, topic: str, message: Any, now: int) -> None:
        self._outlet.add(topic, message, stamp=now, arrival=now + MILLISECOND)

    def _record(self, state: State, seconds: float, now: int) -> None:
        for topic, (rate, latency) in SENSOR_RATES.items():
            if (now - START) % (1_000_000_000 // rate):
                continue
            message = self._measure(topic, state, seconds, now)
            arrival = now + latency + int(self._latency.random() * 32) * JITTER
            if topic == "/odom":
                if RADIO_DROPOUT[0] <= seconds < RADIO_DROPOUT[1]:
                    continue
                arrival += LATE_ODOMETRY.get(seconds, 0)
            self._outlet.add(topic, message, stamp=now, arrival=arrival)

    def _measure(self, topic: str, state: State, seconds: float, now: int) -> Any:
        if topic == "/imu":
            return self._sensors.imu(state, now)
        if topic == "/odom":
            return self._sensors.odometry(state, now)
        if topic == "/fix":
            return self._sensors.fix(state, now)
        if topic == "/fix_velocity":
            return self._sensors.fix_velocity(state, now)
        if topic == "/battery":
            return self._sensors.battery(state, now, seconds)
        fault = next(((name, seconds - since) for name, since in reversed(PITOT_FAULT) if seconds >= since), None)
        self._airspeed = self._sensors.airspeed(state, fault)
        return self._sensors.airspeed_message(self._airspeed, now)

    def _narrate(self, state: State, seconds: float, now: int) -> None:
        """Announce what is due by time, and what the flight itself brings about: fence, landing, disarming."""
        while self._incidents and seconds >= self._incidents[0].seconds:
            self._vehicle.announce(now, self._incidents.pop(0))
        if state.east > FENCE_EAST and not self._outside:
            self._outside = True
            self._vehicle.announce(now, Incident(seconds, "Geofence breached"))
        if self._vehicle.mode == "AUTO_RTL" and self._on_final(state):
            self._vehicle.announce(now, Incident(seconds, intention="AUTO_LAND", mode="AUTO_LAND"))
        if self._stopped is None and state.on_ground and state.ground_speed < 0.5:
            self._stopped = seconds
            self._vehicle.disarm(now)

    def _on_final(self, state: State) -> bool:
        return self._leg == len(LEGS) + 1 and abs(wrap(state.course - math.pi / 2)) < math.radians(20)

    def _control(self, state: State, seconds: float) -> None:
        runway_course = math.pi / 2
        if state.on_ground:
            self._plane.roll_out(state, runway_course)
        elif self._vehicle.mode == "AUTO_LAND" and state.up < 7.0:
            self._plane.flare(state, runway_course, sink=0.6)
        else:
            # An autopilot whose pitot reads NaN falls back on speed over ground; a frozen or sinking one it believes.
            measured = state.ground_speed if math.isnan(self._airspeed) else self._airspeed
            self._plane.fly(state, self._targets(state, seconds), measured)

    def _targets(self, state: State, seconds: float) -> Targets:
        mode = self._vehicle.mode
        if mode == "AUTO_LAND":
            glide = math.tan(math.radians(4.5)) * max(0.0, -line_progress(state, *RUNWAY))
            return Targets(line_course(state, *RUNWAY), glide, 33.0, flaps=1.0, max_sink=4.0)
        if mode == "AUTO_RTL":
            return self._return_targets(state)
        if self._leg < len(LEGS) and line_progress(state, *LEGS[self._leg]) > _length(LEGS[self._leg]):
            self._leg += 1
        leg = LEGS[min(self._leg, len(LEGS) - 1)]
        targets = Targets(line_course(state, *leg), SURVEY_HEIGHT, SURVEY_SPEED)
        if mode == "MANUAL":  # a pilot follows the line less closely than an autopilot
            wander = math.sin(0.9 * seconds)
            return replace(targets, course=targets.course + 0.06 * wander, up=SURVEY_HEIGHT - 6.0 + 4.0 * wander)
        return targets

    def _return_targets(self, state: State) -> Targets:
        """Fly west past home at 70 m, then turn left onto the line of the runway."""
        self._leg = max(self._leg, len(LEGS))
        if self._leg == len(LEGS) and line_progress(state, *RETURN_LEG) > _length(RETURN_LEG):
            self._leg += 1
        line = RETURN_LEG if self._leg == len(LEGS) else RUNWAY
        return Targets(line_course(state, *line), 70.0, 40.0)


def _length(line: tuple[Point, Point]) -> float:
    return math.dist(*line)


def fly(path: Path, seed: int) -> None:
    """Fly the mission with ``seed`` and write the recording to ``path``."""
    from recording import Recording

    recording = Recording()
    for _ in Flight(seed, recording).steps():
        pass
    tools = {name: version(name) for name in ("jsbsim", "mcap", "rosbags", "zstandard")}
    recording.write(path, {"name": "survey_flight", "seed": str(seed), **tools})


def main() -> None:
    """Command line: where to write, and the seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="MCAP file to write")
    parser.add_argument(
        "--seed", type=int, default=7, help="seed of turbulence, sensor noise and latencies (default 7)"
    )
    arguments = parser.parse_args()
    fly(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
