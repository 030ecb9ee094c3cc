"""What an enrolled device can send to hurt a registry: changed frames by the thousand, bombs, nests, lies about sizes."""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from functools import lru_cache
from pathlib import Path

import msgspec
import zmq
import zstandard

from edge_monitor.errors import VerificationError
from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.notes import split_note
from edge_monitor.journal.reader import Reader
from edge_monitor.sync import wire
from edge_monitor.sync.outbox import Outbox
from edge_registry.blobs import Blobs
from edge_registry.ingest import Ingest
from edge_registry.server import Addresses, Server, _Turn
from edge_registry.store import Robot, Store

from .serving import Robot as Device
from .serving import Serving, impatient

MEMORY = 400 << 20  #: bytes that a registry's process may have needed at any time
DEVICE, REGISTRY = SigningKey("robot", bytes(range(32))), SigningKey("registry", bytes(range(1, 33)))


def frames_of(path: Path, session: int) -> list[wire.Uplink]:
    """Messages of every kind that a session sends, of a journal whose first half is held."""
    outbox = Outbox(path)
    head = outbox.head()
    p = outbox.proven(head.size - 2)
    messages: list[wire.Uplink] = [
        wire.Hello((1, 1), head.origin, bytes(16), head.note, head.receipt, 0, "t"),
        wire.Alert(session, p.sequence, p.data, p.path, p.checkpoint, p.certificate),
        wire.Ping(session), wire.BlobOffer(bytes(32), 1000, "tape", "a.tape"), wire.BlobPart(bytes(32), 0, bytes(100)),
    ]  # fmt: skip
    first = 0
    while first < head.size:
        load = outbox.load(first, 4000)
        assert load is not None
        messages.append(wire.Batch(session, first, load.end - first, load.data, load.checkpoint))
        first = load.end
    return messages


def mutated(message: wire.Uplink, others: list[wire.Uplink], rng: random.Random) -> bytes:
    """A changed message: a bit here or there, fields of another, numbers out of place, or other columns inside."""
    choice = rng.randrange(4)
    if choice == 0 and isinstance(message, (wire.Batch, wire.Alert)):
        plain = bytearray(zstandard.decompress(message.data))
        for _ in range(rng.randrange(1, 4)):
            plain[rng.randrange(len(plain))] = rng.randrange(256)
        message = msgspec.structs.replace(message, data=zstandard.compress(bytes(plain)))
    elif choice == 1:
        names = [field.name for field in msgspec.structs.fields(message)]
        other = rng.choice(others)
        shared = [name for name in names if hasattr(other, name)]
        name = rng.choice(shared or names)
        message = msgspec.structs.replace(message, **{name: getattr(other, name, rng.randrange(1 << 62))})
    elif choice == 2:
        numbers = [
            field.name for field in msgspec.structs.fields(message) if isinstance(getattr(message, field.name), int)
        ]
        if numbers:
            value = rng.choice((0, 1, 2, 4096, 1 << 31, (1 << 63) - 1, rng.randrange(1 << 12)))
            message = msgspec.structs.replace(message, **{rng.choice(numbers): value})
    frame = bytearray(wire.encode(message))
    if choice == 3:
        for _ in range(rng.randrange(1, 4)):
            frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.2:
            del frame[rng.randrange(len(frame)) :]
    return bytes(frame)


