"""Raw messages: MCAP files that the mcap library and edge-replay read, whole or cut, and a ring of them that is bounded."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fuzz_readers import read
from hypothesis import given, settings
from hypothesis import strategies as st
from incident_cases import ENVELOPE, Vehicle, journal_of, told
from mcap.reader import NonSeekingReader, make_reader

from edge_monitor import envelope as envelopes
from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import MESSAGE, Cause
from edge_monitor.onboard.black_box import BlackBox
from edge_monitor.onboard.raw_recorder import RawRecorder, compact
from edge_monitor.raw.mcap_file import McapFile, McapSource
from edge_monitor.raw.mcap_records import ChunkBuilder, channel, schema
from edge_monitor.raw.window import extract, files_of
from edge_replay import readers
from edge_replay.commands.reexecute import command

BOOT = bytes(range(16))
MS, SECOND = 1_000_000, 1_000_000_000
ROOT = Path(__file__).resolve().parent.parent
Message = tuple[str, int, bytes]
CHANNELS = [
    Channel(0, "/odom", "Odometry", "msgpack", "none", ""),
    Channel(1, "/map", "Map", "msgpack", "none", ""),
    Channel(2, "/accel", "Accel", "f64le", "stamp", ""),
    Channel(3, "/other", "", "msgpack", "none", ""),
    Channel(4, "/depth", "Depth", "msgpack", "none", "ranges float32"),
]


def batch(*messages: tuple[int, int, bytes]) -> Batch:
    """Messages (channel, time, payload), with other bytes between."""
    data = b"".join(body + b"\xff" for _, _, body in messages)
    rows = np.zeros(len(messages), MESSAGE)
    rows["channel"] = [number for number, _, _ in messages]
    rows["t"] = [t for _, t, _ in messages]
    rows["size"] = [len(body) for _, _, body in messages]
    rows["start"] = np.cumsum([0, *(len(body) + 1 for _, _, body in messages[:-1])])
    return Batch(np.frombuffer(data, np.uint8), rows)


def library(path: Path) -> list[Message]:
    """What the mcap library reads by the file's index; without an index, what it reads on its way."""
    with path.open("rb") as file:
        return [(c.topic, m.log_time, bytes(m.data)) for _, c, m in make_reader(file).iter_messages()]


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Until ``condition`` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def written(path: Path, chunks: list[list[tuple[int, int, bytes]]]) -> list[Message]:
    """A file of these chunks (channel, time, payload)."""
    file = McapFile(path, {"boot": BOOT.hex()})
    made = []
    for chunk in chunks:
        builder = ChunkBuilder()
        for n, (number, t, body) in enumerate(chunk):
            file.describe(schema(number, f"Type{number}", "", ""), channel(number, number, f"/t{number}", "json", {}))
            builder.add(number, n, t, t, body)
            made.append((f"/t{number}", t, body))
        file.add(builder)
    file.close()
    return made


CHUNKS = st.lists(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 10**6), st.binary(max_size=60)), min_size=1, max_size=12),
    min_size=1, max_size=5,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(chunks=CHUNKS)
