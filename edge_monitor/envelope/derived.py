"""Signals that are made of others, and the ``formula`` kind of check: where formulas meet the envelope."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from ..core.check_spec import CheckSpec
from ..core.formula.program import lower
from ..core.formula.term import Term
from ..core.signals import Signal
from .check_model import CheckModel, Signals
from .dimension import dimension, unit_text
from .fields import Rate, Text
from .formulas import FormulaError, names_in, parse_expression, parse_formula
from .problems import Finding, Path, shown


class Formula(CheckModel):
    """The formula does not hold."""

    signal_fields: ClassVar[tuple[str, ...]] = ()
    strict_references: ClassVar[bool] = False

    kind: Literal["formula"]
    formula: Text = Field(description="what must hold: `historically[0 s, 2 s](speed <= 0.3 m/s)`")
    pointwise: bool = Field(False, description="temporal operators see samples only, not what is in force between them")
    rate: Rate | None = Field(
        None, description="samples a second, of all its signals, that it must remember (1 kHz if that is at most 8 s)"
    )

    def references(self) -> Iterator[tuple[Path, str]]:
        return self.raw_references({"formula": self.formula})

    @classmethod
    def raw_references(cls, raw: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
        text = raw.get("formula")
        if isinstance(text, str):
            yield from ((("formula",), name) for _, name in names_in(text))

    def findings(self, signals: Signals) -> Iterator[Finding]:
        try:
            term = parse_formula(self.formula, signals).term
        except FormulaError as error:
            yield _finding("formula", error)
            return
        try:
            lower(term, pointwise=self.pointwise, rate=self.rate)
        except ValueError as error:
            yield Finding(("rate",), str(error))

    def params(self) -> dict[str, float]:
        params = {"pointwise": float(self.pointwise)}
        return params if self.rate is None else {**params, "rate": self.rate}

    def lower(self, name: str, signals: Signals) -> CheckSpec:
        parsed = parse_formula(self.formula, signals)
        term = parsed.term
        spec = super().lower(name, signals)
        return replace(spec, signals=term.signals(), texts=term.texts(), formula=term, unit=parsed.unit)


def derived_term(expr: str, unit: str, signals: Signals) -> tuple[Term | None, list[Finding]]:
    """What a derived signal is made of, and what is wrong with it; ``unit``: what it is declared in."""
    try:
        parsed = parse_expression(expr, signals)
    except FormulaError as error:
        return None, [_finding("expr", error)]
    if dict(dimension(parsed.unit)) != dict(dimension(unit)):
        have = f"is in {shown(parsed.unit)}" if parsed.unit else "has no unit"
        declared = f"declared as {shown(unit)}" if unit else "declared without one"
        fix = f"write `unit: {unit_text(dimension(parsed.unit))}`" if parsed.unit else "leave `unit` out"
        return parsed.term, [Finding(("unit",), f"`expr` {have}, {declared}: {fix}")]
    return parsed.term, []


def cycle(signals: Mapping[str, Signal]) -> list[str]:
    """The derived signals that are made of themselves, in the order of their names."""
    return sorted(name for name, names in below(signals).items() if name in names)


def below(signals: Mapping[str, Signal]) -> dict[str, set[str]]:
    """All that each derived signal is made of, also through others."""
    made = {name: set(signal.made_of) for name, signal in signals.items() if signal.made_of}
    for _ in made:
        for names in made.values():
            names |= {far for near in tuple(names) if near in made for far in made[near]}
    return made


def _finding(field: str, error: FormulaError) -> Finding:
    return Finding((field,), str(error), error.wrong, error.candidates, error.offset)
