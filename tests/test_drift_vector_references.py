"""References of several signals: what is promised and found, what does not fit, from the envelope to the verdict."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.signal import lfilter

from edge_monitor import baselines
from edge_monitor.baselines import Baseline
from edge_monitor.core.drift import pipeline, vector
from edge_monitor.envelope import EnvelopeError, load
from edge_monitor.errors import ConfigError
from edge_replay.calibrate import Request
from edge_replay.cli import group
from edge_replay.evaluate import evaluate
from edge_replay.series import Series
from edge_replay.vector_calibration import calibrate_vector, random_features, shrunk_precision, winsorised

MS = 1_000_000
PERIOD = 10 * MS


def recording(n: int, seed: int, d: int = 4, phi: float = 0.7, rho: float = 0.8, scale: float = 1.0) -> np.ndarray:
    """AR(1) signals in different units around 5, every two of them correlated by ``rho``."""
    rng = np.random.default_rng(seed)
    e = math.sqrt(rho) * rng.normal(size=(n, 1)) + math.sqrt(1 - rho) * rng.normal(size=(n, d))
    x = lfilter([math.sqrt(1 - phi * phi)], [1.0, -phi], e, axis=0)
    return (x + 5) * np.array([1.0, 100.0, 1e-3, 1.0])[:d] * scale


UNITS = ("m", "m", "m", "m")
FOUR = ("a", "b", "c", "d")
REQUEST = Request("a, b, c, d", 3600.0, signals=FOUR, units=UNITS)


def series(x: np.ndarray, name: str = "r", mode: np.ndarray | None = None) -> Series:
    """A recording at 100 Hz."""
    return Series(name, "", np.arange(len(x), dtype=np.int64) * PERIOD, x, mode)


def drives(*parts: np.ndarray) -> list[Series]:
    """Recordings with names of their own."""
    return [series(part, f"r{i}") for i, part in enumerate(parts)]


@pytest.fixture(scope="module")
def reference() -> Baseline:
    """Four recordings of five minutes."""
    return calibrate_vector(drives(*(recording(30_000, i) for i in range(4))), REQUEST)


@pytest.fixture(scope="module")
def energy() -> Baseline:
    """The same for noise and correlation."""
    request = Request("a, b, c, d", 3600.0, signals=FOUR, units=UNITS, score="energy")
    return calibrate_vector(drives(*(recording(30_000, i) for i in range(4))), request)


def test_shrinkage() -> None:
    """The precision is the inverse covariance where rows abound, and well conditioned where they don't or signals are
    copies; one wild value changes little."""
    rng = np.random.default_rng(6)
    mixing = rng.normal(size=(8, 8))
    x = rng.normal(size=(100_000, 8)) @ mixing
    np.testing.assert_allclose(shrunk_precision(x)[1] @ (mixing.T @ mixing), np.eye(8), atol=0.1)
    assert np.linalg.cond(shrunk_precision(rng.normal(size=(5, 8)))[1]) < 1e6
    copies = np.repeat(rng.normal(size=(1000, 1)), 3, axis=1)
    assert np.isfinite(shrunk_precision(copies)[1]).all()
    wild = rng.normal(size=(1000, 3))
    wild[5, 1] = 1e6
    np.testing.assert_allclose(shrunk_precision(winsorised(wild))[1], np.eye(3), atol=0.2)


def test_features_are_a_gaussian_kernel() -> None:
    """The mean product of two rows' features is the Gaussian kernel of their Mahalanobis distance."""
    rng = np.random.default_rng(7)
    mixing = rng.normal(size=(3, 3))
    z = rng.normal(size=(2000, 3)) @ mixing
    weights, phases = random_features(z, 100_000, 1)
    made = np.sqrt(2 / len(phases)) * np.cos(z[:6] @ weights + phases)
    root = np.linalg.cholesky(shrunk_precision(winsorised(z))[1])
    u = z @ root
    chosen = np.random.default_rng(1).choice(2000, 200, replace=False)
    pairs = u[chosen]
    distances = ((pairs[:, None] - pairs[None]) ** 2).sum(axis=2)[np.triu_indices(200, 1)]
    kernel = np.exp(-((u[:6, None] - u[None, :6]) ** 2).sum(axis=2) / np.median(distances))
    np.testing.assert_allclose(made @ made.T, kernel, atol=0.02)


