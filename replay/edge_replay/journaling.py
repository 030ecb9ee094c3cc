"""A replay's events in a signed journal, and what they were decided of on a tape beside it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edge_monitor import __version__
from edge_monitor.envelope import Envelope
from edge_monitor.events import Event
from edge_monitor.reexecution import BESIDE
from edge_monitor.runtime import Monitor
from edge_monitor.tape import Ring

MIB = 1 << 20


class JournalSink:
    """Appends events to the journal at ``path``, signed with ``key``; closed with ``stack``.

    The begin mark of each replay names its recording. Raises ``ConfigError`` for an unusable key or a journal that
    another process writes.
    """

    def __init__(self, stack: ExitStack, path: Path, key: Path, envelope: Envelope, tape: Path | None = None) -> None:
        """``tape``: a file to make, for one recording."""
        from edge_monitor.journal import Digests, Journal, load_signing_key

        self._stack = stack
        self._envelope = envelope
        self._boot = os.urandom(16)
        self._tape = tape
        self._ring: Ring | None = None
        self._told = 0
        digests = Digests(envelope=bytes.fromhex(envelope.digest), model=b"", monitor=__version__.encode())
        self._journal = stack.enter_context(
            Journal.create_or_open(path, load_signing_key(key), digests=digests, boot_id=self._boot)
        )

    def record(self, monitor: Monitor, size: int) -> None:
        """Write what ``monitor`` is fed to the tape; ``size``: of the recording, bytes, which bounds what it needs."""
        if self._tape is None:
            return
        self._ring = Ring(
            self._tape,
            boot=self._boot,
            envelope=bytes.fromhex(self._envelope.digest),
            plan=bytes.fromhex(monitor.plan.digest()),
            size=max(16 * MIB, 8 * size),
        )
        self._stack.callback(self._ring.close)
        monitor.record(self._ring)

    def __call__(self, event: Event, log: Path) -> None:
        from edge_monitor.journaling import entry

        beside: dict[str, Any] = {"recording": log.name} if event.type == "monitor.started" else {}
        if self._ring is not None:
            block, end, digest = self._ring.anchor()
            beside[BESIDE] = {"event": self._told, "tape": [block, end, digest.hex()]}
        self._told += 1
        self._journal.append(entry(event, **beside))
