"""Evidence packets that are made on a page: exported, verified at once as a stranger would, and kept for a while."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from edge_monitor.errors import ConfigError, UsageError
from edge_monitor.evidence.packet import export
from edge_monitor.journal.cosignatures import CosignerKey
from edge_monitor.journal.keys import SigningKey, VerifierKey, load_signing_key, make_key

from .. import tables as t
from ..blobs import Blobs
from ..evidence import LogSource, chosen
from ..store import Transaction
from . import tables as w
from .pages_store import PagesStore
from .shown import State, log_text

KEPT = 200  #: packets whose files stay; older ones are made again from the same records, with the same bytes
AT_ONCE = 2  #: that are made at a time
MOST = 2_000_000  #: records of one
VERIFY_S = 300  #: that a verifier has
KEY = "packets"  #: what the key is called that signs the lists of files


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that was made: records ``first`` to before ``end``."""

    number: int
    robot: str
    log_id: str
    first: int
    end: int
    at_s: int
    person: str
    file: str
    bytes: int
    digest: str
    verdict: str
    findings: list[str]
    seconds: str
    there: bool

    def state(self) -> State:
        """The verdict."""
        kinds = {"VERIFIED": "ok", "INCOMPLETE": "warn"}
        words = {
            "VERIFIED": "everything holds, nothing is missing",
            "INCOMPLETE": "everything here holds; what is missing is listed",
        }
        return State(
            kinds.get(self.verdict, "bad"), f"{self.verdict}: {words.get(self.verdict, 'something does not hold')}"
        )


class Packets:
    """Makes packets in a folder. The key that signs them is made with it; its public half is there, and on the page of keys."""

    def __init__(self, store: PagesStore, folder: Path, registries: Sequence[CosignerKey], blobs: Blobs) -> None:
        """Raises ``ConfigError`` where the folder can't be written."""
        self._store, self._folder, self._registries, self._blobs = store, folder, registries, blobs
        self._room = threading.Semaphore(AT_ONCE)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot keep packets here ({error.strerror})") from None
        self.key = _key(folder, f"{registries[0].name}-{KEY}")

    def make(self, log_id: str, first: int, end: int, person: str, people: bytes) -> int:
        """Export, verify and keep a packet: its number. ``people``: a people file, empty for none.

        Raises ``UsageError`` for a range that can't be.
        """
        if not self._room.acquire(timeout=30):
            raise UsageError(f"{AT_ONCE} packets are being made already: try again in a minute")
        try:
            return self._made(log_id, first, end, person, people)
        finally:
            self._room.release()

    def _made(self, log_id: str, first: int, end: int, person: str, people: bytes) -> int:
        begun = time.monotonic()
        name = f"{secrets.token_hex(8)}.zip"
        out = self._folder / name
        with self._store.read() as tx:
            query = sa.select(t.logs.c.robot, t.logs.c.log, t.logs.c.size).where(t.logs.c.log_id == _bytes(log_id))
            row = tx.connection.execute(query).first()
            if row is None or not 0 <= first < end <= row.size or end - first > MOST:
                raise UsageError(f"records {first} to {end - 1} can't be one packet: a log's own, and {MOST} at most")
            robot = tx.robot(row.robot)
            assert robot is not None
            log = chosen(tx, row.robot, log_id)
            done = export(LogSource(tx, log, end, self._blobs), out, self.key, start=first, end=end)
        verdict, findings = self._verified(out, robot.identity, people, log.valid_size)
        seconds = f"{time.monotonic() - begun:.2f}"
        with self._store.own() as tx:
            values = {
                "log": row.log,
                "first": first,
                "end": end,
                "at_s": int(time.time()),
                "person": person,
                "file": name,
                "bytes": out.stat().st_size,
                "digest": done.digest,
                "verdict": verdict,
                "findings": json.dumps(findings[:200]),
                "seconds": seconds,
            }
            key = tx.connection.execute(sa.insert(w.packets).values(**values)).inserted_primary_key
            assert key is not None
            number = int(key[0])
            old = (
                sa.select(w.packets.c.file)
                .where(w.packets.c.id <= number - KEPT)
                .order_by(w.packets.c.id.desc())
                .limit(KEPT)
            )
            going = list(tx.connection.execute(old).scalars())
        for file in going:
            (self._folder / file).unlink(missing_ok=True)
        return number

    def _verified(self, out: Path, robot: VerifierKey, people: bytes, counting: int | None) -> tuple[str, list[str]]:
        """The verdict on a packet, and what is missing or does not hold, by a process of its own: this one has no engine."""
        with tempfile.TemporaryDirectory(prefix="verify-") as name:
            folder = Path(name)
            keys = [("exporter", self.key.verifier.text()), ("robot", robot.text())]
            keys += [("registry-key", one.text()) for one in self._registries]
            command = [
                sys.executable,
                "-c",
                "from edge_monitor.cli import main; main()",
                "evidence",
                "verify",
                str(out),
                "--json",
            ]
            for number, (option, line) in enumerate(keys):
                (folder / f"{number}.pub").write_text(line + "\n", "utf-8")
                command += [f"--{option}", str(folder / f"{number}.pub")]
            if counting is not None:
                command += ["--revoked", f"{robot.name}={counting}"]
            if people:
                (folder / "people.yaml").write_bytes(people)
                command += ["--people", str(folder / "people.yaml")]
            done = subprocess.run(command, capture_output=True, check=False, timeout=VERIFY_S)
        try:
            document = json.loads(done.stdout)
            failures = [f"{one['what']} ({one['code']})" for one in document["failures"]]
            return str(document["verdict"]), failures + [str(words) for words in document["missing"]]
        except (ValueError, KeyError, TypeError):
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            return "FAILED", [f"the verifier ended with code {done.returncode}: {said[-1]}"]

    def path(self, packet: Packet) -> Path:
        """Where its file is."""
        return self._folder / packet.file

    def packet(self, tx: Transaction, number: int) -> Packet | None:
        """One packet."""
        rows = tx.connection.execute(_query().where(w.packets.c.id == number)).all()
        return self._packets(rows)[0] if rows else None

    def newest(self, tx: Transaction, most: int = 100) -> list[Packet]:
        """Packets, the newest first."""
        return self._packets(tx.connection.execute(_query().order_by(w.packets.c.id.desc()).limit(most)).all())

    def _packets(self, rows: Sequence[Any]) -> list[Packet]:
        return [
            Packet(
                row.id,
                row.robot,
                log_text(row.log_id),
                row.first,
                row.end,
                row.at_s,
                row.person,
                row.file,
                row.bytes,
                row.digest,
                row.verdict,
                json.loads(row.findings),
                row.seconds,
                (self._folder / row.file).is_file(),
            )
            for row in rows
        ]


def _query() -> sa.Select[Any]:
    return sa.select(w.packets, t.logs.c.log_id, t.logs.c.robot).join(t.logs, t.logs.c.log == w.packets.c.log)


def _key(folder: Path, name: str) -> SigningKey:
    """The key in the folder, made where there is none. Two processes that begin at once get in each other's way once."""
    path = folder / f"{name}.key"
    if not path.exists():
        try:
            make_key(name, folder)
        except (UsageError, ConfigError, OSError):
            if not path.exists():
                raise
    return load_signing_key(path)


def _bytes(log_id: str) -> bytes:
    return bytes.fromhex(log_id.replace("-", ""))
