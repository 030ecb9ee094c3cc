"""Traces out of a tape that nobody vouches for, in a process of its own: bounded in time and memory, whatever the file holds.

Reads an :class:`Order` from standard input and writes :class:`~.traces.Traces` to standard output, both as JSON. A registry
starts it for each event whose signals somebody looks at (``python -c "from edge_monitor.tape.tracing import main; main()"``).
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import msgspec

from ..errors import EdgeMonitorError
from .reader import read
from .traces import Traces, Wanted, traces

MEMORY = 1 << 30  #: bytes of address space, those of the libraries among them
SECONDS = 20  #: of processor time
LARGEST_ENVELOPE = 4 << 20


class Order(msgspec.Struct):
    """What is asked for: a tape, files among which its envelope is, and what is wanted of it."""

    tape: str
    envelopes: list[str]
    wanted: Wanted


def main() -> None:
    """Answer one order. Ends by itself when it takes too long or too much."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    try:
        found = traces(read(order.tape), [_content(path) for path in order.envelopes], order.wanted)
    except EdgeMonitorError as error:
        found = Traces(failure=str(error).replace(f"{order.tape}: ", ""))
    except MemoryError:
        found = Traces(failure="it takes more memory than a plot is worth")
    sys.stdout.buffer.write(msgspec.json.encode(found))


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as stream:
            return stream.read(LARGEST_ENVELOPE)
    except OSError:
        return b""
