"""Message definitions, compiled once to flat programs that one kernel walks over serialized bytes."""

from .extractor import Extractor, Problem, warm
from .text import TextTable

__all__ = ["Extractor", "Problem", "TextTable", "warm"]
