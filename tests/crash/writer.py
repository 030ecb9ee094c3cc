"""The process that crashes: ``Scribe`` over a real journal and, with tapes, a ``Ring``, as ``edge-monitor run`` has them.

``python writer.py JOURNAL TAPE FIRST COUNT PAD`` (TAPE ``-``: none) appends COUNT entries numbered from FIRST, and tells on
stdout, a line each: ``open SECONDS``, ``ack N`` once entry N is durable, ``failed WHY``, ``closed``.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from edge_monitor.errors import EdgeMonitorError
from edge_monitor.journal import Entry, Journal, Severity
from edge_monitor.journal.keys import SigningKey
from edge_monitor.onboard.scribe import Scribe

KEY = SigningKey("robot", bytes(range(32)))
BOOT = bytes(16)
RING, OPEN = 1 << 16, 1 << 13
AHEAD = 8  #: entries that may wait
PAD = 2_000  #: bytes of every 20th payload


def tell(*words: object) -> None:
    """One line, in one write: it arrives whole or not at all."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Tapes:
    """A ring and what is fed to it: entries whose bytes follow from block and place."""

    def __init__(self, path: Path) -> None:
        from edge_monitor.tape import Kind, Ring  # costs a second, and runs without a tape do without

        self.kind = Kind.ITEMS
        self.ring = Ring(path, boot=BOOT, envelope=bytes(32), plan=bytes(32), size=RING, open_size=OPEN)
        self.ring.turn(b"snapshot 0", 0)

    def feed(self, n: int) -> list[object]:
        """Write entry ``n``, and answer the anchor after it."""
        payload = n.to_bytes(8, "little") * (10 + n * 7 % 120)
        if not self.ring.fits(len(payload) + 64, 0):
            self.ring.turn(b"snapshot %d" % n, n)
        self.ring.append(self.kind, payload, n)
        block, end, digest = self.ring.anchor()
        return [block, end, digest.hex()]


def numbered(n: int, anchor: list[object] | None, pad: int = PAD) -> Entry:
    """Entry ``n``; each third asks for a commit of its own."""
    payload: dict[str, Any] = {"n": n, "pad": "x" * (pad if n % 20 == 19 else n * 37 % 700)}
    if anchor is not None:
        payload["tape"] = anchor
    return Entry("check.fail", Severity.CRITICAL, n, n, payload, now=n % 3 == 0)


def write(journal: Path, tape: Path | None, first: int, count: int | None = None, pad: int = PAD) -> None:
    """Run until killed, or until ``count`` entries are durable; then close."""
    begun = time.monotonic()
    tapes = Tapes(tape) if tape is not None else None
    begun_opening = time.monotonic()
    scribe = Scribe(lambda: Journal.create_or_open(journal, KEY), before=tapes.ring.sync if tapes else None)
    tell("open", time.monotonic() - begun_opening, begun_opening - begun)
    n, failed, acknowledged = first, "", first
    while count is None or acknowledged < first + count:
        if n - acknowledged < AHEAD and (count is None or n < first + count):
            if scribe.put(numbered(n, tapes.feed(n) if tapes else None, pad), n) is None:
                raise AssertionError("the queue is full")
            n += 1
        else:
            time.sleep(0.001)
            if failed and tapes is not None:
                tapes.feed(n)  # the engine goes on whatever the disk does
        for ticket in scribe.durable():
            tell("ack", first + ticket)
            acknowledged = first + ticket + 1
        failure = scribe.health().failure
        if failure != failed:
            failed = failure
            tell("failed", failure)
    if not scribe.close():
        raise AssertionError(f"the journal did not close: {scribe.health()}")
    if tapes is not None:
        tapes.ring.close()
    tell("closed")


def main(arguments: list[str]) -> int:
    """The program."""
    journal, tape, *numbers = arguments
    try:
        write(Path(journal), None if tape == "-" else Path(tape), *map(int, numbers))
    except EdgeMonitorError as error:
        tell("refused", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
