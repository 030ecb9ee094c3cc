"""Reference files: what a signal, or several at once, looked like when all was well, and what may be promised from it.

A ``*.npz`` (NumPy's zip) with flat float64 arrays and a JSON header, made by ``edge-replay calibrate``. The digest is
the SHA-256 of the file and part of the plan. The loader trusts nothing: size, names, types, shapes, ranges, and that
header and arrays agree are checked before a number reaches a kernel; nothing is unpickled.
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
from .core.drift import adwin, compat, cusum, edetector, focus, histogram, pipeline, vector
from .reference_files import LARGEST, bad

FORMAT = "edge-monitor baseline 1"
LARGEST_OF_VECTORS = 8 << 20  #: bytes of the file of several signals, and of its contents unpacked
MAX_MODES = 64
SAMPLE = 1023  #: values kept of a reference, for p-values: none is below 1/1024

#: Arrays and their shapes; m: modes.
ARRAYS: dict[str, tuple[int, ...]] = {
    "mode": (),
    "centre": (),
    "scale": (),
    "sigma": (),
    "order": (),
    "phi": (pipeline.MAX_ORDER,),
    "gain": (),
    "tau": (),
    "size": (),
    "cuts": (edetector.LEVELS,),
    "bounds": (edetector.LEVELS,),
    "edges": (histogram.BINS - 1,),
    "shares": (histogram.BINS,),
    "sample": (SAMPLE,),
}
#: The same for several signals; m: modes, n: signals, f: random features.
VECTOR_ARRAYS: dict[str, tuple[str, ...]] = {
    "mode": ("m",),
    "centre": ("m", "n"),
    "scale": ("m", "n"),
    "sigma": ("m", "n"),
    "mean": ("m", "n"),
    "order": ("m",),
    "phi": ("m", "n", "6"),
    "tau": ("m",),
    "cuts": ("m", "3"),
    "bounds": ("m", "3"),
    "precision": ("m", "n", "n"),
    "weights": ("m", "n", "f"),
    "phases": ("m", "f"),
}
SCORES = {"shift": pipeline.MAGNITUDE, "energy": pipeline.ENERGY, "quiet": pipeline.QUIET}
STATISTICS = {"ks": histogram.KS, "psi": histogram.PSI, "js": histogram.JS, "wasserstein": histogram.WASSERSTEIN}
#: Detectors that look at single residuals; the others look at blocks of them.
SINGLE = frozenset({"cusum", "adwin", "page_hinkley", "kswin"})
#: Those that look at standardised samples as they are.
PLAIN = frozenset({"histogram"})

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The reference of one signal, or of several at once. ``header``: as in the file; ``arrays``: (modes, …) float64 by the
    names of ``ARRAYS`` or ``VECTOR_ARRAYS``."""

    header: Mapping[str, Any]
    arrays: Mapping[str, Array]
    digest: str = ""
    path: Path | None = field(default=None, compare=False)

    @property
    def calibrated(self) -> bool:
        """Is the e-detector's mean time between false alarms promised?"""
        return bool(self.header["calibrated"])

    @property
    def modes(self) -> tuple[float, ...]:
        """Values of the mode signal that the reference covers; one 0 where it has no mode."""
        return tuple(self.arrays["mode"].tolist())

    @property
    def signals(self) -> tuple[str, ...]:
        """The names of the signals that it was made of; several where it is one of a vector."""
        return tuple(self.header["signals"]) if "signals" in self.header else (str(self.header["signal"]),)

    @property
    def units(self) -> tuple[str, ...]:
        """The units of those signals."""
        return tuple(self.header["units"]) if "units" in self.header else (str(self.header["unit"]),)

    @property
    def several(self) -> bool:
        """Is it the reference of several signals at once?"""
        return "precision" in self.arrays

    def table(self, detector: str = "edetector", *, resolve: float = 0.5, **settings: float | str) -> tuple[float, ...]:
        """The drift check's table (:func:`edge_monitor.core.drift.pipeline.pack`).

        ``settings`` override what calibration chose: ``threshold`` for all; ``k`` (cusum), ``rate`` (ewma), ``ratio``
        (variance), ``statistic``, ``window``, ``hop`` (histogram), ``delta``, ``clock`` (adwin and page_hinkley),
        ``alpha``, ``window``, ``size``, ``seed`` (kswin), ``fast``, ``slow`` (mmd). Raises ``ValueError`` for a detector
        that the file has no threshold for, and for settings that don't fit.
        """
        chosen: dict[str, Any] = {**self.header["detectors"].get(detector, {}), **settings}
        if self.several != (detector in pipeline.VECTOR):
            raise ValueError(f"`{detector}` and a reference of {len(self.signals)} signals don't belong together")
        if self.several:
            return self._vector_table(detector, resolve, chosen, bool(settings))
        arrays = self.arrays
        plain = detector in PLAIN
        rows = []
        for i in range(len(arrays["mode"])):
            order = int(arrays["order"][i])
            rows.append(
                pipeline.Row(
                    self._params(detector, i, dict(chosen)),
                    mode=float(arrays["mode"][i]),
                    centre=float(arrays["centre"][i]),
                    scale=float(arrays["scale"][i]),
                    sigma=1.0 if plain else float(arrays["sigma"][i]),
                    phi=() if plain else tuple(arrays["phi"][i, :order].tolist()),
                )
            )
        block = 1 if plain or detector in SINGLE else int(self.header["block"])
        period = float(self.header["period_s"])
        return pipeline.pack(
            pipeline.DETECTORS[detector],
            rows,
            feed=SCORES[self.header["score"]] if detector == "edetector" else pipeline.SHIFT,
            block=block,
            gap_ns=round(float(self.header["gap_s"]) * 1e9),
            block_ns=round(max(block, 10) * period * 1e9),
            resolve=resolve,
            calibrated=self.calibrated and detector == "edetector" and not settings,
            digest=self.digest,
        )

    def _vector_table(self, detector: str, resolve: float, chosen: dict[str, Any], changed: bool) -> tuple[float, ...]:
        arrays, n = self.arrays, len(self.signals)
        whitened = detector == "mahalanobis"
        if "threshold" not in chosen:
            raise ValueError(f"the reference has no threshold for `{detector}`: give one, or calibrate for it")
        threshold = float(chosen.pop("threshold"))
        if whitened and chosen:
            raise ValueError(f"there is no setting `{next(iter(chosen))}`")
        rows = []
        for i, mode in enumerate(self.modes):
            order = int(arrays["order"][i]) if whitened else 0
            if whitened:
                cuts, bounds = arrays["cuts"][i].tolist(), arrays["bounds"][i].tolist()
                params, matrix = edetector.edetector_params(threshold, cuts, bounds), arrays["precision"][i].ravel()
            else:
                params = vector.mmd_params(threshold, arrays["phases"].shape[1], **_numbers(chosen))
                matrix = np.concatenate([arrays["weights"][i].ravel(), arrays["phases"][i]])
            rows.append(
                vector.vector_row(
                    params,
                    arrays["centre"][i].tolist(),
                    arrays["scale"][i].tolist(),
                    arrays["sigma"][i].tolist() if whitened else [1.0] * n,
                    arrays["mean"][i].tolist() if whitened else [0.0] * n,
                    arrays["phi"][i, :, :order].tolist(),
                    matrix.tolist(),
                    mode,
                )
            )
        block = int(self.header["block"]) if whitened else 1
        return pipeline.pack(
            pipeline.DETECTORS[detector],
            rows,
            feed=SCORES[self.header["score"]],
            block=block,
            gap_ns=round(float(self.header["gap_s"]) * 1e9),
            block_ns=round(max(block, 10) * float(self.header["period_s"]) * 1e9),
            resolve=resolve,
            calibrated=self.calibrated and whitened and not changed,
            dimensions=n,
            digest=self.digest,
        )

    def _params(self, detector: str, i: int, chosen: dict[str, Any]) -> tuple[float, ...]:
        """The detector's constants in mode ``i``."""
        if detector == "adwin":
            return adwin.adwin_params(**_numbers(chosen))
        if detector == "page_hinkley":
            return compat.page_hinkley_params(**_numbers(chosen))
        if detector == "kswin":
            return compat.kswin_params(**_numbers(chosen))
        if "threshold" not in chosen:
            raise ValueError(f"the reference has no threshold for `{detector}`: give one, or calibrate for it")
        threshold = float(chosen.pop("threshold"))
        arrays = self.arrays
        if detector == "edetector":
            return edetector.edetector_params(threshold, arrays["cuts"][i].tolist(), arrays["bounds"][i].tolist())
        if detector == "histogram":
            which = STATISTICS[str(chosen.pop("statistic", "ks"))]
            edges, shares = arrays["edges"][i].tolist(), arrays["shares"][i].tolist()
            return histogram.histogram_params(threshold, which, edges, shares, **_numbers(chosen))
        if detector == "cusum":
            k = max(0.05, float(arrays["gain"][i]) / 2) if "k" not in chosen else float(chosen["k"])
            return cusum.cusum_params(threshold, k)
        if detector == "ewma":
            return cusum.ewma_params(threshold, **_numbers(chosen))
        if detector == "variance":
            return cusum.variance_params(threshold, **_numbers(chosen))
        if detector == "focus":
            return focus.focus_params(threshold)
        raise ValueError(f"a reference file does not serve `{detector}`")

    def sample(self, i: int) -> Array:
        """(n,) standardised values of the reference in mode ``i``, ascending: all of them where there are at most
        ``SAMPLE``, else as many of evenly spaced rank."""
        n = int(min(self.arrays["size"][i], SAMPLE))
        kept: Array = self.arrays["sample"][i][((np.arange(n) + 0.5) * SAMPLE / max(n, 1)).astype(np.int64)]
        return kept

    def save(self, path: Path) -> str:
        """Write the file; answers its digest. Equal contents give equal bytes. Raises ``ValueError`` for one that is too
        large to be loaded."""
        names, largest = (VECTOR_ARRAYS, LARGEST_OF_VECTORS) if self.several else (ARRAYS, LARGEST)
        data = reference_files.pack(self.header, {name: self.arrays[name] for name in names})
        if len(data) > largest:
            raise ValueError(f"its reference takes {len(data)} bytes: watch fewer signals at once, or in fewer modes")
        path.write_bytes(data)
        return hashlib.sha256(data).hexdigest()


