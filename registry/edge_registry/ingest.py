"""``Ingest``: what the registry makes of a device's messages. No socket: a message and who it is from go in, answers come out.

Nothing is answered before the caller's transaction is committed. A batch is taken whole or not at all, and nothing in it is
believed before its records lead to a root that a key of the robot's chain signed.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import NamedTuple

import msgspec

from edge_monitor.errors import VerificationError
from edge_monitor.journal.cosignatures import CosignerKey, cosign, cosigner_of, open_receipt
from edge_monitor.journal.epochs import ROTATED, KeyChain, open_certificate
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.merkle import CompactRange, leaf_hash, leaf_hashes, root_from_inclusion
from edge_monitor.journal.notes import Checkpoint, open_note, parse_checkpoint, split_note
from edge_monitor.journal.reader import TILE_LEVEL
from edge_monitor.journal.records import VERSION
from edge_monitor.sync import wire
from edge_monitor.sync.packing import Block, unpack

from .conflicts import Conflict, of_batch, of_head, parting
from .own_log import append_receipts
from .store import Log, Robot, Transaction

CREDIT = 1 << 20  #: bytes that a device may send ahead of its receipts: some ten batches of small events
AHEAD = 2  #: batches that are unpacked before their turn
_VERSION = msgspec.msgpack.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Given:
    """A receipt that was given, for the registry's own log."""

    origin: str
    size: int
    root: bytes
    time: int
    note: str


