"""``IncidentFile``: a window of a run as a tape of its own, while it is written.

Its head names a size only once the file is whole, so that whoever finds it knows: after any end it is either that, or to be
completed from the run's tape. The bytes of its blocks are those of the run's tape; the last one may be the first part of
a block.
"""

from __future__ import annotations

import os
from pathlib import Path

import zstandard
from msgspec.structs import replace

from ..journal.store import sync_folder
from .format import (
    BLOCK,
    CRC,
    FIXED,
    HEAD_SIZE,
    INCIDENT,
    LINEAR,
    MAGIC,
    NOTE_AT,
    VERSION,
    Block,
    TapeError,
    aligned,
    block_entries,
    block_head,
    pack_block,
)
from .note import Note, pack_note, read_note

LEVEL = 1  #: of Zstandard, for a block that is cut


class IncidentFile:
    """One file; its one writer. All methods raise ``OSError`` where the disk refuses."""

    def __init__(self, path: Path, note: Note, boot: bytes, envelope: bytes, plan: bytes) -> None:
        self.path = path
        self._identity = boot, envelope, plan
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._start()
        try:
            self._write(self._head(0).ljust(HEAD_SIZE, b"\0"), 0)
            self.say(note)
            sync_folder(path)
        except OSError:
            self.discard()
            raise

    @classmethod
    def reopen(cls, path: Path) -> IncidentFile:
        """Go on with what an earlier process began. Raises ``TapeError`` where nothing can be done with it."""
        made = cls.__new__(cls)
        made.path = path
        made._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        head = os.pread(made._file, HEAD_SIZE, 0)
        note = read_note(head) if len(head) == HEAD_SIZE else None
        if head[: len(MAGIC)] != MAGIC or note is None:
            made.close()
            raise TapeError(f"{path}: holds nothing that could be completed")
        made._identity = FIXED.unpack_from(head)[3:6]
        made._start()
        made.note = note
        if note.tail and not note.settled:
            made.uncut()
        else:
            made._scan()
        return made

    def _start(self) -> None:
        self.note = Note()
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._empty()

    def _empty(self) -> None:
        self.size = HEAD_SIZE  #: bytes so far
        self.first = self.last = 0  #: sequences of the first and the last block; 0: none
        self.bytes = 0  #: of the last block's entries
        self.digest = b""  #: of the last block, which covers all before it
        self.first_t = self.last_t = 0  #: time of the first block's beginning, and of the last entry

    def _scan(self) -> None:
        """Find the blocks that are there."""
        self._empty()
        while (found := self._block_at(self.size)) is not None:
            self._took(*found)

    @property
    def boot(self) -> bytes:
        """Of the run that it is a part of."""
        return self._identity[0]

    def say(self, note: Note) -> None:
        """Change the note."""
        self._write(pack_note(note), NOTE_AT)
        self.note = note

    def add(self, stored: bytes) -> None:
        """Add a whole block, as it is stored in the ring."""
        self._write(stored, self.size)
        head = block_head(stored)
        assert head is not None
        self._took(head.sequence, head.raw, head.digest, (head.first, head.last), len(stored))

    def cut(self, block: Block, times: tuple[int, int]) -> None:
        """End with the first part of a block; ``times``: of its first and last entry, ns."""
        if block.raw:
            stored = b"".join(pack_block(block.sequence, 0, times, block.before, block.raw, self._compressor))
            self.say(replace(self.note, tail=self.size))  # first: whoever finds the block must know that it is a part
            self._write(stored, self.size)
            self._took(block.sequence, len(block.raw), block.digest(), times, len(stored))
        self.finish()

    def uncut(self) -> None:
        """Take the part of a block away again: the whole of it follows."""
        self._write(self._head(0), 0)
        os.ftruncate(self._file, self.note.tail)
        self.say(replace(self.note, tail=0))
        self._scan()

    def finish(self) -> None:
        """The file is whole: put it on the disk, and say so in its head."""
        os.ftruncate(self._file, self.size)
        os.fdatasync(self._file)
        self._write(self._head(self.size - HEAD_SIZE), 0)
        os.fdatasync(self._file)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def discard(self) -> None:
        """Give the file back and remove it: there was no room for it."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _head(self, size: int) -> bytes:
        return FIXED.pack(MAGIC, VERSION, LINEAR | INCIDENT, *self._identity, HEAD_SIZE, size, 0)

    def _took(self, sequence: int, raw: int, digest: bytes, times: tuple[int, int], size: int) -> None:
        if not self.first:
            self.first, self.first_t = sequence, times[0]
        self.last, self.bytes, self.digest, self.last_t = sequence, raw, digest, times[1]
        self.size += aligned(size)

    def _block_at(self, at: int) -> tuple[int, int, bytes, tuple[int, int], int] | None:
        """What :meth:`_took` takes, of the block at ``at`` if it is whole and follows the last one."""
        head = block_head(os.pread(self._file, BLOCK.size + CRC.size, at))
        if head is None or (self.last and head.sequence != self.last + 1):
            return None
        data = os.pread(self._file, head.stored, at + BLOCK.size + CRC.size)
        if len(data) < head.stored or block_entries(head, data) is None:
            return None
        return head.sequence, head.raw, head.digest, (head.first, head.last), head.size

    def _write(self, data: bytes, at: int) -> None:
        while data:
            done = os.pwrite(self._file, data, at)
            data, at = data[done:], at + done
