"""A process for one mutant that acts when its module is loaded: ``python -m mutation.alone SOURCE NUMBER FILE EXAMPLES``.

FILE names the tests, a line each; Hypothesis tries so many EXAMPLES of each. Exits with what pytest says: 0 where the mutant
survived.
"""

from __future__ import annotations

import importlib.machinery
import signal
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from .mutants import Mutant, mutants_of
from .trial import ARGUMENTS, BROKEN, KILLED, few_examples, quick_to_fail

CPU_S = 120  #: that all tests together may take


class Loader(importlib.machinery.SourceFileLoader):
    """Compiles the changed tree in place of the file."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(mutant.path))
        self.mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        """The changed module."""
        return compile(self.mutant.tree(), self.path, "exec")


class Finder:
    """Finds the mutant's module first."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The changed module, and no other."""
        if name != self.mutant.module:
            return None
        return spec_from_file_location(name, self.mutant.path, loader=Loader(self.mutant))


class Quick:
    """Plugin: settings that fail fast, and ``most`` examples."""

    def __init__(self, most: int) -> None:
        self.most = most

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Before test modules are imported."""
        quick_to_fail()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Before they run."""
        for item in items:
            few_examples(item, self.most)


def main(source: str, number: int, listed: Path, most: int) -> int:
    """Run the tests with the mutant in its module."""
    mutant = mutants_of(source)[number]
    finder: Any = Finder(mutant)
    sys.meta_path.insert(0, finder)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    code = pytest.main([*ARGUMENTS, "-x", *listed.read_text().splitlines()], plugins=[Quick(most)])
    return {pytest.ExitCode.OK: 0, pytest.ExitCode.NO_TESTS_COLLECTED: BROKEN}.get(pytest.ExitCode(code), KILLED)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
