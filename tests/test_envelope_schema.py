"""What is made from the envelope's models: JSON Schema, reference, and the commands around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from edge_monitor.commands.check import command as check
from edge_monitor.commands.schema import command as schema
from edge_monitor.core.signals import Signal
from edge_monitor.envelope import CHECK_MODELS, reference
from edge_monitor.envelope.check_model import CheckModel
from edge_monitor.envelope.schema import SHIPPED, envelope_schema, schema_text

CONFIGS = ["ardupilot_copter", "px4_multirotor", "survey_plane", "ugv_husky"]
GOOD: dict[str, Any] = {
    "edge_monitor": 1,
    "envelope": {"id": "t", "version": 1, "vehicle": "rover"},
    "signals": {"v": {"topic": "/odom", "max_age": "1 s"}},
    "checks": {"c": {"kind": "bounds", "signal": "v", "max": 3}},
    "gates": {"g": {"require": "all", "criteria": ["c", {"at_least": 1, "of": ["c"]}]}},
}


@pytest.fixture(scope="module")
def validator() -> Any:
    """A validator of the exported schema, which must itself be a schema of the draft that it names."""
    made = envelope_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def test_schema_names_itself() -> None:
    """Editors find draft and identity; the copy in the package is the one that the command writes."""
    made = envelope_schema()
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert made["$id"] == "urn:edge-monitor:schema:envelope:1"
    assert SHIPPED.read_text("utf-8") == schema_text()


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configs_fit_the_schema(root: Path, validator: Any, name: str) -> None:
    """An editor shows no error in a shipped envelope, and finds the schema where the file says."""
    path = root / "configs" / f"{name}.yaml"
    validator.validate(YAML(typ="safe", pure=True).load(path))
    first = path.read_text("utf-8").splitlines()[0]
    assert (path.parent / first.partition("$schema=")[2]).resolve() == SHIPPED


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("edge_monitor",), 2),
        (("envelope", "version"), 0),
        (("envelope", "vesion"), 1),
        (("signals", "v", "max_age"), 5),
        (("signals", "v", "max_age"), "5"),
        (("signals", "1v"), {"topic": "/x", "max_age": "1 s"}),
        (("signals", "v", "field"), "a..b"),
        (("checks", "c", "kind"), "bonds"),
        (("checks", "c", "maxx"), 1),
        (("checks", "c", "max"), None),
        (("checks", "c", "fail_for"), 1),
        (("checks", "c", "severity"), "bad"),
        (("gates", "g", "require"), "most"),
        (("gates", "g", "criteria", 1), {"at_least": 0, "of": ["c"]}),
        (("mission",), {"profiles": {"hihg": {}}}),
        (("chekcs",), {}),
    ],
)
def test_schema_finds_mistakes(validator: Any, path: tuple[Any, ...], value: object) -> None:
    """The schema accepts a good file and refuses the same file with one mistake of form."""
    validator.validate(GOOD)
    data = json.loads(json.dumps(GOOD))
    at = data
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    assert not validator.is_valid(data)


def test_schema_tells_kinds_apart() -> None:
    """Checks are one of the kinds, told apart by the constant `kind`; defaults are as a planner would write them."""
    made = envelope_schema()
    options = made["properties"]["checks"]["additionalProperties"]["oneOf"]
    kinds = [made["$defs"][option["$ref"].rsplit("/", 1)[1]]["properties"]["kind"]["const"] for option in options]
    assert kinds == list(CHECK_MODELS)
    assert made["$defs"]["Bounds"]["properties"]["fail_for"]["default"] == "0 s"
    assert made["$defs"]["Gate"]["properties"]["lease"]["default"] == "1 s"
    assert '"null"' not in schema_text()


def test_reference_is_up_to_date(root: Path) -> None:
    """The tables of docs/configuration.md are those that the models give; every one of them is there."""
    text = (root / "docs" / "configuration.md").read_text("utf-8")
    assert reference.rewritten(text) == text
    for name in reference.TABLES:
        assert text.count(f"<!-- generated:{name} -->") == 1


@pytest.mark.parametrize("kind", CHECK_MODELS)
def test_kinds_describe_themselves(kind: str) -> None:
    """Each kind says what it finds in one line and what each field means; its signals are fields of it."""
    model = CHECK_MODELS[kind]
    assert model.__doc__ != CheckModel.__doc__
    assert "\n" not in (model.__doc__ or "\n")
    assert all(model.model_fields[field].description for field in reference.own_fields(model))
    assert set(model.signal_fields) <= set(model.model_fields)


def test_check_command(root: Path, tmp_path: Path) -> None:
    """`edge-monitor check` says a line for each good file, all problems of bad ones, and ends with 3 if any is bad."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("edge_monitor: 1\nenvelope: {id: x, version: 1}\nsignals: {}\nchecks: {}\n")
    good = str(root / "configs" / "ugv_husky.yaml")
    result = CliRunner().invoke(check, [good])
    assert result.exit_code == 0
    assert (
        "ugv_husky.yaml: fine: ugv-husky v1 for ugv_husky, 16 signals, 22 checks, 2 gates, risk medium" in result.stdout
    )
    result = CliRunner().invoke(check, [str(bad), good, str(tmp_path / "none.yaml")])
    assert result.exit_code == 3
    assert result.stderr.splitlines() == [
        f"{bad}:2:1: envelope.vehicle: is required",
        f"{bad}:3:10: signals: is empty: there is nothing to monitor",
        f"{bad}:4:9: checks: is empty: there is nothing to monitor",
        f"{tmp_path / 'none.yaml'}: cannot read the envelope: No such file or directory",
    ]
    assert "fine" in result.stdout


