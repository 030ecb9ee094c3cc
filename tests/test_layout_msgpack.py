"""MessagePack and raw arrays of floats are read by path as a full decode has them, whatever the bytes are."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracles import messagepack as oracle
from oracles.reducers import reduced

from edge_monitor.core.layout import Extractor
from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.samples import FLAG_CAUSE, FLAG_END, MESSAGE, Cause
from edge_monitor.core.signals import Signal

T = 5 * 10**9
Wanted = list[tuple[str, str | None]]


def batch(raws: list[bytes], channel: int = 0) -> Batch:
    """Messages at odd addresses, all received at ``T``."""
    rows = np.zeros(len(raws), MESSAGE)
    rows["size"] = [len(raw) for raw in raws]
    rows["start"] = np.cumsum(rows["size"] + 3) - rows["size"]
    rows["t"], rows["channel"] = T, channel
    return Batch(np.frombuffer(b"".join(b"\xa1\x92\xc1" + raw for raw in raws), np.uint8), rows)


def extractor_of(wanted: Wanted, encoding: str = "msgpack", definition: str = "", schema: str = "none") -> Extractor:
    """An extractor with a signal for each (path, reducer) of one channel."""
    extractor = Extractor([Signal(f"s{i}", "/t", path, reduce=how) for i, (path, how) in enumerate(wanted)])
    assert extractor.add_channel(Channel(0, "/t", "", encoding, schema, definition)) == []
    return extractor


def read(message: Any, *wanted: str | tuple[str, str], definition: str = "") -> list[Any]:
    """What one message says at each path: a number, a text, or the cause."""
    pairs: Wanted = [(item, None) if isinstance(item, str) else item for item in wanted]
    extractor = extractor_of(pairs, definition=definition)
    raw = message if isinstance(message, bytes) else msgpack.packb(message)
    samples = extractor.extract(batch([raw]))
    return [value_of(extractor, sample) for sample in samples]


def value_of(extractor: Extractor, sample: np.void) -> Any:
    """A sample's cause where it has one, else its text or number."""
    cause = Cause(int(sample["flags"]) & FLAG_CAUSE)
    if cause:
        assert math.isnan(sample["value"])
        return cause
    if extractor.is_text(f"s{sample['signal']}"):
        return extractor.texts.text(int(sample["value"]))
    return float(sample["value"])


def steps(path: str) -> list[str | int]:
    """A path as keys, indices and ``*``."""
    found: list[str | int] = []
    for part in path.replace("[", ".[").split("."):
        if part:
            inside = part[1:-1]
            found.append(part if part[0] != "[" else "*" if inside == "*" else int(inside))
    if found[-1] == "*":
        found.pop()
    return found


def compare(raws: list[bytes], wanted: Wanted) -> int:
    """Assert that the messages of one stream say what the reference says; answers how many were whole."""
    extractor = extractor_of(wanted)
    samples = extractor.extract(batch(raws)).reshape(len(raws), len(wanted))
    assert (samples["flags"][:, -1] & FLAG_END != 0).all() and not (samples["flags"][:, :-1] & FLAG_END).any()
    kinds: dict[int, bool] = {}
    whole = 0
    for raw, row in zip(raws, samples, strict=True):
        try:
            decoded = oracle.decode(raw)
            expected = [oracle.lookup(decoded, steps(path), how, T) for path, how in wanted]
            whole += 1
        except oracle.MalformedError:
            expected = [(math.nan, Cause.INVALID)] * len(wanted)
        for index, ((want, cause), sample) in enumerate(zip(expected, row, strict=True)):
            path, how = wanted[index]
            if cause == Cause.NONE and how is None and not path.endswith("stamp"):
                is_text = isinstance(want, bytes)
                if is_text or not math.isnan(want):
                    cause = Cause.TYPE_MISMATCH if kinds.setdefault(index, is_text) != is_text else cause
                elif kinds.get(index, False):
                    cause = Cause.TYPE_MISMATCH  # nil where texts are expected
            assert sample["flags"] & FLAG_CAUSE == cause, (path, how, raw)
            got = float(sample["value"])
            if cause != Cause.NONE:
                assert math.isnan(got)
            elif isinstance(want, bytes):
                assert extractor.texts.text(int(got)).encode("utf-8", "surrogateescape") == want
            else:
                assert got == want or (math.isnan(got) and math.isnan(want)), (path, how, raw)
    return whole


