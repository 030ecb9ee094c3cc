"""Asking a running monitor: one request, one answer, over its control socket."""

from __future__ import annotations

from typing import Any

import msgspec
import zmq

from ..errors import ConfigError, UsageError

PATIENCE_MS = 8000  #: longer than a monitor waits for its journal


class RefusedError(UsageError):
    """The monitor answered, and did not do what was asked."""

    exit_code = 1


def ask(address: str, request: dict[str, Any], patience_ms: int = PATIENCE_MS) -> dict[str, Any]:
    """The monitor's answer. Raises ``ConfigError`` where none answers, ``RefusedError`` where it says no."""
    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    try:
        socket.connect(address)
        socket.send(msgspec.msgpack.encode(request))
        if not socket.poll(patience_ms):
            raise ConfigError(f"{address}: no monitor answers; is it running, and is this its --control address?")
        answer = msgspec.msgpack.decode(socket.recv(), type=dict[str, Any])
    except zmq.ZMQError as error:
        raise ConfigError(f"{address}: {error}; give an address such as tcp://127.0.0.1:7372") from None
    except msgspec.MsgspecError:
        raise ConfigError(f"{address}: what answers there is no monitor; give its --control address") from None
    finally:
        context.destroy(linger=0)
    if not answer.get("ok"):
        raise RefusedError(str(answer.get("error", "refused")))
    return answer
