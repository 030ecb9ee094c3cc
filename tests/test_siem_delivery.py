"""Delivery to receivers that are there, go away and come back: nothing is missed, and what comes twice has the same id."""

from __future__ import annotations

import json
import random
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogue_case import World
from siem_restarts import CERTIFICATE, SCHEMES, START, SURE, Receiver, restarts

from edge_monitor.errors import ConfigError, UsageError
from edge_monitor.journal import Digests, Entry, Severity
from edge_monitor.journal.merkle import leaf_hash
from edge_registry.siem import sending
from edge_registry.siem.addresses import open_output, parse_address
from edge_registry.siem.delivery import DeliveryError
from edge_registry.siem.sending import Sender

HERE = Path(__file__).parent


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A registry that holds a robot's journal of two boots."""
    world = World(tmp_path, f"sqlite:///{tmp_path}/registry.db")
    yield world
    world.close()


def fill(world: World, count: int, boot: int = 1) -> None:
    """Events, in many commits."""
    entries = [Entry("check.fail", Severity.CRITICAL, t, t, {"value": t / 7}, now=t % 50 == 0) for t in range(count)]
    world.drive(Digests(b"\xee" * 32, b"", b"1"), START, entries, boot=boot, count=0)
    world.sync()


def expected(world: World) -> dict[str, str]:
    """Hashes by id of all that the registry holds."""
    with world.store.read() as tx:
        rows = tx.connection.exec_driver_sql("select seq, record from events order by seq").all()
    from edge_monitor.journal.records import decode_record

    return {f"robot-7/{decode_record(row[1]).boot_id.hex()}/{row[0]}": leaf_hash(row[1]).hex() for row in rows}


def sender(world: World, receiver: Receiver, form: str = "ocsf") -> Sender:
    """A sender that goes on where the database says."""
    authority = CERTIFICATE if receiver.kind == "tls" else None
    output = open_output(parse_address(receiver.address), form, authority=authority)
    return Sender(world.store, "test", output, receiver.address, form)


@pytest.mark.parametrize("kind", SCHEMES)
def test_every_record_comes_once_where_nothing_goes_wrong(world: World, tmp_path: Path, kind: str) -> None:
    """In the registry's order, and on from there when more is synced; over plain TCP the last batch comes twice."""
    fill(world, 120)
    receiver = Receiver(tmp_path, kind)
    try:
        for boot in (2, 3):
            one = sender(world, receiver)
            while one.step():
                pass
            one.close()
            taken, everything = receiver.taken(), list(expected(world).items())
            assert list(dict(taken).items()) == everything
            assert (len(taken) == len(everything)) or kind == "syslog"
            fill(world, 30, boot)
    finally:
        receiver.kill()
    (state,) = stand(world)
    assert state.sent == len(receiver.taken()) and state.failure == ""


def stand(world: World) -> list[sending.State]:
    """How the outputs stand."""
    with world.store.read() as tx:
        return sending.states(tx)


class CrashError(Exception):
    """The sender's end in the middle of its work."""


def run(world: World, receiver: Receiver, rng: random.Random) -> tuple[int, int]:
    """Send everything while one side or the other is restarted at every batch; answers how often each was."""
    killed = crashed = 0
    one = sender(world, receiver)
    while True:
        fault = rng.choice(("receiver", "receiver", "acknowledged", "sender"))
        killer = None
        if fault == "receiver":
            killer = threading.Timer(rng.uniform(0.0, 0.02), receiver.kill)
            killer.start()
        try:
            with pytest.MonkeyPatch.context() as patch:
                if fault == "acknowledged":  # after the receiver's answer, before the cursor is kept
                    patch.setattr(one, "_move", _crash)
                if one.step() == 0:
                    break
        except DeliveryError:
            pass
        except CrashError:
            crashed += 1
            one.close()
            one = sender(world, receiver)
        finally:
            if killer is not None:
                killer.join()
                killed += 1
                receiver.start()
        if fault == "sender":
            crashed += 1
            one.close()
            one = sender(world, receiver)
    one.close()
    return killed, crashed


def _crash(*_: object) -> None:
    raise CrashError


