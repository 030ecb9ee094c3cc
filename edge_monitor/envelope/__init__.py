"""The file that mission planners write: what is measured, what must hold, who commands, what a decision needs.

The names below load when they are first used: whoever reads a people file, a registry for one, needs none of the core.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checks import CHECK_MODELS
    from .loader import Envelope, load, loads
    from .problems import EnvelopeError, Problem

__all__ = ["CHECK_MODELS", "Envelope", "EnvelopeError", "Problem", "load", "loads"]

_HOMES = {"CHECK_MODELS": "checks", "EnvelopeError": "problems", "Problem": "problems"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'loader')}", __name__), name)
