"""Draws the figures of docs/checks from data that the monitor's own code makes: `make plots`.

The numbers come from generated streams and pictures, and carry their SHA-256 into the SVG: a test makes them again and
compares, so that no figure shows what the code no longer does.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent / "checks"
Series = Mapping[str, np.ndarray]

RATE, SHIFT_AT, LENGTH = 100, 60, 120  #: Hz, s, s of the drift figure
PERIOD = 50_000_000  #: ns between two pictures
#: What happens to the generated camera, each from and to a second.
FAULTS = {"darkened": (2, 4), "blurred": (5, 7), "frozen": (8, 10), "covered": (11, 13)}


def ar1(n: int, phi: float, seed: int) -> np.ndarray:
    """An autoregression of order 1 with deviation 1."""
    noise = np.random.default_rng(seed).standard_normal(n) * (1 - phi * phi) ** 0.5
    x = np.empty(n)
    x[0] = noise[0] / (1 - phi * phi) ** 0.5
    for i in range(1, n):
        x[i] = phi * x[i - 1] + noise[i]
    return x


def drift() -> Series:
    """Statistics and thresholds of the e-detector and the whitened CUSUM on one stream, with one reference."""
    from edge_monitor.core.drift import pipeline
    from edge_replay.calibrate import Request, calibrate
    from edge_replay.series import Series as Recording

    def recording(seed: int) -> Recording:
        n = 1200 * RATE
        return Recording(f"{seed}", "", np.arange(n) * (10**9 // RATE), ar1(n, 0.95, seed))

    reference = calibrate([recording(seed) for seed in (1, 2, 3)], Request("x", 36_000.0))
    x = ar1(LENGTH * RATE, 0.95, 4)
    x[SHIFT_AT * RATE :] += 1.0
    t = np.arange(len(x)) / RATE
    found: dict[str, np.ndarray] = {"t": t[::20], "x": x[::20]}
    for name in ("edetector", "cusum"):
        table = np.array(reference.table(name))
        statistic, alarm = np.empty((1, len(x))), np.empty((1, len(x)), np.uint8)
        pipeline.pipeline_many(x[None], table, np.zeros(pipeline.pool_size(table)), statistic, alarm)
        ends = np.flatnonzero(~np.isnan(statistic[0]))
        alarms = np.flatnonzero(alarm[0])
        if name == "cusum":
            ends = np.union1d(ends[::20], alarms)
        value = statistic[0][ends]
        found |= {
            f"{name}_t": t[ends],
            f"{name}": np.log10(np.maximum(value, 1e-3)) if name == "edetector" else value,
            f"{name}_alarms": t[alarms],
        }
        threshold = float(reference.header["detectors"][name]["threshold"])
        found[f"{name}_threshold"] = np.array([np.log10(threshold) if name == "edetector" else threshold])
    return found


FORMULA, AGE_MS = "historically[0 s, 2 s](speed <= 1)", 300


def formula() -> Series:
    """A formula's robustness interval while samples are missing, and after a sample that violates it."""
    from edge_monitor.core.check_spec import CheckSpec
    from edge_monitor.core.engine import Engine
    from edge_monitor.core.plan import Plan
    from edge_monitor.core.samples import FLAG_END, SAMPLE
    from edge_monitor.core.signals import Signal
    from edge_monitor.envelope.formulas import parse_formula

    ms = 1_000_000
    signal = Signal("speed", "/odom", max_age=AGE_MS * ms)
    term = parse_formula(FORMULA, {"speed": signal}).term
    engine = Engine(Plan.build([signal], [CheckSpec("f", "formula", ("speed",), {"pointwise": 0.0}, formula=term)]))
    root = int(engine.plan.checks[0]["node_start"] + engine.plan.checks[0]["node_len"]) - 1
    t, speed, lows, highs = [], [], [], []
    for k in range(0, 14_000, 50):
        value = 0.55 + 0.2 * np.sin(k / 900.0) + (0.7 if 10_000 <= k < 10_400 else 0.0)
        known = k % 100 == 0 and not 4_000 < k < 6_000
        if known:
            engine.advance(np.array([(k * ms, 0, FLAG_END, value)], SAMPLE))
        engine.advance(until=k * ms + 1)
        state = engine.memory.node_states[root]  # what a formula's node holds is nobody else's business
        t.append(k / 1000)
        speed.append(value if known else np.nan)
        lows.append(float(state["lo"]))
        highs.append(float(state["hi"]))
    return {"t": np.array(t), "speed": np.array(speed), "lo": np.array(lows), "hi": np.array(highs)}


def picture(k: int) -> np.ndarray:
    """A textured scene that moves, with a sensor's noise; ``(72, 96)`` uint8."""
    scene = np.random.default_rng(7).integers(0, 256, (18, 64)).repeat(4, 0).repeat(4, 1)
    at = k % 120
    noise = np.random.default_rng(1000 + k).integers(-4, 5, (72, 96))
    return np.clip(scene[:, at : at + 96] * 0.7 + 30 + noise, 0, 255).astype(np.uint8)


