"""Frames and messages of MAVLink: every message against pymavlink, any stream of bytes against a plain oracle."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import mavlink_frames
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mavlink_frames import Packer
from oracles import mavlink as oracle
from pymavlink.dialects.v20 import all as pymavlink

from edge_monitor.core.layout import Extractor
from edge_monitor.core.messages import Batch, Channel
from edge_monitor.core.samples import MESSAGE, Cause
from edge_monitor.core.signals import Signal
from edge_monitor.errors import ConfigError
from edge_monitor.mavlink import framing
from edge_monitor.mavlink.dialect import STATUSTEXT_SIZE, dialect
from edge_monitor.mavlink.framing import (
    DONE,
    FULL,
    LOST,
    REFUSED,
    SEGMENT,
    STRANGER,
    Framer,
    instance_key,
    instance_name,
)
from edge_monitor.mavlink.signing import Verifier

Delivered = tuple[int, int, int, int, bytes]  # place of the frame, system, component, number, payload


def segment(*sizes: int) -> np.ndarray:
    """Segments of these sizes, one behind the other."""
    rows = np.zeros(len(sizes), SEGMENT)
    rows["end"] = np.cumsum(sizes)
    rows["start"] = rows["end"] - sizes
    rows["t"] = np.arange(len(sizes)) + 10**9
    return rows


def framer(**options: int) -> Framer:
    """A framer that gives every message of every sender."""
    return Framer(dialect().rows, dialect().numbers, 64, every=True, **{"effort": 1024, **options})  # type: ignore[arg-type]


def deliver(made: Framer, data: bytes, segments: np.ndarray) -> list[Delivered]:
    """Everything in some bytes, through routes that are made as they are needed and a table of rows that is too small."""
    array = np.frombuffer(data, np.uint8)
    found: list[Delivered] = []
    made.begin()
    while True:
        status, part = made.parse(array, segments)
        for row, frame in zip(part.rows, part.frames[: len(part.rows)], strict=True):
            payload = part.payloads[row["start"] : row["start"] + row["size"]].tobytes()
            number = dialect().kinds[frame["kind"]].number
            found.append((int(frame["start"]), int(frame["system"]), int(frame["component"]), number, payload))
        if status == STRANGER:
            frame = part.frames[-1]
            name = instance_name(int(frame["low"]), int(frame["high"]))
            made.route(int(frame["kind"]), int(frame["system"]), int(frame["component"]), len(made.routes), name)
        elif status == DONE:
            return found
        else:
            assert status == FULL


def expected(frames: list[oracle.Frame]) -> list[Delivered]:
    """What the oracle found, of messages that are known; a STATUSTEXT has room for its whole text."""
    return [
        (f.start, f.system, f.component, f.number, f.payload.ljust(STATUSTEXT_SIZE if f.number == 253 else 0, b"\0"))
        for f in frames
        if f.payload is not None
    ]


@pytest.mark.parametrize("v1", [False, True])
def test_every_message_is_read_as_pymavlink_reads_it(v1: bool) -> None:
    """All fields of all messages, both versions of the format, with and without zeros at the end."""
    rng = np.random.default_rng(4)
    messages, packer = dialect(), Packer(7, 9)
    kinds = [kind for kind in messages.kinds if not v1 or kind.number < 256]
    assert len(kinds) > (190 if v1 else 300)
    for kind in kinds:
        known = pymavlink.mavlink_map[kind.number]
        paths = fields(pymavlink.MAVLink(None).decode(bytearray(packer.pack(kind.name))))[0]
        extractor = Extractor([Signal(path, "m", path) for path in paths])
        assert extractor.add_channel(Channel(0, "m", kind.name, "packed", "ulog", kind.definition)) == []
        made = framer()
        for _ in range(3):
            raw = packer.pack(kind.name, first_version=v1, **mavlink_frames.random_values(known, rng))
            values = fields(pymavlink.MAVLink(None).decode(bytearray(raw)))[1]
            ((_, _, _, number, payload),) = deliver(made, raw, segment(len(raw)))
            assert number == kind.number
            row = np.array([(10, 0, len(payload), 0)], MESSAGE)
            samples = extractor.extract(Batch(np.frombuffer(payload, np.uint8), row))
            got = [
                extractor.texts.text(int(value)) if extractor.is_text(path) else value
                for path, value in zip(paths, samples["value"].tolist(), strict=True)
            ]
            assert len(got) == len(values)
            for path, mine, theirs in zip(paths, got, values, strict=True):
                assert mine == theirs or (math.isnan(mine) and math.isnan(theirs)), (kind.name, path)
            assert {Cause(flags & 0xFF) for flags in samples["flags"].tolist()} <= {Cause.NONE}


def fields(decoded: object) -> tuple[list[str], list[float | str]]:
    """Paths and values of everything in a message that pymavlink has decoded."""
    paths: list[str] = []
    values: list[float | str] = []
    for name in decoded.fieldnames:  # type: ignore[attr-defined]
        if decoded.msgname == "STATUSTEXT" and name in ("id", "chunk_seq"):  # type: ignore[attr-defined]
            continue  # of pieces; what is delivered is the whole text
        value = getattr(decoded, name)
        if isinstance(value, list):
            paths += [f"{name}[{place}]" for place in (0, len(value) - 1)]
            values += [float(value[0]), float(value[-1])]
        elif name == "c":  # TEST_TYPES has the only single letter, which is a number here
            paths.append(name)
            values.append(float(ord(value or "\0")))
        else:
            paths.append(name)
            values.append(value if isinstance(value, str) else float(value))
    return paths, values


def test_the_crc_is_that_of_pymavlink() -> None:
    """The oracle's own CRC is the library's."""
    rng = np.random.default_rng(1)
    for size in (0, 1, 9, 260):
        data = rng.bytes(size)
        assert oracle.crc(data) == pymavlink.x25crc(data).crc


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Pieces of a stream: frames of both versions and several senders, damaged and cut ones, noise with markers in it."""
    packers = [Packer(1, 1), Packer(1, 100), Packer(255, 190), Packer(1, 1, bytes(32))]
    pieces: list[bytes] = []
    for _ in range(draw(st.integers(0, 12))):
        packer = packers[draw(st.integers(0, 3))]
        what = draw(st.integers(0, 9))
        if what == 9:
            pieces.append(bytes(draw(st.lists(st.sampled_from([0xFD, 0xFE, 0, 1, 9, 30, 255]), max_size=40))))
            continue
        name = draw(st.sampled_from(["HEARTBEAT", "ATTITUDE", "STATUSTEXT", "BATTERY_STATUS", "NAMED_VALUE_FLOAT"]))
        values = {"text": draw(st.sampled_from(["", "low", "x" * 50]))} if name == "STATUSTEXT" else {}
        if name == "NAMED_VALUE_FLOAT":
            values = {"name": draw(st.sampled_from(["a", "pilot", "0123456789"]))}
        frame = bytearray(packer.pack(name, first_version=draw(st.booleans()) and packer is not packers[3], **values))
        if what == 8:
            frame[draw(st.integers(0, len(frame) - 1))] ^= 1 << draw(st.integers(0, 7))
        elif what == 7:
            del frame[draw(st.integers(1, len(frame))) :]
        elif what == 6 and frame[0] == 0xFD:
            frame[7:10] = draw(st.sampled_from([b"\xff\xff\xff", b"\xe0\x2e\x01"]))  # a message that nobody knows
        pieces.append(bytes(frame))
    return pieces


