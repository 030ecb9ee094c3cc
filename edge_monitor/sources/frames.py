"""The wire format of the ZeroMQ input (docs/wire.md): frames ``topic, meta, payload`` and, at will, ``mark``.

``meta`` is the same from message to message and is parsed once; what varies (sequence number, stamp) is in ``mark``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated

import msgspec

from edge_monitor.core.messages import Channel
from edge_monitor.core.samples import Cause

from .topics import Limits, Topic

MARK = struct.Struct("<Qq")  #: sequence number; stamp in ns, 0: none
LONGEST_GAP = 1 << 20  #: sequence numbers farther apart than this are a new count
STAMPED = 8  #: bytes of the stamp that stands before a raw array's numbers


class Meta(msgspec.Struct, frozen=True):
    """The second frame, a MessagePack map. Keys that later versions may add are not read."""

    e: Annotated[str, msgspec.Meta(max_length=16)]  #: encoding
    t: Annotated[str, msgspec.Meta(max_length=256)] = ""  #: type
    d: str = ""  #: definition
    f: Annotated[str, msgspec.Meta(max_length=16)] = "ros2msg"  #: format of a CDR definition
    p: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: who publishes, where several do on one topic


_decode_meta = msgspec.msgpack.Decoder(Meta).decode
#: Encodings on the wire, and what a channel calls encoding and schema (CDR: what ``f`` says).
ENCODINGS = {"msgpack": ("msgpack", "none"), "cdr": ("cdr", ""), "f64": ("f64le", "stamp"), "f32": ("f32le", "stamp")}
FORMATS = ("ros2msg", "ros2idl")


class FrameError(Exception):
    """A message that is not in the wire format, or that cannot be read yet: why, and the cause for its signals."""

    def __init__(self, message: str, cause: Cause = Cause.INVALID) -> None:
        super().__init__(message)
        self.cause = cause


def stamp_of(mark: bytes) -> bytes:
    """The stamp of a mark as it stands before a raw array; none is 0."""
    return mark[STAMPED:] or bytes(STAMPED)


@dataclass(slots=True)
class Stream:
    """Messages with one topic and one meta. ``channel``: -1 while a definition is missing."""

    topic: Topic
    meta: Meta
    channel: int = -1
    stamped: bool = False  #: a raw array: its numbers stand behind the stamp
    sequence: int = -1  #: the last number

    def count(self, mark: bytes) -> int:
        """Take a message's sequence number; answers how many were lost before it. Raises :class:`FrameError`."""
        if len(mark) != MARK.size:
            raise FrameError(f"its mark has {len(mark)} bytes, not {MARK.size}")
        number, _ = MARK.unpack(mark)
        lost = number - self.sequence - 1 if 0 <= self.sequence < number else 0
        self.sequence = number
        return lost if lost < LONGEST_GAP else 0


class Streams:
    """All streams of the topics that are read, by the very bytes of topic and meta; bounded by ``limits.metas`` a topic."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[tuple[bytes, bytes], Stream] = {}
        self._channels: dict[tuple[str, str, str, str], Channel] = {}  # by topic, encoding, type, definition
        self._metas: dict[str, int] = {}
        self._new: list[Channel] = []

    def find(self, topic: bytes, meta: bytes) -> Stream | None:
        """The stream of a message that looks like an earlier one."""
        return self._known.get((topic, meta))

    def open(self, topic: Topic, raw_topic: bytes, raw_meta: bytes) -> Stream:
        """The stream of a message with a new meta. Raises :class:`FrameError`."""
        if len(raw_meta) > self._limits.meta_bytes:
            raise FrameError(f"its meta has {len(raw_meta)} bytes, more than {self._limits.meta_bytes}", Cause.OVERFLOW)
        try:
            meta = _decode_meta(raw_meta)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(f"its meta is none: {str(error)[:100]}") from None
        if meta.e not in ENCODINGS:
            raise FrameError(f"its encoding is {meta.e!r}: use one of {' '.join(ENCODINGS)}")
        if meta.e == "cdr" and meta.f not in FORMATS:
            raise FrameError(f"its definition is in {meta.f!r}: use one of {' '.join(FORMATS)}")
        if self._metas.get(topic.name, 0) >= self._limits.metas:
            raise FrameError(f"has more than {self._limits.metas} different metas", Cause.OVERFLOW)
        self._metas[topic.name] = self._metas.get(topic.name, 0) + 1
        stream = Stream(topic, meta)
        self._known[raw_topic, raw_meta] = stream
        self._bind(stream)
        return stream

    def take_new(self) -> list[Channel]:
        """Channels that have appeared since the last call."""
        found, self._new = self._new, []
        return found

    def _bind(self, stream: Stream) -> None:
        """Give a stream its channel; a definition that came is that of all streams which wait for it."""
        meta = stream.meta
        waiting = [stream]
        definition = meta.d
        if meta.e == "cdr":
            same = [
                other for other in self._known.values()
                if other.topic is stream.topic and (other.meta.e, other.meta.t, other.meta.f) == (meta.e, meta.t, meta.f)
            ]  # fmt: skip
            definition = meta.d or next((other.meta.d for other in same if other.meta.d), "")
            if not definition:
                return
            waiting = [other for other in same if other.channel < 0]
        encoding, schema = ENCODINGS[meta.e]
        key = (stream.topic.name, meta.e, meta.t, definition)
        if key not in self._channels:
            number = len(self._channels)
            channel = Channel(number, stream.topic.name, meta.t, encoding, schema or meta.f, definition)
            self._channels[key] = channel
            self._new.append(channel)
        for other in waiting:
            other.channel = self._channels[key].id
            other.stamped = schema == "stamp"
