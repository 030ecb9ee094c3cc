"""CURVE keys and the list of peers as files, and what is told of keys that are refused."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from edge_monitor.curve_keys import Keys, load_pair, load_peers, load_public, make_pair
from edge_monitor.errors import ConfigError
from edge_monitor.onboard.access import NAMED, Access
from edge_monitor.sources.addresses import open_sources, parse
from edge_monitor.sources.curve import guard, is_key, key_fingerprint
from edge_monitor.sources.wanted import Wanted

S = 1_000_000_000


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """A robot's keys, with a camera that may publish and be connected to, and a ground station."""
    lines = []
    for name, rights in (("camera", "publish tcp://127.0.0.1:5"), ("ground", "listen control"), ("robot", "")):
        line = make_pair(name, tmp_path)[1].read_text().strip()
        lines += [f"{line} {rights}"] if rights else []
    (tmp_path / "peers").write_text("# who may connect\n\n" + "\n".join(lines) + "\n")
    return Keys(load_pair(tmp_path / "robot.curve"), load_peers(tmp_path / "peers"))


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    """A context; its sockets are closed at the end, whatever happens."""
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


def test_a_pair_is_made_once_and_its_secret_is_its_owner_s(tmp_path: Path) -> None:
    """The secret has mode 0600 whatever the umask, does not show in a repr, and no file is written over."""
    before = os.umask(0)
    try:
        secret, public = make_pair("robot-7", tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    pair = load_pair(secret)
    assert pair.name == "robot-7" and load_public(public) == pair.public and pair.secret not in repr(pair)
    assert z85.decode(pair.public) != z85.decode(pair.secret)
    with pytest.raises(ConfigError, match="never overwritten"):
        make_pair("robot-7", tmp_path)
    with pytest.raises(ConfigError, match="letters"):
        make_pair("../robot", tmp_path)


def test_what_is_no_key_file_is_said_in_one_line(tmp_path: Path) -> None:
    """Public for secret, secret for public, a broken pair, an open file, none at all: each with how to mend it."""
    secret, public = make_pair("a", tmp_path)
    other, _ = make_pair("b", tmp_path)
    words, others = secret.read_text().split(), other.read_text().split()
    mixed = tmp_path / "mixed.curve"
    mixed.write_text(" ".join([*words[:3], others[3]]))
    mixed.chmod(0o600)
    other.chmod(0o640)
    for load, path, told in (
        (load_pair, public, "give the .curve file"), (load_public, secret, "secret"), (load_pair, mixed, "no pair"),
        (load_pair, other, "chmod 600"), (load_pair, tmp_path / "none", "No such file"), (load_public, Path("/bin/sh"), "not a"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert told in str(caught.value) and "\n" not in str(caught.value)
    assert not is_key("#" * 40) and not is_key("x" * 39) and not is_key("ä" * 40)


def test_every_problem_of_the_list_is_named_with_its_line(tmp_path: Path) -> None:
    """No key, no name, no right, a wrong right, a key and an address twice; and a list that others could change."""
    one, two = (make_pair(name, tmp_path)[1].read_text().split()[0] for name in "ab")
    path = tmp_path / "peers"
    path.write_text(
        f"garbage\n{one}\n{one} a listen fly\n{two} b tcp://127.0.0.1:1\n"
        f"{make_pair('c', tmp_path)[1].read_text().split()[0]} c tcp://127.0.0.1:1\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_peers(path)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[1] for line in lines] == ["1", "2", "2", "3", "3", "5"]
    assert "'garbage'" in lines[0] and "line 2" in lines[3] and "'fly'" in lines[4] and "another key" in lines[5]
    path.write_text(f"{one} a listen\n")
    path.chmod(0o664)
    with pytest.raises(ConfigError, match="go-w"):
        load_peers(path)


def test_without_a_gatekeeper_nobody_passes(context: zmq.Context, keys: Keys) -> None:
    """A guarded socket admits nobody while nobody answers for it: ZeroMQ's own default would admit everybody."""
    server, client = context.socket(zmq.PULL), zmq.Context.instance().socket(zmq.PUSH)
    guard(server, keys.pair.public, keys.pair.secret, "publish")
    port = server.bind_to_random_port("tcp://127.0.0.1")
    public, secret = zmq.curve_keypair()
    client.curve_publickey, client.curve_secretkey, client.curve_serverkey = public, secret, keys.pair.public.encode()
    client.linger = 0
    client.connect(f"tcp://127.0.0.1:{port}")
    client.send(b"hello")
    assert not server.poll(500)
    client.close()


def test_plain_sockets_beyond_this_machine_are_refused(context: zmq.Context, keys: Keys) -> None:
    """``--publish`` and ``--control`` on the network need keys or the flag; a wrong or taken address is named."""
    access = Access(context, None)
    for address in ("tcp://0.0.0.0:*", "tcp://*:*"):
        with pytest.raises(ConfigError, match="--curve-key"):
            access.publisher(address)
        assert Access(context, None, plain=True).control(address) is not None
    with pytest.raises(ConfigError, match="--control nonsense"):
        access.control("nonsense")
    taken = access.publisher("tcp://127.0.0.1:*").address
    with pytest.raises(ConfigError, match="--control"):
        access.control(taken)
    with_keys = Access(context, keys)
    assert with_keys.publisher("tcp://0.0.0.0:*").address.startswith("tcp://0.0.0.0:")
    assert with_keys.control("tcp://127.0.0.1:*").curve_server


def test_ipc_is_guarded_by_files_and_abstract_names_by_keys(context: zmq.Context, keys: Keys, tmp_path: Path) -> None:
    """With keys, ``ipc://`` in a folder stays plain, and ``ipc://@name``, which anyone here could open, does not."""
    access = Access(context, keys)
    assert not access.control(f"ipc://{tmp_path}/c").curve_server
    assert access.control(f"ipc://@edge-monitor-{os.getpid()}").curve_server
    texts = [
        f"bind-pull:ipc://{tmp_path}/in",
        f"bind-pull:ipc://@edge-monitor-in-{os.getpid()}",
        "sub:tcp://127.0.0.1:6",
    ]
    texts += ["sub:tcp://127.0.0.1:5", "bind-sub:tcp://127.0.0.1:*"]
    (source,) = open_sources(
        [parse(text) for text in texts], [Wanted("/t")], lambda: 0, curve=keys.inputs, servers=keys.peers.servers
    )
    assert [socket.mechanism for socket in source.sockets[:5]] == [
        zmq.NULL, zmq.CURVE, zmq.NULL, zmq.CURVE, zmq.CURVE
    ]  # fmt: skip
    source.close()
    with pytest.raises(ConfigError, match=r"tcp://192\.0\.2\.1:5"):
        open_sources([parse("sub:tcp://192.0.2.1:5")], [Wanted("/t")], lambda: 0, curve=keys.inputs)


def test_refusals_are_one_event_a_second_with_a_few_names(context: zmq.Context, keys: Keys) -> None:
    """A key that is known for another door is named; a storm of keys is an event a second that says how many more."""
    access = Access(context, keys)
    asker = context.socket(zmq.REQ)
    asker.connect("inproc://zeromq.zap.01")

    def ask(key: bytes, door: str, now: int) -> tuple[bytes, object]:
        asker.send_multipart([b"1.0", b"1", f"edge-monitor/{door}".encode(), b"10.0.0.9", b"", b"CURVE", key])
        events = access.attend(now)
        return asker.recv_multipart()[2], events[0] if events else None

    doors = keys.peers.doors
    ground, camera = next(iter(doors["control"])), next(iter(doors["publish"]))
    assert ask(z85.decode(ground), "control", 0) == (b"200", None)
    status, event = ask(z85.decode(camera), "control", 1)
    assert status == b"400" and event is not None and event.type == "access.refused"
    assert event.payload["refused"] == [
        {"door": "control", "key": key_fingerprint(camera), "name": "camera", "address": "10.0.0.9", "times": 1}
    ]
    for number in range(20):
        assert ask(struct.pack("<Q24x", number), "listen", 2 + number) == (b"400", None)
    (event,) = access.attend(1 + S)
    assert len(event.payload["refused"]) == NAMED and event.payload["more"] == 20 - NAMED
    assert access.attend(2 + 2 * S) == []