@settings(max_examples=150)
@given(streams(), st.data())
def test_any_stream_is_read_as_the_oracle_reads_it(pieces: list[bytes], data: st.DataObject) -> None:
    """As datagrams, as one, and as a stream that is cut anywhere: the same frames with the same payloads."""
    whole = b"".join(pieces)
    datagrams = [p for p in pieces if p]
    starts = np.cumsum([0, *(len(p) for p in datagrams)]).tolist()
    of_each = [
        (start + at, *rest)
        for start, p in zip(starts, datagrams, strict=False)
        for at, *rest in expected(oracle.frames(p))
    ]
    if datagrams:
        assert deliver(framer(), whole, segment(*(len(p) for p in datagrams))) == of_each
    if not whole:
        return
    as_one = expected(oracle.frames(whole))
    assert deliver(framer(), whole, segment(len(whole))) == as_one

    made, kept, taken, found = framer(stream=True), b"", 0, []
    while taken < len(whole):
        size = data.draw(st.integers(1, 60))
        chunk = kept + whole[taken : taken + size]
        origin = taken - len(kept)
        taken += size
        found += [(origin + at, *rest) for at, *rest in deliver(made, chunk, segment(len(chunk)))]
        kept = chunk[made.position :]
        assert len(kept) <= framing.LARGEST
    last = deliver(framer(), kept, segment(len(kept))) if kept else []
    found += [(len(whole) - len(kept) + at, *rest) for at, *rest in last]
    assert found == as_one