def test_check_command_as_json_and_from_stdin() -> None:
    """With `--json` there is one document, warnings and problems included; `-` reads standard input."""
    text = json.dumps(GOOD | {"signals": GOOD["signals"] | {"idle": {"topic": "/x", "max_age": "1 s"}}})
    column = text.index('"idle"') + 1
    document = json.loads(CliRunner().invoke(check, ["--json", "-"], input=text).stdout)["files"][0]
    assert (document["ok"], document["id"], document["gates"], document["problems"]) == (True, "t", ["g"], [])
    assert document["warnings"] == [f"<stdin>:1:{column}: signals.idle: no check and no authority reads this signal"]
    result = CliRunner().invoke(check, ["--json", "-"], input="{}")
    assert result.exit_code == 3
    document = json.loads(result.stdout)["files"][0]
    assert document["problems"] == [
        f"<stdin>:1:1: {section}: is required" for section in ("checks", "edge_monitor", "envelope", "signals")
    ]


def test_schema_command(tmp_path: Path) -> None:
    """`edge-monitor schema` writes the schema to standard output or a file; a folder that is not there is one line."""
    assert CliRunner().invoke(schema, []).stdout == schema_text()
    target = tmp_path / "schema.json"
    assert CliRunner().invoke(schema, ["--out", str(target)]).exit_code == 0
    assert target.read_text("utf-8") == schema_text()
    failed = CliRunner().invoke(schema, ["--out", str(tmp_path / "no" / "schema.json")])
    assert "cannot write the schema: No such file or directory" in str(failed.exception)


def test_px4_signals_are_those_of_the_log(root: Path, data_dir: Path) -> None:
    """The flight of the golden log has every topic and field that configs/px4_multirotor.yaml reads."""
    import pyulog

    from edge_monitor.envelope import load

    log = pyulog.ULog(str(data_dir / "uav_px4" / "px4_mission_pilot_takeover_failsafe.ulg"))
    fields = {(data.name, data.multi_id): set(data.data) for data in log.data_list}

    def missing(signal: Signal) -> bool:
        topic, _, instance = signal.topic.rstrip("]").partition("[")
        have = fields.get((topic, int(instance or 0)), set())
        return not have or (bool(signal.field) and signal.field not in have and f"{signal.field}[0]" not in have)

    signals = [s for s in load(root / "configs" / "px4_multirotor.yaml").signals if s.expr is None]
    assert [s.name for s in signals if missing(s) and s.topic != "logged_message"] == []
