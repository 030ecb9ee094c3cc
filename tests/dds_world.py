"""Two participants of a DDS domain in two processes on loopback: a publisher that obeys, and a source that is drained."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore

from edge_monitor.core.layout import Extractor
from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.samples import Cause
from edge_monitor.core.signals import Signal
from edge_monitor.dds.entities import Participant
from edge_monitor.envelope.delivery import Delivery
from edge_monitor.ros.definitions import Definitions
from edge_monitor.ros.names import dds_topic, dds_type
from edge_monitor.sources.dds import LIMITS, DdsSource
from edge_monitor.sources.topics import Limits
from edge_monitor.sources.wanted import Wanted

TYPES = get_typestore(Stores.ROS2_JAZZY)
FLOAT = "std_msgs/msg/Float64"
#: Only loopback, only participants of this very test run, and a dead one is missed after a second.
CONFIGURATION = (
    "<CycloneDDS><Domain><General><Interfaces><NetworkInterface address='127.0.0.1'/></Interfaces>"
    "<AllowMulticast>false</AllowMulticast></General><Discovery><Tag>edge-monitor-{tag}</Tag>"
    "<ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>60</MaxAutoParticipantIndex>"
    "<Peers><Peer address='127.0.0.1'/></Peers><LeaseDuration>1s</LeaseDuration></Discovery></Domain></CycloneDDS>"
)
_WORKER = int("".join(filter(str.isdigit, os.environ.get("PYTEST_XDIST_WORKER", "0"))) or 0)
_DOMAINS = itertools.count(20 + 50 * (_WORKER % 4))


def next_domain() -> int:
    """A domain that no other test of this run has."""
    return next(_DOMAINS)


def configure() -> None:
    """Keep this process and its children on loopback and among themselves."""
    os.environ["CYCLONEDDS_URI"] = CONFIGURATION.format(tag=os.getpid())


def serialized(type_name: str, **fields: Any) -> bytes:
    """A message in CDR, as ``rosbags`` writes it; fields that are not given are zero or empty."""
    return bytes(TYPES.serialize_cdr(message(type_name, **fields), type_name))


def message(type_name: str, **fields: Any) -> Any:
    """A message object of ``rosbags``."""
    made = {}
    for name, (kind, detail) in TYPES.fielddefs[type_name][1]:
        if name in fields:
            made[name] = fields[name]
        elif kind == 1:  # a plain value
            made[name] = {"string": "", "bool": False}.get(detail[0], 0.0 if detail[0].startswith("float") else 0)
        elif kind == 2:  # another message
            made[name] = message(detail)
        elif kind == 3:  # so many of them
            made[name] = np.zeros(detail[1], np.dtype(detail[0][1][0]))
        else:  # a list
            plain = detail[0][0] == 1 and detail[0][1][0] != "string"
            made[name] = np.zeros(0, np.dtype(detail[0][1][0])) if plain else []
    return TYPES.types[type_name](**made)


class Publisher:
    """The other process."""

    def __init__(self) -> None:
        configure()
        program = Path(__file__).with_name("dds_publisher.py")
        self.process = subprocess.Popen(
            [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._expect("ready")

    def join(self, domain: int) -> None:
        """Be in a domain from now on, and in no other."""
        self.order(do="join", domain=domain)

    def open(
        self, topic: str, type_name: str = FLOAT, hash_: str | None = None, name: str = "", **qos: Any
    ) -> Callable[[bytes], None]:
        """A writer, reliable unless told otherwise; answers a function that sends. ``hash_``: None: the type's own."""
        announced = TYPES.hash_rihs01(type_name) if hash_ is None else hash_
        name = name or topic
        self.order(
            do="open", name=name, topic=dds_topic(topic), type=dds_type(type_name), hash=announced,
            qos={"reliable": True, "depth": 1000, **qos},
        )  # fmt: skip
        return lambda message: self.order(do="send", name=name, message=message.hex())

    def order(self, *, wait: bool = True, **order: Any) -> None:
        """Let it do something; returns once it is done."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        if wait:
            self._expect("done")

    def done(self) -> None:
        """Wait for an order that was not waited for."""
        self._expect("done")

    def kill(self) -> None:
        """End it without a word to anybody."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Let it leave the domain and end."""
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(10)

    def _expect(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word


class Listener:
    """A source that reads signals, and what it said."""

    def __init__(
        self,
        domain: int,
        signals: list[Signal],
        asked: dict[str, Delivery] | None = None,
        limits: Limits = LIMITS,
        folders: list[Path] | None = None,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        topics = {signal.topic: signal.type for signal in signals}
        wanted = [Wanted(topic, kind, (asked or {}).get(topic, Delivery())) for topic, kind in topics.items()]
        clock = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)  # noqa: E731
        self.source = DdsSource(Participant(domain), wanted, clock, limits, Definitions(folders or []), wall)
        self.extractor = Extractor(signals)
        self.channels: list[Channel] = []
        self.values: dict[str, list[float]] = {signal.name: [] for signal in signals}
        self.damage: list[Damage] = []
        self.said: list[tuple[str, Cause, str]] = []

    def drain(self) -> None:
        """Take what is queued."""
        for item in self.source.drain():
            if isinstance(item, Channel):
                self.channels.append(item)
                assert self.extractor.add_channel(item) == []
            elif isinstance(item, Batch):
                for sample in self.extractor.extract(item):
                    self.values[self.extractor.signals[sample["signal"]].name].append(float(sample["value"]))
            else:
                self.damage.append(item)
        self.said += [tuple(status) for status in self.source.status()]

    def until(self, condition: Callable[[], object], seconds: float = 10) -> None:
        """Drain until something holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.values, self.said, self.source.describe())
            self.drain()
            time.sleep(0.002)

    def for_(self, seconds: float) -> None:
        """Drain for so long."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, seconds + 5)

    def causes(self, topic: str) -> list[Cause]:
        """What was said of a topic, in order."""
        return [cause for name, cause, _ in self.said if name == topic]

    def matched(self, topic: str) -> bool:
        """Whether a publisher of a topic is known; it then reads what is sent."""
        line = next(line for line in self.source.describe() if f" {topic}: " in line)
        return " 0 publishers" not in line
