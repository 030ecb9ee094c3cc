"""Participant, raw readers and writers, and what others publish: one object each, over the C library."""

from __future__ import annotations

import ctypes as c
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..errors import ConfigError
from . import library as dds
from .library import library, said

#: A type that Cyclone knows nothing of but one byte: whatever comes is kept as it came, and matched by name alone.
_OPS = (c.c_uint32 * 3)(0x01010000, 0, 0)
#: What a reader is asked for besides messages.
NEWS = dds.DEADLINE_MISSED | dds.INCOMPATIBLE_QOS | dds.SAMPLE_LOST | dds.SAMPLE_REJECTED | dds.LIVELINESS
_ANNOUNCED = 64  # publications that are taken in one go
_RUNG, _ARRIVED = 0, 1  # places in a reader's bell


@dataclass(frozen=True, slots=True)
class Qos:
    """What a reader asks for, or a writer offers. ``deadline``: ns between messages, 0: none. ``lease``: ns after a
    message for which a writer counts as alive, 0: for as long as its process does."""

    reliable: bool = False
    latched: bool = False
    deadline: int = 0
    depth: int = 1
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Publication:
    """A writer, as discovery tells of it. ``key``: its GUID; ``type`` and ``topic`` as DDS has them; ``deadline``: ns."""

    key: bytes
    topic: str
    type: str
    reliable: bool
    latched: bool
    deadline: int
    user_data: bytes

    @property
    def type_hash(self) -> str:
        """The hash of its type that a ROS 2 of Iron or later announces; empty elsewhere."""
        for part in self.user_data.split(b";"):
            name, _, value = part.partition(b"=")
            if name == b"typehash":
                return value.decode("ascii", "replace")
        return ""


class Gone(NamedTuple):
    """A writer is no longer there."""

    key: bytes


class Liveness(NamedTuple):
    """Matched writers that keep their promise to be alive, and that don't."""

    alive: int
    dead: int


class Came(NamedTuple):
    """When samples of a reader arrived: the one that is taken next has number ``first``, of those before ``end`` it is known."""

    stamps: np.ndarray
    first: int
    end: int


@dataclass(slots=True)
class News:
    """What happened to a reader since the last look; numbers of events."""

    deadline: int = 0
    incompatible: int = 0
    policy: int = 0  #: of the last incompatible writer
    lost: int = 0
    liveness: Liveness | None = None


class Participant:
    """A place in a domain. Closing it closes all that was made of it."""

    def __init__(self, domain: int, configuration: str = "") -> None:
        """``configuration``: Cyclone's, before what ``CYCLONEDDS_URI`` says. Raises ``ConfigError``."""
        self.domain = domain
        if configuration:
            parts = [part for part in (configuration, os.environ.get("CYCLONEDDS_URI", "")) if part]
            library().dds_create_domain(domain, ",".join(parts).encode())  # fails where there is one: of this process
        self.handle = _made(library().dds_create_participant(domain, None, None), f"dds:{domain}", HELP)
        self._announced = _made(library().dds_create_reader(self.handle, dds.PUBLICATIONS, None, None), f"dds:{domain}")
        self._samples, self._infos = (c.c_void_p * _ANNOUNCED)(), (dds.Info * _ANNOUNCED)()

    def news(self) -> list[Publication | Gone]:
        """Writers that have come, changed or gone since the last call; this participant's own among them."""
        found: list[Publication | Gone] = []
        samples, infos = self._samples, self._infos
        while True:
            c.memset(samples, 0, c.sizeof(samples))  # the library lends its own memory where there is no other
            count = library().dds_take(self._announced, samples, infos, _ANNOUNCED, _ANNOUNCED)
            if count <= 0:
                return found
            for i in range(count):
                endpoint = c.cast(samples[i], c.POINTER(dds.Endpoint)).contents
                key = bytes(endpoint.key)
                found.append(_publication(key, endpoint) if infos[i].valid else Gone(key))
            library().dds_return_loan(self._announced, samples, count)

    def reader(self, topic: str, type_name: str, qos: Qos, eventfd: int, type_hash: str = "") -> Reader:
        """A reader of serialized messages; ``eventfd`` is rung when some come. Names as DDS has them."""
        return Reader(self, topic, type_name, qos, eventfd, type_hash)

    def writer(self, topic: str, type_name: str, qos: Qos, type_hash: str = "") -> Writer:
        """A writer of serialized messages."""
        return Writer(self, topic, type_name, qos, type_hash)

    def topic(self, name: str, type_name: str) -> int:
        """A handle of a topic of its own."""
        descriptor = dds.Descriptor(1, 1, 0, 0, type_name.encode(), None, len(_OPS), _OPS, b"")
        return _made(library().dds_create_topic(self.handle, c.byref(descriptor), name.encode(), None, None), name)

    def close(self) -> None:
        """Leave the domain."""
        library().dds_delete(self.handle)