KEYS = ["x", "y", "stamp", "ranges", "a_key_of_8_and_more", "a_key_of_8_and_mord", "a_key_of", "sec", "nanosec"]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.floats(width=32),
    st.sampled_from(["", "AUTO", "żółw", "x" * 40]), st.binary(max_size=40),
    st.builds(msgpack.Timestamp, st.integers(0, 2**33), st.integers(0, 10**9 - 1)),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20)), st.integers(0, 200),
)  # fmt: skip
OBJECTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(st.floats(width=32), max_size=40),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.integers(-9, 300)), inner, max_size=6),
    ),
    max_leaves=25,
)
STEPS = st.one_of(st.sampled_from(KEYS).map(lambda key: f".{key}"), st.integers(0, 4).map(lambda index: f"[{index}]"))
REDUCERS = ["min", "max", "mean", "norm", "count", "finite_ratio", "p05", "p50", "p95"]


@st.composite
def paths(draw: st.DrawFn, message: Any) -> tuple[str, str | None]:
    """A path that leads somewhere in the message, or beside it."""
    parts: list[str] = []
    wild = False
    while len(parts) < 6:
        if isinstance(message, dict) and message and draw(st.integers(0, 9)):
            key = draw(st.sampled_from(list(message)))
            if not isinstance(key, str):
                break
            parts.append(f".{key}")
            message = message[key]
        elif isinstance(message, list) and message and draw(st.integers(0, 9)):
            index = draw(st.integers(0, len(message) - 1))
            star = not wild and draw(st.booleans())
            wild = wild or star
            parts.append("[*]" if star else f"[{index}]")
            message = message[index]
        else:
            break
    if not parts or not draw(st.integers(0, 5)):
        parts.append(draw(STEPS))
    reduce = draw(st.sampled_from(REDUCERS)) if wild or draw(st.integers(0, 3)) == 0 else None
    return "".join(parts).lstrip("."), reduce


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Any], Wanted]:
    """Messages of one stream, and paths into them."""
    messages = draw(st.lists(OBJECTS, min_size=1, max_size=3))
    wanted = [draw(paths(draw(st.sampled_from(messages)))) for _ in range(draw(st.integers(1, 7)))]
    return messages, wanted


@settings(max_examples=300)
@given(cases(), st.booleans())
def test_any_message_is_read_as_a_full_decode_has_it(case: tuple[list[Any], Wanted], single: bool) -> None:
    """Random objects, random paths into and beside them, several in one tree, equal the reference."""
    messages, wanted = case
    try:
        raws = [msgpack.packb(message, use_single_float=single) for message in messages]
    except OverflowError:  # a double that no single can hold
        raws = [msgpack.packb(message) for message in messages]
    compare(raws, wanted)


@settings(max_examples=200)
@given(OBJECTS)
def test_the_reference_decodes_as_the_library_does(message: Any) -> None:
    """The plain reader that judges the kernel agrees with msgpack on whole messages."""
    decoded = plain(oracle.decode(msgpack.packb(message)))
    library = msgpack.unpackb(msgpack.packb(message), strict_map_key=False)
    assert repr(decoded) == repr(library)  # by repr, since NaN differs from itself and 1 is 1.0


