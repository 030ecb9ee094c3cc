"""``Scribe``: the journal in a thread of its own, behind a bounded queue.

The engine's thread never waits for the disk: ``put`` takes an entry or refuses it, and ``durable`` tells which ones a
power cut can no longer take. Refused entries are counted and become a ``journal.gap``. After an I/O error the file is
closed and opened anew, since nobody knows what the disk holds; what was not durable is appended again.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import EdgeMonitorError, UsageError
from ..journal import Digests, Entry, Journal, Severity
from ..journal.writer import GROUP, JournalError

#: What does not ask for a commit of its own waits at most so long for company, seconds.
GROUP_S = 0.02
#: After a failure the journal is opened anew after so long, doubled each time up to the latter, seconds.
RETRY_S, LONGEST_RETRY_S = 0.5, 30.0
MAX_JOBS = 64  #: receipts and the like that may wait


class Health(NamedTuple):
    """How the journal is. ``failure``: why it can't be written, empty where it can; ``waiting``: entries not durable;
    ``oldest``: when the oldest of them was put (ns on the clock of ``put``), 0 for none; ``refused``: in all; ``head``: the
    journal's last checkpoint (C2SP, without its signatures), empty before the first."""

    failure: str
    waiting: int
    oldest: int
    refused: int
    durable: int
    head: str


@dataclass(frozen=True, slots=True)
class _Item:
    entry: Entry
    ticket: int
    t: int
    digests: Digests | None = None


