"""``Keeper``: windows of the tape as files of their own, in a thread of its own.

The engine's thread says what should be kept (:meth:`Keeper.tell`, :meth:`Keeper.turn`) and never waits; the thread brings the
files there, again where the disk refused, and asks for events: a file has its name once the journal names it, and one is
removed once the journal says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..envelope.black_box import BlackBoxSpec
from ..events import Event
from ..journal.store import sync_folder
from ..raw.window import extract
from ..tape.format import KEPT, TapeError
from ..tape.incident import IncidentFile
from ..tape.note import Cause, Note
from ..tape.ring import Ring
from ..tape.ring_file import RingFile
from ..tape.windows import FOREVER, Windows
from .incident_work import RAW, UNFINISHED, Anchor, Wish, Work, complete, salvage
from .raw_recorder import RawRecorder

#: After a failure of the disk it is tried again after so long, seconds.
RETRY_S = 2.0
#: An event that the journal had no room for is asked for again after so long, ns.
AGAIN_NS = 1_000_000_000
#: Bytes of a file, about, and share of the budget: a window that goes on beyond it takes several.
PART, SHARE = 64 << 20, 4


@dataclass(frozen=True, slots=True)
class _News:
    """An event to be journaled, and what is done once it is."""

    event: Event
    then: Callable[[], None]


class Keeper:
    """Keeps incidents of one run. ``tell``, ``turn``, ``filed`` and ``durable`` are the engine thread's."""

    def __init__(
        self, folder: Path, ring: Ring, spec: BlackBoxSpec, *, budget: int = 1 << 30, always: bool = False,
        raws: Path | None = None, raw: RawRecorder | None = None,
    ) -> None:  # fmt: skip
        """``folder``: for incidents; the tapes of earlier runs are beside ``ring``'s. ``budget``: bytes of all incidents;
        the oldest are removed beyond it. ``always``: keep the whole run. ``raws``: folder of raw messages, of which each
        window is kept, too; ``raw``: what writes them in this run. Raises ``OSError``."""
        self.spec = spec
        self._folder = folder
        self._ring = ring
        self._raws, self._raw = raws, raw
        self._budget = budget
        self._part = min(PART, budget // SHARE)
        self._windows = Windows(spec.before, spec.after, always=always)
        self._go: set[str] = set()  # gates that are GO
        self._lock = threading.Condition()
        self._work: list[Work] = []
        self._live: Work | None = None  # of the window that is open
        self._news: list[_News] = []
        self._late: list[_News] = []  # the journal had no room for them
        self._again = 0
        self._asked: list[_News] = []
        self._tickets: dict[int, _News] = {}
        self._confirmed: list[_News] = []
        self._going: set[Path] = set()  # files whose removal waits for the journal
        self._stirred, self._closing = True, False  # what earlier runs left is looked for first
        self._retry_at = 0.0
        self._failure = ""
        self._kept_all = 0
        folder.mkdir(parents=True, exist_ok=True)
        ring.stored = self._stir
        self._source = RingFile(ring.path)
        if self._windows.open is not None:
            self._begin(self._windows.open)
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    # The engine's thread.

    def status(self) -> dict[str, Any]:
        """How it stands: whether a window is open, files kept so far, why the last could not be kept (empty: it could)."""
        failure = self._failure if self._thread.is_alive() else "the thread that keeps them has ended"
        return {"open": self._live is not None, "kept": self._kept_all, "failure": failure}

    def tell(self, event: Event) -> None:
        """Something happened: a window opens, or the open one becomes longer, where it is a reason to."""
        if event.type == "gate.go":
            self._go.add(event.subject)
            return
        if event.type == "gate.no_go":
            if event.subject not in self._go:
                return  # it was none: nothing has become worse
            self._go.discard(event.subject)
        if event.type == "incident.requested" or self.spec.wants(event.type, event.severity):
            before = self._windows.open
            note = self._windows.trigger(Cause(event.t_effective, event.type, event.subject), event.t_decided)
            if self._live is not None and before is not None and note.begin > before.end:
                self._end(self._live, event.t_decided)
                self._settle(self._live)
            with self._lock:
                if self._live is None:
                    self._begin(note)
                else:
                    self._live.wish = Wish(note)
                self._stir()

    def turn(self, now: int) -> list[Event]:
        """Time has come to ``now`` (ns). Answers events to be journaled: give each one's ticket to :meth:`filed`, in order."""
        live = self._live
        if live is not None and live.wish.anchor is None and self._windows.over(now):
            self._end(live, now)
        if live is not None and self._windows.settled(now):
            self._settle(live)
            self._windows.open = None
        if self._late and now >= self._again:
            with self._lock:
                self._news += self._late
            self._late = []
        if not self._news:
            return []
        with self._lock:
            self._asked, self._news = self._news, []
        self._again = now + AGAIN_NS
        return [news.event for news in self._asked]

    def filed(self, tickets: list[int | None]) -> None:
        """The tickets of the events that :meth:`turn` answered; None where the journal had no room."""
        for news, ticket in zip(self._asked, tickets, strict=True):
            if ticket is None:
                self._late.append(news)
            else:
                self._tickets[ticket] = news
        self._asked = []

    def durable(self, tickets: list[int]) -> None:
        """The journal holds what these tickets stand for."""
        found = [self._tickets.pop(ticket) for ticket in tickets if ticket in self._tickets]
        if found:
            with self._lock:
                self._confirmed += found
                self._stir()

    def end(self, now: int, patience: float = 5.0) -> list[Event]:
        """The run is over, and so is the open window. Answers as :meth:`turn` does, after at most ``patience`` seconds."""
        if self._live is not None:
            self._live.wish = Wish(self._live.wish.note, self._live.wish.anchor, ended=now <= self._live.wish.note.end)
            if self._live.wish.anchor is None:
                self._end(self._live, now)
            self._settle(self._live)
        with self._lock:
            self._lock.wait_for(
                lambda: not self._stirred and (self._failure or all(work.told for work in self._work)), patience
            )
        return self.turn(max(now, self._again))

    def renew(self, spec: BlackBoxSpec) -> None:
        """Another envelope says what is kept, from here on."""
        self.spec = spec
        self._windows.before, self._windows.after = spec.before, spec.after

    def close(self, durable: list[int], patience: float = 5.0) -> None:
        """The journal is closed, and holds what ``durable`` stands for: give everything back."""
        self.durable(durable)
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join(patience)

    def _begin(self, note: Note) -> None:
        self._live = Work(self._source, Wish(note), self._folder)
        self._work.append(self._live)
        if self._raw is not None:
            self._raw.keep_from = min(self._raw.keep_from, self._live.begin)

    def _end(self, live: Work, now: int) -> None:
        block, size, digest = self._ring.anchor()
        with self._lock:
            anchor = Anchor(block, size, digest, (self._ring.begun, now))
            live.wish = Wish(live.wish.note, anchor, ended=live.wish.ended)
            self._stir()

    def _settle(self, live: Work) -> None:
        with self._lock:
            live.wish = Wish(live.wish.note, live.wish.anchor, True, live.wish.ended)
            self._live = None
            self._stir()

    # The keeper's thread.

    def _stir(self) -> None:
        with self._lock:
            self._stirred = True
            self._lock.notify_all()

    def _run(self) -> None:
        try:
            left = salvage(self._folder, self._ring.path.parent, self._ring.path, self.spec.before, self._tell)
        except OSError as error:
            left = []
            self._tell(f"what earlier runs left can't be read: {error.strerror}", self._folder)
        with self._lock:
            self._work[:0] = left
            self._stirred = True
        while True:
            with self._lock:
                wait = (
                    None if not self._work else max(0.01, self._retry_at - time.monotonic()) if self._failure else 1.0
                )
                self._lock.wait_for(lambda: self._stirred or self._closing, wait)
                self._stirred = False
                confirmed, self._confirmed = self._confirmed, []
                closing = self._closing
                work = list(self._work)
            for news in confirmed:
                news.then()
            if not closing and time.monotonic() >= self._retry_at:
                why = [self._bring(one) for one in work]
                self._failure = next(filter(None, why), "")
            if self._raw is not None:
                with self._lock:
                    self._raw.keep_from = min((one.begin for one in self._work if not one.told), default=FOREVER)
            with self._lock:
                self._lock.notify_all()
                if closing and not self._confirmed:
                    break
        for one in self._work:
            one.give_back()
        self._source.close()

    def _bring(self, work: Work) -> str:
        """Bring one file to where it should be; what the disk refuses is told once, and tried again. Answers why it was not
        brought there, empty where it was."""
        if work.told:
            return ""
        try:
            if work.file is None:
                self._has_room()
            for file in complete(work, self._part):
                self._kept(work, file)
        except (OSError, TapeError) as error:
            self._retry_at = time.monotonic() + RETRY_S
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            if not work.failed:
                work.failed = True
                self._failed(work, why)
            return why
        return ""

    def _has_room(self) -> None:
        """Raises ``OSError`` where much more is there than should be, since the journal confirms no removal."""
        if sum(map(_size, self._files())) > 2 * self._budget:
            raise OSError(f"holds more than twice its {self._budget >> 20} MiB; the journal confirms no removal")

    def _kept(self, work: Work, file: IncidentFile) -> None:
        """A file is whole: ask the journal to name it."""
        note = file.note
        payload: dict[str, Any] = {
            "file": file.path.with_suffix(".tape").name,
            "boot": file.boot.hex(),
            "blocks": [file.first, file.last],
            "bytes": file.bytes,
            "digest": file.digest.hex(),
            "size": file.size,
            "from_ns": file.first_t,
            "to_ns": min(note.end, file.last_t) if note.ended else note.end,
            "cause": str(note.causes[0]) if note.causes else "",
            "causes": [[cause.t, cause.type, cause.subject] for cause in note.causes],
            "count": note.count,
        }
        if note.part:
            payload["part"] = note.part
        if note.ended:
            payload["cut"] = "the run ended before the window did"
        if file.first > 1 and file.first_t > note.begin:
            payload["late_ns"] = file.first_t - note.begin

        if self._raws is not None:
            payload |= self._keep_raw(self._raws, file, payload["from_ns"], payload["to_ns"])
        last = work.told  # no other part follows

        def named() -> None:
            try:
                with suppress(FileNotFoundError):
                    file.path.with_suffix(RAW).rename(file.path.with_suffix(".mcap"))
                file.path.rename(file.path.with_suffix(".tape"))
                sync_folder(file.path)
                if work.source is not None and work.last and last:
                    work.source.mark(KEPT)
            except OSError as error:
                self._tell(f"can't be named ({error.strerror}); the next start of the monitor does it", file.path)
            file.close()
            self._kept_all += 1
            if last:
                work.give_back(self._source)
                with self._lock:
                    self._work = [one for one in self._work if one is not work]
            self._trim()

        self._ask("incident.kept", payload, named, "negligible")

    def _keep_raw(self, raws: Path, file: IncidentFile, begin: int, end: int) -> dict[str, Any]:
        """Copy the window's raw messages beside its file: what the event says of them."""
        if self._raw is not None and file.boot == self._source.boot:
            self._raw.flush()
        try:
            copied = extract(raws, file.boot, begin, end, file.path.with_suffix(RAW))
        except OSError as error:
            return {"raw": {"cause": f"raw messages could not be kept: {error.strerror}"}}
        if copied is None:
            return {}
        return {
            "raw": {
                "file": file.path.with_suffix(".mcap").name,
                "size": copied.size,
                "messages": copied.messages,
                "repeated": copied.repeated,
                "sha256": copied.sha256,
            }
        }

    def _failed(self, work: Work, why: str) -> None:
        note = work.wish.note
        payload = {
            "cause": f"the window could not be kept: {why}",
            "from_ns": note.begin,
            "to_ns": note.end,
            "causes": [[cause.t, cause.type, cause.subject] for cause in note.causes],
            "retry": "for as long as the run goes on",
        }
        self._ask("incident.failed", payload, lambda: None, "marginal")

    def _trim(self) -> None:
        """Ask for the removal of the oldest files, until the others are within the budget."""
        files = [path for path in self._files() if path.suffix == ".tape" and path not in self._going]
        files.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
        sizes = {path: _size(path) + _size(path.with_suffix(".mcap")) for path in files}
        total = sum(sizes.values())
        for path in files[:-1]:
            if total <= self._budget:
                return
            size = sizes[path]
            total -= size
            self._going.add(path)
            payload = {
                "file": path.name,
                "size": size,
                "cause": f"beyond the {self._budget >> 20} MiB of all incidents",
            }

            def remove(path: Path = path) -> None:
                path.with_suffix(".mcap").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                self._going.discard(path)

            self._ask("incident.removed", payload, remove, "marginal")

    def _files(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if path.suffix in (".tape", ".mcap", UNFINISHED, RAW)]

    def _tell(self, what: str, path: Path) -> None:
        """Something from an earlier run can't be used."""
        self._ask("incident.failed", {"file": path.name, "cause": what}, lambda: None, "marginal")

    def _ask(self, type_: str, payload: dict[str, Any], then: Callable[[], None], severity: str) -> None:
        with self._lock:
            subject = str(payload.pop("file", "")) or "incident"
            self._news.append(_News(Event(type_, subject, 0, 0, severity, payload), then))


def _size(path: Path) -> int:
    """Bytes of a file; 0 where it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
