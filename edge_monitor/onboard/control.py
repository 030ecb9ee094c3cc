"""The control socket's requests and answers: MessagePack maps, ``{"do": verb, …}`` → ``{"ok": true, …}``.

Verbs: ``go`` (gate), ``status``; and the commands of ``core.commands``. Nothing in a request is trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ..errors import EdgeMonitorError
from .publication import Publication

LARGEST = 1 << 16  #: bytes of a request
Answer = dict[str, Any]


class Control:
    """Answers requests on behalf of a loop."""

    def __init__(self, publication: Publication, status: Callable[[int], bytes]) -> None:
        """``status``: publishes the state at a time (ns) and answers it."""
        self._publication = publication
        self._status = status
        self._gates = tuple(publication.gates)

    def __call__(self, request: bytes, now: int) -> bytes:
        """The answer to a request that came at ``now`` (ns). Never raises for what is in the request."""
        try:
            return msgspec.msgpack.encode(self._do(self._parsed(request), now))
        except EdgeMonitorError as error:
            return msgspec.msgpack.encode({"ok": False, "error": str(error)})

    def _parsed(self, request: bytes) -> dict[str, Any]:
        if len(request) > LARGEST:
            raise EdgeMonitorError(f"a request has {LARGEST} bytes at most, this one {len(request)}")
        try:
            document = msgspec.msgpack.decode(request, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise EdgeMonitorError("a request is a MessagePack map with text keys, such as {'do': 'status'}") from None
        return document

    def _do(self, request: dict[str, Any], now: int) -> Answer:
        verb = request.get("do")
        if verb == "go":
            gate = request.get("gate")
            if gate not in self._gates:
                raise EdgeMonitorError(f"no gate is named {gate!r}; there is {', '.join(self._gates) or 'none'}")
            return {"ok": True, **self._publication.answer(str(gate))}
        if verb == "status":
            return {"ok": True, "state": msgspec.Raw(self._status(now))}
        raise EdgeMonitorError(f"there is no verb {verb!r}; there is: go, status")
