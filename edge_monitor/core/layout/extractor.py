"""The extractor: from batches of serialized messages to samples of the monitored signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..messages import Batch, Channel, topic_key
from ..samples import FLAG_END, MESSAGE, SAMPLE, Cause
from ..signals import Signal
from .arrays import WIDTHS, FloatArray, compile_array, resolve_element
from .definitions import Definition, LayoutError, short_name
from .fields import STAMP, TEXT, Path, resolve
from .formats import parse
from .msgpack import Document, compile_tree, declare, resolve_path
from .msgpack_walk import NODE, NUMBER, OPEN
from .msgpack_walk import TEXT as IS_TEXT
from .ops import OP, Op
from .program import ENCODINGS, Fill, Row, Want, compile_program
from .reduce import REDUCERS
from .text import TextTable
from .walk import CHANNEL, SLOT, WORK, extract

CAPACITY = 1 << 20  #: elements that one reduction takes; a longer list gives the cause ``overflow``


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a signal gets no samples from a channel: the index of the signal, a cause, and one line for a person."""

    signal: int
    cause: Cause
    message: str


#: What a channel's messages are read by.
Schema = Definition | Document | FloatArray


class Extractor:
    """Reads the fields that ``signals`` name out of serialized messages.

    Each channel's definition is compiled once (:meth:`add_channel`), each batch is one kernel call (:meth:`extract`).
    A message gives one sample for each of its channel's signals, in the order of ``signals``, the last one with
    ``FLAG_END``. What a message does not hold (an element beyond a list's end, a length beyond its bytes) is a sample
    with a cause and the value NaN, never an exception. Presence (an empty field) needs no definition and is 1.

    Values are in the unit of the signal, ``raw * scale + offset``; numbers of texts and presence are not scaled.
    """

    def __init__(self, signals: Sequence[Signal], texts: Sequence[str] = ()) -> None:
        """``texts`` get the first numbers of the text table, in their order. Raises ConfigError: they do not fit."""
        self.signals = tuple(signals)
        self.texts = TextTable(texts)
        self._topics = [topic_key(signal.topic, 0) for signal in signals]
        self._channels = np.zeros(0, CHANNEL)
        self._slots = np.zeros(0, SLOT)
        self._ops = np.zeros(len(signals), OP)  # the first rows: what each signal's values have proved to be
        self._ops["prim"] = [NUMBER if signal.values or _scaled(signal) else OPEN for signal in signals]
        self._nodes = np.zeros(0, NODE)
        self._keys = np.zeros(0, np.uint8)
        self._values = np.empty(CAPACITY if any(signal.reduce for signal in signals) else 0)
        self._work = np.zeros(WORK, np.int64)
        self._out = np.zeros(1024, SAMPLE)
        self._constants: dict[int, Mapping[str, float]] = {}
        self._names = {signal.name: index for index, signal in enumerate(signals)}
        self._text_signals: tuple[bytes, tuple[str, ...]] = b"", ()  # what the values were, and which are texts then

    def renewed(self, signals: Sequence[Signal]) -> Extractor:
        """An extractor of other signals with the same text table. Channels are to be added to it; see :meth:`succeed`."""
        other = Extractor(signals)
        other.texts = self.texts
        return other

    def succeed(self, old: Extractor) -> None:
        """Know of signals that are the same what ``old`` has found out by now: whether they are numbers or texts."""
        were = {signal.name: index for index, signal in enumerate(old.signals)}
        for index, signal in enumerate(self.signals):
            at = were.get(signal.name)
            if at is not None and old.signals[at].meaning == signal.meaning:
                self._ops["prim"][index] = old._ops["prim"][at]

    def add_channel(self, channel: Channel) -> list[Problem]:
        """Compile what the signals want of a channel; a channel with the same number is replaced.

        Returns a problem for each signal on the channel's topic that can't be read from it.
        """
        topic = topic_key(channel.topic, channel.instance)
        problems: list[Problem] = []
        wants: dict[Path, list[tuple[int, Signal]]] = {}
        present: list[int] = []
        definition: Schema | LayoutError | None = None
        for index, signal in enumerate(self.signals):
            if self._topics[index] != topic or not signal.topic:  # derived signals and bins come from no channel
                continue
            try:
                if signal.type is not None and short_name(signal.type) != short_name(channel.type):
                    message = f"{channel.topic} is {channel.type or 'of no stated type'}, not {signal.type}"
                    raise LayoutError(message, Cause.TYPE_MISMATCH)
                if not signal.field:
                    present.append(index)
                    continue
                if definition is None:
                    definition = self._define(channel)
                if isinstance(definition, LayoutError):
                    raise definition
                path = _resolve(definition, signal)
                wants.setdefault(path, []).append((index, signal))
            except LayoutError as error:
                problems.append(Problem(index, error.cause, f"{signal.name}: {error}"))
        try:
            self._install(channel, definition, wants, present)
        except LayoutError as error:  # one that no single signal is to blame for
            taken = [(index, signal) for group in wants.values() for index, signal in group]
            problems += [Problem(index, error.cause, f"{signal.name}: {error}") for index, signal in taken]
            self._install(channel, None, {}, present)
        return sorted(problems, key=lambda problem: problem.signal)

    def extract(self, batch: Batch) -> np.ndarray:
        """Samples of the monitored signals, in message order: a SAMPLE view that the next call overwrites."""
        data, messages = _frozen(batch.data), _frozen(batch.messages)
        table = self.texts
        done = begin = 0
        while True:
            count, begin = extract(
                data,
                messages,
                begin,
                self._channels,
                self._slots,
                self._ops,
                self._nodes,
                self._keys,
                table.rows,
                table.letters,
                table.filled,
                self._values,
                self._work,
                self._out[done:],
            )
            done += count
            if begin == len(messages):
                return self._out[:done]
            self._out = np.concatenate([self._out, np.zeros(len(self._out), SAMPLE)])

    @property
    def channel_counts(self) -> dict[int, int]:
        """Messages seen, by channel number; channels that were never added are not counted."""
        return {number: int(count) for number, count in enumerate(self._channels["messages"].tolist())}

    def is_text(self, signal: str) -> bool:
        """Whether the values of this signal are numbers of texts, as a channel or its first message has it."""
        index = self._names.get(signal)
        return index is not None and bool(self._ops[index]["prim"] == IS_TEXT)

    @property
    def text_signals(self) -> tuple[str, ...]:
        """The signals whose values are numbers of texts, by name."""
        kinds = self._ops["prim"][: len(self.signals)]
        known, names = self._text_signals
        if (found := kinds.tobytes()) != known:  # asked after each batch, and hardly ever another answer
            names = tuple(self.signals[i].name for i in np.flatnonzero(kinds == IS_TEXT))
            self._text_signals = found, names
        return names

    def constants(self, channel: int) -> Mapping[str, float]:
        """Number constants (enumerations) in the definition of a channel's type, where a signal needed it."""
        return self._constants.get(channel, {})

    def _define(self, channel: Channel) -> Schema | LayoutError:
        try:
            if channel.encoding == "msgpack":
                return declare(channel.definition)
            if channel.encoding in WIDTHS:
                return FloatArray(WIDTHS[channel.encoding], channel.schema == "stamp")
            if channel.encoding not in ENCODINGS:
                raise LayoutError(f"{channel.topic}: messages encoded as {channel.encoding} cannot be read")
            definition = parse(channel)
            self._constants[channel.id] = definition.constants
            return definition
        except LayoutError as error:
            return error

    def _install(
        self,
        channel: Channel,
        definition: Schema | LayoutError | None,
        wants: Mapping[Path, Sequence[tuple[int, Signal]]],
        present: Sequence[int],
    ) -> None:
        """Append the channel's slots and program to the pools and point its row to them."""
        order = sorted([*present, *(index for group in wants.values() for index, _ in group)])
        fills = {index: self._fill(channel, slot, index, slot == len(order) - 1) for slot, index in enumerate(order)}
        rows = [Row(Op.PRESENT, fill=fills[index]) for index in present]
        leaves: list[Row] = []
        targets = []
        for path, group in wants.items():
            if path.leaf == STAMP and not channel.receive_time:
                for index, _ in group:
                    fills[index] = _with_cause(fills[index], Cause.NO_RECEIVE_TIME)
                    rows.append(Row(Op.ABSENT, fill=fills[index]))
                continue
            mine = [fills[index] for index, _ in group]
            if path.leaf == TEXT:
                self._ops["prim"][[index for index, _ in group]] = IS_TEXT
                mine = [Fill(fill.slot, fill.signal, fill.flags) for fill in mine]
            targets.append(Want(path, tuple(mine)))
        if isinstance(definition, Definition):
            program = compile_program(definition, ENCODINGS[channel.encoding], targets)
            rows += [replace(row, b=channel.stamp_offset) if row.code == Op.STAMP else row for row in program]
        elif isinstance(definition, FloatArray):
            rows += compile_array(definition, targets)
        elif isinstance(definition, Document):
            tree = compile_tree(definition, targets)
            first = len(self._ops) + len(rows) + len(tree.rows) + 1
            rows += tree.moved(len(self._nodes), first)
            leaves = tree.leaves
            self._nodes = np.concatenate([self._nodes, tree.packed(len(self._nodes), first, len(self._keys))])
            self._keys = np.concatenate([self._keys, np.frombuffer(bytes(tree.keys), np.uint8)])
        rows.append(Row(Op.END))

        if channel.id >= len(self._channels):
            grown = np.zeros(channel.id + 1, CHANNEL)
            grown[: len(self._channels)] = self._channels
            self._channels = grown
        row = self._channels[channel.id]
        row["program"], row["slot"], row["slots"] = len(self._ops), len(self._slots), len(order)
        row["header"] = channel.encoding == "cdr" and bool(targets)
        slots = [(fills[index].signal, fills[index].flags, index in present) for index in order]
        self._slots = np.concatenate([self._slots, np.array(slots, SLOT)])
        self._ops = np.concatenate([self._ops, np.array([_packed(row) for row in rows + leaves], OP)])

    def _fill(self, channel: Channel, slot: int, index: int, last: bool) -> Fill:
        signal = self.signals[index]
        flags = int(channel.cause) | (FLAG_END if last else 0)
        reducer = REDUCERS.get(signal.reduce or "", -1)
        if not signal.field:
            return Fill(slot, index, flags)
        return Fill(slot, index, flags, reducer, signal.scale, signal.offset)


