"""Sensors of the survey plane: simulator state to ROS 2 messages, with noise, resolution and the airspeed fault.

Inertial and odometry values are rounded to a power-of-two step, as the converter of a real sensor does. It keeps the
recording small, and makes it the same on machines whose C library rounds the last bit of a sine differently.
"""

from __future__ import annotations

import math
from random import Random
from typing import Any

import numpy as np
from plane import HOME_ALTITUDE, State
from rosbags.typesys import Stores, get_typestore

TYPES = get_typestore(Stores.ROS2_JAZZY)

_NANOSECONDS = 1_000_000_000
_KNOWN_DIAGONAL = 2  # NavSatFix.COVARIANCE_TYPE_DIAGONAL_KNOWN
_DISCHARGING, _HEALTH_GOOD, _LITHIUM_POLYMER = 2, 1, 3  # BatteryState constants


def make(name: str, **fields: Any) -> Any:
    """A message of type ``name`` (``pkg/msg/Name``) with these fields."""
    return TYPES.types[name](**fields)


def text(value: str) -> Any:
    """``std_msgs/msg/String``."""
    return make("std_msgs/msg/String", data=value)


def flag(value: bool) -> Any:
    """``std_msgs/msg/Bool``."""
    return make("std_msgs/msg/Bool", data=value)


