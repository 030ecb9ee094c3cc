"""What a registry takes of several devices at once: batches packed beforehand, so that the machine does its work alone.

Each device keeps within its credit, as the uplink does, and goes on as receipts come.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

import flood
import zmq

from edge_monitor.journal.notes import parse_checkpoint, split_note
from edge_monitor.sync import wire


@dataclass(slots=True)
class _Sender:
    """A device in its session."""

    robot: flood.Robot
    socket: zmq.Socket[bytes]
    credit: int = 0
    frames: deque[tuple[int, bytes]] = field(default_factory=deque)  #: not sent yet: (records up to its end, frame)
    flying: deque[tuple[int, int]] = field(default_factory=deque)  #: sent: (records up to its end, bytes)

    def begin(self, welcome: wire.Welcome) -> None:
        """Make its frames."""
        self.credit = welcome.credit
        self.frames.extend((load.end, flood.batch(welcome.session, load)) for load in self.robot.loads)

    def send(self) -> None:
        """As much as its credit lets it."""
        while self.frames:
            end, frame = self.frames[0]
            if self.flying and sum(size for _, size in self.flying) + len(frame) > self.credit:
                return
            self.socket.send(frame)
            self.flying.append((end, len(frame)))
            self.frames.popleft()

    def receipted(self, note: str) -> bool:
        """Go on behind a receipt; answers whether it was the last."""
        size = parse_checkpoint(split_note(note)[0]).size
        while self.flying and self.flying[0][0] <= size:
            self.flying.popleft()
        self.send()
        return not self.flying


def brought(robots: list[flood.Robot], address: str, server: str, patience: float = 300.0) -> float:
    """Seconds from the first batch of all to the last receipt."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    poller = zmq.Poller()
    senders = {}
    try:
        for robot in robots:
            socket = flood.connected(context, robot, address, server)
            senders[socket] = _Sender(robot, socket)
            poller.register(socket, zmq.POLLIN)
        greeted, open_ones, begun, end = 0, len(robots), 0.0, time.monotonic() + patience
        while open_ones:
            for socket, _ in poller.poll(1000):
                sender, message = senders[socket], wire.decode_downlink(socket.recv())
                if isinstance(message, wire.Welcome):
                    sender.begin(message)
                    greeted += 1
                    if greeted == len(robots):
                        begun = time.perf_counter()
                        for each in senders.values():
                            each.send()
                elif isinstance(message, wire.Receipt):
                    open_ones -= sender.receipted(message.note)
                else:
                    raise SystemExit(f"bench-sync: {sender.robot.name}: {message}")
            if time.monotonic() > end:
                raise SystemExit("bench-sync: no receipts in time")
        return time.perf_counter() - begun
    finally:
        context.destroy(linger=0)
