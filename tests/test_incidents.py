"""Kept incidents: windows of the tape that outlive its ring, stand for themselves, and are named by the journal."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from incident_cases import ENVELOPE, SECOND, Vehicle, again, files, journal_of, records, told

from edge_monitor.envelope.black_box import BlackBoxSpec
from edge_monitor.errors import UsageError
from edge_monitor.journal.verify import verify
from edge_monitor.tape import Kind, TapeError, read
from edge_monitor.tape.format import DOMAIN, FIXED, HEAD_SIZE, MAGIC, Block, entry_seed, pack_block, pack_entry
from edge_monitor.tape.note import Cause, Note
from edge_monitor.tape.windows import Windows


@settings(deadline=None)
@given(
    triggers=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 5)), max_size=30),
    before=st.integers(0, 20),
    after=st.integers(0, 20),
)
def test_windows_that_meet_are_one(triggers: list[tuple[int, int]], before: int, after: int) -> None:
    """Every trigger's span is within one window, windows don't meet, and each is no longer than its triggers make it."""
    windows = Windows(before, after)
    done: list[Note] = []
    spans = []
    for decided, late in sorted(triggers):
        t = decided - late
        if windows.settled(decided - 5):  # as after a turn at a time that no later trigger can be before
            assert windows.open is not None
            done.append(windows.open)
            windows.open = None
        last = windows.open
        note = windows.trigger(Cause(t, "gate.no_go", "drive"), decided)
        if last is not None and note.begin > last.end:
            done.append(last)
        spans.append((t - before, decided + after))
    done += [windows.open] if windows.open is not None else []
    assert sum(note.count for note in done) == len(triggers)
    for begin, end in spans:
        assert sum(note.begin <= begin and end <= note.end for note in done) == 1
    for first, second in pairwise(done):
        assert first.end < second.begin
    for note in done:
        mine = [span for span in spans if note.begin <= span[0] and span[1] <= note.end]
        assert note.begin == min(span[0] for span in mine) and note.end == max(span[1] for span in mine)
        assert len(note.causes) == min(16, note.count)


def test_a_window_is_kept_around_a_gate_that_is_no_longer_go(tmp_path: Path) -> None:
    """The file holds the window, is named by the journal with its digest, and re-executes alone; the start's NO_GO is none."""
    vehicle = Vehicle(tmp_path, size=1 << 17)
    vehicle.drive(20)
    assert vehicle.keeper.status()["open"] is False
    vehicle.incident()
    t = vehicle.now
    vehicle.drive(1.2)
    assert files(vehicle.incidents, ".part") and not files(vehicle.incidents)
    vehicle.drive(2)
    (path,) = vehicle.kept(1)
    (payload,) = told(tmp_path, "incident.kept")
    assert payload["subject"] == path.name and payload["cause"] == "gate.no_go drive" and payload["count"] == 1
    tape = read(path)
    assert tape.damages == () and tape.note is not None and tape.note.settled
    assert payload["from_ns"] <= tape.note.begin == t - 600_000_000 + 100_000_000 - 2 * SECOND
    assert payload["to_ns"] == tape.note.end == t - 500_000_000 + SECOND
    assert payload["digest"] == tape.blocks[-1].digest().hex() and payload["bytes"] == len(tape.blocks[-1].raw)
    report = again(tmp_path, path, vehicle.envelope)
    assert report.difference is None and report.damages == () and report.incident is not None
    assert report.anchors >= 2 and report.events >= 2
    vehicle.drive(60)  # the ring has come round meanwhile
    vehicle.loop.end()
    assert read(vehicle.tape).blocks[0].sequence > tape.blocks[-1].sequence
    assert again(tmp_path, path, vehicle.envelope).difference is None
    assert again(tmp_path, vehicle.tape, vehicle.envelope).difference is None
    assert verify(journal_of(tmp_path), []).ok


def test_the_window_is_whole_whatever_the_blocks_are(tmp_path: Path) -> None:
    """Samples from before to after the window are all there, at the beginning from a whole block on."""
    vehicle = Vehicle(tmp_path)
    vehicle.drive(7.3, each=25)
    vehicle.incident()
    vehicle.drive(5, each=25)
    (path,) = vehicle.kept(1)
    tape = read(path)
    assert tape.note is not None
    times = [
        t
        for block in tape.blocks
        for item in block.entries()
        if item.kind == Kind.ITEMS
        for t in np.frombuffer(item.payload, "<i8")[::3].tolist()
    ]
    wanted = range(tape.note.begin, tape.note.end + 1, 100_000_000)
    assert set(wanted) <= set(times)
    assert max(times) <= tape.note.end + 100_000_000
    assert min(times) > tape.note.begin - 3 * SECOND
    vehicle.loop.end()


