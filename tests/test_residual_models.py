"""Models of responses: what is fitted, what is refused with a reason, files that can't be trusted, and the envelope."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from actuators import NOISE, PERIOD, RATE, drive
from scipy.signal import lfilter

from edge_monitor import baselines, reference_files, residual_models
from edge_monitor.core.formula.arx import Arx
from edge_monitor.core.plan import Plan
from edge_monitor.envelope import EnvelopeError, loads
from edge_monitor.errors import ConfigError
from edge_replay.arx import Inputs, ModelRequest, fit_model, residual_series, whiteness
from edge_replay.calibrate import Request, calibrate
from edge_replay.series import Series

ASKED = ModelRequest("yaw", ("rudder",), "rad/s", ("deg",), "A. Planner")


def drives(n: int = 6000) -> list[Inputs]:
    """Three recordings of the healthy vehicle."""
    return [drive(n, seed) for seed in range(3)]


def made(x: Callable[[np.ndarray, np.ndarray], np.ndarray], n: int = 6000) -> list[Inputs]:
    """Three recordings of a response that is a function of a white command and noise."""
    parts = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        u = rng.normal(size=n)
        y = x(u, 0.1 * rng.normal(size=n))
        parts.append(Inputs(f"r{seed}", "", np.arange(n, dtype=np.int64) * PERIOD, y, None, u[:, None]))
    return parts


def test_a_known_system_is_found() -> None:
    """Orders, delay and coefficients of the simulated vehicle are found; its residuals are its noise, and white."""
    model = fit_model([drive(20_000, seed) for seed in range(3)], ASKED)
    assert model.usable, model.header["reasons"]
    assert (model.header["na"], model.header["nb"], model.arx.delay) == (2, 2, 2)
    np.testing.assert_allclose(model.arx.a, (1.5, -0.6), atol=0.01)
    np.testing.assert_allclose(model.arx.b, ((0.08, 0.04),), atol=0.01)
    assert model.arx.period == PERIOD
    assert model.header["deviation"] == pytest.approx(NOISE, rel=0.02)
    assert model.header["r2_certify"] > 0.99
    assert model.header["explained"] > 0.2
    assert model.header["white_p"] > 0.01
    assert model.header["largest_correlation"] < 0.03
    assert [source["fold"] for source in model.header["sources"]] == ["fit", "set", "certify"]
    assert model.header["author"] == "A. Planner"


def test_units_and_offsets_only_change_numbers() -> None:
    """In other units and from other zeros the same recordings have the same orders, and residuals in the new unit."""
    parts = drives()
    others = [replace(one, x=1e4 * one.x + 5e3, u=1e-3 * one.u - 7.0) for one in parts]
    model, other = fit_model(parts, ASKED), fit_model(others, ASKED)
    assert [model.header[n] for n in ("na", "nb", "delay")] == [other.header[n] for n in ("na", "nb", "delay")]
    np.testing.assert_allclose(other.arx.a, model.arx.a, rtol=1e-6)
    np.testing.assert_allclose(np.array(other.arx.b), 1e7 * np.array(model.arx.b), rtol=1e-6)
    one, two = residual_series(model.arx, parts[2]), residual_series(other.arx, others[2])
    np.testing.assert_allclose(two[20:], 1e4 * one[20:], atol=1e-3)


def test_each_command_gets_its_part() -> None:
    """Two commands, one of them negative and slower, are told apart."""
    parts = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        u = rng.normal(size=(6000, 2))
        y = lfilter(
            [1], [1, -0.8], 0.5 * np.roll(u[:, 0], 1) - 0.25 * np.roll(u[:, 1], 2) + 0.1 * rng.normal(size=6000)
        )
        parts.append(Inputs(f"r{seed}", "", np.arange(6000, dtype=np.int64) * PERIOD, y, None, u))
    model = fit_model(parts, ModelRequest("y", ("u", "v")))
    assert model.usable, model.header["reasons"]
    assert model.arx.delay == 1
    np.testing.assert_allclose([row[:2] for row in model.arx.b], [[0.5, 0], [0, -0.25]], atol=0.01)


def test_the_engines_kernel_makes_the_series() -> None:
    """The series is the formula's, NaN where a sample, a command or a lag is missing, also where two share a stamp."""
    one = drive(300, 1)
    one.x[100], one.u[150, 0] = math.nan, math.nan
    one.t[200:] += 10**9
    one.t[250] = one.t[249]
    arx = Arx(PERIOD, 0.1, (1.5, -0.6), ((0.08, 0.04),), 2)
    found = residual_series(arx, one)
    u = one.u[:, 0]
    for k in range(300):
        whole = all(not start <= k < start + 8 for start in (0, 101, 151, 200)) and k not in (100, 150)
        assert math.isnan(found[k]) == (not whole), k
        if whole:
            expected = one.x[k] - 0.1 - 1.5 * one.x[k - 1] + 0.6 * one.x[k - 2] - 0.08 * u[k - 2] - 0.04 * u[k - 3]
            assert found[k] == pytest.approx(expected, abs=1e-12)


