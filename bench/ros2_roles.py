"""The processes around the monitor in ``bench/ros2.py``: who publishes Imu messages, and who takes them and does nothing.

Each role is this file run with its name and a domain. It says ``ready``; a line on stdin is an order or a question, and is
answered with a line; it ends with its input. (No annotations in the future: the wheel reads those of its types.)
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

IMU, TOPIC = "sensor_msgs/msg/Imu", "/imu"
TAKEN = 256  #: messages that are taken in one go, as the monitor does
DEPTH = 2_000  #: of all queues, as the monitor's
WAIT_S = 0.1


def imu() -> bytes:
    """A message in CDR, 332 bytes."""
    import numpy as np
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    vector, quaternion = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Quaternion"]
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "imu_link")
    turn, pull, none = vector(0.01, 0.02, 0.1), vector(0.1, 0.2, 9.8), np.zeros(9)
    return bytes(
        store.serialize_cdr(types[IMU](header, quaternion(0.0, 0.0, 0.0, 1.0), none, turn, none, pull, none), IMU)
    )


def publish(write: Callable[[bytes], object]) -> None:
    """Orders are ``rate seconds``: messages one by one, evenly, what was slept through at once. Answers how many."""
    message = imu()
    print("ready", flush=True)
    for line in sys.stdin:
        rate, seconds = map(float, line.split())
        count, begun = round(rate * seconds), time.perf_counter()
        for number in range(count):
            while (ahead := begun + number / rate - time.perf_counter()) > 0:
                time.sleep(ahead)
            write(message)
        print(count, flush=True)


def take(drain: Callable[[], None], taken: Callable[[], int]) -> None:
    """Drain for ever; each line is answered with the number of messages so far."""
    ended = threading.Event()

    def answer() -> None:
        for _ in sys.stdin:
            print(taken(), flush=True)
        ended.set()

    threading.Thread(target=answer, daemon=True).start()
    print("ready", flush=True)
    while not ended.is_set():
        drain()


def dds_publisher(domain: int) -> None:
    """A best-effort writer."""
    from edge_monitor.dds.entities import Participant, Qos
    from edge_monitor.ros.names import dds_topic, dds_type

    participant = Participant(domain)
    publish(participant.writer(dds_topic(TOPIC), dds_type(IMU), Qos(depth=DEPTH)).write)
    participant.close()


def dds_take(domain: int) -> None:
    """The wheel's own take of serialized messages, woken by its wait set."""
    from dataclasses import dataclass

    from cyclonedds._clayer import ddspy_take
    from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState, WaitSet
    from cyclonedds.domain import DomainParticipant
    from cyclonedds.idl import IdlStruct
    from cyclonedds.idl.types import uint8
    from cyclonedds.qos import Policy, Qos
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic

    from edge_monitor.ros.names import dds_topic, dds_type

    @dataclass
    class Imu(IdlStruct, typename=dds_type(IMU)):  # type: ignore[call-arg, misc]
        """Only its name matters: no message is looked into."""

        nothing: uint8

    participant = DomainParticipant(domain)
    qos = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(DEPTH))
    reader = DataReader(participant, Topic(participant, dds_topic(TOPIC), Imu), qos)
    condition = ReadCondition(reader, ViewState.Any | InstanceState.Any | SampleState.Any)
    waiting = WaitSet(participant)
    waiting.attach(condition)
    taken = 0

    def drain() -> None:
        nonlocal taken
        if waiting.wait(round(WAIT_S * 1e9)):
            while found := ddspy_take(condition._ref, 0, TAKEN):
                taken += len(found)
                if len(found) < TAKEN:
                    break

    take(drain, lambda: taken)


def ros_publisher(domain: int) -> None:
    """A node that publishes what is serialized already."""
    import rclpy

    rclpy.init(domain_id=domain)
    publish(rclpy.create_node("publisher").create_publisher(_message(), TOPIC, _qos()).publish)


def ros_take(domain: int) -> None:
    """A raw subscription of rclpy: called back for the first message, it takes the others that are queued."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    rclpy.init(domain_id=domain)
    node, taken = rclpy.create_node("subscriber"), 0

    def called(_: bytes) -> None:
        nonlocal taken
        taken += 1
        while subscription.handle.take_message(subscription.msg_type, True) is not None:
            taken += 1

    subscription = node.create_subscription(_message(), TOPIC, called, _qos(), raw=True)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    take(lambda: executor.spin_once(WAIT_S), lambda: taken)


def _message() -> Any:
    from rosidl_runtime_py.utilities import get_message

    return get_message(IMU)


def _qos() -> Any:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    return QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)


ROLES = {"dds-publisher": dds_publisher, "dds-take": dds_take, "ros-publisher": ros_publisher, "ros-take": ros_take}

if __name__ == "__main__":
    ROLES[sys.argv[1]](int(sys.argv[2]))
