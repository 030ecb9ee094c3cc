"""``RawRecorder``: messages of chosen topics as they came, in a ring of MCAP files, by a thread of its own.

The engine's thread copies them into a bounded queue and never waits; what does not fit, or the disk refuses, is counted by
topic and told. A chunk is closed after a second or a mebibyte: so much a killed process loses.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..core.messages import Batch, Channel
from ..core.samples import Cause
from ..events import Event
from ..raw.mcap_file import LATCHED, McapFile, McapSource
from ..raw.mcap_records import ENTRY, ChunkBuilder, channel, schema
from ..raw.window import repeated
from ..tape.windows import FOREVER

QUEUE = 32 << 20  #: bytes that may wait
CHUNK_BYTES, CHUNK_NS = 1 << 20, 1_000_000_000
FILES = 16  #: that the ring has, about
TOLD_NS = 10_000_000_000  #: between events about what was dropped
BINS = "edge-monitor bins"  #: encoding of a schema that says which bins of MessagePack are numbers


class RawRecorder:
    """Writes one run. ``take``, ``news`` and ``status`` are the engine thread's."""

    def __init__(
        self, folder: Path, boot: bytes, topics: Collection[str], latched: Collection[str], *, size: int = 256 << 20,
        queue: int = QUEUE,
    ) -> None:  # fmt: skip
        """``size``: bytes of all files; the oldest are removed beyond it. ``latched``: of ``topics``, those whose last
        message each file begins with. Raises ``OSError`` where the folder can't be made."""
        self.folder = folder
        self.keep_from = (
            FOREVER  #: files with messages of this time (ns) or later are not removed yet, within twice the size
        )
        self._boot = boot
        self._topics, self._latched = frozenset(topics), frozenset(latched)
        self._size = size
        self._file_size = max(1 << 20, size // FILES)
        self._queue_size = queue
        self._wanted = np.zeros(0, bool)  # by channel
        self._names: dict[int, str] = {}
        self._lock = threading.Condition()
        self._queue: deque[Channel | tuple[bytes, np.ndarray]] = deque()
        self._waiting = 0
        self._dropped: Counter[str] = Counter()
        self._dropped_all = 0
        self._why = ""
        self._next_news = 0
        self._failure = ""
        self._flush = self._closing = False
        folder.mkdir(parents=True, exist_ok=True)
        # The thread's own:
        self._file: McapFile | None = None
        self._number = 0
        self._records: dict[int, tuple[bytes, bytes]] = {}  # schema and channel, by the channel's number in the files
        self._numbers: dict[int, int] = {}
        self._sequences: Counter[int] = Counter()
        self._held: dict[int, tuple[int, int, bytes]] = {}  # last messages of latched channels
        self._before: dict[int, tuple[int, int, bytes]] = {}  # the same when the open chunk began
        self._holding: set[int] = set()  # latched channels
        self._chunk = ChunkBuilder()
        self._due = 0.0
        self._ends: dict[Path, int] = {}  # time of the last message of each file of this run
        self._written = 0
        self._thread = threading.Thread(target=self._run, name="raw", daemon=True)
        self._thread.start()

    # The engine's thread.

    def take(self, item: Channel | Batch) -> None:
        """Copy what belongs to the topics."""
        if isinstance(item, Channel):
            if item.topic in self._topics:
                if item.id >= len(self._wanted):
                    self._wanted = np.concatenate([self._wanted, np.zeros(item.id + 16 - len(self._wanted), bool)])
                self._wanted[item.id] = True
                self._names[item.id] = item.topic
                with self._lock:
                    self._queue.append(item)
            return
        channels = item.messages["channel"]
        if not len(self._wanted):
            return
        chosen = (channels < len(self._wanted)) & self._wanted[np.minimum(channels, len(self._wanted) - 1)]
        if not chosen.any():
            return
        data, rows = compact(item.data, item.messages[chosen])
        with self._lock:
            if self._waiting and self._waiting + len(data) > self._queue_size:
                self._drop(rows["channel"], "the queue was full: the disk is behind")
                return
            self._queue.append((data, rows))
            self._waiting += len(data)
            self._lock.notify()

    def tell(self, topic: str, cause: Cause, message: str, t: int) -> Event:
        """What the source says at ``t`` (ns) of a topic that no signal reads."""
        payload = {"signals": [], "cause": cause.name.lower() if cause else "", "message": message}
        if cause:
            return Event("input.lost", topic, t, t, "marginal", payload)
        return Event("input.restored", topic, t, t, "negligible", payload)

    def news(self, now: int) -> list[Event]:
        """What was dropped since the last event, every ten seconds at most."""
        if not self._dropped or now < self._next_news:
            return []
        self._next_news = now + TOLD_NS
        with self._lock:
            dropped, self._dropped = dict(sorted(self._dropped.items())), Counter()
            payload = {"dropped": dropped, "cause": f"raw messages were dropped: {self._why}"}
        return [Event("monitor.degraded", "raw", now, now, "marginal", payload)]

    def status(self) -> dict[str, Any]:
        """Messages written and dropped so far, and why the disk refuses them (empty: it does not)."""
        failure = self._failure if self._thread.is_alive() else "the thread that writes them has ended"
        return {"written": self._written, "dropped": self._dropped_all, "failure": failure}

    def close(self, patience: float = 5.0) -> None:
        """Write what waits, and give the last file its end."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join(patience)

    # Other threads.

    def flush(self, patience: float = 2.0) -> None:
        """Put what has come so far into the file."""
        with self._lock:
            self._flush = True
            self._lock.notify()
            self._lock.wait_for(lambda: not self._flush or not self._thread.is_alive(), patience)

    # The recorder's thread.

    def _run(self) -> None:
        self._mend()
        while True:
            with self._lock:
                self._lock.wait_for(
                    lambda: self._queue or self._flush or self._closing,
                    max(0.0, self._due - time.monotonic()) if self._chunk.entries else None,
                )
                items = [self._queue.popleft() for _ in range(len(self._queue))]
                flush, closing = self._flush, self._closing
            for item in items:
                if isinstance(item, Channel):
                    self._describe(item)
                else:
                    self._write(*item)
                    with self._lock:
                        self._waiting -= len(item[0])
            if self._chunk.entries and (flush or closing or time.monotonic() >= self._due):
                self._end_chunk()
            with self._lock:
                self._flush = self._flush and not flush
                self._lock.notify_all()
                if closing and not self._queue:
                    break
        with suppress(OSError):
            if self._file is not None:
                self._file.close()

    def _describe(self, item: Channel) -> None:
        number = len(self._records) + 1
        self._numbers[item.id] = number
        metadata = {"latched": "true"} if item.topic in self._latched else {}
        encoding, text = item.schema, item.definition
        if encoding == "none":
            encoding = BINS if text else ""
        made = schema(number, item.type, encoding, text), channel(number, number, item.topic, item.encoding, metadata)
        self._records[number] = made
        if metadata:
            self._holding.add(number)

    def _write(self, data: bytes, rows: np.ndarray) -> None:
        view = memoryview(data)
        for t, start, size, number in rows.tolist():
            place = self._numbers[number]
            if self._chunk.entries and t - self._chunk.start >= CHUNK_NS:  # time may run faster than the wall's
                self._end_chunk()
            payload = view[start : start + size]
            self._sequences[place] += 1
            if not self._chunk.entries:
                self._due, self._before = time.monotonic() + CHUNK_NS / 1e9, dict(self._held)
            self._chunk.add(place, self._sequences[place] & 0xFFFFFFFF, t, t, payload)
            if place in self._holding:
                self._held[place] = self._sequences[place] & 0xFFFFFFFF, t, bytes(payload)
            if len(self._chunk.records) >= CHUNK_BYTES:
                self._end_chunk()

    def _end_chunk(self) -> None:
        """Write the chunk that is open; begin another file where this one is full."""
        chunk, self._chunk = self._chunk, ChunkBuilder()
        counts = {place: len(entries) // ENTRY.size for place, entries in chunk.entries.items()}
        try:
            if self._file is not None and self._file.size > self._file_size:
                full, self._file = self._file, None
                full.close()
            if self._file is None:
                self._file = self._begin(chunk.start)
                self._trim()
            for described in self._records.values():
                self._file.describe(*described)
            self._file.add(chunk)
        except OSError as error:
            self._lost(counts, error.strerror or str(error))
            return
        self._ends[self._file.path] = chunk.end
        self._written += sum(counts.values())
        self._failure = ""

    def _begin(self, t: int) -> McapFile:
        """Another file, which begins with the last messages of latched channels from before ``t`` (ns)."""
        self._number += 1
        path = self.folder / f"{self._boot.hex()[:8]}-{self._number:06d}.mcap"
        about = {"boot": self._boot.hex(), "clock": "CLOCK_BOOTTIME", "wall_ns": str(time.time_ns()),
                 "boottime_ns": str(time.clock_gettime_ns(time.CLOCK_BOOTTIME))}  # fmt: skip
        file = McapFile(path, about)
        try:
            if self._before:
                for place in self._before:
                    file.describe(*self._records[place])
                file.say(LATCHED, {})
                file.add(repeated(self._before, t))
        except OSError:
            file.close(whole=False)
            path.unlink()
            raise
        return file

    def _trim(self) -> None:
        """Remove the oldest files beyond the size: those that a window needs only beyond twice of it."""
        own = self._file.path if self._file is not None else None
        files = sorted(
            (path for path in self.folder.glob("*.mcap") if path != own),
            key=lambda path: (path.stat().st_mtime_ns, path.name),
        )
        total = sum(path.stat().st_size for path in files) + self._file_size
        for path in files:
            needed = self._ends.get(path, 0) >= self.keep_from
            if total <= self._size or (needed and total <= 2 * self._size):
                return
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
            self._ends.pop(path, None)

    def _mend(self) -> None:
        """Give the files of runs that were cut off their end."""
        for path in self.folder.glob("*.mcap"):
            with suppress(OSError), McapSource(path) as source:
                if not source.whole() and not source.written():
                    source.mend()

    def _lost(self, messages: dict[int, int], why: str) -> None:
        topics = {self._numbers[number]: topic for number, topic in self._names.items() if number in self._numbers}
        with self._lock:
            self._failure = self._why = why
            for place, count in messages.items():
                self._dropped[topics[place]] += count
                self._dropped_all += count

    def _drop(self, channels: np.ndarray, why: str) -> None:
        self._why = why
        for number, count in zip(*np.unique(channels, return_counts=True), strict=True):
            self._dropped[self._names[int(number)]] += int(count)
            self._dropped_all += int(count)


def compact(data: np.ndarray, rows: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Copies of rows' bytes, and rows that point into them."""
    rows = rows.copy()
    first, last = int(rows["start"].min()), int((rows["start"] + rows["size"]).max())
    sizes = rows["size"].astype(np.int64)
    if last - first <= 2 * int(sizes.sum()):
        rows["start"] -= first
        return data[first:last].tobytes(), rows
    pieces = [
        data[start : start + size].tobytes() for start, size in zip(rows["start"].tolist(), sizes.tolist(), strict=True)
    ]
    rows["start"] = np.concatenate(([0], np.cumsum(sizes[:-1])))
    return b"".join(pieces), rows
