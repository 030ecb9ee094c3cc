"""Where a thing comes from and what came of it: the edges of statements, walked both ways, from a thing or an event."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import sqlalchemy as sa

from edge_monitor.errors import UsageError
from edge_monitor.journal.records import decode_record

from .. import tables as registry
from . import tables as t
from .documents import EdgeDocument, LineageDocument
from .kinds import FOREIGN
from .reading import Catalogue, Item, _said

MOST_NODES = 500
#: Relations that lead back to what something was made of; the others say what belongs to it.
BACK = ("trained_on", "distilled_from", "derived_from", "uses", "of_suite", "tested_on", *FOREIGN)


@dataclass(slots=True)
class _Walk:
    catalogue: Catalogue
    edges: dict[tuple[str, str, str], EdgeDocument] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    gaps: list[str] = field(default_factory=list)

    def back(self, roots: list[str], *, counting: bool) -> list[str]:
        """Everything that the roots come from, breadth first; ``counting``: over edges that count only."""
        return self._walk(roots, t.edges.c.source, "target", counting, (*BACK, "evaluates", "replaces", "flown_by"))

    def made_of(self, roots: list[str]) -> list[str]:
        """What the roots were made of, over edges that count."""
        return self._walk(roots, t.edges.c.source, "target", True, BACK)

    def forth(self, roots: list[str]) -> list[str]:
        """Everything that came of the roots."""
        return self._walk(roots, t.edges.c.target, "source", False, (*BACK, "evaluates", "flown_by"))

    def _walk(
        self, roots: list[str], column: sa.Column[str], end: str, counting: bool, relations: tuple[str, ...]
    ) -> list[str]:
        found = dict.fromkeys(roots)
        front = deque([roots])
        while front:
            wanted = front.popleft()
            fresh = []
            for edge in self._edges(column, wanted):
                other = edge["target"] if end == "target" else edge["source"]
                if edge["relation"] not in relations or (counting and not edge["counts"]):
                    continue
                self.edges[edge["source"], edge["relation"], edge["target"]] = edge
                if other not in found:
                    if len(found) >= MOST_NODES:
                        self.gaps.append(f"more than {MOST_NODES} things: the rest is left out")
                        return list(found)
                    found[other] = None
                    fresh.append(other)
            if fresh:
                front.append(fresh)
        return list(found)

    def _edges(self, column: sa.Column[str], digests: list[str]) -> list[EdgeDocument]:
        query = (
            sa.select(t.edges.c.source, t.edges.c.relation, t.edges.c.target, t.statements)
            .join(t.statements, t.statements.c.id == t.edges.c.statement)
            .where(column.in_(digests))
            .order_by(t.edges.c.statement, t.edges.c.source, t.edges.c.target)
            .limit(4 * MOST_NODES)
        )
        best: dict[tuple[str, str, str], EdgeDocument] = {}
        for row in self.catalogue.tx.connection.execute(query):
            standing = self.catalogue.standing(_said(row))
            edge: EdgeDocument = {
                "source": row.source, "relation": row.relation, "target": row.target, "statement": row.digest,
                "person": standing.person, "counts": standing.holds,
                "words": "" if standing.holds else f"{standing.word}: {'; '.join(standing.reasons)}",
            }  # fmt: skip
            key = (row.source, row.relation, row.target)
            if key not in best or (edge["counts"] and not best[key]["counts"]):
                best[key] = edge
        return list(best.values())


def lineage(catalogue: Catalogue, item: Item) -> LineageDocument:
    """A thing's lineage, both ways."""
    walk = _Walk(catalogue)
    digests = [*walk.back([item.digest], counting=False), *walk.forth([item.digest])]
    return _document(catalogue, walk, item.digest, digests, walk.made_of([item.digest]), _promoted(catalogue, item))


