"""The black box: what was fed to the decisions is there after any end, and gives the same decisions again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_monitor import envelope
from edge_monitor.core.messages import Batch, Damage
from edge_monitor.envelope import Envelope
from edge_monitor.errors import ConfigError, VerificationError
from edge_monitor.events import Event
from edge_monitor.journal.records import Digests, Record, Severity, WallStatus
from edge_monitor.journaling import entry
from edge_monitor.reexecution import BESIDE, Report, reexecute
from edge_monitor.runtime import Monitor
from edge_monitor.tape import Kind, Ring, Tape, TapeError, read
from edge_monitor.tape.format import BLOCK, HEAD_SIZE, MOVING_AT, Block, entry_at, entry_seed, pack_entry, whole_entries
from edge_replay import readers

ROOT = Path(__file__).resolve().parent.parent
BOOT = bytes(range(16))
RING, OPEN = 4 << 20, 1 << 19
Records = list[tuple[Record, dict[str, object]]]


@pytest.fixture(scope="module")
def flight() -> Envelope:
    """The demo's envelope."""
    return envelope.load(ROOT / "configs" / "survey_plane.yaml")


def ring(path: Path, monitor: Monitor, **sizes: int) -> Ring:
    """A tape for a monitor."""
    digest, plan = bytes.fromhex(monitor.envelope.digest), bytes.fromhex(monitor.plan.digest())
    return Ring(path, boot=BOOT, envelope=digest, plan=plan, **{"size": RING, "open_size": OPEN, **sizes})


def fly(path: Path, flight: Envelope, most: int | None = None, **sizes: int) -> Records:
    """Fly the demo's flight (``most``: batches of it) with a tape; answers the records that a journal would hold."""
    monitor = Monitor(flight)
    tape = ring(path, monitor, **sizes)
    monitor.record(tape)
    records: Records = []

    def journal(found: list[Event]) -> None:
        for event in found:
            block, end, digest = tape.anchor()
            beside = {BESIDE: {"event": len(records), "tape": [block, end, digest.hex()]}}
            made = entry(event, **beside)
            record = Record(
                1, bytes(16), len(records), made.type, Severity(made.severity), BOOT, made.t_effective, made.t_decided, 0,
                WallStatus.UNKNOWN, -1, "", Digests(), (), made.rules, made.hazard, made.claim, bytes(32), 0,
            )  # fmt: skip
            records.append((record, made.payload))

    for number, item in enumerate(readers.open(ROOT / "replay" / "scenarios" / "survey_flight.mcap")):
        if number == most:
            break
        journal(monitor.feed(item))
        if isinstance(item, Batch) and len(item.messages):
            journal(monitor.until(monitor.now + 1))
        if number == 20:
            journal(monitor.feed(Damage("somewhere", "nothing that could be read")))
    journal(monitor.finish())
    tape.close()
    return records


@pytest.fixture(scope="module")
def flown(tmp_path_factory: pytest.TempPathFactory, flight: Envelope) -> tuple[Path, Records]:
    """A tape of the whole flight, and its records."""
    path = tmp_path_factory.mktemp("tape") / "flight.tape"
    return path, fly(path, flight)


def test_reexecution_gives_every_event_again(flown: tuple[Path, Records], flight: Envelope) -> None:
    """All events come out byte for byte, every anchor holds, and every block begins with the state that was reached."""
    path, records = flown
    tape = read(path)
    report = reexecute(flight, tape, records)
    assert report.difference is None and report.damages == ()
    assert (report.events, report.unmatched, report.anchors) == (len(records), 0, len(records))
    assert report.snapshots == len(tape.blocks) - 1 >= 5


def test_reexecution_starts_at_any_block(flown: tuple[Path, Records], flight: Envelope) -> None:
    """A tape whose beginning was written over still gives the rest of the events."""
    path, records = flown
    whole = read(path)
    for first in range(1, len(whole.blocks)):
        tape = Tape(path, whole.boot, whole.envelope, whole.plan, whole.blocks[first:])
        report = reexecute(flight, tape, records)
        assert report.difference is None and 0 < report.events < len(records)


def changed(tape: Tape, number: int, at: int, value: float) -> Tape:
    """A tape, well formed, whose ITEMS entry number ``at`` of block ``number`` has another value in its middle."""
    blocks = list(tape.blocks)
    raw = bytearray()
    for k, item in enumerate(blocks[number].entries()):
        payload = bytearray(item.payload)
        if k == at:
            assert item.kind == Kind.ITEMS
            middle = len(payload) // 48 * 24
            payload[middle + 16 : middle + 24] = np.float64(value).tobytes()
        raw += pack_entry(item.kind, bytes(payload), entry_seed(blocks[number].before))
    blocks[number] = Block(blocks[number].sequence, bytes(raw), blocks[number].before, True)
    return Tape(tape.path, tape.boot, tape.envelope, tape.plan, tuple(blocks))