def test_promise_in_short(reference: Baseline, energy: Baseline) -> None:
    """Both scores are calibrated on clean recordings, and on three simulated hours alarm about as seldom as promised."""
    for one in (reference, energy):
        assert one.calibrated, one.header["reasons"]
        found = evaluate([series(recording(360_000, s)) for s in (50, 51, 52)], one, "mahalanobis", sizes=(), trials=0)
        assert found.calibrated
        assert found.alarms <= 4
        assert found.hours == pytest.approx(3, rel=1e-2)


def test_what_each_finds(reference: Baseline, energy: Baseline) -> None:
    """`shift` finds one signal's shift by half a deviation, `energy` a correlation alone, `mmd` both."""
    drive = [series(recording(60_000, 60))]
    shift = evaluate(drive, reference, "mahalanobis", sizes=(0.5, 1.0), trials=30).document()
    assert [one["missed_share"] for one in shift["shifts"]] == [0.0, 0.0]
    assert shift["shifts"][1]["delay_mean_s"] < shift["shifts"][0]["delay_mean_s"] < 30
    noise = evaluate(drive, energy, "mahalanobis", sizes=(), trials=30).document()
    assert noise["decoupled"]["missed_share"] == 0.0
    assert noise["decoupled"]["delay_mean_s"] < 20
    features = evaluate(drive, reference, "mmd", sizes=(1.0,), trials=20).document()
    assert (features["calibrated"], features["shifts"][0]["missed_share"]) == (False, 0.0)
    assert features["decoupled"]["missed_share"] <= 0.1
    assert shift["always_fire"]["alarms_per_hour"] > 1000


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_does_not_matter(reference: Baseline, scale: float) -> None:
    """In other units the same recordings give the same cuts, bounds and thresholds, and the same alarms."""
    other = calibrate_vector(drives(*(recording(30_000, i, scale=scale) for i in range(4))), REQUEST)
    np.testing.assert_allclose(other.arrays["cuts"], reference.arrays["cuts"], rtol=1e-6)
    np.testing.assert_array_equal(other.arrays["bounds"], reference.arrays["bounds"])
    thresholds = [one.header["detectors"]["mmd"]["threshold"] for one in (other, reference)]
    assert thresholds[0] == pytest.approx(thresholds[1], rel=1e-6)


@pytest.mark.parametrize("spoiled", ["nan", "gap", "constant", "infinity"])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("detector", ["mahalanobis", "mmd"])
def test_nothing_disables_a_detector(reference: Baseline, detector: str, spoiled: str, scale: float) -> None:
    """After a NaN, a gap, a constant stretch or an infinity in one signal, at any scale, a shift is still found."""
    one = Baseline(
        reference.header,
        {**reference.arrays, **{name: reference.arrays[name] * scale for name in ("centre", "scale")}},
    )
    x = recording(30_000, 80, scale=scale)
    x[9000:9400, 1] = {"nan": np.nan, "gap": np.nan, "constant": x[9000, 1], "infinity": np.inf}[spoiled]
    if spoiled in ("nan", "infinity"):
        x[9001:9400] = recording(30_000, 80, scale=scale)[9001:9400]
    x[25_000:, 2] += 3 * 1e-3 * scale
    rows = np.array(one.table(detector))
    statistic, alarm = np.empty(len(x)), np.zeros(len(x), np.uint8)
    pool = np.zeros(vector.pool_size(rows.tolist()))
    with np.errstate(all="ignore"):
        vector.vector_many(x, rows, pool, statistic, alarm)
    assert alarm[25_000:26_500].any()
    assert not alarm[12_000:25_000].any()
    assert np.isfinite(pool).all()


