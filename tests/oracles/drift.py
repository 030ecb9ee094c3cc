"""Detectors in plain Python, each as its definition reads: slow, obvious, and independent of the kernels."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

Result = list[tuple[float, bool]]


def cusum(values: Sequence[float], threshold: float, k: float) -> Result:
    """Page's two sums, restarted by an alarm."""
    up = down = 0.0
    out = []
    for x in values:
        if not math.isnan(x):
            up, down = max(0.0, up + x - k), max(0.0, down - x - k)
        alarm = max(up, down) > threshold and not math.isnan(x)
        out.append((max(up, down), alarm))
        if alarm:
            up = down = 0.0
    return out


def ewma(values: Sequence[float], limit: float, rate: float) -> Result:
    """Roberts' average against ``limit`` of its own deviations."""
    z = 0.0
    edge = limit * math.sqrt(rate / (2 - rate))
    out = []
    for x in values:
        if not math.isnan(x):
            z = z + rate * (x - z)
        alarm = abs(z) > edge and not math.isnan(x)
        out.append((abs(z), alarm))
        if alarm:
            z = 0.0
    return out


def variance(values: Sequence[float], threshold: float, ratio: float) -> Result:
    """Sums of log-likelihood ratios of N(0, s²) to N(0, 1), for s = ratio and 1/ratio."""
    sums = [0.0, 0.0]
    out = []
    for x in values:
        if not math.isnan(x):
            for i, s in enumerate((ratio, 1 / ratio)):
                sums[i] = max(0.0, sums[i] + (1 - s**-2) * x * x / 2 - math.log(s))
        alarm = max(sums) > threshold and not math.isnan(x)
        out.append((max(sums), alarm))
        if alarm:
            sums = [0.0, 0.0]
    return out


def focus(values: Sequence[float]) -> list[tuple[float, int]]:
    """The likelihood ratio over every change time, by trying them all: ``(statistic, values since the best change)``."""
    sums = [0.0]
    out = []
    for n, x in enumerate(values, 1):
        sums.append(sums[-1] + x)
        ratios = [((sums[n] - sums[tau]) ** 2 / (2 * (n - tau)), n - tau) for tau in range(n)]
        out.append(max(ratios))
    return out


def edetector(values: Sequence[float], threshold: float, cuts: Sequence[float], bounds: Sequence[float]) -> Result:
    """Mean of M over levels and bets, M <- (1 + M)(1 + bet / p (X - p))."""
    bets = (0.1, 0.25, 0.5, 0.9)
    m = [0.0] * 12
    out = []
    for x in values:
        if not math.isnan(x):
            for i in range(12):
                p = bounds[i // 4]
                m[i] = (1 + m[i]) * (1 + bets[i % 4] / p * ((x > cuts[i // 4]) - p))
        evidence = sum(m) / 12
        alarm = evidence >= threshold and not math.isnan(x)
        out.append((evidence, alarm))
        if alarm:
            m = [0.0] * 12
    return out


def multinomial(counts: Sequence[int], shares: Sequence[float], strength: float) -> float:
    """DirMult(counts; strength x shares) / Mult(counts; shares), by gamma functions."""
    n = sum(counts)
    log = math.lgamma(strength) - math.lgamma(strength + n)
    for count, share in zip(counts, shares, strict=True):
        log += math.lgamma(strength * share + count) - math.lgamma(strength * share) - count * math.log(share)
    return math.exp(log)


def distances(window: Sequence[float], edges: Sequence[float], shares: Sequence[float]) -> tuple[float, ...]:
    """KS, PSI, JS and Wasserstein of a window against a reference's cells."""
    n, bins = len(window), len(shares)
    counts = [0] * bins
    for x in window:
        counts[bisect.bisect_right(edges, x)] += 1
    above = [sum(counts[: i + 1]) / n - sum(shares[: i + 1]) for i in range(bins)]
    smooth = [(c + 0.5) / (n + 0.5 * bins) for c in counts]
    psi = sum((p - q) * math.log(p / q) for p, q in zip(smooth, shares, strict=True))
    middle = [(p + q) / 2 for p, q in zip(smooth, shares, strict=True)]
    js = sum((p * math.log(p / m) + q * math.log(q / m)) / 2 for p, q, m in zip(smooth, shares, middle, strict=True))
    wasserstein = sum(abs(above[i]) * (edges[i + 1] - edges[i]) for i in range(len(edges) - 1))
    return max(map(abs, above)), psi, js, wasserstein


def blocks(
    samples: Sequence[float], centre: float, scale: float, sigma: float, phi: Sequence[float], block: int
) -> list[float]:
    """Block values of a regular stream: standardised, whitened, averaged; NaN is a missing sample.

    A missing sample hides its successors' residuals as far as the autoregression reaches back; more of them in a row
    than a block start the block anew.
    """
    out, residuals, missing = [], [], 0
    z = [(x - centre) / scale for x in samples]
    for i, value in enumerate(z):
        if math.isnan(value):
            missing += 1
            if missing > block:
                residuals = []
            continue
        missing = 0
        before = z[max(0, i - len(phi)) : i][::-1]
        if len(before) < len(phi) or any(map(math.isnan, before)):
            continue
        residuals.append((value - sum(p * b for p, b in zip(phi, before, strict=True))) / sigma)
        if len(residuals) == block:
            out.append(sum(residuals) / math.sqrt(block))
            residuals = []
    return out