class Ingest:
    """Takes messages for a registry whose receipts ``key`` signs. ``now``: s since 1970. ``former``: keys that signed before."""

    def __init__(
        self, key: SigningKey, now: Callable[[], int] = lambda: int(time.time()), former: Sequence[CosignerKey] = ()
    ) -> None:
        self.key = key
        self.cosigner = cosigner_of(key)
        self._former = tuple(former)
        self._now = now
        self._pool = ThreadPoolExecutor(1, "unpack")

    def hello(self, tx: Transaction, robot: Robot, message: wire.Hello, *, again: bool = False) -> list[wire.Downlink]:
        """A device begins a session: welcome, or why not.

        ``again``: it has seen a welcome over this connection. A head that is older than what is held may have been
        overtaken, by a stick or another session; one that is offered after the device has read how much is held can't.
        """
        least, most = message.protocols
        if not least <= wire.PROTOCOL <= most:
            return [_refused("version", f"this registry speaks protocol {wire.PROTOCOL}: update the older side")]
        if robot.state != "active":
            return [_refused("revoked", f"{robot.id} is {robot.state}: have it enrolled anew")]
        name, log_id = message.origin.rpartition("/")[0], _log_id(message.origin)
        if log_id is None:
            return [_refused("malformed", "the origin names no log")]
        if name != robot.id:
            return [_refused("signature", f"the journal is of {name[:64]!r}, the connection of {robot.id!r}")]
        log = tx.log(log_id, robot, lock=True)
        if log is None:
            log = tx.new_log(log_id, robot, message.origin, message.boot)
        else:
            if log.state != "open":
                return [_refused("quarantined", "this log is quarantined: a person must decide at the registry")]
            conflict = of_head(tx, log, message.head)
            if conflict is not None and again:
                return self._quarantined(tx, log, conflict)
            log = tx.begin_session(log, message.boot)
        log = self._restored(tx, log, message.receipt)
        root = log.tree.root()
        return [
            wire.Welcome(
                wire.PROTOCOL,
                log.session,
                log.size,
                root,
                self._own(log.receipt),
                CREDIT,
                self._now(),
                self.key.verifier.name,
            )
        ]

    def batches(
        self, tx: Transaction, robot: Robot, log_id: bytes, messages: Sequence[wire.Batch]
    ) -> list[wire.Downlink]:
        """Batches of one log in the order in which they came; one receipt covers all that were taken."""
        given: list[Given] = []
        answers = self.take(tx, robot, log_id, self.opened(tx, messages), given)
        self.log_receipts(tx, given)
        return answers

    def take(
        self, tx: Transaction, robot: Robot, log_id: bytes, messages: Iterable[Opened], given: list[Given]
    ) -> list[wire.Downlink]:
        """As ``batches``, of what ``opened`` answered, and adds the receipts to ``given``: the caller has them logged in the same
        transaction, at its end."""
        log = tx.log(log_id, robot, lock=True)
        if log is None:
            return [_refused("malformed", "a batch before its hello")]
        before = len(given)
        ended: list[wire.Downlink] = []
        for message, rows in messages:
            ended, log = self._batch(tx, robot, log, message, rows, given)
            if ended:
                break
        if len(given) > before:
            return [wire.Receipt(log.receipt, CREDIT), *ended]
        if ended:
            return ended
        # All of it came before: the same receipt again, unless it is by a key that was rotated.
        return [wire.Receipt(log.receipt, CREDIT) if self._own(log.receipt) else wire.Want(log.size)]

    def log_receipts(self, tx: Transaction, given: Sequence[Given]) -> None:
        """Put receipts into the registry's own log. Nobody else can until the transaction ends: call it last."""
        if given:
            append_receipts(tx, self.key, given)

    def carried(self, tx: Transaction, hello: wire.Hello, messages: Sequence[wire.Batch]) -> tuple[Log, str]:
        """Batches that came in a file, verified as those of a session, which go on beside it: the log, and why it is
        quarantined, where it is. The caller's transaction is committed in either case.

        Raises ``VerificationError`` for what does not hold, and where records between are missing.
        """
        name = hello.origin.rpartition("/")[0]
        robot = tx.robot(name)
        log_id = _log_id(hello.origin)
        if robot is None or log_id is None:
            raise VerificationError(
                f"the journal is of {name[:64]!r}, whom this registry does not know: enrol it first"
            )
        log = tx.log(log_id, robot, lock=True) or tx.new_log(log_id, robot, hello.origin, hello.boot)
        log = self._restored(tx, log, hello.receipt)
        given: list[Given] = []
        for message, rows in self.opened(tx, messages):
            own = msgspec.structs.replace(message, session=log.session)
            answers, log = self._batch(tx, robot, log, own, rows, given)
            for answer in answers:
                if isinstance(answer, wire.Want):
                    raise VerificationError(
                        f"the registry holds {log.size} records, the file goes on from {message.first}: "
                        f"export again with --from {log.size}"
                    )
                if isinstance(answer, wire.Refused) and answer.code in ("fork", "rollback"):
                    return log, answer.words
                if isinstance(answer, wire.Refused):
                    raise VerificationError(answer.words)
        if given:
            append_receipts(tx, self.key, given)
        return log, ""

    def alert(self, tx: Transaction, robot: Robot, log_id: bytes, message: wire.Alert) -> list[wire.Downlink]:
        """A critical record ahead of its turn: kept when it is proven, as early evidence."""
        log = tx.log(log_id, robot)
        if log is None or message.session != log.session:
            return [_refused("superseded", "an alert outside its session")]
        try:
            block = unpack(message.data, 1)
            keys = [robot.identity]
            if message.certificate:
                epoch, signers = open_certificate(message.certificate, keys)
                if not signers or epoch.origin != log.origin:
                    raise VerificationError("the certificate is not one of this log")
                keys = [epoch.key]
            text, signed = open_note(message.checkpoint, keys)
            checkpoint = parse_checkpoint(text)
            root = root_from_inclusion(leaf_hash(block.records[0]), message.sequence, checkpoint.size, message.path)
            if not signed or checkpoint.origin != log.origin or root != checkpoint.root:
                raise VerificationError("the alert is not under a checkpoint of this log")
            _hold_places(block, message.sequence, log)
        except (VerificationError, ValueError) as error:
            return [_refused("malformed", str(error))]
        (row,) = block.rows()
        path = b"".join(message.path)
        tx.keep_alert(log, message.sequence, row, checkpoint.size, path, message.checkpoint, self._now())
        return [wire.AlertKept(message.sequence)]

    def opened(self, tx: Transaction, messages: Sequence[wire.Batch]) -> list[Opened]:
        """Each batch, and what gives its rows, to be asked in this order. Where the database is another process, a thread unpacks
        and hashes what comes next; SQLite works in this one, and two would only wait for each other."""
        if tx.is_sqlite:
            return [(message, partial(_unpacked, message)) for message in messages]
        waiting, futures = iter(messages), deque[tuple[int, Future[_Rows]]]()
        begun = count()

        def rows(place: int) -> _Rows:
            while not futures or futures[-1][0] < min(place + AHEAD, len(messages) - 1):
                futures.append((next(begun), self._pool.submit(_unpacked, next(waiting))))
            while futures[0][0] < place:
                futures.popleft()  # of a log that is not taken any further
            return futures.popleft()[1].result()

        return [(message, partial(rows, place)) for place, message in enumerate(messages)]

    def _batch(
        self,
        tx: Transaction,
        robot: Robot,
        log: Log,
        message: wire.Batch,
        rows: Callable[[], _Rows],
        given: list[Given],
    ) -> tuple[list[wire.Downlink], Log]:
        if message.session != log.session:
            return [_refused("superseded", "a newer session of this log has begun")], log
        if robot.state != "active":
            return [_refused("revoked", f"{robot.id} is {robot.state}: have it enrolled anew")], log
        if log.state != "open":
            return [_refused("quarantined", "this log is not taken: a person must decide at the registry")], log
        end = message.first + message.count
        if message.first > log.size:
            return [wire.Want(log.size)], log
        try:
            block, leaves = rows()
            text, _ = open_note(message.checkpoint, [])
            checkpoint = parse_checkpoint(text)
            if checkpoint.origin != log.origin or checkpoint.size != end:
                raise VerificationError("the checkpoint is of another log or place")
        except VerificationError as error:
            return [_refused("malformed", str(error))], log
        if message.first < log.size:
            stored = block.rows()
            place = parting(tx, log, message.first, stored)
            if place is not None:
                conflict = of_batch(tx, log, message.first, stored, message.checkpoint, place)
                if conflict is not None:
                    return self._quarantined(tx, log, conflict), log
                return [
                    _refused("root", f"record {place} is another than the one that is held, and nobody signed it")
                ], log
            if end <= log.size:
                return [], log  # it came before
            block, leaves = block.after(log.size - message.first), leaves[log.size - message.first :]
        try:
            taken = self._verified(log, block, leaves, message.checkpoint, checkpoint)
        except _WrongRootError:
            # Records that don't follow ours, under a root that the device may well have signed: go back, and see where they part.
            back = max(0, log.size - wire.MAX_RECORDS) if message.first == log.size else 0
            if log.size and message.first != 0:
                return [wire.Want(back)], log
            return [_refused("root", "the records do not lead to the signed root: verify the journal")], log
        except _OtherHistoryError as error:
            return self._quarantined(tx, log, Conflict("fork", str(error), b"")), log
        except VerificationError as error:
            return [_refused("signature", str(error))], log
        note = cosign(message.checkpoint, self.key, self._now())
        tx.extend(taken.log, block, taken.tiles, note, self._now())
        given.append(Given(log.origin, end, checkpoint.root, self._now(), note))
        log = replace(taken.log, receipt=note)
        if log.recovery:
            log = self._recovered(tx, log, block)
        return [], log

    def _own(self, note: str) -> str:
        """A receipt that the present key signed; empty for one of a key that was rotated, which no device takes any more."""
        try:
            return note if note and open_receipt(note, self.cosigner) else ""
        except VerificationError:
            return ""

    def _restored(self, tx: Transaction, log: Log, note: str) -> Log:
        """The log, in recovery where the device holds a receipt of ours over more than is held: a backup was restored here."""
        if not note:
            return log
        try:
            receipted = open_receipt(note, self.cosigner, *self._former).checkpoint
        except VerificationError:
            return log  # another registry's, or nobody's
        known = _receipted(log)
        if receipted.origin != log.origin or receipted.size <= max(log.size, known.size if known else 0):
            return log
        return tx.recover(log, note)

    def _recovered(self, tx: Transaction, log: Log, block: Block) -> Log:
        """Record what did not come back, and end the recovery where all of it was gone through."""
        receipted = open_receipt(log.recovery, self.cosigner, *self._former).checkpoint.size
        first = log.size - len(block)
        lost = [place for place, payload in enumerate(block.payloads, first) if place < receipted and payload is None]
        tx.lose(log, lost, log.recovery, self._now())
        return tx.recover(log, "") if log.size >= receipted else log

    def _verified(self, log: Log, block: Block, leaves: Sequence[bytes], note: str, checkpoint: Checkpoint) -> _Taken:
        """The log with the rows added. Raises ``VerificationError`` where they are not what was signed."""
        _hold_places(block, log.size, log)
        tree = CompactRange(log.tree.size, log.tree.hashes)
        last, (number, key) = log.chain.last, log.chain.current
        chain = KeyChain.resumed(log.origin, log.chain.keys(0), last, number, key)
        epoch = _followed(chain, block, log.size)
        tiles: list[tuple[int, int, bytes]] = []
        receipted = _receipted(log)
        if receipted is not None and log.size < receipted.size <= log.size + len(block):
            until = receipted.size - log.size
            tiles = tree.extend(leaves[:until], TILE_LEVEL)
            if receipted.root != tree.root():
                raise _OtherHistoryError(
                    f"the first {tree.size} records are others than those that were receipted once"
                )
            leaves = leaves[until:]
        tiles += tree.extend(leaves, TILE_LEVEL)
        if tree.root() != checkpoint.root:
            raise _WrongRootError("root")
        _, signers = open_note(note, chain.keys(epoch))
        if not any(signer.name == log.robot for signer in signers):
            raise VerificationError("the checkpoint is not signed by the key of its place")
        return _Taken(replace(log, tree=tree, chain=chain), tiles)

    def _quarantined(self, tx: Transaction, log: Log, conflict: Conflict) -> list[wire.Downlink]:
        tx.quarantine(log, conflict.kind, conflict.words, conflict.proof)
        return [_refused(conflict.kind, conflict.words)]


