"""What must hold of the files after anything at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_payload
from edge_monitor.journal.verify import verify
from edge_monitor.tape import read

from .writer import KEY


def payloads(journal: Path, first: int = 0) -> list[dict[str, Any]]:
    """Payloads of the records from ``first`` on."""
    with Reader(journal) as reader:
        return [decode_payload(row.payload or b"") for row in reader.rows(first)]


def check_journal(journal: Path, acknowledged: int) -> int:
    """It verifies, and the entries are 0, 1, 2 … once each, ``acknowledged`` of them at least; answers how many."""
    if acknowledged == 0 and not payloads(journal):
        return 0  # a journal without any record is under no signature
    report = verify(journal, [KEY.verifier])
    assert report.ok, report.findings
    numbers = [payload["n"] for payload in payloads(journal)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) == report.records >= acknowledged, (report.records, acknowledged)
    return report.records


def check_tape(tape: Path, journal: Path, first: int) -> int:
    """Every anchor in the records from ``first`` on whose block is still there names what the tape has.

    The last one's block is there. Answers how many were held against it.
    """
    anchors = [payload["tape"] for payload in payloads(journal, first)]
    if not anchors:
        return 0
    found = read(tape)
    assert found.damages == ()
    blocks = {block.sequence: block for block in found.blocks}
    assert anchors[-1][0] in blocks, (anchors[-1], list(blocks))
    held = 0
    for number, end, digest in anchors:
        block = blocks.get(number)
        assert block is not None or number < min(blocks)
        if block is not None:
            assert len(block.raw) >= end and block.digest(end).hex() == digest, (number, end)
            held += 1
    return held