def test_the_mcap_library_reads_what_was_written(
    chunks: list[list[tuple[int, int, bytes]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By index and without, with its own checks of checksums, the library gives every message; so does edge-replay."""
    path = tmp_path_factory.getbasetemp() / "written.mcap"
    path.unlink(missing_ok=True)
    made = written(path, chunks)
    assert sorted(library(path)) == sorted(made)
    data = path.read_bytes()
    reader = NonSeekingReader(io.BytesIO(data), validate_crcs=True)
    assert [(c.topic, m.log_time, bytes(m.data)) for _, c, m in reader.iter_messages(log_time_order=False)] == made
    summary = make_reader(io.BytesIO(data), validate_crcs=True).get_summary()
    assert summary is not None and summary.statistics is not None
    assert summary.statistics.message_count == len(made) and summary.statistics.chunk_count == len(chunks)
    assert (summary.statistics.message_start_time, summary.statistics.message_end_time) == (
        min(t for _, t, _ in made),
        max(t for _, t, _ in made),
    )
    delivered, damages, _ = read(path)
    assert sorted(delivered) == sorted(made) and damages == []


@settings(deadline=None, max_examples=80)
@given(chunks=CHUNKS, data=st.data())
def test_a_cut_file_has_all_chunks_that_are_whole(
    chunks: list[list[tuple[int, int, bytes]]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Wherever it was cut, a file is read up to the last whole chunk; once it was mended, by everything, without damage."""
    path = tmp_path_factory.getbasetemp() / "cut.mcap"
    path.unlink(missing_ok=True)
    written(path, chunks)
    with McapSource(path) as source:
        ends = [
            (found.chunk.at + found.chunk.size + len(found.chunk.index)) for found in source.records() if found.chunk
        ]
    cut = data.draw(st.integers(100, path.stat().st_size - 1))
    path.write_bytes(path.read_bytes()[:cut])
    whole = [chunk for chunk, end in zip(chunks, ends, strict=True) if end <= cut]
    expected = [(f"/t{number}", t, body) for chunk in whole for number, t, body in chunk]
    missed = Counter(expected) - Counter(read(path)[0])
    assert not missed
    with McapSource(path) as source:
        assert not source.whole() and not source.written()
        source.mend()
        assert source.whole()
    assert sorted(library(path)) == sorted(expected)
    delivered, damages, _ = read(path)
    assert sorted(delivered) == sorted(expected) and damages == []


def test_only_chosen_topics_are_written_with_their_definitions(tmp_path: Path) -> None:
    """A channel keeps topic, type, encoding and definition through the file, so that a replay reads the same fields."""
    recorder = RawRecorder(tmp_path, BOOT, ["/odom", "/accel", "/depth"], [])
    for one in CHANNELS:
        recorder.take(one)
    bodies = [struct.pack("<qd", 5, n) for n in range(20)]
    recorder.take(batch(*((n % 5, n * MS, bodies[n]) for n in range(20))))
    recorder.close()
    (path,) = files_of(tmp_path, BOOT)
    chosen = {0: "/odom", 2: "/accel", 4: "/depth"}
    assert library(path) == [(chosen[n % 5], n * MS, bodies[n]) for n in range(20) if n % 5 in chosen]
    recording = readers.open(path)
    assert not [item for item in recording if isinstance(item, Damage)]
    found = {c.topic: (c.type, c.encoding, c.schema, c.definition) for c in recording.channels}
    assert found == {
        c.topic: (c.type, c.encoding, c.schema, c.definition) for c in CHANNELS if c.topic in chosen.values()
    }
    assert recorder.status() | {"failure": ""} == {"written": 12, "dropped": 0, "failure": ""}


def test_each_file_begins_with_what_latched_topics_hold(tmp_path: Path) -> None:
    """The last message of a latched topic, and of no other, stands first in each file, at the time of the file's beginning."""
    recorder = RawRecorder(tmp_path, BOOT, ["/odom", "/map"], ["/map"], size=16 << 20)
    for one in CHANNELS:
        recorder.take(one)
    noise = np.random.default_rng(3)
    maps = []
    for n in range(40):
        if n in (1, 20):
            maps.append((n * SECOND, b"map %d" % n))
            recorder.take(batch((1, *maps[-1])))
        recorder.take(batch((0, n * SECOND + 1, noise.bytes(200_000))))
        recorder.flush()
    recorder.close()
    files = files_of(tmp_path, BOOT)
    assert len(files) >= 5
    for path in files[1:]:
        (topic, t, body), (_, first, _) = library(path)[:2]
        held = [body for at, body in maps if at < first][-1]
        assert (topic, body, t) == ("/map", held, first)
    with files[-1].open("rb") as file:
        _, _, message = next(iter(make_reader(file).iter_messages()))
        assert message.publish_time == 20 * SECOND  # when it was received


def test_the_ring_is_bounded_and_spares_what_a_window_needs(tmp_path: Path) -> None:
    """All files together stay within the size; what an open window needs stays longer, within twice the size."""
    noise = np.random.default_rng(4)
    recorder = RawRecorder(tmp_path, BOOT, ["/odom"], [], size=16 << 20)
    recorder.take(CHANNELS[0])

    def write(first: int, count: int) -> None:
        for n in range(first, first + count):
            recorder.take(batch((0, n * SECOND, noise.bytes(500_000))))
            if n % 10 == 0:
                recorder.flush()
        recorder.flush()

    write(0, 60)
    total = sum(path.stat().st_size for path in files_of(tmp_path, BOOT))
    assert 10 << 20 < total <= 17 << 20
    recorder.keep_from = 55 * SECOND
    write(60, 40)
    kept = [t for path in files_of(tmp_path, BOOT) for _, t, _ in library_so_far(path)]
    assert min(kept) <= 55 * SECOND and sum(path.stat().st_size for path in files_of(tmp_path, BOOT)) <= 33 << 20
    write(100, 60)
    assert sum(path.stat().st_size for path in files_of(tmp_path, BOOT)) <= 34 << 20
    recorder.close()


def library_so_far(path: Path) -> list[Message]:
    """What a file that may be being written holds."""
    return read(path)[0]


def test_a_full_queue_drops_counts_and_tells(tmp_path: Path) -> None:
    """What does not fit into the queue is counted by topic, and told once in a while; what was taken is written."""
    recorder = RawRecorder(tmp_path, BOOT, ["/odom", "/map"], [], queue=1 << 20)
    for one in CHANNELS:
        recorder.take(one)
    body = bytes(400_000)
    with recorder._lock:  # the recorder's thread is held up
        for n in range(10):
            recorder.take(batch((0, n * MS, body), (1, n * MS, b"map")))
    recorder.close()
    (event,) = recorder.news(5)
    assert event.type == "monitor.degraded" and event.payload["dropped"] == {"/map": 8, "/odom": 8}
    assert "queue was full" in event.payload["cause"] and recorder.news(6) == []
    assert len(library(files_of(tmp_path, BOOT)[0])) == 4 and recorder.status()["dropped"] == 16


def test_a_topic_that_nobody_reads_is_told_of(tmp_path: Path) -> None:
    """What the source says of a raw topic without signals becomes an event, as for those that are monitored."""
    recorder = RawRecorder(tmp_path, BOOT, ["/map"], [])
    lost = recorder.tell("/map", Cause.NO_PUBLISHER, "nothing came in 5 s", 9)
    assert (lost.type, lost.subject, lost.payload["cause"]) == ("input.lost", "/map", "no_publisher")
    assert recorder.tell("/map", Cause.NONE, "a publisher has appeared", 10).type == "input.restored"
    recorder.close()


@settings(deadline=None, max_examples=25)
@given(
    messages=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=30),
    begin=st.integers(0, 40),
    length=st.integers(0, 40),
)
def test_a_window_has_its_messages_and_what_was_latched(
    messages: list[tuple[int, int]], begin: int, length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A window's file has every message of its time in order, first the latched topic's last one from before."""
    folder = tmp_path_factory.mktemp("raw")
    recorder = RawRecorder(folder, BOOT, ["/odom", "/map"], ["/map"])
    recorder._file_size = 600  # several files
    for one in CHANNELS[:2]:
        recorder.take(one)
    sent, t = [], 0
    for number, gap in messages:
        t += gap
        sent.append((number, t, b"%d at %d" % (number, t)))
        recorder.take(batch(sent[-1]))
        recorder.flush()
    recorder.close()
    out = folder / "window"
    found = extract(folder, BOOT, begin, begin + length, out)
    inside = [(CHANNELS[n].topic, t, body) for n, t, body in sent if begin <= t <= begin + length]
    latched = [body for n, t, body in sent if n == 1 and t < begin]
    if found is None:
        assert not inside and not latched and not out.exists()
        return
    got = library(out)
    assert len(got) == found.messages and found.repeated == bool(latched)
    if latched:
        assert got[0] == ("/map", begin, latched[-1])
        del got[0]
    assert sorted(got) == sorted(inside)
    assert found.size == out.stat().st_size


def test_topics_have_the_names_of_the_envelope() -> None:
    """With or without a slash a topic is one; what is latched is kept, too."""
    loaded = envelopes.loads(ENVELOPE.replace("after: 1 s", "after: 1 s, raw: [odom, /a]").encode())
    box = BlackBox(Path(), raw=("a", "b"), latched=("/b", "c"))
    assert box.topics(loaded) == (("/odom", "/a", "b", "c"), ("b", "c"))


def test_rows_that_are_copied_point_at_their_bytes() -> None:
    """Few rows of a large batch are copied alone, neighbours in one piece; both say the same."""
    rows = np.zeros(3, MESSAGE)
    rows["start"], rows["size"] = [10, 500, 900], [5, 3, 4]
    data = np.arange(1000).astype(np.uint8)
    for chosen in (rows, rows[:1], rows[1:2]):
        copied, moved = compact(data, chosen)
        for old, new in zip(chosen, moved, strict=True):
            assert (
                copied[new["start"] : new["start"] + new["size"]]
                == data[old["start"] : old["start"] + old["size"]].tobytes()
            )
        assert len(copied) == int(chosen["size"].sum())


def test_raw_files_replay(tmp_path: Path) -> None:
    """``edge-replay run`` decides on raw files as on any recording: MessagePack, raw arrays with stamps, and bins."""
    recorder = RawRecorder(tmp_path / "raw", BOOT, ["/odom", "/accel", "/depth"], [])
    for one in CHANNELS:
        recorder.take(one)
    for n in range(100):
        t = SECOND + n * 10 * MS
        ranges = np.full(4, 3.0 if n < 50 else 0.5, "<f4").tobytes()
        recorder.take(
            batch(
                (0, t, msgspec.msgpack.encode({"speed": 20.0 if n == 70 else 1.0})),
                (2, t, struct.pack("<qd", t - 5 * MS, 0.1)),
                (4, t, msgspec.msgpack.encode({"ranges": ranges})),
            )
        )
    recorder.close()
    (tmp_path / "e.yaml").write_text("""
edge_monitor: 1
envelope: {id: raw, version: 1, vehicle: bench}
defaults: {max_age: 1 s}
signals:
  speed: {topic: /odom, type: Odometry, field: speed, unit: m/s}
  age:   {topic: /accel, field: header.stamp}
  near:  {topic: /depth, field: ranges, reduce: min, unit: m}
checks:
  slow:  {kind: bounds, signal: speed, max: 12}
  fresh: {kind: latency, signal: age, max: 10 ms}
  clear: {kind: bounds, signal: near, min: 1}
""")
    program = Path(sys.executable).parent / "edge-replay"
    (path,) = files_of(tmp_path / "raw", BOOT)
    done = subprocess.run(
        [program, "run", path, "-e", "e.yaml", "--jsonl", "-", "--quiet"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [(event["subject"], event["t_ns"]) for event in events if event["type"] == "check.fail"]
    assert failed == [("clear", SECOND + 500 * MS), ("slow", SECOND + 700 * MS)]
    assert {e["subject"] for e in events if e["type"] == "check.pass"} >= {"slow", "clear", "fresh"}


def test_an_incident_has_its_raw_messages_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A window's raw messages are a file beside it, with the map that held then; the journal names its digest."""
    vehicle = Vehicle(tmp_path, raw=True)
    vehicle.lane.map(vehicle.now, b"the map")
    vehicle.drive(8)
    vehicle.incident()
    vehicle.drive(4)
    (path,) = vehicle.kept(1)
    (payload,) = told(tmp_path, "incident.kept")
    beside = path.with_suffix(".mcap")
    raw = payload["raw"]
    assert (raw["file"], raw["size"]) == (beside.name, beside.stat().st_size)
    assert raw["sha256"] == hashlib.sha256(beside.read_bytes()).hexdigest()
    messages = library(beside)
    assert messages[0][0] == "/map" and messages[0][2] == b"the map" and raw["repeated"] == 1
    assert len(messages) == raw["messages"]
    times = {t for topic, t, _ in messages if topic == "/odom"}
    begin, end = payload["from_ns"], payload["to_ns"]
    assert set(range(begin + 100 * MS, end + 1, 100 * MS)) <= times  # from the block in which the window begins
    assert begin - 2 * SECOND <= min(times) and max(times) <= end + 2 * SECOND
    vehicle.loop.end()
    robot = tmp_path / "robot.yaml"
    robot.write_text(ENVELOPE)

    def again() -> tuple[int, str]:
        assert command.callback is not None
        code = command.callback(journal_of(tmp_path), path, (robot,), (), False)
        return code, capsys.readouterr().out

    code, text = again()
    assert code == 0 and f"raw       {raw['messages']:,} messages, as named" in text, text
    data = bytearray(beside.read_bytes())
    data[len(data) // 2] ^= 1
    beside.write_bytes(data)
    code, text = again()
    assert code == 5 and "CHANGED" in text
    beside.unlink()
    code, text = again()
    assert code == 0 and "not beside it" in text


def test_raw_messages_of_a_run_that_was_cut_off_are_kept(tmp_path: Path) -> None:
    """The next start keeps the last seconds with their raw messages, from a file that it first gives its end."""
    child = os.fork()
    if child == 0:
        vehicle = Vehicle(tmp_path, raw=True)
        vehicle.lane.map(vehicle.now, b"the map")
        vehicle.drive(5)
        assert vehicle.raw is not None
        vehicle.raw.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (cut,) = (tmp_path / "tapes" / "raw").glob("*.mcap")
    assert read(cut)[1] and len(read(cut)[0]) == 1 + 50 * 40
    vehicle = Vehicle(tmp_path, raw=True, start=2000 * SECOND)
    vehicle.kept(1)
    vehicle.loop.end()
    assert not read(cut)[1] and len(library(cut)) == 1 + 50 * 40
    (payload,) = [p for p in told(tmp_path, "incident.kept") if p["boot"] != vehicle.boot.hex()]
    assert payload["cause"] == "run.cut" and payload["raw"]["messages"] >= 20 * 40
    assert library(vehicle.incidents / payload["raw"]["file"])[0][2] == b"the map"
