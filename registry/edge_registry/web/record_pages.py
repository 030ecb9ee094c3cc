"""Pages of records: lists of them, and one down to its bytes and what proves it."""

from __future__ import annotations

from starlette.responses import Response

from edge_monitor.evidence.page import words
from edge_monitor.journal.event_types import EVENT_TYPES

from ..store import Transaction
from .access import Visitor
from .answers import attachment, file, link, named_log, wants_file, whole
from .app import Asked, Refused, Site
from .black_boxes import question
from .downloads import Table
from .missions import mission_of
from .news_pages import news_of
from .records import Line, Proven, listing, proven
from .shown import WALL, flat, hex_rows, wall

MOST_BYTES = 16 << 10  #: of a payload that a page shows


def show_records(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """Records of a log in their order."""
    kind, start = asked.query.get("type", ""), whole(asked.query, "from", 0)
    if kind and kind not in EVENT_TYPES:
        raise Refused(400, "There is no such type of event.", "Choose one of the list.")
    with site.store.read() as tx:
        robot, log = named_log(tx, asked)
        found = listing(tx, log.number, log.held, start, kind)
        live = news_of(tx, log) if found.next is None else ""
    if wants_file(asked):
        columns = ("record", "type", "severity", "t (ns)", "wall time (UTC, robot's clock)", "in words", "payload")
        return file(asked, Table("records", columns, [_cells(line) for line in found.lines]))
    following = link(asked, **{"from": str(found.next)}) if found.next is not None else ""
    return site.render(
        "records.html", asked, visitor, title=f"Records of {robot}", robot=robot, log=log, found=found, start=start, kind=kind,
        types=EVENT_TYPES, next=following, live=live,
    )  # fmt: skip


def _cells(line: Line) -> list[str | int | float | None]:
    return [line.seq, line.type, line.severity, line.t_effective, wall(line.wall_ns), line.words, line.payload]


def show_record(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """One record: what it says, its bytes, and each step from them to the receipt."""
    with site.store.read() as tx:
        robot, log = named_log(tx, asked)
        found = _found(site, asked, tx, log.number)
        first = mission_of(tx, log.number, found.event.seq)
        about = question(tx, site.blobs, robot, log.number, found.event)
    event, record = found.event, found.record
    payload = event.payload or b""
    return site.render(
        "record.html",
        asked,
        visitor,
        title=f"Record {event.seq} of {robot}",
        robot=robot,
        log=log,
        found=found,
        event=event,
        record=record,
        mission=first,
        question=about,
        fields=list(flat(found.payload)) if found.payload else [],
        record_rows=hex_rows(event.record),
        payload_rows=hex_rows(payload[:MOST_BYTES]),
        payload_cut=len(payload) > MOST_BYTES,
        said=words(record, found.payload) if record is not None else "",
        clock=WALL[record.wall_status] if record is not None else "",
    )


def record_bytes(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """The exact bytes that were signed."""
    with site.store.read() as tx:
        _, log = named_log(tx, asked)
        event = next(tx.events(log.number, asked.parts["seq"], asked.parts["seq"] + 1), None)
    if event is None:
        raise Refused(404, "This record is not held here.")
    return attachment(event.record, f"record-{event.seq}.bin", "application/octet-stream")


def record_proof(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """The proof of a record as a file that is checked without this registry."""
    with site.store.read() as tx:
        _, log = named_log(tx, asked)
        found = _found(site, asked, tx, log.number)
    if not found.receipt:
        raise Refused(404, "No receipt covers this record, so that nothing proves it yet.")
    return attachment(
        found.proof(disclose=True).encode(), f"record-{found.event.seq}.tlog-proof", "text/plain; charset=utf-8"
    )


def _found(site: Site, asked: Asked, tx: Transaction, log: int) -> Proven:
    found = proven(tx, log, asked.parts["seq"], *site.house.receipts)
    if found is None:
        raise Refused(404, "This record is not held here.", "The list of records shows those that are.")
    return found
