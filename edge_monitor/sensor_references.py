"""Reference files of sensors: what a camera or lidar of this vehicle gives when it is healthy.

``edge-replay calibrate`` makes them: medians over the frames of recordings in which all was well. The digest is the
SHA-256 of the file, and part of the envelope's and of the plan's. Nothing in a file is trusted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import reference_files
from .core.perception.cloud import MAX_RINGS, SECTORS, CloudReference
from .core.perception.image import MAX_CELLS, ImageReference
from .reference_files import bad

FORMAT = "edge-monitor sensor reference 1"
#: The only array: of a camera, the median energy of each cell; of a lidar, the median returns of each ring and sector.
ARRAYS = ("cells",)
#: Options under which frames were measured; a reference serves only a sensor with the same ones.
SETTINGS: dict[str, tuple[str, ...]] = {"camera": ("stride", "cell", "bits"), "point_cloud": ()}
MEDIANS = ("luminance", "contrast", "laplacian_variance")
LARGEST_SIDE = 1 << 16  #: pixels


@dataclass(frozen=True, slots=True)
class SensorReference:
    """One sensor's reference. ``header``: as in the file; ``cells``: (n,) float64."""

    header: Mapping[str, Any]
    cells: npt.NDArray[np.float64]
    digest: str = ""
    path: Path | None = field(default=None, compare=False)

    @property
    def kind(self) -> str:
        """``camera`` or ``point_cloud``."""
        return str(self.header["kind"])

    def image(self) -> ImageReference:
        """As the camera statistics take it."""
        header = self.header
        luminance, contrast, variance = (float(header[name]) for name in MEDIANS)
        return ImageReference(int(header["width"]), int(header["height"]), luminance, contrast, variance, self.cells)

    def cloud(self) -> CloudReference:
        """As the statistics of clouds take it."""
        return CloudReference(self.cells)

    def save(self, path: Path) -> str:
        """Write the file; answers its digest. Equal contents give equal bytes."""
        data = reference_files.pack(self.header, {"cells": self.cells})
        path.write_bytes(data)
        return hashlib.sha256(data).hexdigest()


def load(path: Path | str) -> SensorReference:
    """Read a reference file. Raises ``ConfigError`` that says what is wrong with it."""
    path = Path(path)
    header, arrays, digest = reference_files.load(path, FORMAT, (ARRAYS, reference_files.LARGEST))
    cells = arrays["cells"]
    _check(path, header, cells)
    return SensorReference(header, cells, digest, path)


def _check(path: Path, header: dict[str, Any], cells: npt.NDArray[np.float64]) -> None:
    """Everything that kernels and reports rely on."""
    kind = header.get("kind")
    if kind not in SETTINGS:
        raise bad(path, "its header names no kind of sensor that has references")
    if cells.ndim != 1 or not np.isfinite(cells).all() or not (cells >= 0).all():
        raise bad(path, "`cells` holds what is no finite number from 0 on")
    for name in ("topic", "author", "made_by"):
        if not isinstance(header.get(name), str):
            raise bad(path, f"its header has no text `{name}`")
    if not isinstance(header.get("sources"), list) or not isinstance(header.get("seen"), dict):
        raise bad(path, "its header names no sources, or does not say what was seen")
    _whole(path, header, "frames", 2, 1 << 53)
    if kind == "point_cloud":
        if cells.shape != (MAX_RINGS * SECTORS,):
            raise bad(path, f"`cells` has the shape {cells.shape}")
        return
    for name, low, high in (
        ("width", 1, LARGEST_SIDE), ("height", 1, LARGEST_SIDE), ("stride", 1, 64), ("cell", 8, 32), ("bits", 8, 16),
    ):  # fmt: skip
        _whole(path, header, name, low, high)
    for name in MEDIANS:
        value = header.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise bad(path, f"its header's `{name}` is {value!r}")
    if not 4 <= len(cells) <= MAX_CELLS:
        raise bad(path, f"`cells` has the shape {cells.shape}")


def _whole(path: Path, header: dict[str, Any], name: str, low: int, high: int) -> None:
    value = header.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise bad(path, f"its header's `{name}` is {value!r}")