def test_losses_are_counted_by_sender() -> None:
    """Gaps in the sequence numbers, over their turn; a sender that starts anew has lost nothing."""
    packer, other = Packer(1, 1), Packer(1, 100)
    made, numbers = framer(), [0, 1, 4, 250, 255, 2, 3, 200, 0]
    frames = []
    for number in numbers:
        packer.mav.seq = number
        frames += [packer.pack("HEARTBEAT"), other.pack("HEARTBEAT")]
    deliver(made, b"".join(frames), segment(*map(len, frames)))
    state = made.senders[1 << 8 | 1]
    # 1→4 lost 2, 250→255 lost 4, 255→2 lost 2, 200→0 lost 55; 4→250 and 3→200 are too far to be a gap
    assert (int(state["frames"]), int(state["lost"])) == (9, 2 + 4 + 2 + 55)
    assert made.senders[1 << 8 | 100]["lost"] == 0 and made.counts[LOST] == 63


def test_messages_go_where_their_instance_says() -> None:
    """Batteries have numbers, named values have names, and each has its own channel; the others are passed over."""
    packer, messages = Packer(), dialect()
    made = Framer(messages.rows, messages.numbers, 64)
    battery, named = messages["BATTERY_STATUS"], messages["NAMED_VALUE_FLOAT"]
    made.route(battery.index, 1, 1, 0, 0)
    made.route(battery.index, 1, 1, 1, 3)
    made.route(named.index, 1, 1, 2, b"a")
    made.route(named.index, 1, 1, 3, b"0123456789")
    frames = [
        *(packer.pack("BATTERY_STATUS", id=number) for number in (3, 0, 2)),
        *(packer.pack("NAMED_VALUE_FLOAT", name=name) for name in ("0123456789", "b", "a")),
        Packer(2, 1).pack("BATTERY_STATUS", id=0),
        packer.pack("HEARTBEAT"),
    ]
    status, found = made.parse(np.frombuffer(b"".join(frames), np.uint8), segment(*map(len, frames)))
    assert status == DONE and found.rows["channel"].tolist() == [1, 0, 3, 2]
    assert found.rows["t"].tolist() == [10**9, 10**9 + 1, 10**9 + 3, 10**9 + 5]
    assert made.routes["count"].tolist() == [1, 1, 1, 1] and made.senders["frames"].sum() == 8


def test_noise_costs_no_more_than_its_share() -> None:
    """A datagram made so that each byte asks for a long CRC is given up, and the next one is read."""
    made = Framer(dialect().rows, dialect().numbers, 64, every=False)
    made.attend(dialect()["HEARTBEAT"].index)
    evil = b"\xfd\xff\0\0\0\0\0\0\0\0" * 6_000  # each could be the start of a HEARTBEAT of 255 bytes
    honest = Packer().pack("HEARTBEAT")
    status, found = made.parse(np.frombuffer(evil + honest, np.uint8), segment(len(evil), len(honest)))
    assert status == DONE and len(found.rows) == 1
    assert made.counts[framing.GARBAGE] == len(evil)
    assert made.counts[framing.DAMAGED] < 4 * len(evil) / 250 + 10


def test_frames_that_ask_for_more_than_we_know_are_refused() -> None:
    """Of incompatibility flags only the signature is understood; and where frames must be signed, others do not count."""
    packer = Packer(1, 1)
    frame = bytearray(packer.pack("HEARTBEAT"))
    frame[2] = 2
    frame[-2:] = oracle.crc(bytes(frame[1:-2]) + bytes([pymavlink.MAVLink_heartbeat_message.crc_extra])).to_bytes(
        2, "little"
    )
    made = framer()
    assert deliver(made, bytes(frame), segment(len(frame))) == [] and made.counts[framing.GARBAGE] == len(frame)
    made = framer(must_sign=True)
    plain, signed = packer.pack("HEARTBEAT"), Packer(1, 1, bytes(32)).pack("HEARTBEAT")
    assert len(deliver(made, plain + signed, segment(len(plain), len(signed)))) == 1 and made.counts[REFUSED] == 1


