"""Camera statistics of sensor_msgs/CompressedImage, with a decoder handed in from outside the core."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..jit import kernel
from ..samples import Cause
from .cursor import enter, length, text
from .image import ImageOptions, ImageStatistics

#: Pixels of a compressed picture: ``(picture, encoding)`` as :meth:`ImageStatistics.frame` takes them, None where the
#: bytes are not a picture (or one that is too large).
Decoder = Callable[[bytes], tuple[np.ndarray, str] | None]


class CompressedImageStatistics(ImageStatistics):
    """Statistics of one camera whose pictures come compressed."""

    def __init__(self, options: ImageOptions | None, decode: Decoder, *, ros1: bool = False) -> None:
        super().__init__(options, ros1=ros1)
        self._decode = decode
        self._place = np.zeros(2, np.int64)

    def message(self, t: int, data: np.ndarray, start: int, size: int) -> None:
        """Measure a serialized CompressedImage; ``invalid`` where it is malformed or not a picture."""
        place = self._place
        picture = None
        if compressed_bytes(data, start, size, self.ros1, place):
            picture = self._decode(data[place[0] : place[0] + place[1]].tobytes())
        if picture is None:
            self.refuse(Cause.INVALID)
            return
        self.frame(t, *picture)


@kernel
def compressed_bytes(data, start, size, ros1, place):  # type: ignore[no-untyped-def]
    """Address and number of a sensor_msgs/CompressedImage's data bytes into ``place``; whether it could be read."""
    origin, limit, q, swap = enter(data, start, size, ros1)
    _, _, q = text(data, origin, limit, q, ros1, swap)
    count, q = length(data, origin, limit, q, ros1, swap)
    if q < 0 or count > limit - q:
        return False
    place[0] = origin + q
    place[1] = count
    return True
