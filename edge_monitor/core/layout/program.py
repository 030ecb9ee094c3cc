"""From a definition and the monitored paths to an extraction program.

As long as the residue of the cursor is known well enough to place the next field, fields are only offsets in one
stretch (``RUN``), whatever lies between them; a new stretch begins behind everything of variable size. Lists whose
elements lie at a fixed stride are skipped, indexed and reduced by arithmetic, others walked by a loop. Nothing behind
the last monitored field is walked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .definitions import SEQUENCE, SIZES, Definition, Field, LayoutError
from .fields import ALL, LENGTH, NUMBER, STAMP, TEXT, Path
from .load import CODES
from .ops import Op
from .sizes import Cursor, Sizes

MAX_LOOPS = 16  #: loops in loops


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a format lays out what a definition says."""

    aligned: bool  #: numbers lie at multiples of their size, counted from the start of the body
    terminated: bool  #: the length of a string counts a NUL at its end


ENCODINGS = {"cdr": Encoding(True, True), "ros1": Encoding(False, False), "packed": Encoding(False, False)}


@dataclass(frozen=True, slots=True)
class Fill:
    """A sample to fill: its place among the channel's, its signal and flags, the reducer, and scale and offset."""

    slot: int
    signal: int
    flags: int
    reducer: int = -1
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Want:
    """A path and what it fills. ``guards``: (loop depth, index) pairs that must hold where it is read."""

    path: Path
    fills: tuple[Fill, ...]
    guards: tuple[tuple[int, int], ...] = ()
    collect: bool = False  #: within a loop over ``[*]``: numbers are collected, not written


@dataclass(frozen=True, slots=True)
class Row:
    """One instruction before it becomes a row of ``ops.OP``."""

    code: Op
    prim: int = 0
    align: int = 1
    a: int = 0
    b: int = 0
    c: int = 0
    fill: Fill | None = None


def compile_program(definition: Definition, encoding: Encoding, wants: Sequence[Want]) -> list[Row]:
    """The instructions that fill ``wants`` out of one message, without the final ``END``. Raises LayoutError."""
    compiler = _Compiler(definition, encoding)
    for want in wants:
        if any(step.index is not None and step.index >= 0 for step in want.path.steps):
            compiler.rows.extend(Row(Op.ABSENT, fill=fill) for fill in want.fills)
    if wants:
        compiler.message(definition.root, wants, 0, tail=True)
    return compiler.rows