def test_a_changed_sample_is_found_by_the_journal_and_by_the_decisions(
    flown: tuple[Path, Records], flight: Envelope
) -> None:
    """One other value contradicts the journal's anchor; with the anchors taken away, a state or event that follows."""
    path, records = flown
    tape = read(path)
    at = next(k for k, item in enumerate(tape.blocks[2].entries()) if item.kind == Kind.ITEMS)
    forged = changed(tape, 2, at, 1e6)
    report = reexecute(flight, forged, records)
    assert report.difference is not None and "the journal names" in report.difference.what
    blind = [(record, {**payload, BESIDE: {"event": n}}) for n, (record, payload) in enumerate(records)]
    report = reexecute(flight, forged, blind)
    assert report.difference is not None and report.difference.sample
    assert "state" in report.difference.what or "record" in report.difference.what


def test_another_decision_in_the_journal_is_found(flown: tuple[Path, Records], flight: Envelope) -> None:
    """A journal that says GO where NO_GO was decided does not match, and the record is named."""
    path, records = flown
    number = next(n for n, (record, _) in enumerate(records) if record.type == "gate.no_go" and n > 20)
    record, payload = records[number]
    forged = [*records[:number], (record, {**payload, "decision": "GO"}), *records[number + 1 :]]
    report = reexecute(flight, read(path), forged)
    assert report.difference is not None and f"record {number} (gate.no_go)" in report.difference.what


def test_another_envelope_is_refused(flown: tuple[Path, Records]) -> None:
    """A tape is only held against the envelope, and the risk profile, that it was made under."""
    with pytest.raises(VerificationError, match="was in force under risk profile"):
        reexecute(envelope.load(ROOT / "configs" / "ugv_husky.yaml"), read(flown[0]))
    with pytest.raises(VerificationError, match="was in force under risk profile"):
        reexecute(envelope.load(ROOT / "configs" / "survey_plane.yaml", risk="high"), read(flown[0]))


def test_old_blocks_are_written_over(tmp_path: Path, flight: Envelope) -> None:
    """A ring that is too small for all keeps the newest blocks, without a gap, and says nothing of damage."""
    records = fly(tmp_path / "small.tape", flight, size=1 << 18, open_size=1 << 17)
    tape = read(tmp_path / "small.tape")
    assert tape.blocks[0].sequence > 1 and tape.damages == ()
    assert [block.sequence for block in tape.blocks] == list(
        range(tape.blocks[0].sequence, tape.blocks[0].sequence + len(tape.blocks))
    )
    assert reexecute(flight, tape, records).difference is None


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_tape import fly, envelope, ROOT
import edge_monitor.tape.ring as ring
import os, signal
count, kill = 0, int(sys.argv[2])
write = ring.Ring.append
def append(self, *arguments):
    global count
    write(self, *arguments)
    count += 1
    print(*self.anchor()[:2], flush=True)
    if count == kill:
        os.kill(os.getpid(), signal.SIGKILL)
