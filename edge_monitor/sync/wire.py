"""The messages between a device and a registry: one MessagePack array a ZeroMQ frame (docs/sync.md has the tables).

Nothing in a message is trusted: sizes are bounded before anything is unpacked, and what a batch claims to hold is believed only
once it leads to a root that the device signed. Both sides import this module; it needs neither Numba nor NumPy.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from ..errors import VerificationError

PROTOCOL = 1
MAX_FRAME = 4 << 20  #: bytes of a message; both sides set it as the socket's limit
MAX_BATCH = 1 << 20  #: bytes of a batch's records and payloads, before they are packed; one larger commit travels alone
MAX_RECORDS = 4096  #: records of a batch
PART = 128 << 10  #: bytes of a part of a blob

Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Note = Annotated[str, Meta(max_length=8192)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Words = Annotated[str, Meta(max_length=512)]
Name = Annotated[str, Meta(max_length=128)]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag_field="do"):
    """A message is an array of its kind and its fields in order."""


class Hello(_Message, frozen=True, tag="hello"):
    """The device begins a session: which log, how much of it there is, under which signed head, and what is receipted.

    ``protocols``: least and most that it speaks. ``head``: its newest checkpoint, signed ("" before the first).
    ``receipt``: the newest one it holds ("").
    ``bundle``: version of the newest downlink bundle that it has verified, 0 for none.
    """

    protocols: tuple[Natural, Natural]
    origin: Annotated[str, Meta(min_length=1, max_length=200)]
    boot: Id
    head: Note
    receipt: Note
    bundle: Natural
    software: Name


class Welcome(_Message, frozen=True, tag="welcome"):
    """The registry takes part: it holds ``size`` records and goes on from there.

    ``session``: number of this session of the log; one with a lower number is told that it is superseded. ``credit``: bytes
    that may travel before a receipt. ``time``: the registry's, s since 1970. ``receipt``: its newest receipt for the log.
    """

    protocol: Natural
    session: Natural
    size: Natural
    root: Digest
    receipt: Note
    credit: Natural
    time: Natural
    registry: Name


class Batch(_Message, frozen=True, tag="batch"):
    """Records ``first`` to ``first + count - 1``, packed (:mod:`.packing`), and the checkpoint over the last."""

    session: Natural
    first: Natural
    count: Annotated[int, Meta(ge=1, le=MAX_RECORDS)]
    data: Annotated[bytes, Meta(max_length=MAX_FRAME)]
    checkpoint: Note


class Alert(_Message, frozen=True, tag="alert"):
    """One critical record ahead of its turn, proven under a checkpoint; the bulk brings it again, in order.

    ``data``: the record, packed as a batch of one. ``path``: its audit path (RFC 6962) under the checkpoint. ``certificate``: of
    the epoch key that signed it ("": the identity key did).
    """

    session: Natural
    sequence: Natural
    data: Annotated[bytes, Meta(max_length=MAX_FRAME)]
    path: Annotated[tuple[Digest, ...], Meta(max_length=64)]
    checkpoint: Note
    certificate: Note


class Receipt(_Message, frozen=True, tag="receipt"):
    """The registry holds what the cosigned checkpoint covers, durably. ``credit``: bytes that may travel from now on."""

    note: Note
    credit: Natural


class AlertKept(_Message, frozen=True, tag="alert_kept"):
    """The registry holds the alert, durably, as early evidence; no receipt of the log."""

    sequence: Natural


class Want(_Message, frozen=True, tag="want"):
    """The registry goes on from ``size``: a batch began elsewhere."""

    size: Natural


class Refused(_Message, frozen=True, tag="refused"):
    """The session is over. ``code`` is one of :data:`REFUSALS`; the words say what to do."""

    code: Name
    words: Words


class BlobOffer(_Message, frozen=True, tag="blob_offer"):
    """The device has a file by its SHA-256: ``kind`` ``tape``, ``incident``, ``raw``, ``envelope`` or
    ``approval``; ``size`` in bytes."""

    digest: Digest
    size: Natural
    kind: Name
    name: Name


class BlobWant(_Message, frozen=True, tag="blob_want"):
    """The registry has the first ``offset`` bytes of a file that it was offered; all of them where ``offset`` is its size."""

    digest: Digest
    offset: Natural


class BlobPart(_Message, frozen=True, tag="blob_part"):
    """Bytes of a file from ``offset`` on."""

    digest: Digest
    offset: Natural
    data: Annotated[bytes, Meta(max_length=PART)]


class Bundle(_Message, frozen=True, tag="bundle"):
    """What the fleet must know, signed by the registry: the bytes of a downlink bundle (docs/sync.md)."""

    version: Natural
    data: Annotated[bytes, Meta(max_length=MAX_FRAME)]


class Enrol(_Message, frozen=True, tag="enrol"):
    """A device asks to be known, on the socket for that.

    ``token``: the one-time secret; ``note``: its statement, signed by its identity key (:mod:`.enrolment`).
    """

    token: Annotated[bytes, Meta(max_length=64)]
    note: Note
    identity: Note


class Enrolled(_Message, frozen=True, tag="enrolled"):
    """The device is known from now on."""

    robot: Name


class Ping(_Message, frozen=True, tag="ping"):
    """The device is there."""

    session: Natural


class Pong(_Message, frozen=True, tag="pong"):
    """The registry is there. ``time``: s since 1970."""

    time: Natural


#: Why a session ends, and what the device makes of it: whether trying again by itself can help.
REFUSALS: dict[str, bool] = {
    "malformed": False,  # a message breaks the format, or its order
    "version": False,  # no protocol in common
    "unknown": True,  # the registry does not know this device (yet)
    "revoked": True,  # the device's key is revoked (until it is enrolled anew)
    "signature": False,  # a checkpoint is not signed by a key of the device's chain
    "root": False,  # records do not lead to the root that was signed
    "rollback": False,  # the device offers less than was receipted: an old disk, or a cut tail
    "fork": False,  # another history under the same log: a clone, or a restored disk
    "quarantined": True,  # a person must look first
    "superseded": True,  # a newer session of this log has begun
    "busy": True,  # more than the registry takes just now
}

Uplink = Hello | Batch | Alert | BlobOffer | BlobPart | Ping | Enrol
Downlink = Welcome | Receipt | AlertKept | Want | Refused | BlobWant | Bundle | Pong | Enrolled
_uplink: msgspec.msgpack.Decoder[Uplink] = msgspec.msgpack.Decoder(Uplink)
_downlink: msgspec.msgpack.Decoder[Downlink] = msgspec.msgpack.Decoder(Downlink)
_encoder = msgspec.msgpack.Encoder()
Kind = TypeVar("Kind", bound=_Message)


def encode(message: Uplink | Downlink) -> bytes:
    """A message's frame."""
    return _encoder.encode(message)


def decode_uplink(frame: bytes) -> Uplink:
    """What a device sent. Raises ``VerificationError`` for anything else than one of its messages."""
    return _decoded(frame, _uplink)


def decode_downlink(frame: bytes) -> Downlink:
    """What a registry sent. Raises ``VerificationError`` for anything else than one of its messages."""
    return _decoded(frame, _downlink)


def _decoded(frame: bytes, decoder: msgspec.msgpack.Decoder[Kind]) -> Kind:
    if len(frame) > MAX_FRAME:
        raise VerificationError(f"a message has {MAX_FRAME} bytes at most, this one {len(frame)}")
    try:
        message = decoder.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise VerificationError(f"not a message: {error}") from None
    texts = (value for name in message.__struct_fields__ if isinstance(value := getattr(message, name), str))
    if any("\0" in text for text in texts):
        raise VerificationError("a message has a NUL in a text, which not every database keeps")
    return message
