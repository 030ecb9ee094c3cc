"""A vehicle that speaks MAVLink through pymavlink's own sockets, in a process of its own.

``python mavlink_vehicle.py CONNECTION [KEY]``: sends what it is told on stdin, a JSON list ``[message, {field: value}]`` a line
(``component``, ``repeat`` and ``first_version`` beside the fields say how), heartbeats by itself at 4 Hz unless ``["mute", {}]``,
and prints every message that it gets as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import select
import sys
import threading
import time

os.environ["MAVLINK20"] = "1"  # read when mavutil is loaded: else messages come without their extensions

from mavlink_frames import message
from pymavlink import mavutil


def main(connection: str, key: str = "") -> None:
    """Fly until stdin ends."""
    line = mavutil.mavlink_connection(connection, source_system=1, source_component=1, dialect="all")
    line.first_byte = False  # else the parser is made anew, without the key, when the first message comes
    if key:
        line.setup_signing(bytes.fromhex(key), sign_outgoing=True)
    heartbeat = {"type": 2, "autopilot": 3, "base_mode": 81, "custom_mode": 0, "system_status": 3, "mavlink_version": 3}
    muted, due = False, 0.0
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(
        target=lambda: [orders.put(text) for text in itertools.chain(sys.stdin, [""])], daemon=True
    ).start()
    while True:
        if time.monotonic() >= due and not muted:
            due = time.monotonic() + 0.25
            line.mav.send(message("HEARTBEAT", **heartbeat))
        select.select([line.fd], [], [], 0.005)
        while not orders.empty():
            text = orders.get()
            if not text:
                return
            name, values = json.loads(text)
            if name == "mute":
                muted = True
            elif name == "mode":
                heartbeat |= values
                muted, due = False, 0.0
            elif name == "skip":
                line.mav.seq = (line.mav.seq + values["count"]) % 256
            else:
                line.mav.srcComponent = values.pop("component", 1)
                for _ in range(values.pop("repeat", 1)):
                    line.mav.send(message(name, **values), force_mavlink1=values.pop("first_version", False))
                line.mav.srcComponent = 1
        while (got := line.recv_msg()) is not None:
            if got.get_type() != "BAD_DATA":
                told = {
                    "from": [got.get_srcSystem(), got.get_srcComponent()],
                    "signed": got.get_signed(),
                    **got.to_dict(),
                }
                print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
