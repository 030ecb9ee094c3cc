"""Extraction equals the full decode by rosbags: every type of its stores, random definitions, both byte orders."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from edge_monitor.core.layout import Extractor
from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.samples import FLAG_CAUSE, FLAG_END, MESSAGE, Cause
from edge_monitor.core.signals import Signal

JAZZY = get_typestore(Stores.ROS2_JAZZY)
NOETIC = get_typestore(Stores.ROS1_NOETIC)
RANGES = {
    "bool": (0, 1),
    "byte": (-128, 127),
    "char": (0, 255),
    **{f"int{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, (1 << bits) - 1) for bits in (8, 16, 32, 64)},
}
TEXTS = ("", "x", "base_link", "żółw", "a" * 41)


def scalar(kind: str, rng: np.random.Generator) -> Any:
    """A random value of a plain type, with infinities and NaN among the floats."""
    if kind == "string":
        return TEXTS[rng.integers(len(TEXTS))]
    if kind.startswith("float"):
        value = rng.choice([0.0, -1.5, math.inf, -math.inf, math.nan, rng.normal(scale=1e3)])
        return float(np.float32(value)) if kind == "float32" else float(value)
    low, high = RANGES[kind]
    value = int(rng.integers(low, high, endpoint=True, dtype=np.uint64 if low == 0 else np.int64))
    return bool(value) if kind == "bool" else value


def message(store: Typestore, name: str, rng: np.random.Generator) -> Any:
    """A random message of a type in a store."""
    values = [value(store, node, rng) for _, node in store.fielddefs[name][1]]
    return store.types[name](*values)


def value(store: Typestore, node: Any, rng: np.random.Generator) -> Any:
    """A random value of a field's type."""
    kind, what = node
    if kind == Nodetype.BASE:
        return scalar(what[0], rng)
    if kind == Nodetype.NAME:
        return message(store, what, rng)
    element, length = what
    count = length if kind == Nodetype.ARRAY else int(rng.choice([0, 1, 2, 3, min(length or 7, 7)]))
    items = [value(store, element, rng) for _ in range(min(count, length) if length else count)]
    if element[0] == Nodetype.BASE and element[1][0] != "string":
        kinds = {"byte": "int8", "char": "uint8"}
        return np.array(items, kinds.get(element[1][0], element[1][0]))
    return items


def leaves(store: Typestore, name: str, decoded: Any, above: str = "") -> Iterator[tuple[str, str | None, Any]]:
    """(path, reducer, expected) of every number, text and list of a decoded message."""
    for field, node in store.fielddefs[name][1]:
        item = getattr(decoded, field)
        if store is NOETIC and field == "structure_needs_at_least_one_member":
            continue  # an empty message takes no byte in ROS 1
        if store is NOETIC and name.endswith("/Time") and field == "sec":
            item &= 0xFFFFFFFF  # rosbags decodes ROS 1 times as ROS 2's, whose seconds are signed
        if store is NOETIC and name.endswith("/Duration") and field == "nanosec" and item >= 1 << 31:
            item -= 1 << 32  # and durations, whose nanoseconds are not
        yield from _leaves(store, node, item, above + field)


def _leaves(store: Typestore, node: Any, decoded: Any, path: str) -> Iterator[tuple[str, str | None, Any]]:
    kind, what = node
    if kind == Nodetype.BASE and what[0] == "byte":  # rosbags: bytes alone, int8 in arrays; here an octet, ROS 1: int8
        octet = decoded[0] if isinstance(decoded, bytes) else int(decoded) & 0xFF
        yield path, None, octet - 256 if store is NOETIC and octet > 127 else octet
    elif kind == Nodetype.BASE:
        yield path, None, decoded
    elif kind == Nodetype.NAME:
        yield from leaves(store, what, decoded, path + ".")
    else:
        yield path, "count", len(decoded)
        for index, item in enumerate(decoded):
            if index in (0, 1, len(decoded) - 1):
                yield from _leaves(store, what[0], item, f"{path}[{index}]")


