"""``make bench-packet``: how long export and both verifiers take for evidence packets of 100,000 and 1,000,000 events.

The journal is a real one, written by ``Journal`` in commits of 5,000. Each figure has its wall and CPU seconds: on a machine that
does other work the second says what the code costs. Prints a table, writes build/bench-packet.json; exit code 1 where a target of
wall time is missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

from journal import BUILD, entry, journal_at  # noqa: E402 - the bench beside this one

from edge_monitor.evidence.packet import JournalSource, export  # noqa: E402 - after the path is set
from edge_monitor.evidence.verify import Trust, verify  # noqa: E402 - after the path is set
from edge_monitor.journal.keys import SigningKey  # noqa: E402 - after the path is set

COMMIT = 5000
IDENTITY, EXPORTER = SigningKey("bench", bytes(range(32))), SigningKey("assessor", bytes(32))
TARGETS = {100_000: {"export": 10.0, "verify": 5.0}, 1_000_000: {"export": 60.0, "verify": 60.0}}  #: s


def timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a call answers, and its seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def write(path: Path, count: int) -> None:
    """A journal of so many events."""
    with journal_at(path) as journal:
        for number in range(count):
            journal.append(entry(number, now=False))
            if number % COMMIT == COMMIT - 1:
                journal.commit()


def second_verifier() -> Any:
    """The independent verifier, a file by itself."""
    spec = importlib.util.spec_from_file_location("verify_packet", HERE.parent / "registry/verify/verify_packet.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(folder: Path, count: int) -> dict[str, Any]:
    """Export and verification of one journal."""
    path, packet = folder / f"{count}.db", folder / f"{count}.zip"
    _, journal = timed(lambda: write(path, count))
    source = JournalSource(path)
    done, exported = timed(lambda: export(source, packet, EXPORTER))
    source.close()
    verdict, verified = timed(lambda: verify(packet, Trust([EXPORTER.verifier], [IDENTITY.verifier])))
    other = second_verifier()
    keys = [[other.parse_key(key.verifier.text(), b"\x01")] for key in (EXPORTER, IDENTITY)]
    (word, _), second = timed(lambda: other.verify(packet, *keys, []))
    assert verdict.word == word == "INCOMPLETE" and done.records == count, "no receipt, and nothing else, is missing"
    return {
        "events": count, "packet_bytes": packet.stat().st_size, "journal": journal, "export": exported, "verify": verified,
        "verify_second": second, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def main() -> None:
    """Measure, print, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=sorted(TARGETS))
    parser.add_argument("--disk", type=Path, default=BUILD, help="folder in which journal and packet are written")
    parser.add_argument("--out", type=Path, default=BUILD / "bench-packet.json")
    options = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} cores; load before {load:.1f}\n")
    rows, met = [], {}
    for count in options.events:
        with tempfile.TemporaryDirectory(dir=options.disk, prefix="packet-") as folder:
            row = measure(Path(folder), count)
        rows.append(row)
        print(
            f"{count:>9,} events, packet of {row['packet_bytes'] / 1e6:.0f} MB, {row['rss_mb']:.0f} MB resident at most"
        )
        for name in ("journal", "export", "verify", "verify_second"):
            print(f"  {name:14} {row[name]['wall_s']:8.1f} s   CPU {row[name]['cpu_s']:8.1f} s", flush=True)
        for name, most in TARGETS.get(count, {}).items():
            met[f"{name} of {count:,} events in {most:.0f} s"] = row[name]["wall_s"] <= most
    for name, holds in met.items():
        print(f"{'met   ' if holds else 'MISSED'}  {name}")
    document = {"rows": rows, "load_before": load, "load_after": os.getloadavg()[0], "met": met}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(0 if all(met.values()) else 1)


if __name__ == "__main__":
    main()