@pytest.mark.parametrize("kind", SURE)
def test_nothing_is_missed_where_processes_are_killed(tmp_path: Path, kind: str) -> None:
    """``make siem-restarts`` in short: the command that people start and the receiver are killed at any moment, and go on."""
    found = restarts(tmp_path, kind, 2, 20261127)
    assert found.good and (found.sender, found.receiver) == (2, 2) and found.records >= 80


@pytest.mark.parametrize("kind", SURE)
def test_nothing_is_missed_over_restarts_of_either_side(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Receivers are killed in the middle of batches, senders after an answer they did not note: in all over a hundred times."""
    monkeypatch.setattr(sending, "BATCH", 25)
    fill(world, 1000)
    receiver = Receiver(tmp_path, kind)
    try:
        killed, crashed = run(world, receiver, random.Random(7))
    finally:
        receiver.kill()
    assert killed >= 20 and crashed >= 15 and killed + crashed >= 50
    taken, everything = receiver.taken(), expected(world)
    assert set(taken) == set(everything.items())
    assert len(taken) > len(everything), "no record came twice: nothing was tried"
    firsts = list(dict(taken))
    assert firsts == list(everything)  # what comes again never comes before what it was sent after


def test_plain_syslog_sends_the_batch_before_again_where_the_receiver_was_gone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that looks orderly proves little there: a receiver that is found gone afterwards gets what it may have lost."""
    monkeypatch.setattr(sending, "BATCH", 25)
    fill(world, 100)
    receiver = Receiver(tmp_path, "syslog")
    try:
        one = sender(world, receiver, "cef")
        assert one.step() == 25
        assert one.step() == 25
        receiver.kill()
        receiver.file.write_text(
            "".join(receiver.file.read_text().splitlines(keepends=True)[:30])
        )  # died with the rest in hand
        with pytest.raises(DeliveryError):
            one.step()
        assert "refused" in stand(world)[0].failure and 0 < one.retry_s <= 1
        receiver.start()
        while one.step():
            pass
    finally:
        receiver.kill()
    assert set(receiver.taken()) == set(expected(world).items()) and stand(world)[0].failure == ""


def test_a_receiver_that_ends_without_close_notify_is_not_believed(world: World) -> None:
    """Over TLS a connection that merely ends acknowledges nothing, unless one says that it is enough."""
    fill(world, 5)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    listener = socket.create_server(("127.0.0.1", 0))

    thread = threading.Thread(target=_abrupt, args=(listener, context, 2))
    thread.start()
    address = parse_address(f"syslog+tls://localhost:{listener.getsockname()[1]}")
    strict = Sender(world.store, "a", open_output(address, "ocsf", authority=CERTIFICATE), address.text(), "ocsf")
    with pytest.raises(DeliveryError, match="close_notify"):
        strict.step()
    lenient = open_output(address, "ocsf", authority=CERTIFICATE, accept_eof=True)
    assert Sender(world.store, "b", lenient, address.text(), "ocsf").step() == 5
    thread.join(10)
    listener.close()


def _abrupt(listener: socket.socket, context: ssl.SSLContext, times: int) -> None:
    """Read everything, and end the TCP connection under TLS."""
    for _ in range(times):
        connection, _ = listener.accept()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        done = False
        with connection:
            while not done:
                try:
                    if tls.version() is None or not tls.cipher():
                        tls.do_handshake()
                    done = tls.read(65536) == b""
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(65536))
                except ssl.SSLZeroReturnError:
                    done = True
            connection.shutdown(socket.SHUT_RDWR)


def test_a_certificate_that_is_not_trusted_gets_nothing(world: World, tmp_path: Path) -> None:
    """A receiver under another name, or of an unknown authority, is refused before a record is sent."""
    fill(world, 5)
    receiver = Receiver(tmp_path, "tls")
    try:
        address = parse_address(receiver.address)
        one = Sender(world.store, "a", open_output(address, "ocsf"), address.text(), "ocsf")
        with pytest.raises(DeliveryError, match="certificate verify failed"):
            one.step()
    finally:
        receiver.kill()
    assert receiver.taken() == []