REFUSED = {
    "constant": (
        [np.column_stack([recording(20_000, i, 3), np.full(20_000, 5.0)]) for i in range(3)],
        "signal d is constant in the reference",
    ),
    "one recording": ([recording(60_000, 1)], "only 1 recording"),
    "few": ([recording(600, i) for i in range(3)], "50 and 100 are needed"),
    "another drive": ([recording(30_000, 1), recording(30_000, 2), recording(30_000, 3, rho=0.0)], "differ from each"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str, tmp_path: Path) -> None:
    """What nothing can be promised of is not calibrated and says why; the file is written all the same, and loads."""
    parts, reason = REFUSED[name]
    one = calibrate_vector(drives(*parts), REQUEST)
    assert not one.calibrated
    assert any(reason in said for said in one.header["reasons"]), one.header["reasons"]
    one.save(tmp_path / "b.npz")
    for detector in ("mahalanobis", "mmd"):
        assert baselines.load(tmp_path / "b.npz").table(detector)[pipeline.CALIBRATED] == 0


def test_modes(tmp_path: Path) -> None:
    """Each mode has its own centre and precision, and they are used."""
    parts = []
    for i in range(4):
        x = recording(40_000, i, phi=0.5)
        x[20_000:] = 3 * x[20_000:]
        parts.append(series(x, f"r{i}", np.repeat([1.0, 2.0], 20_000)))
    request = Request("a, b, c, d", 3600.0, mode_signal="mode", signals=FOUR, units=UNITS)
    one = calibrate_vector(parts, request)
    assert one.calibrated, one.header["reasons"]
    assert one.modes == (1.0, 2.0)
    np.testing.assert_allclose(one.arrays["centre"][1] / one.arrays["centre"][0], 3, rtol=0.05)
    found = evaluate([series(parts[0].x, "e", parts[0].mode)], one, "mahalanobis", sizes=(), trials=0)
    assert found.alarms <= 1


def test_round_trip(tmp_path: Path, reference: Baseline) -> None:
    """A file gives back what was saved, its digest is in the table, and the same recordings give the same bytes."""
    digest = reference.save(tmp_path / "b.npz")
    found = baselines.load(tmp_path / "b.npz")
    assert (found.digest, found.signals, found.units, found.several) == (digest, FOUR, UNITS, True)
    for name in baselines.VECTOR_ARRAYS:
        np.testing.assert_array_equal(found.arrays[name], reference.arrays[name])
    words = [int(digest[i : i + 8], 16) for i in range(0, 64, 8)]
    for detector in ("mahalanobis", "mmd"):
        made = found.table(detector)
        assert list(made[pipeline.DIGEST : pipeline.HEAD]) == words
        assert made[pipeline.CALIBRATED] == (detector == "mahalanobis")
    again = calibrate_vector(drives(*(recording(30_000, i) for i in range(4))), REQUEST)
    assert again.save(tmp_path / "again.npz") == digest


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("signals", ["a", "b", "c"]),
        ("signals", "abcd"),
        ("signals", ["a", "b", "c", 4]),
        ("units", ["m"]),
        ("units", None),
        ("centre", np.zeros((1, 3))),
        ("scale", np.zeros((1, 4))),
        ("mean", np.full((1, 4), np.nan)),
        ("precision", np.ones((1, 4, 4))),
        ("precision", np.triu(np.ones((1, 4, 4)))),
        ("precision", -np.eye(4)[None]),
        ("precision", np.eye(4)),
        ("weights", np.zeros((1, 4, 255))),
        ("phases", np.zeros((1, 0))),
        ("phases", np.zeros(())),
        ("phases", np.zeros((1, 2000))),
        ("phi", np.zeros((1, 4, 5))),
        ("order", np.array([7.0])),
        ("detectors", {"cusum": {"threshold": 1.0}}),
        ("detectors", {"mmd": {"threshold": "high"}}),
    ],
)
def test_wrong_contents_are_refused(tmp_path: Path, reference: Baseline, change: str, value: Any) -> None:
    """One line says which file is no reference, and how to have one; no wrong number or shape gets through."""
    header, arrays = dict(reference.header), dict(reference.arrays)
    if change in arrays:
        arrays[change] = value
    else:
        header[change] = value
    Baseline(header, arrays).save(tmp_path / "b.npz")
    with pytest.raises(ConfigError, match=r"b.npz: .*make it anew"):
        baselines.load(tmp_path / "b.npz")


