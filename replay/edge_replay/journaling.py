"""From events to journal entries, for replays: one boot a recording, begin and clean-end marks included."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from edge_monitor import __version__
from edge_monitor.envelope import Envelope
from edge_monitor.events import Event


def journal_writer(stack: ExitStack, path: Path, key: Path, envelope: Envelope) -> Callable[[Event, Path], None]:
    """Appends events to the journal at ``path``, signed with ``key``; closed with ``stack``.

    The begin mark of each replay names its recording.

    Raises ``ConfigError`` for an unusable key or a journal that another process writes.
    """
    from edge_monitor.journal import Digests, Journal, load_signing_key
    from edge_monitor.journaling import entry

    digests = Digests(envelope=bytes.fromhex(envelope.digest), model=b"", monitor=__version__.encode())
    journal = stack.enter_context(
        Journal.create_or_open(path, load_signing_key(key), digests=digests, boot_id=os.urandom(16))
    )

    def write(event: Event, log: Path) -> None:
        recording = {"recording": log.name} if event.type == "monitor.started" else {}
        journal.append(entry(event, **recording))

    return write
