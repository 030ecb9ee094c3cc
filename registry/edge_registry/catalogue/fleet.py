"""What robots used: the stretches of their logs, what is active now and whether it verifies, and their missions."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from edge_monitor.errors import UsageError

from .. import tables as registry
from . import tables as t
from .documents import ActiveDocument, MissionDocument, PartDocument, UseDocument
from .judging import release_problems
from .reading import MANY, Catalogue


def uses(catalogue: Catalogue, *, robot: str = "", digest: str = "", limit: int = MANY) -> list[UseDocument]:
    """Stretches, the newest of a log first: of a robot, or under an envelope or a model."""
    query = _spans().order_by(t.spans.c.log, t.spans.c.first.desc())
    if robot:
        query = query.where(registry.logs.c.robot == robot)
    if digest:
        query = query.where((t.spans.c.envelope == digest) | (t.spans.c.model == digest))
    return _documents(catalogue, list(catalogue.tx.connection.execute(query.limit(limit))))


def active(catalogue: Catalogue, robots: list[str] | None = None) -> list[ActiveDocument]:
    """What is active on each robot (of these; None: on all that are enrolled), by the newest records of its newest log."""
    query = sa.select(registry.robots.c.id).order_by(registry.robots.c.id)
    if robots is not None:
        query = query.where(registry.robots.c.id.in_(robots))
    enrolled = list(catalogue.tx.connection.execute(query).scalars())
    latest = sa.select(t.spans.c.log, sa.func.max(t.spans.c.first).label("first")).group_by(t.spans.c.log).subquery()
    newest = _spans().join(latest, (latest.c.log == t.spans.c.log) & (latest.c.first == t.spans.c.first))
    if robots is not None:
        newest = newest.where(registry.logs.c.robot.in_(robots))
    rows = {row.robot: row for row in catalogue.tx.connection.execute(newest.order_by(registry.logs.c.receipt_s))}
    found = dict(zip(rows, _documents(catalogue, list(rows.values())), strict=True))
    catalogue.preload({digest for use in found.values() for digest in (use["envelope"], use["model"]) if digest})
    return [_active(catalogue, robot, found.get(robot)) for robot in enrolled]


def missions(catalogue: Catalogue, robot: str) -> list[MissionDocument]:
    """A robot's boots, the newest first. Raises ``UsageError`` where the robot is not enrolled."""
    if not catalogue.robot_digest(robot):
        raise UsageError(f"no robot {robot[:64]!r} is enrolled; 'edge-registry robots' lists those that are")
    query = _spans().where(registry.logs.c.robot == robot).order_by(t.spans.c.log.desc(), t.spans.c.first.desc())
    found: dict[tuple[int, str], MissionDocument] = {}
    for row in catalogue.tx.connection.execute(query):
        one = found.get((row.log, row.boot))
        if one is None:
            one = found[row.log, row.boot] = {
                "robot": row.robot, "log": row.origin.rpartition("/")[2], "boot": row.boot, "first": row.first, "last": row.last,
                "first_wall_ns": row.first_wall_ns, "last_wall_ns": row.last_wall_ns, "envelopes": [], "alias": "",
            }  # fmt: skip
        one["first"], one["last"] = min(one["first"], row.first), max(one["last"], row.last)
        one["last_wall_ns"] = max(one["last_wall_ns"], row.last_wall_ns)
        if row.first_wall_ns >= 0:
            one["first_wall_ns"] = (
                row.first_wall_ns if one["first_wall_ns"] < 0 else min(one["first_wall_ns"], row.first_wall_ns)
            )
        if row.envelope and row.envelope not in one["envelopes"]:
            one["envelopes"].append(row.envelope)
    named = {item["about"].get("boot", ""): item["alias"] for item in catalogue.items("mission", limit=MANY)}
    for one in found.values():
        one["alias"] = named.get(one["boot"], "")
    return list(found.values())


def _spans() -> Any:
    query = sa.select(t.spans, registry.logs.c.robot, registry.logs.c.origin)
    return query.join(registry.logs, registry.logs.c.log == t.spans.c.log)


def _documents(catalogue: Catalogue, rows: list[Any]) -> list[UseDocument]:
    known = catalogue.get_many({digest for row in rows for digest in (row.envelope, row.model) if digest})

    def called(digest: str) -> str:
        return known[digest].alias if digest in known else ""

    return [
        {
            "robot": row.robot, "log": row.origin.rpartition("/")[2], "boot": row.boot, "first": row.first, "last": row.last,
            "first_wall_ns": row.first_wall_ns, "last_wall_ns": row.last_wall_ns,
            "envelope": row.envelope, "envelope_alias": called(row.envelope),
            "model": row.model, "model_alias": called(row.model),
            "monitor": _text(row.monitor), "unapproved": bool(row.unapproved),
        }
        for row in rows
    ]  # fmt: skip


def _text(monitor: str) -> str:
    """The monitor's version where the record has a text, else the digest."""
    try:
        text = bytes.fromhex(monitor).decode("ascii")
    except UnicodeDecodeError:
        return monitor
    return text if text.isprintable() and len(text) < 32 else monitor


def _active(catalogue: Catalogue, robot: str, use: UseDocument | None) -> ActiveDocument:
    if use is None:
        return {"robot": robot, "use": None, "parts": [], "verifies": False}
    parts = [_envelope(catalogue, use), _model(catalogue, robot, use)]
    return {"robot": robot, "use": use, "parts": parts, "verifies": all(part["verifies"] for part in parts)}


def _envelope(catalogue: Catalogue, use: UseDocument) -> PartDocument:
    words, item = "", catalogue.get(use["envelope"]) if use["envelope"] else None
    if not use["envelope"]:
        words = "the records name no envelope"
    elif item is None:
        words = "not in the catalogue"
    else:
        approval = catalogue.approval(item)
        if approval["state"] != "approved":
            words = f"{approval['state']}{': ' if approval['reasons'] else ''}{'; '.join(approval['reasons'])}"
        elif use["unapproved"]:
            words = "the robot itself says that it runs unapproved"
    return {
        "part": "envelope", "digest": use["envelope"], "alias": use["envelope_alias"], "verifies": not words, "words": words,
    }  # fmt: skip


def _model(catalogue: Catalogue, robot: str, use: UseDocument) -> PartDocument:
    """A robot whose records name no model runs none that anybody could verify: that is said, and does not count against it."""
    words, verifies, item = "", False, catalogue.get(use["model"]) if use["model"] else None
    if not use["model"]:
        words, verifies = "the records name no model", True
    elif item is None:
        words = "not in the catalogue"
    else:
        promotion, problems = catalogue.promotion(item), release_problems(catalogue, item)
        if promotion["state"] != "promoted" or robot not in promotion["robots"]:
            problems.insert(0, f"not promoted to {robot} ({promotion['state']})")
        words, verifies = "; ".join(problems), not problems
    return {"part": "model", "digest": use["model"], "alias": use["model_alias"], "verifies": verifies, "words": words}
