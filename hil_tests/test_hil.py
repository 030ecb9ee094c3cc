"""Fault injection against a running monitor: a nominal run that raises nothing, then one fault after the other."""

from __future__ import annotations

import time

import pytest
from conftest import Bench
from deadlines import RECOVERY_MS, TABLE, Scenario
from report import Report
from vehicle import boottime


def _name(scenario: Scenario) -> str:
    return f"{scenario.number:02}-{scenario.fault}-{scenario.event.removeprefix('check.')}"


def test_00_nominal(bench: Bench, report: Report, request: pytest.FixtureRequest) -> None:
    """A healthy vehicle raises nothing: no event tells of a fault, and the consumer is never told NO_GO."""
    seconds = request.config.getoption("--nominal-seconds")
    time.sleep(2.0)  # windows of 1 s fill
    begun = boottime()
    time.sleep(seconds)
    wrong = bench.watch.wrong(begun)
    report.nominal = (
        f"{seconds:g} s, {'nothing raised' if not wrong else f'{len(wrong)} raised: ' + ', '.join(wrong[:5])}"
    )
    assert not wrong


@pytest.mark.parametrize("scenario", TABLE, ids=_name)
def test_fault(scenario: Scenario, bench: Bench, report: Report) -> None:
    """The fault is told, and the consumer is NO_GO, within the deadline; no other sensor is blamed; afterwards it is GO again."""
    watch, vehicle = bench.watch, bench.vehicle
    assert watch.until(True, RECOVERY_MS / 1000), f"not GO before the fault: {watch.wrong(0)[-5:]}"
    time.sleep(0.5)
    injected = vehicle.inject(scenario.fault)
    patience = scenario.deadline_ms / 1000 + 1
    told = watch.event(scenario.event, scenario.subject, injected, patience)
    watch.until(False, patience if told is None else 0.3)
    no_go = watch.no_go_since(injected)
    healed = vehicle.healthy()
    recovered = watch.until(True, RECOVERY_MS / 1000)
    again = watch.answers[-1][0] if recovered else None
    times = [None if t is None else (t - injected) / 1e6 for t in (no_go, told.t if told else None)]
    report.add(scenario, *times, None if again is None else max(0.0, (again - healed) / 1e6))
    blamed = {e.subject for e in watch.events[:] if injected <= e.t < healed and e.type == "check.fail"}
    assert told is not None, f"{scenario.event} {scenario.subject} did not come: {watch.wrong(injected)[:5]}"
    assert no_go is not None, "the consumer was never NO_GO"
    assert max(times) <= scenario.deadline_ms, f"{times} ms, deadline {scenario.deadline_ms} ms: {scenario.why}"
    assert blamed <= {scenario.subject, *scenario.blames}, f"blamed: {sorted(blamed)}"
    assert recovered, f"not GO {RECOVERY_MS} ms after the fault: {watch.wrong(healed)[-5:]}"