def test_incidents_that_meet_are_one_file_and_others_are_not(tmp_path: Path) -> None:
    """A second trigger within the time after, or before, belongs to the first; a later one has a file of its own."""
    vehicle = Vehicle(tmp_path)
    vehicle.drive(3)
    vehicle.incident()
    vehicle.drive(2.2)  # the window is over, and its file could be whole: but the next one's time before meets it
    vehicle.incident()
    vehicle.drive(8)
    vehicle.incident()
    vehicle.loop.end()
    first, second = told(tmp_path, "incident.kept")
    assert (first["count"], second["count"]) == (2, 1) and first["to_ns"] < second["from_ns"]
    assert "cut" not in first and second["cut"] == "the run ended before the window did"
    assert [path.name for path in files(vehicle.incidents)] == [first["subject"], second["subject"]]
    for path in files(vehicle.incidents):
        report = again(tmp_path, path, vehicle.envelope)
        assert report.difference is None and report.incident is not None
    assert not files(vehicle.incidents, ".part")


def test_an_operator_s_request_is_kept(tmp_path: Path) -> None:
    """Whoever asks has a window around now, with their name and reason in the journal."""
    vehicle = Vehicle(tmp_path)
    vehicle.drive(3)
    vehicle.loop.keep("ann", "a strange noise", vehicle.now)
    vehicle.drive(4)
    (path,) = vehicle.kept(1)
    assert "incident.requested" in path.name
    (asked,) = told(tmp_path, "incident.requested")
    assert (asked["person"], asked["cause"]) == ("ann", "a strange noise")
    vehicle.loop.end()


def test_without_a_tape_nothing_is_promised(tmp_path: Path) -> None:
    """A request to a monitor that has no black box is refused in words."""
    vehicle = Vehicle(tmp_path)
    keeper, vehicle.loop._keeper = vehicle.loop._keeper, None
    with pytest.raises(UsageError, match="--tapes"):
        vehicle.loop.keep("ann", "why not", vehicle.now)
    vehicle.loop._keeper = keeper
    vehicle.loop.end()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Vehicle]:
    """A folder with a journal, an incident of several blocks, and the vehicle."""
    folder = tmp_path_factory.mktemp("kept")
    vehicle = Vehicle(folder)
    vehicle.drive(6)
    vehicle.incident()
    vehicle.drive(6)
    (path,) = vehicle.kept(1)
    vehicle.loop.end()
    assert len(read(path).blocks) >= 3
    return folder, path, vehicle


def rewritten(path: Path, blocks: list[Block], out: Path) -> Path:
    """An incident that is well formed, with these blocks, each bound to the one before as they say."""
    import zstandard

    head = bytearray(path.read_bytes()[:HEAD_SIZE])
    body = b""
    for block in blocks:
        stored = b"".join(pack_block(block.sequence, 0, (0, 0), block.before, block.raw, zstandard.ZstdCompressor()))
        body += stored + bytes(-len(stored) % 8)
    fixed = list(FIXED.unpack_from(head))
    assert fixed[0] == MAGIC
    fixed[7] = len(body)
    head[: FIXED.size] = FIXED.pack(*fixed)
    out.write_bytes(bytes(head) + body)
    return out


def chained(blocks: list[Block]) -> list[Block]:
    """The same, each block bound to the one before as it is now."""
    done = [blocks[0]]
    for block in blocks[1:]:
        before = done[-1].digest()
        raw = b"".join(pack_entry(item.kind, item.payload, entry_seed(before)) for item in block.entries())
        done.append(Block(block.sequence, raw, before, True))
    return done


def with_other_sample(block: Block) -> Block:
    """A block with another value in one of its samples."""
    raw = b""
    changed = False
    for item in block.entries():
        payload = bytearray(item.payload)
        if item.kind == Kind.ITEMS and len(payload) >= 24 * 20 and not changed:
            payload[16:24] = np.float64(5.5).tobytes()
            changed = True
        raw += pack_entry(item.kind, bytes(payload), entry_seed(block.before))
    assert changed
    return Block(block.sequence, raw, block.before, True)


def test_a_changed_sample_in_an_incident_is_found(kept: tuple[Path, Path, Vehicle], tmp_path: Path) -> None:
    """One other value, with every checksum and digest made anew, is not the incident that the journal names."""
    folder, path, vehicle = kept
    blocks = list(read(path).blocks)
    forged = rewritten(path, chained([blocks[0], with_other_sample(blocks[1]), *blocks[2:]]), tmp_path / "forged.tape")
    assert read(forged).damages == ()
    report = again(folder, forged, vehicle.envelope)
    assert report.difference is not None and "changed or shortened" in report.difference.what
    flipped = bytearray(path.read_bytes())
    flipped[HEAD_SIZE + 300] ^= 1
    (tmp_path / "flipped.tape").write_bytes(flipped)
    with pytest.raises(TapeError, match="holds no whole block"):
        read(tmp_path / "flipped.tape")


