"""ROS messages in plain form (maps of fields) to their serialized bytes, by ``rosbags``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError

_BASE, _NAME, _ARRAY, _SEQUENCE = 1, 2, 3, 4  # kinds of a field, as rosbags numbers them
_WIDTHS = {"byte": "uint8", "octet": "uint8", "char": "uint8"}
_Make = Callable[[Any], Any]


def own_messages() -> Path:
    """The folder that holds ``edge_monitor_msgs/msg``."""
    packaged = Path(__file__).parent / "share"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "ros2_ws" / "src"


class Encoder:
    """Serializes messages of the standard packages and of ``edge_monitor_msgs``."""

    def __init__(self) -> None:
        """Raises ``ConfigError`` where ``rosbags`` is not installed."""
        try:
            from rosbags.typesys import Stores, get_types_from_msg, get_typestore
        except ImportError:
            raise ConfigError("dds: rosbags is missing: pip install 'edge-monitor[dds]'") from None
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._makers: dict[str, _Make] = {}
        for path in sorted((own_messages() / "edge_monitor_msgs" / "msg").glob("*.msg")):
            self._store.register(get_types_from_msg(path.read_text("utf-8"), f"edge_monitor_msgs/msg/{path.stem}"))

    def hash(self, type_name: str) -> str:
        """The hash of a type (``RIHS01_…``)."""
        return str(self._store.hash_rihs01(type_name))

    def encode(self, type_name: str, message: Mapping[str, Any]) -> bytes:
        """A message in CDR, with its header; every field must be given."""
        return bytes(self._store.serialize_cdr(self._maker(type_name)(message), type_name))

    def _maker(self, type_name: str) -> _Make:
        """What makes a message of a type; leases go out with each heartbeat, so that it is looked up once."""
        if type_name not in self._makers:
            kind = self._store.types[type_name]
            fields = [(name, self._value(of)) for name, of in self._store.fielddefs[type_name][1]]

            def make(message: Mapping[str, Any]) -> Any:
                return kind(*[message[name] if of is None else of(message[name]) for name, of in fields])

            self._makers[type_name] = make
        return self._makers[type_name]

    def _value(self, kind: Any) -> _Make | None:
        """What makes a field of a kind; None: it is taken as it is."""
        node, detail = kind
        if node == _BASE:
            return None
        if node == _NAME:
            return self._maker(detail)
        inner = detail[0]
        if inner[0] == _BASE and inner[1][0] not in ("string", "wstring"):
            width = np.dtype(_WIDTHS.get(inner[1][0], inner[1][0]))
            return lambda value: np.array(value, width)
        make = self._value(inner)
        return list if make is None else lambda value: [make(one) for one in value]
