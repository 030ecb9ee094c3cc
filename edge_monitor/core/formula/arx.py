"""Residuals of a response to its commands: what a model predicts a step ahead, and its place in a plan.

The model is an ARX (L. Ljung, System Identification, 1999, §4.2), the autoregression of a response with commands from
outside; on the samples of the response, k = 0, 1, …, the period of which it is made for:

    e(k) = y(k) - (c + sum over i = 1..na of a_i y(k - i) + sum over j, i = 0..nb-1 of b_ji u_j(k - delay - i))

u_j(k) is what is in force of command j when sample k comes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .program import NODE, RESIDUAL, SIGNAL, Program

MAX_ORDER = 6  #: of na and nb
MAX_DELAY = 10
MAX_COMMANDS = 8
#: An interval of more than so many periods is a gap: there is nothing to predict from until all lags are there again.
GAP_PERIODS = 2.5
#: Samples whose mean interval differs from the period by more than this factor are not those of the model.
RATE_FACTOR = 1.5
#: The mean is of at least so many intervals, as single ones vary with transport.
LEAST_BACK = 8

# The table of a residual: a head, then a_1 … a_na, then b_10 … b_1,nb-1, b_20 …
GAP_NS, SHORTEST_NS, LONGEST_NS, BACK, INPUTS, NA, NB, DELAY, CONSTANT = range(9)
HEAD = CONSTANT + 1


@dataclass(frozen=True, slots=True)
class Arx:
    """``period``: ns between samples; ``a``: na coefficients of the response, the latest first; ``b``: nb of each command,
    the latest (``delay`` samples ago) first. Raises ``ValueError`` for what the kernel can't work with."""

    period: int
    constant: float
    a: tuple[float, ...]
    b: tuple[tuple[float, ...], ...]
    delay: int = 0

    def __post_init__(self) -> None:
        orders = {len(row) for row in self.b}
        if len(self.a) > MAX_ORDER or len(orders) != 1 or not 1 <= min(orders) <= MAX_ORDER:
            raise ValueError(f"a model has at most {MAX_ORDER} coefficients of each input, and as many of each command")
        if len(self.b) > MAX_COMMANDS or not 0 <= self.delay <= MAX_DELAY or self.period <= 0:
            raise ValueError(
                f"a model has a period, at most {MAX_COMMANDS} commands and a delay of at most {MAX_DELAY}"
            )
        if not all(map(math.isfinite, (self.constant, *self.a, *(value for row in self.b for value in row)))):
            raise ValueError("a model consists of finite numbers")

    @property
    def back(self) -> int:
        """Samples that must have come before the one that is predicted."""
        return max(len(self.a), self.delay + len(self.b[0]) - 1, LEAST_BACK)

    def table(self) -> tuple[float, ...]:
        """As the kernel reads it."""
        back, period = self.back, float(self.period)
        times = (GAP_PERIODS * period, back * period / RATE_FACTOR, back * period * RATE_FACTOR)
        shape = (back, 1 + len(self.b), len(self.a), len(self.b[0]), self.delay)
        numbers = (*self.a, *(value for row in self.b for value in row))
        return (*times, *map(float, shape), self.constant, *numbers)


@dataclass(frozen=True, slots=True)
class Residual:
    """A signal that is the error of a prediction. ``model``: None where its file was not to be read."""

    response: str
    commands: tuple[str, ...]
    model: Arx | None = None
    digest: str = ""  #: of the model's file

    def signals(self) -> tuple[str, ...]:
        """The signals that it reads: the response first."""
        return (self.response, *self.commands)


def lower_residual(residual: Residual) -> Program:
    """The program of a residual: a node for each input, the response first, and one that predicts.

    Raises ``ValueError`` where there is no model, or one for another number of commands.
    """
    model = residual.model
    if model is None:
        raise ValueError("has no model: make it with `edge-replay calibrate`")
    names = residual.signals()
    if len(model.b) != len(residual.commands):
        raise ValueError(f"its model is one of {len(model.b)} commands")
    nodes = np.zeros(len(names) + 1, NODE)
    nodes["a"] = nodes["b"] = nodes["signal"] = -1
    nodes["op"][:-1] = SIGNAL
    nodes["signal"][:-1] = np.arange(len(names))
    nodes["op"][-1] = RESIDUAL
    nodes["ring_len"][-1] = model.back + 1
    return Program(nodes, names, (), (model.back + 1) * len(names), model.table())