class _Rows(NamedTuple):
    """A batch's rows, and their leaf hashes."""

    block: Block
    leaves: list[bytes]


Opened = tuple[wire.Batch, Callable[[], _Rows]]


def _unpacked(message: wire.Batch) -> _Rows:
    block = unpack(message.data, message.count)
    return _Rows(block, leaf_hashes(block.records))


@dataclass(frozen=True, slots=True)
class _Taken:
    log: Log
    tiles: list[tuple[int, int, bytes]]


class _WrongRootError(VerificationError):
    """The records do not lead to the root of the checkpoint."""


class _OtherHistoryError(Exception):
    """A log in recovery comes back as another than was receipted."""


def _receipted(log: Log) -> Checkpoint | None:
    """What this registry held once of a log in recovery."""
    return parse_checkpoint(split_note(log.recovery)[0]) if log.recovery else None


def _hold_places(block: Block, first: int, log: Log) -> None:
    """Hold rows against their places: records of this log, one after the other from ``first`` on; those of a later version are
    stored as they are. Raises ``VerificationError`` for bytes that are no record of their place."""
    if not block.log_ids <= {log.log_id}:
        raise _WrongRootError("a record of another log")
    if block.sequences == range(first, first + len(block)):
        return
    for place, (kind, sequence, record) in enumerate(
        zip(block.types, block.sequences, block.records, strict=True), first
    ):
        if not kind:
            if not _is_later(record):
                raise VerificationError(f"record {place} is none")
        elif sequence != place:
            raise _WrongRootError(f"record {sequence} stands at {place}")