def test_a_collector_that_takes_only_part_is_not_satisfied(world: World) -> None:
    """Refusals and partial successes are told, and the batch is sent again."""
    fill(world, 5)
    partial = b'{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old"}}'
    answers = [
        b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nwait",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(partial), partial),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65536)
                head, _, rest = data.partition(b"\r\n\r\n")
                size = int(
                    next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))[15:]
                )
                while len(rest) < size:
                    rest += connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    address = parse_address(f"otlp://127.0.0.1:{listener.getsockname()[1]}")
    one = Sender(world.store, "a", open_output(address, "ocsf"), address.text(), "otlp")
    for words in ("answers 503 Busy: wait", "rejects 2 of 5 records: too old"):
        with pytest.raises(DeliveryError, match=words):
            one.step()
        assert words in stand(world)[0].failure
    assert one.step() == 5
    thread.join(10)
    listener.close()


def test_two_processes_can_not_send_under_one_name(world: World, tmp_path: Path) -> None:
    """The second to move the cursor is told, and moves nothing."""
    fill(world, 5)
    receiver = Receiver(tmp_path, "otlp")
    try:
        first, second = sender(world, receiver), sender(world, receiver)
        assert first.step() == 5
        with pytest.raises(ConfigError, match="another process sends as test"):
            second.step()
    finally:
        receiver.kill()


def test_addresses_are_one_line_or_one_error() -> None:
    """What can't be an address, or asks for what its transport has not, says what would do."""
    assert parse_address("syslog+tls://siem.example").text() == "syslog+tls://siem.example:6514"
    assert parse_address("otlp://[::1]:4318/").text() == "otlp://[::1]:4318/v1/logs"
    wrong = (
        "", "siem.example:514", "http://x:1", "syslog://", "syslog://x:99999", "syslog://u:p@x", "syslog://x/y", "otlp://x?y=1",
    )  # fmt: skip
    for text in wrong:
        with pytest.raises(UsageError, match="expected one of"):
            parse_address(text)
    with pytest.raises(UsageError, match="use syslog\\+tls"):
        open_output(parse_address("syslog://x:1"), "ocsf", authority=CERTIFICATE)
    with pytest.raises(ConfigError, match="not usable for TLS"):
        open_output(parse_address("syslog+tls://x:1"), "ocsf", authority=HERE / "siem_receiver.py")


def test_the_commands_send_show_and_print(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``edge-registry siem send|show|print``, on both databases; a token for the collector comes from the environment."""
    world = World(tmp_path, database)
    fill(world, 20)
    receiver = Receiver(tmp_path, "otlp")
    try:
        monkeypatch.setenv("EDGE_REGISTRY_SIEM_HEADERS", "Authorization=Bearer 7")
        said = world.run("siem", "send", "--to", receiver.address, "--once")
        assert "20 records acknowledged" in said and "Bearer" not in said
        fill(world, 10, boot=2)
        assert "10 records acknowledged" in world.run("siem", "send", "--to", receiver.address, "--once")
        assert receiver.taken() == list(expected(world).items())
    finally:
        receiver.kill()
    fill(world, 10, boot=3)
    assert "refused" in world.run("siem", "send", "--to", receiver.address, "--once", code=1)
    (shown,) = json.loads(world.run("siem", "show", "--json"))
    assert (shown["name"], shown["sent"], shown["format"]) == ("siem", 30, "otlp") and "refused" in shown["failure"]
    assert "not sent" in world.run("siem", "show")
    world.close()


def test_print_gives_a_line_a_record(tmp_path: Path) -> None:
    """``siem print`` as another program reads it."""
    world = World(tmp_path, f"sqlite:///{tmp_path}/registry.db")
    fill(world, 20)
    words = [sys.executable, "-c", "from edge_registry.cli import main; main()", "siem", "print", "--format", "ecs"]
    done = subprocess.run(
        [*words, "--dir", str(world.house.folder), "--database", world.database], capture_output=True, check=True
    )
    lines = [json.loads(line)["event"]["id"] for line in done.stdout.splitlines()]
    assert lines == list(expected(world))
    world.close()
