"""Records out to a SIEM: what each form says holds against its schema, and nothing that a robot says breaks out of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from catalogue_case import SECOND, World

from edge_monitor.journal import Digests, Entry, Severity
from edge_monitor.journal.event_types import EVENT_TYPES
from edge_monitor.journal.merkle import leaf_hash
from edge_registry.siem import forms, otlp, syslog
from edge_registry.siem.shipment import Shipment, shipment
from edge_registry.store import Event
from edge_registry.tail import Cursor, Line, Tail

VECTORS = Path(__file__).parent / "vectors"
OCSF = json.loads((VECTORS / "ocsf_fields.json").read_text("utf-8"))
ECS = json.loads((VECTORS / "ecs_fields.json").read_text("utf-8"))
START = 1_790_000_000 * SECOND
HOSTILE = 'a|b=c\\d"e]\n<13>1 - - forged\r\n\0\u2028CEF:0|x \u202e ü 漢'
#: SD-DATA and the rest by RFC 5424 §6, written from the RFC and not from the code.
RFC5424 = re.compile(
    r"<(?P<pri>\d{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) "
    r"(?P<proc>[!-~]{1,128}) (?P<id>[!-~]{1,32}) \[(?P<sd>[!-<>-\\^-~]{1,32})"
    r"(?P<params>(?: \w{1,32}=\"(?:[^\"\\\]]|\\[\"\\\]])*\")*)\] "
    r"(?P<msg>.*)",
    re.DOTALL,
)


@pytest.fixture(scope="module")
def shipments(tmp_path_factory: pytest.TempPathFactory) -> list[Shipment]:
    """One record of each event type, some with texts that try to break out, as the registry's tail has them."""
    folder = tmp_path_factory.mktemp("siem")
    world = World(folder, f"sqlite:///{folder}/registry.db")
    entries = [
        Entry(
            kind, list(Severity)[n % 4], n, n,
            {"subject": HOSTILE if n % 2 else "speed", "cause": HOSTILE, "value": n / 3, "limit": 2, "unit": "m/s", "b": b"\1"},
            actor="erin=" if n % 5 == 0 else "", rules=("speed", "a b"), hazard="H|3", claim="G1",
        )
        for n, kind in enumerate(EVENT_TYPES) if kind != "key.rotated"
    ]  # fmt: skip
    world.drive(Digests(b"\xee" * 32, b"\xdd" * 32, b"1"), START, entries, count=2)
    world.sync()
    found = [shipment(line) for line in Tail(world.store, Cursor()).lines()]
    world.close()
    assert len(found) > len(EVENT_TYPES)
    return found


def problems(document: dict[str, Any], shape: dict[str, Any], profiles: list[str], where: str = "") -> Iterator[str]:
    """What an OCSF document has that its class has not, or lacks."""
    kinds = {"string_t": str, "integer_t": int, "long_t": int, "timestamp_t": int, "boolean_t": bool, "object": dict}
    for name, field in shape.items():
        wanted = field.get("required") and ("profile" not in field or field["profile"] in profiles)
        if wanted and name not in document:
            yield f"{where}{name} is missing"
    for name, value in document.items():
        field = shape.get(name)
        if field is None or ("profile" in field and field["profile"] not in profiles):
            yield f"{where}{name} is not of the class"
            continue
        values = value if field.get("array") else [value]
        if field.get("array") and not isinstance(value, list):
            yield f"{where}{name} is no list"
        for one in values:
            base = OCSF["types"].get(field["type"], "") or field["type"]
            if field["type"] in OCSF["objects"]:
                yield from problems(one, OCSF["objects"][field["type"]], profiles, f"{where}{name}.")
            elif not isinstance(one, kinds[base]) or (base != "boolean_t" and isinstance(one, bool)):
                yield f"{where}{name} is a {type(one).__name__}"
            elif "enum" in field and one not in field["enum"]:
                yield f"{where}{name} can't be {one}"


def test_ocsf_is_of_its_class(shipments: list[Shipment]) -> None:
    """Every record is a Base Event, Detection Finding or Application Lifecycle of OCSF 1.2 with all that is required."""
    seen = set()
    for one in shipments:
        data = forms.ocsf(one)
        assert data.isascii() and b"\n" not in data
        document = json.loads(data)
        seen.add(document["class_uid"])
        shape = OCSF["classes"][str(document["class_uid"])]
        assert list(problems(document, shape, document["metadata"].get("profiles", []))) == [], one.type
        assert document["metadata"]["version"] == OCSF["version"] == forms.OCSF_VERSION
        assert document["type_uid"] == document["class_uid"] * 100 + document["activity_id"]
        assert document["category_uid"] == document["class_uid"] // 1000
        assert document["metadata"]["uid"] == one.id and document["unmapped"]["hash"] == one.hash
        assert document["time"] == one.time_ns // 10**6
    assert seen == {0, 2004, 6002}
    opened = [json.loads(forms.ocsf(one)) for one in shipments if one.type in ("gate.no_go", "gate.go")]
    assert {one["activity_id"] for one in opened} == {1, 3}
    assert set(forms.FINDINGS) | set(forms.LIFE) <= set(EVENT_TYPES)


def flattened(document: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by their dotted names."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{place}{name}.")
        else:
            yield place + name, value