def growing(u: np.ndarray, e: np.ndarray) -> np.ndarray:
    return lfilter([1], [1, -1.002], u + e)


def gaps() -> list[Inputs]:
    """Every eighteenth interval is too long."""
    return [replace(one, t=np.cumsum(np.resize([*[1] * 17, 4], len(one.t))) * PERIOD) for one in drives(40_000)]


def worse() -> list[Inputs]:
    """In the recording that judges, the command works the other way."""
    parts = drives()
    longest = drive(9000, 7)
    return [*parts[:2], replace(longest, u=-longest.u)]


REFUSED: dict[str, tuple[Callable[[], list[Inputs]], str]] = {
    "still": (lambda: [replace(one, u=np.ones_like(one.u)) for one in drives()], "`rudder` never moves"),
    "deaf": (lambda: made(lambda u, e: lfilter([1], [1, -0.9], e)), "the commands explain nothing"),
    "unstable": (lambda: made(growing, 3000), "the model is unstable (a pole at 1.002"),
    "rates": (lambda: [*drives()[:2], replace(drive(6000, 5), t=np.arange(6000) * 2 * PERIOD)], "different rates"),
    "gaps": (gaps, "steady rate"),
    "worse": (worse, "what the commands explained does not hold there"),
    "short": (lambda: [drive(6000, 1), drive(200, 2), drive(100, 3)], "samples to judge the model on"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_usable_says_why(name: str, tmp_path: Path) -> None:
    """Each thing that speaks against a model is named; the file is written all the same, and loads."""
    parts, reason = REFUSED[name][0](), REFUSED[name][1]
    if name == "short":
        parts = [replace(parts[0], x=np.where(np.arange(6000) < 3500, parts[0].x, np.nan))]
        parts[0].u[3000:4000] = np.nan
    model = fit_model(parts, ASKED)
    assert not model.usable
    assert any(reason in said for said in model.header["reasons"]), model.header["reasons"]
    model.save(tmp_path / "m.npz")
    assert residual_models.load(tmp_path / "m.npz").arx == model.arx


def test_too_little_is_no_model() -> None:
    """Without enough samples that have all inputs and their past there is nothing to fit, and it is said how many."""
    with pytest.raises(ValueError, match=r"signal yaw: \d+ samples to fit on .* 200 are needed"):
        fit_model([drive(100, seed) for seed in range(3)], ASKED)
    with pytest.raises(ValueError, match="no recording holds two samples of it with all its commands"):
        fit_model([replace(drive(6000, 1), u=np.full((6000, 1), np.nan))], ASKED)


def test_a_recording_without_the_commands_is_left_out() -> None:
    """Recordings that lack a command take no place among the folds."""
    lacking = replace(drive(20_000, 9), u=np.full((20_000, 1), np.nan))
    with_it, without = fit_model([*drives(), lacking], ASKED), fit_model(drives(), ASKED)
    assert with_it.header == without.header


def test_ridge_regression_is_said() -> None:
    """Two commands that are one make least squares ill-conditioned: ridge regression shares the effect, and is told."""
    parts = [replace(one, u=np.repeat(one.u, 2, axis=1)) for one in drives()]
    model = fit_model(parts, ModelRequest("yaw", ("rudder", "copy")))
    assert model.header["ridge"] > 0
    np.testing.assert_allclose(model.arx.b[0], model.arx.b[1], rtol=1e-3)
    assert fit_model(drives(), ASKED).header["ridge"] == 0
    assert model.header["deviation"] == pytest.approx(NOISE, rel=0.05)


def test_whiteness() -> None:
    """Independent values pass at their level, autoregressive ones don't; NaN between parts joins nothing."""
    rng = np.random.default_rng(2)
    few = sum(whiteness([rng.normal(size=1000)])[0] < 0.05 for _ in range(200))
    assert 2 <= few <= 20
    p, largest = whiteness([lfilter([1], [1, -0.3], rng.normal(size=1000))])
    assert p < 1e-6
    assert largest == pytest.approx(0.3, abs=0.08)
    x = rng.normal(size=1000)
    holes = np.insert(x, np.arange(0, 1000, 5), np.nan)
    assert whiteness([holes])[0] > 0.001
    assert whiteness([np.zeros(100)]) == (1.0, 0.0)


@pytest.fixture(scope="module")
def model() -> residual_models.ResidualModel:
    """A good one."""
    return fit_model(drives(), ASKED)


def test_a_file_holds_the_model(model: residual_models.ResidualModel, tmp_path: Path) -> None:
    """Saved and loaded, model, header and digest are the same; equal contents give equal bytes."""
    digest = model.save(tmp_path / "m.npz")
    again = residual_models.load(tmp_path / "m.npz")
    assert (again.arx, again.header, again.digest) == (model.arx, model.header, digest)
    assert again.save(tmp_path / "n.npz") == digest
    assert (tmp_path / "m.npz").read_bytes() == (tmp_path / "n.npz").read_bytes()


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a reference's format": ({"format": baselines.FORMAT}, {}, "does not say"),
    "no response": ({"response": 3}, {}, "no text `response`"),
    "no commands": ({"commands": "rudder"}, {}, "no list `commands`"),
    "numbers as names": ({"commands": [1]}, {}, "no text"),
    "usable with reasons": ({"usable": True, "reasons": ["no"]}, {}, "usable and says why"),
    "unusable without": ({"usable": False, "reasons": []}, {}, "usable and says why"),
    "no period": ({"period_ns": 0}, {}, "`period_ns` is 0"),
    "a period that is none": ({"period_ns": True}, {}, "`period_ns` is True"),
    "a late delay": ({"delay": 11}, {}, "a delay of at most 10"),
    "a broken delay": ({"delay": 1.5}, {}, "`delay` is 1.5"),
    "too long": ({}, {"a": np.zeros(7)}, "at most 6 coefficients"),
    "flat": ({}, {"b": np.zeros(2)}, "shapes"),
    "another command": ({"commands": ["a", "b"], "command_units": ["", ""]}, {}, "shapes"),
    "no unit": ({"command_units": []}, {}, "one unit a command"),
    "not finite": ({}, {"a": np.array([math.nan])}, "finite"),
    "two constants": ({}, {"constant": np.zeros(2)}, "shapes"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_are_not_trusted(name: str, model: residual_models.ResidualModel, tmp_path: Path) -> None:
    """A file in which something is off is refused with what is off, before a number reaches a kernel."""
    header, arrays, said = BAD[name]
    arx = model.arx
    good = {"a": np.array(arx.a), "b": np.array(arx.b), "constant": np.array([arx.constant])}
    path = tmp_path / "m.npz"
    path.write_bytes(reference_files.pack({**model.header, **header}, {**good, **arrays}))
    with pytest.raises(ConfigError, match=said) as error:
        residual_models.load(path)
    assert str(error.value).startswith(str(path)) and "make it anew" in str(error.value)


def test_damaged_files_are_refused(model: residual_models.ResidualModel, tmp_path: Path) -> None:
    """Cut or flipped bytes give one clear line, or the same model where they don't matter; never anything else."""
    path = tmp_path / "m.npz"
    model.save(path)
    data = path.read_bytes()
    refused = 0
    for place in range(0, len(data), 17):
        path.write_bytes(data[:place] if place % 2 else data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        try:
            assert isinstance(residual_models.load(path).arx, Arx)
        except ConfigError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > len(data) // 40
    with pytest.raises(ConfigError, match="not a reference file"):
        calibrated(model, tmp_path).save(path)
        residual_models.load(path)


def calibrated(model: residual_models.ResidualModel, folder: Path, digest: str = "") -> baselines.Baseline:
    """A reference of the residual, tied to a model's digest."""
    one = drives()
    parts = [Series(p.source, p.digest, p.t, residual_series(model.arx, p)) for p in one]
    baseline = calibrate(parts, Request("yaw_error", 36000.0, unit="rad/s"))
    return replace(baseline, header={**baseline.header, "model": digest})


ENVELOPE = """edge_monitor: 1
envelope: {id: ugv, version: 1, vehicle: husky}
defaults: {max_age: 1 s}
signals:
  rudder: {topic: /rudder, field: value, unit: deg}
  yaw: {topic: /imu, field: yaw, unit: rad/s}
  yaw_error: {residual: {response: yaw, command: [rudder], model: base/yaw.npz}, unit: rad/s, max_age: 300 ms}
checks:
  follows: {kind: drift, signal: yaw_error, reference: base/error.npz}
"""


@pytest.fixture(scope="module")
def folder(model: residual_models.ResidualModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the envelope names."""
    folder = tmp_path_factory.mktemp("envelope")
    (folder / "base").mkdir()
    digest = model.save(folder / "base/yaw.npz")
    calibrated(model, folder, digest).save(folder / "base/error.npz")
    return folder


def load(folder: Path, *changes: tuple[str, str], references: bool = True) -> Any:
    """The envelope with replacements."""
    text = ENVELOPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return loads(text.encode(), source=str(folder / "e.yaml"), references=references)


def test_the_envelope_takes_the_model(folder: Path, model: residual_models.ResidualModel) -> None:
    """The plan has the file's numbers; both digests change with them; without files the envelope can still be seen."""
    envelope = load(folder)
    error = next(signal for signal in envelope.signals if signal.name == "yaw_error")
    assert error.residual is not None and error.residual.model == model.arx
    assert envelope.warnings == ()
    plan = Plan.build(envelope.signals, envelope.checks).digest()
    other = replace(model, arx=replace(model.arx, constant=1.0))
    (folder / "base2").mkdir(exist_ok=True)
    digest = other.save(folder / "base2/yaw.npz")
    calibrated(model, folder, digest).save(folder / "base2/error.npz")
    changed = load(folder, ("base/", "base2/"))
    (folder / "base2/yaw.npz").write_bytes((folder / "base/yaw.npz").read_bytes())
    (folder / "base2/error.npz").write_bytes((folder / "base/error.npz").read_bytes())
    same = load(folder, ("base/", "base2/"))
    assert Plan.build(changed.signals, changed.checks).digest() != plan
    assert changed.digest != same.digest
    assert Plan.build(same.signals, same.checks).digest() == plan
    blind = load(folder, references=False)
    assert blind.digest != envelope.digest
    with pytest.raises(ValueError, match="has no model"):
        Plan.build(blind.signals, [])


HERE = "signals.yaw_error."
MODEL = f"{HERE}residual.model: "
ROLL = "signals:\n  roll: {topic: /imu, field: roll, unit: rad/s}\n"
FIN = "signals:\n  fin: {topic: /fin, field: x, unit: deg}\n"
AGAIN = (
    "  twice: {expr: 2 * yaw_error, unit: rad/s}\n"
    "  again: {residual: {response: twice, command: [rudder], model: base/yaw.npz}, unit: rad/s}\n"
    "checks:\n"
)
ERRORS: dict[str, tuple[list[tuple[str, str]], str]] = {
    "response": (
        [("response: yaw", "response: jaw")],
        f"e.yaml:7:36: {HERE}residual.response: no signal is named `jaw` (did you mean `yaw`?)",
    ),
    "command": (
        [("[rudder]", "[ruder]")],
        f"e.yaml:7:51: {HERE}residual.command[0]: no signal is named `ruder` (did you mean `rudder`?)",
    ),
    "itself": (
        [("response: yaw", "response: yaw_error")],
        "e.yaml:7:25: signals.yaw_error.residual: `yaw_error` is made of itself",
    ),
    "twice": ([("[rudder]", "[rudder, rudder]")], f"e.yaml:7:59: {HERE}residual.command[1]: `rudder` is given twice"),
    "response as command": ([("[rudder]", "[yaw]")], "residual.command[0]: `yaw` is the response itself"),
    "no command": ([("[rudder]", "[]")], "residual.command: needs at least 1"),
    "missing file": (
        [("base/yaw", "base/jaw")],
        "base/jaw.npz: No such file or directory: make it with `edge-replay calibrate`",
    ),
    "a reference as model": (
        [("base/yaw", "base/error")],
        "does not hold the arrays that it must: not a reference file of `edge-replay calibrate`; make it anew",
    ),
    "unit": (
        [("rad/s, max_age", "deg/s, max_age")],
        f"{HERE}unit: the response is in `rad/s`, and so is its residual: write `unit: rad/s`",
    ),
    "units of the file": ([("unit: deg", "unit: rad")], f"{MODEL}was made with `rudder` in `deg`: calibrate anew"),
    "other response": (
        [("signals:\n", ROLL), ("response: yaw", "response: roll")],
        f"{MODEL}predicts `yaw`, not `roll`: calibrate anew",
    ),
    "other command": (
        [("signals:\n", FIN), ("[rudder]", "[fin]")],
        f"{MODEL}predicts from `rudder`, in this order: calibrate anew",
    ),
    "topic": ([("yaw_error: {", "yaw_error: {topic: /x, ")], f"{HERE}topic: is not possible with `residual`"),
    "expr": ([("yaw_error: {", "yaw_error: {expr: yaw, ")], f"{HERE}residual: is not possible with `expr`"),
    "a residual of a residual": (
        [("checks:\n", AGAIN)],
        "signals.again.residual: `again` is made of the residual `yaw_error`: a model is made of what is measured",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_mistakes_have_their_place_and_fix(name: str, folder: Path) -> None:
    """Each mistake gives file, line, column and what to do."""
    changes, said = ERRORS[name]
    with pytest.raises(EnvelopeError) as error:
        load(folder, *changes)
    assert said in str(error.value)


def test_a_reference_of_another_model_is_refused(folder: Path, model: residual_models.ResidualModel) -> None:
    """A residual's reference is tied to the model: fitted anew, the reference must be, too."""
    calibrated(model, folder, "0" * 64).save(folder / "base/old.npz")
    with pytest.raises(EnvelopeError, match="was made of `yaw_error` with another model: calibrate anew"):
        load(folder, ("base/error", "base/old"))


def test_an_unusable_model_is_a_warning(folder: Path, model: residual_models.ResidualModel) -> None:
    """A model that its own file does not recommend is loaded, and named with its reasons."""
    doubtful = replace(model, header={**model.header, "usable": False, "reasons": ["it is not excited"]})
    digest = doubtful.save(folder / "base/doubtful.npz")
    calibrated(model, folder, digest).save(folder / "base/doubted.npz")
    envelope = load(folder, ("base/yaw", "base/doubtful"), ("base/error", "base/doubted"))
    assert len(envelope.warnings) == 1
    assert "signals.yaw_error.residual.model: the model is not usable: it is not excited" in envelope.warnings[0]


def test_headers_are_json() -> None:
    """What a report needs is in the header, as plain JSON."""
    header = json.loads(json.dumps(dict(fit_model(drives(), ASKED).header)))
    assert header["period_ns"] == 10**9 // RATE
    assert header["commands"] == ["rudder"]
