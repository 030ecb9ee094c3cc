"""``make bench-ros2``: what the monitor costs for each message out of a ROS 2 graph, beside who only takes the message.

Through DDS: ``edge-monitor run --source dds`` beside the wheel's own raw take. As a node, where ROS 2 and the built ros2_ws
are sourced: the lifecycle node beside a raw subscription of rclpy that takes all that is queued. Both get Imu messages, best
effort, with queues as deep, one by one at an even rate, each from a publisher of its own in a domain of its own. A figure
is the CPU time of the whole process, all threads, by message; monitor and peer take turns. Prints a table and writes
build/bench-ros2-HALF.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

import msgpack
import zmq

from edge_monitor.journal.keys import make_key

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"
RATES = (1_000, 10_000)
MOST = 1.3  #: times the peer's CPU
PEERS = {"dds": "cyclonedds", "node": "rclpy"}
ENVELOPE = """
edge_monitor: 1
envelope: {id: bench-ros2, version: 1, vehicle: synthetic}
defaults: {max_age: 500 ms}
signals:
  imu: {topic: /imu, type: sensor_msgs/msg/Imu}
  yaw_rate: {topic: /imu, type: sensor_msgs/msg/Imu, field: angular_velocity.z, unit: rad/s}
  shaking: {topic: /imu, type: sensor_msgs/msg/Imu, field: linear_acceleration, reduce: norm, unit: m/s2}
  spinning: {topic: /imu, type: sensor_msgs/msg/Imu, field: angular_velocity, reduce: norm, unit: rad/s}
checks:
  turning: {kind: bounds, signal: yaw_rate, max: 0.8, leave_max: 0.7, min: -0.8, leave_min: -0.7}
  shocks: {kind: bounds, signal: shaking, max: 16, leave_max: 14, min: 4, leave_min: 6, fail_for: 100 ms}
  rolling_over: {kind: bounds, signal: spinning, max: 1.5, leave: 1, fail_for: 100 ms, severity: critical}
  imu_alive: {kind: stale, signal: imu, max: 150 ms, severity: critical}
  imu_valid: {kind: valid, signal: yaw_rate}
gates:
  drive: {require: all, criteria: [turning, shocks, rolling_over, imu_alive, imu_valid], lease: 5 s}
"""
CONFIGURATION = (
    "<CycloneDDS><Domain><General><Interfaces><NetworkInterface address='127.0.0.1'/></Interfaces>"
    "<AllowMulticast>false</AllowMulticast></General><Discovery><Tag>edge-monitor-bench-{tag}</Tag><ParticipantIndex>auto"
    "</ParticipantIndex><Peers><Peer address='127.0.0.1'/></Peers></Discovery></Domain></CycloneDDS>"
)


class Taker(Protocol):
    """A process that takes messages."""

    pid: int

    def taken(self) -> int:
        """How many so far."""

    def close(self) -> None:
        """End it."""


class Role:
    """A process of ``ros2_roles``."""

    def __init__(self, name: str, domain: int) -> None:
        command = [sys.executable, str(HERE / "ros2_roles.py"), name, str(domain)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        self._hear()

    def ask(self, line: str = "") -> int:
        """An order or a question, and the number that comes back."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return int(self._hear())

    def taken(self) -> int:
        """Messages so far."""
        return self.ask()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self._process.args))} ended with {self._process.wait(10)}")  # type: ignore[arg-type]
        return line.strip()


class Monitor:
    """The onboard process, with journal and tape."""

    def __init__(self, folder: Path, half: str, domain: int) -> None:
        (folder / "bench.yaml").write_text(ENVELOPE)
        make_key("bench", folder)
        address = f"ipc://{folder}/ask"
        files = {
            "envelope": folder / "bench.yaml", "journal": folder / "journal.db", "key": folder / "bench.key",
            "tapes": folder / "tapes", "publish": f"ipc://{folder}/out", "control": address,
        }  # fmt: skip
        if half == "dds":
            words = [word for name, value in files.items() for word in (f"--{name}", str(value))]
            command = [str(Path(sys.executable).with_name("edge-monitor")), "run", *words]
            command += ["--source", f"dds:{domain}", "--tape-size", "64", "--unapproved"]
        else:
            words = [word for name, value in files.items() for word in ("-p", f"{name}:={value}")]
            command = [sys.executable, "-m", "edge_monitor_ros.node", "--ros-args", *words, "-p", "unapproved:=true"]
        self._process = subprocess.Popen(command, env={**os.environ, "ROS_DOMAIN_ID": str(domain)})
        self.pid = self._process.pid
        self._socket = zmq.Context.instance().socket(zmq.REQ)
        self._socket.connect(address)
        self.taken()

    def taken(self) -> int:
        """Messages that it has decided."""
        self._socket.send(msgpack.packb({"do": "status"}))
        if not self._socket.poll(240_000):
            raise SystemExit("the monitor does not answer")
        return int(msgpack.unpackb(self._socket.recv())["state"]["signals"]["count"][0])

    def close(self) -> None:
        """End it."""
        self._socket.close(0)
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)


