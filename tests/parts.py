"""The parts of a long matrix, one after another: what each says, what failed, what could not run and why."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path


class Parts:
    """Runs parts that have a name, and prints a line for each."""

    def __init__(self, only: str | None, width: int) -> None:
        """``only``: the one part that is wanted; ``width``: of a name, columns."""
        self._only, self._width = only, width
        self.good = True

    def run(self, name: str, do: Callable[[Path], object], place: str | None = None, reason: str = "") -> None:
        """Call it with a folder (in ``place``), unless there is a reason why it can't run here."""
        if self._only not in (None, name):
            return
        if reason:
            print(f"{name:<{self._width}} DID NOT RUN: {reason}", flush=True)
            return
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(dir=place) as folder:
            try:
                words = str(do(Path(folder)))
            except Exception:
                self.good = False
                words = "FAILED\n" + traceback.format_exc()
        print(f"{name:<{self._width}} {time.monotonic() - begun:6.1f} s  {words}", flush=True)
