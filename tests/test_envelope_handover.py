"""What an envelope says of handovers and transition demands."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from test_envelope_errors import only_problem

from edge_monitor.core.decision_specs import HandoverSpec
from edge_monitor.envelope import loads

S = 1_000_000_000

BASE = """\
edge_monitor: 1
envelope: {id: test, version: 1, vehicle: rover}
signals:
  speed: {topic: /odom, field: v, unit: m/s, max_age: 1 s}
  mode: {topic: /mode, field: m, max_age: 2 s, values: {MANUAL: 0, AUTO: 1}}
  armed: {topic: /mode, field: a, max_age: 3 s}
  failsafe: {topic: /mode, field: f, max_age: 1 s}
checks:
  slow: {kind: bounds, signal: speed, max: 3}
"""
AUTHORITY = """\
authority: {mode: mode, map: {human: [MANUAL], autonomy: [AUTO]}}
"""
GATES = """\
gates:
  continue: {require: all, criteria: [slow], on_no_go: transition_demand, then: {after: 12 s, do: mrm}}
  resume: {require: all, criteria: [slow], go_after: 1 s}
"""
HANDOVER = """\
handover:
  {accept_within: 8 s, complete_within: 4 s, attest_within: 2 min, gates: [resume], mrm: {confirm_within: 6 s}, lost_after: 1 s}
