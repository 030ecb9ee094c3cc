"""Statistics of an object detector's output (vision_msgs/Detection2DArray, or plain arrays): how sure, what, how
steady.

No statistic here is an accuracy: ``accuracy_estimate`` is right only while the detector's scores are calibrated, which
cannot be told without labels (calibration drift is not identifiable), so it is for display and no check may use it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..elementary import log
from ..jit import kernel
from ..layout.load import FLOAT64, load_number
from ..layout.reduce import BUCKETS, select
from ..samples import Cause
from .cursor import enter, inner_header, length, place, text
from .statistics import SILENT, Statistics

MAX_DETECTIONS = 1024
MAX_HYPOTHESES = 8192  #: of a whole message
FIXED = (
    "detections",
    "score_mean",  # of the best hypothesis of each detection
    "score_min",
    "score_p05",
    "entropy_mean",  # nats, of each detection's hypotheses (what is missing to 1 counts as one more)
    "margin_mean",  # best score minus second best, of detections with at least two hypotheses
    "margin_min",
    "flicker",  # share of tracks that appeared or vanished since the previous frame
    "unlisted",  # detections of a class that is not in the list
    "accuracy_estimate",  # display only
)
_COUNT, _MEAN, _MIN, _P05, _ENTROPY, _MARGIN, _MARGIN_MIN, _FLICKER, _UNLISTED, _ACCURACY = range(10)
DISPLAY_ONLY = frozenset({"accuracy_estimate"})  #: statistics that no check may use

#: What is kept of the previous frame: number of detections, of tracks, frames seen.
FRAME = np.dtype([("detections", "<i8"), ("tracks", "<i8"), ("frames", "<i8")])


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """``classes``: names whose counts and shares are wanted (``count.person``, ``share.person``)."""

    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("detections: a class is named twice")


class DetectionStatistics(Statistics):
    """Statistics of one detector; state is the previous frame's tracks."""

    def __init__(self, options: DetectionOptions | None = None, *, ros1: bool = False) -> None:
        self.options = options or DetectionOptions()
        listed = [f"count.{name}" for name in self.options.classes] + [f"share.{name}" for name in self.options.classes]
        super().__init__([*FIXED, *listed])
        self.ros1 = ros1
        self._codes = {name: i for i, name in enumerate(self.options.classes)}
        self._frame = np.zeros(1, FRAME)
        self._tracks = np.zeros(MAX_DETECTIONS, np.int64)
        self._state = (self._frame, self._tracks)
        self._detections = np.zeros((MAX_DETECTIONS, 3), np.int64)
        self._labels = np.zeros((MAX_HYPOTHESES, 2), np.int64)
        self._scores = np.zeros(MAX_HYPOTHESES)
        self._best = np.zeros(MAX_DETECTIONS, np.int64)
        self._tops = np.empty(MAX_DETECTIONS)
        self._counts = np.zeros(BUCKETS, np.int64)

    def reset(self) -> None:
        """Forget the previous frame."""
        self._frame["detections"] = self._frame["tracks"] = self._frame["frames"] = 0

    def exercise(self) -> None:
        """Measure a frame with one detection."""
        self.arrays(np.ones(1), [""])

    def message(self, t: int, data: np.ndarray, start: int, size: int) -> None:
        """Measure a serialized vision_msgs/Detection2DArray (version 4 layout).

        ``invalid``: malformed, or a score is outside 0..1; ``overflow``: beyond MAX_DETECTIONS or MAX_HYPOTHESES.
        """
        count = detection_list(data, start, size, self.ros1, self._detections, self._labels, self._scores)
        if count < 0:
            self.refuse(Cause.OVERFLOW if count == -2 else Cause.INVALID)
            return
        if not self._confidence(count):
            return
        names = [self._label(data, int(best)) for best in self._best[:count]]
        tracks = [data[a : a + n].tobytes() for a, n in self._detections[:count, 1:].tolist() if n > 0]
        self._mix(names)
        self._steadiness(count, tracks)

    def _label(self, data: np.ndarray, hypothesis: int) -> str:
        """The class that a hypothesis names; nothing (-1) is no class."""
        first, letters = (0, 0) if hypothesis < 0 else self._labels[hypothesis].tolist()
        return str(data[first : first + letters].tobytes(), "utf-8", "replace")

    def arrays(self, scores: np.ndarray, classes: Sequence[str], tracks: Sequence[int | str] = ()) -> None:
        """Measure a frame given as ``scores`` ((n,) or (n, hypotheses), 0..1), ``classes`` (n names of the best
        hypotheses) and, where there is a tracker, the identities of its ``tracks``."""
        table = np.asarray(scores, np.float64).reshape(len(classes), -1) if len(classes) else np.zeros((0, 1))
        if len(table) > MAX_DETECTIONS or table.size > MAX_HYPOTHESES or len(tracks) > MAX_DETECTIONS:
            self.refuse(Cause.OVERFLOW)
            return
        self._scores[: table.size] = table.reshape(-1)
        self._detections[: len(table), 0] = table.shape[1]
        if self._confidence(len(table)):
            self._mix(classes)
            self._steadiness(len(table), [str(track).encode() for track in tracks])

    def _confidence(self, count: int) -> bool:
        """The statistics of scores; whether these could be used."""
        self.causes[:] = int(Cause.NONE)
        good = confidence(self._detections, count, self._scores, self._best, self._tops, self._counts, self.values)
        if not good:
            self.refuse(Cause.INVALID)
            return False
        self.values[_ACCURACY] = self.values[_MEAN]
        # a frame without detections, or without second hypotheses, says nothing about confidence or margin
        self.causes[np.isnan(self.values[: len(FIXED)]).nonzero()[0]] = SILENT
        return True

    def _mix(self, names: Sequence[str]) -> None:
        """Class counts and shares."""
        classes = len(self._codes)
        counts = [0] * classes
        unlisted = 0
        for name in names:
            code = self._codes.get(name)
            if code is None:
                unlisted += 1
            else:
                counts[code] += 1
        self.values[_UNLISTED] = float(unlisted)
        self.causes[_UNLISTED] = int(Cause.NONE)
        base = len(FIXED)
        for code, number in enumerate(counts):
            self.values[base + code] = float(number)
            self.values[base + classes + code] = number / len(names) if names else math.nan
            self.causes[base + classes + code] = int(Cause.NONE) if names else SILENT

    def _steadiness(self, count: int, tracks: Sequence[bytes]) -> None:
        """Compare this frame's tracks (where there are none: its number of detections) with the previous frame's."""
        frame = self._frame[0]
        keys = sorted({int.from_bytes(hashlib.blake2b(track, digest_size=8).digest(), "little", signed=True)
                       for track in tracks})  # fmt: skip
        before = set(self._tracks[: int(frame["tracks"])].tolist())
        if frame["frames"] == 0:
            flicker, cause = math.nan, int(Cause.WARMING)
        elif before or keys:
            flicker, cause = len(before ^ set(keys)) / len(before | set(keys)), int(Cause.NONE)
        else:
            was = int(frame["detections"])
            flicker, cause = abs(count - was) / max(count, was, 1), int(Cause.NONE)
        self.values[_FLICKER], self.causes[_FLICKER] = flicker, cause
        self._tracks[: len(keys)] = keys
        self._tracks[len(keys) :] = 0
        frame["tracks"], frame["detections"] = len(keys), count
        frame["frames"] += 1


