"""The signals around a record, as a page and for programs: out of the black box that the robot delivered."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, TypedDict

import msgspec
from msgspec import Meta
from starlette.responses import Response

from edge_monitor.errors import UsageError

from ..catalogue.interface import Endpoint, Name, Number, answer
from ..catalogue.pages import log_number
from ..catalogue.reading import Catalogue
from .access import Visitor
from .answers import file, named_log, wants_file, whole
from .app import Asked, Refused, Site
from .black_boxes import Question, question
from .downloads import Table
from .missions import mission_of
from .plots import plot
from .signals import CheckDocument, TraceDocument, TracesDocument, nothing

BEFORE_S, AFTER_S, LONGEST_S = 10, 5, 600  #: s around an event that are shown unless others are asked for, and at most
Seconds = Annotated[int, Meta(ge=1, le=LONGEST_S)]


class Around(msgspec.Struct, forbid_unknown_fields=True):
    """A record, as for its lineage; ``before`` and ``after``: s around its event."""

    robot: Name
    log: Name
    sequence: Number
    before: Seconds = BEFORE_S
    after: Seconds = AFTER_S


class BlackBoxDocument(TypedDict):
    """The black box: its name on the robot, the SHA-256 of the delivered file, and the record that names and signs it."""

    file: str
    sha256: str
    record: int


class SignalsDocument(TypedDict):
    """The signals around an event. ``time_ns``: of the event, on the robot's stream clock. ``failure``: why there are none, in
    words. ``proven_to_s``: s since the event up to which what the robot signed covers the black box."""

    robot: str
    log: str
    sequence: int
    type: str
    time_ns: int
    before_s: int
    after_s: int
    failure: str
    black_box: BlackBoxDocument | None
    proven_to_s: float
    checks: list[CheckDocument]
    signals: list[TraceDocument]
    notes: list[str]


def _around(site: Site, asked: Question, before_s: int, after_s: int) -> tuple[TracesDocument, str]:
    """What the black box shows, and the SHA-256 of the file."""
    if asked.box is None or asked.record is None:
        return nothing(asked.why), ""
    return site.signals.around(asked.box, asked.envelopes, asked.record, asked.names, before_s, after_s)


def _document(site: Site, one: Around) -> SignalsDocument:
    """The signals that an event's checks read, around it, out of the black box that the robot delivered."""
    with site.store.read() as tx:
        catalogue = Catalogue(tx, site.trust(), 0)
        number = log_number(catalogue, one.robot, one.log)
        event = next(tx.events(number, one.sequence, one.sequence + 1), None)
        if event is None:
            raise UsageError(f"record {one.sequence} is not held here")
        asked = question(tx, site.blobs, one.robot, number, event)
    found, digest = _around(site, asked, one.before, one.after)
    box = asked.box
    named: BlackBoxDocument | None = None
    if box is not None:
        named = {"file": box.name, "sha256": digest, "record": box.sequence}
    return {
        "robot": one.robot, "log": one.log, "sequence": one.sequence, "type": event.type, "time_ns": event.t_effective,
        "before_s": one.before, "after_s": one.after, "failure": found["failure"], "black_box": named,
        "proven_to_s": found["covered"], "checks": found["checks"], "signals": found["signals"], "notes": found["notes"],
    }  # fmt: skip


SIGNALS = Endpoint(
    "/robots/{robot}/records/{log}/{sequence}/signals", "record_signals", Around, SignalsDocument, _document
)


def signals(site: Site, asked: Asked, _: Visitor) -> Response:
    """The signals around a record, for programs."""
    parts = {name: str(value) for name, value in asked.parts.items()}
    return answer(SIGNALS, {**asked.query, **parts}, lambda: nullcontext(site))


def show_signals(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """The signals around a record: drawn, and in a table."""
    before, after = (
        min(max(whole(asked.query, name, usual), 1), LONGEST_S)
        for name, usual in (("before", BEFORE_S), ("after", AFTER_S))
    )
    with site.store.read() as tx:
        robot, log = named_log(tx, asked)
        event = next(tx.events(log.number, asked.parts["seq"], asked.parts["seq"] + 1), None)
        if event is None:
            raise Refused(404, "This record is not held here.", "The list of records shows those that are.")
        first = mission_of(tx, log.number, event.seq)
        about = question(tx, site.blobs, robot, log.number, event)
    found, digest = _around(site, about, before, after)
    if wants_file(asked):
        columns = ("signal", "unit", "s since the event", "value")
        rows = [
            (one["name"], one["unit"], *point) for one in found["signals"] for point in (*one["points"], *one["states"])
        ]
        return file(asked, Table(f"signals-{event.seq}", columns, rows))
    return site.render(
        "signals.html", asked, visitor, title=f"Signals around record {event.seq} of {robot}", robot=robot, log=log,
        event=event, mission=first, found=found, box=about.box, digest=digest, before=before, after=after,
        plots=[(one, plot(one, before, after)) for one in found["signals"]],
    )  # fmt: skip
