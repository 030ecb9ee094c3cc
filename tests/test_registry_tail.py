"""Auditors that tail a registry while it ingests: nothing is missed, nothing comes twice, on both databases."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages_world import world

from edge_monitor.errors import UsageError, VerificationError
from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.keys import SigningKey
from edge_monitor.sync import wire
from edge_monitor.sync.outbox import Outbox
from edge_registry.house import open_house
from edge_registry.ingest import Ingest
from edge_registry.own_log import append_receipts
from edge_registry.store import Store
from edge_registry.tail import Cursor, Tail, parse_cursor

REGISTRY = SigningKey("registry", bytes(range(1, 33)))
ROBOTS, EVENTS, SEED = 4, 100, 7


class Device:
    """A robot with a journal of many small commits, and its way into a registry."""

    def __init__(self, folder: Path, number: int) -> None:
        self.key = SigningKey(f"robot-{number}", bytes([number]) * 32)
        path = folder / f"{self.key.verifier.name}.db"
        with Journal.create_or_open(path, self.key, epochs=True) as journal:
            for t in range(EVENTS):
                journal.append(Entry("check.fail", Severity.CRITICAL, t, t, {"value": t / 7}, now=t % 5 == 0))
        self.outbox = Outbox(path)
        self.origin = self.outbox.head().origin
        self.log_id = bytes.fromhex(self.origin.rpartition("/")[2].replace("-", ""))

    def enrol(self, store: Store) -> None:
        """Make it known."""
        with store.begin() as tx:
            tx.enrol(self.key.verifier.name, self.key.verifier, self.key.verifier.name.ljust(40, "x"), 0)

    def sync(self, store: Store, rng: random.Random) -> None:
        """Send everything, a commit or two a transaction, some of which take their time."""
        ingest = Ingest(REGISTRY)
        head = self.outbox.head()
        with store.begin() as tx:
            robot = tx.robot(self.key.verifier.name)
            assert robot is not None
            hello = wire.Hello((1, 1), head.origin, bytes(16), head.note, head.receipt, 0, "t")
            welcome = ingest.hello(tx, robot, hello)[0]
        assert isinstance(welcome, wire.Welcome)
        first = welcome.size
        while (load := self.outbox.load(first, rng.choice((1, 1500)))) is not None:
            batch = wire.Batch(welcome.session, load.first, load.end - load.first, load.data, load.checkpoint)
            with store.begin() as tx:
                answer = ingest.batches(tx, robot, self.log_id, [batch])[-1]
                if not store.is_sqlite:
                    time.sleep(rng.choice((0.0, 0.0, 0.004)))  # a transaction that began early ends late
            assert isinstance(answer, wire.Receipt)
            first = load.end


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    """An empty registry."""
    store = Store(database)
    yield store
    store.close()


@pytest.fixture
def devices(store: Store, tmp_path: Path) -> list[Device]:
    """Enrolled robots, each with a journal that is not synced yet."""
    devices = [Device(tmp_path, number) for number in range(1, ROBOTS + 1)]
    for device in devices:
        device.enrol(store)
    return devices


def all_of(devices: list[Device]) -> set[tuple[str, int]]:
    """Every record there is."""
    return {(device.key.verifier.name, seq) for device in devices for seq in range(device.outbox.head().size)}


def test_nothing_is_missed_or_doubled_while_many_ingest(store: Store, devices: list[Device]) -> None:
    """Two auditors, one of which is another process's worth of restarts, see every record once and each log in order."""
    rng = random.Random(SEED)
    threads = [
        threading.Thread(target=one.sync, args=(store, random.Random(SEED + i))) for i, one in enumerate(devices)
    ]
    seen: list[tuple[str, int]] = []
    restarted: list[tuple[str, int]] = []
    tail, cursor = Tail(store, Cursor()), "0"
    for thread in threads:
        thread.start()
    during = 0
    while True:
        over = not any(thread.is_alive() for thread in threads)
        seen += [(line.robot, line.event.seq) for line in tail.lines()]
        # This one forgets all but the cursor of some line, deals with what came up to it, and begins again.
        lines = Tail(store, parse_cursor(cursor)).lines()
        kept = lines[: rng.randrange(1, 90)]
        if kept:
            cursor = kept[-1].cursor.text()
            restarted += [(line.robot, line.event.seq) for line in kept]
        during += bool(seen) and not over
        if over and tail.at_end and not lines:
            break
    expected = all_of(devices)
    assert during, "the auditor did not read while ingest ran"
    assert len(seen) == len(set(seen)) == len(expected) and set(seen) == expected
    assert restarted == seen
    for device in devices:
        own = [seq for robot, seq in seen if robot == device.key.verifier.name]
        assert own == list(range(len(own)))