def _header(stamp: int, frame: str) -> Any:
    time = make("builtin_interfaces/msg/Time", sec=stamp // _NANOSECONDS, nanosec=stamp % _NANOSECONDS)
    return make("std_msgs/msg/Header", stamp=time, frame_id=frame)


def _vector(values: tuple[float, float, float]) -> Any:
    return make("geometry_msgs/msg/Vector3", x=values[0], y=values[1], z=values[2])


def _diagonal(*values: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.diag(np.array(values, dtype=np.float64)).ravel()


class Sensors:
    """Every sensor of the plane; all noise comes from one seeded generator, drawn in the order of the calls."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._frozen = math.nan

    def _noisy(self, values: tuple[float, float, float], sigma: float, bits: int) -> tuple[float, float, float]:
        """``values`` with white noise, rounded to multiples of 2^-bits."""
        scale = 2.0**bits
        x, y, z = (round((value + self._random.gauss(0.0, sigma)) * scale) / scale for value in values)
        return x, y, z

    def imu(self, state: State, stamp: int) -> Any:
        """``sensor_msgs/msg/Imu``: rates (rad/s) and specific force (m/s²) in forward-left-up; no orientation."""
        return make(
            "sensor_msgs/msg/Imu",
            header=_header(stamp, "imu"),
            orientation=make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
            orientation_covariance=np.array([-1.0] + [0.0] * 8),  # REP 145: no orientation estimate
            angular_velocity=_vector(self._noisy(state.rates, 0.003, 11)),
            angular_velocity_covariance=_diagonal(9e-6, 9e-6, 9e-6),
            linear_acceleration=_vector(self._noisy(state.specific_force, 0.05, 8)),
            linear_acceleration_covariance=_diagonal(2.5e-3, 2.5e-3, 2.5e-3),
        )

    def odometry(self, state: State, stamp: int) -> Any:
        """``nav_msgs/msg/Odometry``: pose in east-north-up from home, twist in the plane's forward-left-up frame."""
        x, y, z = self._noisy((state.east, state.north, state.up), 0.05, 6)
        scale = 2.0**13
        qx, qy, qz, qw = (round(value * scale) / scale for value in _orientation(state))
        return make(
            "nav_msgs/msg/Odometry",
            header=_header(stamp, "map"),
            child_frame_id="base_link",
            pose=make(
                "geometry_msgs/msg/PoseWithCovariance",
                pose=make(
                    "geometry_msgs/msg/Pose",
                    position=make("geometry_msgs/msg/Point", x=x, y=y, z=z),
                    orientation=make("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
                ),
                covariance=_diagonal(0.25, 0.25, 0.5, 1e-4, 1e-4, 4e-4),
            ),
            twist=make(
                "geometry_msgs/msg/TwistWithCovariance",
                twist=make(
                    "geometry_msgs/msg/Twist",
                    linear=_vector(self._noisy(state.body_velocity, 0.02, 7)),
                    angular=_vector(self._noisy(state.rates, 0.001, 11)),
                ),
                covariance=_diagonal(0.01, 0.01, 0.01, 1e-4, 1e-4, 1e-4),
            ),
        )

    def fix(self, state: State, stamp: int) -> Any:
        """``sensor_msgs/msg/NavSatFix`` in steps of 1e-7 deg and 1 mm, as GNSS receivers report them."""
        east, north, up = (self._random.gauss(0.0, sigma) for sigma in (0.3, 0.3, 0.6))
        return make(
            "sensor_msgs/msg/NavSatFix",
            header=_header(stamp, "gnss"),
            status=make("sensor_msgs/msg/NavSatStatus", status=0, service=1),
            latitude=round(state.latitude + north * 9.0e-6, 7),
            longitude=round(state.longitude + east * 1.32e-5, 7),
            altitude=round(HOME_ALTITUDE + state.up + up, 3),
            position_covariance=_diagonal(0.36, 0.36, 1.44),
            position_covariance_type=_KNOWN_DIAGONAL,
        )

    def fix_velocity(self, state: State, stamp: int) -> Any:
        """``geometry_msgs/msg/TwistWithCovarianceStamped``: the receiver's velocity in east-north-up, m/s."""
        return make(
            "geometry_msgs/msg/TwistWithCovarianceStamped",
            header=_header(stamp, "gnss"),
            twist=make(
                "geometry_msgs/msg/TwistWithCovariance",
                twist=make(
                    "geometry_msgs/msg/Twist",
                    linear=_vector(self._noisy(state.velocity, 0.05, 8)),
                    angular=_vector((0.0, 0.0, 0.0)),
                ),
                covariance=_diagonal(0.01, 0.01, 0.04, -1.0, -1.0, -1.0),
            ),
        )

    def airspeed(self, state: State, fault: tuple[str, float] | None) -> float:
        """Pitot reading in m/s, in steps of 2^-6. ``fault``: its name and how long (s) it has lasted.

        ``frozen`` repeats the last reading before the fault; ``leaking`` sinks from there by 2 m/s a second, as a
        blocked tube with an open drain does; ``invalid`` is NaN.
        """
        name, age = fault or ("", 0.0)
        if name == "invalid":
            return math.nan
        if name == "leaking":
            return round((self._frozen - 2.0 * age) * 64) / 64
        if name != "frozen":
            self._frozen = round((state.airspeed + self._random.gauss(0.0, 0.25)) * 64) / 64
        return self._frozen

    def battery(self, state: State, stamp: int, seconds: float) -> Any:
        """``sensor_msgs/msg/BatteryState`` of the avionics pack: 88 % at the start, 1 % less every 20 s."""
        charge = 0.88 - seconds / 2000.0
        current = round(-(6.0 + 2.0 * state.throttle + self._random.gauss(0.0, 0.2)), 1)
        return make(
            "sensor_msgs/msg/BatteryState",
            header=_header(stamp, "battery"),
            voltage=round(21.0 + 4.0 * charge + 0.05 * current, 2),
            temperature=31.0,
            current=current,
            charge=round(charge * 22.0, 2),
            capacity=22.0,
            design_capacity=22.0,
            percentage=round(charge, 3),
            power_supply_status=_DISCHARGING,
            power_supply_health=_HEALTH_GOOD,
            power_supply_technology=_LITHIUM_POLYMER,
            present=True,
            cell_voltage=np.array([], dtype=np.float32),
            cell_temperature=np.array([], dtype=np.float32),
            location="avionics",
            serial_number="",
        )

    def airspeed_message(self, value: float, stamp: int) -> Any:
        """``geometry_msgs/msg/TwistStamped`` with the pitot reading (m/s) in ``twist.linear.x``."""
        return make(
            "geometry_msgs/msg/TwistStamped",
            header=_header(stamp, "pitot"),
            twist=make("geometry_msgs/msg/Twist", linear=_vector((value, 0.0, 0.0)), angular=_vector((0.0, 0.0, 0.0))),
        )


def _orientation(state: State) -> tuple[float, float, float, float]:
    """Quaternion (x, y, z, w) from forward-left-up to east-north-up, REP 103."""
    yaw, pitch = math.pi / 2 - state.heading, -state.pitch
    cr, sr = math.cos(state.roll / 2), math.sin(state.roll / 2)
    cp, sp = math.cos(pitch / 2), math.sin(pitch / 2)
    cy, sy = math.cos(yaw / 2), math.sin(yaw / 2)
    return (
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
        cr * cp * cy + sr * sp * sy,
    )
