"""``Shelf``: the files that follow the events (tapes, kept incidents, raw messages), by digest, resumable, after all else."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import wire

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """A file that won't change any more. ``kind``: ``tape``, ``incident``, ``raw``, ``envelope`` or ``approval``."""

    path: Path
    kind: str


class Shelf:
    """Offers files one at a time, and sends the parts that the registry asks for."""

    def __init__(self, list_files: Callable[[], Sequence[Blob]]) -> None:
        """``list_files``: the files as they are now; one that is still written must not be among them."""
        self._list = list_files
        self._digests: dict[Path, tuple[bytes, int, float]] = {}  # digest, size, modification time
        self._offered: set[bytes] = set()
        self.delivered: set[bytes] = set()

    def frames(self, wanted: deque[wire.BlobWant]) -> list[bytes]:
        """What to send next: the part that was asked for, or an offer; nothing when all is delivered."""
        if wanted:
            return self._part(wanted.popleft())
        for blob in self._list():
            try:
                digest, size = self._digest(blob.path)
            except OSError:
                continue  # gone since it was listed: a ring of tapes removes its oldest
            if digest not in self._offered and digest not in self.delivered:
                self._offered.add(digest)
                return [wire.encode(wire.BlobOffer(digest, size, blob.kind, blob.path.name[:128]))]
        return []

    def forget_offers(self) -> None:
        """A new session: what was offered and not delivered is offered again."""
        self._offered.clear()

    def _digest(self, path: Path) -> tuple[bytes, int]:
        stat = path.stat()
        known = self._digests.get(path)
        if known is None or known[1:] != (stat.st_size, stat.st_mtime):
            digest = hashlib.sha256()
            with path.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    digest.update(chunk)
            known = self._digests[path] = (digest.digest(), stat.st_size, stat.st_mtime)
        return known[0], known[1]

    def _part(self, want: wire.BlobWant) -> list[bytes]:
        for path, (digest, size, _) in self._digests.items():
            if digest != want.digest:
                continue
            if want.offset >= size:
                self.delivered.add(digest)
                return []
            try:
                with path.open("rb") as stream:
                    stream.seek(want.offset)
                    return [wire.encode(wire.BlobPart(digest, want.offset, stream.read(wire.PART)))]
            except OSError:
                return []
        return []
