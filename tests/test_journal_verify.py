"""Verification: every alteration is found and named, and what cannot be proven is said."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge_monitor.errors import DamagedInputError
from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.merkle import leaf_hash
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import WallStatus, decode_payload, decode_record
from edge_monitor.journal.report import Report
from edge_monitor.journal.verify import verify

KEY = SigningKey("robot", bytes(range(32)))
OTHER = SigningKey("robot", bytes(32))
SECOND = 1_000_000_000


def entry(i: int, kind: str = "check.fail", *, now: bool = False, t: int | None = None) -> Entry:
    t = i * SECOND if t is None else t
    return Entry(kind, Severity.MARGINAL, t, t, {"subject": "speed", "value": i / 2}, rules=("speed",), now=now)


def write(path: Path, entries: list[Entry], boot: bytes = bytes(16)) -> None:
    chance = random.Random(7)
    with Journal.create_or_open(
        path, KEY, boot_id=boot, wall=lambda: (0, WallStatus.UNKNOWN, -1), entropy=chance.randbytes
    ) as journal:
        for one in entries:
            journal.append(one)


def check(path: Path) -> Report:
    return verify(path, [KEY.verifier])


class Tamper:
    """A hand in the file that knows SQL: rules dropped, no waiting for the disk."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("pragma synchronous=off")
        for (name,) in self("select name from sqlite_master where type='trigger'"):
            self(f"drop trigger {name}")

    def __call__(self, sql: str, *values: object) -> list[tuple]:
        return self.connection.execute(sql, values).fetchall()


@pytest.fixture
def journal(tmp_path):
    """Twelve records under four checkpoints (sizes 3, 5, 9, 12), with both marks."""
    path = tmp_path / "journal.db"
    kinds = ["monitor.started", *["check.fail"] * 10, "monitor.stopped"]
    write(path, [entry(i, kind, now=i in (2, 4, 8)) for i, kind in enumerate(kinds)])
    return path


@pytest.fixture
def tamper(journal):
    hand = Tamper(journal)
    with closing(hand.connection):
        yield hand


def test_an_untouched_journal_verifies(journal):
    """All three verdicts are good, and count, time range and events are what was written."""
    report = check(journal)
    assert (report.ok, report.integrity, report.authorship, report.gapless) == (True, "verified", "verified", True)
    assert (report.records, report.checkpoints, report.signers, report.findings) == (12, 4, ["robot"], [])
    assert (report.t_first, report.t_last) == (0, 11 * SECOND)
    assert report.events == {"monitor.started": 1, "check.fail": 10, "monitor.stopped": 1}
    (run,) = report.runs
    assert (run.first, run.last, run.begun, run.ended) == (0, 11, True, True)


COLUMNS = [
    ("records", "record", "seq", 0),
    ("records", "leaf", "seq", 0),
    ("payloads", "salt", "seq", 0),
    ("payloads", "payload", "seq", 0),
    ("checkpoints", "note", "size", -1),
]


@pytest.mark.parametrize(("table", "column", "number", "last"), COLUMNS, ids=str)
def test_every_flipped_byte_is_found_with_its_sequence(tmp_path, table, column, number, last):
    """One flipped bit in any byte of any stored value fails verification, and the first finding names that record."""
    path = tmp_path / "small.db"
    write(path, [entry(i, now=i == 1) for i in range(4)])
    tamper = Tamper(path)
    with closing(tamper.connection):
        flips = 0
        for place, value in tamper(f"select {number}, cast({column} as blob) from {table}"):
            for i in range(len(value)):
                flipped = value[:i] + bytes([value[i] ^ 1 << i % 8]) + value[i + 1 :]
                tamper(f"update {table} set {column} = ? where {number} = ?", flipped, place)
                report = check(path)
                assert not report.ok, (place, i)
                assert report.findings[0].sequence == place + last, (place, i, report.findings)
                flips += 1
            tamper(f"update {table} set {column} = ? where {number} = ?", value, place)
        assert flips >= 100
    assert check(path).ok


