"""What the numbers of text signals stand for."""

from __future__ import annotations

from typing import Protocol

from .core.layout.text import TextTable
from .envelope import Envelope


class Vocabulary(Protocol):
    """What the numbers of text signals stand for: an ``Extractor``, or what a tape kept of one."""

    @property
    def texts(self) -> TextTable: ...

    def is_text(self, signal: str) -> bool: ...


def constants(envelope: Envelope) -> list[str]:
    """The texts that an envelope names itself: the first in every text table."""
    return [text for check in envelope.checks for text in check.texts]
