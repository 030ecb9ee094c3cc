"""The tree of a formula or expression: what the envelope's parser makes, and the plan lowers."""

from __future__ import annotations

from dataclasses import dataclass

#: Terms whose value is a number. ``lag`` holds ``start`` ns; ``diff`` is the change per second between two samples.
NUMERIC = frozenset({"signal", "number", "text", "negate", "abs", "+", "-", "*", "/", "min", "max", "lag", "diff"})
#: Terms whose value is a truth. ``is``: a signal is in a state; states have no distance, so its margin is infinite.
BOOLEAN = frozenset(
    {"<", "<=", ">", ">=", "==", "!=", "is", "not", "and", "or", "implies", "historically", "once", "since", "rise", "fall"}
)  # fmt: skip
#: ``prev`` is of its operand's sort.
ALL = NUMERIC | BOOLEAN | {"prev"}


@dataclass(frozen=True, slots=True)
class Term:
    """One operator and its operands; equal terms are evaluated once.

    ``start``, ``end``: the window ``[t - end, t - start]`` of a temporal operator, ns; no ``end``: since the beginning.
    ``name``: of a signal, or the text of a ``text``. ``number``: of a ``number``.
    """

    op: str
    args: tuple[Term, ...] = ()
    number: float = 0.0
    name: str = ""
    start: int = 0
    end: int | None = None

    def __post_init__(self) -> None:
        if self.op not in ALL:
            raise ValueError(f"there is no operator {self.op}")
        if self.start < 0 or (self.end is not None and self.end < self.start):
            raise ValueError(f"{self.op}: the window [{self.start}, {self.end}] is reversed")

    def signals(self) -> tuple[str, ...]:
        """The signals that the term reads, each once, in the order of the text."""
        names: dict[str, None] = {self.name: None} if self.op == "signal" else {}
        for arg in self.args:
            names |= dict.fromkeys(arg.signals())
        return tuple(names)

    def texts(self) -> tuple[str, ...]:
        """The texts that it compares with, each once."""
        names: dict[str, None] = {self.name: None} if self.op == "text" else {}
        for arg in self.args:
            names |= dict.fromkeys(arg.texts())
        return tuple(names)


def is_number(term: Term) -> bool:
    """True where a term's value is a number, false where it is a truth."""
    return is_number(term.args[0]) if term.op == "prev" else term.op in NUMERIC
