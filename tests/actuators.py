"""A simulated vehicle: a response of second order to a command that a pilot moves, and faults of its actuator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from edge_replay.arx import Inputs

RATE = 50
PERIOD = 10**9 // RATE
NOISE = 0.03
FAULTS = ("loss", "stuck", "bias")


def drive(n: int, seed: int, fault: str = "", onset: int = 0) -> Inputs:
    """``n`` samples of yaw rate and rudder; from ``onset`` on the rudder has lost 30 % of its effect (``loss``), stays
    where it is (``stuck``), or is off by 0.3 of the command's deviation (``bias``)."""
    rng = np.random.default_rng(seed)
    command = lfilter([np.sqrt(1 - 0.99**2)], [1, -0.99], rng.normal(size=n)) + 0.05 * rng.normal(size=n)
    rudder = command.copy()
    if fault == "loss":
        rudder[onset:] *= 0.7
    elif fault == "stuck":
        rudder[onset:] = rudder[onset - 1]
    elif fault == "bias":
        rudder[onset:] += 0.3
    pushed = lfilter([0, 0, 0.08, 0.04], [1], rudder) + NOISE * rng.normal(size=n)
    response = lfilter([1], [1, -1.5, 0.6], pushed)
    return Inputs(f"r{seed}", f"{seed:064x}", np.arange(n, dtype=np.int64) * PERIOD, response, None, command[:, None])


def write(path: Path, one: Inputs) -> Path:
    """The recording as JSONL: the command 5 ms before each sample of the response."""
    with path.open("w") as file:
        for t, y, u in zip(one.t.tolist(), one.x.tolist(), one.u[:, 0].tolist(), strict=True):
            file.write(json.dumps({"t_ns": t + 10**9 - 5_000_000, "topic": "/rudder", "value": u}) + "\n")
            file.write(json.dumps({"t_ns": t + 10**9, "topic": "/imu", "yaw": y}) + "\n")
    return path
