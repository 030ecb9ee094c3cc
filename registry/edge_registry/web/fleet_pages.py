"""Pages of the fleet: robots, missions, time lines, episodes."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from ..catalogue.documents import PartDocument
from ..catalogue.exceptions import exceptions
from .access import Visitor
from .answers import MOST_ROWS, cursor, dotted, file, link, named_log, seconds, wants_file, whole
from .app import Asked, Refused, Site
from .black_boxes import kept
from .catalogue_pages import parts, reading, urgency, verified
from .coverage import conditions_of
from .downloads import Table
from .fleet import RobotRow, fleet, losses, robot, totals
from .lanes import time_line
from .missions import EPISODES, KINDS, MOST_MARKS, MOST_SPANS, Mission, Span, episodes, marks, mission, missions, spans
from .news_pages import news_of
from .shown import SEVERITIES, moment, wall

MOST_CONDITIONS = 12  #: of a mission on its page
MISSION_COLUMNS = (
    "robot", "log", "first record", "records", "envelope", "envelope digest", "model", "monitor", "began (UTC, robot's clock)",
    "observed (s)", "ended", "happened",
)  # fmt: skip
SPAN_COLUMNS = (
    "robot",
    "log",
    "record",
    "kind",
    "what",
    "severity",
    "began (ns)",
    "ended (ns)",
    "lasted (s)",
    "measured",
    "outcome",
    "action taken",
)


def home(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """The first page that the visitor may see."""
    return RedirectResponse("/fleet" if visitor.may("fleet") else "/people" if visitor.may("people") else "/help", 303)


def show_fleet(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """All robots: sync age, gaps, mode, what was active."""
    like, after = asked.query.get("robot", "")[:200], asked.query.get("after", "")[:300]
    with site.store.read() as tx:
        rows, more = fleet(tx, after=after, like=like, most=MOST_ROWS if wants_file(asked) else 250)
        counts, live = totals(tx, asked.now_s), news_of(tx)
        known = parts(site, asked, tx, [row.robot for row in rows])
    if wants_file(asked):
        return file(
            asked,
            Table(
                "fleet",
                (
                    "robot",
                    "sync",
                    "records held",
                    "gaps",
                    "in control",
                    "active verifies",
                    "model",
                    "envelope",
                    "monitor",
                    "open limits",
                    "last heard (UTC)",
                ),
                [_fleet_cells(row, known.get(row.robot), asked.now_s) for row in rows],
            ),
        )
    return site.render(
        "fleet.html",
        asked,
        visitor,
        title="Fleet",
        rows=rows,
        parts=known,
        verified=verified,
        counts=counts,
        like=like,
        live=live,
        next=link(asked, after=more) if more else "",
    )


def _fleet_cells(row: RobotRow, known: list[PartDocument] | None, now_s: int) -> list[str | int | None]:
    log = row.log
    return [
        row.robot,
        row.sync(now_s).word,
        log.held if log else 0,
        row.whole().word,
        row.command().word,
        verified(known).word,
        log.model if log else "",
        log.envelope if log else "",
        log.monitor if log else "",
        log.open_breaches if log else 0,
        moment(log.seen_s) if log else "never",
    ]


def show_robot(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """One robot: its logs, what is missing, its missions."""
    with site.store.read() as tx:
        row = robot(tx, str(asked.parts["robot"]))
        if row is None:
            raise Refused(404, "There is no such robot here.", "The fleet page lists those that are enrolled.")
        before = cursor(asked.query.get("before", ""))
        found, more = missions(tx, robot=row.robot, before=before, most=MOST_ROWS if wants_file(asked) else 50)
        logs = [one for one in (row.log, *row.others) if one is not None]
        lost = {log.log_id: losses(tx, log.number) for log in logs if log.losses}
        known = parts(site, asked, tx, [row.robot])
        open_ones = exceptions(reading(site, asked, tx), only_open=True, robot=row.robot)
        live = news_of(tx, row.log) if row.log is not None else ""
    if wants_file(asked):
        return file(asked, Table("missions", MISSION_COLUMNS, [_mission_cells(one) for one in found]))
    return site.render(
        "robot.html", asked, visitor, title=f"Robot {row.robot}", row=row, logs=logs, lost=lost, missions=found,
        parts=known.get(row.robot), verified=verified, exceptions=[(one, urgency(one)) for one in open_ones],
        next=link(asked, before=dotted(more)) if more else "", live=live,
    )  # fmt: skip


def show_missions(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """Missions of all robots, the newest first."""
    name = asked.query.get("robot", "")[:200]
    with site.store.read() as tx:
        before = cursor(asked.query.get("before", ""))
        found, more = missions(tx, robot=name, before=before, most=MOST_ROWS if wants_file(asked) else 100)
        live = news_of(tx) if before is None else ""
    if wants_file(asked):
        return file(asked, Table("missions", MISSION_COLUMNS, [_mission_cells(one) for one in found]))
    return site.render(
        "missions.html",
        asked,
        visitor,
        title="Missions",
        missions=found,
        robot=name,
        live=live,
        next=link(asked, before=dotted(more)) if more else "",
    )


def _mission_cells(one: Mission) -> list[str | int | float | None]:
    return [
        one.robot, one.log_id, one.first, one.end - one.first, one.envelope_name, one.envelope, one.model, one.monitor,
        wall(one.wall_first), round(one.seconds, 3), one.state().word, one.happened(),
    ]  # fmt: skip


def show_mission(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """The time line of a mission: who was asked, who was in control, what limited it."""
    begin, end = seconds(asked.query, "from"), seconds(asked.query, "to")
    with site.store.read() as tx:
        _, log = named_log(tx, asked)
        one = mission(tx, log.number, asked.parts["first"])
        if one is None:
            raise Refused(404, "No mission begins with this record.", "The robot's page lists its missions.")
        found = spans(tx, log.number, one.first)
        told = marks(tx, log.number, one.first, one.end)
        conditions, untold = conditions_of(tx, log.number, one.first, one.end)
        live = news_of(tx, log) if one.ended == "running" else ""
        boxes = [box for box in kept(tx, site.blobs, one.robot, log.number, one.first) if box.boot == one.boot]
    if wants_file(asked):
        return file(asked, Table("spans", SPAN_COLUMNS, [_span_cells(span) for span in found]))
    return site.render(
        "mission.html", asked, visitor, title=one.name(), mission=one, log=log, line=time_line(one, found, begin or 0.0, end),
        spans=found[:MOST_SPANS], marks=told[:MOST_MARKS], more_spans=len(found) > MOST_SPANS, more_marks=len(told) > MOST_MARKS,
        kinds=KINDS, live=live, boxes=boxes, shows=lambda at: any(box.files and box.covers(at) for box in boxes), untold=untold,
        conditions=conditions[:MOST_CONDITIONS], more_conditions=max(0, len(conditions) - MOST_CONDITIONS),
    )  # fmt: skip


def show_episodes(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """Limits that were passed, drift, and the like, with what was done about each."""
    kind, name = asked.query.get("kind", "breach"), asked.query.get("robot", "")[:200]
    if kind not in EPISODES:
        raise Refused(400, "There is no such kind of episode.", f"There is {', '.join(EPISODES)}.")
    only_open = asked.query.get("open", "") == "yes"
    before = cursor(asked.query.get("before", ""))
    with site.store.read() as tx:
        found, more = episodes(
            tx, kind, robot=name, only_open=only_open, before=before, most=MOST_ROWS if wants_file(asked) else 100
        )
        live = news_of(tx) if before is None else ""
    if wants_file(asked):
        return file(asked, Table("episodes", SPAN_COLUMNS, [_span_cells(span) for span in found]))
    return site.render(
        "episodes.html", asked, visitor, title="Episodes", spans=found, kinds=KINDS, episodes=EPISODES, kind=kind, robot=name,
        only_open=only_open, next=link(asked, before=dotted(more)) if more else "", severities=SEVERITIES,
        live=live,
    )  # fmt: skip


def _span_cells(one: Span) -> list[str | int | float | None]:
    lasted = None if one.t_to is None else (one.t_to - one.t_from) / 1e9
    return [
        one.robot, one.log_id, one.seq, KINDS.get(one.kind, one.kind), one.label, one.severity, one.t_from, one.t_to, lasted,
        one.measured, one.outcome or "not over", one.acted(),
    ]  # fmt: skip


def make_packet(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """Export records as a packet, and verify it."""
    log, first, end = asked.form.get("log", ""), whole(asked.form, "first"), whole(asked.form, "end")
    with site.store.read() as tx:
        named_log(tx, Asked(asked.path, {"log": log}, {}, {}, asked.address, asked.now_s))
    site.access.record(visitor, "packet made", log, f"records {first} to {end - 1}", asked.address).result()
    number = site.packets.make(log, first, end, visitor.person, site.people.content)
    return RedirectResponse(f"/packets/{number}", 303)


def show_packets(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """Packets that were made here."""
    with site.store.read() as tx:
        found = site.packets.newest(tx)
    if wants_file(asked):
        columns = (
            "packet",
            "robot",
            "log",
            "first record",
            "last record",
            "made (UTC)",
            "by",
            "verdict",
            "missing",
            "bytes",
            "digest",
        )
        rows = [
            (
                p.number,
                p.robot,
                p.log_id,
                p.first,
                p.end - 1,
                moment(p.at_s),
                p.person,
                p.verdict,
                "; ".join(p.findings),
                p.bytes,
                p.digest,
            )
            for p in found
        ]
        return file(asked, Table("packets", columns, rows))
    return site.render("packets.html", asked, visitor, title="Packets", packets=found)


def show_packet(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """One packet: its verdict, and the file."""
    with site.store.read() as tx:
        packet = site.packets.packet(tx, asked.parts["number"])
    if packet is None:
        raise Refused(404, "There is no such packet.", "The page of packets lists those that were made here.")
    key = site.packets.key.verifier.text()
    return site.render("packet.html", asked, visitor, title=f"Packet {packet.number}", packet=packet, key=key)


def packet_file(site: Site, asked: Asked, visitor: Visitor) -> Response:
    """A packet's bytes."""
    from starlette.responses import FileResponse

    with site.store.read() as tx:
        packet = site.packets.packet(tx, asked.parts["number"])
    if packet is None or not packet.there:
        raise Refused(
            404, "The packet's file is not here any more.", "Make it again from its mission: it gets the same bytes."
        )
    return FileResponse(site.packets.path(packet), media_type="application/zip", filename=f"packet-{packet.number}.zip")
