"""Coverage for programs: endpoints beside those of the catalogue (`catalogue/interface.py`)."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta, Struct

from edge_monitor.errors import UsageError
from edge_monitor.poisson import rate

from ..catalogue.interface import Digest, Endpoint, Nothing
from ..catalogue.reading import Catalogue
from .coverage import HOUR_NS, coverage, not_registered

MANY = 1000  #: envelopes of an answer


class CountDocument(TypedDict):
    """Events, their rate an hour, and its exact one-sided bounds at 95 %; null where no time was recorded."""

    count: int
    per_hour: float | None
    lower: float | None
    upper: float | None


class CellDocument(TypedDict):
    """A cell. ``conditions``: a bin by axis, of the axes of the domain, or else of those known; ``status``: see docs/odd.md."""

    conditions: dict[str, str]
    status: str
    exposure_ns: int
    robots: int
    limits_passed: CountDocument
    drifts: CountDocument


class CoverageDocument(TypedDict):
    """What an envelope declares, and what was seen of it. ``coverage``: the share of declared cells that are shown, null where
    nothing is declared; ``untold_ns``: time of which no record tells the conditions; ``never_seen``: declared cells, in words."""

    envelope: str
    alias: str
    known: bool
    declared_by: str
    doubts: list[str]
    domain: dict[str, list[str]]
    measured: list[str]
    declared_cells: int
    coverage: float | None
    runs: int
    robots: int
    told_ns: int
    untold_ns: int
    cells: list[CellDocument]
    never_seen: list[str]


class Wanted(Struct, forbid_unknown_fields=True):
    """An envelope; ``robot``: of one robot only."""

    digest: Digest
    robot: Annotated[str, Meta(max_length=256)] = ""


def _envelopes(found: Catalogue, _: Nothing) -> list[str]:
    """Digests of envelopes: those registered, the newest first, and others that robots ran under."""
    registered = [one["digest"] for one in found.items("envelope", limit=MANY)]
    return [*registered, *not_registered(found.tx, MANY)]


def _coverage(found: Catalogue, one: Wanted) -> CoverageDocument:
    """What an envelope declares of the conditions, and what robots recorded in each cell."""
    (it,) = coverage(found, [one.digest], robot=one.robot)
    if not it.is_here(found):
        raise UsageError("no envelope of this digest is registered, and no robot ran under one")
    return {
        "envelope": it.envelope, "alias": it.alias, "known": it.declared.known, "declared_by": it.declared.by,
        "doubts": list(it.declared.doubts), "domain": {axis: list(bins) for axis, bins in it.declared.domain.items()},
        "measured": list(it.declared.measured), "declared_cells": it.declared.cells, "coverage": it.share, "runs": it.seen.runs,
        "robots": len(it.seen.robots), "told_ns": it.seen.told_ns, "untold_ns": it.seen.untold.ns,
        "cells": [
            {
                "conditions": each.bins, "status": each.status, "exposure_ns": each.tally.ns, "robots": len(each.tally.robots),
                "limits_passed": counted(each.tally.breaches, each.tally.ns), "drifts": counted(each.tally.drifts, each.tally.ns),
            }
            for each in it.cells
        ],
        "never_seen": it.never(),
    }  # fmt: skip


def counted(count: int, ns: int) -> CountDocument:
    """Events in a time, with what they prove."""
    told = rate(count, ns / HOUR_NS)
    return {"count": count, "per_hour": told["per_hour"], "lower": told["lower"], "upper": told["upper"]}


ENDPOINTS = (
    Endpoint("/coverage", "envelopes", Nothing, list[str], _envelopes),
    Endpoint("/coverage/{digest}", "coverage", Wanted, CoverageDocument, _coverage),
)
