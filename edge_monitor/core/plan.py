"""A plan: everything the engine must know, frozen in flat arrays with names beside them and a digest over both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .check_spec import CheckSpec
from .checks.registry import KINDS
from .formula.arx import lower_residual
from .formula.program import NODE, RESIDUAL, Program, lower
from .memory import plan_buffer
from .samples import NEVER
from .signals import Signal
from .state import CHECK_ROW, DERIVED_ROW, SIGNAL_ROW

WATCH = {"": 0, "change": 1, "each": 2}
ROLE_MODE, ROLE_ACTIVE, ROLE_DERIVED = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Plan:
    """Compiled checks. ``signals``: (s,) SIGNAL_ROW; ``checks``: (c,) CHECK_ROW; ``refs``: (r,) int32, the checks that
    read each signal, ascending; ``table``: (n,) float64; ``nodes``: (k,) NODE, of all formulas and expressions;
    ``derived``: (d,) DERIVED_ROW, each after those it reads; ``ring``, ``pool``: state that the checks need, in entries;
    ``vectors``: a check looks at several signals at once."""

    signals: np.ndarray
    checks: np.ndarray
    refs: npt.NDArray[np.int32]
    table: npt.NDArray[np.float64]
    nodes: np.ndarray
    derived: np.ndarray
    ring: int
    pool: int
    vectors: bool
    signal_specs: tuple[Signal, ...]
    check_specs: tuple[CheckSpec, ...]
    references: tuple[str, ...] = ()
    derived_rings: tuple[tuple[int, int], ...] = ()  #: of each derived signal: start and length of its part of the ring

    @staticmethod
    def build(
        signals: Sequence[Signal],
        checks: Sequence[CheckSpec],
        *,
        mode: str | None = None,
        active: tuple[str, float] | None = None,
        text_code: Callable[[str], int] | None = None,
        references: Sequence[str] = (),
    ) -> Plan:
        """Compile ``checks`` over ``signals``.

        ``mode`` names the signal whose change clears ``on_mode_change`` latches; ``active`` the signal and the value
        whose end is the end of the mission; ``text_code`` gives the number of a text (the layout's text table);
        ``references``: digests of files that decide with the checks but stand in no table of theirs.
        Raises ``KeyError`` for an unknown signal or kind, ``ValueError`` for numbers that don't fit the kernels.
        """
        index = {signal.name: i for i, signal in enumerate(signals)}
        if len(index) != len(signals):
            raise ValueError("two signals have the same name")
        signal_rows = np.zeros(len(signals), SIGNAL_ROW)
        for row, signal in zip(signal_rows, signals, strict=True):
            row["max_age"] = NEVER if signal.max_age is None else signal.max_age
            row["watch"] = WATCH[signal.watch]
        if mode is not None:
            signal_rows["role"][index[mode]] |= ROLE_MODE
        if active is not None:
            signal_rows["role"][index[active[0]]] |= ROLE_ACTIVE
            signal_rows["active_value"][index[active[0]]] = active[1]
        roles = signal_rows["role"] != 0
        signal_rows["watch"][roles] = np.maximum(
            signal_rows["watch"][roles], WATCH["change"]
        )  # changes of what was shown
        ring = pool = 0
        vectors = False
        nodes: list[np.ndarray] = []
        node_count = 0
        table: list[float] = []

        def place(program: Program, subject: str, ring: int) -> tuple[int, int]:
            """Put a program's nodes into the plan, their queues at ``ring``; the slice of them."""
            nonlocal node_count
            rows = program.nodes.copy()
            own = np.array([index[name] for name in program.signals], np.int32)
            reading = rows["signal"] >= 0
            rows["signal"][reading] = own[rows["signal"][reading]]
            rows["ring_start"] += ring
            rows["table"][rows["op"] == RESIDUAL] = len(table)
            table.extend(program.table)
            for node, text in program.texts:
                if text_code is None:
                    raise ValueError(f"{subject}: compares text, and there is no text table")
                rows[node]["number"] = text_code(text)
            nodes.append(rows)
            node_count += len(rows)
            return node_count - len(rows), len(rows)

        derived = _ordered([signal for signal in signals if signal.made_of])
        derived_rows = np.zeros(len(derived), DERIVED_ROW)
        derived_rings: list[tuple[int, int]] = []
        for row, signal in zip(derived_rows, derived, strict=True):
            program = _derived_program(signal)
            row["signal"] = index[signal.name]
            row["node_start"], row["node_len"] = place(program, f"signal {signal.name}", ring)
            row["heard"] = row["node_len"] if signal.residual is None else 1  # the response
            signal_rows["role"][row["signal"]] |= ROLE_DERIVED
            derived_rings.append((ring, program.ring))
            ring += program.ring
        check_rows = np.zeros(len(checks), CHECK_ROW)
        readers: list[list[int]] = [[] for _ in signals]
        for i, (row, spec) in enumerate(zip(check_rows, checks, strict=True)):
            lowered = KINDS[spec.kind](spec)
            numbers = list(lowered.table)
            if lowered.program is not None:
                row["node_start"], row["node_len"] = place(lowered.program, f"check {spec.name}", ring)
            elif spec.texts:
                if text_code is None:
                    raise ValueError(f"check {spec.name}: compares text, and there is no text table")
                numbers += [float(text_code(text)) for text in spec.texts]
            row["code"], row["latch"] = lowered.code, spec.latch
            row["fail_for"], row["pass_for"] = spec.fail_for, spec.pass_for
            for name, value in lowered.fields.items():
                row[name] = value
            row["leave_max"] = lowered.fields.get("leave_max", row["max"])
            row["leave_min"] = lowered.fields.get("leave_min", row["min"])
            inputs = [index[name] for name in spec.signals]
            for signal_index in sorted(set(inputs)):
                readers[signal_index].append(i)
            if lowered.dimensions:  # a vector's signals stand at the end of the check's numbers
                numbers += inputs[: lowered.dimensions]
                inputs = [inputs[0], *inputs[lowered.dimensions :]]
                vectors = True
            row["a"], row["b"], row["c"] = [*inputs, -1, -1, -1][:3]
            row["table_start"], row["table_len"] = len(table), len(numbers)
            row["ring_start"], row["ring_len"] = ring, lowered.ring
            row["pool_start"], row["pool_len"] = pool, lowered.pool
            table += numbers
            ring += lowered.ring
            pool += lowered.pool
        refs: list[int] = []
        for row, reading in zip(signal_rows, readers, strict=True):
            row["refs_start"], row["refs_len"] = len(refs), len(reading)
            refs += reading
        plan = Plan(
            signal_rows,
            check_rows,
            np.array(refs, np.int32),
            np.array(table or [0.0], np.float64),
            np.concatenate(nodes) if nodes else np.zeros(0, NODE),
            derived_rows,
            ring,
            pool,
            vectors,
            tuple(signals),
            tuple(checks),
            tuple(references),
            tuple(derived_rings),
        )
        for array in plan.arrays():
            array.setflags(write=False)
        return plan

    def arrays(self) -> tuple[np.ndarray, ...]:
        """All that the kernel reads, in the order of ``core.memory.PLAN_SECTIONS``."""
        return self.signals, self.checks, self.refs, self.table, self.nodes, self.derived

    def buffer(self) -> tuple[np.ndarray, int]:
        """The plan as the kernel takes it, and the bytes of state that it needs."""
        s, c = len(self.signals), len(self.checks)
        lengths = (1, s, c, len(self.nodes), len(self.derived), max(self.ring, 1), max(self.pool, 1), s, c)
        return plan_buffer(self.arrays(), lengths)

    def digest(self) -> str:
        """Hex SHA-256 over names and arrays: two plans with one digest decide alike."""
        digest = hashlib.sha256(b"edge-monitor plan 1")
        for name in [*(s.name for s in self.signal_specs), "", *(c.name for c in self.check_specs)]:
            digest.update(name.encode() + b"\0")
        for reference in self.references:
            digest.update(bytes.fromhex(reference))
        for array in self.arrays():
            digest.update(array.tobytes())
        return digest.hexdigest()


def _derived_program(signal: Signal) -> Program:
    """What a derived signal is made of. Raises ``ValueError`` for a residual without a model."""
    if signal.expr is not None:
        return lower(signal.expr, exact=True)
    assert signal.residual is not None
    try:
        return lower_residual(signal.residual)
    except ValueError as error:
        raise ValueError(f"signal {signal.name}: {error}") from None


def _ordered(derived: list[Signal]) -> list[Signal]:
    """Derived signals, each after those that it is made of. Raises ``ValueError`` for a cycle."""
    waiting = {signal.name: signal for signal in derived}
    ordered: list[Signal] = []
    while waiting:
        ready = [signal for signal in waiting.values() if not set(signal.made_of) & set(waiting)]
        if not ready:
            raise ValueError(f"derived signals are made of each other: {', '.join(waiting)}")
        ordered += ready
        for signal in ready:
            del waiting[signal.name]
    return ordered