class Reader:
    """Takes serialized messages of one topic."""

    def __init__(
        self, participant: Participant, topic: str, type_name: str, qos: Qos, eventfd: int, type_hash: str
    ) -> None:
        from .taking import BELL, load  # machine code, which who only publishes can do without

        self.qos, self.type = qos, type_name
        self.bell = np.zeros(1, BELL)
        self._words = memoryview(self.bell.view(np.int64))  # NumPy takes ten times as long for one of them
        self._stamps = self.bell["stamps"][0]
        self.bell["eventfd"], self.bell["time_at"] = eventfd, self.bell["time"].ctypes.data
        self._arrived = self._taken = 0
        self._next = 0  # number of the sample that is taken next, as they arrived
        self._topic = participant.topic(topic, type_name)
        listener = library().dds_create_listener(None)
        library().dds_lset_data_available_arg(listener, load(), self.bell.ctypes.data, True)
        with _qos(qos, type_hash) as handle:
            self.handle = _made(library().dds_create_reader(participant.handle, self._topic, handle, listener), topic)
        library().dds_delete_listener(listener)

    @property
    def rung(self) -> bool:
        """Whether there may be messages."""
        return self._words[_RUNG] != 0

    def look(self) -> int:
        """To be called before messages are taken: what comes from now on rings again. Answers how many have come so far."""
        arrived: int = self._words[_ARRIVED]
        self._words[_RUNG] = 0
        self._next = max(self._next, arrived - self.qos.depth)
        return arrived

    def came(self, arrived: int) -> Came:
        """When the samples arrived that are taken next; ``arrived`` as the look said."""
        return Came(self._stamps, self._next, arrived)

    def account(self, arrived: int, taken: int, *, more: bool) -> int:
        """What came of a look: ``arrived`` as it said, then ``taken``; ``more``: the queue may not be empty.

        Answers how many messages newer ones have pushed out of the queue, at least.
        """
        self._taken += taken
        self._next += taken
        if more:
            self._words[_RUNG] = 1
            return 0
        self._next = max(self._next, arrived)
        came, took = arrived - self._arrived, self._taken
        self._arrived, self._taken = arrived, 0
        return max(0, came - took) if came > self.qos.depth else 0

    def news(self) -> News | None:
        """What happened since the last call, besides messages; None where nothing did."""
        mask = c.c_uint32()
        library().dds_get_status_changes(self.handle, c.byref(mask))
        if not mask.value & NEWS:
            return None
        news = News()
        if mask.value & dds.DEADLINE_MISSED:
            news.deadline = self._total("requested_deadline_missed").change
        if mask.value & dds.INCOMPATIBLE_QOS:
            status = self._total("requested_incompatible_qos")
            news.incompatible, news.policy = status.change, status.last & 0xFFFFFFFF
        if mask.value & dds.SAMPLE_LOST:
            news.lost += self._total("sample_lost").change
        if mask.value & dds.SAMPLE_REJECTED:
            news.lost += self._total("sample_rejected").change
        if mask.value & dds.LIVELINESS:
            alive = dds.Alive()
            library().dds_get_liveliness_changed_status(self.handle, c.byref(alive))
            news.liveness = Liveness(alive.alive, alive.dead)
        return news

    def close(self) -> None:
        """Stop reading; nothing rings the bell afterwards."""
        library().dds_delete(self.handle)
        library().dds_delete(self._topic)

    def _total(self, status: str) -> Any:
        found = dds.Total()
        getattr(library(), f"dds_get_{status}_status")(self.handle, c.byref(found))
        return found


