"""Asking a running monitor: one request, one answer, over its control socket."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from ..curve_keys import Pair
from ..errors import ConfigError, UsageError
from ..sources.curve import key_fingerprint
from ..sources.links import is_guarded_by_file

RELOAD_S = 0.2  #: between questions how a reload stands
PATIENCE_MS = 8000  #: longer than a monitor waits for its journal
_FAILED = zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL


class RefusedError(UsageError):
    """The monitor answered, and did not do what was asked."""

    exit_code = 1


class Reach(NamedTuple):
    """Where a monitor answers; ``pair``: the keys to come with, on TCP, None without CURVE; ``server``: the monitor's, Z85."""

    address: str
    pair: Pair | None = None
    server: str = ""

    def __str__(self) -> str:
        return self.address


def ask(control: str | Reach, request: dict[str, Any], patience_ms: int = PATIENCE_MS) -> dict[str, Any]:
    """The monitor's answer. Raises ``ConfigError`` where none answers or keys don't fit, ``RefusedError`` where it says no."""
    reach = control if isinstance(control, Reach) else Reach(control)
    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    news = socket.get_monitor_socket(_FAILED)
    try:
        if reach.pair is not None and not is_guarded_by_file(reach.address):
            socket.curve_publickey, socket.curve_secretkey = reach.pair.public.encode(), reach.pair.secret.encode()
            socket.curve_serverkey = reach.server.encode()
        socket.connect(reach.address)
        socket.send(msgspec.msgpack.encode(request))
        _wait(socket, news, reach, patience_ms)
        answer = msgspec.msgpack.decode(socket.recv(), type=dict[str, Any])
    except zmq.ZMQError as error:
        raise ConfigError(f"{reach}: {error}; give an address such as tcp://127.0.0.1:7372") from None
    except msgspec.MsgspecError:
        raise ConfigError(f"{reach}: what answers there is no monitor; give its --control address") from None
    finally:
        socket.disable_monitor()
        context.destroy(linger=0)
    if not answer.get("ok"):
        raise RefusedError(str(answer.get("error", "refused")))
    return answer


def reload(control: str | Reach, path: Path, *, person: str = "", reason: str = "", risk: str = "") -> dict[str, Any]:
    """Have the envelope file at ``path`` put in force, and wait; answers the monitor's state then, whose ``reload`` says how
    it went: ``phase`` is ``active`` or ``rejected``. Raises as :func:`ask` does, and ``ConfigError`` for an unreadable file."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give an envelope file") from None
    order = {"command": "envelope.reload", "path": str(path.resolve()), "file": digest}
    order |= {name: value for name, value in (("person", person), ("reason", reason), ("risk", risk)) if value}
    number = ask(control, {"do": "command", "command": order})["reload"]
    while True:
        state: dict[str, Any] = ask(control, {"do": "status"})["state"]
        if state["reload"]["number"] != number:
            raise RefusedError("another envelope has been asked for since; see 'edge-monitor status'")
        if state["reload"]["phase"] in ("active", "rejected"):
            return state
        time.sleep(RELOAD_S)


def _wait(socket: zmq.Socket[bytes], news: zmq.Socket[bytes], reach: Reach, patience_ms: int) -> None:
    """Wait until an answer is there. Raises ``ConfigError`` where none comes, or none can come."""
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(news, zmq.POLLIN)
    end = time.monotonic() + patience_ms / 1e3
    while (left := end - time.monotonic()) > 0:
        ready = dict(poller.poll(left * 1e3))
        if socket in ready:
            return
        if news in ready:
            trouble = _trouble(recv_monitor_message(news)["event"], reach)
            raise ConfigError(f"{reach}: {trouble}")
    raise ConfigError(f"{reach}: no monitor answers; is it running, and is this its --control address?")


def _trouble(event: int, reach: Reach) -> str:
    if reach.pair is None:
        return "the monitor asks for CURVE keys: give --curve-key and --server-key"
    if event == zmq.Event.HANDSHAKE_FAILED_AUTH:
        mine = f"{reach.pair.name} ({key_fingerprint(reach.pair.public)})"
        return f"the monitor refuses the key of {mine}: have it put on its list of --peers, with the right 'control'"
    if event == zmq.Event.HANDSHAKE_FAILED_PROTOCOL:
        return "the monitor there has no CURVE keys: leave out --curve-key and --server-key, or give it some"
    return "the monitor there has another key than --server-key says: give that monitor's .curve.pub file"
