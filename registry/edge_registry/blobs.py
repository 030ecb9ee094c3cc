"""``Blobs``: files that robots deliver after their events, by SHA-256, in a folder. A file is there once its digest holds."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import sqlalchemy as sa

from edge_monitor.sync import wire

from . import tables as t
from .store import Robot, Transaction

KINDS = ("tape", "incident", "raw", "envelope", "approval")
LARGEST = 16 << 30  #: bytes of a file
OPEN_FILES = 4  #: of a robot, that are on their way


class Blobs:
    """A folder of files: ``ab/abcdef…`` when whole, ``partial/…`` while they come. Nothing from a robot names a path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "partial").mkdir(parents=True, exist_ok=True)

    def path(self, digest: bytes) -> Path:
        """Where a whole file is."""
        name = digest.hex()
        return self.folder / name[:2] / name

    def offered(self, tx: Transaction, robot: Robot, offer: wire.BlobOffer) -> list[wire.Downlink]:
        """A robot has a file: from where on it is wanted."""
        if offer.kind not in KINDS or offer.size > LARGEST or not offer.name.isprintable() or "/" in offer.name:
            return []
        row = tx.connection.execute(sa.select(t.blobs).where(t.blobs.c.digest == offer.digest)).first()
        if row is not None and row.complete_s is not None:
            return [wire.BlobWant(offer.digest, row.size)]
        if row is None:
            coming = sa.select(sa.func.count()).where(t.blobs.c.robot == robot.id, t.blobs.c.complete_s.is_(None))
            if (tx.connection.execute(coming).scalar() or 0) >= OPEN_FILES:
                return []
            values = {
                "digest": offer.digest,
                "robot": robot.id,
                "kind": offer.kind,
                "name": offer.name,
                "size": offer.size,
            }
            tx.connection.execute(sa.insert(t.blobs).values(**values))
        return self._wanted(tx, offer.digest, offer.size)

    def part(self, tx: Transaction, robot: Robot, part: wire.BlobPart) -> list[wire.Downlink]:
        """Bytes of a file that was offered, in order."""
        row = tx.connection.execute(sa.select(t.blobs).where(t.blobs.c.digest == part.digest)).first()
        if row is None or row.robot != robot.id:
            return []
        if row.complete_s is not None:
            return [wire.BlobWant(part.digest, row.size)]
        path = self._partial(part.digest)
        have = path.stat().st_size if path.exists() else 0
        if part.offset == have and have + len(part.data) <= row.size:
            with path.open("ab") as stream:
                stream.write(part.data)
                stream.flush()
                os.fsync(stream.fileno())
        return self._wanted(tx, part.digest, row.size)

    def _wanted(self, tx: Transaction, digest: bytes, size: int) -> list[wire.Downlink]:
        path = self._partial(digest)
        path.touch()
        have = path.stat().st_size
        if have < size:
            return [wire.BlobWant(digest, have)]
        if _digest(path) != digest:
            path.unlink()  # damaged on the way, or a lie: from the beginning
            return [wire.BlobWant(digest, 0)]
        final = self.path(digest)
        final.parent.mkdir(exist_ok=True)
        path.replace(final)
        done = sa.update(t.blobs).where(t.blobs.c.digest == digest).values(complete_s=int(time.time()))
        tx.connection.execute(done)
        return [wire.BlobWant(digest, size)]

    def _partial(self, digest: bytes) -> Path:
        return self.folder / "partial" / digest.hex()


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.digest()
