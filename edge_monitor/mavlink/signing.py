"""Signatures of MAVLink 2 (https://mavlink.io/en/guide/message_signing.html): who is let in, and that nothing is played again.

A signature is six bytes of SHA-256 over a shared key and the frame: it keeps strangers out, hides nothing, and whoever has the
key can sign as anyone.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

SIGNED_TAIL = 6  #: bytes of the signature itself
EPOCH_NS = 1_420_070_400_000_000_000  #: 2015-01-01 in ns since 1970: stamps count from there
TICK_NS = 10_000  #: of a stamp
LATE = 6_000_000  #: ticks (one minute) that the first stamp of a sender may be behind ours
STREAMS = 256  #: senders that are remembered


class Verifier:
    """Says which signed frames to believe."""

    def __init__(self, key: bytes, wall: Callable[[], int]) -> None:
        """``wall``: ns since 1970; where it is behind a vehicle's clock, the vehicle's counts."""
        self._key = hashlib.sha256(key)
        self._wall = wall
        self._newest = 0
        self._streams: dict[tuple[int, int, int], int] = {}

    @property
    def stamp(self) -> int:
        """Now, as stamps count it."""
        return max((self._wall() - EPOCH_NS) // TICK_NS, self._newest)

    def accepts(self, frame: bytes) -> bool:
        """Whether a whole signed frame is by someone with the key, and newer than all that its sender sent before."""
        digest = self._key.copy()
        digest.update(frame[:-SIGNED_TAIL])
        if not hmac.compare_digest(digest.digest()[:SIGNED_TAIL], frame[-SIGNED_TAIL:]):
            return False
        stamp = int.from_bytes(frame[-12:-SIGNED_TAIL], "little")
        stream = (frame[-13], frame[5], frame[6])
        last = self._streams.get(stream)
        if last is None and (stamp + LATE < self.stamp or len(self._streams) >= STREAMS):
            return False
        if last is not None and stamp <= last:
            return False
        self._streams[stream] = stamp
        self._newest = max(self._newest, stamp)
        return True
