"""Reference files: what a signal looked like when all was well, and what may be promised from it.

A ``*.npz`` (NumPy's zip) with flat float64 arrays and a JSON header, made by ``edge-replay calibrate``. The digest is
the SHA-256 of the file and part of the plan. The loader trusts nothing: size, names, types, shapes, ranges, and that
header and arrays agree are checked before a number reaches a kernel; nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .core.drift import adwin, compat, cusum, edetector, focus, histogram, pipeline
from .errors import ConfigError

FORMAT = "edge-monitor baseline 1"
LARGEST = 1 << 20  #: bytes of a file, and of its contents unpacked
MAX_MODES = 64

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
    """One signal's reference. ``header``: as in the file; ``arrays``: (modes, …) float64 by the names of ``ARRAYS``."""

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

    def table(self, detector: str = "edetector", *, resolve: float = 0.5, **settings: float | str) -> tuple[float, ...]:
        """The drift check's table (:func:`edge_monitor.core.drift.pipeline.pack`).

        ``settings`` override what calibration chose: ``threshold`` for all; ``k`` (cusum), ``rate`` (ewma), ``ratio``
        (variance), ``statistic``, ``window``, ``hop`` (histogram), ``delta``, ``clock`` (adwin and page_hinkley),
        ``alpha``, ``window``, ``size``, ``seed`` (kswin). Raises ``ValueError`` for a detector that the file has no
        threshold for, and for settings that don't fit.
        """
        chosen: dict[str, Any] = {**self.header["detectors"].get(detector, {}), **settings}
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

    def save(self, path: Path) -> str:
        """Write the file; answers its digest. Equal contents give equal bytes."""
        data = pack_file(self.header, self.arrays)
        path.write_bytes(data)
        return hashlib.sha256(data).hexdigest()


def _numbers(chosen: dict[str, Any]) -> dict[str, Any]:
    """Settings as the detectors take them: whole numbers as int."""
    return {name: int(value) if float(value).is_integer() else float(value) for name, value in chosen.items()}


