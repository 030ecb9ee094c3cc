"""What all reference files have in common: NumPy's zip with arrays of numbers and a JSON header.

The reader trusts nothing: size, names and types are checked, nothing is unpickled; what the numbers must be like is for
those who know the kind of file (:mod:`edge_monitor.baselines`, :mod:`edge_monitor.residual_models`,
:mod:`edge_monitor.sensor_references`).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ConfigError

LARGEST = 1 << 20  #: bytes of a file, and of its contents unpacked, where its kind has no limit of its own

#: Names of the arrays that a kind of file holds, and bytes at most.
Kind = tuple[Collection[str], int]


def pack(header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[np.float64]]) -> bytes:
    """The bytes of a file; equal contents give equal bytes."""
    text = json.dumps(dict(header), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    buffer = io.BytesIO()
    members = {name: np.ascontiguousarray(array, np.float64) for name, array in arrays.items()}
    np.savez(buffer, header=np.frombuffer(text.encode(), np.uint8), **members)  # type: ignore[arg-type]
    return buffer.getvalue()


def load(path: Path, format_: str, *kinds: Kind) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Header, arrays (float64, by name) and hex SHA-256 of a file of one of ``kinds``.

    Raises ``ConfigError`` that says what is wrong.
    """
    largest = max(size for _, size in kinds)
    try:
        if path.stat().st_size > largest:
            raise bad(path, f"is larger than {largest} bytes")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{path}: {reason}: make it with `edge-replay calibrate`") from None
    arrays = _members(path, data, kinds)
    return _header(path, arrays.pop("header"), format_), arrays, hashlib.sha256(data).hexdigest()


def bad(path: Path, what: str) -> ConfigError:
    """The error of a file that is not what it should be."""
    return ConfigError(f"{path}: {what}: not a reference file of `edge-replay calibrate`; make it anew")


def _members(path: Path, data: bytes, kinds: Collection[Kind]) -> dict[str, Any]:
    """The arrays of the file, each of the type that it must have."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            names = [info.filename.removesuffix(".npy") for info in infos]
            largest = next((size for wanted, size in kinds if sorted(names) == sorted([*wanted, "header"])), 0)
            if not largest:
                raise bad(path, "does not hold the arrays that it must")
            if sum(info.file_size for info in infos) > largest:
                raise bad(path, f"holds more than {largest} bytes")
            arrays = {}
            for name, info in zip(names, infos, strict=True):
                with archive.open(info) as member:
                    arrays[name] = np.lib.format.read_array(io.BytesIO(member.read(largest)), allow_pickle=False)
    except ConfigError:
        raise
    except Exception as error:  # zipfile and NumPy raise whatever damaged bytes lead them to
        raise bad(path, f"can't be read ({type(error).__name__})") from None
    for name, array in arrays.items():
        if array.dtype != (np.uint8 if name == "header" else np.float64):
            raise bad(path, f"`{name}` has the type {array.dtype}")
    return arrays


def _header(path: Path, raw: npt.NDArray[np.uint8], format_: str) -> dict[str, Any]:
    try:
        header = json.loads(raw.tobytes().decode())
    except (ValueError, RecursionError):
        raise bad(path, "has a header that is no JSON") from None
    if not isinstance(header, dict) or header.get("format") != format_:
        raise bad(path, f"does not say `{format_}`")
    return header
