"""Telemetry logs (.tlog), as ground stations write them: each MAVLink frame behind its time of receipt, µs since 1970.

The frames are found by the framer that reads a vehicle live; topics are named as they are there (docs/mavlink.md), and every
sender's are delivered. What no checksum covers are the times. Format: https://ardupilot.org/dev/docs/mission-planner-telemetry-logs.html
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edge_monitor.core.messages import Batch
from edge_monitor.core.samples import MESSAGE
from edge_monitor.mavlink.dialect import STATUSTEXT_SIZE, Dialect, dialect, topic_of
from edge_monitor.mavlink.framing import DAMAGED, DONE, SEGMENT, STRANGER, UNKNOWN, Found, Framer, instance_name
from edge_monitor.mavlink.statustext import PIECE_SIZE, Texts

from .recording import BLOCK, Item, Recording

STAMP = 8  #: bytes of the time before a frame
ROWS = 1 << 15  #: messages of a batch
EFFORT = 512  #: a wounded file may be looked at as long as it takes
DAY = 86_400_000_000_000  #: ns: one time so far from those beside it is damaged, as no checksum covers it
STREAMS = 4096  #: senders' messages that get a channel
EARLIEST, LATEST = 946_684_800_000_000, 1 << 52  #: µs since 1970 that a log may begin at


def is_tlog(head: bytes) -> bool:
    """Whether a file's first bytes hold two such records in a row."""
    return any(_record(head, at, 2) for at in range(min(len(head), 1024)))


def _record(head: bytes, at: int, count: int) -> bool:
    mark = at + STAMP
    if mark + 3 > len(head) or head[mark] not in (0xFD, 0xFE):
        return False
    if not EARLIEST < int.from_bytes(head[at:mark], "big") < LATEST:
        return False
    extra = 12 + (13 if head[mark + 2] & 1 else 0) if head[mark] == 0xFD else 8
    end = mark + extra + head[mark + 1]
    return end <= len(head) and (count == 1 or end == len(head) or _record(head, end, count - 1))


class TlogRecording(Recording):
    """A telemetry log."""

    format = "tlog"

    def _items(self) -> Iterator[Item]:
        self.messages = dialect()
        texts = Texts()
        framer = _framer(self.messages, stream=True)
        self._now, self._far = 0, 0  # time of the last message; messages whose time can't be theirs
        with self.path.open("rb") as file:
            kept, base = b"", 0
            while block := file.read(BLOCK):
                self.position = base + len(kept) + len(block)
                data = kept + block
                yield from self._walk(framer, data, base, texts)
                taken = framer.position
                kept, base = data[taken:], base + taken
        framer.last()
        yield from self._walk(framer, kept, base, texts)
        yield from self._late(framer, LATEST * 1000, texts)
        if unknown := int(framer.counts[UNKNOWN]):
            yield self.damage(f"{unknown} messages that pymavlink's dialects do not have; they are left out")
        if self._far:
            yield self.damage(
                f"{self._far} messages whose time is a day and more from those beside them; they are left out"
            )

    def _walk(self, framer: Framer, raw: bytes, base: int, texts: Texts) -> Iterator[Item]:
        data = np.frombuffer(raw, np.uint8)
        segments = np.zeros(1, SEGMENT)
        segments["end"] = len(data)
        framer.begin()
        damaged = int(framer.counts[DAMAGED])
        status = STRANGER
        while status != DONE:
            status, found = framer.parse(data, segments)
            rows = self._in_time(self._whole_texts(found, texts))
            if len(rows):
                self._now = int(rows["t"][-1])
                yield Batch(found.payloads.copy(), rows)
                yield from self._late(framer, self._now, texts)
            if status == STRANGER:
                yield from self._open(framer, found.frames[-1])
        for route in framer.routes[framer.routes["channel"] < -1]:
            self.counts[-2 - int(route["channel"])] = int(route["count"])
        garbage = framer.garbage
        if garbage is not None:
            first, last = garbage
            count = int(framer.counts[DAMAGED]) - damaged
            frames = f"{count} frames whose checksum does not hold: damaged, or of another definition of their message"
            yield self.damage(
                frames if count else "bytes that are no frame; read on behind them", base + first, base + last
            )

    def _open(self, framer: Framer, frame: np.void) -> Iterator[Item]:
        """A sender's messages that were not met before."""
        kind, system, component = (int(frame[name]) for name in ("kind", "system", "component"))
        what = self.messages.kinds[kind]
        name = instance_name(int(frame["low"]), int(frame["high"]))
        topic, instance = topic_of(what, system, component), 0
        if what.named:
            topic += f"[{name.decode('ascii', 'backslashreplace')}]"
        else:
            instance = int.from_bytes(name, "little")
        if len(self.channels) >= STREAMS:
            framer.route(kind, system, component, -1, name)
            return
        channel, new = self.table.add(topic, what.name, "packed", "ulog", what.definition, instance=instance)
        framer.route(kind, system, component, self.table.code(channel), name)
        if new:
            yield channel

    def _whole_texts(self, found: Found, texts: Texts) -> np.ndarray:
        """The rows, with texts in pieces put together where the last piece is."""
        rows, frames = found.rows, found.frames
        statustext = self.messages["STATUSTEXT"].index
        for n in np.flatnonzero(frames["kind"][: len(rows)] == statustext).tolist():
            start, system, component = int(rows[n]["start"]), int(frames[n]["system"]), int(frames[n]["component"])
            piece = found.payloads[start : start + PIECE_SIZE].tobytes()
            text = texts.take(int(rows[n]["t"]), system, component, piece)
            if text is None:
                rows["channel"][n] = -1
            else:
                found.payloads[start : start + STATUSTEXT_SIZE] = np.frombuffer(text, np.uint8)
        return rows[rows["channel"] >= 0]

    def _in_time(self, rows: np.ndarray) -> np.ndarray:
        """The rows without those whose time is far from that of both neighbours."""
        if not len(rows):
            return rows
        around = np.concatenate([[self._now or rows["t"][0]], rows["t"], rows["t"][-1:]])
        apart = np.abs(np.diff(around)) > DAY
        far = apart[:-1] & apart[1:]
        self._far += int(far.sum())
        return rows[~far]

    def _late(self, framer: Framer, now: int, texts: Texts) -> Iterator[Item]:
        """Texts whose rest has not come."""
        statustext = self.messages["STATUSTEXT"].index
        for system, component, text in texts.late(now):
            channel = framer.channel(statustext, system, component)
            if channel >= 0:
                row = np.array([(self._now, 0, len(text), channel)], MESSAGE)
                yield Batch(np.frombuffer(text, np.uint8), row)


def _framer(messages: Dialect, *, stream: bool) -> Framer:
    return Framer(messages.rows, messages.numbers, ROWS, gap=STAMP, every=True, stream=stream, effort=EFFORT)
