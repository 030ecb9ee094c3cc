"""Records on the wire: by columns, times as differences, commitments left out where salt and payload give them; then zstd.

A record's 32 bytes of salt can't be compressed; nearly all else of a run repeats, and repeats best column by column. What comes
out is put together again to the exact bytes, or it would not lead to the root that the device signed: so nothing here is
believed, and nothing here can forge. Records of another format version travel as they are (``raw``).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, repeat
from operator import add, sub
from typing import Annotated, NamedTuple

import msgspec
import zstandard
from msgspec import Meta

from ..errors import VerificationError
from ..journal.records import (
    MAX_PAYLOAD,
    MAX_RECORD,
    PAYLOAD_DOMAIN,
    SALT_BYTES,
    VERSION,
    Digest,
    Id,
    Natural,
    Record,
    Severity,
    WallStatus,
    commitment,
    decode_record,
)
from .wire import MAX_RECORDS

LEVEL = 3  #: of zstd: more saves a tenth and costs a hundredfold
MAX_UNPACKED = 8 << 20  #: bytes: what a frame may grow to
SHA256_BYTES = 32
_SEVERITIES, _STATUSES = frozenset(map(int, Severity)), frozenset(map(int, WallStatus))
_KNOWN = b""  #: a commitment that follows from salt and payload

Integers = list[int]
Byte = Annotated[bytes, Meta(max_length=MAX_RECORD)]


class Stored(NamedTuple):
    """A record as both ends store it, exact bytes. Salt and payload are None once erased."""

    record: bytes
    salt: bytes | None
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that came in, column by column. Of a row of another version only the bytes are known: its type is empty, its epoch
    and wall clock -1, the rest as little. For the others payload and commitment belong together, and the record has its one form.
    """

    log_ids: frozenset[bytes]  #: that the records name
    sequences: Sequence[int]
    types: Sequence[str]
    severities: Sequence[int]
    effective: Sequence[int]
    decided: Sequence[int]
    walls: Sequence[int]
    epochs: Sequence[int]
    records: Sequence[bytes]
    salts: Sequence[bytes | None]
    payloads: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.records)

    def rows(self) -> list[Stored]:
        """The rows as both ends store them."""
        return list(map(Stored, self.records, self.salts, self.payloads))

    def after(self, count: int) -> Block:
        """The rows but the first ``count``."""
        return Block(
            self.log_ids, self.sequences[count:], self.types[count:], self.severities[count:], self.effective[count:],
            self.decided[count:], self.walls[count:], self.epochs[count:], self.records[count:], self.salts[count:],
            self.payloads[count:],
        )  # fmt: skip


Text = Annotated[str, Meta(max_length=MAX_RECORD)]
Back = Annotated[int, Meta(ge=1, le=2**63 - 1)]  #: how far before a record its cause is


