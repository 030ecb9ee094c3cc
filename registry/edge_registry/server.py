"""``Server``: the registry's sockets. One thread receives, one transaction takes what was received, and then it is answered.

What comes in waits in a queue of its peer's, and a turn takes a share of each: one that floods is served as the others are, and
what exceeds its queue is not read but refused. Nothing is answered that is not on the disk.
"""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import sqlalchemy as sa
import zmq

from edge_monitor.errors import ConfigError, EdgeMonitorError, VerificationError
from edge_monitor.journal.keys import parse_verifier_key
from edge_monitor.sync import wire
from edge_monitor.sync.enrolment import curve_of

from .blobs import Blobs
from .ingest import Given, Ingest
from .store import Robot, Store, Transaction
from .zap import Gate

TURN = 128  #: messages that one transaction takes, at most
SHARE, SHARES = 128 << 10, 16  #: bytes, and messages, that a peer has in a turn while there are others; one in any case
ALONE = 2 << 20  #: bytes that it has while there are none
ALONE_S = 5.0  #: since another was heard
READ = 512  #: messages that are read between two turns
QUEUE = 8 << 20  #: bytes of a peer that wait, at most: eight times its credit
QUEUES = 256 << 20  #: bytes of all peers
OVERHEAD = 256  #: bytes that a message takes beside its own
PEERS = 4096  #: connections that are remembered
MALFORMED = 8  #: messages that break the format before a peer is no longer listened to
RETRY_S = 0.5  #: after the database failed
ENROLMENTS_S = 0.1  #: between two attempts to enrol, whoever makes them


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the registry listens: for sync, and for enrolment."""

    sync: str = "tcp://127.0.0.1:7381"
    enrol: str = "tcp://127.0.0.1:7382"


@dataclass(slots=True)
class _Peer:
    """A connection: which robot it is by its CURVE key, and the log that it said hello for."""

    robot: str
    origin: str = ""
    log_id: bytes = b""
    malformed: int = 0
    bundle: int = 0  #: version of the newest one that it holds, or was sent
    queue: deque[tuple[wire.Uplink, int]] = field(default_factory=deque)  #: what waits, with its size
    queued: int = 0  #: bytes that wait
    heard: float = 0.0  #: on the monotonic clock
    flooding: bool = False  #: its queue was full: nothing more is taken of it before it greets again


@dataclass(slots=True)
class Counts:
    """What went through, for whoever asks."""

    messages: int = 0
    batches: int = 0
    refused: int = 0
    failures: int = 0
    last_failure: str = ""
    refused_keys: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Turn:
    """What came in one turn, in order: (peer's address, peer, message)."""

    items: list[tuple[bytes, _Peer, wire.Uplink]] = field(default_factory=list)


class Server:
    """Serves until ``done``; everything it needs is handed to it."""

    def __init__(
        self,
        store: Store,
        ingest: Ingest,
        blobs: Blobs,
        addresses: Addresses,
        curve: tuple[str, str],
        tell: Callable[[str], None] = lambda words: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``curve``: the registry's CURVE key pair (public, secret; Z85). Raises ``ConfigError`` where an address is taken."""
        self.counts = Counts()
        self._store = store
        self._ingest = ingest
        self._blobs = blobs
        self._tell = tell
        self._now = now
        self._context = zmq.Context()
        self._gate = Gate(self._context, store, curve)
        self._peers: OrderedDict[bytes, _Peer] = OrderedDict()
        self._ready: deque[bytes] = deque()  # addresses of peers with something in their queues, whose turn it is first
        self._queued = 0
        try:
            self._sync = self._bound(addresses.sync, b"sync", curve)
            self._enrol = self._bound(addresses.enrol, b"enrol", curve)
        except BaseException:
            self.close()
            raise
        self._next_enrolment = 0.0

    @property
    def addresses(self) -> Addresses:
        """Where it listens, ports that were left open filled in."""
        sync, enrol = (socket.getsockopt(zmq.LAST_ENDPOINT) for socket in (self._sync, self._enrol))
        return Addresses(bytes(sync).decode(), bytes(enrol).decode())

    def run(self, done: Callable[[], bool]) -> None:
        """Serve until ``done`` says so."""
        poller = zmq.Poller()
        for socket in (self._sync, self._enrol, self._gate.socket):
            poller.register(socket, zmq.POLLIN)
        while not done():
            found = dict(poller.poll(0 if self._ready else 100))
            self._gate.serve()
            self.counts.refused_keys = self._gate.refused
            if self._sync in found and self._queued < QUEUES:
                self._receive()
            self._turn()
            if self._enrol in found and self._now() >= self._next_enrolment:
                self._next_enrolment = self._now() + ENROLMENTS_S
                self._enrolment()

    def close(self) -> None:
        """Give sockets back."""
        self._context.destroy(linger=200)

    def _turn(self) -> None:
        turn = self._next_turn()
        if not turn.items:
            return
        try:
            with self._store.begin() as tx:
                answers = list(self._answers(tx, turn))
        except (sa.exc.SQLAlchemyError, OSError) as error:
            # Nothing of the turn is kept, and nothing is answered: the devices send it again.
            self.counts.failures += 1
            self.counts.last_failure = str(error).splitlines()[0]
            self._tell(f"the database failed: {self.counts.last_failure}")
            self._store.engine.dispose()
            time.sleep(RETRY_S)
            return
        for address, answer in answers:
            self.counts.refused += isinstance(answer, wire.Refused)
            if isinstance(answer, wire.Refused):
                peer = self._peers.get(address)
                self._tell(f"{peer.robot if peer else '?'}: refused ({answer.code}): {answer.words}")
            sent = self._send(self._sync, address, answer)
            if sent and isinstance(answer, wire.Bundle) and address in self._peers:
                self._peers[address].bundle = answer.version

    def _receive(self) -> None:
        """Read what has come, each message into its peer's queue."""
        for _ in range(READ):
            try:
                address, *frames = self._sync.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self.counts.messages += 1
            peer = self._peer(address.bytes, str(address.get("User-Id") if not frames else frames[-1].get("User-Id")))
            if peer.malformed >= MALFORMED:
                continue
            body = frames[-1].bytes if len(frames) == 1 else b""
            self.counts.bytes += len(body)
            try:
                self._queue(address.bytes, peer, wire.decode_uplink(body), len(body) + OVERHEAD)
            except VerificationError as error:
                peer.malformed += 1
                self._send(self._sync, address.bytes, wire.Refused("malformed", str(error)[:500]))

    def _queue(self, address: bytes, peer: _Peer, message: wire.Uplink, size: int) -> None:
        if isinstance(message, wire.Hello):
            peer.flooding = False
        if peer.flooding:
            return
        if peer.queued + size > QUEUE:
            peer.flooding = True
            self.counts.refused += 1
            words = "more than its credit came of this device at once: it is not taken before the next hello"
            self._tell(f"{peer.robot}: refused (busy): {words}")
            self._send(self._sync, address, wire.Refused("busy", words))
            return
        if not peer.queue:
            self._ready.append(address)
        peer.queue.append((message, size))
        peer.queued += size
        self._queued += size

    def _next_turn(self) -> _Turn:
        """A share of each peer's queue, beginning with those that have waited longest."""
        turn = _Turn()
        share, most = (ALONE, TURN) if self._alone() else (SHARE, SHARES)
        for _ in range(len(self._ready)):
            address = self._ready.popleft()
            peer = self._peers.get(address)
            if peer is None:
                continue  # forgotten, with what it had sent
            taken, end = 0, min(TURN, len(turn.items) + most)
            while peer.queue and (not taken or taken + peer.queue[0][1] <= share) and len(turn.items) < end:
                message, size = peer.queue.popleft()
                turn.items.append((address, peer, message))
                taken += size
            peer.queued -= taken
            self._queued -= taken
            if peer.queue:
                self._ready.append(address)
            if len(turn.items) == TURN:
                break
        return turn

    def _alone(self) -> bool:
        """Whether one peer is all that was heard of late."""
        others = islice(reversed(self._peers.values()), 1, 2)
        return all(time.monotonic() - peer.heard > ALONE_S for peer in others)

    def _answers(self, tx: Transaction, turn: _Turn) -> Iterable[tuple[bytes, wire.Downlink]]:
        """Everything but batches in its place; the batches of a peer together at its last."""
        batches: dict[bytes, list[wire.Batch]] = {}
        given: list[Given] = []
        told: set[bytes] = set()  # whom this turn tells of a bundle
        tx.lock_logs({peer.log_id for _, peer, _ in turn.items} | _greeted(turn))
        known = tx.robots({peer.robot for _, peer, _ in turn.items})
        for address, peer, message in turn.items:
            robot = known.get(peer.robot)
            if robot is None:
                yield address, wire.Refused("unknown", "this device is not enrolled")
            elif isinstance(message, wire.Batch):
                batches.setdefault(address, []).append(message)
            else:
                for answer in self._other(tx, robot, peer, message):
                    yield address, answer
                if isinstance(message, (wire.Hello, wire.Ping)) and address not in told:
                    for bundle in self._newer(tx, peer):
                        told.add(address)
                        yield address, bundle
        opened = iter(self._ingest.opened(tx, [one for waiting in batches.values() for one in waiting]))
        for address, waiting in batches.items():
            peer = self._peers[address]
            self.counts.batches += len(waiting)
            own = list(islice(opened, len(waiting)))
            for answer in self._ingest.take(tx, known[peer.robot], peer.log_id, own, given):
                yield address, answer
        self._ingest.log_receipts(tx, given)

    def _other(self, tx: Transaction, robot: Robot, peer: _Peer, message: wire.Uplink) -> list[wire.Downlink]:
        if isinstance(message, wire.Hello):
            again = peer.origin == message.origin
            answers = self._ingest.hello(tx, robot, message, again=again)
            if isinstance(answers[0], wire.Welcome):
                peer.origin, peer.log_id = message.origin, uuid.UUID(message.origin.rpartition("/")[2]).bytes
                peer.bundle = message.bundle
            return answers
        if isinstance(message, wire.Alert):
            return self._ingest.alert(tx, robot, peer.log_id, message)
        if isinstance(message, wire.BlobOffer):
            return self._blobs.offered(tx, robot, message)
        if isinstance(message, wire.BlobPart):
            return self._blobs.part(tx, robot, message)
        if isinstance(message, wire.Ping):
            return [wire.Pong(int(self._now()))]
        return [wire.Refused("malformed", "enrolment has an address of its own")]

    def _newer(self, tx: Transaction, peer: _Peer) -> list[wire.Downlink]:
        """The downlink bundle, where the device has an older one: until one is on its way to it."""
        if not peer.log_id or tx.bundle_version() <= peer.bundle:
            return []
        newest = tx.bundle()
        assert newest is not None
        return [wire.Bundle(*newest)]

    def _enrolment(self) -> None:
        address, *frames = self._enrol.recv_multipart()
        try:
            message = wire.decode_uplink(frames[-1] if frames else b"")
            if not isinstance(message, wire.Enrol):
                raise VerificationError("only enrolment is taken here")
            identity = parse_verifier_key(message.identity)
            with self._store.begin() as tx:
                robot = tx.redeem(message.token, int(self._now() * 1e9))
                if robot is None:
                    raise VerificationError("the token is unknown, used or expired: ask for another")
                curve = curve_of(message.note, identity, robot, message.token)
                tx.enrol(robot, identity, curve, int(self._now() * 1e9))
            answer: wire.Downlink = wire.Enrolled(robot)
            self._tell(f"{robot}: enrolled")
        except (EdgeMonitorError, sa.exc.SQLAlchemyError) as error:
            answer = wire.Refused("unknown", str(error)[:500])
        self._send(self._enrol, address, answer)

    def _peer(self, address: bytes, robot: str) -> _Peer:
        peer = self._peers.get(address)
        if peer is None or peer.robot != robot:
            self._queued -= peer.queued if peer is not None else 0
            peer = self._peers[address] = _Peer(robot)
            if len(self._peers) > PEERS:
                self._queued -= self._peers.popitem(last=False)[1].queued
        self._peers.move_to_end(address)
        peer.heard = time.monotonic()
        return peer

    def _send(self, socket: zmq.Socket[bytes], address: bytes, answer: wire.Downlink) -> bool:
        """An answer that can't be sent now is lost: the device asks again. Answers whether it is on its way."""
        try:
            socket.send_multipart([address, wire.encode(answer)], zmq.NOBLOCK)
        except zmq.ZMQError:
            self.counts.failures += 1
            return False
        return True

    def _bound(self, address: str, domain: bytes, curve: tuple[str, str]) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.MAXMSGSIZE, wire.MAX_FRAME), (zmq.RCVHWM, 8), (zmq.SNDHWM, 64), (zmq.ROUTER_MANDATORY, 1),
            (zmq.CURVE_SERVER, 1), (zmq.LINGER, 200),
            # Not ZeroMQ's heartbeats: behind a batch that takes a minute on a slow link they come too late, and cut it.
            (zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 60), (zmq.TCP_KEEPALIVE_INTVL, 20), (zmq.TCP_KEEPALIVE_CNT, 3),
        ):  # fmt: skip
            socket.setsockopt(option, value)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, curve[0].encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, curve[1].encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, domain)
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            raise ConfigError(f"{address}: {error}; choose an address that is free") from None
        return socket


def _greeted(turn: _Turn) -> set[bytes]:
    """The logs that the turn's hellos name."""
    found = set()
    for _, _, message in turn.items:
        if isinstance(message, wire.Hello):
            with suppress(ValueError):
                found.add(uuid.UUID(message.origin.rpartition("/")[2]).bytes)
    return found
