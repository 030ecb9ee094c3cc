"""Mutation tests in short: a seeded sample of what ``make mutants`` tries in full, and what it is a sample of."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from mutants import SOURCES, TESTS, explained, key
from mutation.mutants import COMPARISONS, CORE, mutants_of

SEED, SAMPLE = 4, 30


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, as ``make mutants`` runs it."""
    command = [sys.executable, "tests/mutants.py", *arguments]
    return subprocess.run(
        command, check=False, cwd=root, env=os.environ | {"NO_COLOR": "1"}, capture_output=True, text=True, timeout=600
    )


def test_a_sample_is_caught(root: Path) -> None:
    """Of thirty mutants, drawn anew when the sources change, none survives."""
    done = run(root, "--sample", str(SAMPLE), "--seed", str(SEED))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"seed {SEED}" in done.stdout and f"{SAMPLE} mutants" in done.stdout


@pytest.mark.parametrize("source", SOURCES)
def test_every_comparison_has_its_mutant(source: str) -> None:
    """Each comparison in the sources is changed once, and each mutant has a name of its own."""
    mutants = mutants_of(source)
    assert max(Counter(map(key, mutants)).values(), default=1) == 1
    nodes = [node for node in ast.walk(ast.parse((CORE / source).read_text())) if isinstance(node, ast.Compare)]
    turned = {ast.unparse(node) for node in nodes}
    assert turned <= {mutant.change.partition(" -> ")[0] for mutant in mutants} | {m.change for m in mutants}
    assert all(type(op) in COMPARISONS for node in nodes for op in node.ops)


def test_every_source_has_its_tests(root: Path) -> None:
    """The map from sources to test files is whole, and names files that exist; so does the list of survivors."""
    sources = {source for source in SOURCES if mutants_of(source)}
    assert sources == set(TESTS)
    assert all((root / "tests" / name).is_file() for names in TESTS.values() for name in names)
    known = {key(mutant) for source in sources for mutant in mutants_of(source)}
    assert set(explained()) <= known
    assert all(why.strip() for why in explained().values())