@pytest.mark.parametrize("which", ["tail", "last block", "first block"])
def test_a_shortened_incident_is_found(kept: tuple[Path, Path, Vehicle], tmp_path: Path, which: str) -> None:
    """Entries or blocks that were taken away at either end are missed, since the journal says where it begins and ends."""
    folder, path, vehicle = kept
    blocks = list(read(path).blocks)
    if which == "tail":
        items = list(blocks[-1].entries())
        blocks[-1] = Block(blocks[-1].sequence, blocks[-1].raw[: items[-5].end], blocks[-1].before, True)
    blocks = {"tail": blocks, "last block": blocks[:-1], "first block": blocks[1:]}[which]
    report = again(folder, rewritten(path, blocks, tmp_path / "short.tape"), vehicle.envelope)
    assert report.difference is not None and "changed or shortened" in report.difference.what


def test_an_incident_that_no_record_names_is_not_proven(kept: tuple[Path, Path, Vehicle]) -> None:
    """Without its record an incident still re-executes, and the report says that nothing tells where it should end."""
    from edge_monitor.reexecution import reexecute

    folder, path, vehicle = kept
    others = [(record, payload) for record, payload in records(folder) if record.type != "incident.kept"]
    report = reexecute(vehicle.envelope, read(path), others)
    assert report.difference is None and "no incident of these blocks" in report.damages[0]


def test_a_shortened_tape_is_found(kept: tuple[Path, Path, Vehicle]) -> None:
    """A whole run's tape that ends before the journal does is missed, too."""
    from dataclasses import replace

    from edge_monitor.reexecution import reexecute

    folder, _, vehicle = kept
    whole = read(vehicle.tape)
    short = replace(whole, blocks=whole.blocks[:-2])
    report = reexecute(vehicle.envelope, short, records(folder))
    assert report.difference is not None and "the tape ends with block" in report.difference.what


def test_the_oldest_are_removed_and_the_journal_says_so(tmp_path: Path) -> None:
    """Beyond the budget the oldest files go, each with a record of its own; the newest stay whole."""
    vehicle = Vehicle(tmp_path, budget=60_000)
    for n in range(1, 7):
        vehicle.drive(4)
        vehicle.incident()
        vehicle.drive(4)
        vehicle.kept(n)
    vehicle.until(lambda: sum(path.stat().st_size for path in files(vehicle.incidents)) <= 60_000)
    vehicle.loop.end()
    left = [path.name for path in files(vehicle.incidents)]
    names = [payload["subject"] for payload in told(tmp_path, "incident.kept")]
    gone = [payload["subject"] for payload in told(tmp_path, "incident.removed")]
    assert gone and names == [*gone, *left] and all("beyond" in p["cause"] for p in told(tmp_path, "incident.removed"))
    for path in files(vehicle.incidents):
        assert again(tmp_path, path, vehicle.envelope).difference is None


def test_the_whole_run_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    """Files of bounded size follow one another without a gap, from the first block to the end of the run."""
    vehicle = Vehicle(tmp_path, budget=160_000, always=True)
    vehicle.drive(30)
    vehicle.incident()
    vehicle.loop.end()
    parts = [(payload["part"], payload["blocks"]) for payload in told(tmp_path, "incident.kept")]
    assert [part for part, _ in parts] == list(range(1, len(parts) + 1)) and len(parts) >= 3
    assert parts[0][1][0] == 1
    assert all(first[1] + 1 == second[0] for (_, first), (_, second) in pairwise(parts))
    for path in files(vehicle.incidents):
        assert path.stat().st_size <= 160_000 // 4 + (1 << 15)
        report = again(tmp_path, path, vehicle.envelope)
        assert report.difference is None and report.incident is not None


def test_what_is_a_reason_to_keep() -> None:
    """Events and families are told apart; checks count from a severity on; the defaults are those of the reference."""
    spec = BlackBoxSpec()
    assert spec.wants("handover.requested", "marginal") and spec.wants("check.fail", "critical")
    assert not spec.wants("check.fail", "marginal") and not spec.wants("gate.go", "negligible")
    assert not spec.wants("check.pass", "critical") and spec.wants("mrm.start", "critical")
    only = BlackBoxSpec(keep_on=("odd.exit",))
    assert only.wants("odd.exit", "marginal") and not only.wants("gate.no_go", "critical")


def test_the_digest_is_the_documented_one(kept: tuple[Path, Path, Vehicle]) -> None:
    """SHA-256 over domain, digest of the block before, and entries, from the file's own bytes."""
    folder, path, _ = kept
    (payload,) = told(folder, "incident.kept")
    last = read(path).blocks[-1]
    assert payload["digest"] == hashlib.sha256(DOMAIN + last.before + last.raw).hexdigest()
    assert "before: 2 s" in ENVELOPE