def _followed(chain: KeyChain, block: Block, first: int) -> int:
    """Have the chain of keys follow the rows; answers the key epoch of the last of them whose version is known.

    Raises ``VerificationError`` for a record of an epoch that is not in force at its place.
    """
    epoch = chain.current[0]
    if set(block.epochs) == {epoch} and ROTATED not in block.types:
        return epoch  # nothing to follow
    columns = zip(block.types, block.epochs, block.payloads, strict=True)
    for place, (kind, of, payload) in enumerate(columns, first):
        if kind:
            wrong = chain.step(place, kind, of, payload)
            if wrong:
                raise VerificationError(f"record {place}: {wrong}")
            epoch = of
    return epoch


def _log_id(origin: str) -> bytes | None:
    """The log's id in a checkpoint's origin; None where it names none."""
    text = origin.rpartition("/")[2]
    try:
        found = uuid.UUID(text)
    except ValueError:
        return None
    return found.bytes if str(found) == text else None


def _is_later(record: bytes) -> bool:
    try:
        version = msgspec.msgpack.decode(_VERSION.decode(record)[0])
    except (msgspec.MsgspecError, IndexError, RecursionError):
        return False
    return isinstance(version, int) and version > VERSION


def _refused(code: str, words: str) -> wire.Refused:
    return wire.Refused(code, words[:500])
