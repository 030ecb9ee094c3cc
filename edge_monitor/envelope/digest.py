"""What an envelope *says*, as a hash: the same for every way of writing it down, another for every change of meaning.

The content is the validated models as plain data: durations in ns, rates in Hz, limits as float64 without their unit
(it must be the signal's), ``max_age`` of ``defaults`` given to each signal that has none, profiles as the whole checks
that they lead to. Fields at their default value are left out, so that a later program with new fields finds the same
digest; the defaults themselves are part of format 1. Mappings are sorted by key (code points), lists keep their order.
The digest is SHA-256 over ``edge-monitor envelope 1\\n`` and the content's MessagePack (shortest integers, float64 as
0xcb, text as UTF-8).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .black_box import BlackBox
from .check_model import CheckModel
from .domain import Odd
from .fields import Model
from .hard_cases import HardCases
from .models import Authority, Defaults, Gate, Handover, Header, Mission, SignalModel
from .sensors import SensorModel

DOMAIN = b"edge-monitor envelope 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """All that a file says; ``profiles`` holds the checks that each profile changes, as they are under it."""

    header: Header
    defaults: Defaults
    signals: Mapping[str, SignalModel]
    checks: Mapping[str, CheckModel]
    profiles: Mapping[str, Mapping[str, CheckModel]]
    gates: Mapping[str, Gate]
    authority: Authority | None
    mission: Mission
    sensors: Mapping[str, SensorModel] = field(default_factory=dict)
    odd: Odd | None = None
    hard_cases: HardCases | None = None
    handover: Handover | None = None
    black_box: BlackBox | None = None

    def digest(self) -> str:
        """Hex SHA-256; see the module's text."""
        content = {
            "envelope": _plain(self.header),
            "signals": {name: {"max_age": self.defaults.max_age, **_plain(one)} for name, one in self.signals.items()},
            "checks": _plains(self.checks),
            "profiles": {risk: _plains(changed) for risk, changed in self.profiles.items()},
            "gates": _plains(self.gates),
            "authority": _plain(self.authority) if self.authority else None,
            "risk": self.mission.risk,
        }
        # Sections that came later are left out where they are not used, as fields are.
        if self.sensors:
            content["sensors"] = _plains(self.sensors)
        if self.odd is not None:
            content["odd"] = _plain(self.odd)
        if self.hard_cases is not None:
            content["hard_cases"] = _plain(self.hard_cases)
        if self.handover is not None:
            content["handover"] = _plain(self.handover)
        if self.black_box is not None:
            content["black_box"] = _plain(self.black_box)
        return hashlib.sha256(DOMAIN + msgspec.msgpack.encode(content, order="sorted")).hexdigest()


def _plain(model: Model) -> dict[str, Any]:
    return model.model_dump(exclude_defaults=True)


def _plains(models: Mapping[str, Model]) -> dict[str, dict[str, Any]]:
    return {name: _plain(model) for name, model in models.items()}
