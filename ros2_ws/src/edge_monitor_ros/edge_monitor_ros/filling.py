"""Messages in plain form (maps of fields) into those of ROS."""

from __future__ import annotations

from typing import Any

from rosidl_runtime_py.utilities import get_message


def filled(message: Any, fields: dict[str, Any]) -> Any:
    """A ROS message with its fields set from plain form."""
    for name, kind in message.get_fields_and_field_types().items():
        value = fields[name]
        if isinstance(value, dict):
            filled(getattr(message, name), value)
        elif kind.startswith("sequence<") and "/" in kind:
            made = get_message(kind.removeprefix("sequence<").removesuffix(">").replace("/", "/msg/", 1))
            setattr(message, name, [filled(made(), one) for one in value])
        else:
            setattr(message, name, bytes([value]) if kind == "octet" else value)
    return message
