"""Episodes of drift as events: when they begin and end, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_monitor import envelope as envelopes
from edge_monitor.core.samples import FLAG_END, SAMPLE, UNSEEN
from edge_monitor.decider import Decider
from edge_monitor.events import Event
from edge_monitor.tape.recorder import Words
from edge_monitor.vocabulary import constants
from edge_replay.calibrate import Request, calibrate
from edge_replay.series import Series

PERIOD = 10_000_000
ENVELOPE = """
edge_monitor: 1
envelope: {id: drifts, version: 1, vehicle: bench}
signals:
  x: {topic: /x, field: x, unit: m, max_age: never}
checks:
  shifted: {kind: drift, signal: x, detector: focus, reference: x.npz, severity: critical, hazard: H9}
  free: {kind: drift, signal: x, detector: adwin}
"""


@pytest.fixture(scope="module")
def envelope(tmp_path_factory: pytest.TempPathFactory) -> envelopes.Envelope:
    """Two drift checks of one signal, one of them with a reference of independent noise at 100 Hz."""
    folder = tmp_path_factory.mktemp("drift")
    rng = np.random.default_rng(5)
    series = [
        Series(f"{n}.mcap", f"{n}" * 64, np.arange(30_000) * PERIOD, rng.normal(size=30_000), None) for n in range(3)
    ]
    calibrate(series, Request("x", 360_000.0, unit="m")).save(folder / "x.npz")
    (folder / "e.yaml").write_text(ENVELOPE)
    return envelopes.load(folder / "e.yaml")


def items(values: np.ndarray, start: int = 0) -> np.ndarray:
    """Values at 100 Hz, one a message."""
    rows = np.zeros(len(values), SAMPLE)
    rows["t"] = start + np.arange(len(values)) * PERIOD
    rows["flags"] = FLAG_END
    rows["value"] = values
    return rows


def run(envelope: envelopes.Envelope, rows: np.ndarray, cuts: list[int], resume: bool = False) -> Iterator[Event]:
    """Events of a stream, cut into calls at ``cuts``; ``resume``: each call in a new decider, from the last one's snapshot."""
    decider = Decider(envelope, Words(constants(envelope)))
    for part in np.split(rows, cuts):
        if resume:
            state = decider.snapshot()
            decider = Decider(envelope, Words(constants(envelope)))
            decider.restore(state)
        yield from decider.take(part)
    assert decider.now != UNSEEN


def test_an_episode_has_one_beginning_one_end_and_a_date(envelope: envelopes.Envelope) -> None:
    """A shift is detected once, dated to within a few blocks by FOCuS, and resolved once the signal is as before."""
    rng = np.random.default_rng(6)
    values = rng.normal(size=60_000)
    values[20_000:24_000] += 3.0
    values[21_000] = np.nan  # unknown within the episode ends nothing
    rows = items(values)
    found = [event for event in run(envelope, rows, []) if event.type.startswith("drift.")]
    ours = [event for event in found if event.subject == "shifted"]
    assert [event.type for event in ours] == ["drift.detected", "drift.resolved"]
    detected = ours[0]
    begun = 20_000 * PERIOD
    block = envelope.models["shifted"].value_ns  # type: ignore[attr-defined]
    assert abs(detected.payload["onset_ns"] - begun) <= 3 * block < 10**10
    assert begun < detected.t_effective < begun + 20 * block
    assert (detected.severity, detected.hazard, detected.payload["detector"]) == ("critical", "H9", "focus")
    assert detected.payload["calibrated"] is False and "onset_ns" not in ours[1].payload
    assert any(event.subject == "free" and "onset_ns" not in event.payload for event in found)
    for cuts in ([1, 7, 20_050, 20_051, 24_000], list(range(0, 60_000, 997))):
        assert [e for e in run(envelope, rows, cuts, resume=True) if e.type.startswith("drift.")] == found


def test_the_matrix_counts_episodes(envelope: envelopes.Envelope, tmp_path: Path) -> None:
    """What the coverage matrix counts as a drift episode is the event that is sent."""
    from edge_replay.matrix import COUNTED

    found = {event.type for event in run(envelope, items(np.r_[np.zeros(3000), np.full(500, 50.0)]), [])}
    assert set(COUNTED) & found >= {"drift.detected", "check.fail"}
