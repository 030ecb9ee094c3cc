"""What the extractor promises: paths, reducers, latency, text, causes, bounded output, and problems in plain words."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.reducers import percentile, reduced

from edge_monitor.core.layout import Extractor, TextTable
from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.samples import FLAG_CAUSE, FLAG_END, MESSAGE, Cause
from edge_monitor.core.signals import Signal
from edge_monitor.errors import ConfigError

LITTLE = b"\0\1\0\0"
SCAN = "float32 angle\nfloat32[] ranges\nstring frame\nfloat64[3] xyz\nuint8 OK=0\nuint8 LOST=3\nuint8 status\n"
DETECTIONS = (
    "p/Detection[] detections\nint32 after\n"
    "===\nMSG: p/Detection\nstring id\np/Result[] results\n===\nMSG: p/Result\nfloat64 score\nfloat64 x\n"
)


def channel(definition: str, **other: object) -> Channel:
    """A CDR channel ``/t`` of type p/msg/T with a ``.msg`` definition."""
    settings = {"encoding": "cdr", "schema": "ros2msg", "type": "p/msg/T", **other}
    return Channel(0, "/t", definition=definition, **settings)  # type: ignore[arg-type]


def batch(*bodies: bytes, header: bytes = LITTLE, t: int = 10**9) -> Batch:
    """Messages of channel 0, one second apart."""
    raws = [header + body for body in bodies]
    rows = np.zeros(len(raws), MESSAGE)
    rows["size"] = [len(raw) for raw in raws]
    rows["start"] = np.cumsum(rows["size"]) - rows["size"]
    rows["t"] = t + np.arange(len(raws)) * 10**9
    return Batch(np.frombuffer(b"".join(raws), np.uint8), rows)


def signals(*wanted: str | tuple[str, str], **other: object) -> list[Signal]:
    """A signal for each path or (path, reducer) on ``/t``."""
    pairs = [(item, None) if isinstance(item, str) else item for item in wanted]
    return [Signal(f"s{i}", "/t", path, reduce=how, **other) for i, (path, how) in enumerate(pairs)]  # type: ignore[arg-type]


def read(definition: str, body: bytes, *wanted: str | tuple[str, str]) -> np.ndarray:
    """The samples of one little-endian message."""
    extractor = Extractor(signals(*wanted))
    assert extractor.add_channel(channel(definition)) == []
    return extractor.extract(batch(body)).copy()


def scan(ranges: Sequence[float], frame: bytes = b"laser\0") -> bytes:
    """A message of SCAN."""
    body = struct.pack(f"<fI{len(ranges)}f", 0.5, len(ranges), *ranges)
    body += struct.pack("<I", len(frame)) + frame
    body += b"\0" * (-len(body) % 8)
    return body + struct.pack("<3dB", 3.0, 4.0, 12.0, 3)


def causes(samples: np.ndarray) -> list[Cause]:
    """The cause of each sample."""
    return [Cause(flags & FLAG_CAUSE) for flags in samples["flags"].tolist()]


def test_samples_of_a_message_come_in_signal_order_with_the_end_on_the_last() -> None:
    """The order is that of the signals, whatever the order of the bytes is."""
    samples = read(SCAN, scan([1, 2, 3]), "status", "angle", "ranges[2]", "xyz[1]")
    assert samples["signal"].tolist() == [0, 1, 2, 3]
    assert samples["value"].tolist() == [3.0, 0.5, 3.0, 4.0]
    assert samples["flags"].tolist() == [0, 0, 0, FLAG_END]
    assert samples["t"].tolist() == [10**9] * 4


HOW = ["p95", "p05", "min", "max", "mean", "norm", "count", "finite_ratio", "p50"]


@given(st.lists(st.floats(width=32, allow_subnormal=True), max_size=60))
def test_reducers_equal_their_definition(values: list[float]) -> None:
    """Over finite elements (norm: over all), percentiles by nearest rank, sums in element order."""
    samples = read(SCAN, scan(values), *[("ranges", how) for how in HOW])
    for how, got in zip(HOW, samples["value"].tolist(), strict=True):
        want = reduced(values, how)
        assert got == want or (math.isnan(got) and math.isnan(want)), how
    assert causes(samples) == [Cause.NONE] * len(HOW)


@pytest.mark.parametrize(("header", "order"), [(LITTLE, "<"), (b"\0\0\0\0", ">")])
def test_bits_of_whole_numbers(header: bytes, order: str) -> None:
    """``bitN`` behind a whole number is that bit of it, in either byte order, and of 64 bits none is rounded away."""
    names = {"uint8": "B", "int16": "h", "uint32": "I", "int64": "q"}
    definition = "".join(f"{kind} {kind}_\n" for kind in names) + "uint32[2] two\n"
    numbers = (0b1000_0001, -2, 1 << 31 | 1 << 17, -(2**63) + 1)
    body = struct.pack(f"{order}BxhIq2I", *numbers, 0, 6)
    wanted = [(f"{kind}_.bit{bit}", numbers[n] >> bit & 1) for n, kind in enumerate(names) for bit in _bits(kind)]
    wanted += [("two[1].bit0", 0), ("two[1].bit1", 1), ("two[1].bit31", 0)]
    extractor = Extractor(signals(*(path for path, _ in wanted)))
    assert extractor.add_channel(channel(definition)) == []
    samples = extractor.extract(batch(body, header=header))
    assert samples["value"].tolist() == [float(bit) for _, bit in wanted]
    assert causes(samples) == [Cause.NONE] * len(wanted)


def _bits(kind: str) -> range:
    return range(int(kind.lstrip("uint")))


def test_percentiles_of_a_long_list_equal_a_sort() -> None:
    """Ten thousand numbers that share most of their bits, both signs, many of them equal."""
    rng = np.random.default_rng(5)
    values = np.round(rng.normal(scale=0.01, size=10_000), 3).astype(np.float32).tolist()
    samples = read(SCAN, scan(values), ("ranges", "p05"), ("ranges", "p50"), ("ranges", "p95"))
    assert samples["value"].tolist() == [percentile(values, percent) for percent in (5, 50, 95)]


def test_a_list_beyond_the_stated_capacity_is_an_overflow() -> None:
    """1,048,577 elements: the reduction says overflow, the count is still known, other signals are read."""
    samples = read(SCAN, scan([1.0] * ((1 << 20) + 1)), ("ranges", "min"), ("ranges", "count"), "status")
    assert causes(samples) == [Cause.OVERFLOW, Cause.NONE, Cause.NONE]
    assert samples["value"][1:].tolist() == [(1 << 20) + 1, 3.0]


def detections(*scores: Sequence[float]) -> bytes:
    """A message of DETECTIONS: for each detection the scores of its results."""
    body = struct.pack("<I", len(scores))
    for number, results in enumerate(scores):
        name = f"id{number}".encode() + b"\0"
        body += b"\0" * (-len(body) % 4) + struct.pack("<I", len(name)) + name
        body += b"\0" * (-len(body) % 4) + struct.pack("<I", len(results))
        for score in results:
            body += b"\0" * (-len(body) % 8) + struct.pack("<2d", score, -score)
    body += b"\0" * (-len(body) % 4)
    return body + struct.pack("<i", 77)


def test_a_field_of_all_elements_is_collected_for_its_reducer() -> None:
    """``[*]`` over elements of variable size; an element without the inner one contributes nothing."""
    wanted = [
        ("detections[*].results[0].score", "min"),
        ("detections[*].results[0].score", "p50"),
        ("detections[*].results[1].x", "max"),
        ("detections[*].results[0].score", "count"),
        ("detections", "count"),
        "detections[1].results[1].score",
        "after",
        ("detections[0].results[*].score", "mean"),
        ("detections[1].results", "count"),
        "detections[2].id",
    ]
    samples = read(DETECTIONS, detections([0.9], [0.2, 0.4], [], [0.7]), *wanted)
    assert samples["value"].tolist() == [0.2, 0.7, -0.4, 3.0, 4.0, 0.4, 77.0, 0.9, 2.0, 0.0]
    assert causes(samples) == [Cause.NONE] * len(wanted)


def test_an_element_beyond_the_end_is_invalid_for_its_signal_alone() -> None:
    """An index that a message does not have is not a damaged message."""
    wanted = ["detections[1].results[0].score", "after", "detections[0].results[5].x"]
    samples = read(DETECTIONS, detections([0.9]), *wanted)
    assert causes(samples) == [Cause.INVALID, Cause.NONE, Cause.INVALID]
    assert np.isnan(samples["value"][[0, 2]]).all()
    samples = read(SCAN, scan([1.0]), "ranges[1]", "ranges[0]", "status")
    assert causes(samples) == [Cause.INVALID, Cause.NONE, Cause.NONE]


def test_the_norm_of_a_vector_counts_every_component() -> None:
    """A NaN component makes the norm NaN: a length without it would look safe."""
    definition = "string s\np/V v\n===\nMSG: p/V\nfloat64 x\nfloat64 y\nfloat64 z\n"
    for z, want in ((12.0, 13.0), (math.inf, math.inf), (math.nan, math.nan)):
        body = struct.pack("<I4s3d", 4, b"abc\0", 3.0, 4.0, z)
        got = read(definition, body, ("v", "norm"))["value"][0]
        assert got == want or (math.isnan(got) and math.isnan(want))


STAMPED = "std_msgs/Header header\n===\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"


def test_a_stamp_is_latency_in_integer_nanoseconds() -> None:
    """Receive time minus stamp, exact where float64 seconds would not be; a zero or absurd stamp is invalid."""
    extractor = Extractor(signals("header.stamp", "header.stamp.sec"))
    assert extractor.add_channel(channel(STAMPED)) == []
    t = 1_700_000_000_123_456_789
    bodies = [struct.pack("<iIIB", *stamp, 1, 0) for stamp in ((1_700_000_000, 123_456_788), (0, 0), (5, 10**9))]
    samples = extractor.extract(batch(*bodies, t=t))
    assert samples["value"][::2][0] == 1e-9
    assert causes(samples[::2]) == [Cause.NONE, Cause.INVALID, Cause.INVALID]
    assert samples["value"][1::2].tolist() == [1_700_000_000, 0, 5]


def test_a_stamp_may_be_on_another_clock() -> None:
    """A channel says how far the clock of its stamps is ahead of the receive times."""
    extractor = Extractor(signals("header.stamp"))
    t, offset = 5_000_000_003, 1_700_000_000_000_000_000
    assert extractor.add_channel(replace(channel(STAMPED), stamp_offset=offset)) == []
    body = struct.pack("<iIIB", 1_700_000_005, 1, 1, 0)
    assert extractor.extract(batch(body, t=t))["value"].tolist() == [2e-9]


def test_latency_is_unknown_without_receive_times() -> None:
    """A format that has only source stamps gives no_receive_time; other fields are read."""
    extractor = Extractor(signals("header.stamp", "header.stamp.sec"))
    assert extractor.add_channel(channel(STAMPED, receive_time=False)) == []
    samples = extractor.extract(batch(struct.pack("<iIIB", 3, 4, 1, 0)))
    assert causes(samples) == [Cause.NO_RECEIVE_TIME, Cause.NONE]
    assert samples["value"][1] == 3.0


def test_ros1_time_is_a_stamp() -> None:
    """ROS 1: header without alignment, seconds unsigned, strings without NUL."""
    definition = (
        "Header header\nstring word\ntime at\n===\nMSG: std_msgs/Header\nuint32 seq\ntime stamp\nstring frame_id\n"
    )
    body = struct.pack("<IIII1sI3sII", 9, 1, 5, 1, b"f", 3, b"abc", 2, 5)
    extractor = Extractor(signals("header.stamp", "word", "at", "header.seq"))
    assert extractor.add_channel(channel(definition, encoding="ros1", schema="ros1msg", type="p/T")) == []
    samples = extractor.extract(batch(body, header=b"", t=3_000_000_005))
    assert samples["value"].tolist() == [2.0, 0.0, 1.0, 9.0]
    assert extractor.texts.text(0) == "abc"


ULOG = "battery_status:uint64_t timestamp;float volts;char[8] serial;cell c;cell[2] cells;bool on;uint8_t[3] _padding0;"
ULOG_CELL = "cell:int16_t mv;uint8_t id;"


def test_ulog_formats_are_read_without_padding() -> None:
    """Little endian without alignment; nested formats; text up to the first NUL; trailing padding may be missing."""
    ulog = channel(f"{ULOG}\n{ULOG_CELL}", encoding="packed", schema="ulog", type="battery_status", instance=1)
    wanted = ["timestamp", "volts", "serial", "c.mv", "cells[1].id", "on"]
    extractor = Extractor([Signal(f"s{i}", "t[1]", path) for i, path in enumerate(wanted)])
    assert extractor.add_channel(ulog) == []
    body = struct.pack("<Qf8shBhBhBB", 7, 1.5, b"AB\0CD", -2, 3, 4, 5, 6, 200, 2)
    samples = extractor.extract(batch(body, header=b""))
    assert samples["value"].tolist() == [7.0, 1.5, 0.0, -2.0, 200.0, 1.0]
    assert extractor.texts.text(0) == "AB"
    assert causes(extractor.extract(batch(body[:-1], header=b""))) == [Cause.INVALID] * 6


def test_a_topic_without_instance_is_the_first() -> None:
    """``battery_status`` is instance 0 and not instance 1; a leading slash makes no difference."""
    extractor = Extractor([Signal("a", "t", "angle"), Signal("b", "/t[1]", "angle"), Signal("c", "/other", "angle")])
    extractor.add_channel(channel(SCAN))
    assert extractor.extract(batch(scan([])))["signal"].tolist() == [0]


def test_texts_are_numbered_by_first_appearance_behind_the_given_ones() -> None:
    """Batches do not matter, and the table can be made again from its texts."""
    extractor = Extractor(signals("frame"), texts=["AUTO", "MANUAL"])
    extractor.add_channel(channel(SCAN))
    words = [b"MANUAL\0", b"x\0", b"", b"x\0", "ż".encode() + b"\0", b"unterminated"]
    codes = [extractor.extract(batch(scan([], word)))["value"][0] for word in words]
    assert codes == [1, 2, 3, 2, 4, 5]
    assert list(extractor.texts) == ["AUTO", "MANUAL", "x", "", "ż", "unterminated"]
    assert extractor.texts.code("x") == 2
    again = TextTable(list(extractor.texts))
    assert all(np.array_equal(getattr(again, part), getattr(extractor.texts, part)) for part in ("rows", "letters"))
    assert extractor.is_text("s0")
    with pytest.raises(IndexError):
        extractor.texts.text(6)
    assert extractor.texts.code("new") == 6


def test_a_text_that_does_not_fit_is_an_overflow() -> None:
    """A text of more than 1024 bytes, and the 4097th text; those before it are still known."""
    extractor = Extractor(signals("frame"))
    extractor.add_channel(channel(SCAN))
    assert causes(extractor.extract(batch(scan([], b"y" * 1025 + b"\0")))) == [Cause.OVERFLOW]
    assert causes(extractor.extract(batch(scan([], b"y" * 1024 + b"\0")))) == [Cause.NONE]
    many = batch(*[scan([], f"{i}".encode()) for i in range(4096)])
    samples = extractor.extract(many)
    assert causes(samples) == [Cause.NONE] * 4095 + [Cause.OVERFLOW]
    assert extractor.extract(many)["value"][:4095].tolist() == list(range(1, 4096))
    with pytest.raises(ConfigError, match="does not fit"):
        TextTable(["z" * 1025])


def test_presence_needs_no_definition_and_survives_damage() -> None:
    """An empty field is 1 for every message, even one that cannot be read."""
    extractor = Extractor(signals(""))
    assert extractor.add_channel(channel("", schema="none", encoding="protobuf")) == []
    assert extractor.extract(batch(b"anything"))["value"].tolist() == [1.0]
    extractor = Extractor(signals("status", ""))
    assert extractor.add_channel(channel(SCAN)) == []
    samples = extractor.extract(batch(b"", header=b""))
    assert causes(samples) == [Cause.INVALID, Cause.NONE]
    assert samples["value"][1] == 1.0
    assert samples["flags"].tolist() == [Cause.INVALID, FLAG_END]


def test_scale_and_offset_are_applied() -> None:
    """value = raw * scale + offset, also behind a reducer; NaN stays a number's NaN, without a cause."""
    extractor = Extractor(signals("angle", ("ranges", "max"), scale=2.0, offset=-1.0))
    extractor.add_channel(channel(SCAN))
    samples = extractor.extract(batch(scan([1.0, 3.0]), scan([])))
    assert samples["value"][:3].tolist() == [0.0, 5.0, 0.0]
    assert math.isnan(samples["value"][3])
    assert causes(samples) == [Cause.NONE] * 4


