"""Records on the wire: by columns, times as differences, commitments left out where salt and payload give them; then zstd.

A record's 32 bytes of salt can't be compressed; nearly all else of a run repeats, and repeats best column by column. What comes
out is put together again to the exact bytes, or it would not lead to the root that the device signed: so nothing here is
believed, and nothing here can forge. Records of another format version travel as they are (``raw``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import zstandard
from msgspec import Meta

from ..errors import VerificationError
from ..journal.records import (
    MAX_PAYLOAD,
    MAX_RECORD,
    SALT_BYTES,
    VERSION,
    Digests,
    Record,
    commitment,
    decode_record,
)
from .wire import MAX_RECORDS

LEVEL = 3  #: of zstd: more saves a tenth and costs a hundredfold
MAX_UNPACKED = 8 << 20  #: bytes: what a frame may grow to
_KNOWN = b""  #: a commitment that follows from salt and payload

Integers = list[int]
Byte = Annotated[bytes, Meta(max_length=MAX_RECORD)]


class Stored(NamedTuple):
    """A record as both ends store it, exact bytes. Salt and payload are None once erased."""

    record: bytes
    salt: bytes | None
    payload: bytes | None


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


def unpack(data: bytes, count: int) -> list[Stored]:
    """The ``count`` rows of packed ``data``, not verified in any way.

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


def _rows(packed: _Packed, count: int) -> list[Stored]:
    erased = set(packed.erased)
    whole = count - len(erased)
    if len(packed.payloads) != whole or len(packed.salts) != whole * SALT_BYTES or not erased <= set(range(count)):
        raise ValueError("salts and payloads")
    payloads = iter(packed.payloads)
    offsets = iter(range(0, len(packed.salts), SALT_BYTES))
    secrets: list[tuple[bytes | None, bytes | None]] = []
    for index in range(count):
        if index in erased:
            secrets.append((None, None))
        else:
            start = next(offsets)
            secrets.append((packed.salts[start : start + SALT_BYTES], next(payloads)))
    if packed.columns is None:
        if len(packed.raw) != count:
            raise ValueError("records")
        return [Stored(record, *secret) for record, secret in zip(packed.raw, secrets, strict=True)]
    return [Stored(_encoder.encode(record), *secret) for record, secret in _records(packed.columns, secrets)]


def _records(c: _Columns, secrets: Sequence[tuple[bytes | None, bytes | None]]) -> list[tuple[Record, Any]]:
    """The records of the columns; fields out of range make bytes that no verifier takes."""
    found: list[tuple[Record, Any]] = []
    t = wall = 0
    columns = zip(
        c.types, c.severities, c.boots, c.steps, c.delays, c.wall_steps, c.wall_statuses, c.wall_errors, c.actors,
        c.digests, c.causes, c.rules, c.hazards, c.claims, c.commitments, c.epochs, secrets,
        strict=True,
    )  # fmt: skip
    for index, row in enumerate(columns):
        (kind, severity, boot, step, delay, wall_step, status, error, actor,
         digests, causes, rules, hazard, claim, digest, epoch, secret) = row  # fmt: skip
        t, wall = _wrapped(t + step), _wrapped(wall + wall_step)
        sequence = c.first + index
        if digest == _KNOWN:
            if secret[0] is None or secret[1] is None:
                raise ValueError("a commitment without salt and payload")
            digest = commitment(secret[0], secret[1])
        record = Record(
            VERSION, c.log_id, sequence, kind, severity, boot, t, _wrapped(t + delay), wall, status, error, actor,
            Digests(*digests), tuple(sequence - back for back in causes), tuple(rules), hazard, claim, digest, epoch,
        )  # fmt: skip
        found.append((record, secret))
    return found


def _steps(values: Sequence[int]) -> Integers:
    return [_wrapped(value - before) for value, before in zip(values, (0, *values[:-1]), strict=True)]


def _wrapped(value: int) -> int:
    """The value as 64 signed bits hold it: the difference of two times may need 65."""
    return (value + 2**63) % 2**64 - 2**63
