"""The core's own logarithms, exponential and waves: right to the last place, and the same bits however they are run."""

from __future__ import annotations

import ast
import hashlib
import math
import random
from decimal import Decimal, localcontext
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from machine_cases import arguments, elementary_many

from edge_monitor.core import elementary

CORE = Path(elementary.__file__).resolve().parent
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
#: What the mathematics library computes exactly, or rounds once.
EXACT = {
    "ceil", "comb", "copysign", "fabs", "floor", "frexp", "inf", "isfinite", "isinf", "isnan", "ldexp", "nan", "pi",
    "radians", "sqrt", "trunc",
}  # fmt: skip
INEXACT = {"exp", "expm1", "log", "log10", "log1p", "log2", "power", "sin", "cos", "tan", "arctan2", "hypot", "cbrt"}
#: Bits of all five functions over ``arguments(20_000)``: those of this machine must be those of any other.
DIGEST = "c712457407c656d5795b823ac92bab1464364baaad3566b05f00baa2cffcd567"


def places(found: float, exact: Decimal) -> float:
    """The error in units in the last place."""
    return float(abs(Decimal(found) - exact) / Decimal(math.ulp(float(exact))))


def sine(x: Decimal) -> Decimal:
    """By its series."""
    x %= 2 * PI
    total = term = x
    n = 1
    while abs(term) > Decimal(10) ** -45:
        term = -term * x * x / ((n + 1) * (n + 2))
        total += term
        n += 2
    return total


def test_within_one_unit_in_the_last_place() -> None:
    """Each function is off by less than one unit, near 1 and far from it, for small and large angles."""
    rng = random.Random(1)
    with localcontext() as context:
        context.prec = 60
        for i in range(1500):
            x = rng.uniform(0.5, 2.0) if i % 2 else math.ldexp(rng.uniform(1, 2), rng.randint(-1070, 1020))
            y = rng.uniform(-1.0, 1.0) if i % 2 else rng.uniform(-700.0, 700.0)
            angle = rng.uniform(-10.0, 10.0) if i % 3 else rng.uniform(-1e6, 1e6)
            assert places(elementary.log(x), Decimal(x).ln()) < 1, x
            assert places(elementary.log10(x), Decimal(x).log10()) < 1, x
            assert places(elementary.exp(y), Decimal(y).exp()) < 1, y
            if i % 5 == 0:
                assert places(elementary.sin(angle), sine(Decimal(angle))) < 1, angle
                assert places(elementary.cos(angle), sine(Decimal(angle) + PI / 2)) < 1, angle


def test_where_no_number_comes_out_or_a_round_one() -> None:
    """Zero, infinity, NaN, powers of ten, and angles beyond a million behave as the mathematics library's."""
    inf, nan = math.inf, math.nan
    assert [elementary.log(x) for x in (0.0, -0.0, inf, 1.0)] == [-inf, -inf, inf, 0.0]
    assert [elementary.log10(10.0**k) for k in range(-22, 23)] == list(range(-22, 23))
    assert [elementary.exp(x) for x in (-inf, -746.0, 0.0, 710.0, inf)] == [0.0, 0.0, 1.0, inf, inf]
    assert elementary.exp(-745.0) == 5e-324 and elementary.log(5e-324) == math.log(5e-324)
    assert math.copysign(1.0, elementary.sin(-0.0)) == -1.0
    for f in (elementary.log, elementary.log10, elementary.exp, elementary.sin, elementary.cos):
        assert math.isnan(f(nan))
    assert all(math.isnan(f(x)) for f in (elementary.sin, elementary.cos) for x in (inf, -inf))
    assert math.isnan(elementary.log(-1.0)) and math.isnan(elementary.log10(-inf))
    for x in (1.5e6, -3e7, 1e9):
        assert elementary.cos(x) == pytest.approx(math.cos(x), abs=1e-6)
    assert all(abs(elementary.sin(x)) <= 1 for x in (1e17, -1e100, 1.7e308))


def test_compiled_interpreted_and_elsewhere_the_same_bits() -> None:
    """Compiled, the functions give the bits that they give as they are, and both those that every machine must give."""
    x = arguments(20_000)
    out = np.empty((5, len(x)))
    elementary_many(x, out)
    functions = (elementary.log, elementary.log10, elementary.exp, elementary.sin, elementary.cos)
    plain = np.array([[f(value) for value in x.tolist()] for f in functions])
    assert plain.tobytes() == out.tobytes()
    assert hashlib.sha256(plain.tobytes()).hexdigest() == DIGEST


@cache
def intermediate_code() -> str:
    """LLVM's, of all functions as kernels have them; compiled anew, since what is loaded from the cache has none."""
    fresh = type(elementary_many)(elementary_many.py_func, targetoptions=dict(elementary_many.targetoptions))
    fresh.compile("(float64[::1], float64[:, ::1])")
    return "\n".join(fresh.inspect_llvm().values())


@pytest.mark.parametrize(
    ("triple", "cpu", "features", "fused"),
    [("aarch64-unknown-linux-gnu", "cortex-a72", "", ("fmadd", "fmsub", "fnmadd", "fmla", "fmls")),
     ("x86_64-unknown-linux-gnu", "haswell", "+fma", ("vfmadd", "vfmsub", "vfnmadd"))],
)  # fmt: skip
def test_no_machine_code_multiplies_and_adds_in_one_rounding(
    triple: str, cpu: str, features: str, fused: tuple[str, ...]
) -> None:
    """Compiled for processors that can fuse a product and a sum, kernels still round twice."""
    lines = [
        line for line in intermediate_code().splitlines() if not line.startswith(("target triple", "target datalayout"))
    ]
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip(f"this llvmlite has no code generator for {triple}")
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3)
    module = llvm.parse_assembly("\n".join(lines))
    module.triple = triple
    written = [line.split()[0] for line in machine.emit_assembly(module).splitlines() if line.startswith("\t")]
    assert sum(name.startswith(("fmul", "vmulsd", "vmulpd")) for name in written) > 50
    assert not [name for name in written if name.startswith(fused)]


def test_the_core_uses_no_other_function_of_the_mathematics_library() -> None:
    """Powers, logarithms and waves whose last bit depends on the machine stand nowhere in the core."""
    found = []
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                library = node.value.id == "math" and node.attr not in EXACT
                if library or (node.value.id == "np" and node.attr in INEXACT):
                    found.append(f"{path.name}:{node.lineno} {node.value.id}.{node.attr}")
            assert not (isinstance(node, ast.ImportFrom) and node.module == "math"), path
    assert not found
