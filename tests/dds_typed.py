"""A writer of typed objects, by the library's own Python API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import float64
from cyclonedds.pub import DataWriter
from cyclonedds.topic import Topic


@dataclass
class Float64(IdlStruct, typename="std_msgs.msg.dds_.Float64_"):
    """As ROS 2 names it."""

    data: float64


def writer_of_floats(domain: int, topic: str) -> Callable[[float], None]:
    """A function that publishes a number."""
    participant = DomainParticipant(domain)
    writer = DataWriter(participant, Topic(participant, topic, Float64))
    return lambda value: writer.write(Float64(value))