def plain(value: Any) -> Any:
    """The reference's value in the library's words."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, oracle.Map):
        return {plain(key): plain(inner) for key, inner in value.pairs}
    if isinstance(value, oracle.Text):
        return value.raw.decode()
    if isinstance(value, oracle.Bin):
        return value.raw
    if isinstance(value, oracle.Ext):
        return msgpack.Timestamp.from_bytes(value.raw) if value.code == -1 else msgpack.ExtType(value.code, value.raw)
    return value


MESSAGE_OF_ALL = {
    "header": {"stamp": {"sec": 1, "nanosec": 500_000_000}, "frame_id": "map"},
    "twist": {"linear": {"x": 1.5, "y": -2.0, "z": 300}},
    "ranges": [1.0, 2.5, None, math.inf, 70_000, -5],
    "detections": [{"score": 0.5, "box": [1, 2]}, {"box": [3, 4], "score": 0.75}],
    "mode": "AUTO", "ok": True, "blob": b"\1\2\3", "at": msgpack.Timestamp(1, 5), "other": msgpack.ExtType(9, b"abc"),
}  # fmt: skip
WANTED_OF_ALL: Wanted = [
    ("twist.linear.x", None), ("twist.linear", "norm"), ("ranges[1]", None), ("ranges", "p50"), ("ranges[*]", "mean"),
    ("ranges", "count"), ("detections[*].score", "max"), ("detections[*].box[1]", "mean"), ("detections", "count"),
    ("detections[1].score", None), ("mode", None), ("ok", None), ("header.stamp", None), ("header.stamp.sec", None),
    ("blob", None), ("other", None), ("missing.field", None), ("header.frame_id", None), ("at", None),
]  # fmt: skip


def test_cut_flipped_and_random_bytes_are_read_as_the_reference_reads_them() -> None:
    """Every cut, every flipped bit and random bytes: the same samples as the reference, no crash, no stray read."""
    raw = msgpack.packb(MESSAGE_OF_ALL)
    rng = np.random.default_rng(11)
    damaged = [raw[:cut] for cut in range(len(raw))]
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    damaged += [rng.bytes(rng.integers(0, 40)) for _ in range(2000)]
    damaged += [b"\x82\xa4mode" + rng.bytes(9) + b"\xa6ranges" + rng.bytes(9) for _ in range(500)]
    assert compare([raw, *damaged], WANTED_OF_ALL) > 300


def test_names_indices_reductions_texts_and_stamps() -> None:
    """What each kind of path gives, in the words of the wire format's page."""
    assert read(MESSAGE_OF_ALL, *[path if how is None else (path, how) for path, how in WANTED_OF_ALL]) == [
        1.5, pytest.approx(math.sqrt(1.5**2 + 4 + 300**2)), 2.5, 1.0, (1.0 + 2.5 + 70_000 - 5) / 4,
        6.0, 0.75, 3.0, 2.0,
        0.75, "AUTO", 1.0, 3.5, 1.0,
        Cause.INVALID, Cause.INVALID, Cause.INVALID, "map", Cause.INVALID,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stamp", "latency"),
    [
        (T - 10**9, 1.0),
        (4.0, 1.0),
        ([4, 5], (10**9 - 5) / 1e9),
        ({"nsecs": 5, "secs": 4}, (10**9 - 5) / 1e9),
        (msgpack.Timestamp(4, 0), 1.0),
        (msgpack.Timestamp(4, 5), (10**9 - 5) / 1e9),
        (msgpack.Timestamp(2**34, 5), Cause.INVALID),
        ({"sec": 4, "frac": 5}, Cause.INVALID),
        ({"sec": 4, "nanosec": 10**9}, Cause.INVALID),
        ({"sec": 0, "nanosec": 0}, Cause.INVALID),
        (0, Cause.INVALID),
        (-3, Cause.INVALID),
        (2**64 - 1, Cause.INVALID),
        (math.nan, Cause.INVALID),
        (None, Cause.INVALID),
        (True, Cause.INVALID),
        ("4", Cause.INVALID),
    ],
)
def test_a_stamp_is_a_latency_in_each_of_its_forms(stamp: Any, latency: Any) -> None:
    """Integer nanoseconds, float seconds, a pair, a map of either ROS, a timestamp extension; nothing else."""
    assert read({"header": {"stamp": stamp}}, "header.stamp") == [latency]


def test_a_message_that_is_a_list_is_read_by_index() -> None:
    """Structures that are sent as lists: ``[0]`` and what lies behind it."""
    assert read([1, [2, 3], {"x": 4}], "[0]", "[1][1]", "[2].x", "[3]", ("[1]", "mean"), ("[1][*]", "max")) == [
        1.0, 3.0, 4.0, Cause.INVALID, 2.5, 3.0,
    ]  # fmt: skip


def test_a_key_that_a_path_needs_and_that_stands_twice_makes_the_message_invalid() -> None:
    """Readers that take the first and readers that take the last would disagree; other keys may repeat."""
    twice = b"\x83\xa1x\x01\xa1y\x02\xa1x\x03"
    assert read(twice, "x", "y") == [Cause.INVALID, Cause.INVALID]
    assert read(twice, "y") == [2.0]
    assert read(b"\x81\xa1v" + twice, ("v", "norm")) == [Cause.INVALID]


def test_nesting_is_bounded() -> None:
    """Containers 32 deep are read, deeper ones make the message invalid, a million of them too."""
    assert read(b"\x91" * 31 + b"\x81\xa1x\x07", "[0]" * 31 + ".x") == [7.0]
    assert read(b"\x82\xa1x\x07\xa1y" + b"\x91" * 31 + b"\x01", "x") == [7.0]
    assert read(b"\x82\xa1x\x07\xa1y" + b"\x91" * 32 + b"\x01", "x") == [Cause.INVALID]
    assert read(b"\x91" * 1_000_000, "[0]") == [Cause.INVALID]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x01\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x81\x90\x01",
    ],
)
def test_what_is_no_message_is_invalid_and_its_presence_counts(raw: bytes) -> None:
    """An absurd size, a superfluous byte, a list as a key, the unused tag: invalid; that something came is still 1."""
    assert read(raw, "x", "", ("x", "count")) == [Cause.INVALID, 1.0, Cause.INVALID]