class Writer:
    """Publishes serialized messages on one topic."""

    def __init__(self, participant: Participant, topic: str, type_name: str, qos: Qos, type_hash: str) -> None:
        self._topic = participant.topic(topic, type_name)
        with _qos(qos, type_hash) as handle:
            self.handle = _made(library().dds_create_writer(participant.handle, self._topic, handle, None), topic)
        self._type = c.c_void_p()
        library().dds_get_entity_sertype(self._topic, c.byref(self._type))

    def write(self, message: bytes) -> bool:
        """Publish a message: CDR with its header. False where that could not be done."""
        piece = dds.Piece(c.cast(c.c_char_p(message), c.c_void_p), len(message))
        data = library().ddsi_serdata_from_ser_iov(self._type, dds.DATA, 1, c.byref(piece), len(message))
        return bool(data) and library().dds_writecdr(self.handle, data) == 0  # which takes the data over

    def close(self) -> None:
        """Stop publishing; readers are told."""
        library().dds_delete(self.handle)
        library().dds_delete(self._topic)


HELP = "check CYCLONEDDS_URI and the network: is its interface up, and are fewer than 120 participants on this machine?"


class _qos:  # noqa: N801  a context
    """A C object of a :class:`Qos`, for as long as it is needed."""

    def __init__(self, qos: Qos, type_hash: str) -> None:
        lib = library()
        self._handle = handle = lib.dds_create_qos()
        lib.dds_qset_history(handle, 0, qos.depth)
        lib.dds_qset_reliability(handle, int(qos.reliable), 0)  # a writer never waits
        lib.dds_qset_durability(handle, int(qos.latched))
        if qos.deadline:
            lib.dds_qset_deadline(handle, qos.deadline)
        if qos.lease:
            lib.dds_qset_liveliness(handle, 2, qos.lease)
        if type_hash:
            user_data = f"typehash={type_hash};".encode()
            lib.dds_qset_userdata(handle, user_data, len(user_data))

    def __enter__(self) -> Any:
        return self._handle

    def __exit__(self, *_: object) -> None:
        library().dds_delete_qos(self._handle)


def _publication(key: bytes, endpoint: Any) -> Publication:
    qos, lib = endpoint.qos, library()
    kind, time, size, data = c.c_int(), c.c_int64(), c.c_size_t(), c.c_void_p()
    reliable = bool(lib.dds_qget_reliability(qos, c.byref(kind), c.byref(time))) and kind.value == 1
    latched = bool(lib.dds_qget_durability(qos, c.byref(kind))) and kind.value >= 1
    has_deadline = lib.dds_qget_deadline(qos, c.byref(time)) and time.value != dds.INFINITE
    user_data = b""
    if lib.dds_qget_userdata(qos, c.byref(data), c.byref(size)) and data.value:
        user_data = c.string_at(data.value, size.value)
        lib.dds_free(data)
    text = [(part or b"").decode("utf-8", "replace") for part in (endpoint.topic, endpoint.type)]
    return Publication(key, *text, reliable, latched, time.value if has_deadline else 0, user_data)


def _made(handle: int, what: str, how: str = "") -> int:
    """A handle, or the error that is in its place."""
    if handle < 0:
        raise ConfigError(f"{what}: {said(handle)}{'; ' + how if how else ''}")
    return handle
