"""The same store code on apsw's SQLite, through a VFS that records: needs no right to trace processes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import apsw

from edge_monitor.journal import Journal, reader, store

from .strace import Call
from .writer import KEY, numbered

_NAMED = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL


class _File(apsw.VFSFile):
    """Writes through, and says so."""

    def __init__(self, calls: list[Call], name: Any, flags: list[int]) -> None:
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self.calls = calls
        if flags[0] & apsw.SQLITE_OPEN_CREATE:
            calls.append(Call("open", self.path))
        # As SQLite's own VFS does: the folder is synced with the first sync of a WAL or rollback journal.
        self.named = not flags[0] & _NAMED
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  (SQLite's name)
        super().xWrite(data, offset)
        self.calls.append(Call("pwrite64", self.path, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        super().xTruncate(size)
        self.calls.append(Call("ftruncate", self.path, size))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self.calls.append(Call("sync", self.path))
        if not self.named:
            self.calls.append(Call("sync", str(Path(self.path).parent)))
            self.named = True


class _Recorder(apsw.VFS):
    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        super().__init__("recorder", "")

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802
        return _File(self.calls, name, flags)

    def xDelete(self, name: str, folder_too: bool) -> None:  # noqa: N802
        super().xDelete(name, folder_too)
        self.calls.append(Call("unlink", name))
        if folder_too:
            self.calls.append(Call("sync", str(Path(name).parent)))


def record(journal: Path, runs: list[tuple[int, int]]) -> list[Call]:
    """What is done to the files of ``journal`` by runs of (entries, bytes of large payloads), and what is acknowledged."""
    calls: list[Call] = []
    vfs = _Recorder(calls)

    def connect(name: Any, *, uri: bool = False, timeout: float = 5.0, isolation_level: None) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READONLY if uri else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        connection = apsw.Connection(str(name), flags | apsw.SQLITE_OPEN_URI, vfs="recorder")
        connection.set_busy_timeout(round(timeout * 1000))
        return connection

    def sync_folder(path: Path) -> None:
        real(path)
        calls.append(Call("sync", str(path.parent)))

    real = store.sync_folder
    sqlite = SimpleNamespace(connect=connect, Error=apsw.Error, OperationalError=apsw.CantOpenError)
    with (
        mock.patch.object(store, "sqlite3", sqlite),
        mock.patch.object(reader, "sqlite3", sqlite),
        mock.patch.object(store, "sync_folder", sync_folder),
    ):
        for entries, pad in runs:
            with Journal.create_or_open(journal, KEY) as opened:
                first = opened.size
                for n in range(first, first + entries):
                    opened.append(numbered(n, None, pad))
                    if not opened.pending:
                        calls.append(Call("ack", "", n))
    assert vfs.calls is calls  # SQLite knows it by its name only: it has to live until here
    return calls