def test_the_cause_of_a_channel_is_on_all_its_samples() -> None:
    """A channel whose stamps are unusable gives every sample that cause."""
    extractor = Extractor(signals("angle", "ranges[7]", ""))
    extractor.add_channel(channel(SCAN, cause=Cause.CLOCK))
    assert causes(extractor.extract(batch(scan([])))) == [Cause.CLOCK] * 3
    assert causes(extractor.extract(batch(b"\1"))) == [Cause.CLOCK] * 3


@pytest.mark.parametrize("header", [b"\0\2\0\0", b"\0\6\0\0", b"\1\0\0\0", b"\0\1", b""])
def test_an_unknown_encapsulation_is_invalid(header: bytes) -> None:
    """Only classic CDR, little or big endian, is read; anything else is not guessed at."""
    extractor = Extractor(signals("angle"))
    extractor.add_channel(channel(SCAN))
    assert causes(extractor.extract(batch(scan([]) if len(header) == 4 else b"", header=header))) == [Cause.INVALID]


def test_the_output_grows_and_only_known_channels_give_samples() -> None:
    """More samples than the buffer holds at first; messages of channels without signals are counted alone."""
    extractor = Extractor(signals("angle", "status"))
    extractor.add_channel(channel(SCAN))
    extractor.add_channel(Channel(1, "/u", "p/msg/T", "cdr", "ros2msg", SCAN))
    many = batch(*[scan([float(i)]) for i in range(3000)])
    many.messages["channel"][1::3] = 1
    many.messages["channel"][2::3] = 9
    samples = extractor.extract(many)
    assert len(samples) == 2000
    assert samples["t"].tolist() == [t for t in many.messages["t"][::3].tolist() for _ in range(2)]
    assert extractor.channel_counts == {0: 1000, 1: 1000}


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("anglee", "did you mean 'angle'"),
        ("score", "did you mean 'detections[*].results[*].score'"),
        ("ranges", "give reduce"),
        ("ranges[x]", "not a field path"),
        ("xyz[3]", "has 3 elements"),
        ("angle[0]", "is not a list"),
        ("angle.x", "has no fields"),
        ("angle.bit0", "has no fields"),
        ("status.bit8", "has 8 bits, the last is bit7"),
        ("status.bit1.x", "has no fields"),
        (("status.bit1", "max"), "a bit is of one number"),
        ("detections[0]", "name a field of it (id, results)"),
        ("detections.id", "say which element"),
        ("detections[*].results[*].score", "only one [*]"),
        ("detections[*].results[0].score", "needs reduce"),
        (("angle", "min"), "needs no reduce"),
        (("frame", "min"), "is text"),
        (("ranges", "median"), "no reducer is named 'median'"),
        (("detections[0]", "norm"), "name a field"),
    ],
)
def test_an_unusable_path_is_a_problem_in_plain_words(wanted: str | tuple[str, str], says: str) -> None:
    """The problem names the signal and what to write instead; the other signals are read."""
    extractor = Extractor(signals(wanted, "status"))
    definition = SCAN + "p/Detection[] detections\n" + DETECTIONS[DETECTIONS.index("===") :]
    (problem,) = extractor.add_channel(channel(definition))
    assert (problem.signal, problem.cause) == (0, Cause.INVALID)
    assert problem.message.startswith("s0: ")
    assert says in problem.message
    assert extractor.extract(batch(scan([])))["signal"].tolist() == [1]


