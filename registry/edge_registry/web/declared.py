"""What an envelope declares of weather, light, vibration and occlusion: by its registered file, else by the word of robots that
ran under it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import sqlalchemy as sa

from edge_monitor.envelope.document import Document
from edge_monitor.errors import EdgeMonitorError

from .. import tables as t
from ..catalogue.reading import Catalogue
from . import tables as w
from .conditions import AXES
from .shown import count
from .vocabulary import in_order

#: The signal of the section ``odd`` that an axis needs.
INPUTS = {"weather": "rain", "light": "illuminance", "vibration": "vibration", "occlusion": "occlusion"}
MOST_DOMAINS = 8  #: different ones that are looked at
#: What is measured, and the allowed bins of each axis of the domain.
Said = tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]


@dataclass(frozen=True, slots=True)
class Declared:
    """``domain``: allowed bins by axis; an axis that is not there is no part of it. ``known``: False where nobody here knows what
    is declared. ``by``: on whose word, and ``doubts`` about it, in words."""

    known: bool = False
    domain: dict[str, tuple[str, ...]] = field(default_factory=dict)
    measured: tuple[str, ...] = ()
    by: str = "not known here: the envelope's file is not registered, and no record tells"
    doubts: tuple[str, ...] = ()

    def lacking(self) -> str:
        """Why no cell is declared."""
        return "no domain is declared" if self.known else "what is declared is not known here"

    @property
    def cells(self) -> int:
        """How many cells are declared; 0 where no domain is."""
        if not self.domain:
            return 0
        count = 1
        for bins in self.domain.values():
            count *= len(bins)
        return count


def declared(catalogue: Catalogue, envelope: str) -> Declared:
    """What an envelope declares. ``catalogue``: of a store that has the pages' tables."""
    said = _by_robots(catalogue, envelope)
    item = catalogue.get(envelope)
    data = catalogue.file(item) if item is not None else None
    if item is not None and data is not None and catalogue.document(item)["standing"]["word"] == "verified":
        try:
            mine = of_file(data)
        except EdgeMonitorError:
            return Declared(by="not known here: the registered file can't be read")
        doubts = (
            f"{names} recorded another domain than the registered file has"
            for one, names in said.items()
            if one != mine
        )
        return Declared(True, dict(mine[1]), mine[0], "the registered file", tuple(doubts))
    if len(said) == 1:
        (((measured, domain), names),) = said.items()
        return Declared(
            True, dict(domain), measured, f"the records of {names}; no file of it that counts is registered"
        )
    if said:
        doubts = (f"{names} recorded one of {len(said)} different domains" for names in said.values())
        return Declared(
            by="not known here: robots disagree, and no file of it that counts is registered", doubts=tuple(doubts)
        )
    return Declared()


@lru_cache(64)
def of_file(data: bytes) -> Said:
    """What an envelope's file says. Raises ``EdgeMonitorError`` where it can't be read."""
    odd = Document(data, "the registered file").data.get("odd")
    odd = odd if isinstance(odd, Mapping) else {}
    return tuple(axis for axis in AXES if odd.get(INPUTS[axis])), _domain(odd.get("domain"))


def _domain(said: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Axes with their allowed bins, both in the order that they always have."""
    found = said if isinstance(said, Mapping) else {}
    listed = ((axis, found.get(axis)) for axis in AXES)
    return tuple(
        (axis, in_order(axis, map(str, bins))) for axis, bins in listed if isinstance(bins, (list, tuple)) and bins
    )


def _by_robots(catalogue: Catalogue, envelope: str) -> dict[Said, str]:
    """What robots say that ran under it: by what they say, which ones, in words."""
    c, robot = w.domains.c, t.logs.c.robot
    columns = (c.measured, c.domain, sa.func.min(robot).label("one"), sa.func.count(robot.distinct()).label("robots"))
    query = sa.select(*columns).join(t.logs, t.logs.c.log == c.log).where(c.envelope == envelope)
    rows = catalogue.tx.connection.execute(query.group_by(c.measured, c.domain).order_by("one").limit(MOST_DOMAINS))
    found: dict[Said, str] = {}
    for row in rows:
        key = (tuple(json.loads(row.measured)), _domain(json.loads(row.domain)))
        others = f" and {count(row.robots - 1, 'more robot')}" if row.robots > 1 else ""
        found[key] = f"{found[key]}, {row.one}{others}" if key in found else f"{row.one}{others}"
    return found
