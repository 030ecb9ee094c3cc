"""``Watch``: follows the events that were ingested, keeps what was active when (``spans``), and opens exceptions.

It goes beside ingest, never in its way: each log is followed by its size, from a cursor in the database, a stretch a transaction.
What it opens only a person closes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from edge_monitor.envelope.statements import MAX_FILE
from edge_monitor.errors import EdgeMonitorError, VerificationError
from edge_monitor.journal.records import VERSION, decode_payload
from edge_monitor.utc import SECOND

from .. import tables as registry
from ..blobs import Blobs
from ..store import Store, Transaction
from . import approvals
from . import tables as t
from .exceptions import settlements
from .judging import Finding, judge, read_spans
from .reading import Catalogue
from .statements import Trust

ROWS = 2000  #: events that one transaction looks through
JUDGE_S = 2.0  #: between two judgements while events come
ACTIVATED = "envelope.activated"


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """The part of a record that is wanted; fields behind it are passed over."""

    version: int
    log_id: bytes
    sequence: int
    type: str
    severity: int
    boot_id: bytes
    t_effective: int
    t_decided: int
    wall_ns: int
    wall_status: int
    wall_error_ns: int
    actor: str
    digests: tuple[bytes, bytes, bytes]


_decoder = msgspec.msgpack.Decoder(_Head)
_Active = tuple[bytes, tuple[bytes, ...]]


@dataclass(slots=True)
class _Span:
    """A row of ``spans`` that grows."""

    log: int
    first: int
    last: int
    boot: str
    envelope: str
    model: str
    monitor: str
    first_wall_ns: int
    last_wall_ns: int
    unapproved: int
    seen_s: int

    @property
    def active(self) -> _Active:
        """The boot, and what was active."""
        return (bytes.fromhex(self.boot), tuple(map(bytes.fromhex, (self.envelope, self.model, self.monitor))))


class Watch:
    """``owner``: of what it opens where nobody else is known; ``deadline_s``: time to settle it; ``blobs``: what robots
    delivered; ``grace_s``: time for an envelope's approval to come after the records that name it; ``now``: s since 1970;
    ``rest``: waits for so many seconds: as long as the stretch before took, so that pages come first however much there is to
    catch up with."""

    def __init__(
        self, store: Store, trust: Callable[[], Trust], *, owner: str = "", deadline_s: int = 3 * 86_400,
        blobs: Blobs | None = None,
        grace_s: int = 0,
        now: Callable[[], float] = time.time,
        rest: Callable[[float], object] = lambda seconds: None,
    ) -> None:  # fmt: skip
        self._store = store
        self._trust = trust
        self._owner = owner
        self._deadline_s = deadline_s
        self._now = now
        self._blobs = blobs
        self._grace_s = grace_s
        self._rest = rest
        self._passed: set[str] = set()
        self._next = 0.0
        self._said: tuple[object, ...] = ()
        self._spans_judged: dict[tuple[int, int], int] = {}  #: up to where

    def step(self) -> bool:
        """Look through some of what is new, and judge what was active; False where nothing was new.

        Several processes may do so at once: what one has looked through, another passes over.
        """
        self._bring()
        found = False
        for log, size in self._behind():
            begun = time.monotonic()
            found = self._follow(log, size) or found
            self._rest(time.monotonic() - begun)
        if not found or time.monotonic() >= self._next:
            self._next = time.monotonic() + JUDGE_S
            self._judge(self._trust())
        return found

    def run_to_end(self) -> None:
        """Until nothing is new."""
        while self.step():
            pass

    def _bring(self) -> None:
        """Approvals that robots delivered with their records, as far as somebody who may proposed what they are of."""
        if self._blobs is None:
            return
        query = sa.select(registry.blobs.c.digest).where(
            registry.blobs.c.kind == "approval",
            registry.blobs.c.complete_s.is_not(None),
            registry.blobs.c.size <= MAX_FILE,
        )
        kept = sa.select(t.statements.c.digest).where(t.statements.c.form == "approval")
        with self._store.read() as tx:
            delivered = {bytes(digest).hex() for digest in tx.connection.execute(query).scalars()}
            delivered -= set(tx.connection.execute(kept).scalars())
        for digest in sorted(delivered - self._passed):
            data, trust, now = (
                self._blobs.path(bytes.fromhex(digest)).read_bytes(),
                self._trust(),
                int(self._now() * SECOND),
            )
            if not approvals.proposal_standing(data, trust, now).holds:
                continue  # its signer may become known
            proposal = approvals.parse(data)
            assert proposal is not None
            file = self._blobs.path(bytes.fromhex(proposal.file_digest))
            try:
                with self._store.begin() as tx:
                    approvals.take(tx, data, trust, now, [file.read_bytes()] if file.exists() else [])
            except EdgeMonitorError:
                self._passed.add(digest)  # another thing has its name: the exception that opens says so

    def _behind(self) -> list[tuple[int, int]]:
        """Logs with records that were not looked at: (number, size)."""
        seen = sa.func.coalesce(t.watch.c.seq, 0)
        query = (
            sa.select(registry.logs.c.log, registry.logs.c.size)
            .join(t.watch, t.watch.c.log == registry.logs.c.log, isouter=True)
            .where(registry.logs.c.size > seen)
            .order_by(registry.logs.c.log)
        )
        with self._store.read() as tx:
            return [(row.log, row.size) for row in tx.connection.execute(query)]

    def _follow(self, log: int, size: int) -> bool:
        """Bring the spans of a log forward by up to ``ROWS`` records; what is written is little, and written at once."""
        with self._store.read() as tx:
            cursor = tx.connection.execute(sa.select(t.watch.c.seq).where(t.watch.c.log == log)).scalar()
            start = cursor or 0
            end = min(size, start + ROWS)
            newest = sa.select(t.spans).where(t.spans.c.log == log).order_by(t.spans.c.first.desc()).limit(1)
            row = tx.connection.execute(newest).mappings().first()
            touched = self._spans(tx, log, start, end, _Span(**row) if row is not None else None)
        if start >= end:
            return False
        with self._store.begin(derived=True) as tx:
            if not _advanced(tx, log, cursor, end):
                return False
            self._write(tx, row is not None, touched)
        return True

    def _spans(self, tx: Transaction, log: int, start: int, end: int, span: _Span | None) -> list[_Span]:
        """The newest span as records make it grow, and those that follow it."""
        columns = (registry.events.c.seq, registry.events.c.type, registry.events.c.record)
        query = sa.select(*columns).where(
            registry.events.c.log == log, registry.events.c.seq >= start, registry.events.c.seq < end
        )
        touched: list[_Span] = [span] if span is not None else []
        active = span.active if span is not None else None
        activated: list[int] = []
        for event in tx.connection.execute(query.order_by(registry.events.c.seq)):
            head = _head(bytes(event.record))
            if head is None:
                continue
            if span is None or active != (head.boot_id, head.digests):
                active = head.boot_id, head.digests
                envelope, model, monitor = (part.hex() for part in head.digests)
                wall, now = head.wall_ns, int(self._now())
                span = _Span(
                    log, event.seq, event.seq, head.boot_id.hex(), envelope, model, monitor, wall, wall, 0, now
                )
                touched.append(span)
            span.last = event.seq
            if head.wall_ns >= 0:
                span.last_wall_ns = max(span.last_wall_ns, head.wall_ns)
                span.first_wall_ns = head.wall_ns if span.first_wall_ns < 0 else span.first_wall_ns
            if event.type == ACTIVATED:
                activated.append(event.seq)
        self._mark(tx, log, activated, touched)
        return touched

    @staticmethod
    def _mark(tx: Transaction, log: int, activated: Sequence[int], spans: Sequence[_Span]) -> None:
        """Note in spans what robots say of their own envelopes."""
        for sequence in activated:
            where = (registry.events.c.log == log, registry.events.c.seq == sequence)
            data = tx.connection.execute(sa.select(registry.events.c.payload).where(*where)).scalar()
            try:
                payload = decode_payload(bytes(data)) if data is not None else {}
            except VerificationError:
                continue
            if payload.get("unapproved") is True:
                for span in spans:
                    if span.first <= sequence <= span.last:
                        span.unapproved = 1

    @staticmethod
    def _write(tx: Transaction, first_is_there: bool, spans: Sequence[_Span]) -> None:
        rows = [{name: getattr(span, name) for name in _Span.__slots__} for span in spans]
        if first_is_there:
            old, rows = rows[0], rows[1:]
            where = (t.spans.c.log == old["log"], t.spans.c.first == old["first"])
            tx.connection.execute(sa.update(t.spans).where(*where).values(**old))
        if rows:
            tx.connection.execute(sa.insert(t.spans), rows)

    def _judge(self, trust: Trust) -> None:
        """Open what is not as it should be and is not open yet."""
        now = int(self._now())
        with self._store.read() as tx:
            state = (*_said(tx), trust.people.digest if trust.people is not None else "")
            if state != self._said:
                self._spans_judged = {}
                self._said = state
            spans = [span for span in read_spans(tx) if self._spans_judged.get((span.log, span.first)) != span.last]
            catalogue = Catalogue(tx, trust, now * SECOND)
            found = list(judge(catalogue, spans, everything=not self._spans_judged))
            if (
                trust.people is None
            ):  # missing, or not to be read just now: what is known does not hang on it, all else would
                found = [one for one in found if one.kind == "unknown_digest"]
            settled = settlements(catalogue)
        young = {(one.log, one.sequence) for one in found if one.seen_s + self._grace_s > now}
        fresh = [one for one in found if (one.log, one.sequence) not in young and _is_new(one, settled)]
        if fresh:
            self._open(fresh, trust, now)
        judged = {(span.log, span.first): span.last for span in spans}
        self._spans_judged |= {place: last for place, last in judged.items() if place not in young}

    def _open(self, found: Sequence[Finding], trust: Trust, now: int) -> None:
        with self._store.begin() as tx:
            if not self._store.is_sqlite:
                tx.connection.execute(sa.text("select pg_advisory_xact_lock(70175)"))  # one judge at a time
            settled = settlements(Catalogue(tx, trust, now * SECOND))
            for one in found:
                if not _is_new(one, settled):
                    continue
                settled[one.kind, one.robot, one.subject] = ""
                values = {
                    "kind": one.kind, "robot": one.robot, "subject": one.subject, "log": one.log, "seq": one.sequence,
                    "opened_s": now, "owner": one.owner or self._owner, "deadline_s": now + self._deadline_s,
                    "words": one.words,
                }  # fmt: skip
                tx.connection.execute(sa.insert(t.exceptions).values(**values))


def _is_new(one: Finding, settled: dict[tuple[str, str, str], int | str]) -> bool:
    """Whether it is not open, and was not settled since it was seen; what was accepted stays accepted."""
    known = settled.get((one.kind, one.robot, one.subject))
    return known is None or (isinstance(known, int) and one.seen_s > known)


def _advanced(tx: Transaction, log: int, cursor: int | None, end: int) -> bool:
    """Move a log's cursor from where it was; False where another process has."""
    if cursor is None:
        there = tx.connection.execute(sa.select(t.watch.c.seq).where(t.watch.c.log == log)).scalar()
        if there is not None:
            return False
        try:
            tx.connection.execute(sa.insert(t.watch).values(log=log, seq=end))
        except sa.exc.IntegrityError:
            return False
        return True
    update = sa.update(t.watch).where(t.watch.c.log == log, t.watch.c.seq == cursor)
    return bool(tx.connection.execute(update.values(seq=end)).rowcount)


def _said(tx: Transaction) -> tuple[object, ...]:
    """Changes with everything that people have said."""
    return (tx.connection.execute(sa.select(sa.func.max(t.statements.c.id))).scalar(),)


def _head(record: bytes) -> _Head | None:
    """What a record says first; None for one of a version that this program does not know."""
    try:
        head = _decoder.decode(record)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return head if head.version == VERSION else None