@pytest.mark.parametrize(
    ("definition", "other", "says"),
    [
        ("", {"schema": "none"}, "no message definition"),
        ("int64 a\n---\nint64 angle\n", {}, "service"),
        ("float32 angle\np/Missing m\n", {}, "lacks the type p/Missing"),
        ("float32 angle\nT t\n", {}, "contains itself"),
        ("float32[0] r\nfloat32 angle\n", {}, "absurd"),
        ("float32 & angle\n", {}, "cannot read the line"),
        (SCAN, {"encoding": "protobuf"}, "encoded as protobuf"),
        ("module p {", {"schema": "ros2idl"}, "ends in the middle"),
        ("@a " * 5000 + "sequence<" * 5000, {"schema": "ros2idl"}, "'sequence', which is not read"),
        ("typedef " + "sequence<" * 5000, {"schema": "ros2idl"}, "a list of lists"),
        ("t:float[ angle;", {"schema": "ulog"}, "cannot read the field"),
    ],
)
def test_an_unusable_definition_is_a_problem(definition: str, other: dict[str, str], says: str) -> None:
    """No exception, no samples, one problem a signal."""
    extractor = Extractor(signals("angle"))
    (problem,) = extractor.add_channel(channel(definition, **other))
    assert problem.cause == Cause.INVALID
    assert says in problem.message
    assert len(extractor.extract(batch(scan([])))) == 0