def of_event(catalogue: Catalogue, log: int, sequence: int) -> LineageDocument:
    """From a record back to the data that its model was trained on: by the digests in the record, and where it names no model,
    by the promotions to its robot that were in force then.

    Raises ``UsageError`` where there is no such record.
    """
    where = (registry.events.c.log == log, registry.events.c.seq == sequence)
    query = sa.select(
        registry.events.c.record, registry.events.c.wall_ns, registry.logs.c.robot, registry.logs.c.receipt_s
    )
    row = catalogue.tx.connection.execute(
        query.join(registry.logs, registry.logs.c.log == registry.events.c.log).where(*where)
    ).first()
    if row is None:
        raise UsageError(f"log {log} has no record {sequence}")
    digests = decode_record(bytes(row.record)).digests
    at = row.wall_ns if row.wall_ns >= 0 else row.receipt_s * 1_000_000_000
    walk = _Walk(catalogue)
    event = f"{row.robot}/{sequence}"
    roots = []
    for part, digest in (("envelope", digests.envelope.hex()), ("model", digests.model.hex())):
        if digest:
            walk.edges[event, part, digest] = _own(event, part, digest, row.robot)
            roots.append(digest)
        else:
            walk.gaps.append(f"the record names no {part}")
    if not digests.model:
        for item in promoted_to(catalogue, row.robot, at):
            promotion = catalogue.promotion(item, at)
            walk.edges[event, "promoted", item.digest] = {
                "source": event, "relation": "promoted", "target": item.digest, "statement": promotion["statement"],
                "person": promotion["person"], "counts": True, "words": f"promoted to {row.robot} at that time",
            }  # fmt: skip
            roots.append(item.digest)
    everything = walk.back(roots, counting=False)
    return _document(catalogue, walk, event, everything, walk.made_of(roots), [])


def promoted_to(catalogue: Catalogue, robot: str, at_ns: int) -> list[Item]:
    """What was promoted to a robot at a moment."""
    from .statements import PROMOTION

    query = (
        sa.select(t.subjects.c.digest)
        .join(t.statements, t.statements.c.id == t.subjects.c.statement)
        .where(t.statements.c.type == PROMOTION)
        .distinct()
    )
    items = catalogue.get_many(list(catalogue.tx.connection.execute(query).scalars()))
    found = []
    for item in items.values():
        promotion = catalogue.promotion(item, at_ns)
        if promotion["state"] == "promoted" and robot in promotion["robots"]:
            found.append(item)
    return found


def _promoted(catalogue: Catalogue, item: Item) -> list[EdgeDocument]:
    """The edge to each robot that a thing is promoted to."""
    promotion = catalogue.promotion(item)
    found: list[EdgeDocument] = []
    for robot in promotion["robots"]:
        found.append(
            {
                "source": item.digest, "relation": "promoted_to", "target": robot, "statement": promotion["statement"],
                "person": promotion["person"], "counts": promotion["state"] == "promoted",
                "words": "" if promotion["state"] == "promoted" else promotion["state"],
            }
        )  # fmt: skip
    return found


def _own(event: str, part: str, digest: str, robot: str) -> EdgeDocument:
    return {
        "source": event, "relation": part, "target": digest, "statement": "", "person": robot, "counts": True,
        "words": "named by the record, which the robot signed",
    }  # fmt: skip


def _document(
    catalogue: Catalogue, walk: _Walk, root: str, digests: list[str], made_of: list[str], more: list[EdgeDocument]
) -> LineageDocument:
    items = catalogue.get_many(digests)
    edges = [*walk.edges.values(), *more]
    data = [digest for digest in made_of if (item := items.get(digest)) is not None and item.kind == "dataset"]
    gaps = list(walk.gaps)
    for digest in dict.fromkeys(digests):
        item = items.get(digest)
        if item is None:
            gaps.append(f"sha256:{digest[:16]}… is not in the catalogue")
        elif item.kind == "model" and not any(
            edge["source"] == digest and edge["counts"] and edge["relation"] == "trained_on" for edge in edges
        ):
            gaps.append(f"nobody who may says what {item.alias} was trained on")
    return {
        "root": root,
        "nodes": [
            {
                "digest": digest, "kind": items[digest].kind if digest in items else "",
                "alias": items[digest].alias if digest in items else "", "known": digest in items,
            }
            for digest in dict.fromkeys(digests)
        ],
        "edges": edges,
        "training_data": data,
        "gaps": gaps,
    }  # fmt: skip
