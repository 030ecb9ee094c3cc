"""From addresses as a person gives them, ``KIND:ADDRESS``, to live sources. A kind's own libraries are loaded when it is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from edge_monitor.errors import UsageError

from .curve import Curve
from .links import is_guarded_by_file, is_local
from .live import Combined, LiveSource
from .wanted import Wanted
from .zmq import Endpoint, ZmqSource

ZMQ_KINDS = ("sub", "pull", "bind-sub", "bind-pull")
FORMS = "'sub:tcp://127.0.0.1:7370', 'bind-pull:ipc://in.sock', 'dds:0' or 'mavlink:udpin:127.0.0.1:14550'"
MAVLINK_TOPICS = "mavlink/"  #: what the topics of a vehicle begin with


class Address(NamedTuple):
    """Where messages come from. ``kind``: of the source; ``rest``: what that kind makes of it."""

    kind: str
    rest: str


def parse(text: str) -> Address:
    """An address as a person gives it. Raises ``UsageError`` where it is none."""
    kind, _, rest = text.partition(":")
    if kind == "dds":
        from edge_monitor.ros.environment import domain

        return Address(kind, str(domain(rest, os.environ)))
    if kind == "mavlink":
        from edge_monitor.mavlink.links import parse_address

        parse_address(rest)
        return Address(kind, rest)
    if kind not in ZMQ_KINDS or "://" not in rest:
        raise UsageError(f"--source {text}: expected such as {FORMS}")
    return Address(kind, rest)


def open_sources(
    addresses: Sequence[Address],
    wanted: Sequence[Wanted],
    clock: Callable[[], int],
    *,
    plain: bool = False,
    beside: Mapping[str, Callable[[bytes], None]] = {},
    curve: Curve | None = None,
    servers: Mapping[str, str] = {},
    messages: Sequence[Path] = (),
) -> list[LiveSource]:
    """The sources at ``addresses``, open; all ZeroMQ addresses are one source, and so is each DDS domain.

    A vehicle's topics are read of the vehicles, where there are some, and all others of the other sources; what none of them
    can bring has nobody who publishes it.
    ``wanted``: the topics that are read; ``clock``: ns on CLOCK_BOOTTIME; ``plain``: allow addresses beyond this machine
    without keys; ``beside``: as ``ZmqSource`` takes it; ``servers``: public keys of what is connected to, by address. With
    ``curve``, what is bound on TCP asks for keys; ``ipc://`` is guarded by the permissions of files. ``messages``: folders
    with definitions of ROS messages. Raises ``ConfigError``: an address that will not do, or a library that is missing.
    """
    with ExitStack() as stack:
        sources: list[LiveSource] = []
        endpoints = [_endpoint(address, servers, plain) for address in addresses if address.kind in ZMQ_KINDS]
        vehicles = [address for address in addresses if address.kind == "mavlink"]
        theirs = [one.topic for one in wanted if vehicles and one.topic.removeprefix("/").startswith(MAVLINK_TOPICS)]
        wanted = [one for one in wanted if one.topic not in theirs]
        if endpoints or len(vehicles) == len(addresses):
            topics = [one.topic for one in wanted]
            sources.append(ZmqSource(endpoints, topics, clock, curve=curve, allow_plain=plain, beside=beside))
            stack.callback(sources[-1].close)
        domains = dict.fromkeys(address.rest for address in addresses if address.kind == "dds")
        if domains and beside:
            raise UsageError(
                "--sim-time: a simulator tells its time over ZeroMQ only, where nothing overtakes it; leave out dds"
            )
        for domain in domains:
            sources.append(_dds(int(domain), wanted, clock, messages))
            stack.callback(sources[-1].close)
        for address in vehicles:
            sources.append(_vehicle(address, theirs, clock, plain))
            stack.callback(sources[-1].close)
        stack.pop_all()
        return sources


def combine(sources: Sequence[LiveSource]) -> LiveSource:
    """One source out of at least one."""
    return sources[0] if len(sources) == 1 else Combined(sources)


def _endpoint(address: Address, servers: Mapping[str, str], plain: bool) -> Endpoint:
    kind, bind, key = (
        address.kind.removeprefix("bind-"),
        address.kind.startswith("bind-"),
        servers.get(address.rest, ""),
    )
    if bind:
        keyless = is_guarded_by_file(address.rest)
    else:
        keyless = not key and (plain or is_local(address.rest))
    return Endpoint(address.rest, kind, bind, key, keyless)


def _dds(domain: int, wanted: Sequence[Wanted], clock: Callable[[], int], messages: Sequence[Path]) -> LiveSource:
    from edge_monitor.dds.entities import Participant
    from edge_monitor.ros.definitions import Definitions, installed_folders
    from edge_monitor.ros.environment import discovery

    from .dds import DdsSource

    definitions = Definitions([*messages, *installed_folders()])
    return DdsSource(Participant(domain, discovery(os.environ)), wanted, clock, definitions=definitions)


def _vehicle(address: Address, topics: Sequence[str], clock: Callable[[], int], plain: bool) -> LiveSource:
    from edge_monitor.mavlink.links import parse_address

    from .mavlink import MavlinkSource

    return MavlinkSource(parse_address(address.rest), topics, clock, allow_plain=plain)
