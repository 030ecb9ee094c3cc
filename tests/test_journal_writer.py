"""The writer: what is acknowledged is durable and signed, one writer at a time, and the first failure is the last."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_monitor.errors import ConfigError, UsageError, VerificationError
from edge_monitor.journal import Digests, Entry, Journal, Severity
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.merkle import CompactRange, inclusion_proof, leaf_hash, root_from_inclusion
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import WallStatus, decode_payload, decode_record
from edge_monitor.journal.verify import verify
from edge_monitor.journal.writer import GROUP, HEARTBEAT_NS, JournalError

KEY = SigningKey("robot", bytes(range(32)))


def entry(i: int, kind: str = "check.fail", **fields) -> Entry:
    return Entry(kind, Severity.CRITICAL, i, i + 1, {"subject": "speed", "value": i}, **fields)


def open_journal(path, seed: int = 1, **options) -> Journal:
    chance = random.Random(seed)
    return Journal.create_or_open(
        path, KEY, wall=lambda: (5, WallStatus.SYNCHRONISED, 9), entropy=chance.randbytes, **options
    )


def stored(path) -> list:
    with Reader(path) as reader:
        return [decode_record(row.record) for row in reader.rows()]


def test_a_record_holds_what_was_appended(tmp_path):
    """Every field of an entry, the clocks, digests and ids are in the record; its payload is beside it, salted."""
    path = tmp_path / "j.db"
    digests = Digests(b"e" * 32, b"m" * 32, b"1.0")
    with open_journal(path, digests=digests, boot_id=b"b" * 16) as journal:
        journal.append(entry(1))
        said = {"rules": ("r\u00e9",), "hazard": "H3", "claim": "G1", "causes": (0,), "actor": "Ana"}
        assert journal.append(entry(7, "gate.no_go", **said)) == 1
        journal.set_digests(Digests())
        journal.append(entry(8))
        log_id = journal.log_id
    first, second, third = stored(path)
    assert (second.type, second.severity, second.sequence, second.log_id) == (
        "gate.no_go",
        Severity.CRITICAL,
        1,
        log_id,
    )
    assert (second.t_effective, second.t_decided, second.boot_id) == (7, 8, b"b" * 16)
    assert (second.wall_ns, second.wall_status, second.wall_error_ns) == (5, WallStatus.SYNCHRONISED, 9)
    assert (second.rules, second.hazard, second.claim, second.causes, second.actor) == (
        ("r\u00e9",),
        "H3",
        "G1",
        (0,),
        "Ana",
    )
    assert (first.digests, second.digests, third.digests) == (digests, digests, Digests())
    with Reader(path) as reader:
        assert [decode_payload(row.payload)["value"] for row in reader.rows()] == [1, 7, 8]
        assert len({row.salt for row in reader.rows()}) == 3


def test_entries_wait_for_one_another_and_never_longer_than_a_group(tmp_path):
    """Nothing is in the file before a commit; the 64th waiting entry, and an urgent one, commit all before them."""
    path = tmp_path / "j.db"
    with open_journal(path) as journal:
        for i in range(GROUP - 1):
            journal.append(entry(i))
        assert (len(stored(path)), journal.pending) == (0, GROUP - 1)
        journal.append(entry(GROUP))
        assert (len(stored(path)), journal.pending) == (GROUP, 0)
        journal.append(entry(70))
        journal.append(entry(71, now=True))
        assert len(stored(path)) == GROUP + 2
        journal.append(entry(72))
        journal.commit()
        journal.commit()
        assert len(stored(path)) == GROUP + 3
    with Reader(path) as reader:
        assert [size for size, _ in reader.checkpoints()] == [64, 66, 67]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12))
def test_any_cutting_into_runs_and_commits_gives_the_same_tree(tmp_path_factory, steps):
    """However appends are grouped and the journal reopened, the tree is that of its records, and it verifies."""
    path = tmp_path_factory.mktemp("runs") / "j.db"
    journal = open_journal(path)
    for i, (now, reopen) in enumerate(steps):
        assert journal.append(entry(i, now=now)) == i
        if reopen:
            root = journal.root
            journal.close()
            journal = open_journal(path, seed=i)
            assert (journal.size, journal.root) == (i + 1, root)
    journal.close()
    report = verify(path, [KEY.verifier])
    assert (report.ok or not steps, report.records) == (True, len(steps))


def test_a_long_journal_reopens_from_its_cached_subtrees(tmp_path):
    """Over more than two cached subtrees, the reopened tree and any record's proof lead to the root of all leaves."""
    path = tmp_path / "j.db"
    with open_journal(path) as journal:
        for i in range(700):
            journal.append(entry(i))
        root = journal.root
    tree = CompactRange()
    with Reader(path) as reader:
        leaves = [leaf_hash(row.record) for row in reader.rows()]
        for leaf in leaves:
            tree.append(leaf)
        assert tree.root() == reader.tree(700).root() == root
        for index in (0, 255, 256, 511, 640, 699):
            proof = inclusion_proof(reader.subtree, index, 700)
            assert root_from_inclusion(leaves[index], index, 700, proof) == root