def extract(channel: Channel, raw: bytes, wanted: list[tuple[str, str | None]]) -> tuple[np.ndarray, Extractor]:
    """The samples of one message, one for each (path, reducer)."""
    signals = [Signal(f"s{i}", channel.topic, path, reduce=reduce) for i, (path, reduce) in enumerate(wanted)]
    extractor = Extractor(signals)
    assert extractor.add_channel(channel) == []
    row = np.array([(1, 0, len(raw), 0)], MESSAGE)
    return extractor.extract(Batch(np.frombuffer(raw, np.uint8), row)), extractor


def compare(channel: Channel, raw: bytes, expected: list[tuple[str, str | None, Any]]) -> None:
    """Assert that every expected leaf is extracted, exactly."""
    samples, extractor = extract(channel, raw, [(path, reduce) for path, reduce, _ in expected])
    assert samples["signal"].tolist() == list(range(len(expected)))
    assert [bool(flags & FLAG_END) for flags in samples["flags"]] == [False] * (len(expected) - 1) + [True]
    for (path, _, want), sample in zip(expected, samples, strict=True):
        assert sample["flags"] & FLAG_CAUSE == Cause.NONE, path
        got = float(sample["value"])
        if isinstance(want, str):
            assert extractor.texts.text(int(got)) == want, path
        else:
            assert got == float(want) or (math.isnan(got) and math.isnan(float(want))), (path, got, want)


