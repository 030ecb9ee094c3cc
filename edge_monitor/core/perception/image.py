"""Camera statistics in one pass over raw pixels: brightness, sharpness, clipping, haze, freezing and covering.

A frame is cut into square cells. Everything that is summed is an integer, so that results don't depend on the order of
additions; division comes last. State (the previous frame's cell sums, since when each cell is quiet) is flat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..jit import kernel
from ..layout.load import load32
from ..samples import Cause
from .cursor import enter, length, place, text
from .pixels import BAYER, CAMERA, CELL, COLOUR, GREY8, GREY16, picture, summarise
from .statistics import Statistics

#: Encodings of sensor_msgs/image_encodings.hpp: (form, bytes a pixel, offsets of red, green, blue).
ENCODINGS = {
    "mono8": (GREY8, 1, 0, 0, 0),
    "8UC1": (GREY8, 1, 0, 0, 0),
    "rgb8": (COLOUR, 3, 0, 1, 2),
    "bgr8": (COLOUR, 3, 2, 1, 0),
    "8UC3": (COLOUR, 3, 2, 1, 0),
    "rgba8": (COLOUR, 4, 0, 1, 2),
    "bgra8": (COLOUR, 4, 2, 1, 0),
    "8UC4": (COLOUR, 4, 2, 1, 0),
    "mono16": (GREY16, 2, 0, 0, 0),
    "16UC1": (GREY16, 2, 0, 0, 0),
    "bayer_rggb8": (BAYER, 1, 0, 0, 0),
    "bayer_bggr8": (BAYER, 1, 0, 0, 0),
    "bayer_gbrg8": (BAYER, 1, 0, 0, 0),
    "bayer_grbg8": (BAYER, 1, 0, 0, 0),
}

NAMES = (
    "luminance",  # mean, 0..255
    "luminance_std",  # 0..255
    "contrast",  # RMS contrast: standard deviation of luminance / 255 (Peli 1990)
    "laplacian_variance",  # variance of the 4-neighbour Laplacian: sharpness (Pech-Pacheco et al. 2000)
    "saturated",  # share of pixels >= 250
    "dark",  # share of pixels <= 5
    "dark_channel",  # mean over cells of the smallest of R, G, B: rises in fog (He, Sun, Tang 2009)
    "bright_channel",  # mean over cells of the largest of R, G, B
    "sad",  # |change| of the cell sums since the previous frame, a pixel; 0 = frozen
    "still_frames",  # frames in a row in which no cell changed
    "luminance_ratio",  # the following: against the reference
    "contrast_ratio",
    "sharpness_ratio",  # laplacian_variance against the reference's
    "occluded",  # largest connected share of cells without structure or motion
)
_LUMINANCE, _STD, _CONTRAST, _LAPLACIAN, _SATURATED, _DARK, _DARK_CHANNEL, _BRIGHT_CHANNEL = range(8)
_SAD, _STILL, _LUMINANCE_RATIO, _CONTRAST_RATIO, _SHARPNESS_RATIO, _OCCLUDED = range(8, 14)
RELATIVE = (_LUMINANCE_RATIO, _CONTRAST_RATIO, _SHARPNESS_RATIO, _OCCLUDED)

MAX_CELLS = 4096  #: 1280 x 720 in cells of 16; larger frames need a stride
MAX_WIDTH = 4096  #: sampled pixels a row


@dataclass(frozen=True, slots=True)
class ImageReference:
    """How a healthy camera looks on this vehicle: medians over reference frames of one geometry."""

    width: int  #: pixels, before any stride
    height: int
    luminance: float
    contrast: float
    laplacian_variance: float
    energy: np.ndarray  #: (cells,) float64, grey levels squared: squared Laplacian and squared change of the mean

    @classmethod
    def fit(cls, width: int, height: int, values: np.ndarray, energies: np.ndarray) -> ImageReference:
        """From ``values`` (frames, 14) and ``energies`` (frames, cells) of :class:`ImageStatistics`. At least 2 frames:
        the first has no predecessor and is left out of the energies. Raises ValueError."""
        if len(values) < 2 or len(values) != len(energies):
            raise ValueError("a camera reference needs at least two frames")
        middle = np.median(values, axis=0)
        return cls(
            width,
            height,
            luminance=float(middle[_LUMINANCE]),
            contrast=float(middle[_CONTRAST]),
            laplacian_variance=float(middle[_LAPLACIAN]),
            energy=np.median(energies[1:], axis=0),
        )


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """``stride``: every n-th pixel of every n-th row; ``cell``: edge in sampled pixels; ``bits``: of 16-bit encodings
    in use (12 for most industrial cameras); ``quiet_for``: ns without structure after which a cell is occluded."""

    stride: int = 1
    cell: int = 16
    bits: int = 16
    quiet_for: int = 500_000_000
    reference: ImageReference | None = field(default=None)

    def __post_init__(self) -> None:
        if self.reference is not None and len(self.reference.energy) > MAX_CELLS:
            raise ValueError(f"camera reference: {len(self.reference.energy)} cells, at most {MAX_CELLS}")
        if self.stride < 1 or not 8 <= self.cell <= 32 or not 8 <= self.bits <= 16 or self.quiet_for < 0:
            raise ValueError("camera: stride >= 1, cell 8 to 32 pixels, bits 8 to 16, quiet_for >= 0")


class ImageStatistics(Statistics):
    """Statistics of one camera; state is two flat arrays."""

    names = NAMES

    def __init__(self, options: ImageOptions | None = None, *, ros1: bool = False) -> None:
        super().__init__(NAMES)
        self.options = options or ImageOptions()
        self.ros1 = ros1
        self._camera = np.zeros(1, CAMERA)
        self._cells = np.zeros(MAX_CELLS, CELL)
        self._rows = np.zeros((5, MAX_WIDTH), np.int32)
        self._grid = np.zeros((4, MAX_CELLS), np.int64)
        self._energy = np.zeros(MAX_CELLS)
        self._work = np.zeros((2, MAX_CELLS), np.int64)
        self._totals = np.zeros(5, np.int64)
        self._head = np.zeros(8, np.int64)
        self._size = (0, 0)
        self._state = (self._camera, self._cells)
        reference = self.options.reference
        if reference is not None:
            self._cells["reference"][: len(reference.energy)] = reference.energy
        self.reset()

    def reset(self) -> None:
        """Forget earlier frames (a clock jump, a new stream)."""
        for name in ("width", "height", "frames", "still", "since"):
            self._camera[name] = 0

    def exercise(self) -> None:
        """Measure a black picture of two by two cells."""
        edge = 2 * self.options.cell * self.options.stride
        self.frame(0, np.zeros((edge, edge), np.uint8), "mono8")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the last measured frame, pixels."""
        return self._size

    @property
    def energy(self) -> np.ndarray:
        """(cells,) float64 energies of the last frame, for fitting a reference."""
        cell = self.options.cell
        cells = (int(self._camera["width"][0]) // cell) * (int(self._camera["height"][0]) // cell)
        return np.array(self._energy[:cells])

    def message(self, t: int, data: np.ndarray, start: int, size: int) -> None:
        """Measure the sensor_msgs/Image ``data[start:start + size]`` received at ``t`` (ns)."""
        head = self._head
        if not image_header(data, start, size, self.ros1, head):
            self.refuse(Cause.INVALID)
            return
        width, height, step, big = (int(head[i]) for i in range(4))
        encoding = data[head[4] : head[4] + head[5]].tobytes()
        self.pixels(t, data, int(head[6]), int(head[7]), width, height, step, encoding.decode("latin-1"), bool(big))

    def frame(self, t: int, image: np.ndarray, encoding: str) -> None:
        """Measure a decoded picture: (height, width) or (height, width, channels) uint8 or uint16."""
        rows = np.ascontiguousarray(image)
        data = rows.reshape(-1).view(np.uint8)
        data.flags.writeable = False  # as a source's bytes are: one compilation serves both
        height, width = image.shape[:2]
        step = rows.strides[0]
        self.pixels(t, data, 0, len(data), width, height, step, encoding)

    def pixels(
        self, t: int, data: np.ndarray, first: int, size: int, width: int, height: int, step: int, encoding: str,
        big_endian: bool = False,
    ) -> None:  # fmt: skip
        """Measure ``height`` rows of ``step`` bytes at ``data[first:first + size]``.

        The cause is ``invalid`` where geometry and size contradict each other (size must be step x height) or the
        frame has fewer than 2 x 2 cells, ``type_mismatch`` for other encodings, ``overflow`` beyond ``MAX_CELLS``.
        """
        form = ENCODINGS.get(encoding)
        if form is None:
            self.refuse(Cause.TYPE_MISMATCH)
            return
        if not (0 <= first <= len(data) - size and width > 0 and height > 0 and step >= width * form[1]):
            self.refuse(Cause.INVALID)
            return
        if size % step or size // step != height:
            self.refuse(Cause.INVALID)
            return
        options = self.options
        stride = options.stride if form[0] != BAYER else max(2, options.stride)
        across, down = sampled(width, stride, form[0]), sampled(height, stride, form[0])
        if across < 2 * options.cell or down < 2 * options.cell:
            self.refuse(Cause.INVALID)
            return
        cells = (across // options.cell) * (down // options.cell)
        if across > MAX_WIDTH or cells > MAX_CELLS:
            self.refuse(Cause.OVERFLOW)
            return
        camera = self._camera[0]
        if camera["width"] != across or camera["height"] != down:
            self.reset()
            camera["width"], camera["height"] = across, down
        picture(
            data, first, step, *form, big_endian, stride, options.cell, options.bits - 8,
            self._camera, self._rows, self._grid, self._totals,
        )  # fmt: skip
        summarise(
            t, options.cell, options.quiet_for, self._camera, self._cells, self._grid, self._totals, self._energy,
            self._work, self.values, self.causes,
        )  # fmt: skip
        self._size = width, height
        self._compare(width, height, cells)

    def _compare(self, width: int, height: int, cells: int) -> None:
        """Put values against the reference's; without one (or of another geometry) they are unknown."""
        reference = self.options.reference
        known = reference is not None and (reference.width, reference.height) == (width, height)
        if reference is None or not known or len(reference.energy) != cells:
            for i in RELATIVE:
                self.values[i], self.causes[i] = math.nan, Cause.DEPENDENCY
            if reference is not None:
                made = f"{reference.width} x {reference.height} pixels in {len(reference.energy)} cells"
                self.problem = (
                    f"frames of {width} x {height} pixels in {cells} cells cannot be compared with the reference, "
                    f"which is of {made}: calibrate anew"
                )
            return
        for ratio, value, base in (
            (_LUMINANCE_RATIO, _LUMINANCE, reference.luminance),
            (_CONTRAST_RATIO, _CONTRAST, reference.contrast),
            (_SHARPNESS_RATIO, _LAPLACIAN, reference.laplacian_variance),
        ):
            self.values[ratio] = self.values[value] / base if base > 0 else math.nan
            self.causes[ratio] = Cause.NONE if base > 0 else Cause.DEPENDENCY


def sampled(pixels: int, stride: int, form: int) -> int:
    """How many of ``pixels`` in a row or column are looked at; a Bayer pixel needs its neighbour too."""
    return pixels // stride if form == BAYER else -(-pixels // stride)


@kernel
def image_header(data, start, size, ros1, head):  # type: ignore[no-untyped-def]
    """Read a sensor_msgs/Image up to its pixels. ``head``: (8,) width, height, step, big endian pixels, address and
    length of the encoding's name, address and number of the pixel bytes. Answers whether it could be read."""
    origin, limit, q, swap = enter(data, start, size, ros1)
    q = place(q, 4, ros1)
    if q < 0 or limit - q < 8:
        return False
    head[1] = np.int64(load32(data, origin + q, swap))
    head[0] = np.int64(load32(data, origin + q + 4, swap))
    head[4], head[5], q = text(data, origin, limit, q + 8, ros1, swap)
    if q < 0 or limit - q < 1:
        return False
    head[3] = np.int64(data[np.uint64(origin + q)])
    q = place(q + 1, 4, ros1)
    if limit - q < 4:
        return False
    head[2] = np.int64(load32(data, origin + q, swap))
    count, q = length(data, origin, limit, q + 4, ros1, swap)
    if q < 0 or count > limit - q:
        return False
    head[6] = origin + q
    head[7] = count
    return True