class _Compiler:
    def __init__(self, definition: Definition, encoding: Encoding) -> None:
        self.types = definition.types
        self.encoding = encoding
        self.sizes = Sizes(definition, encoding.aligned)
        self.length_align = 4 if encoding.aligned else 1
        self.rows: list[Row] = []
        self.cursor = Cursor()
        self.run: int | None = None  # row of the open stretch
        self.depth = 0

    def advance(self, align: int, size: int) -> int:
        """Move over ``size`` bytes from the next multiple of ``align``; their offset in the open stretch."""
        pad = self.cursor.pad(align)
        if self.run is None or pad is None:
            self.run = len(self.rows)
            self.rows.append(Row(Op.RUN, align=align if pad is None else 1))
        if pad is None:
            pad, self.cursor = 0, Cursor(align)
        begin = self.rows[self.run].a + pad
        self.rows[self.run] = replace(self.rows[self.run], a=begin + size)
        self.cursor = self.cursor.moved(pad + size)
        return begin

    def variable(self, row: Row, modulus: int = 1) -> None:
        """Emit an instruction behind which the cursor is a multiple of ``modulus`` and no more is known."""
        self.run = None
        self.rows.append(row)
        self.cursor = Cursor(modulus)

    def emit(self, want: Want, rows: Sequence[Row]) -> None:
        """Emit ``rows`` so that they run only where the guards of ``want`` hold."""
        for number, (depth, index) in enumerate(want.guards):
            skip = len(want.guards) - 1 - number + len(rows)
            self.rows.append(Row(Op.GUARD, prim=depth, a=index, b=skip))
        self.rows.extend(rows)

    def message(self, name: str, wants: Sequence[Want], level: int, tail: bool) -> None:
        """Walk a message at the cursor; ``tail``: nothing behind its last monitored field is needed."""
        fields = self.types[name]
        shares = [[want for want in wants if want.path.steps[level].name == item.name] for item in fields]
        last = max((at for at, share in enumerate(shares) if share), default=-1) if tail else len(fields) - 1
        for at in range(last + 1):
            self.field(fields[at], shares[at], level, tail and at == last)

    def field(self, item: Field, wants: Sequence[Want], level: int, tail: bool) -> None:
        """Walk one field of any kind."""
        self.sizes.visit()
        if item.type == "wstring" and item.length is None:
            # rosidl_typesupport_fastrtps: the number of characters, then four bytes for each, and no terminator
            self.variable(Row(Op.LIST, align=self.length_align, a=4, b=4, c=self.length_align), self.length_align)
        elif item.type == "string" and item.length is None:
            self.variable(Row(Op.STRING, align=self.length_align, c=int(self.encoding.terminated)))
            for want in wants:
                self.emit(want, [Row(Op.TEXT, fill=fill) for fill in want.fills])
        elif item.length == SEQUENCE:
            self.sequence(item, wants, level)
        elif not (self.sizes.fixed(item.type) and self.stretch(item, wants, level)):
            if item.length is None:
                self.message(item.type, wants, level + 1, tail)
            else:
                self.loop(item, wants, level)

    def stretch(self, item: Field, wants: Sequence[Want], level: int) -> bool:
        """Walk a fixed-size field as part of a stretch; False where that needs to know the cursor better."""
        lead = self.sizes.lead(item.type)
        self.advance(lead, 0)
        start = self.cursor
        size = self.sizes.field_size(item, start)
        if size is None:
            return False
        begin = self.advance(lead, size)
        for want in wants:
            self.emit(want, self.take(item, want, level, begin, start))
        return True

    def sequence(self, item: Field, wants: Sequence[Want], level: int) -> None:
        """Walk a list that carries its length."""
        start, lead = Cursor(1), 1
        if self.sizes.fixed(item.type):
            lead = self.sizes.lead(item.type)
            pad = self.cursor.pad(self.length_align)
            length_end = Cursor(4) if pad is None else self.cursor.moved(pad + 4)
            pad = length_end.pad(lead)
            start = Cursor(lead) if pad is None else length_end.moved(pad)
        stride = self.sizes.stride(item.type, start)
        if stride is None:
            self.loop(item, wants, level)
            return
        known = min(4, lead) if stride.size == stride.step else 1
        self.variable(Row(Op.LIST, align=self.length_align, a=stride.step, b=stride.size, c=lead), known)
        element = replace(item, length=None)
        for want in wants:
            index = want.path.steps[level].index
            if index is None or index == ALL:
                self.emit(want, self.take_all(item, want, level, start))
            else:
                rows = self.take(element, want, level, 0, start)
                self.emit(want, [Row(Op.INDEX, a=index, b=len(rows)), *rows])

    def take(self, item: Field, want: Want, level: int, base: int, start: Cursor) -> list[Row]:
        """Instructions that read what ``want`` means in a fixed-size field at ``base``, which is at ``start``."""
        offset, item, level, cursor = self.sizes.locate(item, want.path.steps, level, start)
        begin = base + offset
        if item.length is not None:
            if want.path.leaf == TEXT:
                return [Row(Op.CHARS, a=begin, b=item.length, fill=fill) for fill in want.fills]
            stride = self.sizes.stride(item.type, cursor)
            assert stride is not None, "the size of the field is known, hence its stride"
            rows = self.take_all(item, want, level, cursor)
            return [
                replace(row, a=begin + row.a, b=item.length, c=stride.step)
                if row.code in (Op.GATHER, Op.COUNT)
                else row
                for row in rows
            ]
        if want.collect:
            return [Row(Op.COLLECT, prim=CODES[item.type], a=begin)]
        if want.path.leaf == NUMBER:
            bit, size = (0, 0) if want.path.bit is None else (want.path.bit + 1, SIZES[item.type])
            return [Row(Op.READ, prim=CODES[item.type], a=begin, b=bit, c=size, fill=fill) for fill in want.fills]
        members = self.types[item.type]
        plain = members[0].type
        if want.path.leaf == STAMP:
            return [Row(Op.STAMP, prim=CODES[plain], a=begin, fill=fill) for fill in want.fills]
        vector = Row(Op.GATHER, prim=CODES[plain], a=begin, b=len(members), c=SIZES[plain])
        return [Row(Op.CLEAR), vector, *reduce_rows(want.fills)]

    def take_all(self, item: Field, want: Want, level: int, start: Cursor) -> list[Row]:
        """Instructions that read the list at hand as a whole; its first element is at ``start``."""
        if want.path.leaf == LENGTH:
            return [Row(Op.COUNT, prim=-1, fill=fill) for fill in want.fills]
        element = replace(item, length=None)
        offset, number, _, _ = self.sizes.locate(element, want.path.steps, level, start)
        return [Row(Op.CLEAR), Row(Op.GATHER, prim=CODES[number.type], a=offset), *reduce_rows(want.fills)]

    def loop(self, item: Field, wants: Sequence[Want], level: int) -> None:
        """Walk the elements one by one: once for each ``[*]`` path, and once for all that is read at an index."""
        if self.depth == MAX_LOOPS:
            raise LayoutError(f"lists are nested deeper than {MAX_LOOPS}")
        depth = self.depth
        lengths = [want for want in wants if want.path.steps[level].index is None]
        wild = [want for want in wants if want.path.steps[level].index == ALL]
        single = [want for want in wants if want not in lengths and want not in wild]
        again = len(wild) + bool(single) > 1
        if again:
            self.rows.append(Row(Op.SAVE, prim=depth))
        for want in wild:
            self.rows.append(Row(Op.CLEAR))
            self.passage(item, [replace(want, collect=True)], level)
            self.emit(want, reduce_rows(want.fills))
            if again and (single or want is not wild[-1]):
                self.rows.append(Row(Op.RESTORE, prim=depth))
        if single or not wild:
            self.passage(item, single, level)
        for want in lengths:
            self.emit(want, [Row(Op.COUNT, prim=depth, fill=fill) for fill in want.fills])

    def passage(self, item: Field, wants: Sequence[Want], level: int) -> None:
        """One loop over all elements."""
        depth, begin = self.depth, len(self.rows)
        own = item.length == SEQUENCE
        self.variable(Row(Op.FOR, prim=depth, align=self.length_align if own else 1, a=-1 if own else item.length or 0))
        inner = []
        for want in wants:
            index = want.path.steps[level].index
            guards = want.guards if index is None or index == ALL else (*want.guards, (depth, index))
            inner.append(replace(want, guards=guards))
        self.depth += 1
        self.field(replace(item, length=None), inner, level, tail=False)
        self.depth -= 1
        self.variable(Row(Op.NEXT, prim=depth, b=begin + 1 - len(self.rows)))
        self.rows[begin] = replace(self.rows[begin], b=len(self.rows) - begin)


def reduce_rows(fills: Iterable[Fill]) -> list[Row]:
    """The instructions that reduce what is collected into ``fills``."""
    # In the order of the reducers' codes: the percentiles, which reorder what is collected, come last.
    ordered = sorted(fills, key=lambda fill: fill.reducer)
    return [Row(Op.REDUCE, prim=fill.reducer, fill=fill) for fill in ordered]
