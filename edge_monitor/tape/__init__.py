"""The black box: every item that decisions were made of, in a ring that outlives the process (docs/black_box.md)."""

from .format import Block, Entry, Kind, TapeError
from .reader import Tape, read
from .recorder import Recorder
from .ring import Ring

__all__ = ["Block", "Entry", "Kind", "Recorder", "Ring", "Tape", "TapeError", "read"]
