"""Black boxes that robots kept and delivered: which one covers a moment, by the records that name it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from edge_monitor.envelope.statements import MAX_FILE
from edge_monitor.errors import VerificationError
from edge_monitor.journal.records import Record, decode_payload

from .. import tables as t
from ..blobs import Blobs
from ..catalogue.approvals import parse
from ..store import Event, Transaction
from . import tables as w
from .follower import decoded

MOST_KEPT = 200  #: records of kept incidents that one page looks at
MOST_FILES = 4  #: of one name
MOST_ENVELOPES = 8  #: that the robot delivered beside those that an approval names
MOST_APPROVALS = 200


@dataclass(frozen=True, slots=True)
class BlackBox:
    """An incident that a record names: ``begin`` to ``end`` (ns of the stream's clock) of a boot.

    ``anchor``: block, bytes of it and their digest (hex), as the robot signed them. ``files``: (SHA-256, where it is) of what
    was delivered under its name; none: it was not.
    """

    sequence: int
    name: str
    boot: str
    begin: int
    end: int
    anchor: tuple[int, int, str]
    files: tuple[tuple[str, Path], ...] = ()

    def covers(self, at: int) -> bool:
        """Whether a moment is in it."""
        return self.begin <= at <= self.end


@dataclass(frozen=True, slots=True)
class Question:
    """A record whose signals are looked for. ``names``: of checks, gates or signals that it is about; ``box``: the black box that
    covers it, None where ``why`` says why there is none; ``envelopes``: files, among which the one should be that says what the
    numbers in it are."""

    record: Record | None
    names: tuple[str, ...]
    box: BlackBox | None
    why: str
    envelopes: tuple[Path, ...] = ()


def question(tx: Transaction, blobs: Blobs, robot: str, log: int, event: Event) -> Question:
    """What is known of a record before a black box is read."""
    record, payload = decoded(event)
    if record is None:
        return Question(None, (), None, "the record is of a later version than this registry knows")
    subject = payload.get("subject") if payload else None
    names = (*record.rules, *([subject] if isinstance(subject, str) else []))
    boot = record.boot_id.hex()
    boxes = kept(tx, blobs, robot, log, event.seq)
    if not any(
        box.boot == boot for box in boxes
    ):  # none covers it, as one is named after what it covers: which were there?
        boxes = kept(tx, blobs, robot, log, 0, event.seq)
    box, why = about(boxes, boot, record.t_effective)
    files = envelopes(tx, blobs, robot, record.digests.envelope.hex()) if box is not None else []
    return Question(record, tuple(names), box, why, tuple(files))


def kept(tx: Transaction, blobs: Blobs, robot: str, log: int, first: int, end: int | None = None) -> list[BlackBox]:
    """Incidents that records from ``first`` on name, in order, and what was delivered; with ``end``, the last few before it."""
    events = sa.join(t.events, w.marks, (t.events.c.log == w.marks.c.log) & (t.events.c.seq == w.marks.c.seq))
    query = sa.select(t.events.c.seq, t.events.c.payload).select_from(events)
    query = query.where(w.marks.c.log == log, w.marks.c.type == "incident.kept", w.marks.c.seq >= first)
    if end is None:
        rows = tx.connection.execute(query.order_by(w.marks.c.seq).limit(MOST_KEPT)).all()
    else:
        last = query.where(w.marks.c.seq < end).order_by(w.marks.c.seq.desc()).limit(MOST_FILES)
        rows = tx.connection.execute(last).all()[::-1]
    found = [
        box for row in rows if row.payload is not None and (box := _named(row.seq, bytes(row.payload))) is not None
    ]
    files = _files(tx, blobs, robot, {box.name for box in found})
    return [
        BlackBox(box.sequence, box.name, box.boot, box.begin, box.end, box.anchor, tuple(files.get(box.name, ())))
        for box in found
    ]


def about(boxes: Iterable[BlackBox], boot: str, at: int) -> tuple[BlackBox | None, str]:
    """The one that covers a moment of a boot, and, where nothing can be shown, why; one that was delivered first."""
    same = [box for box in boxes if box.boot == boot]
    covering = sorted((box for box in same if box.covers(at)), key=lambda box: not box.files)
    if covering and covering[0].files:
        return covering[0], ""
    if covering:
        box = covering[0]
        return None, (
            f"no black box was delivered for this moment: the robot kept it as {box.name} (record {box.sequence}), and it is "
            "not here yet"
        )
    if same:
        spans = ", ".join(f"{(box.begin - at) / 1e9:+.1f} s to {(box.end - at) / 1e9:+.1f} s" for box in same[:4])
        return None, f"no black box covers this moment: of this boot the robot kept {spans} from here"
    return None, "no black box was delivered for this boot, and no record names one"


def envelopes(tx: Transaction, blobs: Blobs, robot: str, digest: str) -> list[Path]:
    """Files that the robot delivered, among which the envelope of this digest should be; those that an approval names first."""
    query = sa.select(t.blobs.c.digest).where(t.blobs.c.robot == robot, t.blobs.c.complete_s.is_not(None))
    newest = t.blobs.c.complete_s.desc()
    approvals = query.where(t.blobs.c.kind == "approval", t.blobs.c.size <= MAX_FILE).order_by(newest)
    named: list[bytes] = []
    for name in tx.connection.execute(approvals.limit(MOST_APPROVALS)).scalars():
        with suppress(OSError):
            proposal = parse(blobs.path(bytes(name)).read_bytes())
            if proposal is not None and proposal.digest == digest:
                named.append(bytes.fromhex(proposal.file_digest))
    files = tx.connection.execute(query.where(t.blobs.c.kind == "envelope").order_by(newest).limit(MOST_ENVELOPES))
    wanted = dict.fromkeys([*named[:MOST_ENVELOPES], *map(bytes, files.scalars())])
    return [path for one in wanted if (path := blobs.path(one)).is_file()]


def _named(sequence: int, data: bytes) -> BlackBox | None:
    """What a record says that was kept; None where it does not say it as ours do."""
    try:
        said: dict[str, Any] = decode_payload(data)
    except VerificationError:
        return None
    name, boot, blocks = said.get("subject"), said.get("boot"), said.get("blocks")
    size, digest, begin, end = (said.get(key) for key in ("bytes", "digest", "from_ns", "to_ns"))
    whole = (
        isinstance(blocks, list)
        and len(blocks) == 2
        and all(isinstance(one, int) for one in (*blocks, size, begin, end))
    )
    if not whole or not isinstance(blocks, list) or not all(isinstance(one, str) for one in (name, boot, digest)):
        return None
    return BlackBox(sequence, str(name)[:128], str(boot), int(begin), int(end), (blocks[1], int(size), str(digest)))  # type: ignore[arg-type]


def _files(tx: Transaction, blobs: Blobs, robot: str, names: set[str]) -> dict[str, list[tuple[str, Path]]]:
    """What was delivered under some names, the earliest first."""
    found: dict[str, list[tuple[str, Path]]] = {}
    if not names:
        return found
    query = sa.select(t.blobs.c.name, t.blobs.c.digest).where(
        t.blobs.c.robot == robot,
        t.blobs.c.kind == "incident",
        t.blobs.c.complete_s.is_not(None),
        t.blobs.c.name.in_(names),
    )
    for row in tx.connection.execute(query.order_by(t.blobs.c.complete_s)):
        path = blobs.path(bytes(row.digest))
        of_name = found.setdefault(row.name, [])
        if len(of_name) < MOST_FILES and path.is_file():
            of_name.append((bytes(row.digest).hex(), path))
    return found
