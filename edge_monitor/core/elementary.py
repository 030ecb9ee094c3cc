"""log, log10, exp, sin and cos from ``+ − × ÷`` alone: the same bits on every machine.

The mathematics library's differ between processors (with and without fused multiply-add), between versions and between
libraries, in the last bit of some arguments; what a check decides, and what a re-execution finds, must not. Errors are
below one unit in the last place. Kernels call these compiled, everything else as they are. What is used of the
mathematics library (``frexp``, ``ldexp``, ``floor``, and ``fmod`` behind ``%``) is exact.
"""

# Method and coefficients are fdlibm's:
# Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved.
# Developed at SunPro, a Sun Microsystems, Inc. business. Permission to use, copy, modify, and distribute this software
# is freely granted, provided that this notice is preserved.

from __future__ import annotations

import math

from .jit import shared

_NAN, _INF = math.nan, math.inf
_SQRT_HALF = 0.7071067811865476
_LN2_HI, _LN2_LO = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_INV_LN2 = 1.44269504088896338700e00
#: log(1+f) = 2s + s R(s²) for s = f / (2+f), |error| < 2^-58.45
_L1, _L2, _L3, _L4 = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
)
_L5, _L6, _L7 = 1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01
_INV_LN10_HI, _INV_LN10_LO = 4.34294481878168880939e-01, 2.50829467116452752298e-11
_LOG10_2_HI, _LOG10_2_LO = 3.01029995663611771306e-01, 3.69423907715893078616e-13
_SPLIT = 4294967297.0  #: 2^32 + 1: leaves 21 bits
_P1, _P2, _P3 = 1.66666666666666019037e-01, -2.77777777770155933842e-03, 6.61375632143793436117e-05
_P4, _P5 = -1.65339022054652515390e-06, 4.13813679705723846039e-08
_LARGEST, _SMALLEST = 709.782712893383973096, -745.13321910194110842
_INV_HALF_PI = 6.36619772367581382433e-01
#: Half of pi in parts of 33 bits, and what is left of it after the second.
_HALF_PI_1, _HALF_PI_2 = 1.57079632673412561417e00, 6.07710050630396597660e-11
_HALF_PI_REST = 2.02226624879595063154e-21
_TWO_PI = 6.283185307179586
_FAR = 1e6  #: the parts are exact up to here
_S1, _S2, _S3 = -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04
_S4, _S5, _S6 = 2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10
_C1, _C2, _C3 = 4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05
_C4, _C5, _C6 = -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11


@shared
def log(x: float) -> float:
    """Natural logarithm; -inf of zero, NaN of what is below."""
    if not x > 0.0:
        return -_INF if x == 0.0 else _NAN
    if x == _INF:
        return _INF
    f, k = math.frexp(x)
    if f < _SQRT_HALF:
        f = 2.0 * f
        k -= 1
    f -= 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    r = w * (_L2 + w * (_L4 + w * _L6)) + z * (_L1 + w * (_L3 + w * (_L5 + w * _L7)))
    half = 0.5 * f * f
    return k * _LN2_HI - ((half - (s * (half + r) + k * _LN2_LO)) - f)


@shared
def log10(x: float) -> float:
    """Decimal logarithm, of a power of ten exactly; -inf of zero, NaN of what is below."""
    if not x > 0.0:
        return -_INF if x == 0.0 else _NAN
    if x == _INF:
        return _INF
    f, k = math.frexp(x)
    if f < _SQRT_HALF:
        f = 2.0 * f
        k -= 1
    f -= 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    r = w * (_L2 + w * (_L4 + w * _L6)) + z * (_L1 + w * (_L3 + w * (_L5 + w * _L7)))
    half = 0.5 * f * f
    high = f - half
    split = _SPLIT * high
    high = split - (split - high)
    low = ((f - high) - half) + s * (half + r)
    whole = k * _LOG10_2_HI
    part = high * _INV_LN10_HI
    total = whole + part
    rest = k * _LOG10_2_LO + (low + high) * _INV_LN10_LO + low * _INV_LN10_HI
    return ((whole - total) + part + rest) + total


@shared
def exp(x: float) -> float:
    """The exponential; inf and 0 beyond what a number can hold."""
    if not x <= _LARGEST:
        return _INF if x > _LARGEST else _NAN
    if x < _SMALLEST:
        return 0.0
    k = math.floor(x * _INV_LN2 + 0.5)
    high = x - k * _LN2_HI
    low = k * _LN2_LO
    r = high - low
    t = r * r
    c = r - t * (_P1 + t * (_P2 + t * (_P3 + t * (_P4 + t * _P5))))
    return math.ldexp(1.0 - ((low - (r * c) / (2.0 - c)) - high), k)


@shared
def wave(x: float, quarters: int) -> float:
    """The sine of ``x`` (rad) plus so many quarters of a turn; NaN of infinity.

    Beyond a million the turn is taken for the nearest float's, so that angles are off by 4e-17 of their size.
    """
    if not abs(x) <= _FAR:
        if not abs(x) < _INF:
            return _NAN
        x = x % _TWO_PI if x > 0.0 else -(-x % _TWO_PI)
    n = math.floor(x * _INV_HALF_PI + 0.5)
    t = x - n * _HALF_PI_1
    w = n * _HALF_PI_2
    r = t - w
    w = n * _HALF_PI_REST - ((t - r) - w)
    y = r - w
    tail = (r - y) - w
    z = y * y
    quadrant = (n + quarters) & 3
    if quadrant & 1:
        half = 0.5 * z
        one = 1.0 - half
        p = z * (_C1 + z * (_C2 + z * (_C3 + z * (_C4 + z * (_C5 + z * _C6)))))
        value = one + (((1.0 - one) - half) + (z * p - y * tail))
    else:
        v = z * y
        p = _S2 + z * (_S3 + z * (_S4 + z * (_S5 + z * _S6)))
        value = y - ((z * (0.5 * tail - v * p) - tail) - v * _S1)
    return -value if quadrant & 2 else value


@shared
def sin(x: float) -> float:
    """Sine of an angle (rad)."""
    return wave(x, 0)


@shared
def cos(x: float) -> float:
    """Cosine of an angle (rad)."""
    return wave(x, 1)
