"""What speaks to a process under test, and where the commands are."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import zmq

BIN = Path(sys.executable).parent
META = msgspec.msgpack.encode({"e": "msgpack"})


class Talker(threading.Thread):
    """Sends a message on a topic a hundred times a second."""

    topic: bytes

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.ending = threading.Event()
        self.socket = zmq.Context.instance().socket(zmq.PUSH)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 10)
        self.socket.connect(address)

    def message(self) -> dict[str, Any]:
        """What it says now."""
        raise NotImplementedError

    def run(self) -> None:
        while not self.ending.wait(0.01):
            with suppress(zmq.Again):
                self.socket.send_multipart([self.topic, META, msgspec.msgpack.encode(self.message())], zmq.NOBLOCK)
        self.socket.close()
