"""Commands that others send to the monitor (COMMAND_LONG)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from .links import LinkAddress

ARM_AUTHORIZATION = 3001  #: MAV_CMD_ARM_AUTHORIZATION_REQUEST
_COMMAND_LONG = struct.Struct("<7fHBBB")
SIZE = _COMMAND_LONG.size


class Request(NamedTuple):
    """A command to us: who asks, and for what."""

    system: int
    component: int
    command: int
    parameters: tuple[float, ...]


def request_of(system: int, component: int, payload: bytes, us: LinkAddress) -> Request | None:
    """The command in a payload, if it is for us. For all components of our system only the one that a vehicle sends so."""
    *parameters, command, to_system, to_component, _ = _COMMAND_LONG.unpack(payload)
    mine = to_component == us.component or (to_component == 0 and command == ARM_AUTHORIZATION)
    return Request(system, component, command, tuple(parameters)) if to_system == us.system and mine else None
