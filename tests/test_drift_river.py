"""Equality with river: stored vectors on every machine, and the library itself where it is installed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_monitor.core.drift import adwin, compat

VECTORS = Path(__file__).resolve().parent / "vectors" / "river_drift.json"
STREAMS = 64


def stream(seed: int, n: int) -> np.ndarray:
    """One of four kinds at one of 13 scales, by integers and IEEE arithmetic alone, so that it is the same everywhere."""
    rng = np.random.Generator(np.random.PCG64(seed))
    uniform = rng.integers(0, 1 << 53, (12, n)) / (1 << 53)
    x = uniform.sum(axis=0) - 6  # nearly normal
    kind = seed % 4
    if kind == 1:
        x = (uniform[0] < 0.3).astype(np.float64)
    elif kind == 2:
        for i in range(1, n):
            x[i] = 0.95 * x[i - 1] + x[i]
    elif kind == 3:
        x = x + np.arange(n) * 2.0**-10
    scale = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6)[seed % 13]
    x[n // 2 : n // 2 + n // 4] += seed % 3
    return np.asarray(x * scale)


def adwin_settings(seed: int) -> dict[str, Any]:
    """Varied parameters."""
    return {
        "delta": (0.002, 0.05, 0.3, 1e-4)[seed % 4],
        "clock": (1, 8, 32)[seed % 3],
        "max_buckets": 2 + seed % 6,
        "min_window_length": 1 + seed % 7,
        "grace_period": 5 + seed % 20,
    }


def page_hinkley_settings(seed: int) -> dict[str, Any]:
    """Varied parameters; thresholds in proportion to the stream's size."""
    return {
        "min_instances": 10 + seed % 50,
        "delta": (0.005, 0.0, 0.1)[seed % 3],
        "threshold": float(np.abs(stream(seed, 100)).max()) * (3 + seed % 10),
        "alpha": (1 - 0.0001, 0.99, 1.0)[seed % 3],
        "mode": ("up", "down", "both")[seed % 3],
    }


def kswin_settings(seed: int) -> dict[str, Any]:
    """Varied parameters, also some for which CPython draws in its other way."""
    window, size = ((100, 30), (60, 20), (400, 30), (50, 5))[seed % 4]
    return {"alpha": (0.005, 0.05, 0.0001)[seed % 3], "window_size": window, "stat_size": size, "seed": seed * 7919}


def ours_adwin(x: np.ndarray, settings: dict[str, Any]) -> tuple[list[int], list[tuple[float, float, float]]]:
    """Alarms, and width, total and variance after every 50 values."""
    names = {"min_window_length": "min_window", "grace_period": "grace"}
    params = np.array(adwin.adwin_params(**{names.get(k, k): v for k, v in settings.items()}))
    state = np.zeros(adwin.adwin_state(settings["max_buckets"]))
    alarms, windows = [], []
    for start in range(0, len(x), 50):
        piece = x[None, start : start + 50].copy()
        alarm = np.zeros(piece.shape, np.uint8)
        adwin.adwin_many(piece, params, state, np.empty(piece.shape), alarm)
        alarms += (np.flatnonzero(alarm[0]) + start).tolist()
        windows.append((float(state[adwin.WIDTH]), float(state[adwin.TOTAL]), float(state[adwin.VARIANCE])))
    return alarms, windows


def ours(name: str, x: np.ndarray, settings: dict[str, Any]) -> list[int]:
    """Indices of alarms of Page-Hinkley or KSWIN."""
    alarm = np.zeros((1, len(x)), np.uint8)
    if name == "page_hinkley":
        mode = ("up", "down", "both").index(settings["mode"])
        params = np.array(compat.page_hinkley_params(**(settings | {"mode": mode})))
        compat.page_hinkley_many(x[None], params, np.zeros(compat.PAGE_HINKLEY_STATE), np.empty((1, len(x))), alarm)
    else:
        window, size = settings["window_size"], settings["stat_size"]
        params = np.array(compat.kswin_params(settings["alpha"], window, size, settings["seed"]))
        compat.kswin_many(x[None], params, np.zeros(compat.kswin_state(window, size)), np.empty((1, len(x))), alarm)
    return np.flatnonzero(alarm[0]).tolist()


