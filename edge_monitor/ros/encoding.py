"""ROS messages in plain form (maps of fields) to their serialized bytes, by ``rosbags``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError

_BASE, _NAME, _ARRAY, _SEQUENCE = 1, 2, 3, 4  # kinds of a field, as rosbags numbers them
_WIDTHS = {"byte": "uint8", "octet": "uint8", "char": "uint8"}


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
        for path in sorted((own_messages() / "edge_monitor_msgs" / "msg").glob("*.msg")):
            self._store.register(get_types_from_msg(path.read_text("utf-8"), f"edge_monitor_msgs/msg/{path.stem}"))

    def hash(self, type_name: str) -> str:
        """The hash of a type (``RIHS01_…``)."""
        return str(self._store.hash_rihs01(type_name))

    def encode(self, type_name: str, message: Mapping[str, Any]) -> bytes:
        """A message in CDR, with its header; every field must be given."""
        return bytes(self._store.serialize_cdr(self._made(type_name, message), type_name))

    def _made(self, type_name: str, message: Mapping[str, Any]) -> Any:
        fields = self._store.fielddefs[type_name][1]
        return self._store.types[type_name](**{name: self._value(kind, message[name]) for name, kind in fields})

    def _value(self, kind: Any, value: Any) -> Any:
        node, detail = kind
        if node == _BASE:
            return value
        if node == _NAME:
            return self._made(detail, value)
        inner = detail[0]
        if inner[0] == _BASE and inner[1][0] not in ("string", "wstring"):
            return np.array(value, _WIDTHS.get(inner[1][0], inner[1][0]))
        return [self._value(inner, one) for one in value]
