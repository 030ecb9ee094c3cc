"""What a source yields: channels as they appear, batches of serialized messages, and damage where there is some.

A source (live or recorded) is an iterator of ``Channel | Batch | Damage``. Live and replay differ only in the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .samples import Cause

_INSTANCE = re.compile(r"(.*)\[(\d{1,9})\]")


@dataclass(frozen=True, slots=True)
class Channel:
    """A stream of messages of one type on one topic. It is yielded before the first batch that refers to it.

    ``id`` is the index that ``MESSAGE.channel`` carries: dense, from 0, in order of appearance in the source.
    ``encoding`` says how the bytes are laid out: ``cdr`` (with its four-byte header), ``ros1``, ``packed`` (ULog:
    little endian without padding, no header), ``msgpack``, or ``f64le``/``f32le`` (nothing but numbers). ``definition``
    is the schema text that goes with it, in the format that ``schema`` names: ``ros2msg`` (a .msg with its dependencies,
    separated by ``===`` lines), ``ros2idl``, ``ros1msg``, ``ulog`` (``name:type name;…`` lines, one format a line, the
    channel's own first), ``stamp`` (of raw numbers: an int64 in ns stands before them), or ``none`` (MessagePack and raw
    numbers need none, and MessagePack's definition only says which bins are numbers; all else is counted, never decoded).
    ``instance`` is ULog's multi id.
    """

    id: int
    topic: str
    type: str
    encoding: str
    schema: str
    definition: str
    instance: int = 0
    receive_time: bool = True  #: False where ``t`` is a source stamp (ULog): latency is then unknown
    cause: Cause = Cause.NONE  #: set where all its samples are unusable (``CLOCK``: stamps far outside the file's)
    stamp_offset: int = 0  #: ns to be added to ``t`` to have it on the clock of the messages' own time stamps (CDR)


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages in stream order that share one buffer; readers make one a chunk or page.

    ``data``: (n,) uint8. ``messages``: (m,) :data:`~edge_monitor.core.samples.MESSAGE`; every byte range lies in
    ``data``. Both may be reused by the source after the next item is asked for: copy what you keep.
    """

    data: npt.NDArray[np.uint8]
    messages: np.ndarray


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of an input that could not be read: where, what, and what is known to be lost."""

    where: str  #: file name, and byte range or page where known
    what: str  #: what was found and what was done about it
    t: int | None = None  #: receive time of the last message before it, ns
    lost_messages: int | None = None  #: None where not known
    lost_bytes: int | None = None
    topics: tuple[str, ...] = field(default=())


class Source(Protocol):
    """Anything that yields the stream; recordings and live inputs alike."""

    def __iter__(self) -> Iterator[Channel | Batch | Damage]: ...


def topic_key(name: str, instance: int) -> tuple[str, int]:
    """A topic without its leading slash, and its ULog instance (``battery_status[1]``)."""
    match = _INSTANCE.fullmatch(name)
    if match:
        name, instance = match[1], int(match[2])
    return name.removeprefix("/"), instance
