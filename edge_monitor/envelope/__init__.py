"""The file that mission planners write: what is measured, what must hold, who commands, what a decision needs."""

from __future__ import annotations

from .loader import Envelope, load, loads
from .problems import EnvelopeError, Problem

__all__ = ["Envelope", "EnvelopeError", "Problem", "load", "loads"]