def blurred(frame: np.ndarray) -> np.ndarray:
    """The mean of 5 x 5 pixels."""
    padded = np.pad(frame.astype(np.int64), 2, mode="edge")
    total = sum(padded[i : i + 72, j : j + 96] for i in range(5) for j in range(5))
    return (np.asarray(total) // 25).astype(np.uint8)


def camera() -> Series:
    """Statistics of a generated camera that is spoiled in four ways, against a reference of its healthy frames."""
    from edge_monitor.core.perception.image import NAMES, ImageOptions, ImageReference, ImageStatistics

    healthy = ImageStatistics(ImageOptions(cell=8))
    values, energies = [], []
    for k in range(100):
        healthy.frame(k * PERIOD, picture(k), "mono8")
        values.append(healthy.values.copy())
        energies.append(healthy.energy)
    reference = ImageReference.fit(96, 72, np.array(values[1:]), np.array(energies[1:]))
    eye = ImageStatistics(ImageOptions(cell=8, reference=reference, quiet_for=300_000_000))
    wanted = ("luminance_ratio", "sharpness_ratio", "occluded", "still_frames")
    times, rows = [], []
    for k in range(14 * 20):
        t = k / 20
        frame = picture(100 + k)
        for fault, (start, end) in FAULTS.items():
            if not start <= t < end:
                continue
            if fault == "darkened":
                frame = (frame * 0.25).astype(np.uint8)
            elif fault == "blurred":
                frame = blurred(frame)
            elif fault == "frozen":
                frame = picture(100 + start * 20 - 1)
            else:
                frame = frame.copy()
                frame[24:, 40:] = 20
        eye.frame(k * PERIOD, frame, "mono8")
        times.append(t)
        rows.append([eye.values[NAMES.index(name)] for name in wanted])
    return {"t": np.array(times), **dict(zip(wanted, np.array(rows).T, strict=True))}


def digest(series: Series) -> str:
    """Hex SHA-256 of the numbers of a figure, to six decimals: the last bits of libm are nobody's."""
    found = hashlib.sha256()
    for name in sorted(series):
        found.update(name.encode() + b"\0" + (np.round(series[name], 6) + 0.0).astype("<f8").tobytes())
    return found.hexdigest()


def draw_drift(axes: Any, data: Series) -> None:
    """The stream, and both statistics with their thresholds."""
    stream, evidence, fast = axes
    stream.plot(data["t"], data["x"], color="0.4", linewidth=0.6)
    stream.set_ylabel("signal, σ")
    evidence.step(data["edetector_t"], data["edetector"], where="post")
    evidence.set_ylabel("edetector\nlog₁₀ evidence")
    fast.plot(data["cusum_t"], data["cusum"], linewidth=0.8)
    fast.set_ylabel("cusum")
    fast.set_xlabel("s")
    for axis, name in ((evidence, "edetector"), (fast, "cusum")):
        axis.axhline(float(data[f"{name}_threshold"][0]), linestyle="--", color="C3", linewidth=0.8)
        for alarm in data[f"{name}_alarms"][:1]:
            axis.axvline(alarm, color="C3", linewidth=0.8)
            axis.annotate(f"alarm after {alarm - SHIFT_AT:.1f} s", (alarm, 0.5), xycoords=("data", "axes fraction"))
    for axis in axes:
        axis.axvline(SHIFT_AT, color="0.6", linewidth=0.8, linestyle=":")


def draw_formula(axes: Any, data: Series) -> None:
    """The samples, and the interval in which the robustness lies."""
    samples, interval = axes
    samples.plot(data["t"], data["speed"], ".", markersize=3, color="0.3")
    samples.axhline(1.0, linestyle="--", color="C3", linewidth=0.8)
    samples.set_ylabel("speed")
    low, high = np.maximum(data["lo"], -1.0), np.minimum(data["hi"], 1.0)
    interval.fill_between(data["t"], low, high, step="post", alpha=0.35)
    interval.step(data["t"], high, where="post", linewidth=0.8)
    interval.step(data["t"], low, where="post", linewidth=0.8)
    interval.axhline(0.0, color="C3", linestyle="--", linewidth=0.8)
    interval.set_ylim(-1, 1)
    interval.set_ylabel("robustness")
    interval.set_xlabel("s")


def draw_camera(axes: Any, data: Series) -> None:
    """Each statistic with its limit, the faults shaded."""
    limits = {"luminance_ratio": 0.45, "sharpness_ratio": 0.3, "occluded": 0.15, "still_frames": 4.0}
    for axis, (name, limit) in zip(axes, limits.items(), strict=True):
        axis.step(data["t"], data[name], where="post", linewidth=0.9)
        axis.axhline(limit, linestyle="--", color="C3", linewidth=0.8)
        axis.set_ylabel(name.replace("_", "\n"))
        for start, end in FAULTS.values():
            axis.axvspan(start, end, color="0.9", zorder=0)
    for fault, (start, end) in FAULTS.items():
        axes[0].set_title("")
        axes[0].annotate(fault, ((start + end) / 2, 1.04), xycoords=("data", "axes fraction"), ha="center")
    axes[-1].set_xlabel("s")


Draw = Callable[[Any, Series], None]
#: Figures by the name of their file: how their numbers are made, how many axes they have, how they are drawn.
FIGURES: dict[str, tuple[Callable[[], Series], int, Draw]] = {
    "drift.svg": (drift, 3, draw_drift),
    "robustness.svg": (formula, 2, draw_formula),
    "camera.svg": (camera, 4, draw_camera),
}


def main() -> None:
    """Draw every figure anew."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({
        "svg.hashsalt": "edge-monitor", "svg.fonttype": "none", "font.size": 8, "axes.spines.top": False,
        "axes.spines.right": False, "path.simplify_threshold": 0.5,
    })  # fmt: skip
    from matplotlib import pyplot

    for name, (make, count, draw) in FIGURES.items():
        data = make()
        figure, axes = pyplot.subplots(count, 1, sharex=True, figsize=(7, 1.2 * count + 0.5), layout="constrained")
        draw(axes, data)
        about = {"Date": None, "Creator": "docs/plots.py", "Description": f"series sha256 {digest(data)}"}
        figure.savefig(FOLDER / name, metadata=about)
        pyplot.close(figure)
        print(f"drew docs/checks/{name}")


if __name__ == "__main__":
    main()
    sys.exit(0)