def warm() -> None:
    """Compile the kernels, or load them from the cache."""
    extractor = Extractor((), ("",))
    extractor.extract(Batch(np.zeros(0, np.uint8), np.zeros(0, MESSAGE)))


def _scaled(signal: Signal) -> bool:
    return signal.scale != 1.0 or signal.offset != 0.0


def _resolve(schema: Schema, signal: Signal) -> Path:
    if isinstance(schema, Document):
        return resolve_path(signal.field, signal.reduce)
    if isinstance(schema, FloatArray):
        return resolve_element(schema, signal.field, signal.reduce)
    return resolve(schema, signal.field, signal.reduce)


def _with_cause(fill: Fill, cause: Cause) -> Fill:
    flags = fill.flags if fill.flags & 0xFF else fill.flags | int(cause)
    return Fill(fill.slot, fill.signal, flags)


def _packed(row: Row) -> tuple[float, ...]:
    fill = row.fill or Fill(0, 0, 0)
    place = (fill.slot, fill.signal, fill.flags)
    return (int(row.code), row.prim, *place, row.align, row.a, row.b, row.c, fill.scale, fill.offset)


def _frozen(array: np.ndarray) -> np.ndarray:
    """A read-only view, so that the kernel is compiled once, whether a source's buffer can be written to or not."""
    view = np.ascontiguousarray(array)[:]
    view.flags.writeable = False
    return view
