"""PX4 ULog: an own walk over the records, framing regained after damage, topics merged by stamp.

A ULog has no checksums and no receive times. What can be held against each other is: record lengths, formats,
subscriptions, sync marks, and the stamps themselves (``ulog_time``). After a record that can't be one, reading goes on
where what follows fits, else at the next sync record, as the format's specification has it.
Format: https://docs.px4.io/main/en/dev_log/ulog_file_format.html
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_monitor.core.jit import kernel
from edge_monitor.core.messages import Batch
from edge_monitor.core.samples import MESSAGE, Cause

from .kernels import u16, u32
from .recording import Bytes, Item, MalformedError, Recording
from .ulog_formats import TEXT_FORMAT, TEXT_SIZE, Formats
from .ulog_time import order_by_stamp

SYNC = bytes.fromhex("2f731320250cbb12")
HEADER_SIZE = 16
ROWS = 1 << 16  #: rows of a batch
CHAIN = 4  #: records in a row that must fit before a position counts as the start of one

DATA, SYNC_MARK, PARAMETER, DEFAULT, INFO, MULTI_INFO, REMOVED = (ord(c) for c in "DSPQIMR")
FLAGS, FORMAT, SUBSCRIPTION, TEXT, TAGGED_TEXT, DROPOUT = (ord(c) for c in "BFALCO")
END, OTHER, SHORT, BAD, FULL = range(5)  #: why a walk stopped


@kernel
def fits(data: Bytes, at: int, end: int, least: np.ndarray, most: np.ndarray) -> int:
    """Where the record at ``at`` ends, if it can be one; -1 if not, -2 where only the end of the data is in the way."""
    if at + 3 > end:
        return -2
    size = u16(data, at)
    kind = data[at + 2]
    after = at + 3 + size
    if kind == DATA:
        if size < 2 or at + 5 > end:
            return -1 if size < 2 else -2
        number = u16(data, at + 3)
        if least[number] < 0 or size - 2 < least[number] or size - 2 > most[number]:
            return -1
    elif kind == SYNC_MARK:
        if size != 8 or (at + 4 <= end and data[at + 3] != 0x2F):
            return -1
    elif kind == PARAMETER:
        if size < 6 or (at + 4 <= end and data[at + 3] + 5 != size):
            return -1
    elif kind == DEFAULT:
        if size < 7 or (at + 5 <= end and data[at + 4] + 6 != size):
            return -1
    elif kind == INFO:
        if size < 3 or (at + 4 <= end and data[at + 3] + 1 > size):
            return -1
    elif kind == MULTI_INFO:
        if size < 4 or (at + 5 <= end and data[at + 4] + 2 > size):
            return -1
    elif kind == DROPOUT or kind == REMOVED:
        if size != 2:
            return -1
    elif kind == TEXT:
        if size < 9 or size > 2048:
            return -1
    elif kind == TAGGED_TEXT:
        if size < 11 or size > 2048:
            return -1
    elif kind == FORMAT:
        if size < 4:
            return -1
    elif kind == SUBSCRIPTION:
        if size < 4 or size > 512:
            return -1
    elif kind == FLAGS:
        if size < 40:
            return -1
    else:
        return -1
    return after if after <= end else -2


@kernel
def is_chain(data: Bytes, start: int, end: int, least: np.ndarray, most: np.ndarray) -> bool:
    """Whether several records in a row fit from ``start`` on (fewer, where the data ends with them)."""
    at = start
    for _ in range(CHAIN):
        if at == end:
            return at > start
        after = fits(data, at, end, least, most)
        if after < 0:
            return after == -2 and at > start
        at = after
    return True


@kernel
def find_chain(data: Bytes, start: int, end: int, least: np.ndarray, most: np.ndarray) -> int:
    """First position from ``start`` on at which a chain of records starts; ``end`` where there is none."""
    for at in range(start, end):
        if is_chain(data, at, end, least, most):
            return at
    return end


@kernel
def walk(data: Bytes, start: int, end: int, tables: np.ndarray, rows: np.ndarray, n: int) -> Any:
    """Turn data records into rows up to a record that needs more than a kernel.

    ``tables``: (4, 65536) i4 by message id: least and most payload bytes (-1: not subscribed), index of the
    subscription, offset of the stamp (-1: none). Rows carry the stamp in microseconds and the subscription.
    Returns (position, number of rows, why it stopped).
    """
    at = start
    while at < end:
        after = fits(data, at, end, tables[0], tables[1])
        if after < 0:
            return at, n, SHORT if after == -2 else BAD
        kind = data[at + 2]
        if kind == DATA:
            if n == len(rows):
                return at, n, FULL
            number = u16(data, at + 3)
            stamp = tables[3, number]
            rows[n]["t"] = u32(data, at + 5 + stamp) | u32(data, at + 9 + stamp) << 32 if stamp >= 0 else 0
            rows[n]["start"] = at + 5
            rows[n]["size"] = after - at - 5
            rows[n]["channel"] = tables[2, number]
            n += 1
        elif kind in (FLAGS, FORMAT, SUBSCRIPTION, TEXT, TAGGED_TEXT, DROPOUT):
            return at, n, OTHER
        at = after
    return at, n, END


@dataclass(frozen=True, slots=True)
class Subscription:
    """A topic as the log announces it."""

    topic: str
    instance: int
    definition: str


class UlogRecording(Recording):
    """A PX4 ULog file; read whole. ``dropouts`` are gaps that the logger itself wrote down: (after ns, milliseconds)."""

    format = "ulog"
    dropouts: tuple[tuple[int | None, int], ...] = ()

    def _items(self) -> Iterator[Item]:
        raw = self.path.read_bytes()
        self.position = len(raw)
        log = _Log(self, raw)
        yield from log.read()
        yield from log.deliver()


class _Log:
    """One pass over the bytes of a log: first all records, then the messages in order of their stamps."""

    def __init__(self, recording: UlogRecording, raw: bytes) -> None:
        self.recording, self.raw = recording, raw
        self.data = np.frombuffer(raw, np.uint8)
        self.formats = Formats()
        self.subscriptions: list[Subscription | None] = []  # None: not to be trusted
        self.by_id: dict[int, int] = {}
        self.last_id = -1
        self.out_of_sequence: set[int] = set()  # message ids whose subscription may have a wrong id
        self.tables = np.full((4, 65536), -1, np.int32)
        self.blocks: list[np.ndarray] = []
        self.rows = np.empty(ROWS, MESSAGE)
        self.n = 0
        self.texts: list[bytes] = []
        self.text_subscription = -1
        self.dropouts: list[tuple[int | None, int]] = []
        self.appended: list[int] = []
        self.odd: dict[str, list[int]] = {}  # records that fit nothing, by what they are: (first position, count)

    def read(self) -> Iterator[Item]:
        if len(self.data) < HEADER_SIZE:
            yield self.recording.damage("the file ends within its header: it was cut", len(self.data))
        at = HEADER_SIZE
        while at < len(self.data):
            end = self.appended[0] if self.appended else len(self.data)
            at, self.n, why = walk(self.data, at, end, self.tables, self.rows, self.n)
            if why == FULL:
                self.close_block()
            elif why == OTHER:
                size = int(u16(self.data, at))
                body = self.raw[at + 3 : at + 3 + size]
                try:
                    self.take(int(self.data[at + 2]), body, at)
                except MalformedError as error:
                    yield self.recording.damage(f"record skipped: {error}", at, at + 3 + size)
                at += 3 + size
            elif at == end or (why == SHORT and self.appended):  # what a crash dump was appended to may end mid-record
                at = self.appended.pop(0) if self.appended else end
            else:
                at = yield from self.recover(at, end)
        for what, (first, count) in self.odd.items():
            where = first if count == 1 else None
            since = "" if count == 1 else f" (the first at byte {first})"
            yield self.recording.damage(f"{count} {what}{since}: skipped", where, lost=count)
        self.close_block()

    def close_block(self) -> None:
        self.blocks.append(self.rows[: self.n])
        self.rows, self.n = np.empty(ROWS, MESSAGE), 0

    # Damage.

    def recover(self, at: int, end: int) -> Generator[Item, None, int]:
        """Find where reading goes on after the record at ``at``, which can't be one, and report what is lost."""
        least, most = self.tables[0], self.tables[1]
        size = int(u16(self.data, at)) if at + 2 <= end else 0
        after = at + 3 + size
        if after <= end and (after == end or is_chain(self.data, after, end, least, most)):
            self.count_odd(at)  # its length is right: only this record is damaged
            return after
        number = int(u16(self.data, at + 3)) if at + 5 <= end else -1
        if number in self.by_id:  # its length is what is damaged: try those that its topic can have
            for payload in {int(most[number]), int(least[number])}:
                after = at + 5 + payload
                if after < end and is_chain(self.data, after, end, least, most):
                    what = f"a record of {self.name(number)} with a damaged header: skipped"
                    yield self.recording.damage(what, at, after, lost=1)
                    return after
        if after > end and find_chain(self.data, at + 1, end, least, most) == end:
            yield self.recording.damage("the file ends in the middle of a record: it was cut", at, end)
            return end
        sync = self.raw.find(SYNC, at + 4, end)
        found = sync - 3 if sync >= 0 else int(find_chain(self.data, at + 1, end, least, most))
        yield self.recording.damage("what stands here is no record; read on where records start again", at, found)
        return found

    def count_odd(self, at: int) -> None:
        """Count a record whose framing holds and whose content does not, by what is wrong with it."""
        kind = int(self.data[at + 2])
        what = f"record of unknown type 0x{kind:02x}"
        if kind == DATA:
            number = int(u16(self.data, at + 3))
            what = f"data record with message id {number}, which no topic has"
            if number in self.by_id:
                what = f"data record of {self.name(number)} whose size is not its format's"
        elif chr(kind) in "SPQIMROLCFAB":
            what = f"malformed record of type {chr(kind)}"
        self.odd.setdefault(what, [at, 0])[1] += 1

    def name(self, number: int) -> str:
        subscription = self.subscriptions[self.by_id[number]]
        return subscription.topic if subscription else f"message id {number}"

    # Records that are not data.

    def take(self, kind: int, body: bytes, at: int) -> None:
        if kind == FORMAT:
            self.formats.add(body)
        elif kind == SUBSCRIPTION:
            self.subscribe(body)
        elif kind == DROPOUT:
            self.dropouts.append((self.last_stamp(), struct.unpack("<H", body)[0]))
        elif kind == FLAGS:
            self.take_flags(body, at)
        else:
            self.take_text(body, 1 if kind == TEXT else 3)

    def last_stamp(self) -> int | None:
        rows = self.rows[: self.n] if self.n or not self.blocks else self.blocks[-1]
        return int(rows["t"][-1]) * 1000 if len(rows) else None

    def take_flags(self, body: bytes, at: int) -> None:
        incompatible = body[8:16]
        if incompatible[0] & 1:
            offsets = [offset for offset in struct.unpack_from("<3Q", body, 16) if offset]
            if offsets != sorted(offsets) or any(not at < offset < len(self.data) for offset in offsets):
                raise MalformedError("it names appended data where there is none")
            self.appended = offsets
        if incompatible[0] & ~1 or any(incompatible[1:]):
            raise MalformedError("it asks for abilities that no reader of version 1 has; read on all the same")

    def subscribe(self, body: bytes) -> None:
        instance, number = struct.unpack_from("<BH", body)
        in_sequence = number == self.last_id + 1  # loggers count message ids up from 0
        self.last_id = number
        topic = body[3:].decode("utf-8", "replace")
        subscription: Subscription | None = None
        least, most, stamp, problem = 0, 65533, -1, ""
        try:
            definition, least, most, stamp = self.formats.layout(topic)
            subscription = Subscription(topic, instance, definition)
        except MalformedError as error:
            problem = str(error)
        if number in self.by_id:
            if self.subscriptions[self.by_id[number]] == subscription:
                return
            if number not in self.out_of_sequence:
                raise MalformedError(
                    f"message id {number} is given to a second topic, {topic[:60]!r}; this is left out"
                )
            self.subscriptions[self.by_id[number]] = None
        if not in_sequence:
            self.out_of_sequence.add(number)
        self.by_id[number] = len(self.subscriptions)
        self.tables[:, number] = least, most, len(self.subscriptions), stamp
        self.subscriptions.append(subscription)
        if problem:
            raise MalformedError(problem)

    def take_text(self, body: bytes, head: int) -> None:
        """A text of the log as a message of a topic of its own, with a fixed size."""
        if self.text_subscription < 0:
            self.text_subscription = len(self.subscriptions)
            self.subscriptions.append(Subscription("logged_message", 0, TEXT_FORMAT))
        if self.n == len(self.rows):
            self.close_block()
        stamp = struct.unpack_from("<q", body, head)[0]
        text = body[head + 8 :][: TEXT_SIZE - 9]
        start = len(self.data) + TEXT_SIZE * len(self.texts)
        self.texts.append(body[head : head + 8] + body[:1] + text.ljust(TEXT_SIZE - 9, b"\0"))
        self.rows[self.n] = (stamp, start, TEXT_SIZE, self.text_subscription)
        self.n += 1

    # Messages.

    def deliver(self) -> Iterator[Item]:
        rows = np.concatenate(self.blocks)
        self.recording.dropouts = tuple(self.dropouts)
        trusted = np.array([subscription is not None for subscription in self.subscriptions], bool)
        if not trusted.all():
            known = trusted[rows["channel"]]
            if not known.all():
                lost = int((~known).sum())
                yield self.recording.damage(f"{lost} messages of topics that are not described: skipped", lost=lost)
            rows = rows[known]
        if not len(rows):
            return
        rows, strange = order_by_stamp(rows)
        total = np.bincount(rows["channel"], minlength=len(self.subscriptions))
        clock = np.bincount(rows["channel"][strange], minlength=len(self.subscriptions)) == total
        table = self.recording.table
        codes = np.full(len(self.subscriptions), -1, np.int32)
        for index, subscription in enumerate(self.subscriptions):
            if subscription is None or not total[index]:
                continue
            channel, new = table.add(
                subscription.topic,
                subscription.topic,
                "packed",
                "ulog",
                subscription.definition,
                instance=subscription.instance,
                receive_time=False,
                cause=Cause.CLOCK if clock[index] else Cause.NONE,
            )
            if table.wants(channel):
                codes[index] = channel.id
            else:
                table.counts[channel.id] += int(total[index])
            if new:
                yield channel
        rows["channel"] = codes.take(rows["channel"])
        if table.topics is not None:
            rows = rows[rows["channel"] >= 0]
        data = np.concatenate([self.data, np.frombuffer(b"".join(self.texts), np.uint8)]) if self.texts else self.data
        for start in range(0, len(rows), ROWS):
            yield Batch(data, rows[start : start + ROWS])
