"""Reference files: what is written is read back, equal contents are equal bytes, and nothing in a file is trusted."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_monitor import baselines, reference_files
from edge_monitor.baselines import Baseline
from edge_monitor.core.drift import histogram, pipeline
from edge_monitor.errors import ConfigError


def made(modes: int = 2) -> Baseline:
    """A reference with plain numbers."""
    arrays: dict[str, Any] = {name: np.ones((modes, *shape)) for name, shape in baselines.ARRAYS.items()}
    arrays["mode"] = np.arange(modes, dtype=np.float64)
    arrays["order"] = np.full(modes, 2.0)
    arrays["bounds"] = np.full((modes, 3), 0.1)
    arrays["cuts"] = np.tile([1.0, 2.0, 3.0], (modes, 1))
    arrays["edges"] = np.tile(np.arange(histogram.BINS - 1.0), (modes, 1))
    arrays["shares"] = np.full((modes, histogram.BINS), 1 / histogram.BINS)
    header = {
        "format": baselines.FORMAT,
        "signal": "x",
        "unit": "m",
        "mode_signal": "mode" if modes > 1 else "",
        "author": "A. Planner",
        "made_by": "edge-monitor 0",
        "score": "shift",
        "block": 20,
        "period_s": 0.01,
        "gap_s": 0.025,
        "sources": [],
        "calibrated": True,
        "reasons": [],
        "left_out": [],
        "promise": {"interval_s": 36000.0},
        "detectors": {
            "edetector": {"threshold": 1000.0},
            "cusum": {"threshold": 10.0, "k": 0.25},
            "ewma": {"threshold": 4.0, "rate": 0.1},
            "variance": {"threshold": 9.0, "ratio": 1.5},
            "focus": {"threshold": 12.0},
            "histogram": {"threshold": 0.2, "statistic": "psi", "window": 500, "hop": 50},
        },
    }
    return Baseline(header, arrays)


def test_round_trip(tmp_path: Path) -> None:
    """A file gives back what was saved; its digest is the file's SHA-256, and saving again gives the same bytes."""
    path = tmp_path / "b.npz"
    digest = made().save(path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    found = baselines.load(path)
    assert (found.digest, found.calibrated, found.modes) == (digest, True, (0.0, 1.0))
    assert dict(found.header) == dict(made().header)
    for name in baselines.ARRAYS:
        np.testing.assert_array_equal(found.arrays[name], made().arrays[name])
    assert found.save(tmp_path / "again.npz") == digest


@pytest.mark.parametrize("detector", sorted(set(pipeline.DETECTORS) - pipeline.VECTOR - {"multinomial"}))
def test_tables(detector: str) -> None:
    """Every detector of one signal but the class mix can be had from a reference, one row a mode; only the e-detector is
    calibrated."""
    table = made().table(detector)
    assert table[pipeline.DETECTOR] == pipeline.DETECTORS[detector]
    assert table[pipeline.MODES] == 2
    assert len(table) == pipeline.HEAD + 2 * int(table[pipeline.STRIDE])
    assert table[pipeline.CALIBRATED] == (detector == "edetector")
    assert pipeline.pool_size(table) >= pipeline.STATE
    assert table[pipeline.BLOCK] == (20 if detector in ("edetector", "ewma", "variance", "focus") else 1)


def test_settings_override() -> None:
    """Settings replace what calibration chose, and end its promise; what a detector does not know is refused."""
    table = made().table("edetector", threshold=5.0)
    assert (table[pipeline.HEAD + pipeline.PARAMS], table[pipeline.CALIBRATED]) == (5.0, 0.0)
    with pytest.raises(TypeError):
        made().table("ewma", speed=1.0)
    with pytest.raises(ValueError, match="no threshold for `multinomial`"):
        made().table("multinomial")


def broken(change: str, value: Any) -> Baseline:
    """A reference with one wrong array or header field."""
    good = made()
    if change in baselines.ARRAYS:
        return Baseline(good.header, {**good.arrays, change: np.asarray(value, np.float64)})
    return Baseline({**good.header, change: value}, good.arrays)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("format", "edge-monitor baseline 2"),
        ("scale", [0.0, 1.0]),
        ("scale", [1.0]),
        ("sigma", [-1.0, 1.0]),
        ("centre", [np.nan, 0.0]),
        ("centre", [[0.0, 0.0]]),
        ("order", [7.0, 0.0]),
        ("order", [0.5, 0.0]),
        ("bounds", np.full((2, 3), 1.0)),
        ("cuts", [[3.0, 2.0, 1.0]] * 2),
        ("edges", np.zeros((2, 31))),
        ("shares", np.full((2, 32), 0.5)),
        ("mode", [1.0, 1.0]),
        ("block", 0),
        ("block", 2.5),
        ("block", True),
        ("period_s", "1"),
        ("score", "mood"),
        ("unit", None),
        ("calibrated", 1),
        ("reasons", ["but"]),
        ("left_out", None),
        ("sources", {}),
        ("promise", []),
        ("detectors", {"cusum": {"threshold": "ten"}}),
        ("detectors", {"cusum": {"threshold": True}}),
        ("detectors", {"oracle": {}}),
        ("detectors", []),
    ],
)
def test_wrong_contents_are_refused(tmp_path: Path, change: str, value: Any) -> None:
    """One line says which file is no reference, and how to have one; no wrong number gets through."""
    path = tmp_path / "b.npz"
    broken(change, value).save(path)
    with pytest.raises(ConfigError, match=r"b.npz: .*make it anew"):
        baselines.load(path)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    """Missing, foreign, pickled, oversized and bomb-like files are refused without being unpacked."""
    with pytest.raises(ConfigError, match="edge-replay calibrate"):
        baselines.load(tmp_path / "none.npz")
    path = tmp_path / "b.npz"
    for data in (b"", b"PK\x03\x04", b"not a zip", b"x" * (reference_files.LARGEST + 1)):
        path.write_bytes(data)
        with pytest.raises(ConfigError):
            baselines.load(path)
    np.savez(path, header=np.zeros(1, np.uint8), centre=np.array([{}], dtype=object))
    with pytest.raises(ConfigError, match="does not hold the arrays"):
        baselines.load(path)
    made().save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, data in (
        ("scale.npy", pickled()),
        ("scale.npy", b"\0" * (2 * reference_files.LARGEST)),
        ("header.npy", b""),
    ):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in (members | {name: data}).items():
                archive.writestr(member, content)
        with pytest.raises(ConfigError, match=r"can't be read|holds more"):
            baselines.load(path)


