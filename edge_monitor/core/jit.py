"""``@kernel``: the one place that decides how a function is compiled and where its machine code is kept.

Numba's cache does not notice an edited callee in another file, so the cache folder is named after the hash of every
source file of the core (and of the folder of a kernel outside it). No ``fastmath`` and no ``parallel``: results are
equal bit for bit with and without compilation (``NUMBA_DISABLE_JIT=1``).
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.extending import register_jitable

F = TypeVar("F", bound=Callable[..., Any])

CORE = Path(__file__).resolve().parent
_digests: dict[Path, str] = {}


def source_digest(folder: Path = CORE) -> str:
    """Hex digest of the Python sources of ``core`` and of ``folder``, Numba's version and the interpreter's tag."""
    if folder not in _digests:
        digest = hashlib.sha256(f"{numba.__version__} {sys.implementation.cache_tag}".encode())
        for root in sorted({CORE, folder}):
            for path in sorted(root.rglob("*.py")):
                digest.update(path.relative_to(root).as_posix().encode())
                digest.update(path.read_bytes())
        _digests[folder] = digest.hexdigest()
    return _digests[folder]


def cache_base() -> Path:
    """Folder for compiled kernels: ``EDGE_MONITOR_CACHE_DIR``, else the user's cache folder.

    Where that can't be written (a read-only home), a folder of this user's in the system's temporary one, so that a
    start never compiles more often than it must.
    """
    wanted = os.environ.get("EDGE_MONITOR_CACHE_DIR")
    base = Path(wanted) if wanted else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-monitor"
    try:
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=base):
            return base
    except OSError:
        fallback = Path(tempfile.gettempdir()) / f"edge-monitor-{os.getuid()}"
        fallback.mkdir(mode=0o700, exist_ok=True)
        if fallback.stat().st_uid != os.getuid():  # someone else's folder could hold someone else's machine code
            return Path(tempfile.mkdtemp(prefix="edge-monitor-"))
        return fallback


def kernel(function: F) -> F:
    """Compile ``function`` in nopython mode with NumPy error semantics (division by zero gives inf, not an exception).

    Two settings make a sample six times cheaper than Numba's defaults (measured: 330 to 54 ns with three checks):
    ``forceinline``, as an array argument is seven words pushed at every call; and ``_nrt=False``, as the counting of
    array references (atomic, at every call) is of no use to code that never allocates. The latter also turns "kernels
    don't allocate" from a rule into something that the compiler checks: a kernel that would, does not compile.
    """
    return _compile(function)


def inlined(function: F) -> F:
    """A ``kernel`` that only other kernels call: it gets no entry from Python, which saves a third of the compile time."""
    return _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def outlined(function: F) -> F:
    """Like ``inlined``, for a function too large to be copied to each place that calls it (a call costs some 10 ns)."""
    return _compile(function, inline=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def shared(function: F) -> F:
    """For arithmetic that plain Python calls as it is, without compiling, and kernels call compiled into themselves."""
    register: Any = register_jitable(error_model="numpy", fastmath=False, forceinline=True, _nrt=False)
    same: F = register(function)
    return same


def _compile(function: F, *, inline: bool = True, **options: bool) -> F:
    folder = Path(function.__code__.co_filename).resolve().parent
    place = cache_base() / source_digest(CORE if folder.is_relative_to(CORE) else folder)[:32]
    # Numba reads the folder from its configuration when the dispatcher is made, hence set around the decoration only.
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, str(place)
    try:
        njit: Any = numba.njit  # its stubs don't know _nrt
        compiled: F = njit(
            cache=True, error_model="numpy", fastmath=False, nogil=True, forceinline=inline, _nrt=False, **options
        )(function)
        return compiled
    finally:
        config.CACHE_DIR = before
