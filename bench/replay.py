"""Recording to verdicts: MCAP and ULog against decoding alone with rosbags, mcap + mcap_ros2 and pyulog."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import synthetic

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("EDGE_MONITOR_DATA", ROOT.parent / "shared" / "data"))


def cpu(work: Callable[[], int]) -> float:
    """CPU seconds per unit that ``work`` reports to have done."""
    start = time.process_time()
    done = work()
    return (time.process_time() - start) / done


def compare(
    name: str, unit: str, ours: Callable[[], int], peers: dict[str, Callable[[], int]], rounds: int
) -> dict[str, Any]:
    """Ours and the peers in turn, ``rounds`` times; best of each. Figures are rates (units a second)."""
    best = {key: float("inf") for key in ["", *peers]}
    for _ in range(rounds):
        for key, work in {"": ours, **peers}.items():
            best[key] = min(best[key], cpu(work))
    rates = {key: 1 / value for key, value in best.items()}
    mine = rates.pop("")
    return {
        "name": name,
        "unit": unit,
        "ours": mine,
        "peers": rates,
        "ratios": {key: mine / rate for key, rate in rates.items()},
    }


def monitor_all(path: Path, envelope_path: Path) -> int:
    """Ours: the whole path, from file to verdicts, gates and events."""
    from edge_monitor import envelope
    from edge_replay.replay import replay

    result = replay(path, envelope.load(envelope_path))
    return result.messages


def rosbags_decode(path: Path, limit: int) -> int:
    """Peer: iterate and deserialize with rosbags, nothing else."""
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    count = 0
    with AnyReader([path], default_typestore=store) as bag:
        for connection, _, data in bag.messages():
            bag.deserialize(data, connection.msgtype)
            count += 1
            if count >= limit:
                break
    return count


def mcap_decode(path: Path, limit: int) -> int:
    """Peer: mcap + mcap_ros2, decoded messages."""
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    count = 0
    with path.open("rb") as stream:
        for _ in make_reader(stream, decoder_factories=[DecoderFactory()]).iter_decoded_messages():
            count += 1
            if count >= limit:
                break
    return count


def pyulog_load(path: Path) -> int:
    """Peer: pyulog's load, counted in samples."""
    from pyulog import ULog

    log = ULog(io.BytesIO(path.read_bytes()))
    return sum(len(d.data["timestamp"]) for d in log.data_list)


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """Rates in messages a second; the peers decode only, ours goes on to verdicts."""
    path = synthetic.make(200_000 if quick else 1_000_000)
    envelope = ROOT / "bench" / "envelope.yaml"
    limit = 20_000 if quick else 100_000
    monitor_all(path, envelope)  # compile and load kernels
    found = [
        compare(
            "mcap_replay_to_verdicts",
            "messages/s",
            lambda: monitor_all(path, envelope),
            {"rosbags": lambda: rosbags_decode(path, limit), "mcap_ros2": lambda: mcap_decode(path, limit)},
            2 if quick else 3,
        )
    ]
    husky = DATA / "ugv_husky" / "derived_mcap" / "husky_mcapz.mcap"
    if husky.exists():
        found.append(
            compare(
                "mcap_replay_husky",
                "messages/s",
                lambda: monitor_all(husky, ROOT / "configs" / "ugv_husky.yaml"),
                {"rosbags": lambda: rosbags_decode(husky, 10**9), "mcap_ros2": lambda: mcap_decode(husky, 10**9)},
                2 if quick else 3,
            )
        )
    ulog = DATA / "uav_px4" / "px4_mission_pilot_takeover_failsafe.ulg"
    if ulog.exists():
        found.append(
            compare(
                "ulog_read",
                "samples/s",
                lambda: read_all(ulog),
                {"pyulog": lambda: pyulog_load(ulog)},
                2 if quick else 5,
            )
        )
    return found


def read_all(path: Path) -> int:
    """Ours: every message of every topic delivered, as many as pyulog loads."""
    from edge_monitor.core.messages import Batch
    from edge_replay import readers

    return sum(len(item.messages) for item in readers.open(path) if isinstance(item, Batch))