def test_an_altered_record_is_told_from_an_altered_cache(journal, tamper):
    """The signed root decides which of record and cached hash is the original, and later records stay verifiable."""
    ((record, leaf),) = tamper("select record, leaf from records where seq = 6")
    tamper("update records set record = ? where seq = 6", record.replace(b"speed", b"spied"))
    assert [(f.sequence, f.kind) for f in check(journal).findings] == [(6, "record")]
    tamper("update records set record = ?, leaf = ? where seq = 6", record, bytes(32))
    assert [(f.sequence, f.kind) for f in check(journal).findings] == [(6, "cache")]
    tamper("update records set leaf = ? where seq = 6", leaf)
    tamper("update records set record = ? where seq = 7", record)
    assert check(journal).findings[0].sequence == 7


def test_a_record_altered_together_with_its_cache_is_found(journal, tamper):
    """Rewriting the cached hash to match does not help: the range does not lead to the root that was signed over it."""
    ((record,),) = tamper("select record from records where seq = 6")
    forged = record.replace(b"speed", b"spied")
    tamper("update records set record = ?, leaf = ? where seq = 6", forged, leaf_hash(forged))
    assert [(f.sequence, f.last, f.kind) for f in check(journal).findings] == [(5, 8, "root")]


@pytest.mark.parametrize("place", range(12))
def test_a_deleted_record_is_found(journal, tamper, place):
    """A record that is gone is reported as missing by its number, wherever it was."""
    tamper("delete from records where seq = ?", place)
    tamper("delete from payloads where seq = ?", place)
    report = check(journal)
    assert not report.ok
    assert not report.gapless
    assert (report.findings[0].sequence, report.findings[0].kind) == (place, "missing")


@pytest.mark.parametrize("place", range(11))
def test_a_record_deleted_with_the_rest_moved_up_is_found(journal, tamper, place):
    """Renumbering the rows after a deletion does not hide it: each record carries its own number."""
    for table in ("records", "payloads"):
        tamper(f"delete from {table} where seq = ?", place)
        for seq in range(place + 1, 12):
            tamper(f"update {table} set seq = ? where seq = ?", seq - 1, seq)
    report = check(journal)
    assert not report.ok
    assert not report.gapless
    assert report.findings[0].sequence == place


@pytest.mark.parametrize("place", range(12))
def test_an_inserted_record_is_found(journal, tamper, place):
    """A forged record in its proper form, with the rest moved down, is found where it was inserted."""
    ((record, salt, payload),) = tamper(
        "select record, salt, payload from records join payloads using (seq) where seq = ?", place
    )
    forged = record.replace(b"speed", b"spied")
    for table in ("records", "payloads"):
        for seq in reversed(range(place, 12)):
            tamper(f"update {table} set seq = ? where seq = ?", seq + 1, seq)
    tamper("insert into records values (?, ?, ?)", place, forged, leaf_hash(forged))
    tamper("insert into payloads values (?, ?, ?)", place, salt, payload)
    report = check(journal)
    assert not report.ok
    assert any(f.sequence == place and f.kind == "order" for f in report.findings)


@pytest.mark.parametrize(("a", "b"), [(0, 11), (3, 4), (5, 6), (2, 9)])
def test_exchanged_records_are_found(journal, tamper, a, b):
    """Two whole rows in each other's place are both named, the first one first."""
    for table in ("records", "payloads"):
        for old, new in ((a, -1), (b, a), (-1, b)):
            tamper(f"update {table} set seq = ? where seq = ?", new, old)
    report = check(journal)
    assert not report.ok
    assert [f.sequence for f in report.findings if f.kind == "order"] == [a, b]


