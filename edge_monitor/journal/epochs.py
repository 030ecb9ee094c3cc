"""Epoch keys: short-lived keys that sign checkpoints, certified by the identity key in ``key.rotated`` records (docs/sync.md §1).

Who steals a running robot gets the key of the current hour. Which key may sign a checkpoint follows from the log itself: the
``key_epoch`` of its last record, and the certificate that began that epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConfigError, VerificationError
from .keys import SigningKey, VerifierKey, parse_verifier_key
from .notes import open_note, sign_note
from .records import Record, decode_payload

ROTATED = "key.rotated"
EPOCH_NS = 3_600_000_000_000  #: an epoch's longest time, on the stream's clock
_TITLE = "edge-monitor key epoch v1"


@dataclass(frozen=True, slots=True)
class Epoch:
    """What a certificate says: after record ``sequence``, ``key`` signs the checkpoints of ``origin``, as epoch ``number``."""

    origin: str
    number: int
    key: VerifierKey
    sequence: int

    def text(self) -> str:
        """The lines that the identity key signs."""
        return f"{_TITLE}\n{self.origin}\n{self.number}\n{self.key.text()}\n{self.sequence}\n"


def certify(epoch: Epoch, identity: SigningKey) -> str:
    """The certificate: a signed note of the identity key."""
    return sign_note(epoch.text(), identity)


def open_certificate(note: str, keys: Sequence[VerifierKey]) -> tuple[Epoch, list[VerifierKey]]:
    """What a certificate says, and which of ``keys`` signed it; the caller asks that one did.

    Raises ``VerificationError`` for what is no certificate, or a signature that does not hold.
    """
    text, signers = open_note(note, keys)
    lines = text.split("\n")
    try:
        epoch = Epoch(lines[1], int(lines[2][:20]), parse_verifier_key(lines[3]), int(lines[4][:20]))
    except (ConfigError, IndexError, ValueError):
        raise VerificationError("not a certificate of an epoch key") from None
    if epoch.text() != text or epoch.number < 1 or epoch.sequence < 0:
        raise VerificationError("certificate of an epoch key is not in canonical form")
    return epoch, [key for key in signers if key.name == epoch.key.name]


def certificate_in(payload: bytes | None) -> str:
    """The certificate in the payload of a ``key.rotated`` record. Raises ``VerificationError`` where there is none."""
    if payload is None:
        raise VerificationError("the payload with the certificate of an epoch key was erased")
    note = decode_payload(payload).get("certificate")
    if not isinstance(note, str):
        raise VerificationError("a record of type key.rotated without a certificate")
    return note


class KeyChain:
    """Follows a log's records, and knows which key may sign a checkpoint that ends with each. Nothing of the log is believed."""

    def __init__(self, origin: str, keys: Sequence[VerifierKey]) -> None:
        """``keys``: identity keys that are trusted. Without any, only the order of epochs is checked."""
        self.origin = origin
        self._identity = list(keys)
        self.last = 0  #: number of the newest epoch
        self.began: dict[int, int] = {}  #: sequence of each epoch's certificate
        self._open = 0  #: number of the epoch that may sign now; 0: the identity key alone
        self._keys: dict[int, VerifierKey] = {}

    def follow(self, record: Record, payload: bytes | None) -> str:
        """Take the next record; answers what is wrong with its epoch, empty for nothing."""
        return self.step(record.sequence, record.type, record.key_epoch, payload)

    def step(self, sequence: int, kind: str, key_epoch: int, payload: bytes | None) -> str:
        """As ``follow``, of a record of which no more is at hand than its sequence, type and key epoch."""
        if key_epoch != self._open:
            if key_epoch != 0:
                return f"record is of key epoch {key_epoch}, where {self._open} is in force"
            self._open = 0
        if kind != ROTATED:
            return ""
        try:
            epoch, signers = open_certificate(certificate_in(payload), self._identity)
        except VerificationError as error:
            return str(error)
        if self._identity and not signers:
            return "the certificate of an epoch key is not signed by a key that was given"
        if (epoch.origin, epoch.sequence, epoch.number) != (self.origin, sequence, self.last + 1):
            return f"the certificate of epoch {epoch.number} is not for this place"
        self.last = self._open = epoch.number
        self._keys[epoch.number] = epoch.key
        self.began[epoch.number] = sequence
        return ""

    def keys(self, key_epoch: int) -> list[VerifierKey]:
        """The keys one of which must have signed a checkpoint whose last record is of ``key_epoch``."""
        if key_epoch == 0 or not self._identity:
            return self._identity
        return [self._keys[key_epoch]] if key_epoch in self._keys else []

    @classmethod
    def resumed(
        cls, origin: str, keys: Sequence[VerifierKey], last: int, current: int, key: VerifierKey | None
    ) -> KeyChain:
        """A chain that has followed a log so far: newest epoch, the one in force now, and its key."""
        chain = cls(origin, keys)
        chain.last, chain._open = last, current
        if key is not None:
            chain._keys[current] = key
        return chain

    @property
    def current(self) -> tuple[int, VerifierKey | None]:
        """The epoch in force now and its key; (0, None) for the identity key."""
        return self._open, self._keys.get(self._open)