ring.Ring.append = append
fly(Path(sys.argv[1]), envelope.load(ROOT / "configs" / "survey_plane.yaml"), size=1 << 20, open_size=1 << 18)
"""


@pytest.mark.parametrize("kill", [3, 40, 60])
def test_a_killed_process_loses_nothing(tmp_path: Path, flight: Envelope, kill: int) -> None:
    """After SIGKILL the tape holds every entry that was written, to the byte, and re-executes."""
    path = tmp_path / "killed.tape"
    script = WRITER.format(tests=str(ROOT / "tests"))
    done = subprocess.run([sys.executable, "-c", script, path, str(kill)], stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    block, end = map(int, done.stdout.splitlines()[-1].split())
    tape = read(path)
    assert (tape.blocks[-1].sequence, len(tape.blocks[-1].raw)) == (block, end)
    assert reexecute(flight, tape).difference is None


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, flight: Envelope) -> bytes:
    """A small tape, as bytes."""
    path = tmp_path_factory.mktemp("short") / "short.tape"
    fly(path, flight, most=12, size=1 << 18, open_size=1 << 17)
    return path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_is_reported_and_never_believed(
    data: st.DataObject, short: bytes, tmp_path_factory: pytest.TempPathFactory, flight: Envelope
) -> None:
    """Whatever bytes are flipped or cut, reading answers blocks whose digests hold, or one clear error."""
    used = len(short.rstrip(b"\0")) + 8
    damaged = bytearray(short)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 700), st.integers(0, used)))
        damaged[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, used)))
    path = tmp_path_factory.getbasetemp() / "damaged.tape"
    path.write_bytes(bytes(damaged[:cut]))
    try:
        tape = read(path)
    except TapeError as error:
        assert str(path) in str(error)
        return
    for before, after in zip(tape.blocks, tape.blocks[1:], strict=False):
        assert after.sequence == before.sequence + 1 and after.before == before.digest()
    try:
        report: Report | None = reexecute(flight, tape)
    except VerificationError:
        report = None
    assert report is None or report.blocks <= len(tape.blocks)


@given(payloads=st.lists(st.binary(max_size=40), max_size=6), cut=st.integers(0, 400), seed=st.integers(0, 2**32 - 1))
def test_entries_end_where_they_were_cut(payloads: list[bytes], cut: int, seed: int) -> None:
    """What is left of a cut run of entries is the entries that are whole, nothing of the next, and none of another block."""
    entries = [pack_entry(Kind.UNTIL, payload, seed) for payload in payloads]
    whole = whole_entries(b"".join(entries)[:cut], seed)
    assert whole_entries(b"".join(entries), seed ^ 1) == b""
    count = sum(np.cumsum([len(e) for e in entries]) <= cut)
    assert whole == b"".join(entries[:count])
    assert entry_at(b"", 0, seed) is None


def test_the_page_gives_the_format_s_numbers() -> None:
    """docs/black_box.md has the kinds, sizes and places that the code has."""
    page = (ROOT / "docs" / "black_box.md").read_text("utf-8")
    assert f"a head of {BLOCK.size} bytes" in page and "4,096 bytes" in page and HEAD_SIZE == 4096
    assert f"| {MOVING_AT} | 8, 8 |" in page and f"| {MOVING_AT + 16} | 2 × (8, 8, 32) |" in page
    assert all(re.search(rf"\b{kind.value} {kind.name.lower()}\b", page) for kind in Kind)


def test_a_long_tape_is_no_memory_of_the_process(tmp_path: Path, flight: Envelope) -> None:
    """What was stored in the ring is the file's: however much is written, only the head and the open areas stay mapped."""
    monitor = Monitor(flight)
    tape = ring(tmp_path / "run.tape", monitor)
    noise = np.random.default_rng(5)
    for t in range(1, 13):
        tape.turn(b"snapshot", t)
        tape.append(Kind.ITEMS, noise.bytes(OPEN // 2), t)
    tape._wait()
    maps = Path("/proc/self/smaps").read_text()
    (own,) = re.findall(rf"^.*{re.escape(str(tape.path))}\n.*?^Rss:\s+(\d+) kB", maps, re.MULTILINE | re.DOTALL)
    tape.close()
    assert int(own) << 10 <= HEAD_SIZE + 2 * OPEN + (64 << 10)
    assert len(list(read(tape.path).blocks)) == 12


def test_a_full_disk_is_found_at_the_start(tmp_path: Path, flight: Envelope) -> None:
    """A tape takes its room when it is made: later nothing can fail for want of it. No second one of its name is made."""
    with pytest.raises(ConfigError, match="no room"):
        ring(tmp_path / "large.tape", Monitor(flight), size=1 << 60)
    assert not (tmp_path / "large.tape").exists()
    ring(tmp_path / "a.tape", Monitor(flight)).close()
    assert os.stat(tmp_path / "a.tape").st_blocks * 512 >= HEAD_SIZE + 2 * OPEN + RING
    with pytest.raises(ConfigError, match="File exists"):
        ring(tmp_path / "a.tape", Monitor(flight))


def command(*arguments: str | Path, expect: int = 0) -> str:
    """What a command prints."""
    program = Path(sys.executable).parent / str(arguments[0])
    done = subprocess.run([program, *arguments[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr + done.stdout
    return done.stdout + done.stderr


def test_a_replayed_flight_reexecutes_from_the_command_line(tmp_path: Path) -> None:
    """Journal and tape of a replay are equal; a tape of another run, and a changed byte of this one, are not."""
    flight, config = ROOT / "replay" / "scenarios" / "survey_flight.mcap", ROOT / "configs" / "survey_plane.yaml"
    command("edge-monitor", "keys", "new", "robot", "--dir", tmp_path)
    journal, tape, public = tmp_path / "j.db", tmp_path / "t.tape", tmp_path / "robot.pub"
    run = ("edge-replay", "run", flight, "-e", config, "--quiet", "--key", tmp_path / "robot.key")
    command(*run, "--journal", journal, "--tape", tape)
    again = ("edge-replay", "reexecute", journal, tape, "-e", config, "--key", public)
    assert "EQUAL" in command(*again)
    command(*run, "--journal", tmp_path / "k.db", "--tape", tmp_path / "u.tape")
    other = ("edge-replay", "reexecute", journal, tmp_path / "u.tape", "-e", config, "--key", public)
    assert "no event of this tape's run" in command(*other, expect=4)
    whole = read(tape)
    last = whole.blocks[-1]
    number = 1 - len(whole.blocks) % 2  # of the open area that holds it
    item = next(item for item in last.entries() if item.kind == Kind.ITEMS)
    data = bytearray(tape.read_bytes())
    data[HEAD_SIZE + number * (4 << 20) + item.start + 40] ^= 1
    tape.write_bytes(data)
    assert "the journal covers" in command(*again, expect=5)