"""


def test_all_of_it_is_lowered() -> None:
    """Times in ns, the gates by name, and what can be seen of command from the signals that authority has."""
    envelope = loads((BASE + AUTHORITY + GATES + HANDOVER).encode())
    assert envelope.handover == HandoverSpec(
        accept_within=8 * S, complete_within=4 * S, attest_within=120 * S, gates=("resume",), mrm_within=6 * S,
        lost_after=1 * S, observed_within=2 * S, sees_none=False, sees_both=False,
    )  # fmt: skip
    moving, resume = envelope.gates
    assert (moving.name, moving.demand, moving.mrm_after) == ("continue", True, 12 * S)
    assert (resume.demand, resume.mrm_after) == (False, None)


def test_what_authority_can_tell() -> None:
    """An arming signal shows when nobody commands, a failsafe signal tells who decides from who acts; the oldest counts."""
    authority = AUTHORITY.replace("mode: mode,", "mode: mode, active: {signal: armed, value: 1}, failsafe: failsafe,")
    spec = loads((BASE + authority + "handover: {}\n").encode()).handover
    assert spec is not None
    assert (spec.observed_within, spec.sees_none, spec.sees_both) == (3 * S, True, True)
    assert (spec.accept_within, spec.complete_within, spec.attest_within) == (10 * S, 10 * S, 300 * S)
    assert (spec.mrm_within, spec.lost_after, spec.gates) == (5 * S, 3 * S, ())
    ageless = loads((BASE.replace("max_age: 2 s", "max_age: never") + AUTHORITY + "handover: {}\n").encode()).handover
    assert ageless is not None
    assert ageless.observed_within is None


def test_without_the_section_nothing_is_handed_over() -> None:
    """Authority alone reports who commands."""
    assert loads((BASE + AUTHORITY).encode()).handover is None


@pytest.mark.parametrize(("text", "expected"), [
    (BASE + AUTHORITY + GATES.replace("transition", "▸transition"),
     "gates.continue.on_no_go: needs a section `handover`, which says how long people have to answer"),
    (BASE + AUTHORITY + GATES.replace("on_no_go: transition_demand, then: ", "then: ▸") + HANDOVER,
     "gates.continue.then: needs `on_no_go: transition_demand`: it is what follows one"),
    (BASE + AUTHORITY + GATES.replace("do: mrm", "do: ▸stop") + HANDOVER, "gates.continue.then.do: expected `mrm`"),
    (BASE + AUTHORITY + GATES.replace("then: {after: 12 s, do: mrm}", "▸then: {do: mrm}") + HANDOVER,
     "gates.continue.then.after: is required"),
    (BASE + AUTHORITY + GATES.replace("transition_demand", "▸demand") + HANDOVER,
     "gates.continue.on_no_go: expected `transition_demand`"),
    (BASE + AUTHORITY + GATES + HANDOVER.replace("[resume]", "[▸resum]"),
     "handover.gates[0]: no gate is named `resum` (did you mean `resume`?)"),
    (BASE + AUTHORITY + GATES + HANDOVER.replace("[resume]", "[resume, ▸resume]"),
     "handover.gates[1]: `resume` is given twice"),
    (BASE + GATES + HANDOVER.replace("{accept", "▸{accept"),
     "handover: needs a section `authority`: a handover is completed when it is observed"),
    (BASE + AUTHORITY + GATES + HANDOVER.replace("8 s", "▸8"), "handover.accept_within: expected a duration"),
    (BASE + AUTHORITY + GATES + HANDOVER.replace("8 s", "▸0 s"), "handover.accept_within: "),
    (BASE + AUTHORITY + GATES + HANDOVER.replace("accept_within", "▸acept_within"),
     "handover.acept_within: unknown field (did you mean `accept_within`?)"),
    (BASE + AUTHORITY + GATES + HANDOVER.replace("confirm_within: 6 s", "▸within: 6 s"),
     "handover.mrm.within: unknown field"),
])  # fmt: skip
def test_mistakes_are_told_at_their_place(text: str, expected: str) -> None:
    """Each has file, line, column, field and what to write."""
    only_problem(text, expected)


PLAIN: dict[str, Any] = {
    "edge_monitor": 1,
    "envelope": {"id": "t", "version": 1, "vehicle": "rover"},
    "signals": {"speed": {"topic": "/odom", "field": "v", "max_age": "1 s"},
                "mode": {"topic": "/mode", "max_age": "2 s", "field": "m", "values": {"MANUAL": 0, "AUTO": 1}}},
    "checks": {"slow": {"kind": "bounds", "signal": "speed", "max": 3}},
    "authority": {"mode": "mode", "map": {"human": ["MANUAL"], "autonomy": ["AUTO"]}},
    "gates": {"go": {"require": "all", "criteria": ["slow"]}},
}  # fmt: skip


def digest(**more: Any) -> str:
    """The digest of the envelope above with other sections or other fields of its gate."""
    data = copy.deepcopy(PLAIN)
    data["gates"]["go"] |= more.pop("gate", {})
    return loads(json.dumps(data | more).encode()).digest


def test_every_new_value_matters_and_no_default_does() -> None:
    """Each field changes the digest; one that is written with its default value does not."""
    demand = {"on_no_go": "transition_demand"}
    digests = [
        digest(),
        digest(handover={}),
        *(
            digest(handover={field: "7 s"})
            for field in ("accept_within", "complete_within", "attest_within", "lost_after")
        ),
        digest(handover={"gates": ["go"]}),
        digest(handover={"mrm": {"confirm_within": "7 s"}}),
        digest(handover={}, gate=demand),
        digest(handover={}, gate=demand | {"then": {"after": "7 s", "do": "mrm"}}),
        digest(handover={}, gate=demand | {"then": {"after": "8 s", "do": "mrm"}}),
    ]
    assert len(set(digests)) == len(digests)
    written = {"accept_within": "10 s", "complete_within": "10 s", "attest_within": "5 min", "gates": [],
               "mrm": {"confirm_within": "5 s"}, "lost_after": "3 s"}  # fmt: skip
    assert digest(handover=written) == digest(handover={})


def test_envelopes_without_it_keep_their_digests() -> None:
    """The digest of a file that uses nothing new is the one that it had before there was anything new."""
    assert digest() == "f4d7ee6a1f6025d99a0dfd72f07f1cd1ccdf895911b0668cc0088dd3e76d11f6"