def digest(windows: list[tuple[float, float, float]]) -> str:
    """Of the bits of all figures."""
    return hashlib.sha256(np.array(windows).tobytes()).hexdigest()


def test_stored_vectors() -> None:
    """ADWIN (64 streams), Page-Hinkley (40) and KSWIN (8) give the alarms, and ADWIN the bits, that river 0.26.1 gave."""
    vectors = json.loads(VECTORS.read_text())
    assert len(vectors["adwin"]) == STREAMS
    for seed, expected in enumerate(vectors["adwin"]):
        alarms, windows = ours_adwin(stream(seed, 2000), adwin_settings(seed))
        assert (alarms, digest(windows)) == (expected["alarms"], expected["windows"]), seed
    for name, settings, n in (("page_hinkley", page_hinkley_settings, 2000), ("kswin", kswin_settings, 900)):
        for seed, expected in enumerate(vectors[name]):
            assert ours(name, stream(seed, n), settings(seed)) == expected, (name, seed)
    assert sum(len(one["alarms"]) for one in vectors["adwin"]) > 100
    assert sum(map(len, vectors["page_hinkley"])) > 100
    assert sum(map(len, vectors["kswin"])) > 10


def rivers() -> dict[str, Any]:
    """What the installed river gives for the same streams."""
    drift = pytest.importorskip("river.drift", reason="river is not installed: the stored vectors stand for it")
    found: dict[str, Any] = {"adwin": [], "page_hinkley": [], "kswin": []}
    for seed in range(STREAMS):
        detector, alarms, windows = drift.ADWIN(**adwin_settings(seed)), [], []
        for i, value in enumerate(stream(seed, 2000).tolist()):
            detector.update(value)
            if detector.drift_detected:
                alarms.append(i)
            if i % 50 == 49:
                windows.append((float(detector.width), float(detector.total), float(detector.variance)))
        found["adwin"].append({"alarms": alarms, "windows": digest(windows)})
    for name, make, settings, streams, n in (
        ("page_hinkley", drift.PageHinkley, page_hinkley_settings, 40, 2000),
        ("kswin", drift.KSWIN, kswin_settings, 8, 900),
    ):
        for seed in range(streams):
            detector, alarms = make(**settings(seed)), []
            for i, value in enumerate(stream(seed, n).tolist()):
                detector.update(value)
                if detector.drift_detected:
                    alarms.append(i)
            found[name].append(alarms)
    return found


def test_live_river() -> None:
    """The installed river gives what the vectors hold, and so what ours give."""
    assert rivers() == json.loads(VECTORS.read_text())


def test_one_nan_disables_river_and_not_ours() -> None:
    """After one NaN river's ADWIN and Page-Hinkley miss a shift of eight deviations for good; ours find it."""
    drift = pytest.importorskip("river.drift", reason="river is not installed")
    x = np.random.default_rng(1).normal(size=1600)
    x[200] = np.nan
    x[1000:] += 8
    for name, make in (("adwin", drift.ADWIN), ("page_hinkley", drift.PageHinkley)):
        detector, found = make(), False
        for value in x.tolist():
            detector.update(value)
            found |= detector.drift_detected
        assert not found
        if name == "adwin":
            alarm = np.zeros((1, 1600), np.uint8)
            params, state = np.array(adwin.adwin_params()), np.zeros(adwin.adwin_state())
            adwin.adwin_many(x[None], params, state, np.empty((1, 1600)), alarm)
            assert alarm[0, 1000:].any()
        else:
            settings = {"min_instances": 30, "delta": 0.005, "threshold": 50.0, "alpha": 1 - 0.0001, "mode": "both"}
            assert any(i >= 1000 for i in ours(name, x, settings))


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(rivers(), separators=(",", ":")) + "\n")
