"""``Recorder``: a ``Decider`` that writes down what it is fed, before it decides."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
import numpy as np

from ..core.commands import Command, ReloadEnvelope
from ..core.layout import Extractor
from ..core.layout.text import TextTable
from ..core.messages import Damage
from ..core.samples import SAMPLE
from ..core.transplant import History
from ..decider import Decider
from ..events import Event
from ..succession import Successor
from .format import Kind
from .ring import Ring

TIME = struct.Struct("<q")
RANGE = struct.Struct("<qq")  #: of a history: its beginning, ns, and how many of its rows are its base
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
        for at in range(0, len(items), self.most_rows):
            part = items[at : at + self.most_rows]
            self._write(Kind.ITEMS, part.tobytes())
            found += self.decider.take(part)
        return found

    def step(self, items: np.ndarray, t: int) -> list[Event]:
        """As the decider's; in the tape they are two entries."""
        if not 0 < len(items) <= self.most_rows:
            return self.take(items) + self.until(t)
        self._write(Kind.ITEMS, items.tobytes(), (Kind.UNTIL, TIME.pack(t)))
        return self.decider.step(items, t)

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
        if isinstance(order, ReloadEnvelope):
            self._write_words()  # those of the new envelope among them
        self._write(Kind.COMMAND, _encode(order.payload()))
        return self.decider.command(order)

    def offer(self, successor: Successor, history: History | None = None) -> None:
        """As the decider's; the history is written down too."""
        if history is not None:
            self._write(Kind.HISTORY, pack_history(history))
        self.decider.offer(successor, history)

    def renew(self, extractor: Extractor) -> None:
        """From here on ``extractor`` makes the items."""
        self._extractor = extractor
        self._told = (len(extractor.texts), -1)  # to be told before the next items

    @property
    def most_rows(self) -> int:
        """Rows of a history that there is room for."""
        return self.ring.open_size // 4 // SAMPLE.itemsize

    def finish(self) -> list[Event]:
        """As the decider's."""
        self._write(Kind.FINISH, b"")
        return self.decider.finish()

    def _write(self, kind: Kind, payload: bytes, *more: tuple[Kind, bytes]) -> None:
        """``more``: entries that follow at once, and take hardly any room."""
        now = self.decider.now
        if not self.ring.fits(len(payload) + self.ring.open_size // 4, now - BLOCK_NS):
            self._turn()
        if kind == Kind.ITEMS:  # nothing else speaks of texts
            self._write_words()
        self.ring.append(kind, payload, now, *more)

    def _write_words(self) -> None:
        told = self._known()
        if told != self._told:
            self.ring.append(Kind.WORDS, _encode(self._words(self._told[0])), self.decider.now)
            self._told = told

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
        self._signals = set(signals)


def pack_history(history: History) -> bytes:
    """The payload of a HISTORY entry."""
    return RANGE.pack(history.t, len(history.base)) + history.base.tobytes() + history.items.tobytes()


def unpack_history(payload: bytes) -> History:
    """From :func:`pack_history`. Raises ``ValueError`` or ``struct.error``: it is none."""
    t, base = RANGE.unpack_from(payload)
    rows = np.frombuffer(payload[RANGE.size :], SAMPLE)
    if not 0 <= base <= len(rows):
        raise ValueError("a history has more rows in its base than in all")
    return History(t, rows[:base], rows[base:])
