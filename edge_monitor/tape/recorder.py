"""``Recorder``: a ``Decider`` that writes down what it is fed, before it decides."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
import numpy as np

from ..core.commands import Command
from ..core.layout import Extractor
from ..core.layout.text import TextTable
from ..core.messages import Damage
from ..core.samples import SAMPLE
from ..decider import Decider
from ..events import Event
from .format import Kind
from .ring import Ring

TIME = struct.Struct("<q")
#: A block is closed after so long, ns of the stream's time; and re-execution has to start so far back at most.
BLOCK_NS = 30_000_000_000
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class Recorder:
    """Passes everything on to ``decider`` and keeps it in ``ring``: each block begins with the decider's state."""

    def __init__(self, decider: Decider, ring: Ring, extractor: Extractor) -> None:
        """``extractor``: makes the items; its texts and text signals grow with what it meets."""
        self.decider = decider
        self.ring = ring
        self._extractor = extractor
        self._told = (0, 0)
        self._turn()

    def start(self, t: int) -> list[Event]:
        """As the decider's."""
        if self.decider.started:
            return []
        self._write(Kind.START, TIME.pack(t))
        return self.decider.start(t)

    def take(self, items: np.ndarray) -> list[Event]:
        """As the decider's."""
        found: list[Event] = []
        most = self.ring.open_size // 4 // SAMPLE.itemsize
        for at in range(0, len(items), most):
            part = items[at : at + most]
            self._write(Kind.ITEMS, part.tobytes())
            found += self.decider.take(part)
        return found

    def until(self, t: int) -> list[Event]:
        """As the decider's."""
        self._write(Kind.UNTIL, TIME.pack(t))
        return self.decider.until(t)

    def damage(self, damage: Damage) -> list[Event]:
        """As the decider's."""
        self._write(Kind.DAMAGE, msgspec.msgpack.encode(damage))
        return self.decider.damage(damage)

    def command(self, order: Command) -> tuple[list[Event], str]:
        """As the decider's."""
        self._write(Kind.COMMAND, _encode(order.payload()))
        return self.decider.command(order)

    def finish(self) -> list[Event]:
        """As the decider's."""
        self._write(Kind.FINISH, b"")
        return self.decider.finish()

    def _write(self, kind: Kind, payload: bytes) -> None:
        now = self.decider.now
        if self.ring.room < len(payload) + self.ring.open_size // 4 or now - self.ring.begun > BLOCK_NS:
            self._turn()
        if kind == Kind.ITEMS:  # nothing else speaks of texts
            told = self._known()
            if told != self._told:
                first = self._told[0]
                self.ring.append(Kind.WORDS, _encode(self._words(first)), now)
                self._told = told
        self.ring.append(kind, payload, now)

    def _turn(self) -> None:
        self._told = self._known()
        self.ring.turn(_encode([self._words(0), self.decider.snapshot()]), self.decider.now)

    def _words(self, first: int) -> list[object]:
        table = self._extractor.texts
        texts = [table.text(code).encode("utf-8", "surrogateescape") for code in range(first, len(table))]
        return [first, texts, list(self._extractor.text_signals)]

    def _known(self) -> tuple[int, int]:
        return len(self._extractor.texts), len(self._extractor.text_signals)


class Words:
    """The vocabulary that a tape kept: numbers of texts, and which signals are texts."""

    def __init__(self, constants: Sequence[str] = ()) -> None:
        self.texts = TextTable(constants)
        self._signals: set[str] = set()

    def is_text(self, signal: str) -> bool:
        """Whether the signal's values are numbers of texts."""
        return signal in self._signals

    def learn(self, first: int, texts: Sequence[bytes], signals: Sequence[str]) -> None:
        """Enter texts, the first of which has the number ``first``. Raises ``ValueError`` where the numbers don't fit."""
        for number, text in enumerate(texts, first):
            if self.texts.code(text.decode("utf-8", "surrogateescape")) != number:
                raise ValueError(f"text {number} has another number here")
        self._signals.update(signals)