def test_ecs_has_only_fields_of_its_list_and_our_own(shipments: list[Shipment]) -> None:
    """Names, types and allowed values are those of ECS 9.4; everything else is under ``edge_monitor``."""
    kinds = {"keyword": str, "match_only_text": str, "wildcard": str, "long": int, "date": str}
    for one in shipments:
        data = forms.ecs(one)
        assert data.isascii() and b"\n" not in data
        document = json.loads(data)
        for name, value in flattened(document):
            if name.startswith("edge_monitor."):
                continue
            kind = ECS["fields"][name]
            for each in value if kind.endswith("[]") else [value]:
                assert isinstance(each, kinds[kind.removesuffix("[]")]), (name, each)
                assert each in ECS["allowed"].get(name, [each]), (name, each)
        assert document["ecs"]["version"] == ECS["version"] == forms.ECS_VERSION
        assert document["event"]["id"] == one.id and document["event"]["hash"] == one.hash
        assert document["edge_monitor"]["seq"] == one.sequence


def parsed_cef(line: str) -> tuple[list[str], dict[str, str]]:
    """Header and extension of a CEF line, by the rules of the format's paper."""
    match = re.match(r"((?:[^\\|]|\\.)*)\|" * 7, line)
    assert match is not None
    parts, rest = match.groups(), line[match.end() :]
    places = [match.start() for match in re.finditer(r"(?:^|(?<= ))[A-Za-z0-9]+(?<!\\)=", rest)]
    found = {}
    for start, end in zip(places, [*places[1:], len(rest) + 1], strict=True):
        name, _, value = rest[start : end - 1].partition("=")
        assert not re.search(r"(?<!\\)(\\\\)*=", value), value
        found[name] = re.sub(r"\\([\\=])", r"\1", value)
    return [re.sub(r"\\([\\|])", r"\1", part) for part in parts], found


def test_cef_can_be_taken_apart_again(shipments: list[Shipment]) -> None:
    """Seven fields in front, the rest by name, nothing of a robot's becomes a field, a header or another line."""
    keys = set()
    for one in shipments:
        line = forms.cef(one).decode()
        assert not any(character in line for character in "\n\r\0\u2028\u202e")
        head, fields = parsed_cef(line)
        keys |= set(fields)
        assert (
            head[:3] == ["CEF:0", "edge-monitor", "edge-registry"] and head[4] == one.type and 0 <= int(head[6]) <= 10
        )
        assert fields["externalId"] == one.id and fields["cs2"] == one.hash and fields["cs2Label"] == "hash"
        assert fields["cn1"] == str(one.sequence) and fields["rt"] == str(one.time_ns // 10**6)
        assert fields["msg"] == one.sentence()
    assert keys == {
        "rt", "externalId", "dvchost", "deviceExternalId", "cat", "cs1", "cs1Label", "cs2", "cs2Label", "cs3", "cs3Label", "cs4",
        "cs4Label", "cs5", "cs5Label", "cs6", "cs6Label", "cn1", "cn1Label", "suser", "msg",
    }  # fmt: skip


def test_syslog_is_rfc_5424(shipments: list[Shipment]) -> None:
    """Header and structured data parse by the RFC's grammar, and name robot, boot, sequence and hash; lengths are octets."""
    for one in shipments:
        found = syslog.message(one, forms.cef(one))
        match = RFC5424.fullmatch(found.decode())
        assert match is not None, found
        assert int(match["pri"]) // 8 == 13 and match["host"] == one.robot and match["id"] == one.type[:32]
        params = dict(re.findall(r' (\w+)="((?:[^"\\]|\\.)*)"', match["params"]))
        assert params == {
            "id": one.id, "robot": one.robot, "boot": one.boot, "seq": str(one.sequence), "log": one.log, "hash": one.hash,
        }  # fmt: skip
        assert syslog.framed([found]).startswith(b"%d <" % len(found))


def test_opentelemetry_has_what_the_others_have(shipments: list[Shipment]) -> None:
    """One resource a robot, 64-bit numbers as text as OTLP's JSON has them, severities in their ranges."""
    document = json.loads(otlp.request(shipments))
    (resource,) = document["resourceLogs"]
    assert {"key": "host.name", "value": {"stringValue": "robot-7"}} in resource["resource"]["attributes"]
    records = resource["scopeLogs"][0]["logRecords"]
    assert len(records) == len(shipments)
    for one, record in zip(shipments, records, strict=True):
        said = {each["key"]: each["value"] for each in record["attributes"]}
        assert said["log.record.uid"] == {"stringValue": one.id} and said["edge.hash"] == {"stringValue": one.hash}
        assert said["edge.seq"] == {"intValue": str(one.sequence)}
        assert record["timeUnixNano"] == str(one.time_ns) and 1 <= record["severityNumber"] <= 24


def test_what_is_erased_or_of_a_later_version_is_sent_all_the_same(shipments: list[Shipment]) -> None:
    """A record without its payload says so; one that this program can't read goes out with its place and hash."""
    assert shipments[0].payload is not None
    record = b"\x93\x09\x01\x02"
    later = shipment(Line(Cursor(), "robot-7", "log", Event(7, "", 4, 0, 0, -1, record, None, None), 5))
    assert (later.id, later.hash, later.time_ns) == ("robot-7/log/7", leaf_hash(record).hex(), 5 * SECOND)
    for form in forms.FORMS.values():
        assert b"robot-7/log/7" in form(later)
    shape = OCSF["classes"]["0"]
    assert list(problems(json.loads(forms.ocsf(later)), shape, [])) == []
    from dataclasses import replace

    erased = replace(shipments[5], payload=None)
    assert "its payload was erased" in erased.sentence() and json.loads(forms.ocsf(erased))["unmapped"]["payload"] == ""
    large = replace(shipments[5], payload={"x": "y" * 20_000})
    assert large.payload_text() == ""


def test_a_robot_s_clock_decides_the_time_where_it_knows_it(shipments: list[Shipment]) -> None:
    """Else it is the time of the receipt."""
    from dataclasses import replace

    assert shipments[0].time_ns == START and abs(shipments[0].received_ns - time.time_ns()) < 600 * SECOND
    assert replace(shipments[0], wall_ns=None).time_ns == shipments[0].received_ns