def bulk(expected: list[tuple[str, str | None, Any]], most: int = 120) -> list[tuple[str, str | None, Any]]:
    """At most ``most`` of the leaves, spread over the message, the last one among them."""
    return expected[:: -max(1, len(expected) // most)][::-1]


@pytest.mark.parametrize("little", [True, False], ids=["little", "big"])
def test_every_jazzy_type_is_read_as_rosbags_decodes_it(little: bool) -> None:
    """Every number, text and list length of a random message of every ROS 2 Jazzy type, in both byte orders."""
    rng = np.random.default_rng(2)
    seen = 0
    for name in sorted(JAZZY.fielddefs):
        text = JAZZY.generate_msgdef(name, ros_version=2)[0]
        channel = Channel(0, "/t", name, "cdr", "ros2msg", text)
        original = message(JAZZY, name, rng)
        raw = bytes(JAZZY.serialize_cdr(original, name, little_endian=little))
        expected = bulk(list(leaves(JAZZY, name, JAZZY.deserialize_cdr(raw, name))))
        if expected:
            compare(channel, raw, expected)
            seen += 1
    assert seen >= 155


def test_every_noetic_type_is_read_as_rosbags_decodes_it() -> None:
    """The same for every ROS 1 Noetic type, without alignment and header."""
    rng = np.random.default_rng(3)
    seen = 0
    for name in sorted(name for name in NOETIC.fielddefs if not name.startswith("builtin_interfaces/")):
        text = NOETIC.generate_msgdef(name, ros_version=1)[0]
        channel = Channel(0, "/t", name, "ros1", "ros1msg", text)
        raw = bytes(NOETIC.serialize_ros1(message(NOETIC, name, rng), name))
        expected = bulk(list(leaves(NOETIC, name, NOETIC.deserialize_ros1(raw, name))))
        if expected:
            compare(channel, raw, expected)
            seen += 1
    assert seen >= 150


PLAIN = [*sorted(set(RANGES) - {"byte"}), "float32", "float64", "string"]


@st.composite
def definitions(draw: st.DrawFn) -> list[tuple[str, list[tuple[str, str]]]]:
    """Types that use those before them: (name, [(field type, field name)]), the last one the root."""
    types: list[tuple[str, list[tuple[str, str]]]] = []
    for number in range(draw(st.integers(1, 4))):
        fields = []
        for at in range(draw(st.integers(1, 5))):
            kinds = PLAIN + [f"p/T{i}" for i in range(number)] * 4
            length = draw(st.sampled_from(["", "", "[]", "[2]", "[3]", "[<=5]"]))
            fields.append((draw(st.sampled_from(kinds)) + length, f"f{at}"))
        types.append((f"p/msg/T{number}", fields))
    return types


@settings(max_examples=120)
@given(definitions(), st.integers(0, 2**32 - 1), st.booleans())
def test_random_definitions_are_read_as_rosbags_decodes_them(
    types: list[tuple[str, list[tuple[str, str]]]], seed: int, little: bool
) -> None:
    """Any nesting of numbers, texts, arrays and sequences gives what the full decode gives, ROS 2 and ROS 1."""
    store = Typestore()
    for name, fields in types:
        store.register(get_types_from_msg("".join(f"{kind} {field}\n" for kind, field in fields), name))
    root = types[-1][0]
    rule = "=" * 80
    texts = ["".join(f"{kind} {field}\n" for kind, field in fields) for _, fields in types]
    others = [f"{rule}\nMSG: {name.replace('/msg', '')}\n{text}" for (name, _), text in zip(types, texts, strict=True)]
    definition = texts[-1] + "".join(others[:-1])
    original = message(store, root, np.random.default_rng(seed))
    expected = bulk(list(leaves(store, root, original)), 60)
    raw = bytes(store.serialize_cdr(original, root, little_endian=little))
    compare(Channel(0, "/t", root, "cdr", "ros2msg", definition), raw, expected)
    raw = bytes(store.serialize_ros1(original, root))
    compare(Channel(0, "/t", root, "ros1", "ros1msg", definition), raw, expected)


def test_a_wide_string_is_skipped() -> None:
    """What follows a wstring (its number of characters, four bytes each) is read from the right place."""
    body = struct.pack("<I3I", 3, 97, 98, 99) + struct.pack("<d", 4.5)
    channel = Channel(0, "/t", "p/msg/W", "cdr", "ros2msg", "wstring<=9 text\nfloat64 x")
    samples, _ = extract(channel, b"\0\1\0\0" + body, [("x", None)])
    assert samples["value"].tolist() == [4.5]


def test_a_real_recording_is_read_as_rosbags_decodes_it(data_dir: Path) -> None:
    """Every message of the Husky's ROS 1 bag and of its ROS 2 conversion: every field that is asked for, exactly."""
    wanted = {
        "sensor_msgs/msg/Imu": ["linear_acceleration.z", "header.stamp.nanosec", "orientation_covariance[8]"],
        "nav_msgs/msg/Odometry": ["pose.pose.position.x", "twist.covariance[35]", "child_frame_id"],
        "sensor_msgs/msg/NavSatFix": ["latitude", "status.status", "position_covariance_type"],
    }
    for file in ("husky_test1.bag", "derived_db3"):
        with AnyReader([data_dir / "ugv_husky" / file], default_typestore=JAZZY) as reader:
            for connection in reader.connections:
                paths = wanted[connection.msgtype]
                raws = [raw for _, _, raw in reader.messages([connection])]
                found = [(raw, reader.deserialize(raw, connection.msgtype)) for raw in raws]
                ros1 = file.endswith(".bag")
                text = (NOETIC if ros1 else JAZZY).generate_msgdef(connection.msgtype, ros_version=1 if ros1 else 2)[0]
                kind = ("ros1", "ros1msg") if ros1 else ("cdr", "ros2msg")
                extractor = Extractor([Signal(path, connection.topic, path) for path in paths])
                assert extractor.add_channel(Channel(0, connection.topic, connection.msgtype, *kind, text)) == []
                rows = np.zeros(len(found), MESSAGE)
                rows["size"] = [len(raw) for raw, _ in found]
                rows["start"] = np.cumsum(rows["size"]) - rows["size"]
                data = np.frombuffer(b"".join(bytes(raw) for raw, _ in found), np.uint8)
                samples = extractor.extract(Batch(data, rows)).reshape(len(found), len(paths))
                assert not (samples["flags"] & FLAG_CAUSE).any()
                for column, path in enumerate(paths):
                    want = [eval(f"decoded.{path}", {"decoded": decoded}) for _, decoded in found]  # paths of this test
                    got = samples["value"][:, column].tolist()
                    if isinstance(want[0], str):
                        got = [extractor.texts.text(int(code)) for code in got]
                    assert got == want or np.array_equal(got, want, equal_nan=True), path