def test_the_same_inputs_give_the_same_journal(tmp_path):
    """Clock and randomness are arguments: equal ones give equal records, salts and signatures."""
    seen = []
    for name in ("a.db", "b.db"):
        with open_journal(tmp_path / name) as journal:
            for i in range(10):
                journal.append(entry(i, now=i == 4))
        with Reader(tmp_path / name) as reader:
            seen.append((list(reader.rows()), list(reader.checkpoints())))
    assert seen[0] == seen[1]


def test_a_second_writer_is_refused(tmp_path):
    """While one writes, another is told so; after it has closed, the journal opens."""
    path = tmp_path / "j.db"
    with open_journal(path), pytest.raises(ConfigError, match="another process writes this journal"):
        open_journal(path)
    open_journal(path).close()


def test_readers_and_the_writer_do_not_disturb_one_another(tmp_path):
    """A reader keeps its snapshot while the writer goes on, and neither waits."""
    path = tmp_path / "j.db"
    with open_journal(path) as journal:
        journal.append(entry(0, now=True))
        with Reader(path) as reader:
            assert reader.size() == 1
            journal.append(entry(1, now=True))
            assert (reader.size(), len(stored(path))) == (1, 2)
            assert verify(path, [KEY.verifier]).records == 2


@pytest.mark.parametrize(
    "sql",
    [
        "update records set record = x''",
        "delete from records where seq = 1",
        "insert into records values (7, x'', x'')",
        "insert or replace into records values (0, x'', x'')",
        "update payloads set payload = x'80'",
        "update payloads set seq = 9 where seq = 1",
        "delete from payloads",
        "insert or replace into payloads values (0, x'', x'')",
        "update checkpoints set note = ''",
        "delete from checkpoints",
        "insert into checkpoints values (1, '')",
        "update meta set value = ''",
        "delete from meta",
    ],
)
def test_the_file_is_append_only(tmp_path, sql):
    """The file's own rules refuse updates, deletions and insertions out of order."""
    path = tmp_path / "j.db"
    with open_journal(path) as journal:
        journal.append(entry(0))
        journal.append(entry(1))
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(sql)


def test_a_payload_can_be_erased_and_every_proof_stays(tmp_path):
    """Setting salt and payload to null is the one change the rules allow, and the journal verifies and goes on."""
    path = tmp_path / "j.db"
    with open_journal(path) as journal:
        journal.append(entry(0))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update payloads set salt = null, payload = null where seq = 0")
    with open_journal(path) as journal:
        journal.append(entry(1))
    report = verify(path, [KEY.verifier])
    assert (report.ok, report.erased, report.records) == (True, [0], 2)


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "check.maybe"},
        {"payload": {"x": float("nan")}},
        {"payload": {"x": 2**64}},
        {"payload": {"x": "\ud800"}},
        {"payload": {"e\u0301": 1, "\u00e9": 2}},
        {"t_effective": 2**63},
        {"t_effective": 1.5},
        {"severity": 5},
        {"causes": (1,)},
        {"causes": (-1,)},
        {"rules": ("x" * 70_000,)},
        {"actor": "\ud800"},
    ],
    ids=str,
)
def test_what_no_record_can_hold_is_refused_and_adds_nothing(tmp_path, bad):
    """A bad entry is an error of its caller: nothing is appended, and the journal goes on."""
    path = tmp_path / "j.db"
    good = {"type": "check.fail", "severity": Severity.MARGINAL, "t_effective": 0, "t_decided": 0}
    with open_journal(path) as journal:
        journal.append(entry(0))
        root = journal.root
        with pytest.raises(UsageError):
            journal.append(Entry(**(good | bad)))
        assert (journal.size, journal.root) == (1, root)
        journal.append(entry(1))
    assert verify(path, [KEY.verifier]).ok


