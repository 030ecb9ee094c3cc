"""A publisher in a process of its own: takes orders as JSON lines on stdin, and answers each with a line.

``join`` (domain; leaves the one before), ``open`` (name, topic, type, qos, hash), ``send`` (name, message in hex), ``flood``
(name, rate a second, count: numbered ``Float64``), ``close`` (name). It ends with its input.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from typing import Any

from edge_monitor.dds.entities import Participant, Qos, Writer


def flood(writer: Writer, rate: int, count: int) -> None:
    """Numbers from 0, evenly at ``rate`` in bursts of a millisecond."""
    begun = time.monotonic()
    sent = 0
    while sent < count:
        due = min(count, int((time.monotonic() - begun) * rate) + 1)
        for number in range(sent, due):
            writer.write(struct.pack("<4sd", b"\0\1\0\0", number))
        sent = due
        time.sleep(0.001)


def main() -> None:
    """Obey until the input ends."""
    participant: Participant | None = None
    writers: dict[str, Writer] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        name = order.get("name", "")
        if order["do"] == "join":
            if participant is not None:
                participant.close()
            participant, writers = Participant(order["domain"]), {}
        elif order["do"] == "open":
            assert participant is not None
            writers[name] = participant.writer(order["topic"], order["type"], Qos(**order["qos"]), order["hash"])
        elif order["do"] == "send":
            assert writers[name].write(bytes.fromhex(order["message"]))
        elif order["do"] == "flood":
            flood(writers[name], order["rate"], order["count"])
        elif order["do"] == "close":
            writers.pop(name).close()
        print("done", flush=True)
    if participant is not None:
        participant.close()


if __name__ == "__main__":
    main()
