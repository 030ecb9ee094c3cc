"""Making the decisions of a packet again, from the black boxes in it (docs/black_box.md)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..envelope import loads
from ..errors import EdgeMonitorError
from ..journal.records import Record, decode_payload, decode_record
from ..reexecution import reexecute
from ..tape import read
from . import archive, events
from .verify import Verdict, tapes_of


def reexecute_packet(path: Path, verdict: Verdict) -> None:
    """Run each tape of a packet that verified, and add to its verdict what differs, or what could not be run."""
    packet = archive.Archive(path)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for file in tapes_of(path, Path(folder)):
                _reexecute(packet, file, verdict)
    finally:
        packet.close()


def _reexecute(packet: archive.Archive, file: Path, verdict: Verdict) -> None:
    try:
        tape = read(file)
        name = f"data/envelopes/{tape.envelope.hex()}.yaml"
        if name not in packet.names:
            verdict.missing.append(f"the envelope of black box {file.name[:16]}… is not in the packet: it was not run")
            return
        report = reexecute(loads(packet.read(name), source=name), tape, _records(packet, verdict))
    except EdgeMonitorError as error:
        verdict.failures.append(("reexecution", f"{file.name[:16]}…: {error}"))
        return
    if report.difference is not None:
        verdict.failures.append(("reexecution", f"{file.name[:16]}…: {report.difference}"))
    verdict.notes.append(f"black box {file.name[:16]}…: {report.events} events came out as they were recorded")
    verdict.missing += [f"black box {file.name[:16]}…: {damage}" for damage in report.damages]


def _records(packet: archive.Archive, verdict: Verdict) -> Iterator[tuple[Record, dict[str, Any]]]:
    for number in range(len(verdict.logs)):
        for row in events.unpack(packet.stream(f"data/logs/{number}/events.bin")):
            if row.payload is not None:
                yield decode_record(row.record), decode_payload(row.payload)
