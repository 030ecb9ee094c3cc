"""Page-Hinkley and KSWIN, with river's decisions exactly, for people who come from there. New work: CUSUM, e-detector.

Sources: E. S. Page, Biometrika 41 (1954) 100; C. Raab, M. Heusinger, F.-M. Schleif, Neurocomputing 416 (2020) 340;
M. Matsumoto, T. Nishimura, Mersenne Twister, ACM TOMACS 8 (1998) 3 (KSWIN draws as CPython's ``random.sample`` does).
"""

from __future__ import annotations

import math
from fractions import Fraction

from ..jit import inlined, kernel

_NAN = math.nan
_INF = math.inf
LARGEST = 1e100

PAGE_HINKLEY_STATE = 7  #: count, running mean, both sums, their extremes, restart due
UP, DOWN, BOTH = 0, 1, 2

WORDS = 624  #: of the Mersenne Twister
KS_N, KS_HEAD, KS_DONE, KS_INDEX, KS_WORDS = 0, 1, 2, 3, 4


def page_hinkley_params(
    min_instances: int = 30, delta: float = 0.005, threshold: float = 50.0, alpha: float = 1 - 0.0001, mode: int = BOTH
) -> tuple[float, ...]:
    """River's parameters and defaults; ``mode``: ``UP``, ``DOWN`` or ``BOTH``."""
    return threshold, float(min_instances), delta, alpha, float(mode)


@inlined
def page_hinkley_next(x, n, mean, up, down, low, high, done, params, p):  # type: ignore[no-untyped-def]
    """``(n, mean, up, down, low, high, statistic, alarm)``; ``done``: the value before gave an alarm."""
    if math.isnan(x):
        return n, mean, up, down, low, high, _NAN, done
    x = x if x < LARGEST else LARGEST
    x = x if x > -LARGEST else -LARGEST
    if done or n == 0:
        n = mean = up = down = 0.0
        low = _INF
        high = -1.0
    n += 1.0
    mean += (1.0 / n) * (x - mean)
    deviation = x - mean
    delta = params[p + 2]
    alpha = params[p + 3]
    up = alpha * up + deviation - delta
    down = alpha * down + deviation + delta
    low = up if up < low else low
    high = down if down > high else high
    if n < params[p + 1]:
        return n, mean, up, down, low, high, _NAN, False
    rise = up - low if params[p + 4] != DOWN else 0.0
    fall = high - down if params[p + 4] != UP else 0.0
    statistic = rise if rise > fall else fall
    return n, mean, up, down, low, high, statistic, statistic > params[p]


@inlined
def page_hinkley(x, params, p, state, q):  # type: ignore[no-untyped-def]
    """Cumulative deviations from the running mean against their extremes so far; NaN before ``min_instances``."""
    n, mean, up, down, low, high, statistic, alarm = page_hinkley_next(
        x, state[q], state[q + 1], state[q + 2], state[q + 3], state[q + 4], state[q + 5], state[q + 6] != 0, params, p
    )
    state[q] = n
    state[q + 1] = mean
    state[q + 2] = up
    state[q + 3] = down
    state[q + 4] = low
    state[q + 5] = high
    state[q + 6] = 1.0 if alarm else 0.0
    return statistic, alarm and not math.isnan(x)


