"""Tells a monitor what an action gate held back (docs/wire.md): one message a record, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
import zmq

from .action_reports import TOPIC
from .errors import UsageError

HELD = 100  #: records that wait for a monitor; heartbeats tell a consumer that there is none
META = msgspec.msgpack.encode({"e": "msgpack"})


class ActionSender:
    """Sends records to a source of the monitor."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket

    @classmethod
    def connect(cls, address: str) -> ActionSender:
        """``address``: of a source ``bind-pull:…``. Raises ``UsageError``: it is no address."""
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        socket.setsockopt(zmq.SNDHWM, HELD)
        socket.setsockopt(zmq.LINGER, 0)
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            raise UsageError(f"{address}: {error}; give an address such as tcp://127.0.0.1:7373") from None
        return cls(socket)

    def send(self, record: Mapping[str, Any]) -> None:
        """Send the record of a verdict; dropped where the monitor takes no messages."""
        with suppress(zmq.Again):
            self._socket.send_multipart([TOPIC.encode(), META, msgspec.msgpack.encode(record)], zmq.NOBLOCK)
