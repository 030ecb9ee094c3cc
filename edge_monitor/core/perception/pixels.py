"""The kernels of camera statistics: sums over the pixels of a frame and its cells, then what they say."""

from __future__ import annotations

import math

import numpy as np

from ..jit import inlined, kernel
from ..layout.load import load16
from ..samples import UNSEEN, Cause

GREY8, COLOUR, GREY16, BAYER = range(4)
SATURATED, DIM = 250, 5  #: grey levels from and up to which a pixel counts as saturated or dark
QUIET = 0.05  #: share of the reference's energy below which a cell shows nothing
FLOOR = 1.0  #: reference energy, grey levels squared, below which a cell (sky, wall) cannot tell

#: What is kept of a cell: luminance sum and squared-Laplacian sum of the previous frame, since when it shows nothing,
#: and the reference's energy.
CELL = np.dtype([("sum", "<i8"), ("laplacian", "<i8"), ("quiet", "<i8"), ("reference", "<f8")])
#: What is kept of the camera: sampled pixels across and down, frames since the last reset, frames without change, time
#: of the first.
CAMERA = np.dtype([("width", "<i8"), ("height", "<i8"), ("frames", "<i8"), ("still", "<i8"), ("since", "<i8")])

_UNSEEN = int(UNSEEN)
_NONE, _WARMING = int(Cause.NONE), int(Cause.WARMING)


@inlined
def luminance_row(data, base, form, size, red, green, blue, swap, stride, step, shift, across, rows, r):  # type: ignore[no-untyped-def]
    """Grey levels of one row into ``rows[r]``, the smallest and largest colour of each pixel into rows 3 and 4.

    ITU-R BT.601 weights in 1/256. A Bayer pixel is the mean of its 2 x 2 neighbourhood.
    """
    if form == GREY8:
        for x in range(across):
            rows[r, x] = data[np.uint64(base + x * stride)]
        for x in range(across):
            rows[3, x] = rows[r, x]
            rows[4, x] = rows[r, x]
    elif form == COLOUR:
        jump = stride * size
        for x in range(across):
            at = base + x * jump
            a = np.int32(data[np.uint64(at + red)])
            b = np.int32(data[np.uint64(at + green)])
            c = np.int32(data[np.uint64(at + blue)])
            rows[r, x] = (77 * a + 150 * b + 29 * c) >> 8
            rows[3, x] = min(a, b, c)
            rows[4, x] = max(a, b, c)
    elif form == GREY16:
        for x in range(across):
            v = min(load16(data, base + x * stride * 2, swap) >> shift, 255)
            rows[r, x] = v
            rows[3, x] = v
            rows[4, x] = v
    else:
        for x in range(across):
            at = base + x * stride
            v = np.int32(data[np.uint64(at)]) + np.int32(data[np.uint64(at + 1)])
            v += np.int32(data[np.uint64(at + step)]) + np.int32(data[np.uint64(at + step + 1)])
            rows[r, x] = v >> 2
            rows[3, x] = v >> 2
            rows[4, x] = v >> 2