def test_a_lost_or_foreign_payload_row_is_found_and_an_erased_one_is_only_reported(journal, tamper):
    """An erased payload leaves the journal verified, and is counted; one that is gone or exchanged is a failure."""
    tamper("update payloads set salt = null, payload = null where seq = 4")
    report = check(journal)
    assert report.ok
    assert (report.erased_payloads, report.erased) == (1, [4])
    tamper("delete from payloads where seq = 7")
    assert [(f.sequence, f.kind) for f in check(journal).findings] == [(7, "payload")]
    tamper("insert into payloads select 7, salt, payload from payloads where seq = 8")
    assert [(f.sequence, f.kind) for f in check(journal).findings] == [(7, "payload")]
    tamper("update payloads set salt = null where seq = 8")
    assert [f.sequence for f in check(journal).findings] == [7, 8]


def test_the_tail_is_not_provable_locally(journal, tamper):
    """A journal cut at a checkpoint is whole in itself: it verifies, and the report claims nothing of its tail."""
    for table, number in (("records", "seq >= 9"), ("payloads", "seq >= 9"), ("checkpoints", "size > 9")):
        tamper(f"delete from {table} where {number}")
    report = check(journal)
    assert report.ok
    assert not report.runs[0].ended
    completeness = report.document()["completeness"]
    assert (completeness["tail"], completeness["receipted_up_to"]) == ("not provable locally", None)


def test_records_without_a_checkpoint_are_found(journal, tamper):
    """Records after the last signature are nobody's."""
    tamper("delete from checkpoints where size = 12")
    assert [(f.sequence, f.kind) for f in check(journal).findings] == [(9, "root")]


def test_without_a_key_only_integrity_is_checked(journal):
    """No key given: integrity is verified, and authorship is said not to have been checked."""
    report = verify(journal, [])
    assert (report.ok, report.integrity, report.authorship) == (True, "verified", "not checked")


def test_another_key_of_the_same_name_is_not_believed(journal):
    """A journal that is whole but signed by someone else fails on authorship alone."""
    report = verify(journal, [OTHER.verifier])
    assert (report.ok, report.integrity, report.authorship) == (False, "verified", "FAILED")


def test_a_known_signer_cannot_sign_for_another_log(journal, tamper):
    """A key that is trusted under one name does not vouch for the journal of another."""
    stranger = SigningKey("stranger", bytes(range(1, 33)))
    from edge_monitor.journal.notes import sign_note

    for size, note in tamper("select size, note from checkpoints"):
        tamper(
            "update checkpoints set note = ? where size = ?",
            sign_note(note.rpartition("\n\n")[0] + "\n", stranger),
            size,
        )
    report = verify(journal, [KEY.verifier, stranger.verifier])
    assert report.authorship == "FAILED"
    assert "signed by stranger, not robot" in report.findings[0].what


def test_records_of_another_log_are_found(tmp_path, journal, tamper):
    """Rows copied from another journal of the same robot do not pass for this one's."""
    other = tmp_path / "other.db"
    with Journal.create_or_open(other, KEY) as second:
        for i in range(12):
            second.append(entry(i))
    tamper("attach ? as other", str(other))
    tamper("update records set (record, leaf) = (select record, leaf from other.records o where o.seq = records.seq)")
    tamper(
        "update payloads set (salt, payload) = (select salt, payload from other.payloads o where o.seq = payloads.seq)"
    )
    assert any("another log" in f.what for f in check(journal).findings)


def test_tiles_are_checked(tmp_path):
    """A flipped byte in a cached subtree hash, a missing one and a surplus one are found with their records."""
    path = tmp_path / "long.db"
    write(path, [entry(i) for i in range(600)])
    tamper = Tamper(path)
    with closing(tamper.connection):
        ((digest,),) = tamper("select hash from tiles where tile = 1")
        for i in range(32):
            tamper("update tiles set hash = ? where tile = 1", digest[:i] + bytes([digest[i] ^ 1]) + digest[i + 1 :])
            assert [(f.sequence, f.kind) for f in check(path).findings] == [(256, "cache")]
        tamper("update tiles set hash = ? where tile = 1", digest)
        assert check(path).ok
        # An altered record inside a cached subtree is one finding: the cache is still what was signed.
        ((record,),) = tamper("select record from records where seq = 300")
        tamper("update records set record = ? where seq = 300", record.replace(b"speed", b"spied"))
        assert [(f.sequence, f.kind) for f in check(path).findings] == [(300, "record")]
        tamper("update records set record = ? where seq = 300", record)
        tamper("insert into tiles values (8, 2, ?)", digest)
        assert [(f.sequence, f.kind) for f in check(path).findings] == [(512, "cache")]
        tamper("delete from tiles where tile in (0, 2)")
        assert [(f.sequence, f.kind) for f in check(path).findings] == [(0, "cache")]