def test_signatures_are_pymavlinks() -> None:
    """Signed by pymavlink they hold; with another key, changed, played again, or long past they do not."""
    key, wall = bytes(range(32)), 1_800_000_000 * 10**9
    packer = Packer(1, 1, key)
    packer.mav.signing.timestamp = stamp = (wall - 1_420_070_400 * 10**9) // 10_000
    frames = [packer.pack("HEARTBEAT") for _ in range(3)]
    verifier = Verifier(key, lambda: wall)
    assert verifier.accepts(frames[0]) and not verifier.accepts(frames[0])
    assert verifier.accepts(frames[2]) and not verifier.accepts(frames[1])
    assert not Verifier(bytes(32), lambda: wall).accepts(frames[0])
    changed = bytearray(frames[0])
    changed[12] ^= 1
    assert not Verifier(key, lambda: wall).accepts(bytes(changed))
    assert not Verifier(key, lambda: wall + 61 * 10**9).accepts(frames[0])
    assert Verifier(key, lambda: wall + 59 * 10**9).accepts(frames[0])
    assert Verifier(key, lambda: 0).accepts(frames[0])
    assert verifier.stamp >= stamp


@given(st.binary(max_size=16))
def test_names_of_instances_have_keys(name: bytes) -> None:
    """A name is its key and comes back, but for zeros at its end."""
    assert instance_name(*instance_key(name)) == name.rstrip(b"\0")
    assert instance_key(5) == (5, 0)


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("mavlink/ATTITUDE", "write it as mavlink/SYSTEM/MESSAGE"),
        ("mavlink/1/ATITUDE", "did you mean ATTITUDE"),
        ("mavlink/300/ATTITUDE", "systems are 1 to 255"),
        ("mavlink/0/ATTITUDE", "systems are 1 to 255"),
        ("mavlink/1/256/ATTITUDE", "components 0 to 255"),
        ("mavlink/1/ATTITUDE[0]", "has no instances"),
        ("mavlink/1/NAMED_VALUE_FLOAT", "say which"),
        ("mavlink/1/BATTERY_STATUS[main]", "have numbers"),
    ],
)
def test_topics_that_are_none(topic: str, words: str) -> None:
    """One line says what is wrong with a topic, and what is near."""
    with pytest.raises(ConfigError, match=words):
        dialect().wanted(topic)


def test_topics_name_senders_and_instances() -> None:
    """Without a component the autopilot is meant, without an instance the first."""
    wanted = dialect().wanted("/mavlink/1/BATTERY_STATUS[2]")
    assert (wanted.system, wanted.component, wanted.instance, wanted.kind.number) == (1, 1, 2, 147)
    assert dialect().wanted("mavlink/255/190/HEARTBEAT").component == 190
    assert dialect().wanted("mavlink/1/NAMED_VALUE_FLOAT[CamTilt]").instance == b"CamTilt"


def test_the_kernel_gives_the_same_interpreted(data_dir: Path) -> None:
    """The same rows with and without compilation, over a piece of a real recording with a wound in it."""
    program = (
        "import sys, hashlib; sys.path[:0] = sys.argv[1].split(':')\n"
        "from test_mavlink_framing import digest; print(digest(sys.argv[2]))"
    )
    here, path = Path(__file__).parent, str(data_dir / "rov_ardusub/small.tlog")
    command = [
        sys.executable,
        "-W",
        "error::RuntimeWarning",
        "-c",
        program,
        f"{here}:{here.parent}:{here.parent / 'replay'}",
    ]
    interpreted = subprocess.run(
        [*command, path], env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True, check=True
    ).stdout
    assert interpreted.strip() == digest(path)


def digest(path: str) -> str:
    """What a framer makes of the first 20 kB of a tlog, as a digest."""
    raw = bytearray(Path(path).read_bytes()[:20_000])
    raw[7000:7040] = b"\xfe\xfd" * 20
    found = deliver(framer(gap=8), bytes(raw), segment(len(raw)))
    assert len(found) > 300
    return hashlib.sha256(repr(found).encode()).hexdigest()
