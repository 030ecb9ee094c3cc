"""Records on the wire: by columns, times as differences, commitments left out where salt and payload give them; then zstd.

A record's 32 bytes of salt can't be compressed; nearly all else of a run repeats, and repeats best column by column. What comes
out is put together again to the exact bytes, or it would not lead to the root that the device signed: so nothing here is
believed, and nothing here can forge. Records of another format version travel as they are (``raw``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
import zstandard
from msgspec import Meta

from ..errors import VerificationError
from ..journal.records import (
    MAX_PAYLOAD,
    MAX_RECORD,
    SALT_BYTES,
    VERSION,
    Record,
    commitment,
    decode_canonical,
    decode_record,
)
from .wire import MAX_RECORDS

LEVEL = 3  #: of zstd: more saves a tenth and costs a hundredfold
MAX_UNPACKED = 8 << 20  #: bytes: what a frame may grow to
_KNOWN = b""  #: a commitment that follows from salt and payload

Integers = list[int]
Secret = tuple[bytes | None, bytes | None]  #: salt and payload
Byte = Annotated[bytes, Meta(max_length=MAX_RECORD)]


class Stored(NamedTuple):
    """A record as both ends store it, exact bytes. Salt and payload are None once erased."""

    record: bytes
    salt: bytes | None
    payload: bytes | None


class Unpacked(NamedTuple):
    """A row that came in. ``known``: the record, where it is one of this version; payload and commitment belong together then."""

    row: Stored
    known: Record | None


class _Columns(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The fields of records of format v1, one list each; ``steps`` and the like hold differences to the row before."""

    log_id: bytes
    first: int
    types: list[str]
    severities: Integers
    boots: list[bytes]
    steps: Integers  #: t_effective to the one before
    delays: Integers  #: t_decided - t_effective
    wall_steps: Integers  #: wall_ns to the one before
    wall_statuses: Integers
    wall_errors: Integers
    actors: list[str]
    digests: list[tuple[bytes, bytes, bytes]]
    causes: list[Integers]  #: each as the distance back from the record
    rules: list[list[str]]
    hazards: list[str]
    claims: list[str]
    commitments: list[bytes]  #: empty: that of salt and payload
    epochs: Integers


class _Packed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    columns: _Columns | None
    raw: list[Byte]  #: instead of columns
    erased: Integers  #: rows without salt and payload
    payloads: list[Annotated[bytes, Meta(max_length=MAX_PAYLOAD)]]  #: of the others
    salts: Annotated[bytes, Meta(max_length=SALT_BYTES * MAX_RECORDS)]  #: one after the other


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(_Packed)


def pack(rows: Sequence[Stored]) -> bytes:
    """Rows that follow one another in a log, as bytes for :func:`unpack`."""
    known = [
        commitment(row.salt, row.payload) if row.salt is not None and row.payload is not None else None for row in rows
    ]
    columns = _columns(rows, known)
    packed = _Packed(
        columns,
        [] if columns is not None else [row.record for row in rows],
        [index for index, digest in enumerate(known) if digest is None],
        [row.payload or b"" for row, digest in zip(rows, known, strict=True) if digest is not None],
        b"".join(row.salt or b"" for row, digest in zip(rows, known, strict=True) if digest is not None),
    )
    return zstandard.ZstdCompressor(level=LEVEL).compress(_encoder.encode(packed))


def unpack(data: bytes, count: int) -> list[Unpacked]:
    """The ``count`` rows of packed ``data``, and nothing is known of whose they are.

    Raises ``VerificationError`` for what :func:`pack` would not have made, and for more than ``MAX_UNPACKED`` bytes.
    """
    try:
        # A frame that does not say its size is none of ours: nothing is unpacked to find out.
        if not 0 < zstandard.frame_content_size(data) <= MAX_UNPACKED:
            raise VerificationError(f"a batch has {MAX_UNPACKED} bytes at most, unpacked")
        packed = _decoder.decode(zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_UNPACKED))
        return _rows(packed, count)
    except (zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError) as error:
        raise VerificationError(f"not a packed batch: {error}") from None
    except (ValueError, OverflowError, TypeError, IndexError) as error:
        raise VerificationError(f"the columns of a batch don't fit one another: {error}") from None