def test_an_element_without_the_field_makes_its_reduction_invalid() -> None:
    """A reduction over some of the elements would hide the others."""
    message = {"d": [{"s": 1}, {"r": 2}], "e": [], "f": [{"s": 1}, {"s": "2"}], "g": {"s": 1}}
    assert read(message, ("d[*].s", "max"), ("e[*].s", "count"), ("f[*].s", "max"), ("g[*].s", "max")) == [
        Cause.INVALID, 0.0, Cause.INVALID, Cause.INVALID,
    ]  # fmt: skip


def test_nil_is_a_number_that_is_not_known() -> None:
    """A value becomes NaN, which the engine holds to be unknown; in a list it is no return."""
    got = read({"x": None, "r": [1.0, None, 3.0]}, "x", ("r", "mean"), ("r", "finite_ratio"))
    assert math.isnan(got[0]) and got[1:] == [2.0, 2 / 3]


def test_the_first_value_settles_whether_a_signal_is_a_number_or_a_text() -> None:
    """A text that comes where numbers were is no number of a text, and the reverse; malformed messages settle nothing."""
    extractor = extractor_of([("m", None)])
    raws = [msgpack.packb({"m": 3})[:-1] + b"\xa1", *(msgpack.packb({"m": m}) for m in ("AUTO", 0, "MANUAL"))]
    assert [value_of(extractor, sample) for sample in extractor.extract(batch(raws))] == [
        Cause.INVALID, "AUTO", Cause.TYPE_MISMATCH, "MANUAL",
    ]  # fmt: skip
    named = Extractor([Signal("m", "/t", "m", values=(("AUTO", 0.0),))])
    assert named.add_channel(Channel(0, "/t", "", "msgpack", "none", "")) == []
    samples = named.extract(batch([msgpack.packb({"m": "AUTO"}), msgpack.packb({"m": 2})]))
    assert samples["flags"].tolist() == [FLAG_END | Cause.TYPE_MISMATCH, FLAG_END]


def test_what_a_signal_is_holds_across_the_channels_of_its_topic() -> None:
    """A second publisher of a topic, whose channel is another one, cannot send numbers for texts."""
    extractor = extractor_of([("m", None)])
    extractor.extract(batch([msgpack.packb({"m": "AUTO"})]))
    assert extractor.add_channel(Channel(1, "/t", "other", "msgpack", "none", "")) == []
    samples = extractor.extract(batch([msgpack.packb({"m": 0})], channel=1))
    assert samples["flags"].tolist() == [FLAG_END | Cause.TYPE_MISMATCH]


def test_a_bin_is_numbers_where_the_channel_declares_it() -> None:
    """Elements and reductions of a bin; a bin of another size, or one that is not declared, is invalid."""
    message = {"d": {"r": struct.pack("<3f", 1, 2.5, 7)}, "h": struct.pack("<2H", 3, 4), "x": b"12345"}
    declared = "d.r float32\nh uint16\nx float32\n"
    wanted = ("d.r[1]", ("d.r", "max"), ("d.r", "count"), "h[1]", "h[2]", "x[0]", ("x", "max"))
    assert read(message, *wanted, definition=declared) == [2.5, 7.0, 3.0, 4.0, *[Cause.INVALID] * 3]
    assert read(message, "d.r[1]", ("d.r", "max")) == [Cause.INVALID] * 2


@pytest.mark.parametrize(
    ("path", "how", "says"),
    [
        ("a[*].b[*]", "max", "only one [*]"),
        ("a[*].b", None, "[*] needs reduce"),
        ("a", "most", "no reducer"),
        (".".join(["a"] * 33), None, "at most 32 steps"),
        ("a..b", None, "not a field path"),
    ],
)
def test_paths_that_mean_nothing_are_problems_of_their_signals(path: str, how: str | None, says: str) -> None:
    """Each gives one line with the signal's name; the other signals of the topic are read."""
    extractor = Extractor([Signal("bad", "/t", path, reduce=how), Signal("good", "/t", "x")])
    (problem,) = extractor.add_channel(Channel(0, "/t", "", "msgpack", "none", ""))
    assert problem.signal == 0 and says in problem.message and problem.message.startswith("bad: ")
    assert extractor.extract(batch([msgpack.packb({"x": 2})]))["value"].tolist() == [2.0]


def test_a_definition_that_is_none_is_a_problem() -> None:
    """A line that gives no number type is named."""
    extractor = Extractor([Signal("s", "/t", "x")])
    (problem,) = extractor.add_channel(Channel(0, "/t", "", "msgpack", "none", "x text"))
    assert "x text" in problem.message and problem.cause == Cause.INVALID


