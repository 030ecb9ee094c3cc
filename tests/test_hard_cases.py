"""Hard cases from recordings: references, ranking against a plain sort, event time, snapshots, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edge_monitor import baselines
from edge_monitor import envelope as envelopes
from edge_monitor.core.messages import Batch
from edge_monitor.core.samples import TransitionKind
from edge_monitor.envelope import EnvelopeError
from edge_monitor.events import Event
from edge_monitor.hard_cases import HardCaseMiner
from edge_monitor.runtime import Monitor
from edge_replay import readers
from edge_replay.cli import group

PERIOD = 600_000_000_000
SECOND = 1_000_000_000
ENVELOPE = """edge_monitor: 1
envelope: {id: miner, version: 1, vehicle: rover}
defaults: {max_age: 5 s}
signals:
  conf: {topic: /detector, field: conf}
  entropy: {topic: /detector, field: entropy}
  doubt: {expr: entropy - conf}
  mode: {topic: /mode, field: mode, values: {ROAD: 1, YARD: 2}, max_age: never}
hard_cases:
  scores:
    conf: {reference: refs/conf.npz, tail: low}
    entropy: {reference: refs/entropy.npz, tail: high}
    doubt: {reference: refs/doubt.npz, tail: both}
  mode: mode
  top: 5
  every: 10 min
  worst_p: 0.02
checks:
  c: {kind: stale, signal: conf, max: 10 s}
