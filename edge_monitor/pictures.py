"""Compressed pictures to pixels, through Pillow (extra ``camera``)."""

from __future__ import annotations

import io
from importlib.util import find_spec

import numpy as np

from .errors import UsageError

MAX_PIXELS = 1 << 25  #: a picture that claims more is refused before it is decoded


def available() -> bool:
    """Whether Pillow is installed."""
    return find_spec("PIL") is not None


def decode(data: bytes) -> tuple[np.ndarray, str] | None:
    """``(height, width[, 3])`` uint8 and its encoding (``mono8``, ``rgb8``), or None where ``data`` is no JPEG or PNG.

    Raises UsageError: Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise UsageError("compressed pictures need Pillow: pip install 'edge-monitor[camera]'") from None
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                return None
            grey = picture.mode in ("L", "1")
            return np.asarray(picture.convert("L" if grey else "RGB")), "mono8" if grey else "rgb8"
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # Pillow raises SyntaxError for broken PNG chunks