def _columns(rows: Sequence[Stored], known: Sequence[bytes | None]) -> _Columns | None:
    """The rows by columns; None where one is no record of this version, or does not follow the one before."""
    try:
        records = [decode_record(row.record) for row in rows]
    except VerificationError:
        return None
    first = records[0]
    if any(r.log_id != first.log_id or r.sequence != first.sequence + i for i, r in enumerate(records)):
        return None
    return _Columns(
        first.log_id,
        first.sequence,
        [r.type for r in records],
        [int(r.severity) for r in records],
        [r.boot_id for r in records],
        _steps([r.t_effective for r in records]),
        [_wrapped(r.t_decided - r.t_effective) for r in records],
        _steps([r.wall_ns for r in records]),
        [int(r.wall_status) for r in records],
        [r.wall_error_ns for r in records],
        [r.actor for r in records],
        [(r.digests.envelope, r.digests.model, r.digests.monitor) for r in records],
        [[r.sequence - cause for cause in r.causes] for r in records],
        [list(r.rules) for r in records],
        [r.hazard for r in records],
        [r.claim for r in records],
        [_KNOWN if r.commitment == digest else r.commitment for r, digest in zip(records, known, strict=True)],
        [r.key_epoch for r in records],
    )


def _rows(packed: _Packed, count: int) -> list[Unpacked]:
    erased = set(packed.erased)
    whole = count - len(erased)
    if len(packed.payloads) != whole or len(packed.salts) != whole * SALT_BYTES or not erased <= set(range(count)):
        raise ValueError("salts and payloads")
    payloads = iter(packed.payloads)
    offsets = iter(range(0, len(packed.salts), SALT_BYTES))
    secrets: list[Secret] = []
    for index in range(count):
        if index in erased:
            secrets.append((None, None))
        else:
            start = next(offsets)
            secrets.append((packed.salts[start : start + SALT_BYTES], next(payloads)))
    if packed.columns is not None:
        return _of_columns(packed.columns, secrets)
    if len(packed.raw) != count:
        raise ValueError("records")
    return [_of_bytes(record, secret) for record, secret in zip(packed.raw, secrets, strict=True)]


def _of_bytes(data: bytes, secret: Secret) -> Unpacked:
    """A record that travelled as it is: one of a later version, or of this one among such."""
    try:
        record = decode_record(data)
    except VerificationError:
        return Unpacked(Stored(data, *secret), None)
    if None not in secret and commitment(*secret) != record.commitment:  # type: ignore[arg-type]
        raise VerificationError("a payload is not what its record commits to")
    return Unpacked(Stored(data, *secret), record)


def _of_columns(c: _Columns, secrets: Sequence[Secret]) -> list[Unpacked]:
    """The records of the columns. What our encoder writes is canonical, and is held against the rules of records here."""
    found: list[Unpacked] = []
    t = wall = 0
    encode, decode = _encoder.encode, decode_canonical
    columns = zip(
        c.types, c.severities, c.boots, c.steps, c.delays, c.wall_steps, c.wall_statuses, c.wall_errors, c.actors,
        c.digests, c.causes, c.rules, c.hazards, c.claims, c.commitments, c.epochs, secrets,
        strict=True,
    )  # fmt: skip
    sequence = c.first
    for (kind, severity, boot, step, delay, wall_step, status, error, actor,
         digests, causes, rules, hazard, claim, digest, epoch, secret) in columns:  # fmt: skip
        t, wall = _wrapped(t + step), _wrapped(wall + wall_step)
        if digest == _KNOWN:
            digest = _committed(secret)
        elif secret[0] is not None:
            raise VerificationError("a payload is not what its record commits to")
        back = [sequence - cause for cause in causes]
        fields = (
            VERSION, c.log_id, sequence, kind, severity, boot, t, _wrapped(t + delay), wall, status, error, actor, digests,
            back, rules, hazard, claim, digest, epoch,
        )  # fmt: skip
        data = encode(fields)
        found.append(Unpacked(Stored(data, *secret), decode(data)))
        sequence += 1
    return found


def _committed(secret: Secret) -> bytes:
    salt, payload = secret
    if salt is None or payload is None:
        raise ValueError("a commitment without salt and payload")
    return commitment(salt, payload)


def _steps(values: Sequence[int]) -> Integers:
    return [_wrapped(value - before) for value, before in zip(values, (0, *values[:-1]), strict=True)]


def _wrapped(value: int) -> int:
    """The value as 64 signed bits hold it: the difference of two times may need 65."""
    return (value + 2**63) % 2**64 - 2**63
