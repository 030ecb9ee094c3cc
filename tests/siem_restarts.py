"""``make siem-restarts``: kill -9 the sender and the receiver while records go out, 100 times each, over TLS and over OTLP.

Both are processes: ``edge-registry siem send`` as people start it, and `siem_receiver.py`, which writes down what it took. Ends
with 1 where a record is missed, or one came under two names. ``test_siem_delivery.py`` runs a short form of the same.
"""

from __future__ import annotations

import argparse
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from catalogue_case import ROBOT, SECOND, World

from edge_monitor.journal import Digests, Entry, Journal, Severity
from edge_monitor.journal.merkle import leaf_hash
from edge_monitor.journal.records import WallStatus, decode_record

HERE = Path(__file__).parent
CERTIFICATE = HERE / "vectors" / "siem_receiver.pem"
SCHEMES = {"syslog": "syslog", "tls": "syslog+tls", "otlp": "otlp"}
SURE = ("tls", "otlp")  #: transports that promise that nothing is missed (docs/siem.md)
ROUNDS_OF = (20, 60, 600)  #: records that come in before a kill; a batch has 500
LINE = 112  #: bytes that the receiver writes down of a record, about
STUCK_S = 120.0  #: without a further record, nothing more comes
START = 1_790_000_000 * SECOND


class Receiver:
    """A receiver in a process of its own, at one port, with a file of what it took."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self.file = folder / f"{kind}.taken"
        self.file.touch()
        with socket.create_server(("127.0.0.1", 0)) as one:
            self.port = one.getsockname()[1]
        self.process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def address(self) -> str:
        """As ``--to`` has it."""
        host = "localhost" if self.kind == "tls" else "127.0.0.1"
        return f"{SCHEMES[self.kind]}://{host}:{self.port}"

    def start(self) -> None:
        """Begin to listen."""
        words = [sys.executable, "-S", "-E", str(HERE / "siem_receiver.py"), self.kind, str(self.port), str(self.file)]
        words += [str(CERTIFICATE)] if self.kind == "tls" else []
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """As a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def taken(self) -> list[tuple[str, str]]:
        """(id, hash) of each record, in the order in which they came; half a line at a kill is none."""
        lines = self.file.read_text("ascii").splitlines(keepends=True)
        words = [line.split(" ") for line in lines if line.endswith("\n")]
        return [(line[0], line[1]) for line in words]