def pack_file(header: Mapping[str, Any], arrays: Mapping[str, Array], names: Collection[str] = tuple(ARRAYS)) -> bytes:
    """The bytes of a reference file with the arrays ``names``."""
    text = json.dumps(dict(header), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    buffer = io.BytesIO()
    members = {name: np.ascontiguousarray(arrays[name], np.float64) for name in names}
    np.savez(buffer, header=np.frombuffer(text.encode(), np.uint8), **members)  # type: ignore[arg-type]
    return buffer.getvalue()


def load(path: Path | str) -> Baseline:
    """Read a reference file. Raises ``ConfigError`` that says what is wrong with it."""
    path = Path(path)
    header, arrays, digest = read_file(path)
    _check(path, header, arrays)
    return Baseline(header, arrays, digest, path)


def read_file(
    path: Path,
    names: Collection[str] = tuple(ARRAYS),
    format_: str = FORMAT,
    check: Callable[[dict[str, Any], dict[str, Array]], None] | None = None,
) -> tuple[dict[str, Any], dict[str, Array], str]:
    """Header, float64 arrays and digest of a file of ``edge-replay calibrate``, whatever its format.

    ``check`` raises ``ValueError`` for contents that can't be. Raises ``ConfigError`` that says what is wrong.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise _bad(path, f"is larger than {LARGEST} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}: make it with `edge-replay calibrate`") from None
    arrays = _members(path, data, names)
    header = _header(path, arrays.pop("header"), format_)
    try:
        if check is not None:
            check(header, arrays)
    except ValueError as error:
        raise _bad(path, str(error)) from None
    return header, arrays, hashlib.sha256(data).hexdigest()


def _bad(path: Path, what: str) -> ConfigError:
    return ConfigError(f"{path}: {what}: not a reference file of `edge-replay calibrate`; make it anew")


def _members(path: Path, data: bytes, expected: Collection[str] = tuple(ARRAYS)) -> dict[str, Any]:
    """The arrays of the file, each of the type that it must have."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            names = [info.filename.removesuffix(".npy") for info in infos]
            if sorted(names) != sorted([*expected, "header"]):
                raise _bad(path, "does not hold the arrays that it must")
            if sum(info.file_size for info in infos) > LARGEST:
                raise _bad(path, f"holds more than {LARGEST} bytes")
            arrays = {}
            for name, info in zip(names, infos, strict=True):
                with archive.open(info) as member:
                    arrays[name] = np.lib.format.read_array(io.BytesIO(member.read(LARGEST)), allow_pickle=False)
    except ConfigError:
        raise
    except Exception as error:  # zipfile and NumPy raise whatever damaged bytes lead them to
        raise _bad(path, f"can't be read ({type(error).__name__})") from None
    for name, array in arrays.items():
        if array.dtype != (np.uint8 if name == "header" else np.float64):
            raise _bad(path, f"`{name}` has the type {array.dtype}")
    return arrays


def _header(path: Path, raw: npt.NDArray[np.uint8], format_: str = FORMAT) -> dict[str, Any]:
    try:
        header = json.loads(raw.tobytes().decode())
    except (ValueError, RecursionError):
        raise _bad(path, "has a header that is no JSON") from None
    if not isinstance(header, dict) or header.get("format") != format_:
        raise _bad(path, f"does not say `{format_}`")
    return header


def _check(path: Path, header: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Everything that kernels and reports rely on."""
    modes = len(arrays["mode"]) if arrays["mode"].ndim == 1 else 0
    if not 1 <= modes <= MAX_MODES:
        raise _bad(path, "has no mode, or too many")
    for name, shape in ARRAYS.items():
        if arrays[name].shape != (modes, *shape):
            raise _bad(path, f"`{name}` has the shape {arrays[name].shape}")
        if not np.isfinite(arrays[name]).all():
            raise _bad(path, f"`{name}` holds what is no finite number")
    rules = {
        "scale": (arrays["scale"] > 0).all(),
        "sigma": (arrays["sigma"] > 0).all(),
        "order": bool(np.isin(arrays["order"], np.arange(pipeline.MAX_ORDER + 1)).all()),
        "bounds": ((arrays["bounds"] > 0) & (arrays["bounds"] < 1)).all(),
        "cuts": (np.diff(arrays["cuts"], axis=1) >= 0).all(),
        "edges": (np.diff(arrays["edges"], axis=1) > 0).all(),
        "shares": (arrays["shares"] > 0).all() and (abs(arrays["shares"].sum(axis=1) - 1) < 1e-9).all(),
        "mode": len(np.unique(arrays["mode"])) == modes,
    }
    for name, holds in rules.items():
        if not holds:
            raise _bad(path, f"`{name}` has values that can't be")
    texts = ("signal", "unit", "mode_signal", "author", "made_by", "score")
    numbers = {"block": (1, 1e9), "period_s": (1e-9, 1e6), "gap_s": (1e-9, 1e7)}
    for name in texts:
        if not isinstance(header.get(name), str):
            raise _bad(path, f"its header has no text `{name}`")
    for name, (low, high) in numbers.items():
        value = header.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise _bad(path, f"its header's `{name}` is {value!r}")
    if header["score"] not in SCORES or int(header["block"]) != header["block"]:
        raise _bad(path, "its header names a score or block that there is not")
    if not isinstance(header.get("calibrated"), bool) or not all(
        isinstance(header.get(n), list) for n in ("reasons", "left_out")
    ):
        raise _bad(path, "its header does not say whether it is calibrated")
    if header["calibrated"] == bool(header["reasons"]):
        raise _bad(path, "its header is calibrated and says why it is not")
    if not isinstance(header.get("sources"), list) or not isinstance(header.get("promise"), dict):
        raise _bad(path, "its header names no sources or no promise")
    detectors = header.get("detectors")
    if not isinstance(detectors, dict) or not set(detectors) <= set(pipeline.DETECTORS):
        raise _bad(path, "its header has no thresholds of detectors")
    for name, settings in detectors.items():
        values = settings.items() if isinstance(settings, dict) else [("", None)]
        for key, value in values:
            good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not good and not (key == "statistic" and value in STATISTICS):
                raise _bad(path, f"the threshold of `{name}` is no number")
