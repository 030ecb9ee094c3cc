"""docs/faults.md: every fault has its row, and every test that a row names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

NAME = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def rows(root: Path) -> dict[int, str]:
    """The rows of the table by their number."""
    lines = (root / "docs" / "faults.md").read_text("utf-8").splitlines()
    found = re.compile(r"\| (\d+) \|")
    return {int(match[1]): line for line in lines if (match := found.match(line))}


def test_every_fault_has_tests_that_exist(root: Path) -> None:
    """Rows 1 to 23 are there; a test that a row names is a function of the file that it names."""
    found = rows(root)
    assert sorted(found) == list(range(1, 24))
    missing = []
    for number, line in found.items():
        names = NAME.findall(line)
        assert names or "| - | - |" in line, f"row {number} names no test"
        for file, test in names:
            tree = ast.parse((root / "tests" / file).read_text("utf-8"))
            if test not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
                missing.append(f"row {number}: {file}::{test}")
    assert missing == []