def fuzz(folder: Path, count: int, seed: int, database: str | None = None) -> str:
    """So many changed frames: each is refused or harmless, raises nothing, and no receipt covers what the device did not sign."""
    rng = random.Random(seed)
    store = Store(database or f"sqlite:///{folder}/registry.db")
    server = Server(
        store, Ingest(REGISTRY), Blobs(folder / "blobs"), Addresses("inproc://a", "inproc://b"), ("x" * 40, "x" * 40)
    )
    try:
        with Journal.create_or_open(folder / "robot.db", DEVICE, epochs=True) as journal:
            for n in range(400):
                journal.append(Entry("check.fail", Severity.CRITICAL, n, n, {"n": n}, now=n % 9 == 0))
                if n % 150 == 40:
                    journal.rotate(n)
        robot = Robot("robot", DEVICE.verifier, "y" * 40, "active")
        with store.begin() as tx:
            tx.enrol("robot", DEVICE.verifier, robot.curve, 0)
            hello = frames_of(folder / "robot.db", 1)[0]
            assert isinstance(hello, wire.Hello)
            (welcome,) = server._ingest.hello(tx, robot, hello)
        assert isinstance(welcome, wire.Welcome)
        messages = frames_of(folder / "robot.db", welcome.session)
        batches = [message for message in messages if isinstance(message, wire.Batch)]
        with store.begin() as tx:
            log_id = journal.log_id
            answer = server._ingest.batches(tx, robot, log_id, batches[: len(batches) // 2])[-1]
        assert isinstance(answer, wire.Receipt)
        with Reader(folder / "robot.db") as reader:
            signed = {split_note(note)[0] for _, note in reader.checkpoints()}
        answers: Counter[str] = Counter()
        for number in range(count):
            peer = dataclasses.replace(server._peer(b"peer", "robot"), origin=hello.origin, log_id=log_id)
            server._peers[b"peer"] = peer
            turn = _Turn()
            for _ in range(rng.randrange(1, 3)):
                try:
                    message = wire.decode_uplink(mutated(rng.choice(messages), messages, rng))
                    turn.items.append((b"peer", peer, message))
                except VerificationError:
                    answers["no message"] += 1
            try:
                with store.begin() as tx:
                    for _, answer in server._answers(tx, turn):
                        wire.encode(answer)
                        answers[answer.code if isinstance(answer, wire.Refused) else type(answer).__name__] += 1
                        if isinstance(answer, wire.Receipt):
                            assert split_note(answer.note)[0] in signed
                    raise _UndoneError
            except _UndoneError:
                continue
            except Exception as error:
                raise AssertionError(f"seed {seed}, turn {number}: {str(turn.items)[:2000]}") from error
        return f"{count} turns of changed frames: " + ", ".join(f"{n} {word}" for word, n in answers.most_common())
    finally:
        server.close()
        store.close()


class _UndoneError(Exception):
    """What a changed frame did is undone, so that the next finds the same registry."""


@lru_cache
def zeros(size: int) -> bytes:
    """So many bytes of nothing, compressed."""
    return zstandard.compress(bytes(size))


def bombs(session: int, note: str) -> dict[str, bytes]:
    """Frames that would need more than they are, in a session and under a checkpoint over one record."""
    stream = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 << 20))
    nothing = zeros(8 << 20)
    return {
        "says that it grows to 256 MiB": wire.encode(wire.Batch(session, 0, 1, zeros(1 << 28), note)),
        "grows to 8 MiB of nothing": wire.encode(wire.Batch(session, 0, 4096, nothing, note)),
        "does not say its size": wire.encode(wire.Batch(session, 0, 1, stream, note)),
        "a million nested arrays": b"\x91" * 1_000_000,
        "nested arrays within": wire.encode(wire.Batch(session, 0, 1, zstandard.compress(b"\x91" * 1_000_000), note)),
        "four billion elements": b"\xdd\xff\xff\xff\xff",
        "four billion elements within": wire.encode(
            wire.Batch(session, 0, 4096, zstandard.compress(b"\xdd\xff\xff\xff\xff"), note)
        ),
        "four billion bytes": b"\x98\xa5batch\x01\x00\x01\xc6\xff\xff\xff\xff",
        "huge numbers": wire.encode(wire.Batch((1 << 63) - 1, (1 << 63) - 1, 4096, b"", note)),
        "the largest frame": bytes(wire.MAX_FRAME),
        "more than the largest": bytes(wire.MAX_FRAME + 1),
    }


def bomb(folder: Path, rounds: int) -> str:
    """Each of them, again and again: the process lives in its memory, closes or refuses, and an honest neighbour is served."""
    impatient()
    serving = Serving(folder)
    serving.start()
    honest, mallory = Device(folder, serving), Device(folder, serving, name="mallory")
    honest.uplink.start()
    mallory.write(1)
    try:
        names = list(bombs(0, ""))
        kinds, slowest = len(names), 0.0
        for _ in range(rounds):
            for name in names:
                _throw(mallory, name)
            honest.write(100)
            begun = time.monotonic()
            honest.arrived(30)
            slowest = max(slowest, time.monotonic() - begun)
        assert serving.process is not None and serving.process.poll() is None
        used = _peak(serving.process.pid)
        assert used < MEMORY, used
        return (
            f"{rounds} times {kinds} frames; {used >> 20} MiB at most; the neighbour's receipts within {slowest:.1f} s"
        )
    finally:
        honest.close()
        mallory.close()
        serving.close()


def _throw(device: Device, name: str) -> None:
    """One frame in a session of its own, and the registry's no to it; none where ZeroMQ has closed the connection."""
    link = device.uplink._registry
    head = Outbox(device.path).head()
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 1000
        socket.curve_serverkey, socket.curve_publickey = link.server.encode(), link.public.encode()
        socket.curve_secretkey = link.secret.encode()
        socket.connect(link.address)
        socket.send(wire.encode(wire.Hello((1, 1), head.origin, bytes(16), head.note, "", 0, "t")))
        assert socket.poll(10_000), "no welcome"
        welcome = wire.decode_downlink(socket.recv())
        assert isinstance(welcome, wire.Welcome), welcome
        frame = bombs(welcome.session, head.note)[name]
        socket.send(frame)
        too_large = len(frame) > wire.MAX_FRAME - 64  # with what CURVE adds
        if socket.poll(200 if too_large else 10_000):
            answer = wire.decode_downlink(socket.recv())
            assert isinstance(answer, (wire.Refused, wire.Want)), (name, answer)
        else:
            assert too_large, f"no answer: {name}"


def _peak(pid: int) -> int:
    """The most memory that a process had, bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024