def test_ends_and_silences_are_known(tmp_path):
    """The journal knows whether the last run ended with its mark, and how long it has been silent in this one."""
    path = tmp_path / "j.db"
    with open_journal(path) as journal:
        assert journal.last_end_was_clean
        assert journal.silence(HEARTBEAT_NS) == 0
        journal.append(entry(0, "monitor.started"))
        assert journal.silence(HEARTBEAT_NS + 1) == HEARTBEAT_NS
    with open_journal(path) as journal:
        assert not journal.last_end_was_clean
        journal.append(entry(1, "monitor.stopped"))
    with open_journal(path) as journal:
        assert journal.last_end_was_clean


def test_only_the_key_that_began_a_journal_continues_it(tmp_path):
    """Another key, of another or of the same name, is refused before anything is written."""
    path = tmp_path / "j.db"
    with open_journal(path) as journal:
        journal.append(entry(0))
    for other in (SigningKey("robot", bytes(32)), SigningKey("other", bytes(range(32)))):
        with pytest.raises(ConfigError, match="key"):
            Journal.create_or_open(path, other)
    assert verify(path, [KEY.verifier]).records == 1


def test_a_journal_whose_end_was_altered_is_not_continued(tmp_path):
    """The writer signs nothing over records that are not what the last checkpoint covers."""
    path = tmp_path / "j.db"
    with open_journal(path) as journal:
        journal.append(entry(0))
        journal.append(entry(1))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("drop trigger records_no_update")
        connection.execute("update records set record = (select record from records where seq = 0) where seq = 1")
    with pytest.raises(VerificationError, match="journal verify"):
        open_journal(path)


def test_files_that_are_no_journals_are_left_alone(tmp_path):
    """Text and other databases are refused, and keep their bytes."""
    text, other = tmp_path / "a.txt", tmp_path / "b.db"
    text.write_text("hello" * 999)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("create table t (x)")
    for path in (text, other):
        before = path.read_bytes()
        with pytest.raises(ConfigError, match=path.name):
            open_journal(path)
        assert path.read_bytes() == before


def test_the_first_write_error_stops_the_journal_for_good(tmp_path):
    """When the file cannot grow any more, nothing is acknowledged from then on, and what was acknowledged verifies."""
    script = """
        import resource, signal, sys
        from pathlib import Path
        from edge_monitor.journal import Entry, Journal, Severity
        from edge_monitor.journal.keys import SigningKey
        from edge_monitor.journal.writer import JournalError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        journal = Journal.create_or_open(Path(sys.argv[1]), SigningKey("robot", bytes(range(32))))
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        try:
            for i in range(1000):
                journal.append(Entry("check.fail", Severity.CRITICAL, i, i, {"i": i}, now=True))
                print(i, flush=True)
        except JournalError as error:
            print(journal.state, error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    """
    script += """
        for call in (journal.commit, lambda: journal.append(Entry("check.fail", Severity.CRITICAL, 0, 0))):
            try:
                call()
                print("acknowledged after the failure")
            except JournalError:
                print("refused")
        journal.close()
    """
    path = tmp_path / "j.db"
    script = textwrap.dedent(script)
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    *acknowledged, failed, first, second = run.stdout.splitlines()
    assert failed.startswith("failed") and "the journal is stopped, check the disk" in failed
    assert (first, second) == ("refused", "refused")
    report = verify(path, [KEY.verifier])
    assert report.ok
    assert report.records >= len(acknowledged) > 10
    with open_journal(path) as journal:
        assert journal.append(entry(0, now=True)) == report.records


def test_an_interrupt_within_an_append_stops_the_journal(tmp_path):
    """If the tree may be half grown, nothing more is signed; what was durable stays."""
    path = tmp_path / "j.db"

    class Interrupted(CompactRange):
        def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
            super().append(leaf)
            raise KeyboardInterrupt

    with open_journal(path) as journal:
        journal.append(entry(0, now=True))
        journal._tree = Interrupted(journal._tree.size, journal._tree.hashes)
        with pytest.raises(KeyboardInterrupt):
            journal.append(entry(1, now=True))
        with pytest.raises(JournalError, match="failed"):
            journal.commit()
    report = verify(path, [KEY.verifier])
    assert (report.ok, report.records) == (True, 1)
