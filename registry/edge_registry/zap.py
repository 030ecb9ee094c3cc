"""Who may connect: ZeroMQ's question about a client's CURVE key (ZAP, RFC 27), answered from the table of robots."""

from __future__ import annotations

import time

import sqlalchemy as sa
import zmq
from zmq.utils import z85

from .store import Store

ADDRESS = "inproc://zeromq.zap.01"
FRESH_S = 1.0  #: for so long what the table said is believed


class Gate:
    """Lets enrolled keys into the domain ``sync``, and any key into ``enrol``, where only a token helps. Deny by default."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], store: Store, curve: tuple[str, str]) -> None:
        self._store = store
        self._known: dict[str, tuple[float, str]] = {}
        self._own = curve[0]
        self.refused = 0
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ADDRESS)

    def serve(self) -> None:
        """Answer the questions that wait."""
        while int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self.socket.send_multipart(self._answer(self.socket.recv_multipart()))

    def _answer(self, request: list[bytes]) -> list[bytes]:
        if len(request) < 7 or request[0] != b"1.0" or request[5] != b"CURVE" or len(request[6]) != 32:
            return [b"1.0", request[1] if len(request) > 1 else b"", b"400", b"CURVE only", b"", b""]
        _, number, domain, _, _, _, key, *_ = request
        if domain == b"enrol":
            return [b"1.0", number, b"200", b"OK", b"", b""]
        robot = self._robot(z85.encode(key).decode()) if domain == b"sync" else ""
        if not robot:
            self.refused += 1
            return [b"1.0", number, b"400", b"not enrolled", b"", b""]
        return [b"1.0", number, b"200", b"OK", robot.encode(), b""]

    def _robot(self, curve: str) -> str:
        now = time.monotonic()
        known = self._known.get(curve)
        if known is None or now - known[0] > FRESH_S:
            if len(self._known) > 4096:
                self._known.clear()
            known = self._known[curve] = (now, self._asked(curve))
        return known[1]

    def _asked(self, curve: str) -> str:
        try:
            with self._store.read() as tx:
                robot = tx.robot_of_curve(curve)
        except sa.exc.SQLAlchemyError:
            return ""  # nobody can be known: nobody is let in
        return robot.id if robot is not None and robot.state == "active" else ""