@kernel
def picture(data, first, step, form, size, red, green, blue, swap, stride, cell, shift, camera, rows, grid, totals):  # type: ignore[no-untyped-def]
    """Sum over a frame whose geometry has been checked.

    ``camera``: CAMERA row with the sampled size; ``rows``: (5, across) int32 work; ``grid``: (4, cells) int64, filled
    with each cell's luminance sum, squared-Laplacian sum, smallest and largest colour; ``totals``: (5,) int64, filled
    with the sums of squares, saturated pixels, dark pixels, Laplacian, squared Laplacian. The Laplacian is taken over
    the interior.
    """
    across, down = camera[0]["width"], camera[0]["height"]
    columns, lines = across // cell, down // cell
    for i in range(columns * lines):
        grid[0, i] = 0
        grid[1, i] = 0
        grid[2, i] = 255
        grid[3, i] = 0
    squares, bright, dim, edges, sharp = np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for y in range(down):
        r = y % 3
        luminance_row(
            data, first + y * stride * step, form, size, red, green, blue, swap, stride, step, shift, across, rows, r
        )
        line = min(y // cell, lines - 1) * columns
        for column in range(columns):
            a = column * cell
            b = a + cell if column < columns - 1 else across
            total, low, high = np.int64(0), np.int64(255), np.int64(0)
            for x in range(a, b):
                v = np.int64(rows[r, x])
                total += v
                squares += v * v
                bright += v >= SATURATED
                dim += v <= DIM
                low = min(low, np.int64(rows[3, x]))
                high = max(high, np.int64(rows[4, x]))
            i = line + column
            grid[0, i] += total
            grid[2, i] = min(grid[2, i], low)
            grid[3, i] = max(grid[3, i], high)
        if y < 2:
            continue
        above, middle = (y - 2) % 3, (y - 1) % 3
        line = min((y - 1) // cell, lines - 1) * columns
        for column in range(columns):
            a = max(column * cell, 1)
            b = column * cell + cell if column < columns - 1 else across - 1
            energy = np.int64(0)
            for x in range(a, b):
                v = np.int64(rows[above, x]) + np.int64(rows[r, x])
                v += np.int64(rows[middle, x - 1]) + np.int64(rows[middle, x + 1]) - 4 * np.int64(rows[middle, x])
                edges += v
                energy += v * v
            grid[1, line + column] += energy
            sharp += energy
    totals[0] = squares
    totals[1] = bright
    totals[2] = dim
    totals[3] = edges
    totals[4] = sharp


@kernel
def summarise(t, cell, quiet_for, camera, cells, grid, totals, energies, work, values, causes):  # type: ignore[no-untyped-def]
    """Turn sums into the first ten statistics and the last (image.NAMES), and make this frame the previous one.

    ``t``: ns; ``cells``: CELL rows; ``energies``: (cells,) float64, filled; ``work``: (2, cells) int64.
    """
    state = camera[0]
    across, down = state["width"], state["height"]
    columns, lines = across // cell, down // cell
    count = columns * lines
    pixels = across * down
    interior = (across - 2) * (down - 2)
    total, low, high, change, changed = np.int64(0), np.int64(0), np.int64(0), np.int64(0), False
    fresh = state["frames"] == 0
    for i in range(count):
        kept = cells[i]
        moved = grid[0, i] - kept["sum"]
        total += grid[0, i]
        low += grid[2, i]
        high += grid[3, i]
        change += abs(moved)
        changed = changed or moved != 0 or grid[1, i] != kept["laplacian"]
        column, line = i % columns, i // columns
        wide = cell if column < columns - 1 else across - column * cell
        tall = cell if line < lines - 1 else down - line * cell
        inner = (wide - (column == 0) - (column == columns - 1)) * (tall - (line == 0) - (line == lines - 1))
        drift = moved / (wide * tall)
        energy = grid[1, i] / inner
        if not fresh:
            energy += drift * drift
        energies[i] = energy
        if not (kept["reference"] >= FLOOR and energy < QUIET * kept["reference"]):
            kept["quiet"] = _UNSEEN
        elif fresh or kept["quiet"] == _UNSEEN:
            kept["quiet"] = t
        work[0, i] = kept["quiet"] != _UNSEEN and t - kept["quiet"] >= quiet_for
        kept["sum"] = grid[0, i]
        kept["laplacian"] = grid[1, i]
    if fresh:
        state["since"] = t
        state["still"] = 0
    elif changed:
        state["still"] = 0
    else:
        state["still"] += 1
    state["frames"] += 1

    mean = total / pixels
    # n·Σv² − (Σv)² is exact: at most 9.4 million pixels (4096 cells of 32 with their remainders) keep it below 2^63
    deviation = math.sqrt(float(pixels * totals[0] - total * total)) / pixels
    edge = totals[3] / interior
    values[0] = mean
    values[1] = deviation
    values[2] = deviation / 255.0
    values[3] = totals[4] / interior - edge * edge
    values[4] = totals[1] / pixels
    values[5] = totals[2] / pixels
    values[6] = low / count
    values[7] = high / count
    values[8] = change / pixels
    values[9] = float(state["still"])
    for k in range(10):
        causes[k] = _NONE
    if fresh:
        values[8] = math.nan
        causes[8] = _WARMING
    values[13] = largest(work, columns, lines) / count
    causes[13] = _NONE
    if t - state["since"] < quiet_for:
        values[13] = math.nan
        causes[13] = _WARMING


@inlined
def largest(work, columns, lines):  # type: ignore[no-untyped-def]
    """Size of the largest 4-connected group of cells with ``work[0] != 0``; row 1 is the stack. Clears the marks."""
    best = np.int64(0)
    for seed in range(columns * lines):
        if work[0, seed] == 0:
            continue
        work[0, seed] = 0
        work[1, 0] = seed
        depth = np.int64(1)
        size = np.int64(0)
        while depth > 0:
            depth -= 1
            i = work[1, depth]
            size += 1
            column, line = i % columns, i // columns
            if column > 0 and work[0, i - 1] != 0:
                work[0, i - 1] = 0
                work[1, depth] = i - 1
                depth += 1
            if column < columns - 1 and work[0, i + 1] != 0:
                work[0, i + 1] = 0
                work[1, depth] = i + 1
                depth += 1
            if line > 0 and work[0, i - columns] != 0:
                work[0, i - columns] = 0
                work[1, depth] = i - columns
                depth += 1
            if line < lines - 1 and work[0, i + columns] != 0:
                work[0, i + columns] = 0
                work[1, depth] = i + columns
                depth += 1
        best = max(best, size)
    return best