"""
DAY = 86_400 * SECOND


def write(path: Path, seed: int, seconds: int = 3000, strange: dict[int, float] | None = None) -> Path:
    """A detector's confidence and entropy each second, and the mode, which changes every 500 s."""
    rng = np.random.default_rng(seed)
    lines = []
    for k in range(seconds):
        t = 86_400 + k
        if k % 500 == 0:
            lines.append({"topic": "/mode", "t": t, "mode": 1 + k // 500 % 2})
        conf, entropy = 0.8 + 0.05 * rng.standard_normal(), 0.3 + 0.05 * rng.standard_normal()
        conf -= 0.2 * (k // 500 % 2)  # the yard is harder
        lines.append({"topic": "/detector", "t": t, "conf": conf - (strange or {}).get(k, 0.0), "entropy": entropy})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The envelope and its references, made by the command from three healthy recordings."""
    folder = tmp_path_factory.mktemp("miner")
    (folder / "miner.yaml").write_text(ENVELOPE)
    logs = [str(write(folder / f"healthy{i}.jsonl", i)) for i in range(3)]
    arguments = ["calibrate", *logs, "-e", str(folder / "miner.yaml"), "--out", str(folder / "refs")]
    done = CliRunner().invoke(group, arguments, standalone_mode=False)
    assert done.exception is None and done.return_value == 0
    assert "for hard_cases\n" in done.output and "values to rank by" in done.output
    return folder


STRANGE = {100: 0.4, 700: 0.5, 1300: 0.6, 1301: 0.7, 2999: 0.45}


@pytest.fixture(scope="module")
def drive(folder: Path) -> Path:
    return write(folder / "drive.jsonl", 9, strange=STRANGE)


@pytest.fixture(scope="module")
def told(folder: Path, drive: Path) -> list[Event]:
    return captures(Monitor(envelopes.load(folder / "miner.yaml")), drive)


def captures(monitor: Monitor, path: Path, size: int = 10**9) -> list[Event]:
    """The captures of a recording whose batches are cut into pieces."""
    found: list[Event] = []
    for item in readers.open(path, topics=["/detector", "/mode"]):
        if isinstance(item, Batch):
            for k in range(0, len(item.messages), size):
                found += monitor.feed(Batch(item.data, item.messages[k : k + size]))
        else:
            found += monitor.feed(item)
    return [event for event in [*found, *monitor.finish()] if event.type == "hardcase.captured"]


def expected(folder: Path, drive: Path) -> list[tuple[int, str, int, int, float]]:
    """(period's end, mode, rank, frame, p), by sorting all frames of each period and mode."""
    files = {name: baselines.load(folder / "refs" / f"{name}.npz") for name in ("conf", "entropy", "doubt")}
    ends = {"conf": -1, "entropy": 1, "doubt": 0}
    groups: dict[tuple[int, int], list[tuple[float, float, int]]] = {}
    mode = last = 0
    for line in map(json.loads, drive.read_text().splitlines()):
        t = last = line["t"] * SECOND
        if line["topic"] == "/mode":
            mode = line["mode"]
            continue
        values = {**line, "doubt": line["entropy"] - line["conf"]}
        ranks = []
        for name, file in files.items():
            i = file.modes.index(mode)
            z = (values[name] - file.arrays["centre"][i]) / file.arrays["scale"][i]
            score = abs(z) if ends[name] == 0 else z * ends[name]
            sample = np.abs(file.sample(i)) if ends[name] == 0 else file.sample(i) * ends[name]
            ranks.append(((1 + int((sample >= score).sum())) / (len(sample) + 1), -score))
        if min(ranks)[0] <= 0.02:
            groups.setdefault((t // PERIOD, mode), []).append((*min(ranks), t))
    return [
        (min((period + 1) * PERIOD, last), "ROAD" if mode == 1 else "YARD", k + 1, t, p)
        for (period, mode), frames in sorted(groups.items())
        for k, (p, _, t) in enumerate(sorted(frames)[:5])
    ]


def test_captures_are_those_of_a_plain_sort(folder: Path, drive: Path, told: list[Event]) -> None:
    """Every period and mode tells its strangest frames at its end, by rank; the last period at the stream's end."""
    found = [(e.t_effective, e.payload["mode"], e.payload["rank"], e.payload["frame_ns"], e.payload["p"]) for e in told]
    assert found == expected(folder, drive)
    assert len({t for t, *_ in found}) == 5
    first = {e.payload["frame_ns"] // SECOND - 86_400 for e in told if e.payload["rank"] == 1}
    assert set(STRANGE) - {1300} <= first
    strangest = next(e for e in told if e.payload["frame_ns"] == DAY + 700 * SECOND)
    assert (strangest.subject, strangest.payload["topic"], strangest.severity) == (
        "/detector",
        "/detector",
        "negligible",
    )
    assert strangest.payload["signal"] in ("conf", "doubt") and strangest.payload["frames"] == 400
    assert strangest.payload["candidates"] >= 1 and strangest.payload["p"] < 0.002


@pytest.mark.parametrize("size", [1, 7])
def test_batches_may_be_cut_anywhere(folder: Path, drive: Path, told: list[Event], size: int) -> None:
    """The same messages in other batches give the same captures, with the same times of decision."""
    assert captures(Monitor(envelopes.load(folder / "miner.yaml")), drive, size) == told


def rows_of(folder: Path, drive: Path) -> tuple[HardCaseMiner, list[np.ndarray]]:
    """A miner, and what each instant of the drive shows it."""
    monitor = Monitor(envelopes.load(folder / "miner.yaml"))
    shown: list[np.ndarray] = []
    for item in readers.open(drive, topics=["/detector", "/mode"]):
        if isinstance(item, Batch):
            rows = monitor.engine.advance(monitor.items(item))
            rows = rows[rows["kind"] == TransitionKind.VALUE]
            shown += [rows[rows["t_effective"] == t] for t in np.unique(rows["t_effective"])]
        else:
            monitor.extractor.add_channel(item)
    spec = monitor.envelope.hard_cases
    assert spec is not None
    return HardCaseMiner(spec), shown


def test_a_snapshot_goes_on_with_the_same_captures(folder: Path, drive: Path) -> None:
    """A miner restored in the middle of a period tells from there on what the other one tells, from equal bytes."""
    one, shown = rows_of(folder, drive)
    other = HardCaseMiner(one.spec)
    for k, rows in enumerate(shown):
        if k == 1500:
            other.restore(one.snapshot())
        found = one.step(rows)
        if k >= 1500:
            assert other.step(rows) == found
            assert other.snapshot() == one.snapshot()
    assert one.finish(1, 1) == other.finish(1, 1) != []
    with pytest.raises(ValueError, match="does not fit"):
        other.restore(b"short")


def test_memory_is_bounded(folder: Path, drive: Path) -> None:
    """State has one size from the first frame to the last."""
    miner, shown = rows_of(folder, drive)
    size = len(miner.snapshot())
    for rows in shown:
        miner.step(rows)
        assert len(miner.snapshot()) == size


def test_time_alone_ends_a_period(folder: Path, drive: Path) -> None:
    """A promise that time has passed tells the period's frames, no frame being needed; none at its very start."""
    monitor = Monitor(envelopes.load(folder / "miner.yaml"))
    for item in readers.open(drive, topics=["/detector", "/mode"]):
        if isinstance(item, Batch):
            item = Batch(item.data, item.messages[item.messages["t"] < DAY + PERIOD])
        assert [e for e in monitor.feed(item) if e.type == "hardcase.captured"] == []
    assert [e for e in monitor.until(DAY + PERIOD - 1) if e.type == "hardcase.captured"] == []
    found = [e for e in monitor.until(DAY + PERIOD) if e.type == "hardcase.captured"]
    assert found and {e.t_effective for e in found} == {DAY + PERIOD}


def test_a_clock_jump_ends_the_period(folder: Path, drive: Path) -> None:
    """What was kept before time stepped back is told there, and no frame counts until the mode is known again."""
    monitor = Monitor(envelopes.load(folder / "miner.yaml"))
    found: list[Event] = []
    for item in readers.open(drive, topics=["/detector", "/mode"]):
        if isinstance(item, Batch):
            messages = item.messages.copy()
            messages["t"] -= np.where(messages["t"] >= DAY + 300 * SECOND, 200 * SECOND, 0)
            item = Batch(item.data, messages[messages["t"] < DAY + 299 * SECOND])
        found += monitor.feed(item)
    jump = next(k for k, event in enumerate(found) if event.type == "clock.jump")
    early = [event for event in found[:jump] if event.type == "hardcase.captured"]
    assert early and {event.t_effective for event in early} == {DAY + 100 * SECOND}
    last = [event for event in monitor.finish() if event.type == "hardcase.captured"]
    assert all(event.payload["frames"] < 500 for event in last)


def test_run_shows_hard_cases(folder: Path, drive: Path) -> None:
    """`edge-replay run` has a table of them, and they stand in the document and in the lines of events."""
    lines = folder / "events.jsonl"
    arguments = ["run", str(drive), "-e", str(folder / "miner.yaml")]
    done = CliRunner(env={"COLUMNS": "160"}).invoke(group, [*arguments, "--jsonl", str(lines)], standalone_mode=False)
    assert "Hard cases: frames to look at again" in done.output and "/detector" in done.output
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    told = [one for one in told if one["type"] == "hardcase.captured"]
    done = CliRunner().invoke(group, [*arguments, "--json"], standalone_mode=False)
    document: list[dict[str, Any]] = json.loads(done.stdout)["hard_cases"]
    assert [one["frame_ns"] for one in document] == [one["frame_ns"] for one in told]
    assert {one["frame_s"] for one in told} >= {86_400.0 + k for k in (100, 700, 1301, 2999)}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("tail: low", "tail: lower", "{}:11:44: hard_cases.scores.conf.tail: expected one of `low`, `high`, `both`"),
        (", tail: low", "", "{}:11:5: hard_cases.scores.conf.tail: is required"),
        ("    conf: {ref", "    conv: {ref", "{}:11:5: hard_cases.scores.conv: no signal is named `conv`"),
        ("  mode: mode\n", "  mode: moode\n", "{}:14:9: hard_cases.mode: no signal is named `moode`"),
        ("refs/conf.npz", "refs/none.npz", "{}:11:23: hard_cases.scores.conf.reference: "),
        (
            "refs/conf.npz",
            "refs/entropy.npz",
            "{}:11:23: hard_cases.scores.conf.reference: was made of signal `entropy`",
        ),
        ("worst_p: 0.02", "worst_p: 0", "{}:17:12: hard_cases.worst_p: "),
        ("worst_p: 0.02", "worst_p: 0.0005", "{}:11:23: hard_cases.scores.conf.reference: holds 1023 values of a mode"),
        ("every: 10 min", "every: 10", "{}:16:10: hard_cases.every: "),
        ("top: 5", "topp: 5", "{}:15:3: hard_cases.topp: unknown field (did you mean `top`?)"),
        ("doubt: {expr: entropy - conf}", "doubt: {expr: entropy - mode}", "made of several topics (/detector, /mode)"),
        ("  mode: mode\n", "", "has the modes of `mode`: calibrate anew or change `mode`"),
        (
            "field: conf}",
            "field: conf, unit: nat}",
            "{}:11:23: hard_cases.scores.conf.reference: was made in ``: calibrate",
        ),
    ],
)
def test_mistakes_are_told_with_their_place(folder: Path, old: str, new: str, expected: str) -> None:
    """One mistake, and one line that says where it is and what would be right."""
    assert ENVELOPE.count(old) == 1
    file = str(folder / "bad.yaml")
    with pytest.raises(EnvelopeError) as error:
        envelopes.loads(ENVELOPE.replace(old, new).encode(), source=file)
    assert any(expected.format(file) in str(problem) for problem in error.value.problems)


def test_the_section_and_its_files_are_in_the_digests(folder: Path) -> None:
    """Another tail, number or reference is another envelope, another reference another plan; no section changes nothing."""
    loaded = envelopes.load(folder / "miner.yaml")
    assert loaded.warnings == ()
    for old, new in (("top: 5", "top: 6"), ("tail: low", "tail: both"), ("10 min", "20 min")):
        changed = envelopes.loads(ENVELOPE.replace(old, new).encode(), source=str(folder / "bad.yaml"))
        assert changed.digest != loaded.digest
    assert len(loaded.reference_digests) == 3
    assert all(math.isfinite(int(digest, 16)) for digest in loaded.reference_digests)
    without = ENVELOPE[: ENVELOPE.index("hard_cases:")] + ENVELOPE[ENVELOPE.index("checks:") :]
    plain = envelopes.loads(without.encode())
    assert plain.reference_digests == () and plain.hard_cases is None
    assert Monitor(plain).plan.digest() != Monitor(loaded).plan.digest()
