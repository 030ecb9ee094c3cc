"""A start that is not slower than it must be: a monitor that was killed has to be active again within two seconds."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Numba imports it, where SciPy is installed, to know whether there is BLAS, which no kernel uses.
UNUSED = "scipy.linalg"


@contextmanager
def quick_start() -> Iterator[None]:
    """Within it nothing is searched for garbage, as a start makes none, and SciPy (a fifth of a second) is not imported."""
    collecting, hidden = gc.isenabled(), UNUSED not in sys.modules
    gc.disable()
    if hidden:
        sys.modules[UNUSED] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[UNUSED]
        if collecting:
            gc.enable()
