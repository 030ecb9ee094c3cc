"""What is not as it should be: things that robots use and nobody knows, approved or promoted, and approvals of one's own work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from edge_monitor.utc import utc_text

from .. import tables as registry
from ..store import Transaction
from . import tables as t
from .kinds import alias
from .reading import Catalogue, Item
from .statements import APPROVAL, PROMOTION

#: What opens by itself, and what it says.
EXCEPTIONS = {
    "unknown_digest": "a robot uses what the catalogue does not have",
    "unapproved_envelope": "a robot uses an envelope that nobody who may has approved",
    "expired_approval": "a robot uses an envelope whose approval was over",
    "approval_after_use": "an envelope was approved after a robot had used it",
    "self_approval": "somebody approved, or promoted, their own work",
    "unreleased_model": "a robot uses a model that was not promoted to it, or not as it must be",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """An exception that should be open. ``log`` and ``sequence``: where it shows first, -1 where no record is meant."""

    kind: str
    robot: str
    subject: str
    words: str
    log: int = -1
    sequence: int = -1
    owner: str = ""
    seen_s: int = 0  #: when the registry saw it first; 0: no record shows it


def read_spans(tx: Transaction) -> Sequence[Any]:
    """All stretches of all logs: rows of ``spans`` with their robot, and when the newest receipt over their log was given."""
    query = sa.select(t.spans, registry.logs.c.robot, registry.logs.c.receipt_s)
    query = query.join(registry.logs, registry.logs.c.log == t.spans.c.log).order_by(t.spans.c.log, t.spans.c.first)
    return tx.connection.execute(query).all()


def judge(catalogue: Catalogue, spans: Sequence[Any], *, everything: bool = True) -> Iterator[Finding]:
    """What is not as it should be in spans, by what is known at the catalogue's moment; the same thing may come several times.

    ``everything``: look also at things that no robot uses.
    """
    items = catalogue.get_many({digest for span in spans for digest in (span.envelope, span.model) if digest})
    for span in spans:
        if span.envelope:
            yield from _of_envelope(catalogue, span, items.get(span.envelope))
        if span.model:
            yield from _of_model(catalogue, span, items.get(span.model))
    if everything:
        yield from _own_work(catalogue)


def release_problems(catalogue: Catalogue, item: Item, at_ns: int | None = None) -> list[str]:
    """Why a thing may not be promoted, or why its promotion does not stand, at a moment (None: now)."""
    found = []
    builder = catalogue.builder(item)
    if not builder:
        found.append(f"{item.alias} is not registered by a signature that counts")
    approval = catalogue.approval(item, at_ns)
    if approval["state"] != "approved":
        why = f" ({'; '.join(approval['reasons'])})" if approval["reasons"] else ""
        found.append(
            f"{item.alias} is {approval['state']}{why}: another person approves it with 'edge-registry approve'"
        )
    results = [word for _, standing, word in catalogue.results(item) if standing.holds]
    if item.kind == "model" and not any(word in ("passed", "pass") for word in results):
        found.append(f"no test of {item.alias} that counts has passed: bring a test result, or register a run")
    if any(word in ("failed", "fail") for word in results[-1:]):
        found.append(f"the newest test of {item.alias} failed")
    return found


def _of_envelope(catalogue: Catalogue, span: Any, item: Item | None) -> Iterator[Finding]:
    def found(kind: str, words: str) -> Finding:
        owner = item.owner if item is not None else ""
        return Finding(kind, span.robot, span.envelope, words, span.log, span.first, owner, span.seen_s)

    if item is None:
        yield found(
            "unknown_digest", f"{span.robot} runs under envelope sha256:{span.envelope[:16]}…, which is not known here"
        )
        return
    first, last = _times(span)
    said = f" (at {utc_text(first)} by {'its clock' if span.first_wall_ns >= 0 else 'the receipt'})"
    at_first, at_last = catalogue.approval(item, first), catalogue.approval(item, last)
    if "self_approval" in (*at_first["codes"], *at_last["codes"]):
        yield found(
            "self_approval", f"{item.alias} was approved by who proposed it, and {span.robot} runs under it{said}"
        )
    elif at_first["state"] == "approved" and at_first["time_ns"] > first:
        yield found("approval_after_use", _late(item, at_first["time_ns"], span.robot, first))
    elif at_first["codes"] == ["clock"] or (at_first["state"] != "approved" and _later(catalogue, item, first)):
        yield found("approval_after_use", _late(item, catalogue.approval(item)["time_ns"], span.robot, first))
    elif "expired" in (at_first["state"], at_last["state"]):
        until = max(at_first["expires_ns"], at_last["expires_ns"])
        yield found("expired_approval", f"{span.robot} runs under {item.alias}, approved until {utc_text(until)}{said}")
    elif at_first["state"] != "approved":
        why = f": {'; '.join(at_first['reasons'])}" if at_first["reasons"] else ""
        yield found(
            "unapproved_envelope", f"{span.robot} runs under {item.alias}, which is {at_first['state']}{why}{said}"
        )
    if span.unapproved:
        yield found("unapproved_envelope", f"{span.robot} says itself that it runs under {item.alias} unapproved{said}")


def _later(catalogue: Catalogue, item: Item, first: int) -> bool:
    """Whether it was not approved at a moment, and is now, by an approval that was given after it."""
    now = catalogue.approval(item)
    return now["state"] == "approved" and now["time_ns"] > first


def _late(item: Item, approved: int, robot: str, used: int) -> str:
    return f"{item.alias} was approved at {utc_text(approved)}, and {robot} ran under it from {utc_text(used)} on"


def _of_model(catalogue: Catalogue, span: Any, item: Item | None) -> Iterator[Finding]:
    if item is None:
        words = f"{span.robot} runs model sha256:{span.model[:16]}…, which is not known here"
        yield Finding("unknown_digest", span.robot, span.model, words, span.log, span.first, seen_s=span.seen_s)
        return
    first, _ = _times(span)
    promotion = catalogue.promotion(item, first)
    problems = release_problems(catalogue, item, first)
    if promotion["state"] != "promoted" or span.robot not in promotion["robots"]:
        problems.insert(0, f"it was not promoted to {span.robot} ({promotion['state']})")
    if problems:
        words = f"{span.robot} runs {item.alias}: {'; '.join(problems)}"
        yield Finding("unreleased_model", span.robot, span.model, words, span.log, span.first, item.owner, span.seen_s)


def _own_work(catalogue: Catalogue) -> Iterator[Finding]:
    """Approvals and promotions of one's own work that somebody brought here, whether or not a robot uses the thing."""
    query = (
        sa.select(t.items)
        .join(t.subjects, t.subjects.c.digest == t.items.c.digest)
        .join(t.statements, t.statements.c.id == t.subjects.c.statement)
        .where(t.statements.c.type.in_((APPROVAL, PROMOTION)) | (t.statements.c.form == "approval"))
        .distinct()
    )
    for row in catalogue.tx.connection.execute(query).all():
        item = catalogue.get(row.digest)
        assert item is not None
        for decided in (catalogue.approval(item), catalogue.promotion(item)):
            if "self_approval" in decided["codes"]:
                words = f"{alias(item.kind, item.name, item.version)}: {'; '.join(decided['reasons'])}"
                yield Finding("self_approval", "", item.digest, words, owner="")


def _times(span: Any) -> tuple[int, int]:
    """When a span began and ended, ns: by the robot's clock, else by the newest receipt."""
    receipt = span.receipt_s * 1_000_000_000
    first = span.first_wall_ns if span.first_wall_ns >= 0 else receipt
    return first, span.last_wall_ns if span.last_wall_ns >= 0 else receipt