class Sending:
    """``edge-registry siem send`` in a process of its own."""

    def __init__(self, world: World, receiver: Receiver) -> None:
        program = [sys.executable, "-c", "from edge_registry.cli import main; main()"]
        self._words = [*program, "siem", "send", "--to", receiver.address, "--every", "0.05"]
        self._words += ["--dir", str(world.house.folder), "--database", world.database]
        self._words += ["--ca", str(CERTIFICATE)] if receiver.kind == "tls" else []
        self.start()

    def start(self) -> None:
        """Begin, or go on where the database says."""
        self.process = subprocess.Popen(self._words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self, how: signal.Signals) -> bool:
        """End it; answers whether it still ran."""
        ran = self.process.poll() is None
        self.process.send_signal(how)
        self.process.wait()
        return ran


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the records of a transport. ``amid``: kills while records were under way."""

    transport: str
    records: int
    sender: int
    receiver: int
    amid: int
    missed: int
    again: int
    renamed: int

    @property
    def good(self) -> bool:
        """Nothing missed, and every copy is the same record under the same name."""
        return not self.missed and not self.renamed


class Feed:
    """A robot's journal that grows, and what the registry should send of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.path = world.folder / "robot-7.db"
        clock = iter(range(START, 2 * START, SECOND // 10))
        self.journal = Journal.create_or_open(
            self.path, ROBOT, digests=Digests(b"\xee" * 32, b"", b"1"), boot_id=bytes(range(16)),
            wall=lambda: (next(clock), WallStatus.SYNCHRONISED, 1000),
        )  # fmt: skip
        self.count = 0

    def more(self, count: int) -> None:
        """Records, committed and receipted."""
        for place in range(self.count, self.count + count):
            last = place == self.count + count - 1
            self.journal.append(Entry("check.fail", Severity.CRITICAL, place, place, {"value": place / 7}, now=last))
        self.count += count
        self.world.sync(self.path)

    def expected(self) -> dict[str, str]:
        """Hashes by id of all that the registry holds."""
        with self.world.store.read() as tx:
            rows = tx.connection.exec_driver_sql("select seq, record from events order by seq").all()
        return {f"robot-7/{decode_record(row[1]).boot_id.hex()}/{row[0]}": leaf_hash(row[1]).hex() for row in rows}


def restarts(folder: Path, kind: str, each: int, seed: int) -> Outcome:
    """Send over a transport while either side is killed ``each`` times, at moments that ``seed`` chooses."""
    rng = random.Random(f"{seed} {kind}")
    world = World(folder, f"sqlite:///{folder}/registry.db")
    feed, receiver = Feed(world), Receiver(folder, kind)
    sending = Sending(world, receiver)
    sides = ["sender", "receiver"] * each
    rng.shuffle(sides)
    killed: Counter[str] = Counter()
    amid = 0
    try:
        for side in sides:
            count = rng.choice(ROUNDS_OF)
            feed.more(count)
            _until(receiver, rng.randint(0, count))
            if side == "sender":
                killed[side] += sending.end(signal.SIGKILL)
                amid += len(set(receiver.taken())) < feed.count
                sending.start()
            else:
                receiver.kill()
                killed[side] += 1
                amid += len(set(receiver.taken())) < feed.count
                time.sleep(rng.choice((0.0, 0.0, 0.2)))  # now and then the sender finds nobody
                receiver.start()
        expected = feed.expected()
        _until_whole(receiver, expected)
    finally:
        sending.end(signal.SIGTERM)
        receiver.kill()
        feed.journal.close()
        world.close()
    taken = receiver.taken()
    names: dict[str, set[str]] = {}
    for name, digest in taken:
        names.setdefault(digest, set()).add(name)
    renamed = sum(len(found) - 1 for found in names.values()) + len(set(taken) - set(expected.items()))
    return Outcome(
        kind, len(expected), killed["sender"], killed["receiver"], amid, len(set(expected.items()) - set(taken)),
        len(taken) - len(set(taken)), renamed,
    )  # fmt: skip


def _until(receiver: Receiver, more: int) -> None:
    """Until the receiver took so many records more, or one second is over: who waits before the next try takes nothing."""
    wanted, end = receiver.file.stat().st_size + more * LINE, time.monotonic() + 1.0
    while receiver.file.stat().st_size < wanted and time.monotonic() < end:
        time.sleep(0.0002)


def _until_whole(receiver: Receiver, expected: dict[str, str]) -> None:
    """Until the receiver has all of them, or nothing more comes."""
    size, end = -1, time.monotonic() + STUCK_S
    while time.monotonic() < end:
        now = receiver.file.stat().st_size
        if now != size:
            size, end = now, time.monotonic() + STUCK_S
            if expected.keys() <= dict(receiver.taken()).keys():
                return
        time.sleep(0.05)


def main() -> int:
    """The full form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restarts", type=int, default=100, help="of each side, over each transport")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="printed; the same gives the same choices")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    columns = (
        "transport",
        "records",
        "sender killed",
        "receiver killed",
        "under way",
        "missed",
        "came again",
        "renamed",
    )
    print("  ".join(columns), flush=True)
    good = True
    for kind in SURE:
        with tempfile.TemporaryDirectory() as folder:
            one = restarts(Path(folder), kind, given.restarts, given.seed)
        row = (SCHEMES[kind], one.records, one.sender, one.receiver, one.amid, one.missed, one.again, one.renamed)
        print("  ".join(f"{value:>{len(name)}}" for name, value in zip(columns, row, strict=True)), flush=True)
        good = good and one.good and min(one.sender, one.receiver) >= given.restarts
    print(
        "nothing missed, nothing under two names" if good else "FAILED: a record is missed or renamed, or a kill failed"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
