"""``make bench-live``: the onboard process under 10,000 messages a second, beside a bare pyzmq + msgpack echo loop.

200 signals, 300 checks, a gate, 100 worsening flips a second. One publisher and one subscriber, each a process of its own,
serve the peer first, then the monitor, then the peer again, so that both meet the same machine; each of them has it to
itself meanwhile. Latency is from the publisher's stamp before the send of the message that flips to the subscriber's stamp
behind the receipt of the decision, both on CLOCK_BOOTTIME. Afterwards ten times the load for some seconds, and the load
again. Prints a table and writes build/bench-live.json (rows as in build/bench.json, and every figure behind them).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from live_roles import (
    GATE_EVERY,
    HZ,
    LIMIT,
    TOPICS,
    boottime,
    flips_file,
    peer,
    publisher,
    subscriber,
)

from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.verify import verify

BUILD = Path(__file__).resolve().parent.parent / "build"
SPAWN = multiprocessing.get_context("spawn")
SETTLE = 5.0  #: seconds of load before anything is measured: kernels, channels, caches
TAPE_MIB = 64
TARGETS = {"over_peer_ms": 2.0, "core": 0.5, "rss_mb": 250.0}


def envelope() -> str:
    """200 signals of 100 topics and 300 checks: a limit each, and a hundred of five other kinds on the field a."""
    lines = ["edge_monitor: 1", "envelope: {id: bench-live, version: 1, vehicle: synthetic}", "signals:"]
    for topic in range(TOPICS):
        for field in "ab":
            lines.append(f"  {field}{topic:02}: {{topic: /t{topic:02}, field: {field}, unit: m, max_age: 500 ms}}")
    lines.append("checks:")
    kinds = (
        "{{kind: stale, signal: {0}, max: 400 ms}}",
        "{{kind: rate, signal: {0}, max: 1e6, min: -1e6}}",
        "{{kind: valid, signal: {0}}}",
        "{{kind: frequency, signal: {0}, min: 50 Hz, max: 150 Hz, window: 2 s}}",
        '{{kind: formula, formula: "historically[0 s, 1 s]({0} <= 90)"}}',
    )
    for topic in range(TOPICS):
        for field in "ab":
            lines.append(f"  {field}{topic:02}_limit: {{kind: bounds, signal: {field}{topic:02}, max: {LIMIT:g}}}")
        lines.append(f"  a{topic:02}_more: " + kinds[topic % len(kinds)].format(f"a{topic:02}"))
    criteria = [f"b{topic:02}_limit" for topic in range(0, TOPICS, GATE_EVERY)]
    lines += ["gates:", f"  drive: {{require: all, criteria: [{', '.join(criteria)}], go_after: 50 ms, lease: 5 s}}"]
    return "\n".join(lines) + "\n"


class Role:
    """A process of ``live_roles``, and the pipe to it."""

    def __init__(self, target: Any, *arguments: Any) -> None:
        self.pipe, other = SPAWN.Pipe()
        self.process = SPAWN.Process(target=target, args=(*arguments, other), daemon=True)
        self.process.start()

    def ask(self, order: Any) -> Any:
        """Send an order and wait for the answer."""
        self.pipe.send(order)
        return self.pipe.recv()

    def end(self, order: Any = None) -> Any:
        """End it; answers its last report, if it gives one."""
        self.pipe.send(order)
        try:
            return self.pipe.recv() if self.pipe.poll(10) else None
        except EOFError:  # it had nothing to say
            return None
        finally:
            self.process.join(10)


class Usage:
    """What a process used between two moments, all its threads together."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.cpu, self.wall = self._cpu(), time.monotonic()
        self.memory = [self._memory()]

    def sample(self) -> None:
        """Note the memory now."""
        self.memory.append(self._memory())

    def report(self) -> dict[str, float]:
        """Share of one core, and MB of memory at begin and end, and the most."""
        share = (self._cpu() - self.cpu) / (time.monotonic() - self.wall)
        self.sample()
        rss, anonymous = zip(*self.memory, strict=True)
        return {
            "core": share, "rss_begin_mb": rss[0], "rss_end_mb": rss[-1], "rss_most_mb": max(rss),
            "anonymous_mb": anonymous[:: max(1, len(anonymous) // 20)] + anonymous[-1:],
            "anonymous_third_mb": anonymous[len(anonymous) // 3], "anonymous_end_mb": anonymous[-1],
        }  # fmt: skip

    def _cpu(self) -> float:
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def _memory(self) -> tuple[float, float]:
        status = Path(f"/proc/{self.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields["VmRSS"].split()[0]) / 1000, int(fields["RssAnon"].split()[0]) / 1000


def loaded(feeder: Role, pid: int, seconds: float, times: float = 1.0, *, flipping: bool = True) -> tuple[dict, dict]:
    """Load for some seconds; the publisher's report, and what process ``pid`` used."""
    usage = Usage(pid)
    feeder.pipe.send(("send", seconds, times, flipping))
    while not feeder.pipe.poll(1.0):
        usage.sample()
    return feeder.pipe.recv(), usage.report()


def quantiles(nanoseconds: np.ndarray) -> dict[str, float]:
    """ms."""
    if not len(nanoseconds):
        return {"count": 0, "p50": float("nan"), "p99": float("nan"), "p99.9": float("nan"), "max": float("nan")}
    p50, p99, p999 = np.quantile(nanoseconds, [0.5, 0.99, 0.999]) / 1e6
    return {"count": len(nanoseconds), "p50": p50, "p99": p99, "p99.9": p999, "max": nanoseconds.max() / 1e6}


def delays(events: list[tuple[int, int]], sent_at: np.ndarray, flips: tuple[int, int]) -> tuple[np.ndarray, int]:
    """From send to receipt of each flip of ``flips``, ns; and how many never came."""
    found = {number: t for number, t in events if flips[0] <= number < flips[1]}
    late = np.array([t - sent_at[number] for number, t in sorted(found.items())], np.int64)
    return late, flips[1] - flips[0] - len(found)


def lease_delays(leases: list[int], sent_at: np.ndarray, flips: tuple[int, int]) -> np.ndarray:
    """From the send of a flip that the gate is about to the lease that takes its GO back, ns."""
    criteria = [n for n in range(*flips) if n % TOPICS % GATE_EVERY == 0]
    sent = sent_at[criteria]
    found = []
    for t in leases:
        place = int(np.searchsorted(sent, t)) - 1
        if place >= 0 and t - sent[place] < 150_000_000:
            found.append(t - sent[place])
    return np.array(found, np.int64)


def peer_phase(folder: Path, feeder: Role, source: str, sent_at: np.ndarray, seconds: float) -> dict[str, Any]:
    """The echo loop under the load."""
    out = f"ipc://{folder}/peer"
    listener = Role(subscriber, out)
    loop = Role(peer, source, out)
    feeder.ask(("await",))
    warm, _ = loaded(feeder, loop.process.pid, 2.0)
    report, used = loaded(feeder, loop.process.pid, seconds)
    time.sleep(1.0)
    heard = listener.end()
    taken = loop.end("stop")
    late, missing = delays(heard["events"], sent_at, report["flips"])
    lost = warm["sent"] + report["sent"] - taken
    return {"late": late, "missing": missing, "lost": lost, "load": report, **used}


def monitor_phase(
    folder: Path, feeder: Role, source: str, sent_at: np.ndarray, seconds: float, overload: float, profile: Path | None
) -> dict[str, Any]:
    """The monitor under the load, under ten times the load, and under the load again."""
    before = feeder.ask(("send", 0.0, 1.0, True))["total"]
    out = f"ipc://{folder}/out"
    listener = Role(subscriber, out)
    (folder / "live.yaml").write_text(envelope())
    make_key("bench", folder)
    command = [
        str(Path(sys.executable).parent / "edge-monitor"), "run", "-e", str(folder / "live.yaml"), "--source", f"sub:{source}",
        "--journal", str(folder / "journal.db"), "--key", str(folder / "bench.key"), "--tapes", str(folder / "tapes"),
        "--tape-size", str(TAPE_MIB), "--publish", out, "--control", f"ipc://{folder}/ask", "--unapproved",
    ]  # fmt: skip
    if profile is not None:
        command = [sys.executable, "-m", "cProfile", "-o", str(profile), *command]
    run = subprocess.Popen(command)
    try:
        if not feeder.ask(("await",)):
            raise SystemExit("the monitor did not connect within 120 s")
        settle, _ = loaded(feeder, run.pid, SETTLE, 0.2)
        settle_more, _ = loaded(feeder, run.pid, SETTLE)
        report, used = loaded(feeder, run.pid, seconds)
        time.sleep(1.5)
        heard = listener.ask("report")
        late, missing = delays(heard["events"], sent_at, report["flips"])
        _, count, lost, refused = heard["states"][-1]
        sent = report["total"] - before
        found: dict[str, Any] = {
            "late": late, "missing": missing, "leases": lease_delays(heard["leases"], sent_at, report["flips"]),
            "lost": lost, "not_taken": sent - count, "refused": refused, "load": report, "events": heard["types"],
            "settled": settle["sent"] + settle_more["sent"], "most_between_beats_ms": _gap(heard["beats"]), **used,
        }  # fmt: skip
        if overload:
            found["overload"] = _overloaded(feeder, listener, run, sent_at, overload)
    finally:
        run.send_signal(signal.SIGTERM)
        found_code = run.wait(30)
    found["exit"] = found_code
    found["journal_ok"] = verify(folder / "journal.db", [load_verifier_key(folder / "bench.pub")]).ok
    listener.end()
    return found


def _gap(beats: list[int]) -> float:
    return float(np.diff(beats).max() / 1e6) if len(beats) > 1 else float("nan")


def _overloaded(
    feeder: Role, listener: Role, run: subprocess.Popen, sent_at: np.ndarray, seconds: float
) -> dict[str, Any]:
    """Ten times the load, as far as the publisher gets; then the load without flips until all is well again."""
    before = listener.ask("report")
    begun = boottime()
    report, used = loaded(feeder, run.pid, seconds, 10.0)
    ended = boottime()
    after, _ = loaded(feeder, run.pid, 10.0, flipping=False)
    heard = listener.ask("report")
    told = [row for row in heard["told"] if row[0] >= begun]
    lost = [row for row in told if row[1] == "input.lost"]
    restored = [row for row in told if row[1] == "input.restored"]
    go = [row for row in told if row[1] == "gate.go"]
    calm, missing = delays(heard["events"], sent_at, report["flips"])
    return {
        "rate": report["rate"], "sent": report["sent"], "lost": heard["states"][-1][2] - before["states"][-1][2],
        "input_lost_events": len(lost), "causes": sorted({row[3] for row in lost}),
        "topics_lost": len({row[2] for row in lost}), "topics_restored": len({row[2] for row in restored}),
        "first_told_ms": (lost[0][0] - begun) / 1e6 if lost else None,
        "go_again_ms": (go[-1][0] - ended) / 1e6 if go and heard["go"] else None,
        "most_between_beats_ms": _gap([t for t in heard["beats"] if t >= begun]),
        "journal_refused": heard["states"][-1][3], "alive": run.poll() is None,
        "flips_told": quantiles(calm), "flips_not_told": missing, "load_after": after, **used,
    }  # fmt: skip


def rows(ours: dict[str, Any], bare: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table; a ratio above 1 is in our favour."""
    found = []
    pairs = [
        (f"live, send to check.fail, {name}", "ms", quantiles(ours["late"])[name], quantiles(bare["late"])[name])
        for name in ("p50", "p99", "p99.9")
    ]
    pairs += [
        (f"live, send to NO_GO lease, {name}", "ms", quantiles(ours["leases"])[name], quantiles(bare["late"])[name])
        for name in ("p50", "p99", "p99.9")
    ]
    pairs.append(("live, share of one core at 10,000 messages/s", "core", ours["core"], bare["core"]))
    pairs.append(("live, RSS at the end", "MB", ours["rss_end_mb"], bare["rss_end_mb"]))
    for name, unit, value, other in pairs:
        found.append(
            {
                "name": name,
                "unit": unit,
                "ours": value,
                "peers": {"pyzmq+msgpack": other},
                "ratios": {"pyzmq+msgpack": other / value},
            }
        )
    return found


def verdicts(ours: dict[str, Any], bare: dict[str, Any]) -> dict[str, bool]:
    """Which targets are met."""
    over = quantiles(ours["late"])["p99.9"] - quantiles(bare["late"])["p99.9"]
    over_lease = quantiles(ours["leases"])["p99.9"] - quantiles(bare["late"])["p99.9"]
    overload = ours.get("overload")
    met = {
        f"check.fail p99.9 at most the peer's + 2 ms ({over:+.2f} ms)": over <= TARGETS["over_peer_ms"],
        f"NO_GO lease p99.9 at most the peer's + 2 ms ({over_lease:+.2f} ms)": over_lease <= TARGETS["over_peer_ms"],
        f"no message lost ({ours['lost']} lost, {ours['not_taken']} not taken)": not ours["lost"]
        and not ours["not_taken"],
        f"every flip told ({ours['missing']} missing)": not ours["missing"],
        f"at most half a core ({ours['core']:.2f})": ours["core"] <= TARGETS["core"],
        f"RSS at most 250 MB ({ours['rss_most_mb']:.0f})": ours["rss_most_mb"] <= TARGETS["rss_mb"],
        f"RSS flat after a third ({ours['anonymous_third_mb']:.0f} to {ours['anonymous_end_mb']:.0f} MB without mapped files)": (
            ours["anonymous_end_mb"] <= 1.02 * ours["anonymous_third_mb"] + 1
        ),
        "clean end, journal verifies": ours["exit"] == 0 and ours["journal_ok"],
    }
    if overload:
        told = overload["lost"] == 0 or (overload["topics_lost"] > 0 and overload["causes"] == ["overflow"])
        met[
            f"{overload['rate']:,.0f} messages/s: alive, losses told ({overload['lost']:,} of {overload['sent']:,})"
        ] = bool(overload["alive"] and told)
        met[f"GO again afterwards ({overload['go_again_ms'] or 0:.0f} ms later)"] = overload["go_again_ms"] is not None
    return met


def main() -> None:
    """Run all phases, print the table, write the file. Exit code 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of measured load on the monitor")
    parser.add_argument("--peer-seconds", type=float, help="of each of the peer's two turns; a quarter, 60 at most")
    parser.add_argument("--overload", type=float, default=10.0, help="seconds of ten times the load; 0: none")
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="publisher, subscriber, peer and monitor alike under SCHED_RR, ahead of whatever else runs; as root",
    )
    parser.add_argument("--profile", type=Path, help="run the monitor under cProfile, and write here")
    parser.add_argument("--disk", type=Path, default=BUILD, help="folder in which journal and tape are written")
    parser.add_argument("--out", type=Path, default=BUILD / "bench-live.json")
    options = parser.parse_args()
    turn = options.peer_seconds or min(60.0, max(5.0, options.seconds / 4))
    BUILD.mkdir(exist_ok=True)
    load = os.getloadavg()[0]
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # children inherit it
    priority = "SCHED_RR" if options.realtime else "normal priority"
    print(
        f"{platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} cores for monitor, publisher and "
        f"subscriber together; load before the start {load:.1f}; {priority}\n",
        flush=True,
    )
    with tempfile.TemporaryDirectory(dir=options.disk, prefix="live-") as name:
        folder = Path(name)
        flips = folder / "flips"
        sent_at = flips_file(flips, mode="w+")
        source = f"ipc://{folder}/in"
        feeder = Role(publisher, source, flips)
        turns = [peer_phase(folder, feeder, source, sent_at, turn)]
        ours = monitor_phase(folder, feeder, source, sent_at, options.seconds, options.overload, options.profile)
        turns.append(peer_phase(folder, feeder, source, sent_at, turn))
        feeder.end()
    bare = {**turns[1], "late": np.concatenate([one["late"] for one in turns])}
    bare |= {key: (turns[0][key] + turns[1][key]) / 2 for key in ("core", "rss_end_mb")}
    table, met = rows(ours, bare), verdicts(ours, bare)
    for row in table:
        other, ratio = row["peers"]["pyzmq+msgpack"], row["ratios"]["pyzmq+msgpack"]
        print(f"{row['name']:48} {row['unit']:6} {row['ours']:10.4g}  pyzmq+msgpack {other:.4g} ({ratio:.2f}x)")
    print()
    for name, holds in met.items():
        print(f"{'met   ' if holds else 'MISSED'}  {name}")
    detail = {
        "seconds": options.seconds, "realtime": options.realtime, "topics": TOPICS, "hz": HZ,
        "load_before": load, "load_after": os.getloadavg()[0],
        "ours": _plain(ours), "peer_turns": [_plain(one) for one in turns], "met": met,
    }  # fmt: skip
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(
        json.dumps({"rows": table, "detail": detail}, indent=1, default=lambda value: value.item()) + "\n"
    )
    print(
        f"\nwritten to {options.out.relative_to(Path.cwd()) if options.out.is_relative_to(Path.cwd()) else options.out}"
    )
    sys.exit(0 if all(met.values()) else 1)


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    return {key: quantiles(value) if isinstance(value, np.ndarray) else value for key, value in found.items()}


if __name__ == "__main__":
    main()
