"""``Courier``: brings a running monitor's journal, and what it kept, to a registry; and the registry's receipts into the journal.

The uplink has a thread of its own, reads the journal's file beside the scribe, and has receipts stored by it: nothing that a
link or a registry does can hold up the engine, or the journal.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..envelope.approval import approval_path
from ..envelope.loader import Envelope
from ..errors import EdgeMonitorError, VerificationError
from ..events import Event
from ..journal import Journal
from ..journal.cosignatures import open_receipt
from ..journal.writer import JournalError
from ..sync import wire
from ..sync.blobs import Blob, Shelf
from ..sync.bundles import Holding
from ..sync.retention import Retention
from ..sync.uplink import Registry, Uplink
from .history import WANTED
from .scribe import Scribe

PRUNE_S = 1.0  #: between two looks at what may be erased; more of it follows at once
KINDS = {".tape": "incident", ".mcap": "raw"}


@dataclass(frozen=True, slots=True)
class Errand:
    """What was asked for. ``rate``: cap in bytes a second, 0: none; ``age_s``, ``size``: see :class:`.Retention`."""

    registry: Registry
    bundle: Path  #: file for what the registry sends down
    rate: int = 0
    age_s: float = 0.0
    size: int = 0

    def retention(self) -> Retention:
        """What may be erased; what the next start reads stays."""
        return Retention(self.age_s, self.size, WANTED.__contains__)


class Courier:
    """Runs until it is closed. ``status`` and ``take`` may be called from any thread."""

    def __init__(
        self,
        errand: Errand,
        journal: Path,
        boot: bytes,
        software: str,
        scribe: Scribe,
        envelope: Envelope,
        incidents: Path | None = None,
    ) -> None:
        """``envelope``: the one in force; ``incidents``: folder of files that the black box has kept and named. Raises
        ``ConfigError`` for a damaged bundle."""
        self._errand = errand
        self._scribe = scribe
        self._retention = errand.retention()
        self._incidents = incidents
        self._papers: tuple[Blob, ...] = ()
        self.renew(envelope)
        self._failure = ""
        self._stop = threading.Event()
        self._holding = Holding(errand.bundle, errand.registry.receipts)
        self._born = self._since_signed()  # ns on the clock that no one sets, at which the bundle was 0 s old
        self._news: deque[Event] = deque()
        self._uplink = Uplink(
            errand.registry, journal, boot, software, self._store, rate=errand.rate, shelf=Shelf(self._files),
            bundle=self._hold, bundle_version=lambda: self._holding.version,
        )  # fmt: skip
        self._pruner = threading.Thread(target=self._prune, name="retention", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._uplink.start()
        if self._errand.age_s or self._errand.size:
            self._pruner.start()

    def close(self) -> None:
        """End the session; what has no receipt is sent by the next run, or by ``edge-monitor sync once``."""
        self._stop.set()
        self._uplink.stop()
        if self._pruner.is_alive():
            self._pruner.join(2 * PRUNE_S)

    def renew(self, envelope: Envelope) -> None:
        """This envelope is in force now: its file and its approval are delivered too, as whoever reads the records needs
        them. A file that is changed later is another: the approval names the bytes that were approved."""
        path = Path(envelope.source)
        papers = Blob(path, "envelope"), Blob(approval_path(path), "approval")
        self._papers += tuple(blob for blob in papers if blob not in self._papers)

    def take(self, note: str) -> int:
        """Store a receipt that came another way; answers how many records it covers, before it is stored.

        Raises ``VerificationError`` where it is not one of the registry's.
        """
        size = open_receipt(note, self._errand.registry.receipts).checkpoint.size
        if not self._store(note):
            raise EdgeMonitorError("too much waits for the journal; bring the receipt again")
        if self._uplink.progress.held >= 0:
            self._uplink.progress.held = max(self._uplink.progress.held, size)
        return size

    def bundle_age(self) -> float:
        """S since the registry signed the bundle that is held; NaN where there is none. Steps of the wall clock change
        nothing: it is read when a bundle comes, and at the start."""
        return (_boottime() - self._born) / 1e9 if self._holding.bundle is not None else math.nan

    def news(self) -> list[Event]:
        """Events to be journaled, their time left open."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def status(self) -> dict[str, Any]:
        """How it stands, for ``edge-monitor status``."""
        progress = self._uplink.progress
        return {
            "state": progress.state,
            "receipted": progress.receipted,
            "size": progress.size,
            "receipt_time_s": progress.receipt_time,
            "sent_bytes": progress.sent_bytes,
            "bundle": self._holding.version,
            **({"failure": self._failure} if self._failure else {}),
        }

    def _store(self, note: str) -> bool:
        def job(journal: Journal) -> None:
            try:
                journal.receive(note, self._errand.registry.receipts)
                self._failure = ""
            except JournalError:
                raise
            except VerificationError as error:
                self._failure = str(error)

        return self._scribe.ask(job)

    def _hold(self, message: wire.Bundle) -> None:
        """A bundle has come, in the uplink's thread."""
        try:
            bundle = self._holding.take(message.data)
        except (VerificationError, OSError) as error:
            why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            payload = {"version": message.version, "held": self._holding.version, "cause": why}
            self._news.append(Event("bundle.refused", "bundle", 0, 0, "marginal", payload))
            return
        self._born = self._since_signed()
        files = [[item.kind, item.name, item.digest] for item in bundle.items]
        payload = {"version": bundle.version, "registry": bundle.registry, "signed_s": bundle.time, "files": files}
        self._news.append(Event("bundle.accepted", "bundle", 0, 0, "negligible", payload))

    def _since_signed(self) -> int:
        signed = self._holding.bundle.time if self._holding.bundle is not None else 0
        return _boottime() - max(0, time.time_ns() - signed * 10**9)

    def _prune(self) -> None:
        """Have a little erased at a time, so that no commit waits long."""
        while not self._stop.wait(PRUNE_S):
            more = True
            while more and not self._stop.is_set():
                more = self._erased()

    def _erased(self) -> bool:
        done, more = threading.Event(), [False]

        def job(journal: Journal) -> None:
            try:
                more[0] = self._retention.apply(journal, time.time_ns(), self._uplink.progress.held)
            finally:
                done.set()

        return self._scribe.ask(job) and _waited(done, self._stop.is_set) and more[0]

    def _files(self) -> Sequence[Blob]:
        """Envelopes with their approvals, and what is kept and named: whole files, the oldest first."""
        if self._incidents is None:
            return self._papers
        try:
            found = [(path.stat().st_mtime_ns, path) for path in self._incidents.iterdir() if path.suffix in KINDS]
        except OSError:
            return self._papers  # one has been removed just now: the next look finds the others
        return [*self._papers, *(Blob(path, KINDS[path.suffix]) for _, path in sorted(found))]


def _boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _waited(done: threading.Event, stopped: Callable[[], bool]) -> bool:
    """Whether it was done before it was stopped."""
    while not done.wait(0.1):
        if stopped():
            return False
    return True
