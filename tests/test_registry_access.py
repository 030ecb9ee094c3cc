"""Who gets into a registry: each wrong key has a status of its own, and the robot recovers by itself once it is let in."""

# ruff: noqa: F811  (fixtures of another file)

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
import zmq
from test_registry_server import (  # noqa: F401
    IDENTITY,
    Running,
    enrol,
    journal,
    linked,
    load_link,
    registry,
    until,
    write,
    zmq_pair,
)  # fmt: skip

from edge_monitor.journal import Journal
from edge_monitor.journal.cosignatures import cosigner_of
from edge_monitor.journal.keys import SigningKey
from edge_monitor.sync.uplink import Registry, Uplink
from edge_registry import tables as t


@pytest.fixture
def database(tmp_path: Path) -> str:
    """SQLite alone: who gets in is not the database's affair."""
    return f"sqlite:///{tmp_path}/registry.db"


def state(running: Running, value: str) -> None:
    """What the registry thinks of the robot."""
    with running.store.begin() as tx:
        tx.connection.execute(sa.update(t.robots).values(state=value))


def test_a_revoked_robot_is_told_so_and_goes_on_once_it_is_active_again(
    registry: Running,
    journal: Journal,
    tmp_path: Path,
) -> None:
    """Revoked within a session: its batches are refused as ``revoked``, then its key stays out; nothing is lost by it."""
    enrol(registry.token(), IDENTITY, tmp_path / "link")
    uplink = linked(registry, journal, load_link(tmp_path / "link"))
    until(lambda: uplink.progress.receipted == journal.size)
    state(registry, "revoked")
    held = journal.size
    write(journal, 50)
    until(lambda: uplink.progress.refusal is not None and uplink.progress.refusal.code in ("revoked", "unknown"))
    assert any("revoked" in words for words in registry.said)
    until(lambda: uplink.progress.refusal is not None and uplink.progress.refusal.code == "unknown")
    assert uplink.progress.receipted == held
    state(registry, "active")
    until(lambda: uplink.progress.receipted == journal.size, 60)
    uplink.stop()


def test_a_wrong_server_key_and_a_wrong_receipt_key_are_statuses_of_their_own(
    registry: Running,
    journal: Journal,
    tmp_path: Path,
) -> None:
    """A registry with another CURVE key gets no handshake, and one with another receipt key is not believed."""
    enrol(registry.token(), IDENTITY, tmp_path / "link")
    link = load_link(tmp_path / "link")
    words = {}
    for name, wrong in (
        ("server", replace(link, server=zmq_pair()[0])),
        ("receipts", replace(link, receipts=cosigner_of(SigningKey("registry", bytes(32))))),
    ):
        uplink = refused(wrong, journal)
        assert uplink.progress.refusal is not None and uplink.progress.receipted == 0
        words[name] = (uplink.progress.refusal.code, uplink.progress.refusal.words)
    assert words["server"][0] == "link" and "CURVE key" in words["server"][1]
    assert words["receipts"][0] == "malformed" and "cosignature" in words["receipts"][1]


def refused(link: Registry, journal: Journal) -> Uplink:
    """An uplink after its first refusal that is about the link's keys."""
    uplink = Uplink(link, journal.path, bytes(16), "test", lambda note: None)
    uplink.start()
    until(lambda: uplink.progress.refusal is not None and uplink.progress.refusal.words != "the connection broke")
    uplink.stop()
    return uplink


def test_who_comes_without_curve_gets_nothing(registry: Running) -> None:
    """NULL and PLAIN clients, and one with a secret that does not belong to its public key, get no answer."""
    public, _ = zmq_pair()
    for how in ("null", "plain", "stolen name"):
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            if how == "plain":
                socket.plain_username, socket.plain_password = b"robot", b"x"
            if how == "stolen name":
                socket.curve_serverkey = registry.curve[0].encode()
                socket.curve_publickey, socket.curve_secretkey = public.encode(), zmq_pair()[1].encode()
            socket.connect(registry.addresses.sync)
            socket.send(b"anything")
            assert not socket.poll(300)
    time.sleep(0.1)
    assert registry.server.counts.messages == 0
