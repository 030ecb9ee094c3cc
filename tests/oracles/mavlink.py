"""What a MAVLink frame is, written down plainly: the oracle of ``edge_monitor.mavlink.framing``."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pymavlink.dialects.v20 import all as pymavlink


@dataclass(frozen=True)
class Frame:
    """A frame in some bytes: where, whose, and its payload with all its zeros (None: a message that nobody knows)."""

    start: int
    size: int
    sequence: int
    system: int
    component: int
    number: int
    payload: bytes | None


def _steps(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x8408 if byte & 1 else 0)
    return byte


TABLE = [_steps(byte) for byte in range(256)]


def crc(data: bytes) -> int:
    """CRC-16/MCRF4XX."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 0xFF]
    return value


def frame_at(data: bytes, at: int, gap: int = 0) -> Frame | None:
    """The whole frame that begins at ``at``, if one does; ``gap``: bytes before the next one."""
    marker = data[at]
    if marker not in (0xFE, 0xFD):
        return None
    header = 10 if marker == 0xFD else 6
    if at + header + 2 > len(data):
        return None
    length, flags = data[at + 1], data[at + 2] if marker == 0xFD else 0
    size = header + length + 2 + (13 if flags & 1 else 0)
    if at + size > len(data) or flags > 1:
        return None
    if marker == 0xFD:
        sequence, system, component = data[at + 4 : at + 7]
        number = int.from_bytes(data[at + 7 : at + 10], "little")
    else:
        sequence, system, component, number = data[at + 2 : at + 6]
    body = at + header
    message = pymavlink.mavlink_map.get(number)
    if message is None:
        end = at + size + gap
        whole = end >= len(data) or data[end] in (0xFE, 0xFD)
        return Frame(at, size, sequence, system, component, number, None) if whole else None
    if marker == 0xFE and length > message.unpacker.size:
        return None
    (sent,) = struct.unpack_from("<H", data, body + length)
    if crc(data[at + 1 : body + length] + bytes([message.crc_extra])) != sent:
        return None
    full = message.unpacker.size
    payload = data[body : body + length][:full].ljust(full, b"\0")
    return Frame(at, size, sequence, system, component, number, payload)


def frames(data: bytes) -> list[Frame]:
    """All frames of a datagram or a whole stream, and garbage passed over byte by byte."""
    found, at = [], 0
    while at < len(data):
        frame = frame_at(data, at)
        if frame is None:
            at += 1
            continue
        found.append(frame)
        at += frame.size
    return found


def records(data: bytes) -> list[tuple[str, int, bytes, int]]:
    """The messages of a telemetry log: topic, time in ns, payload, place of the record."""
    found, at = [], 0
    while at + 8 < len(data):
        stamp = int.from_bytes(data[at : at + 8], "big")
        frame = frame_at(data, at + 8, 8) if stamp < 1 << 52 else None
        if frame is None:
            at += 1
            continue
        if frame.payload is not None:
            name = pymavlink.mavlink_map[frame.number].msgname
            topic = f"mavlink/{frame.system}/{name}"
            if frame.component != 1:
                topic = f"mavlink/{frame.system}/{frame.component}/{name}"
            payload = frame.payload
            if name == "NAMED_VALUE_FLOAT":
                topic += f"[{payload[8:18].partition(bytes(1))[0].decode()}]"
            if name == "STATUSTEXT":
                assert payload[51:53] == bytes(2), "the oracle does not put pieces together"
                payload = payload[:1] + payload[1:51].partition(bytes(1))[0].ljust(254, bytes(1))
            found.append((topic, stamp * 1000, payload, at))
        at += 8 + frame.size
    return found