def test_another_type_on_the_topic_is_a_type_mismatch() -> None:
    """``pkg/msg/T`` and ``pkg/T`` are one type, another one is named."""
    assert Extractor(signals("angle", type="p/T")).add_channel(channel(SCAN)) == []
    (problem,) = Extractor(signals("angle", type="p/msg/U")).add_channel(channel(SCAN))
    assert problem.cause == Cause.TYPE_MISMATCH
    assert problem.message == "s0: /t is p/msg/T, not p/msg/U"


def test_constants_are_known_by_name() -> None:
    """The number constants of a channel's type can be looked up."""
    extractor = Extractor(signals("status"))
    extractor.add_channel(channel(SCAN))
    assert extractor.constants(0) == {"OK": 0.0, "LOST": 3.0}


IDL = """// generated from rosidl_adapter
#include "p/msg/V.idl"
module p { module msg {
  module T_Constants { const uint8 LOST = 3; const string NOTE = "a; b }"; };
  typedef double double__3[3];
  @verbatim (language="comment", text="It's a (comment); with" "parts")
  struct T {
    @unit(value="m") float angle;
    sequence<float> ranges;
    string<40> frame;   /* bounded */
    p::msg::double__3 xyz;
    uint8 status;
    unsigned long long big;
    sequence<p::msg::V, 3> vectors;
  };
}; };
================================================================================
IDL: p/msg/V
module p { module msg { struct V { double x; double y; }; }; };
"""


def test_an_idl_definition_is_read_as_the_msg_it_stands_for() -> None:
    """The same program as for the .msg text, rows equal."""
    msg = SCAN + "uint64 big\nV[<=3] vectors\n===\nMSG: p/V\nfloat64 x\nfloat64 y\n"
    wanted = ["angle", "ranges[1]", "frame", "xyz[2]", "status", "big", ("vectors[*].y", "max")]
    body = scan([1.0, 2.0]) + b"\0" * 7 + struct.pack("<QI4x4d", 5, 2, 1.0, 2.0, 3.0, 4.0)
    outputs = []
    for schema, definition in (("ros2msg", msg), ("ros2idl", IDL)):
        extractor = Extractor(signals(*wanted))
        assert extractor.add_channel(channel(definition, schema=schema)) == []
        assert extractor.constants(0)["LOST"] == 3.0
        outputs.append(extractor.extract(batch(body)).copy())
    assert outputs[0].tobytes() == outputs[1].tobytes()
    assert outputs[0]["value"].tolist() == [0.5, 2.0, 0.0, 12.0, 3.0, 5.0, 4.0]
