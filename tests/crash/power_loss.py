"""Power lost at any moment of a recorded run: the states that the disk may be in, and whether the journal survives them.

What was synced is there. Of what was written since, any part may be: all, none, a prefix, or any subset, and of each
write any of its 512-byte sectors; a truncation, a new name and an unlinked one may be there or not until their own sync.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.verify import verify

from .checks import payloads
from .strace import Call
from .writer import KEY

SECTOR = 512


@dataclass
class _File:
    """An inode: what is on the disk, and the calls since its last sync."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Call] = field(default_factory=list)

    def sync(self) -> None:
        for call in self.pending:
            _apply(self.synced, call)
        self.pending.clear()


class Disk:
    """A folder's files as calls come in; ``states`` answers what power loss now would leave."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.open: dict[str, _File] = {}  # as the running process sees it
        self.names: dict[str, _File] = {}  # as the disk has them
        self.pending: list[tuple[str, _File | None]] = []  # changes of names since the folder's last sync

    def take(self, call: Call) -> None:
        """The next call."""
        if call.path.endswith(("-shm", ".lock")):
            return  # gone after a power cut, or without content
        match call.name:
            case "open":
                if call.path not in self.open:
                    self.open[call.path] = _File()
                    self.pending.append((call.path, self.open[call.path]))
            case "unlink":
                del self.open[call.path]
                self.pending.append((call.path, None))
            case "sync" if call.path == self.folder:
                for name, file in self.pending:
                    self._rename(self.names, name, file)
                self.pending.clear()
            case "sync":
                self.open[call.path].sync()
            case "pwrite64" | "ftruncate":
                self.open[call.path].pending.append(call)

    def state(self, chance: random.Random) -> dict[str, bytes]:
        """Files, by name, as they may be after power loss now."""
        names = dict(self.names)
        # A journaling file system keeps the order of changes to a folder.
        for name, file in self.pending[: chance.randint(0, len(self.pending))]:
            self._rename(names, name, file)
        mode = chance.choice(["all", "none", "prefix", "subset", "subset", "one lost"])
        return {name: _survived(file, mode, chance) for name, file in names.items()}

    @staticmethod
    def _rename(names: dict[str, _File], name: str, file: _File | None) -> None:
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def _survived(file: _File, mode: str, chance: random.Random) -> bytes:
    data, pending = bytearray(file.synced), file.pending
    torn = -1
    match mode:
        case "all":
            kept = list(pending)
        case "none":
            kept = []
        case "prefix":
            kept = pending[: chance.randint(0, len(pending))]
            torn = len(kept) - 1
        case "one lost":
            lost = chance.randrange(len(pending)) if pending else -1
            kept = [call for n, call in enumerate(pending) if n != lost]
        case _:
            share = chance.random()
            kept = [call for call in pending if chance.random() < share]
            torn = -2
    for n, call in enumerate(kept):
        if call.name == "pwrite64" and (n == torn or (torn == -2 and chance.random() < 0.3)):
            _tear(data, call, chance)
        else:
            _apply(data, call)
    return bytes(data)


def _apply(data: bytearray, call: Call) -> None:
    if call.name == "ftruncate":
        del data[call.at :]
        data.extend(bytes(call.at - len(data)))
        return
    data.extend(bytes(max(0, call.at - len(data))))
    data[call.at : call.at + len(call.data)] = call.data


def _tear(data: bytearray, call: Call, chance: random.Random) -> None:
    """Some of the sectors that the write touches, in any combination."""
    end = call.at + len(call.data)
    for sector in range(call.at // SECTOR, -(-end // SECTOR)):
        if chance.random() < 0.5:
            a, b = max(call.at, sector * SECTOR), min(end, (sector + 1) * SECTOR)
            _apply(data, Call("pwrite64", call.path, a, call.data[a - call.at : b - call.at]))


def replay(calls: list[Call], folder: Path, states: int, seed: int) -> Iterator[tuple[dict[str, bytes], int]]:
    """``states`` states of the disk, and how many entries were acknowledged when power was lost."""
    chance = random.Random(seed)
    moments = sorted(chance.randint(0, len(calls)) for _ in range(states))
    disk, acknowledged, at = Disk(folder), 0, 0
    for moment in moments:
        for call in calls[at:moment]:
            if call.name == "ack":
                acknowledged = call.at + 1
            else:
                disk.take(call)
        at = moment
        yield disk.state(chance), acknowledged


def survives(state: dict[str, bytes], acknowledged: int, journal: Path) -> int:
    """Put the files of ``state`` where ``journal`` is, open it as always, and hold it against what was acknowledged.

    Answers how many records there are.
    """
    for left in journal.parent.iterdir():
        left.unlink()
    for name, data in state.items():
        (journal.parent / Path(name).name).write_bytes(data)
    with Journal.create_or_open(journal, KEY) as opened:
        size = opened.size
        assert size >= acknowledged, f"{acknowledged - size} acknowledged records are lost"
        opened.append(Entry("monitor.started", Severity.NEGLIGIBLE, 0, 0, {"n": size}))
    report = verify(journal, [KEY.verifier])
    assert report.ok, report.findings
    assert [payload["n"] for payload in payloads(journal)] == list(range(size + 1))
    return size