def pickled() -> bytes:
    """An array that would run code if it were unpickled."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@given(st.data())
def test_damage_is_told(data: st.DataObject) -> None:
    """A flipped byte or a cut either leaves a valid reference or is refused with a line; nothing else is raised."""
    good = reference_files.pack(made().header, made().arrays)
    at = data.draw(st.integers(0, len(good) - 1))
    cut = data.draw(st.booleans())
    bad = good[:at] if cut else good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    try:
        arrays = reference_files._members(Path("b.npz"), bad, [(baselines.ARRAYS, reference_files.LARGEST)])
        header = reference_files._header(Path("b.npz"), arrays.pop("header"), baselines.FORMAT)
        baselines._check(Path("b.npz"), header, arrays)
    except ConfigError as error:
        assert str(error).startswith("b.npz: ")


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=3000))
def test_a_sample_holds_every_value_or_evenly_spaced_ranks(values: list[float]) -> None:
    """What a reference keeps for p-values is all of its values where they fit, else those of evenly spaced rank."""
    ordered = np.sort(np.array(values))
    n = len(ordered)
    baseline = made(1)
    arrays: dict[str, Any] = dict(baseline.arrays)
    ranks = ((np.arange(baselines.SAMPLE) + 0.5) / baselines.SAMPLE * n).astype(np.int64)
    arrays["sample"], arrays["size"] = ordered[ranks][None], np.array([float(n)])
    kept = Baseline(baseline.header, arrays).sample(0)
    if n <= baselines.SAMPLE:
        assert kept.tolist() == ordered.tolist()
    else:
        assert len(kept) == baselines.SAMPLE
        for score in (ordered[0], ordered[n // 2], ordered[-1]):
            share = float((kept >= score).sum()) / len(kept) - float((ordered >= score).sum()) / n
            assert abs(share) <= 1 / baselines.SAMPLE