@kernel
def detection_list(data, start, size, ros1, detections, labels, scores):  # type: ignore[no-untyped-def]
    """Read a vision_msgs/Detection2DArray: the number of detections, -1 where malformed, -2 where there are too many.

    ``detections``: (n, 3) number of hypotheses, address and length of the track's id; ``labels``: (m, 2) address and
    length of each hypothesis' class; ``scores``: (m,) float64.
    """
    bad = np.int64(-1)
    origin, limit, q, swap = enter(data, start, size, ros1)
    count, q = length(data, origin, limit, q, ros1, swap)
    if q < 0 or count > limit - q:
        return bad
    if count > len(detections):
        return np.int64(-2)
    total = np.int64(0)
    for i in range(count):
        q = inner_header(data, origin, limit, q, ros1, swap)
        several, q = length(data, origin, limit, q, ros1, swap)
        if q < 0 or several > limit - q:
            return bad
        if several > len(scores) - total:
            return np.int64(-2)
        for _ in range(several):
            labels[total, 0], labels[total, 1], q = text(data, origin, limit, q, ros1, swap)
            q = place(q, 8, ros1)
            if q < 0 or limit - q < 352:  # score, pose (7 numbers), covariance (36)
                return bad
            scores[total] = load_number(data, origin + q, FLOAT64, swap)
            total += 1
            q += 352
        q = place(q, 8, ros1)
        if limit - q < 40:  # centre x, y, theta, size x, y
            return bad
        detections[i, 0] = several
        detections[i, 1], detections[i, 2], q = text(data, origin, limit, q + 40, ros1, swap)
        if q < 0:
            return bad
    return count


@kernel
def confidence(detections, count, scores, best, tops, counts, out):  # type: ignore[no-untyped-def]
    """Fill the first seven of ``out`` (order of FIXED); whether all scores are within 0..1.

    ``best``: (n,) int64, filled with the number of each detection's best hypothesis; ``tops``: (n,) float64 work;
    detections without a hypothesis have score 0.
    """
    at, pairs = np.int64(0), 0
    total, entropy, margins, narrowest = 0.0, 0.0, 0.0, math.inf
    for i in range(count):
        several = detections[i, 0]
        first, second, mass = 0.0, -1.0, 0.0
        best[i] = at if several > 0 else -1
        for k in range(at, at + several):
            s = scores[k]
            if not (s >= 0.0 and s <= 1.0):
                return False
            mass += s
            if k == at or s > first:
                second = first if k > at else second
                first = s
                best[i] = k
            elif s > second:
                second = s
        scale = mass if mass > 1.0 else 1.0
        rest = 1.0 - mass / scale
        surprise = -rest * log(rest) if rest > 0.0 else 0.0
        for k in range(at, at + several):
            p = scores[k] / scale
            if p > 0.0:
                surprise -= p * log(p)
        entropy += surprise
        tops[i] = first
        total += first
        if several > 1:
            pairs += 1
            margins += first - second
            narrowest = min(narrowest, first - second)
        at += several
    out[0] = float(count)
    for k in range(1, 7):
        out[k] = math.nan
    if count > 0:
        out[1] = total / count
        lowest = math.inf
        for i in range(count):
            lowest = min(lowest, tops[i])
        out[2] = lowest
        out[4] = entropy / count
        out[3] = select(tops, count, max((count * 5 + 99) // 100, 1) - 1, counts)
    if pairs > 0:
        out[5] = margins / pairs
        out[6] = narrowest
    return True