def kswin_critical(size: int, alpha: float) -> int:
    """The smallest k such that samples of ``size`` that differ by k / size are rejected: p <= alpha and k / size > 0.1.

    The exact p of two equally large samples is 2 sum_j (-1)^(j-1) C(2n, n + jk) / C(2n, n) (Gnedenko, Korolyuk 1951).
    Answers ``size + 1`` where nothing is rejected.
    """
    total = math.comb(2 * size, size)
    for k in range(1, size + 1):
        outside = sum((-1) ** (j - 1) * math.comb(2 * size, size + j * k) for j in range(1, size // k + 1))
        if Fraction(2 * outside, total) <= Fraction(alpha) and k / size > 0.1:
            return k
    return size + 1


def kswin_params(alpha: float = 0.005, window: int = 100, size: int = 30, seed: int = 0) -> tuple[float, ...]:
    """River's parameters and defaults; ``seed`` below 2^32, as nothing here is random. The statistic is k / size."""
    population = window - size
    if not 1 <= size <= population:
        raise ValueError(f"KSWIN: `size` must be between 1 and half of the window ({window}), got {size}")
    if not 0 <= seed < 1 << 32:
        raise ValueError(f"KSWIN: `seed` must be between 0 and 2^32 - 1, got {seed}")
    small = 21  # CPython draws from a pool up to this population, and with a set of those drawn beyond it
    if size > 5:
        power = 1
        while power < size * 3:
            power *= 4
        small += power
    critical = kswin_critical(size, alpha)
    return critical / size, float(critical), float(window), float(size), float(seed), float(population <= small)


def kswin_state(window: int = 100, size: int = 30) -> int:
    """Numbers of state: the generator, the window, the newest ``size`` in order, the drawn ones, and the pool."""
    return KS_WORDS + WORDS + window + 2 * size + (window - size)


@inlined
def seed_words(seed, state, q):  # type: ignore[no-untyped-def]
    """CPython's ``random.seed(seed)``: ``init_by_array`` with a key of one word."""
    word = 19650218
    state[q] = float(word)
    for i in range(1, WORDS):
        word = (1812433253 * (word ^ (word >> 30)) + i) & 0xFFFFFFFF
        state[q + i] = float(word)
    i = 1
    for _ in range(WORDS):
        before = int(state[q + i - 1])
        word = ((int(state[q + i]) ^ (((before ^ (before >> 30)) * 1664525) & 0xFFFFFFFF)) + seed) & 0xFFFFFFFF
        state[q + i] = float(word)
        i += 1
        if i >= WORDS:
            state[q] = state[q + WORDS - 1]
            i = 1
    for _ in range(WORDS - 1):
        before = int(state[q + i - 1])
        word = ((int(state[q + i]) ^ (((before ^ (before >> 30)) * 1566083941) & 0xFFFFFFFF)) - i) & 0xFFFFFFFF
        state[q + i] = float(word)
        i += 1
        if i >= WORDS:
            state[q] = state[q + WORDS - 1]
            i = 1
    state[q] = float(0x80000000)


@inlined
def twist(state, q):  # type: ignore[no-untyped-def]
    """The next 624 words."""
    for i in range(WORDS):
        following = i + 1 if i + 1 < WORDS else 0
        partner = i + 397 if i + 397 < WORDS else i + 397 - WORDS
        y = (int(state[q + i]) & 0x80000000) | (int(state[q + following]) & 0x7FFFFFFF)
        word = int(state[q + partner]) ^ (y >> 1)
        if y & 1 != 0:
            word ^= 0x9908B0DF
        state[q + i] = float(word)


@inlined
def draw(n, bits, state, q):  # type: ignore[no-untyped-def]
    """CPython's ``_randbelow(n)``; ``bits``: ``n.bit_length()``."""
    while True:
        index = int(state[q + KS_INDEX])
        if index >= WORDS:
            twist(state, q + KS_WORDS)
            index = 0
        y = int(state[q + KS_WORDS + index])
        state[q + KS_INDEX] = index + 1.0
        y ^= y >> 11
        y ^= (y << 7) & 0x9D2C5680
        y ^= (y << 15) & 0xEFC60000
        y ^= y >> 18
        y >>= 32 - bits
        if y < n:
            return y


@inlined
def sample(population, size, pooled, window, head, length, state, q, drawn, pool):  # type: ignore[no-untyped-def]
    """``[window[r] for r in random.sample(range(population), size)]`` into ``drawn``, in ascending order."""
    bits = 0
    while population >> bits != 0:
        bits += 1
    for i in range(population):
        state[pool + i] = float(i) if pooled else 0.0
    for i in range(size):
        place = 0
        if pooled:
            n = population - i
            while n >> (bits - 1) == 0:
                bits -= 1
            j = draw(n, bits, state, q)
            place = int(state[pool + j])
            state[pool + j] = state[pool + n - 1]
        else:
            place = draw(population, bits, state, q)
            while state[pool + place] != 0:
                place = draw(population, bits, state, q)
            state[pool + place] = 1.0
        at = head + place
        if at >= length:
            at -= length
        value = state[window + at]
        k = i
        while k > 0 and state[drawn + k - 1] > value:
            state[drawn + k] = state[drawn + k - 1]
            k -= 1
        state[drawn + k] = value


@inlined
def largest_step(a, b, size, state):  # type: ignore[no-untyped-def]
    """``size`` times the Kolmogorov-Smirnov distance of two ascending samples of ``size``."""
    i = 0
    j = 0
    largest = 0
    while i < size and j < size:
        value = min(state[a + i], state[b + j])
        while i < size and state[a + i] == value:
            i += 1
        while j < size and state[b + j] == value:
            j += 1
        largest = max(largest, abs(i - j))
    return largest


@inlined
def kswin(x, params, p, state, q):  # type: ignore[no-untyped-def]
    """The newest ``size`` values against as many drawn from the rest of the window. NaN until the window is full."""
    if math.isnan(x):
        return _NAN, False
    length = int(params[p + 2])
    size = int(params[p + 3])
    window = q + KS_WORDS + WORDS
    recent = window + length
    drawn = recent + size
    if state[q + KS_N] == 0 or state[q + KS_DONE] != 0:
        seed_words(int(params[p + 4]), state, q + KS_WORDS)
        state[q + KS_INDEX] = float(WORDS)
        state[q + KS_N] = 0.0
        state[q + KS_HEAD] = 0.0
        state[q + KS_DONE] = 0.0
    n = int(state[q + KS_N])
    head = int(state[q + KS_HEAD])
    kept = min(n, size)
    if n >= size:  # the oldest of the newest `size` leaves them
        at = head + n - size
        if at >= length:
            at -= length
        leaving = state[window + at]
        k = 0
        while state[recent + k] != leaving:
            k += 1
        for i in range(k, size - 1):
            state[recent + i] = state[recent + i + 1]
        kept = size - 1
    k = kept
    while k > 0 and state[recent + k - 1] > x:
        state[recent + k] = state[recent + k - 1]
        k -= 1
    state[recent + k] = x
    if n == length:
        state[window + head] = x
        head = head + 1 if head + 1 < length else 0
        state[q + KS_HEAD] = float(head)
    else:
        state[window + n] = x
        n += 1
        state[q + KS_N] = float(n)
    if n < length:
        return _NAN, False
    sample(length - size, size, params[p + 5] != 0, window, head, length, state, q, drawn, drawn + size)
    k = largest_step(recent, drawn, size, state)
    if k >= params[p + 1]:
        state[q + KS_DONE] = 1.0
        return k / size, True
    return k / size, False


@kernel
def page_hinkley_many(x, params, state, statistic, alarm):  # type: ignore[no-untyped-def]
    """:func:`page_hinkley` over (streams, samples)."""
    streams = x.shape[0]
    p = len(params) // streams
    q = len(state) // streams
    for i in range(streams):
        at = i * q
        n, mean, up, down = state[at], state[at + 1], state[at + 2], state[at + 3]
        low, high, done = state[at + 4], state[at + 5], state[at + 6] != 0
        for j in range(x.shape[1]):
            n, mean, up, down, low, high, value, done = page_hinkley_next(
                x[i, j], n, mean, up, down, low, high, done, params, i * p
            )
            statistic[i, j] = value
            alarm[i, j] = done and not math.isnan(x[i, j])
        state[at], state[at + 1], state[at + 2], state[at + 3] = n, mean, up, down
        state[at + 4], state[at + 5], state[at + 6] = low, high, 1.0 if done else 0.0


@kernel
def kswin_many(x, params, state, statistic, alarm):  # type: ignore[no-untyped-def]
    """:func:`kswin` over (streams, samples)."""
    streams = x.shape[0]
    p = len(params) // streams
    q = len(state) // streams
    for i in range(streams):
        for j in range(x.shape[1]):
            statistic[i, j], alarm[i, j] = kswin(x[i, j], params, i * p, state, i * q)
