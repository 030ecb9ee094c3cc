"""Reading a tape: the blocks that are whole, newest chain first to last, each checked against its digest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .format import (
    BLOCK,
    CRC,
    FIXED,
    HEAD_SIZE,
    INCIDENT,
    LINEAR,
    MAGIC,
    MAX_RAW,
    MOVING,
    MOVING_AT,
    VERSION,
    Block,
    BlockHead,
    TapeError,
    aligned,
    block_entries,
    block_head,
    entry_seed,
    whole_entries,
)
from .note import Note, read_note

LARGEST = 1 << 36  #: bytes of a tape that is read at all


@dataclass(frozen=True, slots=True)
class Tape:
    """What a tape holds. ``blocks`` follow one another without a gap; ``damages``: what had to be left out, in words;
    ``note``: why an incident was kept, None for the tape of a whole run."""

    path: Path
    boot: bytes
    envelope: bytes
    plan: bytes
    blocks: tuple[Block, ...]
    damages: tuple[str, ...] = field(default=())
    note: Note | None = None


def read(path: Path | str) -> Tape:
    """Read a tape, also one that is being written or was cut off. Raises ``TapeError`` where nothing can be read."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise TapeError(f"{path}: larger than {LARGEST >> 30} GiB; not a tape of edge-monitor")
        with path.open("rb") as file:
            return _Reader(path, memoryview(file.read())).tape()
    except OSError as error:
        raise TapeError(f"{path}: {error.strerror}; name a .tape file") from None


class _Reader:
    def __init__(self, path: Path, data: memoryview) -> None:
        self.path = path
        self.data = data
        if len(data) < HEAD_SIZE or bytes(data[:8]) != MAGIC:
            raise TapeError(f"{path}: is not a tape of edge-monitor")
        _, version, flags, self.boot, self.envelope, self.plan, self.start, self.size, self.open = FIXED.unpack_from(
            data
        )
        if version != VERSION:
            raise TapeError(f"{path}: tape version {version}; this reader knows {VERSION}")
        if self.start + self.size > len(data) or self.open > MAX_RAW or self.start < HEAD_SIZE + 2 * self.open:
            raise TapeError(f"{path}: its head names sizes that can't be; it is damaged")
        self.linear = bool(flags & LINEAR)
        self.damages: list[str] = []
        self.note: Note | None = None
        if flags & INCIDENT:
            self.note = read_note(bytes(data[:HEAD_SIZE])) or Note()
            if not self.size:
                self.size = len(data) - self.start
                self.damages.append(
                    "was not finished when the process ended; the next start of the monitor completes it"
                )

    def tape(self) -> Tape:
        blocks = self._linear() if self.linear else self._ring()
        kept: list[Block] = []
        for block in sorted(blocks.values(), key=lambda block: block.sequence):
            if kept and (block.sequence != kept[-1].sequence + 1 or block.before != kept[-1].digest()):
                if not block.closed:
                    # The end of the block before never reached the disk: nothing of this one was ever waited for.
                    self.damages.append(
                        f"block {block.sequence} does not follow what is left of block {kept[-1].sequence}: left out"
                    )
                    break
                self.damages.append(
                    f"block {block.sequence} does not follow block {kept[-1].sequence}: older ones are left out"
                )
                kept.clear()
            kept.append(block)
        if not kept:
            raise TapeError(f"{self.path}: holds no whole block{'; ' + self.damages[0] if self.damages else ''}")
        return Tape(self.path, self.boot, self.envelope, self.plan, tuple(kept), tuple(self.damages), self.note)

    def _ring(self) -> dict[int, Block]:
        newest, _, *areas = MOVING.unpack_from(self.data, MOVING_AT)
        blocks: dict[int, Block] = {}
        place, wanted = newest, None
        while place:
            found = self._block(place)
            if found is None or (wanted is not None and found[0].sequence != wanted):
                if wanted is None:
                    self.damages.append("the newest closed block is damaged")
                break  # the place of an older block, written over since
            block, head = found
            blocks[block.sequence] = block
            place, wanted = head.previous, block.sequence - 1
        for number in (0, 1):
            filled, sequence, before_digest = areas[3 * number : 3 * number + 3]
            if sequence and sequence not in blocks and filled <= self.open:
                at = HEAD_SIZE + number * self.open
                raw = bytes(self.data[at : at + filled])
                whole = whole_entries(raw, entry_seed(before_digest))
                if len(whole) < len(raw):
                    self.damages.append(
                        f"block {sequence}: its last {len(raw) - len(whole)} bytes are damaged, and left out"
                    )
                if whole:
                    blocks[sequence] = Block(sequence, whole, before_digest, False)
        return blocks

    def _linear(self) -> dict[int, Block]:
        blocks: dict[int, Block] = {}
        place = self.start
        while place < self.start + self.size:
            found = self._block(place)
            if found is None:
                self.damages.append(f"the block at byte {place} is damaged; what follows is left out")
                break
            block, head = found
            blocks[block.sequence] = block
            place += aligned(head.size)
        return blocks

    def _block(self, place: int) -> tuple[Block, BlockHead] | None:
        """The block at ``place``, and its head; None where it is not whole."""
        end = self.start + self.size
        if place < self.start or place + BLOCK.size + CRC.size > end:
            return None
        at = place + BLOCK.size + CRC.size
        head = block_head(bytes(self.data[place:at]))
        if head is None or place + head.size > end:
            return None
        raw = block_entries(head, self.data[at : at + head.stored])
        return None if raw is None else (Block(head.sequence, raw, head.before, True), head)
