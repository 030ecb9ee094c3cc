"""A small survey plane: JSBSim's Cessna 172 in SI units and a local east-north-up frame, with simple hold loops.

The loops are textbook cascades (course to bank to aileron, altitude to climb rate to pitch to elevator, airspeed to
throttle), good enough to fly a survey in turbulence and to land on a flat field. They are no model of any product.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import jsbsim

STEPS_PER_SECOND = 200
STEP = 1.0 / STEPS_PER_SECOND
FOOT = 0.3048
KNOT = 1852.0 / 3600.0
GRAVITY = 9.80665
EARTH_RADIUS = 6_371_000.0

HOME_LATITUDE = 47.0  # deg
HOME_LONGITUDE = 8.0  # deg
HOME_ALTITUDE = 430.0  # m above the ellipsoid; the field is flat

_METRES_PER_DEGREE = math.radians(1.0) * EARTH_RADIUS
_TURBULENCE_TUSTIN = 4


@dataclass(frozen=True, slots=True)
class State:
    """What the simulator knows, once per step. Positions are east-north-up from home (m), angles in rad."""

    latitude: float  # deg
    longitude: float  # deg
    east: float
    north: float
    up: float
    velocity: tuple[float, float, float]  # east, north, up, m/s
    body_velocity: tuple[float, float, float]  # forward, left, up, m/s
    roll: float
    pitch: float  # nose up positive
    heading: float  # clockwise from north
    rates: tuple[float, float, float]  # about forward, left, up, rad/s
    specific_force: tuple[float, float, float]  # along forward, left, up, m/s²
    airspeed: float  # m/s, calibrated
    throttle: float  # 0…1
    on_ground: bool

    @property
    def ground_speed(self) -> float:
        """Horizontal speed over ground, m/s."""
        return math.hypot(self.velocity[0], self.velocity[1])

    @property
    def course(self) -> float:
        """Direction of travel over ground, rad clockwise from north."""
        return math.atan2(self.velocity[0], self.velocity[1])


@dataclass(frozen=True, slots=True)
class Targets:
    """What the loops hold: course (rad clockwise from north), height above home (m), airspeed (m/s), flaps (0…1)."""

    course: float
    up: float
    airspeed: float
    flaps: float = 0.0
    max_sink: float = 3.0  # m/s
    max_bank: float = math.radians(30.0)


def wrap(angle: float) -> float:
    """``angle`` (rad) brought into -pi … pi."""
    return math.remainder(angle, 2.0 * math.pi)


def clamp(value: float, low: float, high: float) -> float:
    """``value`` limited to ``low … high``."""
    return min(max(value, low), high)


def line_course(state: State, start: tuple[float, float], end: tuple[float, float], capture: float = 250.0) -> float:
    """Course (rad) that converges on the line ``start → end`` (east, north in m); the intercept angle stays ≤ 60°."""
    along = math.atan2(end[0] - start[0], end[1] - start[1])
    east, north = state.east - start[0], state.north - start[1]
    right_of_line = east * math.cos(along) - north * math.sin(along)
    return along - clamp(math.atan2(right_of_line, capture), -math.pi / 3, math.pi / 3)


def line_progress(state: State, start: tuple[float, float], end: tuple[float, float]) -> float:
    """Metres flown along the line ``start → end``, measured from ``start``."""
    along = math.atan2(end[0] - start[0], end[1] - start[1])
    return (state.east - start[0]) * math.sin(along) + (state.north - start[1]) * math.cos(along)


class Plane:
    """JSBSim's c172p, airborne with the engine running, stepped at 200 Hz. Same arguments, same flight."""

    def __init__(self, *, seed: int, east: float, north: float, up: float, course: float, airspeed: float) -> None:
        os.environ.setdefault("JSBSIM_DEBUG", "0")  # its banner would stand anywhere among the demo's lines
        self._fdm = jsbsim.FGFDMExec(jsbsim.get_default_root_dir())
        self._fdm.set_debug_level(0)
        self._fdm.load_model("c172p")
        self._fdm.set_dt(STEP)
        self._metres_per_degree_east = _METRES_PER_DEGREE * math.cos(math.radians(HOME_LATITUDE))
        for name, value in {
            "simulation/randomseed": seed,
            "atmosphere/randomseed": seed,
            "ic/terrain-elevation-ft": HOME_ALTITUDE / FOOT,
            "ic/lat-geod-deg": HOME_LATITUDE + north / _METRES_PER_DEGREE,
            "ic/long-gc-deg": HOME_LONGITUDE + east / self._metres_per_degree_east,
            "ic/h-agl-ft": up / FOOT,
            "ic/psi-true-deg": math.degrees(course),
            "ic/vc-kts": airspeed / KNOT,
            "propulsion/set-running": -1,
        }.items():
            self._fdm[name] = value
        self._fdm.run_ic()
        self._fdm["fcs/mixture-cmd-norm"] = 0.9
        self._fdm["simulation/do_simple_trim"] = 1
        self._pitch_integral = 0.0
        self._elevator = self._fdm["fcs/elevator-cmd-norm"]
        self._trim_pitch = self._fdm["attitude/theta-rad"]
        self._throttle = self._fdm["fcs/throttle-cmd-norm"]

    def set_wind(self, east: float, north: float, turbulence: float) -> None:
        """Blow a steady wind (m/s, towards east and north) with the turbulence of ``turbulence`` m/s at 6 m height."""
        self._fdm["atmosphere/wind-east-fps"] = east / FOOT
        self._fdm["atmosphere/wind-north-fps"] = north / FOOT
        self._fdm["atmosphere/turb-type"] = _TURBULENCE_TUSTIN if turbulence > 0 else 0
        self._fdm["atmosphere/turbulence/milspec/windspeed_at_20ft_AGL-fps"] = turbulence / FOOT
        # Row of MIL-F-8785C's probability-of-exceedence table: 3 is light to moderate, 0 switches turbulence off.
        self._fdm["atmosphere/turbulence/milspec/severity"] = 3

    def state(self) -> State:
        """The state after the last step."""
        get = self._fdm.get_property_value
        latitude, longitude = get("position/lat-geod-deg"), get("position/long-gc-deg")
        return State(
            latitude=latitude,
            longitude=longitude,
            east=(longitude - HOME_LONGITUDE) * self._metres_per_degree_east,
            north=(latitude - HOME_LATITUDE) * _METRES_PER_DEGREE,
            up=get("position/h-agl-ft") * FOOT,
            velocity=(
                get("velocities/v-east-fps") * FOOT,
                get("velocities/v-north-fps") * FOOT,
                -get("velocities/v-down-fps") * FOOT,
            ),
            body_velocity=(
                get("velocities/u-fps") * FOOT,
                -get("velocities/v-fps") * FOOT,
                -get("velocities/w-fps") * FOOT,
            ),
            roll=get("attitude/phi-rad"),
            pitch=get("attitude/theta-rad"),
            heading=get("attitude/psi-rad"),
            rates=(get("velocities/p-rad_sec"), -get("velocities/q-rad_sec"), -get("velocities/r-rad_sec")),
            specific_force=(
                get("accelerations/Nx") * GRAVITY,
                -get("accelerations/Ny") * GRAVITY,
                get("accelerations/Nz") * GRAVITY,
            ),
            airspeed=get("velocities/vc-kts") * KNOT,
            throttle=get("fcs/throttle-pos-norm"),
            on_ground=get("gear/wow") > 0,
        )

    def fly(self, state: State, targets: Targets, measured_airspeed: float) -> None:
        """Move the controls towards ``targets`` and step once. The throttle believes ``measured_airspeed`` (m/s)."""
        turn = wrap(targets.course - state.course)
        bank = clamp(1.2 * turn, -targets.max_bank, targets.max_bank)
        aileron = 1.2 * (bank - state.roll) - 0.35 * state.rates[0]

        climb_rate = clamp(0.25 * (targets.up - state.up), -targets.max_sink, 2.5)
        climb_error = climb_rate - state.velocity[2]
        self._pitch_integral = clamp(self._pitch_integral + 0.012 * climb_error * STEP, -0.15, 0.15)
        pitch = clamp(self._trim_pitch + 0.03 * climb_error + self._pitch_integral, -0.25, 0.25)
        pitch_error = pitch - state.pitch
        self._elevator = clamp(self._elevator - 0.6 * pitch_error * STEP, -0.7, 0.7)
        elevator = self._elevator - 2.0 * pitch_error - 0.6 * state.rates[1]

        speed_error = targets.airspeed - measured_airspeed
        self._throttle = clamp(self._throttle + 0.02 * speed_error * STEP, 0.0, 1.0)
        throttle = self._throttle + 0.08 * speed_error + 0.06 * climb_rate

        # Positive rudder yaws left here: damp the yaw, and step on the side to which the plane slips.
        rudder = -0.25 * state.rates[2] - 0.3 * state.specific_force[1] / GRAVITY
        self._step(aileron, elevator, rudder, throttle, targets.flaps)

    def flare(self, state: State, course: float, sink: float) -> None:
        """Hold the wings level, idle, and let the plane sink at ``sink`` m/s until it touches down; then step once."""
        aileron = clamp(0.5 * wrap(course - state.course), -0.1, 0.1) - 1.2 * state.roll - 0.35 * state.rates[0]
        pitch = clamp(self._trim_pitch + 0.05 * (-sink - state.velocity[2]) + 0.02, 0.0, 0.14)
        pitch_error = pitch - state.pitch
        self._elevator = clamp(self._elevator - 0.6 * pitch_error * STEP, -0.8, 0.8)
        elevator = self._elevator - 2.0 * pitch_error - 0.6 * state.rates[1]
        self._step(aileron, elevator, -0.25 * state.rates[2], 0.0, 1.0)

    def roll_out(self, state: State, course: float) -> None:
        """Keep straight on the ground and brake; then step once."""
        error = wrap(course - state.heading)
        self._fdm["fcs/steer-cmd-norm"] = clamp(error, -0.2, 0.2)
        for brake in ("left", "right"):
            self._fdm[f"fcs/{brake}-brake-cmd-norm"] = 0.6
        self._step(-1.0 * state.roll, 0.0, clamp(-1.5 * error, -0.3, 0.3), 0.0, 0.0)

    def _step(self, aileron: float, elevator: float, rudder: float, throttle: float, flaps: float) -> None:
        self._fdm["fcs/aileron-cmd-norm"] = clamp(aileron, -1.0, 1.0)
        self._fdm["fcs/elevator-cmd-norm"] = clamp(elevator, -1.0, 1.0)
        self._fdm["fcs/rudder-cmd-norm"] = clamp(rudder, -1.0, 1.0)
        self._fdm["fcs/throttle-cmd-norm"] = clamp(throttle, 0.0, 1.0)
        self._fdm["fcs/flap-cmd-norm"] = flaps
        self._fdm.run()
