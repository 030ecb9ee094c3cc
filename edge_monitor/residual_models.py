"""Files of models that predict a response from its commands, made by ``edge-replay calibrate``.

A ``*.npz`` as references are (``edge_monitor.reference_files``, which reads it and trusts nothing), with the arrays ``a`` (na,),
``b`` (commands, nb) and ``constant`` (1,) of an ARX (:mod:`edge_monitor.core.formula.arx`) and a JSON header: the names
and units of response and commands, period and delay, the recordings that it was made of, how well it predicts, and
whether it is usable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import reference_files
from .core.formula.arx import Arx

FORMAT = "edge-monitor residual model 1"
ARRAYS = ("a", "b", "constant")
TEXTS = ("response", "unit", "author", "made_by")

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ResidualModel:
    """What is in a file. ``header``: as there; ``arx``: the model itself."""

    header: Mapping[str, Any]
    arx: Arx
    digest: str = ""
    path: Path | None = field(default=None, compare=False)

    @property
    def usable(self) -> bool:
        """Was nothing found that speaks against the model? ``header["reasons"]`` says what was."""
        return bool(self.header["usable"])

    def save(self, path: Path) -> str:
        """Write the file; answers its digest. Equal contents give equal bytes."""
        arx = self.arx
        arrays = {"a": np.array(arx.a), "b": np.array(arx.b), "constant": np.array([arx.constant])}
        data = reference_files.pack(self.header, arrays)
        path.write_bytes(data)
        return hashlib.sha256(data).hexdigest()


def load(path: Path | str) -> ResidualModel:
    """Read a file. Raises ``ConfigError`` that says what is wrong with it."""
    path = Path(path)
    header, arrays, digest = reference_files.load(path, FORMAT, (ARRAYS, reference_files.LARGEST))
    try:
        return ResidualModel(header, _checked(header, arrays), digest, path)
    except ValueError as error:
        raise reference_files.bad(path, str(error)) from None


def _checked(header: dict[str, Any], arrays: dict[str, Array]) -> Arx:
    """The model, after all that reports and the envelope rely on. Raises ``ValueError``."""
    for name in TEXTS:
        if not isinstance(header.get(name), str):
            raise ValueError(f"its header has no text `{name}`")
    for name in ("commands", "command_units", "reasons", "sources"):
        if not isinstance(header.get(name), list):
            raise ValueError(f"its header has no list `{name}`")
    if not all(isinstance(text, str) for text in (*header["commands"], *header["command_units"], *header["reasons"])):
        raise ValueError("its header's lists hold what is no text")
    if not isinstance(header.get("usable"), bool) or header["usable"] == bool(header["reasons"]):
        raise ValueError("its header is usable and says why it is not, or neither")
    for name in ("period_ns", "delay"):
        if isinstance(header.get(name), bool) or not isinstance(header.get(name), int):
            raise ValueError(f"its header's `{name}` is {header.get(name)!r}")
    if not 0 < header["period_ns"] < 1 << 50:
        raise ValueError(f"its header's `period_ns` is {header['period_ns']}")
    commands = len(header["commands"])
    shapes = [arrays[name].shape for name in ARRAYS]
    if len(shapes[0]) != 1 or len(shapes[1]) != 2 or shapes[1][0] != commands or shapes[2] != (1,):
        raise ValueError(f"its arrays have the shapes {', '.join(map(str, shapes))}")
    if len(header["command_units"]) != commands:
        raise ValueError("its header has not one unit a command")
    b = tuple(tuple(row) for row in arrays["b"].tolist())
    return Arx(header["period_ns"], float(arrays["constant"][0]), tuple(arrays["a"].tolist()), b, header["delay"])
