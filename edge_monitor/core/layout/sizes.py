"""Where fixed-size things lie: sizes, alignment and strides of what carries no length.

Classic CDR (XCDR version 1; OMG DDS-XTypes 1.3, 7.4.3) aligns each number to its size, counted from the start of the
body, and messages themselves not at all: how large one is depends on where it begins. Hence every question here is
asked of a :class:`Cursor`, that is, of what is known about the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .definitions import SEQUENCE, SIZES, Definition, Field, LayoutError
from .fields import Step

MAX_FIELDS = 20_000  #: fields looked at for one channel


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position known as ``residue`` modulo ``modulus``, a power of two up to 8."""

    modulus: int = 8
    residue: int = 0

    def pad(self, align: int) -> int | None:
        """Bytes to the next multiple of ``align``; None where that is not known."""
        return (-self.residue) % align if align <= self.modulus else None

    def moved(self, size: int) -> Cursor:
        """The position ``size`` bytes on."""
        return Cursor(self.modulus, (self.residue + size) % self.modulus)


@dataclass(frozen=True, slots=True)
class Stride:
    """Elements of a list at equal distances: ``size`` bytes each, ``step`` from start to start."""

    size: int
    step: int

    def total(self, count: int) -> int:
        """Bytes from the start of the first of ``count`` >= 1 elements to the end of the last."""
        return (count - 1) * self.step + self.size


class Sizes:
    """Sizes and places in the types of one definition. Raises :class:`LayoutError` where it is absurdly large."""

    def __init__(self, definition: Definition, aligned: bool) -> None:
        self.types = definition.types
        self.aligned = aligned
        self._visited = 0
        self._fixed: dict[str, bool] = {}
        self._widest: dict[str, int] = {}
        self._sizes: dict[tuple[str, Cursor], int | None] = {}

    def visit(self) -> None:
        """Count a field against the limit, so that a hostile definition ends."""
        self._visited += 1
        if self._visited > MAX_FIELDS:
            raise LayoutError(f"the definition is too large: more than {MAX_FIELDS} fields to look at")

    def fixed(self, name: str) -> bool:
        """True where no length is carried anywhere in a type."""
        if name not in self._fixed:
            self._fixed[name] = name in SIZES or (
                name in self.types
                and all(item.length != SEQUENCE and self.fixed(item.type) for item in self.types[name])
            )
        return self._fixed[name]

    def lead(self, name: str) -> int:
        """Alignment of the first number of a fixed-size type."""
        while name not in SIZES:
            if not self.types[name]:
                return 1
            name = self.types[name][0].type
        return SIZES[name] if self.aligned else 1

    def widest(self, name: str) -> int:
        """The largest alignment in a fixed-size type."""
        if not self.aligned:
            return 1
        if name in SIZES:
            return SIZES[name]
        if name not in self._widest:
            self._widest[name] = max((self.widest(item.type) for item in self.types[name]), default=1)
        return self._widest[name]

    def size(self, name: str, cursor: Cursor) -> int | None:
        """Bytes from ``cursor`` to the end of a fixed-size type that begins there; None where not known."""
        if name in SIZES:
            pad = cursor.pad(self.lead(name))
            return None if pad is None else pad + SIZES[name]
        key = (name, cursor)
        if key not in self._sizes:
            total: int | None = 0
            for item in self.types[name]:
                self.visit()
                size = self.field_size(item, cursor.moved(total or 0))
                if size is None or total is None:
                    total = None
                    break
                total += size
            self._sizes[key] = total
        return self._sizes[key]

    def field_size(self, item: Field, cursor: Cursor) -> int | None:
        """The same for a field, which may be an array."""
        if item.length is None:
            return self.size(item.type, cursor)
        pad = cursor.pad(self.lead(item.type))
        stride = None if pad is None else self.stride(item.type, cursor.moved(pad))
        return None if pad is None or stride is None else pad + stride.total(item.length)

    def stride(self, name: str, cursor: Cursor) -> Stride | None:
        """How elements lie behind each other from ``cursor``, where the first number of the first one is.

        None where they lie unevenly: in a list of {uint32, float64}, one has padding where the next has none.
        """
        if not self.fixed(name):
            return None
        lead, widest = self.lead(name), self.widest(name)
        size = self.size(name, cursor if cursor.modulus >= widest else Cursor(lead))
        if size is None:
            return None
        step = -(-size // lead) * lead
        return Stride(size, step) if step % widest == 0 else None

    def locate(self, item: Field, steps: Sequence[Step], level: int, cursor: Cursor) -> tuple[int, Field, int, Cursor]:
        """Go down a path from a fixed-size field at ``cursor``, as far as its end or a list that is taken as a whole.

        Returns the offset from ``cursor``, what lies there, its level in ``steps``, and the cursor there.
        """
        begin = 0
        while True:
            index = steps[level].index
            if item.length is not None:
                if index is None or index < 0:
                    return begin, item, level, cursor
                stride = self.stride(item.type, cursor)
                assert stride is not None, "the size of the field is known, hence its stride"
                begin += index * stride.step
                item = replace(item, length=None)
            if level == len(steps) - 1:
                return begin, item, level, cursor
            level += 1
            offset, item, cursor = self._member(item.type, steps[level].name, cursor)
            begin += offset

    def _member(self, name: str, wanted: str, cursor: Cursor) -> tuple[int, Field, Cursor]:
        size = 0
        for item in self.types[name]:
            there = cursor.moved(size)
            if item.name == wanted:
                pad = there.pad(self.lead(item.type)) or 0
                return size + pad, item, there.moved(pad)
            size += self.field_size(item, there) or 0
        raise LayoutError(f"{name} has no field {wanted}")
