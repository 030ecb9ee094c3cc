"""Damages evidence packets at random, sealed again or not, and asks both verifiers: they must say the same word.

Run as a program it takes 2,000 packets; ``test_evidence.py`` runs a short form.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import ModuleType

from evidence_case import Case, contents, independent, made, sealed, second, zipped

from edge_monitor.evidence.verify import Trust, verify


def agreed(case: Case, packet: Path, folder: Path, other: ModuleType, *, count: int, seed: int) -> Counter[str]:
    """How often each word was said of ``count`` damaged packets. Raises ``AssertionError`` where the two differ."""
    rng = random.Random(seed)
    originals = contents(packet)
    names = sorted(name for name in originals if "envelopes" not in name)  # the second says that it leaves these alone
    trust = Trust(case.trust.exporters, case.trust.robots, case.trust.registries)
    seen: Counter[str] = Counter()
    for number in range(count):
        files = dict(originals)
        for _ in range(rng.randrange(1, 3)):
            mutate(files, names, rng)
        seal = zipped
        if rng.random() < 0.7:
            files["attest/packet.dsse.json"] = originals["attest/packet.dsse.json"]
            seal = sealed
        target = seal(files, folder / "m.zip")
        verdict = verify(target, trust)
        found = second(other, target)
        assert found == verdict.word, f"packet {number} of seed {seed}: {verdict.word}, {found}; {verdict.failures}"
        seen[found] += 1
    return seen


def mutate(files: dict[str, bytes], names: list[str], rng: random.Random) -> None:
    """One change somewhere."""
    name = rng.choice([name for name in names if name in files])
    data = files[name]
    if rng.random() < 0.05:
        del files[name]
    elif rng.random() < 0.1:
        files[name] = data[: rng.randrange(len(data) + 1)]
    elif data:
        place = rng.randrange(len(data))
        files[name] = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]


def main() -> int:
    """Print how often each verdict came; 1 where the verifiers differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=20261126)
    options = parser.parse_args()
    other = independent(Path(__file__).resolve().parent.parent)
    with tempfile.TemporaryDirectory() as name:
        case = made(Path(name))
        try:
            seen = agreed(case, case.packet(), Path(name), other, count=options.count, seed=options.seed)
        except AssertionError as error:
            print(f"the verifiers differ: {error}")
            return 1
    print(f"{options.count} damaged packets, seed {options.seed}: both verifiers said {dict(seen)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
