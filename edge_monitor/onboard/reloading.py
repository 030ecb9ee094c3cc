"""Another envelope for a process that runs: read, judged and compiled by a thread of its own; put in force in one turn.

The engine's thread calls :meth:`Reloading.ask` and :meth:`Reloading.attend`, which never wait. What is rejected here never was
an item of the stream, as keys, files and clocks decide it; the switch itself is one (docs/reload.md).
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import envelope as envelopes
from ..core.commands import ReloadEnvelope
from ..envelope import Envelope
from ..envelope.approval import Approval, ApprovalError, activated, exit_code, require
from ..envelope.document import MAX_BYTES
from ..errors import ConfigError, EdgeMonitorError, UsageError
from ..people import People
from ..runtime import Monitor, Prepared
from ..sources.wanted import Wanted

READING, ENTERING, PREPARING, READY = "reading", "entering", "preparing", "ready"
SWITCHED, ACTIVE, REJECTED = "switched", "active", "rejected"  #: active: the journal holds it
REFUSED = 1  #: exit code of whoever asked: the monitor said no
COMPILE_S = 1800.0  #: a process that compiles is given up after so long
#: What a process that compiles runs: beside the monitor, and behind it.
COMPILING = "import os; os.nice(19); from edge_monitor.cli import main; main()"


class _RejectedError(EdgeMonitorError):
    """Why an envelope is not put in force: (code, message) of each reason."""

    def __init__(self, reasons: Sequence[tuple[str, str]], exit_code: int) -> None:
        super().__init__("; ".join(message for _, message in reasons))
        self.reasons = tuple(reasons)
        self.exit_code = exit_code


@dataclass(slots=True)
class Job:
    """One request on its way. ``order``: without time, digest and approval until it is ready."""

    number: int
    order: ReloadEnvelope
    phase: str = READING
    envelope: Envelope | None = None
    approval: Approval | None = None
    prepared: Prepared | None = None
    reasons: tuple[tuple[str, str], ...] = ()
    exit_code: int = 0
    entered: threading.Event = field(
        default_factory=threading.Event
    )  #: its texts are in the table, or have no room there
    told: bool = False  #: the engine's thread has taken it

    def reject(self, reasons: Sequence[tuple[str, str]], exit_code: int) -> None:
        """It is not put in force."""
        self.reasons, self.exit_code, self.phase = tuple(reasons), exit_code, REJECTED

    @property
    def which(self) -> dict[str, Any]:
        """For payloads: the envelope, as far as it could be read, and who wants it."""
        order, known = self.order, self.envelope
        by = {"person": order.person, "reason": order.reason, "path": order.path}
        named = (
            {"envelope": known.id, "envelope_version": known.version, "envelope_digest": known.digest} if known else {}
        )
        return {**named, "file_digest": order.file, "by": by}

    def document(self) -> dict[str, Any]:
        """For whoever asks how it stands."""
        known = self.envelope
        return {
            "number": self.number,
            "phase": self.phase,
            "path": self.order.path,
            "person": self.order.person,
            "version": known.version if known else None,
            "digest": known.digest if known else None,
            "reasons": [list(reason) for reason in self.reasons],
            "exit_code": self.exit_code,
        }


class Reloading:
    """Reads and compiles one envelope at a time."""

    def __init__(
        self,
        monitor: Monitor,
        people: People | None,
        wall: Callable[[], int],
        *,
        wanted: Callable[[Envelope], Sequence[Wanted]],
        unable: Callable[[Sequence[Wanted]], set[str]],
        unapproved: bool = False,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """``wall``: ns since 1970, for the validity of approvals. ``wanted``: the topics that an envelope reads; ``unable``:
        those among some that the sources can't bring. ``unapproved``: the one in force is not approved, so that another
        need not be. ``wake``: called when :meth:`attend` has something to do."""
        self._monitor = monitor
        self._people = people
        self._wall = wall
        self.wanted, self._unable = wanted, unable
        self.unapproved = unapproved
        self._wake = wake
        self._job: Job | None = None
        self._count = 0

    def ask(self, order: ReloadEnvelope) -> int:
        """Begin; answers the number by which it is found in :meth:`status`. Raises ``UsageError`` where one is under way."""
        if self._job is not None and self._job.phase not in (ACTIVE, REJECTED):
            raise UsageError(f"{self._job.order.path} is on its way ({self._job.phase}): wait for that one")
        self._count += 1
        self._job = job = Job(self._count, order)
        threading.Thread(target=self._run, args=(job,), name="reload", daemon=True).start()
        return job.number

    def status(self) -> dict[str, Any] | None:
        """How the last one stands; None where there was none."""
        return None if self._job is None else self._job.document()

    def attend(self) -> Job | None:
        """The engine's thread's part; answers a job that is ready to be put in force, or has just been rejected."""
        job = self._job
        if job is None:
            return None
        if job.phase == ENTERING:
            assert job.envelope is not None
            try:
                self._monitor.enter(job.envelope)
                job.phase = PREPARING
            except ConfigError as error:
                job.reject([("texts", str(error))], error.exit_code)
            job.entered.set()
        if job.phase not in (READY, REJECTED) or job.told:
            return None
        job.told = True
        return job

    def _run(self, job: Job) -> None:
        """The thread's part. Whatever goes wrong, the envelope in force stays."""
        try:
            self._read(job)
            job.phase = ENTERING
            self._wake()
            job.entered.wait()
            if job.phase == PREPARING:
                assert job.envelope is not None
                job.prepared = self._monitor.prepare(job.envelope, lambda: _compile(job.order.path))
                job.phase = READY
        except _RejectedError as error:
            job.reject(error.reasons, error.exit_code)
        except ApprovalError as error:
            job.reject([(refusal.code, refusal.message) for refusal in error.refusals], exit_code(error.refusals))
        except EdgeMonitorError as error:
            job.reject([("invalid", line) for line in str(error).splitlines()], error.exit_code)
        except Exception as error:
            job.reject([("internal", f"it can't be compiled: {error}")], ConfigError.exit_code)
        self._wake()

    def _read(self, job: Job) -> None:
        """Read and judge the file. Raises ``EdgeMonitorError``."""
        order = job.order
        try:
            with Path(order.path).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ConfigError(f"{order.path}: the monitor cannot read it: {why}") from None
        if hashlib.sha256(data).hexdigest() != order.file:
            message = f"{order.path}: is not the file that was meant: it was changed since, or lies on another machine"
            raise _RejectedError([("changed", message)], ConfigError.exit_code)
        risk = order.risk or self._monitor.envelope.risk
        job.envelope = loaded = envelopes.loads(data, source=order.path, risk=risk)
        job.approval = require(loaded, self._people, self._wall(), self.unapproved)
        lacking = sorted(self._unable(self.wanted(loaded)))
        if lacking:
            names = ", ".join(lacking)
            message = f"{names}: no source can begin to read this while it runs; start the monitor with it"
            raise _RejectedError([("topics", message)], ConfigError.exit_code)
        job.order = replace(order, risk=risk, digest=loaded.digest, approval=activated(job.approval))


def _compile(path: str) -> None:
    """Compile what an envelope needs in another process, so that this one only has to load it: a compiler takes memory for
    good, and time from the engine's thread. Where that fails, this process compiles it."""
    command = [sys.executable, "-c", COMPILING, "warm", path]
    try:
        subprocess.run(
            command, check=False, timeout=COMPILE_S, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return