def test_a_transaction_that_ends_late_is_not_passed_over(store: Store, devices: list[Device]) -> None:
    """What was begun before and ends behind what an auditor has read still comes, after it."""
    slow, fast = devices[:2]
    fast.sync(store, random.Random(SEED))
    tail = Tail(store, Cursor())
    first = tail.lines()
    if store.is_sqlite:
        slow.sync(store, random.Random(SEED))  # one writer at a time: nothing can end late
    else:
        began, let_go = threading.Event(), threading.Event()

        def held_back(*arguments: object) -> None:
            began.set()
            assert let_go.wait(20)
            append_receipts(*arguments)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("edge_registry.ingest.append_receipts", held_back)
            thread = threading.Thread(target=slow.sync, args=(store, random.Random(SEED)))
            thread.start()
            assert began.wait(20)
        devices[2].sync(store, random.Random(SEED))
        between = tail.lines()
        assert {line.robot for line in between} == {devices[2].key.verifier.name}
        let_go.set()
        thread.join(20)
    rest = tail.lines()
    assert {line.robot for line in rest} == {slow.key.verifier.name}
    assert len(first) + len(rest) == fast.outbox.head().size + slow.outbox.head().size


def test_a_cursor_of_another_history_is_refused(store: Store, devices: list[Device]) -> None:
    """After a restore from a backup a cursor from before is refused, whether or not as many receipts were given since."""
    devices[0].sync(store, random.Random(SEED))
    lines = Tail(store, Cursor()).lines()
    good = lines[-1].cursor
    far = Cursor(good.receipt + 1000, good.sequence, good.leaf)
    for wrong in (far, Cursor(good.receipt, good.sequence, "0" * 16)):
        with pytest.raises(VerificationError, match="another history"):
            Tail(store, wrong).lines()
    for text in ("", "1.2", "1.2.xyz", "-1.0.0000000000000000", "٣.1.0000000000000000"):
        with pytest.raises(UsageError, match="no cursor"):
            parse_cursor(text)


def test_the_command_goes_on_from_a_cursor(tmp_path: Path, database: str) -> None:
    """``edge-registry tail``: one robot's records as NDJSON, and the rest of all from a line's cursor on."""
    house = open_house(tmp_path / "registry", database, make="registry")
    store = house.store()
    devices = [Device(tmp_path, number) for number in (1, 2)]
    for device in devices:
        device.enrol(store)
        device.sync(store, random.Random(SEED))
    store.close()

    def tail(*options: str) -> list[dict[str, object]]:
        command = [
            sys.executable,
            "-c",
            "from edge_registry.cli import main; main()",
            "tail",
            "--dir",
            str(house.folder),
            "--database",
            database,
        ]
        done = subprocess.run([*command, *options], capture_output=True, check=True, timeout=60)
        return [json.loads(line) for line in done.stdout.splitlines()]

    lines = tail()
    assert len(lines) == sum(device.outbox.head().size for device in devices)
    assert lines[7]["type"] == "check.fail" and lines[7]["payload"] == {"value": 1.0}
    assert tail("--from", str(lines[49]["cursor"])) == lines[50:]
    assert tail("--robot", "robot-2") == [line for line in lines if line["robot"] == "robot-2"]
    assert tail("--from", "now") == []


def test_over_http_it_is_the_same_tail(tmp_path: Path, database: str) -> None:
    """Who may see records follows a registry over HTTP, piece by piece, and gets each line that the command prints, once;
    a cursor that is none, or of another history, is refused with words.
    """
    here = world(tmp_path, database)
    try:
        client, cursor, body = here.client("assurance"), "0", b""
        while True:
            answer = client.get(f"/tail?from={cursor}")
            assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
            body += answer.body
            cursor = answer.headers["x-cursor"]
            if answer.headers["x-at-end"] == "yes":
                break
        tail, expected = Tail(here.store, Cursor()), b""
        while not tail.at_end:
            expected += b"".join(line.json() for line in tail.lines())
        assert body == expected and len(body.splitlines()) > 20
        assert client.get(f"/tail?from={cursor}").body == b"" == client.get("/tail?from=now").body
        one = client.get("/tail?robot=plane").body.splitlines()
        assert 0 < len(one) < len(body.splitlines()) and {json.loads(line)["robot"] for line in one} == {"plane"}
        assert client.get("/tail?from=x").status == 400
        assert client.get(f"/tail?from={cursor[:-1]}{'0' if cursor[-1] != '0' else '1'}").status == 409
    finally:
        here.serving.stop()