def _numbers(chosen: dict[str, Any]) -> dict[str, Any]:
    """Settings as the detectors take them: whole numbers as int."""
    return {name: int(value) if float(value).is_integer() else float(value) for name, value in chosen.items()}


def load(path: Path | str) -> Baseline:
    """Read a reference file. Raises ``ConfigError`` that says what is wrong with it."""
    path = Path(path)
    header, arrays, digest = reference_files.load(path, FORMAT, (ARRAYS, LARGEST), (VECTOR_ARRAYS, LARGEST_OF_VECTORS))
    _check(path, header, arrays)
    return Baseline(header, arrays, digest, path)


def _check(path: Path, header: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Everything that kernels and reports rely on. Raises ``ConfigError``."""
    modes = len(arrays["mode"]) if arrays["mode"].ndim == 1 else 0
    if not 1 <= modes <= MAX_MODES:
        raise bad(path, "has no mode, or too many")
    several = "precision" in arrays
    shapes = _shapes_of_several(path, header, arrays) if several else {n: (modes, *ARRAYS[n]) for n in ARRAYS}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise bad(path, f"`{name}` has the shape {arrays[name].shape}")
        if not np.isfinite(arrays[name]).all():
            raise bad(path, f"`{name}` holds what is no finite number")
    rules = {
        "scale": (arrays["scale"] > 0).all(),
        "sigma": (arrays["sigma"] > 0).all(),
        "order": bool(np.isin(arrays["order"], np.arange(pipeline.MAX_ORDER + 1)).all()),
        "bounds": ((arrays["bounds"] > 0) & (arrays["bounds"] < 1)).all(),
        "cuts": (np.diff(arrays["cuts"], axis=1) >= 0).all(),
        "mode": len(np.unique(arrays["mode"])) == modes,
    }
    if several:
        rules["precision"] = all(_is_precision(matrix) for matrix in arrays["precision"])
    else:
        rules["edges"] = (np.diff(arrays["edges"], axis=1) > 0).all()
        rules["shares"] = (arrays["shares"] > 0).all() and (abs(arrays["shares"].sum(axis=1) - 1) < 1e-9).all()
        rules["sample"] = (np.diff(arrays["sample"], axis=1) >= 0).all()
        rules["size"] = (arrays["size"] >= 0).all()
    for name, holds in rules.items():
        if not holds:
            raise bad(path, f"`{name}` has values that can't be")
    _check_header(path, header, several)


def _shapes_of_several(path: Path, header: dict[str, Any], arrays: dict[str, Array]) -> dict[str, tuple[int, ...]]:
    """The shapes that the arrays of several signals must have; how many they are, the header says."""
    signals, units = header.get("signals"), header.get("units")
    if not all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in (signals, units)):
        raise bad(path, "its header does not name signals and their units")
    assert isinstance(signals, list)
    assert isinstance(units, list)
    if not 2 <= len(signals) <= vector.MAX_DIMENSIONS or len(units) != len(signals):
        raise bad(path, f"its header names {len(signals)} signals and {len(units)} units")
    features = arrays["phases"].shape[-1] if arrays["phases"].ndim else 0
    if not 1 <= features <= vector.MAX_FEATURES:
        raise bad(path, f"`phases` has the shape {arrays['phases'].shape}")
    sizes = {"m": len(arrays["mode"]), "n": len(signals), "f": features}
    sizes |= {"6": pipeline.MAX_ORDER, "3": edetector.LEVELS}
    return {name: tuple(sizes[axis] for axis in shape) for name, shape in VECTOR_ARRAYS.items()}


def _is_precision(matrix: Array) -> bool:
    """Symmetric and positive definite, so that a distance is none below 0."""
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return bool((matrix == matrix.T).all())


def _check_header(path: Path, header: dict[str, Any], several: bool) -> None:
    """Types and ranges of what the header says; that it agrees with itself."""
    texts = ("mode_signal", "author", "made_by", "score", *(() if several else ("signal", "unit")))
    numbers = {"block": (1, 1e9), "period_s": (1e-9, 1e6), "gap_s": (1e-9, 1e7)}
    for name in texts:
        if not isinstance(header.get(name), str):
            raise bad(path, f"its header has no text `{name}`")
    for name, (low, high) in numbers.items():
        value = header.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise bad(path, f"its header's `{name}` is {value!r}")
    if header["score"] not in SCORES or int(header["block"]) != header["block"]:
        raise bad(path, "its header names a score or block that there is not")
    if not isinstance(header.get("calibrated"), bool) or not all(
        isinstance(header.get(n), list) for n in ("reasons", "left_out")
    ):
        raise bad(path, "its header does not say whether it is calibrated")
    if header["calibrated"] == bool(header["reasons"]):
        raise bad(path, "its header is calibrated and says why it is not")
    if not isinstance(header.get("sources"), list) or not isinstance(header.get("promise"), dict):
        raise bad(path, "its header names no sources or no promise")
    detectors = header.get("detectors")
    known = pipeline.VECTOR if several else set(pipeline.DETECTORS) - pipeline.VECTOR
    if not isinstance(detectors, dict) or not set(detectors) <= known:
        raise bad(path, "its header has no thresholds of detectors")
    for name, settings in detectors.items():
        values = settings.items() if isinstance(settings, dict) else [("", None)]
        for key, value in values:
            good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not good and not (key == "statistic" and value in STATISTICS):
                raise bad(path, f"the threshold of `{name}` is no number")