class Scribe:
    """Owns a journal. ``put``, ``durable`` and ``health`` are called by the engine's thread and never block."""

    def __init__(
        self,
        opened: Callable[[], Journal],
        *,
        capacity: int = 8192,
        reserve: int = 2048,
        before: Callable[[], None] | None = None,
        wake: Callable[[], None] | None = None,
    ) -> None:
        """``opened``: opens the journal (in the scribe's thread; what it raises the first time is raised here).

        ``capacity``: entries that may wait; the last ``reserve`` of them only for what must be committed at once.
        ``before``: called before each commit that was asked for at once (puts the tape on the disk); an ``OSError`` of
        it stops the journal as the journal's own would. ``wake``: called when something became durable, or the journal
        failed.
        """
        self._opened = opened
        self.digests: Digests | None = None  #: what is active, for entries that are put from here on; None: as opened
        self._active: Digests | None = None
        self.capacity = capacity
        self._reserve = reserve
        self._before = before
        self._wake = wake
        self._mutex = threading.RLock()  # to be held where nobody is told: the condition's own way takes longer
        self._lock = threading.Condition(self._mutex)
        self._queue: deque[_Item] = deque()
        self._written: list[tuple[_Item, int]] = []  # appended, with their sequences, and not durable
        self._durable: list[int] = []
        self._jobs: deque[Callable[[Journal], None]] = deque()
        self._refused: Counter[str] = Counter()
        self._refused_all = 0
        self._durable_all = 0
        self._head = ""
        self._gap_t, self._gap_cause = 0, ""
        self._next = 0
        self._failure = "not open yet"
        self._closing = False
        self._first: EdgeMonitorError | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._first is not None:
            raise self._first

    def put(self, entry: Entry, t: int) -> int | None:
        """Queue an entry at ``t`` (ns, the engine's clock). Answers its ticket, or None where there is no room for it."""
        with self._mutex:
            room = self.capacity - len(self._queue) - len(self._written)
            if room <= (0 if entry.now else self._reserve):
                self._refuse(entry, t, "the journal's queue was full")
                return None
            ticket = self._next
            self._next += 1
            self._queue.append(_Item(entry, ticket, t, self.digests))
            self._lock.notify()
            return ticket

    def ask(self, job: Callable[[Journal], None]) -> bool:
        """Have something else done with the journal, in its thread, between commits; False where too much waits already.

        What ``job`` raises as ``JournalError`` is a failure of the journal; it answers for all else itself.
        """
        with self._lock:
            if len(self._jobs) >= MAX_JOBS or self._closing:
                return False
            self._jobs.append(job)
            self._lock.notify()
            return True

    def durable(self) -> list[int]:
        """Tickets that became durable since the last call, in order."""
        if not self._durable:  # what is added meanwhile is for the next call
            return []
        with self._mutex:
            found, self._durable = self._durable, []
            return found

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing has failed: all that it got is durable."""
        with self._mutex:
            return not (self._queue or self._written or self._failure)

    @property
    def refused(self) -> int:
        """Entries that were refused, in all."""
        return self._refused_all

    def health(self) -> Health:
        """How it stands now."""
        with self._mutex:
            first = self._written[0][0] if self._written else self._queue[0] if self._queue else None
            count = len(self._queue) + len(self._written)
            oldest = first.t if first is not None else 0
            return Health(self._failure, count, oldest, self._refused_all, self._durable_all, self._head)

    def close(self, patience: float = 10.0) -> bool:
        """Write what waits and give the journal back; False where that did not come to an end in time."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join(patience)
        return not self._thread.is_alive() and not self._failure

    def _run(self) -> None:
        journal: Journal | None = None
        retry = RETRY_S
        while True:
            try:
                if journal is None:
                    journal = self._open()
                    retry = RETRY_S
                if not self._step(journal):
                    journal.close()
                    return
            except EdgeMonitorError as error:
                if journal is not None:
                    with suppress(EdgeMonitorError):
                        journal.close()
                    journal = None
                if self._fail(error, retry):
                    return
                retry = min(2 * retry, LONGEST_RETRY_S)

    def _open(self) -> Journal:
        """Open the journal; what had been appended and turns out to be there is durable, the rest is queued again."""
        journal = self._opened()
        self._active = None
        with self._lock:
            there = [item for item, sequence in self._written if sequence < journal.size]
            self._queue.extendleft(reversed([item for item, sequence in self._written if sequence >= journal.size]))
            self._written = []
            self._told(there)
            self._failure = ""
            self._head = journal.head
        self._ready.set()
        return journal

    def _fail(self, error: EdgeMonitorError, retry: float) -> bool:
        """Remember why, and wait; True where there is no use in trying again."""
        with self._lock:
            self._failure = str(error)
            if not self._ready.is_set():
                self._first = error
        if not self._ready.is_set():
            self._ready.set()
            return True
        self._call(self._wake)
        with self._lock:
            self._lock.wait_for(lambda: self._closing, retry)
            return self._closing

    def _step(self, journal: Journal) -> bool:
        """Take what waits, append and commit it; False when it is time to end."""
        with self._lock:
            self._lock.wait_for(lambda: self._queue or self._jobs or self._closing)
            if not self._queue and self._closing:
                return False
            job = self._jobs.popleft() if self._jobs and not self._queue else None
        if job is not None:
            job(journal)
            return True
        with self._lock:
            if not any(item.entry.now for item in self._queue) and not self._closing:
                self._lock.wait_for(
                    lambda: self._closing or len(self._queue) >= GROUP or any(i.entry.now for i in self._queue), GROUP_S
                )
            items = [*self._gap(), *(self._queue.popleft() for _ in range(min(len(self._queue), GROUP - 1)))]
            # They stay counted: a queue that empties into a disk that hangs would not be bounded.
            self._written = [(item, journal.size + n) for n, item in enumerate(items)]
        urgent = any(item.entry.now for item in items)
        if urgent:
            # Before the first append: when this fails, nothing waits in a journal that is closed then.
            self._prepare()
        taken = [item for item in items if self._append(journal, item)]
        journal.commit()
        with self._lock:
            self._written = []
            self._head = journal.head
            self._told(taken)
        self._call(self._wake)
        if items and journal.rotation_due(items[-1].entry.t_decided):
            journal.rotate(items[-1].entry.t_decided)
            with self._lock:
                self._head = journal.head
        return True

    def _append(self, journal: Journal, item: _Item) -> bool:
        """Append one; False for what no record can hold: it would be in the way of all that follow."""
        if item.digests is not None and item.digests is not self._active:
            self._active = item.digests
            journal.set_digests(item.digests)
        try:
            journal.append(_unhurried(item.entry))
        except UsageError as error:
            with self._lock:
                self._refuse(item.entry, item.t, str(error))
                at = next(n for n, (other, _) in enumerate(self._written) if other is item)
                self._written[at:] = [(other, sequence - 1) for other, sequence in self._written[at + 1 :]]
            return False
        return True

    def _refuse(self, entry: Entry, t: int, cause: str) -> None:
        self._refused[entry.severity.name.lower()] += 1
        self._refused_all += 1
        self._gap_t, self._gap_cause = t, cause

    def _prepare(self) -> None:
        try:
            self._call(self._before)
        except OSError as error:
            what = f"{error.filename or 'the tape'}: cannot be written ({error.strerror})"
            raise JournalError(f"{what}; the journal is stopped, check the disk") from None

    def _told(self, items: list[_Item]) -> None:
        self._durable += [item.ticket for item in items if item.ticket >= 0]
        self._durable_all += len(items)

    def _gap(self) -> list[_Item]:
        """What had to be refused: the first thing that is written now that there is room again."""
        if not self._refused:
            return []
        counts = dict(sorted(self._refused.items()))
        self._refused.clear()
        payload = {"subject": "journal", "refused": counts, "cause": self._gap_cause}
        return [_Item(Entry("journal.gap", Severity.CRITICAL, self._gap_t, self._gap_t, payload), -1, self._gap_t)]

    @staticmethod
    def _call(function: Callable[[], None] | None) -> None:
        if function is not None:
            function()


def _unhurried(entry: Entry) -> Entry:
    """The entry without a commit of its own: all that was taken together is committed together."""
    if not entry.now:
        return entry
    return Entry(
        entry.type, entry.severity, entry.t_effective, entry.t_decided, entry.payload, entry.actor, entry.causes,
        entry.rules, entry.hazard, entry.claim,
    )  # fmt: skip
