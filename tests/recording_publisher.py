"""A recording published in real time by a process of its own, over one or several transports at once.

Each message is sent when it is due: as long after the first one as it was recorded. Stamps in headers are moved likewise, to
the clock that the transport's publishers use. Once every topic is read everywhere it says ``ready``; a line on stdin starts
it; it ends with a JSON document of when each message was due and sent, ns of CLOCK_BOOTTIME, by transport.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from edge_monitor.core.messages import Batch, Channel
from edge_replay.readers import open as open_recording

STAMP = struct.Struct("<iI")
STAMP_AT = 4  #: behind the header of CDR; all types that are published begin with a ``std_msgs/Header``
LEAD_NS = 100_000_000  #: between the start and the first message


class Message(NamedTuple):
    """One message of a recording. ``t``: receive time, ns."""

    t: int
    channel: Channel
    data: bytes


class Transport(Protocol):
    """A way to monitors."""

    clock: int  #: of the stamps in headers: a number of ``time``'s

    def send(self, channel: Channel, data: bytes) -> None: ...
    def read(self) -> bool: ...
    def close(self) -> None: ...


def boottime() -> int:
    """Ns on the monitor's clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def messages(path: Path) -> list[Message]:
    """All messages of a recording, in its order."""
    channels: dict[int, Channel] = {}
    found = []
    for item in open_recording(path):
        if isinstance(item, Channel):
            channels[item.id] = item
        elif isinstance(item, Batch):
            for row in item.messages:
                data = item.data[row["start"] : row["start"] + row["size"]].tobytes()
                found.append(Message(int(row["t"]), channels[int(row["channel"])], data))
    return found


class OverZmq:
    """A socket that waits for a full queue rather than lose anything."""

    clock = time.CLOCK_BOOTTIME

    def __init__(self, address: str, channels: Sequence[Channel]) -> None:
        import msgspec
        import zmq

        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.connect(address)
        self._sent = dict.fromkeys((channel.topic for channel in channels), 0)
        self._metas = {
            channel.topic: msgspec.msgpack.encode(
                {"e": "cdr", "t": channel.type, "d": channel.definition, "f": channel.schema}
            )
            for channel in channels
        }

    def send(self, channel: Channel, data: bytes) -> None:
        """Queue a message."""
        mark = struct.pack("<Qq", self._sent[channel.topic], 0)
        self._socket.send_multipart([channel.topic.encode(), self._metas[channel.topic], data, mark])
        self._sent[channel.topic] += 1

    def read(self) -> bool:
        """Who reads connects by itself, and gets all that was queued."""
        return True

    def close(self) -> None:
        """Once all is sent."""
        self._context.destroy(linger=10_000)


class OverDds:
    """A participant with a best-effort writer for each topic."""

    clock = time.CLOCK_REALTIME

    def __init__(self, domain: str, channels: Sequence[Channel]) -> None:
        from edge_monitor.dds.entities import Participant, Qos
        from edge_monitor.ros.names import dds_topic, dds_type

        self._participant = Participant(int(domain))
        self._writers = {
            channel.topic: self._participant.writer(dds_topic(channel.topic), dds_type(channel.type), Qos(depth=100))
            for channel in channels
        }

    def send(self, channel: Channel, data: bytes) -> None:
        """Publish a message."""
        assert self._writers[channel.topic].write(data)

    def read(self) -> bool:
        """Whether each topic has a reader."""
        return all(_readers(writer.handle) for writer in self._writers.values())

    def close(self) -> None:
        """Leave the domain."""
        self._participant.close()


def _readers(writer: int) -> int:
    import ctypes

    from edge_monitor.dds.library import library

    status = (ctypes.c_uint32 * 8)()  # total, change, current, its change, the last one
    library().dds_get_publication_matched_status(writer, status)
    return status[2]


class OverRos:
    """A node of rclpy; it publishes what is serialized already."""

    clock = time.CLOCK_REALTIME

    def __init__(self, domain: str, channels: Sequence[Channel]) -> None:
        import rclpy
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from rosidl_runtime_py.utilities import get_message

        rclpy.init(domain_id=int(domain))
        self._node = rclpy.create_node("recording")
        qos = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._publishers = {
            channel.topic: self._node.create_publisher(get_message(channel.type), channel.topic, qos)
            for channel in channels
        }

    def send(self, channel: Channel, data: bytes) -> None:
        """Publish a message."""
        self._publishers[channel.topic].publish(data)

    def read(self) -> bool:
        """Whether each topic has a subscription."""
        return all(one.get_subscription_count() for one in self._publishers.values())

    def close(self) -> None:
        """Leave the graph."""
        import rclpy

        self._node.destroy_node()
        rclpy.shutdown()


TRANSPORTS: dict[str, Callable[[str, Sequence[Channel]], Transport]] = {"zmq": OverZmq, "dds": OverDds, "ros": OverRos}


def stamped(data: bytes, by: int) -> bytes:
    """A message whose header's stamp is so many ns later."""
    seconds, nanoseconds = STAMP.unpack_from(data, STAMP_AT)
    moved = divmod(seconds * 1_000_000_000 + nanoseconds + by, 1_000_000_000)
    return data[:STAMP_AT] + STAMP.pack(*moved) + data[STAMP_AT + STAMP.size :]


def publish(recording: Sequence[Message], ways: dict[str, Transport]) -> dict[str, Any]:
    """All messages, each when it is due; answers when that was and when each was sent."""
    start, begun = recording[0].t, boottime() + LEAD_NS
    lead = {name: time.clock_gettime_ns(way.clock) - boottime() for name, way in ways.items()}
    ready = [
        {name: stamped(one.data, begun + lead[name] - start) for name in ways} for one in recording
    ]  # made before, so that nothing is late for it
    sent: dict[str, list[int]] = {name: [] for name in ways}
    for one, made in zip(recording, ready, strict=True):
        due = begun + one.t - start
        while (ahead := due - boottime()) > 0:
            time.sleep(ahead / 1e9)
        for name, way in ways.items():
            sent[name].append(boottime())
            way.send(one.channel, made[name])
    return {"due": [begun + one.t - start for one in recording], "sent": sent}


def main(path: str, *addresses: str) -> None:
    """``addresses``: ``zmq=ADDRESS``, ``dds=DOMAIN``, ``ros=DOMAIN``."""
    recording = messages(Path(path))
    channels = list({one.channel.topic: one.channel for one in recording}.values())
    ways: dict[str, Transport] = {}
    for text in addresses:
        name, _, address = text.partition("=")
        ways[name] = TRANSPORTS[name](address, channels)
    while not all(way.read() for way in ways.values()):
        time.sleep(0.01)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(publish(recording, ways)), flush=True)
    sys.stdin.readline()  # late joiners of a graph may still be asked for what was sent
    for way in ways.values():
        way.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
