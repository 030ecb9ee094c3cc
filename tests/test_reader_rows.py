"""CSV and JSONL: rows become messages that rosbags decodes back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.errors import DamagedInputError
from edge_replay import readers
from edge_replay.readers.rows import field_names, guess_unit, nanoseconds, time_unit


def rows(path: Path) -> tuple[list[tuple[int, str, dict[str, Any]]], list[str]]:
    """((time, topic, fields) of each message as rosbags decodes it, what is said of damage)."""
    decoders: dict[int, tuple[Channel, Any]] = {}
    found, damage = [], []
    for item in readers.open(path):
        if isinstance(item, Channel):
            store = get_typestore(Stores.EMPTY)
            store.register(get_types_from_msg(item.definition, item.type))
            decoders[item.id] = item, store
        elif isinstance(item, Damage):
            damage.append(item.what)
        elif isinstance(item, Batch):
            for t, start, size, number in item.messages.tolist():
                channel, store = decoders[number]
                message = store.deserialize_cdr(item.data[start : start + size].tobytes(), channel.type)
                fields = {k: v if isinstance(v, (float, str)) else list(v) for k, v in vars(message).items()}
                fields.pop("__msgtype__", None)
                found.append((t, channel.topic, fields))
    return found, damage


def test_a_csv_is_a_topic_of_its_columns(tmp_path: Path) -> None:
    """Numbers are float64, other columns strings, an empty cell NaN; the time column is the receive time."""
    (tmp_path / "a").write_text("t_s,Speed (m/s),mode\n0.1,1.5,AUTO\n0.200000001,-3e2,\n0.3,,MÄN\n", encoding="utf-8")
    found, damage = rows(tmp_path / "a")
    assert damage == []
    assert [(t, topic, fields["mode"]) for t, topic, fields in found] == [
        (100_000_000, "csv", "AUTO"), (200_000_001, "csv", ""), (300_000_000, "csv", "MÄN"),
    ]  # fmt: skip
    assert [fields["Speed_m_s"] for _, _, fields in found[:2]] == [1.5, -300.0]
    assert math.isnan(found[2][2]["Speed_m_s"])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_quotes_and_a_byte_order_mark(tmp_path: Path, delimiter: str) -> None:
    """The delimiter is that of the header; cells may be quoted; a byte order mark is no part of a name."""
    lines = [delimiter.join(line) for line in (["time", "note", "v"], ["1", f'"a{delimiter}b"', "2"])]
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines, ""]).encode())
    assert rows(tmp_path / "a") == ([(1_000_000_000, "csv", {"v": 2.0, "note": f"a{delimiter}b"})], [])


def test_broken_csv_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    """Lines of another width, without a time, or without an end are named by their first line; the others are read."""
    (tmp_path / "a").write_text("t,v\n1,1\n2\n3,3,3\nx,4\n5,5\n6,6")
    found, damage = rows(tmp_path / "a")
    assert [t for t, _, _ in found] == [1_000_000_000, 5_000_000_000]
    assert [what.split(",")[0] for what in damage] == [
        "3 lines cut or of another width than the header",
        "1 lines without a time",
    ]
    assert damage[0].endswith("line 3")


def test_a_damaged_cell_does_not_turn_numbers_into_text(tmp_path: Path) -> None:
    """One cell that is no number counts as missing, and is reported; its column stays a number."""
    (tmp_path / "a").write_text("t,v\n" + "".join(f"{i},{'1x5' if i == 3 else i}\n" for i in range(20)))
    found, damage = rows(tmp_path / "a")
    assert [t // 10**9 for t, _, fields in found if math.isnan(fields["v"])] == [3]
    assert damage == ["column 'v': 1 values are no numbers; they count as missing"]


def test_a_csv_without_times_says_how_to_name_them(tmp_path: Path) -> None:
    """Without a column of times there is no stream: the error says what to add."""
    (tmp_path / "a").write_text("x,y\n1,2\n")
    with pytest.raises(DamagedInputError, match="line 1: no column of times; name one t_s"):
        list(readers.open(tmp_path / "a"))


def test_jsonl_objects_become_topics(tmp_path: Path) -> None:
    """Objects name their topic; numbers, truth values, texts, lists and objects inside have their fields."""
    (tmp_path / "a").write_text(
        '{"topic": "/a", "t": 1.5, "pose": {"x": 1, "y": -2}, "ok": true, "name": "hi", "l": [1, 2.5]}\n'
        '{"topic": "/b", "t_ns": 2000000000, "v": null}\n'
        '{"topic": "/a", "t": 2.5, "l": [], "new": 3, "pose": {"x": "no"}}\n'
        '{"t_ms": 3000, "v": 7}'
    )
    found, damage = rows(tmp_path / "a")
    assert damage == []
    assert found[0] == (
        1_500_000_000, "/a", {"pose_x": 1.0, "pose_y": -2.0, "ok": 1.0, "name": "hi", "l": [1.0, 2.5]},
    )  # fmt: skip
    assert [(t, topic) for t, topic, _ in found] == [
        (1_500_000_000, "/a"), (2_000_000_000, "/b"), (2_500_000_000, "/a"), (3_000_000_000, "jsonl"),
    ]  # fmt: skip
    assert found[2][2]["l"] == [] and found[2][2]["name"] == "" and math.isnan(found[2][2]["pose_x"])


def test_broken_jsonl_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    """What is no object with a time is counted, never fatal: nesting without end, texts for times, half lines."""
    bad = [
        "{no",
        "[1]",
        "3",
        '{"v": 1}',
        '{"t": "soon"}',
        '{"t": true, "topic": 5}',
        "[" * 100_000,
        '{"t": 9e99}',
        "\xff",
    ]
    (tmp_path / "a").write_text(
        '{"t": 1, "v": 2}\n' + "\n".join(bad) + '\n{"t": 2, "v": 3}\n{"t": 3', encoding="latin-1"
    )
    found, damage = rows(tmp_path / "a")
    assert [t for t, _, _ in found] == [1_000_000_000, 2_000_000_000]
    assert damage == [f"{len(bad) + 1} lines that are no JSON object with a time, the first is line 2"]


@given(st.integers(-(10**18), 10**18))
def test_times_are_exact_to_the_nanosecond(t: int) -> None:
    """A time written in any unit is read back without rounding."""
    sign, digits = "-" if t < 0 else "", str(abs(t)).rjust(10, "0")
    assert nanoseconds(f"{sign}{digits[:-9]}.{digits[-9:]}", "s") == t
    assert nanoseconds(f"{sign}{digits[:-6]}.{digits[-6:]}", "ms") == t
    assert nanoseconds(str(t), "ns") == t


def test_units_of_times() -> None:
    """By the name of the column, or by the size of the first value."""
    assert [time_unit(name) for name in ("t", "Time_MS", "timestamp_ns", "stamp_us", "time_x", "speed", "_s")] == [
        "", "ms", "ns", "us", None, None, None,
    ]  # fmt: skip
    assert [guess_unit(value) for value in (12.5, "1700000000", 1.7e12, 1.7e15, "1700000000000000000")] == [
        "s", "s", "ms", "us", "ns",
    ]  # fmt: skip
    assert nanoseconds("2026-03-20T20:27:00.25Z", "s") == 1_774_038_420_250_000_000


@given(st.lists(st.text(max_size=6), max_size=8))
def test_field_names_are_valid_and_distinct(columns: list[str]) -> None:
    """Whatever columns are called, their fields have names that a definition can hold, all different."""
    names = field_names(columns)
    assert len(set(names)) == len(names) == len(columns)
    assert all(name.isidentifier() and name.isascii() for name in names)
