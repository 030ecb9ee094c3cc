"""The file that mission planners write: what is measured, what must hold, who commands, what a decision needs."""

from __future__ import annotations

from .checks import CHECK_MODELS
from .loader import Envelope, load, loads
from .problems import EnvelopeError, Problem

__all__ = ["CHECK_MODELS", "Envelope", "EnvelopeError", "Problem", "load", "loads"]
