"""A node's place in the graph, as ``edge_monitor.sources.dds`` takes one: raw subscriptions, and who publishes what.

Subscriptions are not waited for by the executor: each turn of the monitor takes what is queued, all of it in one go, which
costs less than a callback for each message.
"""

from __future__ import annotations

import time
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.duration import Duration, Infinite
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rosidl_runtime_py.utilities import get_message

from edge_monitor.core.messages import Batch
from edge_monitor.dds.entities import Gone, Liveness, News, Publication, Qos
from edge_monitor.ros.names import dds_topic, dds_type, ros_type
from edge_monitor.sources.batches import BatchBuilder

LOOK_NS = 200_000_000  #: between looks at who publishes
TAKEN = 256  #: messages that are taken of one topic in one go


class Polled(MutuallyExclusiveCallbackGroup):
    """Subscriptions in it are taken from, not called back; their events are called back."""

    def can_execute(self, entity: Any) -> bool:
        """Whether the executor may wait for it."""
        return not isinstance(entity, Subscription) and super().can_execute(entity)


class RosTap:
    """A raw subscription."""

    rung = True  # it is asked, each turn

    def __init__(self, node: Node, group: Polled, topic: str, type_name: str, qos: Qos) -> None:
        self.qos, self.type = qos, dds_type(type_name)
        self._told = News()
        self._fresh = False
        self._node = node
        profile = QoSProfile(
            depth=qos.depth,
            reliability=ReliabilityPolicy.RELIABLE if qos.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if qos.latched else DurabilityPolicy.VOLATILE,
            deadline=Duration(nanoseconds=qos.deadline) if qos.deadline else Infinite,
        )
        events = SubscriptionEventCallbacks(
            deadline=self._deadline, incompatible_qos=self._incompatible, liveliness=self._liveliness,
            message_lost=self._lost, use_default_callbacks=False,
        )  # fmt: skip
        self.handle = node.create_subscription(
            get_message(type_name),
            topic,
            lambda _: None,
            profile,
            raw=True,
            callback_group=group,
            event_callbacks=events,
        )

    def look(self) -> int:
        """Nothing is counted here: the middleware tells what it lost."""
        self.rung = False
        return 0

    def came(self, _: int) -> None:
        """Not known here: messages are stamped when they are taken."""

    def account(self, _: int, __: int, *, more: bool) -> int:
        """Whether to take again in this turn."""
        self.rung = more
        return 0

    def news(self) -> News | None:
        """What happened since the last call, besides messages."""
        self.rung = True  # a turn of the look at health is over: ask again
        if not self._fresh:
            return None
        news, self._told, self._fresh = self._told, News(liveness=self._told.liveness), False
        return news

    def close(self) -> None:
        """Stop reading."""
        self._node.destroy_subscription(self.handle)

    def _deadline(self, info: Any) -> None:
        self._told.deadline += info.total_count_change
        self._fresh = True

    def _incompatible(self, info: Any) -> None:
        self._told.incompatible += info.total_count_change
        self._fresh = True

    def _liveliness(self, info: Any) -> None:
        self._told.liveness = Liveness(info.alive_count, info.not_alive_count)
        self._fresh = True

    def _lost(self, info: Any) -> None:
        self._told.lost += info.total_count_change
        self._fresh = True


class RosBucket:
    """Takes messages of subscriptions and makes one batch of them."""

    def __init__(self, largest: int) -> None:
        """``largest``: bytes of a message; larger ones are counted and left out."""
        self._largest = largest
        self._builder = BatchBuilder()
        self._taken: list[bytes] = []

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._builder.size

    def take(self, subscription: Subscription) -> int:
        """Take what is queued, up to ``TAKEN`` messages."""
        handle, kind, taken = subscription.handle, subscription.msg_type, self._taken
        taken.clear()
        with handle:
            while len(taken) < TAKEN and (found := handle.take_message(kind, True)) is not None:
                taken.append(found[0])
        return len(taken)

    def keep(self, _: int, t: int, channel: int, *_when: object) -> tuple[int, int]:
        """Add what was taken; answers how many, and how many were too large."""
        good = [message for message in self._taken if len(message) <= self._largest]
        for message in good:
            self._builder.add(t, channel, message)
        return len(good), len(self._taken) - len(good)

    def drop(self, count: int) -> int:
        """Leave what was taken; answers how many."""
        return count

    def batch(self) -> Batch | None:
        """What was kept."""
        return self._builder.take()


class RosGraph:
    """The graph as a node sees it; names of the envelope are expanded and remapped as the node's own."""

    def __init__(self, node: Node, topics: list[str]) -> None:
        """``topics``: those that the envelope reads."""
        self._node = node
        self._group = Polled()
        self._names = {dds_topic(topic): topic for topic in topics}
        self._known: dict[bytes, Publication] = {}
        self._looked = time.monotonic_ns() - LOOK_NS
        self.domain = node.context.get_domain_id()
        self.taps: list[RosTap] = []

    def news(self) -> list[Publication | Gone]:
        """Publishers that came, changed or went since the last call."""
        now = time.monotonic_ns()  # the node's own clock stands still with a simulator's
        if now - self._looked < LOOK_NS:
            return []
        self._looked = now
        found = {one.key: one for name, topic in self._names.items() for one in self._publishers(name, topic)}
        gone: list[Publication | Gone] = [Gone(key) for key in self._known if key not in found]
        come = [one for key, one in found.items() if self._known.get(key) != one]
        self._known = found
        return gone + come

    def reader(self, topic: str, type_name: str, qos: Qos, _: int, __: str = "") -> RosTap:
        """A raw subscription; names as DDS has them."""
        tap = RosTap(self._node, self._group, self._names[topic], ros_type(type_name), qos)
        self.taps.append(tap)
        return tap

    def close(self) -> None:
        """The node stays where it is."""

    def _publishers(self, name: str, topic: str) -> list[Publication]:
        found = []
        for info in self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(topic)):
            qos = info.qos_profile
            deadline = 0 if qos.deadline == Infinite else qos.deadline.nanoseconds
            announced = str(info.topic_type_hash) if hasattr(info, "topic_type_hash") else ""
            user_data = f"typehash={announced};".encode() if announced.startswith("RIHS01_") else b""
            reliable = qos.reliability == ReliabilityPolicy.RELIABLE
            latched = qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
            kind = dds_type(info.topic_type)
            found.append(Publication(bytes(info.endpoint_gid), name, kind, reliable, latched, deadline, user_data))
        return found
