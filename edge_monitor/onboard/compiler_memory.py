"""Memory that only the compiler needed: a robot's computer has other uses for it."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

MAPS = Path("/proc/self/maps")
LIBRARY = "libllvmlite"


def give_back() -> int:
    """Let the system have the pages of the compiler's code that are in memory; answers how many bytes lie in that code.

    What is called again comes back from the file. The code alone: what was written to (relocations, data) would be lost.
    Nothing happens where the system has no such list of mappings.
    """
    try:
        lines = MAPS.read_text().splitlines()
    except OSError:
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    given = 0
    for line in lines:
        words = line.split(maxsplit=5)
        if len(words) == 6 and words[1] == "r-xp" and Path(words[5]).name.startswith(LIBRARY):
            start, end = (int(place, 16) for place in words[0].split("-"))
            if madvise(start, end - start, mmap.MADV_DONTNEED) == 0:
                given += end - start
    return given
