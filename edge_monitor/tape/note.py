"""The note in an incident's head: which window of a run was kept, and why."""

from __future__ import annotations

import zlib

import msgspec

from .format import HEAD_SIZE, NOTE, NOTE_AT

MOST_CAUSES = 16  #: that are named; the others are counted
LONGEST = 80  #: characters of a cause's subject
_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Note]


class Cause(msgspec.Struct, frozen=True, array_like=True):
    """What a window was kept for: an event, by its type and subject, and when it took effect (ns)."""

    t: int
    type: str
    subject: str = ""

    def __str__(self) -> str:
        return f"{self.type} {self.subject}".rstrip()


class Note(msgspec.Struct, frozen=True):
    """From ``begin`` to ``end`` (ns), for ``causes`` and, in all, ``count`` of them.

    ``tail``: where in the file the last block begins if it is the first part of one, 0 where it is none. ``ended``: the
    run was over before the window was. ``settled``: nothing will be added; what is left is to tell the journal.
    ``part``: 1 and more, of a window that takes several files.
    """

    begin: int = 0
    end: int = 0
    causes: tuple[Cause, ...] = ()
    count: int = 0
    tail: int = 0
    ended: bool = False
    settled: bool = False
    part: int = 0


_decoder = msgspec.msgpack.Decoder(Note)


def pack_note(note: Note) -> bytes:
    """The bytes that stand at ``NOTE_AT`` in the head."""
    body = _encode(note)
    assert NOTE_AT + NOTE.size + len(body) <= HEAD_SIZE
    return NOTE.pack(len(body), zlib.crc32(body)) + body


def read_note(head: bytes) -> Note | None:
    """The note in a head; None where there is none that is whole."""
    size, crc = NOTE.unpack_from(head, NOTE_AT)
    body = head[NOTE_AT + NOTE.size : NOTE_AT + NOTE.size + size]
    if len(body) != size or zlib.crc32(body) != crc:
        return None
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError:
        return None
