"""``make bench``: every figure beside its peers of the same run, as ratios; a table, and build/bench.json.

Times are CPU seconds of this process (other work on the machine matters less), but where a part says otherwise. Peers and
ours take turns, and each figure is the best of its rounds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"
PARTS = ("replay", "layout", "engine", "journal", "formula", "drift", "perception")


def main() -> None:
    """Run the parts asked for (all by default), print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"some of: {' '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="smaller inputs; figures are rougher")
    parser.add_argument("--out", type=Path, default=BUILD / "bench.json")
    options = parser.parse_args()
    sys.path[:0] = [str(HERE)]
    rows = []
    print(f"{platform.machine()}, Python {platform.python_version()}; CPU time, peers in the same run\n", flush=True)
    print(f"{'what':44} {'unit':14} {'ours':>12}  peers and ratios", flush=True)
    for part in options.parts or [part for part in PARTS if (HERE / f"{part}.py").exists()]:
        for row in importlib.import_module(part).rows(quick=options.quick):
            rows.append(row)
            peers = ", ".join(
                f"{name} {value:.4g} ({row['ratios'][name]:.1f}x)" for name, value in row["peers"].items()
            )
            print(f"{row['name']:44} {row['unit']:14} {row['ours']:12.4g}  {peers}", flush=True)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(
        f"\nwritten to {options.out.relative_to(Path.cwd()) if options.out.is_relative_to(Path.cwd()) else options.out}"
    )


if __name__ == "__main__":
    main()