def test_runs_marks_and_silences_are_reported(tmp_path):
    """Each boot is a run with or without its marks; more than ten minutes without a record in a run is a silence."""
    path = tmp_path / "runs.db"
    write(path, [entry(0, "monitor.started"), entry(1), entry(2, t=602 * SECOND)], boot=b"a" * 16)
    write(path, [entry(0, "monitor.started"), entry(1, "monitor.stopped")], boot=b"b" * 16)
    write(path, [entry(0)], boot=b"c" * 16)
    report = check(path)
    assert report.ok
    assert [(r.first, r.last, r.begun, r.ended) for r in report.runs] == [
        (0, 2, True, False),
        (3, 4, True, True),
        (5, 5, False, False),
    ]
    assert report.silences == [(2, 601 * SECOND)]


def contents(path: Path) -> list[tuple[int, str, dict]]:
    """What a reader is shown, in order, as far as it can be read; the readable part before the first failure."""
    shown = []
    try:
        with Reader(path) as reader:
            for row in reader.rows():
                payload = {} if row.payload is None else decode_payload(row.payload)
                shown.append((row.seq, decode_record(row.record).type, payload))
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
    return shown


def test_no_flipped_byte_of_the_file_changes_content_silently(tmp_path):
    """A flipped byte anywhere in the SQLite file is harmless or reported; never a traceback, never other content."""
    path = tmp_path / "journal.db"
    write(path, [entry(i, now=i % 5 == 0) for i in range(16)])
    original, expected = path.read_bytes(), contents(path)
    damaged = tmp_path / "damaged.db"
    chance = random.Random(1)
    reported = 0
    places = sorted({*range(100), *chance.sample(range(len(original)), 1200)})
    for place in places:
        flipped = bytearray(original)
        flipped[place] ^= 1 << chance.randrange(8)
        for leftover in tmp_path.glob("damaged.db*"):
            leftover.unlink()
        damaged.write_bytes(flipped)
        try:
            good = check(damaged).ok
        except DamagedInputError:
            good = False
        if good:
            assert contents(damaged) == expected, place
        reported += not good
    assert reported > len(places) // 10


def test_a_file_cut_anywhere_is_refused_or_reported(tmp_path, journal):
    """A journal file cut short never verifies, and never ends in a traceback."""
    original = journal.read_bytes()
    cut = tmp_path / "cut.db"
    for size in range(0, len(original), 997):
        for leftover in tmp_path.glob("cut.db*"):
            leftover.unlink()
        cut.write_bytes(original[:size])
        try:
            assert not check(cut).ok
        except DamagedInputError as error:
            assert str(cut) in str(error)


def test_other_files_are_no_journals(tmp_path):
    """Text, an empty file, another database and a folder are refused with the path and the reason."""
    text, empty, other = tmp_path / "a.txt", tmp_path / "b.db", tmp_path / "c.db"
    text.write_text("hello" * 400)
    empty.touch()
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("create table records (seq)")
    for path in (text, empty, other, tmp_path, tmp_path / "none.db"):
        with pytest.raises(DamagedInputError, match=path.name):
            verify(path, [])


def test_verification_changes_nothing(tmp_path, journal):
    """The bytes of a journal are the same after it has been verified."""
    copy = tmp_path / "copy.db"
    shutil.copy(journal, copy)
    assert check(copy).ok
    assert copy.read_bytes() == journal.read_bytes()