@settings(max_examples=60)
@given(st.lists(st.floats(width=32), max_size=30), st.sampled_from([4, 8]), st.booleans(), st.integers(0, 40))
@example([1.0, 2.0], 8, True, 1)
def test_raw_arrays_are_read_by_element_and_reduced(values: list[float], width: int, stamped: bool, index: int) -> None:
    """``[i]``, ``[*]`` with each reducer, and the latency where each message begins with a stamp."""
    raw = struct.pack(f"<{len(values)}{'f' if width == 4 else 'd'}", *values)
    wanted: Wanted = [(f"[{index}]", None), *[("[*]", how) for how in REDUCERS]]
    if stamped:
        raw, wanted = struct.pack("<q", T - 10**9) + raw, [*wanted, ("header.stamp", None)]
    encoding, schema = ("f32le", "f64le")[width == 8], "stamp" if stamped else "none"
    extractor = extractor_of(wanted, encoding, schema=schema)
    samples = extractor.extract(batch([raw, raw + b"\0"]))
    got, rest = samples[: len(wanted)], samples[len(wanted) :]
    expected = [reduced(values, how) for how in REDUCERS] + [1.0] * stamped
    assert np.array_equal(got["value"][1:], expected, equal_nan=True)
    if index < len(values):
        assert np.array_equal(got["value"][:1], [values[index]], equal_nan=True)
    else:
        assert got["flags"][0] & FLAG_CAUSE == Cause.INVALID
    assert (rest["flags"] & FLAG_CAUSE == Cause.INVALID).all()  # a byte too many


def test_a_raw_array_has_no_names() -> None:
    """A path of names, a list without reduce and an unstamped latency are problems in plain words."""
    for path, how, says in (
        ("x", None, "array of numbers"),
        ("[*]", None, "needs reduce"),
        ("header.stamp", None, "[0]"),
    ):
        extractor = Extractor([Signal("s", "/t", path, reduce=how)])
        (problem,) = extractor.add_channel(Channel(0, "/t", "", "f64le", "none", ""))
        assert says in problem.message


def test_a_stamp_of_a_raw_array_that_is_not_set_is_invalid() -> None:
    """Zero and negative stamps give no latency."""
    extractor = extractor_of([("header.stamp", None), ("[0]", None)], "f64le", schema="stamp")
    samples = extractor.extract(batch([struct.pack("<qd", stamp, 2.0) for stamp in (0, -5)]))
    assert (samples["flags"] & FLAG_CAUSE).tolist() == [Cause.INVALID, 0] * 2
    assert samples["value"].tolist()[1::2] == [2.0, 2.0]


SCRIPT = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
import numpy as np, msgpack
from test_layout_msgpack import MESSAGE_OF_ALL, WANTED_OF_ALL, batch, extractor_of
raw = msgpack.packb(MESSAGE_OF_ALL)
rng = np.random.default_rng(4)
raws = [raw] + [raw[:cut] for cut in range(0, len(raw), 3)]
for _ in range(300):
    damaged = bytearray(raw)
    for at in rng.integers(0, len(raw), rng.integers(1, 4)):
        damaged[at] = rng.integers(0, 256)
    raws.append(bytes(damaged))
extractor = extractor_of(WANTED_OF_ALL)
out = extractor.extract(batch(raws))
sys.stdout.write(out.tobytes().hex() + repr(list(extractor.texts)))
"""


def test_interpreter_and_compiled_code_agree_bit_for_bit(root: Path) -> None:
    """The same whole, cut and damaged messages with and without compilation give equal bytes and texts."""
    script = SCRIPT.format(tests=str(root / "tests"), root=str(root))
    outputs = []
    for disabled in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            env={**os.environ, "NUMBA_DISABLE_JIT": disabled}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert len(outputs[0]) > 300 * len(WANTED_OF_ALL) * 48
    assert outputs[0] == outputs[1]


def test_batches_may_be_cut_anywhere() -> None:
    """One batch or one a message: the same samples, also of what the first message settles."""
    raws = [msgpack.packb({"m": m, "r": [m, 1]}) for m in ("AUTO", 3, "x", None)] + [b"\xc1"]
    wanted: Wanted = [("m", None), ("r", "max"), ("r[1]", None)]
    whole = extractor_of(wanted).extract(batch(raws)).copy()
    cut = extractor_of(wanted)
    assert whole.tobytes() == b"".join(cut.extract(batch([raw])).tobytes() for raw in raws)
