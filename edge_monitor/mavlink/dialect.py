"""The messages of MAVLink, as pymavlink's tables have them: what the framer and the layout need of each."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from edge_monitor.errors import ConfigError

from .framing import KIND

NUMBERS = 1 << 16  #: messages may have numbers up to 2^24; no dialect goes beyond this
AUTOPILOT = 1  #: MAV_COMP_ID_AUTOPILOT1: whose messages a topic without a component means
TOPIC = re.compile(r"/?mavlink/(\d{1,3})/(?:(\d{1,3})/)?([A-Za-z][A-Za-z0-9_]*)(?:\[([^\[\]]{1,16})\])?")
FORM = (
    "mavlink/SYSTEM/MESSAGE, mavlink/SYSTEM/COMPONENT/MESSAGE, with an instance if need be: mavlink/1/BATTERY_STATUS[1]"
)
#: STATUSTEXT comes in pieces of 50 letters; what is delivered is the whole text.
STATUSTEXT = "STATUSTEXT:uint8_t severity;char[254] text;"
STATUSTEXT_SIZE = 255
_SIZES = {"char": 1, "uint8_t": 1, "int8_t": 1, "uint16_t": 2, "int16_t": 2, "uint32_t": 4, "int32_t": 4, "float": 4,
          "uint64_t": 8, "int64_t": 8, "double": 8}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """A message: its number in the format and in our table, its name, and its layout (a ULog format, in wire order)."""

    number: int
    index: int
    name: str
    definition: str
    named: bool  #: instances have names


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose messages a topic means. ``instance``: a number, or a name where the message has names."""

    topic: str
    kind: Kind
    system: int
    component: int
    instance: int | bytes


class Dialect:
    """All messages of all dialects that pymavlink has."""

    def __init__(self, module: ModuleType) -> None:
        messages = sorted((number, one) for number, one in module.mavlink_map.items() if number < NUMBERS)
        self.kinds: list[Kind] = []
        self.rows = np.zeros(len(messages), KIND)
        self.numbers = np.full(NUMBERS, -1, np.int16)
        for index, (number, message) in enumerate(messages):
            definition, size = _definition(message)
            offset, width = int(message.instance_offset), _instance_width(message)
            self.kinds.append(Kind(number, index, message.msgname, definition, width > 2))
            self.rows[index] = (size, offset, -1, width, message.crc_extra, 0)
            self.numbers[number] = index
        self._by_name = {kind.name: kind for kind in self.kinds}

    def __getitem__(self, name: str) -> Kind:
        return self._by_name[name]

    def wanted(self, topic: str) -> Wanted:
        """Whose messages a topic means. Raises ``ConfigError`` that says what is wrong with it."""
        match = TOPIC.fullmatch(topic)
        if not match:
            raise ConfigError(f"topic {topic}: no topic of MAVLink; write it as {FORM}")
        system, component, name, instance = match.groups()
        kind = self._by_name.get(name)
        if kind is None:
            near = difflib.get_close_matches(name.upper(), self._by_name, 1)
            hint = f"did you mean {near[0]}?" if near else "see https://mavlink.io/en/messages/"
            raise ConfigError(f"topic {topic}: MAVLink has no message {name}; {hint}")
        if not 1 <= int(system) <= 255 or int(component or AUTOPILOT) > 255:
            raise ConfigError(f"topic {topic}: systems are 1 to 255, components 0 to 255")
        if self.rows["instance"][kind.index] < 0 and instance is not None:
            raise ConfigError(f"topic {topic}: {name} has no instances; leave [{instance}] out")
        if kind.named and instance is None:
            raise ConfigError(f"topic {topic}: values of {name} have names; say which: {name}[altitude]")
        if not kind.named and instance is not None and not instance.isdigit():
            raise ConfigError(f"topic {topic}: instances of {name} have numbers, such as {name}[0]")
        key = instance.encode() if kind.named and instance is not None else int(instance or 0)
        return Wanted(topic, kind, int(system), int(component or AUTOPILOT), key)


@cache
def dialect() -> Dialect:
    """The dialect, made once. Raises ``ConfigError`` where pymavlink is missing or too old."""
    return Dialect(module())


@cache
def module() -> Any:
    """pymavlink's dialect with all messages. Raises ``ConfigError`` where it is missing."""
    try:
        from pymavlink.dialects.v20 import all as found
    except ImportError:
        raise ConfigError("MAVLink needs pymavlink: pip install 'edge-monitor[mavlink]'") from None
    return found


def topic_of(kind: Kind, system: int, component: int) -> str:
    """The topic of a sender's messages, without an instance."""
    return f"mavlink/{system}/{kind.name}" if component == AUTOPILOT else f"mavlink/{system}/{component}/{kind.name}"


def _definition(message: Any) -> tuple[str, int]:
    """A message's layout in wire order, and its bytes."""
    types = dict(zip(message.fieldnames, message.fieldtypes, strict=True))
    fields, size = [], 0
    for name, length in zip(message.ordered_fieldnames, message.array_lengths, strict=True):
        fields.append(f"{types[name]}{f'[{length}]' if length else ''} {name};")
        size += _SIZES[types[name]] * max(length, 1)
    if size != message.unpacker.size:
        raise ConfigError(
            f"pymavlink's table of {message.msgname} is not understood; install pymavlink 2.4.41 or later"
        )
    if message.msgname == "STATUSTEXT":
        return STATUSTEXT, STATUSTEXT_SIZE  # room for the whole text
    return f"{message.msgname}:{''.join(fields)}", size


def _instance_width(message: Any) -> int:
    if message.instance_field is None:
        return 0
    place = message.ordered_fieldnames.index(message.instance_field)
    kind = dict(zip(message.fieldnames, message.fieldtypes, strict=True))[message.instance_field]
    return int(message.array_lengths[place]) or _SIZES[kind]