def cpu(pid: int) -> float:
    """Seconds that all threads of a process have run."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def measure(publisher: Role, taker: Taker, rate: float, seconds: float) -> tuple[float, int]:
    """µs of CPU for each message taken, and how many never came."""
    before, used = taker.taken(), cpu(taker.pid)
    sent = publisher.ask(f"{rate} {seconds}")
    time.sleep(0.1)
    used = cpu(taker.pid) - used
    taken = taker.taken() - before
    if not taken:
        raise SystemExit("nothing came")
    return used / taken * 1e6, sent - taken


def rounds(half: str, seconds: float, count: int) -> dict[int, list[dict[str, Any]]]:
    """``count`` rounds of each rate."""
    kind = "dds" if half == "dds" else "ros"
    domain = 40
    with tempfile.TemporaryDirectory(prefix="bench-ros2-") as name:
        pairs: dict[str, tuple[Role, Taker]] = {
            "ours": (Role(f"{kind}-publisher", domain), Monitor(Path(name), half, domain)),
            "peer": (Role(f"{kind}-publisher", domain + 1), Role(f"{kind}-take", domain + 1)),
        }
        time.sleep(1.0)  # until all have found one another
        for pair in pairs.values():
            measure(*pair, 1_000, 2.0)
        found: dict[int, list[dict[str, Any]]] = {rate: [] for rate in RATES}
        for rate in RATES:
            for _ in range(count):
                one: dict[str, Any] = {}
                for who, pair in pairs.items():
                    one[who], one[f"{who}_lost"] = measure(*pair, rate, seconds)
                one["ratio"] = one["ours"] / one["peer"]
                found[rate].append(one)
        for publisher, taker in pairs.values():
            taker.close()
            publisher.close()
    return found


def spread(values: list[float]) -> tuple[float, float, float]:
    """Least, median, most."""
    return min(values), statistics.median(values), max(values)


def main() -> None:
    """Run one half, print its table, write its file. Exit code 1 where the monitor costs too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("half", choices=tuple(PEERS))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    peer = PEERS[options.half]
    os.environ["CYCLONEDDS_URI"] = CONFIGURATION.format(tag=os.getpid())
    load = os.getloadavg()[0]
    print(
        f"{options.half}: {platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"load before {load:.1f}; CPU by message, {options.rounds} rounds of {options.seconds:g} s, least, median, most\n",
        flush=True,
    )
    found = rounds(options.half, options.seconds, options.rounds)
    rows, met = [], True
    for rate, of_rate in found.items():
        ours, theirs, ratio = (spread([one[key] for one in of_rate]) for key in ("ours", "peer", "ratio"))
        lost = sum(one["ours_lost"] for one in of_rate), sum(one["peer_lost"] for one in of_rate)
        holds = ratio[1] <= MOST
        met &= holds
        print(
            f"{'met   ' if holds else 'MISSED'} {rate:6,}/s  ours {_three(ours)} µs  {peer} {_three(theirs)} µs  "
            f"{_three(ratio, 2)} times; lost {lost[0]} and {lost[1]}"
        )
        rows.append(
            {
                "name": f"ros2, CPU by message, {options.half}, {rate}/s", "unit": "µs", "ours": ours[1],
                "peers": {peer: theirs[1]}, "ratios": {peer: theirs[1] / ours[1]},
            }
        )  # fmt: skip
    BUILD.mkdir(exist_ok=True)
    out = BUILD / f"bench-ros2-{options.half}.json"
    detail = {"seconds": options.seconds, "load_before": load, "rounds": found}
    out.write_text(json.dumps({"rows": rows, "detail": detail}, indent=1) + "\n")
    print(f"\nwritten to {out}")
    sys.exit(0 if met else 1)


def _three(values: tuple[float, float, float], digits: int = 1) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


if __name__ == "__main__":
    main()