def test_too_large_to_be_loaded(tmp_path: Path, reference: Baseline) -> None:
    """A reference that no loader would take is not written."""
    arrays = {name: np.repeat(array, 64, axis=0) for name, array in reference.arrays.items()}
    arrays["weights"] = np.zeros((64, 64, 1024))
    with pytest.raises(ValueError, match="fewer signals at once, or in fewer modes"):
        Baseline(reference.header, arrays).save(tmp_path / "b.npz")
    assert not (tmp_path / "b.npz").exists()


@pytest.mark.parametrize(
    ("detector", "changes", "message"),
    [
        ("edetector", {}, "don't belong together"),
        ("mmd", {"fast": 0.001, "slow": 0.01}, "`slow` must be above 0 and below `fast`"),
        ("mahalanobis", {"speed": 1.0}, "no setting `speed`"),
    ],
)
def test_settings_that_do_not_fit(reference: Baseline, detector: str, changes: dict[str, float], message: str) -> None:
    """Detectors of one signal and settings that a detector does not have are refused."""
    with pytest.raises(ValueError, match=message):
        reference.table(detector, **changes)


HEAD = """edge_monitor: 1
envelope: {id: e, version: 1, vehicle: v}
defaults: {max_age: 1 s}
signals:
  a: {topic: /m, field: "data[0]", unit: m}
  b: {topic: /m, field: "data[1]", unit: m}
  c: {topic: /m, field: "data[2]", unit: m}
  d: {topic: /m, field: "data[3]", unit: m}
checks:
"""


def write(folder: Path, checks: str, signals: str = "") -> Path:
    """An envelope in ``folder``."""
    path = folder / "e.yaml"
    path.write_text(HEAD.replace("checks:\n", f"{signals}checks:\n") + checks, "utf-8")
    return path


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("{kind: drift}", r"e.yaml:10:\d+: checks.x.signal: is required"),
        ("{kind: drift, detector: mahalanobis, signal: a, reference: b.npz}", "checks.x.signal: has no meaning for `mah"),
        ("{kind: drift, detector: mmd, reference: b.npz}", "checks.x.signals: is required by `mmd`"),
        ("{kind: drift, signals: [a, b], reference: b.npz}", "checks.x.signals: has no meaning for `edetector`"),
        ("{kind: drift, detector: mmd, signals: [a]}", r"checks.x.signals: needs at least 2 entries, got 1"),
        ("{kind: drift, detector: mmd, signals: [a, b, a, d], reference: b.npz}", r"signals\[2\]: names `a` once more"),
        ("{kind: drift, detector: mmd, signals: [a, b, c, z], reference: b.npz}", r"signals\[3\]: no signal is named `z`"),
        ("{kind: drift, detector: mmd, signals: [a, b, d, c], reference: b.npz}", "of signals `a, b, c, d`, not of `a, b"),
        ("{kind: drift, detector: mahalanobis, signals: [a, b, c, d]}", "checks.x.reference: is required by `mahalanobis`"),
        (
            "{kind: drift, detector: mahalanobis, signals: [a, b, c, d], reference: b.npz, score: quiet}",
            "checks.x.score: is `shift` in the reference",
        ),
        ("{kind: drift, signal: a, reference: b.npz}", "was made of signals `a, b, c, d`, not of `a`"),
        (
            "{kind: drift, detector: mmd, signals: [a, b, c, d], reference: b.npz, settings: {fats: 1}}",
            "checks.x.settings: does not fit `mmd`",
        ),
    ],
)  # fmt: skip
def test_envelope_mistakes(tmp_path: Path, reference: Baseline, check: str, message: str) -> None:
    """Each mistake is told with its place and how to mend it."""
    reference.save(tmp_path / "b.npz")
    with pytest.raises(EnvelopeError, match=message):
        load(write(tmp_path, f"  x: {check}\n"))