class _Columns(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The fields of records of format v1, one list each; ``steps`` and the like hold differences to the row before."""

    log_id: Id
    first: Natural
    types: list[Annotated[str, Meta(min_length=1, max_length=64)]]
    severities: Integers
    boots: list[Id]
    steps: Integers  #: t_effective to the one before
    delays: Integers  #: t_decided - t_effective
    wall_steps: Integers  #: wall_ns to the one before
    wall_statuses: Integers
    wall_errors: list[Annotated[int, Meta(ge=-1, le=2**63 - 1)]]
    actors: list[Text]
    digests: list[tuple[Digest, Digest, Digest]]
    causes: list[list[Back]]
    rules: list[list[Text]]
    hazards: list[Text]
    claims: list[Text]
    commitments: list[Annotated[bytes, Meta(max_length=32)]]  #: empty: that of salt and payload
    epochs: list[Natural]


class _Packed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    columns: _Columns | None
    raw: list[Byte]  #: instead of columns
    erased: Integers  #: rows without salt and payload
    payloads: list[Annotated[bytes, Meta(max_length=MAX_PAYLOAD)]]  #: of the others
    salts: Annotated[bytes, Meta(max_length=SALT_BYTES * MAX_RECORDS)]  #: one after the other


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(_Packed)
#: A record's fields, in order, for those who take them by columns; lists within stay as they are written.
_fields = msgspec.msgpack.Decoder(
    tuple[
        int, bytes, int, str, int, bytes, int, int, int, int, int, str, msgspec.Raw, msgspec.Raw, msgspec.Raw, str, str, bytes,
        int,
    ]
)  # fmt: skip
_NONE = b"\x90"  #: an empty list, as it is written
_integers = msgspec.msgpack.Decoder(list[int])


def pack(rows: Sequence[Stored]) -> bytes:
    """Rows that follow one another in a log, as bytes for :func:`unpack`."""
    records, salts, payloads = zip(*rows, strict=True)
    erased = [
        index for index, (salt, payload) in enumerate(zip(salts, payloads, strict=True)) if None in (salt, payload)
    ]
    if erased:
        kept = [(salt, payload) for salt, payload in zip(salts, payloads, strict=True) if None not in (salt, payload)]
        salts, payloads = zip(*kept, strict=True) if kept else ((), ())
    columns = _columns(records, salts, payloads, erased)
    packed = _Packed(columns, [] if columns is not None else list(records), erased, list(payloads), b"".join(salts))
    return zstandard.ZstdCompressor(level=LEVEL).compress(_encoder.encode(packed))


def unpack(data: bytes, count: int) -> Block:
    """The ``count`` rows of packed ``data``, and nothing is known of whose they are.

    Raises ``VerificationError`` for what :func:`pack` would not have made, and for more than ``MAX_UNPACKED`` bytes.
    """
    try:
        # A frame that does not say its size is none of ours: nothing is unpacked to find out.
        if not 0 < zstandard.frame_content_size(data) <= MAX_UNPACKED:
            raise VerificationError(f"a batch has {MAX_UNPACKED} bytes at most, unpacked")
        packed = _decoder.decode(zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_UNPACKED))
        return _block(packed, count)
    except (zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError) as error:
        raise VerificationError(f"not a packed batch: {error}") from None
    except (ValueError, OverflowError, TypeError, IndexError) as error:
        raise VerificationError(f"the columns of a batch don't fit one another: {error}") from None


def _columns(
    data: Sequence[bytes], salts: Sequence[bytes], payloads: Sequence[bytes], erased: Sequence[int]
) -> _Columns | None:
    """The records by columns; None where one is no record of this version, or does not follow the one before.

    ``salts`` and ``payloads`` are of the records that are not ``erased``.
    """
    try:
        fields = list(map(_fields.decode, data))
        if list(map(_encoder.encode, fields)) != list(data):
            return None  # not the one form of its content: it could not be put together again
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    (
        versions, logs, sequences, types, severities, boots, effective, decided, walls, statuses, errors, actors, digests, causes,
        rules, hazards, claims, commitments, epochs,
    ) = zip(*fields, strict=True)  # fmt: skip
    first = sequences[0]
    if set(versions) != {VERSION} or len(set(logs)) != 1 or sequences != tuple(range(first, first + len(data))):
        return None
    if set(map(bytes, causes)) != {_NONE}:
        try:
            named = map(_integers.decode, causes)
            causes = tuple([n - one for one in back] for n, back in zip(sequences, named, strict=True))
        except msgspec.MsgspecError:
            return None
    known = [sha256(PAYLOAD_DOMAIN + salt + payload).digest() for salt, payload in zip(salts, payloads, strict=True)]
    for index in erased:
        known.insert(index, _KNOWN)
    return _Columns(
        logs[0], first, types, severities, boots, _steps(effective), _within(list(map(sub, decided, effective))), _steps(walls),
        statuses, errors, actors, digests, causes, rules, hazards, claims,
        [_KNOWN if one == digest else one for one, digest in zip(commitments, known, strict=True)], epochs,
    )  # fmt: skip


def _block(packed: _Packed, count: int) -> Block:
    whole = count - len(packed.erased)
    if len(packed.payloads) != whole or len(packed.salts) != whole * SALT_BYTES:
        raise ValueError("salts and payloads")
    salts: list[bytes | None] = [
        packed.salts[start : start + SALT_BYTES] for start in range(0, len(packed.salts), SALT_BYTES)
    ]
    payloads: list[bytes | None] = list(packed.payloads)
    last = -1
    for index in packed.erased:
        if not last < index < count:
            raise ValueError("erased rows")
        last = index
        salts.insert(index, None)
        payloads.insert(index, None)
    if packed.columns is not None:
        return _of_columns(packed.columns, salts, payloads, count)
    if len(packed.raw) != count:
        raise ValueError("records")
    return _of_bytes(packed.raw, salts, payloads)


def _hold_types(types: Sequence[str]) -> None:
    """Hold types against what every database keeps as text; the rest of a record is bytes there."""
    if any("\0" in kind for kind in set(types)):
        raise VerificationError("a record has a type with a NUL in it")


def _of_bytes(data: Sequence[bytes], salts: Sequence[bytes | None], payloads: Sequence[bytes | None]) -> Block:
    """Records that travelled as they are: of a later version, or of this one among such."""
    known: list[Record | None] = []
    for one, salt, payload in zip(data, salts, payloads, strict=True):
        try:
            record = decode_record(one)
        except VerificationError:
            known.append(None)
            continue
        if salt is not None and payload is not None and commitment(salt, payload) != record.commitment:
            raise VerificationError("a payload is not what its record commits to")
        known.append(record)
    _hold_types([r.type for r in known if r is not None])
    return Block(
        frozenset(r.log_id for r in known if r is not None),
        [r.sequence if r is not None else -1 for r in known],
        [r.type if r is not None else "" for r in known],
        [int(r.severity) if r is not None else int(Severity.NEGLIGIBLE) for r in known],
        [r.t_effective if r is not None else 0 for r in known],
        [r.t_decided if r is not None else 0 for r in known],
        [r.wall_ns if r is not None else -1 for r in known],
        [r.key_epoch if r is not None else -1 for r in known],
        data,
        salts,
        payloads,
    )


def _of_columns(c: _Columns, salts: Sequence[bytes | None], payloads: Sequence[bytes | None], count: int) -> Block:
    """The records of the columns, put together and hashed without a line of Python for each where that can be.

    Held against the rules of records here (:func:`decode_record`): types and ranges by the columns' own, text and causes below;
    what our encoder writes of such fields is the one form that they have.
    """
    sequences = range(c.first, c.first + count)
    if sequences.stop > 2**63 or not (_SEVERITIES.issuperset(c.severities) and _STATUSES.issuperset(c.wall_statuses)):
        raise ValueError("sequences, severities or states of the wall clock")
    for text in {*c.types, *c.actors, *c.hazards, *c.claims}.union(*c.rules):
        if not text.isascii() and not unicodedata.is_normalized("NFC", text):
            raise VerificationError("record holds text that is not in Unicode NFC")
    _hold_types(c.types)
    effective = _sums(c.steps)
    decided = _within(list(map(add, effective, c.delays)))
    walls = _sums(c.wall_steps)
    if any(c.causes):
        causes = [[sequence - one for one in back] for sequence, back in zip(sequences, c.causes, strict=True)]
        if min(min(one, default=0) for one in causes) < 0:
            raise VerificationError("record names a cause that is none")
    else:
        causes = c.causes
    commitments = _commitments(c.commitments, salts, payloads)
    fields = zip(
        repeat(VERSION, count), repeat(c.log_id, count), sequences, c.types, c.severities, c.boots, effective, decided, walls,
        c.wall_statuses, c.wall_errors, c.actors, c.digests, causes, c.rules, c.hazards, c.claims, commitments, c.epochs,
        strict=True,
    )  # fmt: skip
    records = list(map(_encoder.encode, fields))
    if max(map(len, records)) > MAX_RECORD:
        raise VerificationError(f"a record is longer than {MAX_RECORD} bytes")
    return Block(
        frozenset((c.log_id,)), sequences, c.types, c.severities, effective, decided, walls, c.epochs, records, salts, payloads
    )  # fmt: skip


def _commitments(
    given: Sequence[bytes], salts: Sequence[bytes | None], payloads: Sequence[bytes | None]
) -> Sequence[bytes]:
    """Each record's commitment: that of salt and payload, and the one that was given where they are erased."""
    if not any(given):
        return [
            sha256(PAYLOAD_DOMAIN + salt + payload).digest()  # type: ignore[operator]  # of an erased row: TypeError
            for salt, payload in zip(salts, payloads, strict=True)
        ]
    found = []
    for digest, salt, payload in zip(given, salts, payloads, strict=True):
        if salt is not None and payload is not None:
            if digest:
                raise VerificationError("a payload is not what its record commits to")
            digest = commitment(salt, payload)
        elif len(digest) != SHA256_BYTES:
            raise ValueError("a commitment without salt and payload")
        found.append(digest)
    return found


def _steps(values: Sequence[int]) -> Integers:
    return _within([values[0], *map(sub, values[1:], values)])


def _sums(steps: Sequence[int]) -> list[int]:
    return _within(list(accumulate(steps)))


def _within(values: list[int]) -> list[int]:
    """The values as 64 signed bits hold them: the difference of two times may need 65, and the sum of two differences."""
    if values and min(values) >= -(2**63) and max(values) < 2**63:
        return values
    return [(value + 2**63) % 2**64 - 2**63 for value in values]
