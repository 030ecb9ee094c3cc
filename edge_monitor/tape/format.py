"""The bytes of a tape, format v1 (docs/black_box.md): entries, blocks of them, and what a tape's head says.

A block is a run of entries and starts with a snapshot, so that re-execution can begin at any block. Blocks are chained:
``digest = SHA-256(domain ‖ digest of the block before ‖ entries)``, and the journal's anchors name digests of prefixes.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import zstandard

from ..errors import DamagedInputError

MAGIC = b"EMTAPE01"
VERSION = 1
LINEAR = 1  #: flag: blocks follow one another from the ring's start; nothing was written over
INCIDENT = 2  #: flag: a window of a run that was kept; what for, its note says
ENDED = 4  #: flag: the run came to its end
KEPT = 8  #: flag: the run was cut off, and its end is kept as an incident
FLAGS = struct.Struct("<I")
FLAGS_AT = 12
BLOCK_MAGIC = b"EMBLOCK1"
DOMAIN = b"edge-monitor tape v1\0"
NO_DIGEST = bytes(32)
HEAD_SIZE = 4096
#: Bytes of one block before compression, at most; and of one entry.
MAX_RAW = 1 << 26

#: magic, version, flags, boot, envelope digest, plan digest, ring start, ring size, open size
FIXED = struct.Struct("<8sII16s32s32sQQQ")
#: place and sequence of the newest block, and per open area: filled bytes, sequence, digest of the block before it
MOVING = struct.Struct("<QQ" + "QQ32s" * 2)
MOVING_AT = 512
#: magic, sequence, place of the block before, stored bytes, raw bytes, first and last time (ns), digest before, digest;
#: its CRC-32 follows, then the entries, compressed with Zstandard
BLOCK = struct.Struct("<8sQQIIqq32s32s")
BLOCK_ALIGN = 8
#: size and CRC-32 of an incident's note, a MessagePack map
NOTE = struct.Struct("<II")
NOTE_AT = 1024
ENTRY = struct.Struct("<IB3x")
CRC = struct.Struct("<I")


class TapeError(DamagedInputError):
    """A file is no tape, or is damaged."""


class Kind(IntEnum):
    """What an entry holds."""

    SNAPSHOT = 1  #: MessagePack: the decider's state, and all texts so far
    WORDS = 2  #: MessagePack: [number of the first, new texts, signals that are texts]
    START = 3  #: int64: the stream begins
    ITEMS = 4  #: SAMPLE rows, as they were taken
    UNTIL = 5  #: int64: nothing earlier will come
    DAMAGE = 6  #: MessagePack: a part of the input that could not be read
    COMMAND = 7  #: MessagePack: what a person or program asked for
    FINISH = 8  #: the stream ends
    HISTORY = 9  #: int64, int64, SAMPLE rows: what the next command puts in force is judged by


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; ``start``: where it begins in its block, ``end``: where it ends (an anchor names such an end)."""

    kind: Kind
    payload: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its entries as bytes, checked against its digest where it is closed."""

    sequence: int
    raw: bytes
    before: bytes  #: digest of the block before it
    closed: bool

    def digest(self, end: int | None = None) -> bytes:
        """Digest of the first ``end`` bytes of the entries; of all of them where none is given."""
        return hashlib.sha256(DOMAIN + self.before + self.raw[:end]).digest()

    def entries(self) -> Iterator[Entry]:
        """The entries in order. Raises ``TapeError`` at the first that is damaged."""
        at, seed = 0, entry_seed(self.before)
        while at < len(self.raw):
            found = entry_at(self.raw, at, seed)
            if found is None:
                raise TapeError(f"block {self.sequence}: the entry at byte {at} is damaged")
            yield found
            at = found.end


class BlockHead(NamedTuple):
    """What stands before a stored block."""

    magic: bytes
    sequence: int
    previous: int  #: place of the block before it in the ring
    stored: int
    raw: int
    first: int  #: times of its beginning and of its last entry, ns
    last: int
    before: bytes
    digest: bytes

    @property
    def size(self) -> int:
        """Bytes of the whole, head and checksum included."""
        return BLOCK.size + CRC.size + self.stored


def aligned(size: int) -> int:
    """Where a block may begin that follows ``size`` bytes."""
    return -(-size // BLOCK_ALIGN) * BLOCK_ALIGN


def pack_block(
    sequence: int,
    previous: int,
    times: tuple[int, int],
    before: bytes,
    raw: bytes | memoryview,
    compressor: zstandard.ZstdCompressor,
) -> tuple[bytes, bytes]:
    """A block as it is stored, its head and what follows; ``times``: of its beginning and its last entry, ns."""
    data = compressor.compress(raw)
    digest = hashlib.sha256(DOMAIN + before)
    digest.update(raw)
    head = BLOCK.pack(BLOCK_MAGIC, sequence, previous, len(data), len(raw), *times, before, digest.digest())
    return head + CRC.pack(zlib.crc32(head)), data


def block_head(data: bytes) -> BlockHead | None:
    """The head that ``data`` begins with; None where there is none that is whole and possible."""
    if len(data) < BLOCK.size + CRC.size:
        return None
    head = BlockHead(*BLOCK.unpack_from(data))
    if head.magic != BLOCK_MAGIC or CRC.unpack_from(data, BLOCK.size)[0] != zlib.crc32(data[: BLOCK.size]):
        return None
    return head if head.raw <= MAX_RAW else None


def block_entries(head: BlockHead, data: bytes | memoryview) -> bytes | None:
    """The entries of a block, of its stored bytes behind the head; None where they are not what the head says."""
    try:
        if zstandard.frame_content_size(data) != head.raw:  # it would be believed
            return None
        raw = zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError:
        return None
    digest = hashlib.sha256(DOMAIN + head.before + raw).digest()
    return raw if len(raw) == head.raw and digest == head.digest else None


def entry_seed(before: bytes) -> int:
    """Where the CRCs of a block's entries begin, from the digest of the block ``before``.

    After a power cut an open area may hold entries of the block that was there earlier: they don't pass for this one's.
    """
    return zlib.crc32(before)


def pack_entry(kind: Kind, payload: bytes, seed: int) -> bytes:
    """The bytes of an entry: size, kind, payload, CRC-32 of all before, begun with the block's ``seed``."""
    body = ENTRY.pack(len(payload), kind) + payload
    return body + CRC.pack(zlib.crc32(body, seed))


def entry_at(raw: bytes, at: int, seed: int) -> Entry | None:
    """The entry that begins at ``at`` in a block with this ``seed``; None where there is none that is whole."""
    if at + ENTRY.size + CRC.size > len(raw):
        return None
    size, kind = ENTRY.unpack_from(raw, at)
    end = at + ENTRY.size + size + CRC.size
    if end > len(raw) or kind not in Kind._value2member_map_:
        return None
    if CRC.unpack_from(raw, end - CRC.size)[0] != zlib.crc32(raw[at : end - CRC.size], seed):
        return None
    return Entry(Kind(kind), raw[at + ENTRY.size : end - CRC.size], at, end)


def whole_entries(raw: bytes, seed: int) -> bytes:
    """``raw`` up to the first entry that is not whole, as after a power cut."""
    at = 0
    while (found := entry_at(raw, at, seed)) is not None:
        at = found.end
    return raw[:at]