def test_the_example_of_the_documents_loads(root: Path, tmp_path: Path) -> None:
    """The envelope of docs/checks/drift.md is one, and both of its checks watch the four motors."""
    text = (root / "docs/checks/drift.md").read_text("utf-8")
    (example,) = re.findall(r"^```yaml\n(edge_monitor.*?)^```", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "e.yaml").write_text(example, "utf-8")
    found = load(tmp_path / "e.yaml", references=False)
    assert not found.warnings
    assert {spec.name: spec.signals for spec in found.checks} == dict.fromkeys(
        ("motors_alike", "motors_new"), ("m1", "m2", "m3", "m4")
    )


def jsonl(path: Path, x: np.ndarray) -> Path:
    """A recording of messages with four values."""
    lines = [
        json.dumps({"t": k / 100, "topic": "/m", "data": [float(v) if np.isfinite(v) else None for v in row]})
        for k, row in enumerate(x)
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_calibrate_evaluate_run(tmp_path: Path) -> None:
    """From recordings to references, figures and, in a replay, the broken correlation found after it began."""
    checks = (
        "  alike: {kind: drift, detector: mahalanobis, signals: [a, b, c, d], score: energy, reference: refs/e.npz,"
        " false_alarms: 1 per 1 h}\n"
        "  shape: {kind: drift, detector: mmd, signals: [a, b, c, d], score: energy, reference: refs/e.npz,"
        " false_alarms: 1 per 1 h}\n"
    )
    envelope = write(tmp_path, checks)
    logs = [str(jsonl(tmp_path / f"r{i}.jsonl", recording(12_000, i, phi=0.5))) for i in range(3)]
    arguments = ["-e", str(envelope), "--json"]
    done = CliRunner().invoke(
        group, ["calibrate", *logs, *arguments, "--out", str(tmp_path / "refs")], standalone_mode=False
    )
    assert done.exception is None, done.output
    (made,) = json.loads(done.stdout)["references"]
    assert made["calibrated"], made["reasons"]
    assert made["signals"] == list(FOUR)
    broken = recording(12_000, 9, phi=0.5)
    broken[8000:, 1] = recording(12_000, 10, phi=0.5)[8000:, 1]
    log = str(jsonl(tmp_path / "bad.jsonl", broken))
    done = CliRunner().invoke(group, ["evaluate", logs[0], *arguments, "--trials", "5"], standalone_mode=False)
    assert done.exception is None, done.output
    found = json.loads(done.stdout)["checks"]
    assert [found[name]["calibrated"] for name in ("alike", "shape")] == [True, False]
    assert found["alike"]["decoupled"]["missed_share"] == 0
    done = CliRunner().invoke(group, ["evaluate", logs[0], "-e", str(envelope), "--trials", "3"], standalone_mode=False)
    assert re.search(r"one of them as at another time: delay mean [\d.]+ s", done.output), done.output
    done = CliRunner().invoke(
        group, ["run", log, "-e", str(envelope), "--jsonl", str(tmp_path / "ev.jsonl")], standalone_mode=False
    )
    assert done.exception is None, done.output
    events = [json.loads(line) for line in (tmp_path / "ev.jsonl").read_text().splitlines()]
    times = [e["t_s"] for e in events if e["type"] == "check.fail" and e["subject"] == "alike"]
    assert times and times[0] == pytest.approx(80, abs=10) and times[0] > 80
