"""A robot's log with everything that a packet can hold, and packets of it with one thing wrong, signed anew by their exporter."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from edge_monitor import envelope as envelopes
from edge_monitor.envelope.approval import approve, propose
from edge_monitor.evidence import statement
from edge_monitor.evidence.packet import Attached, JournalSource, export
from edge_monitor.evidence.verify import Trust
from edge_monitor.journal import Digests, Entry, Journal, Severity
from edge_monitor.journal.cosignatures import cosign, cosigner_of
from edge_monitor.journal.keys import SigningKey
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import WallStatus
from edge_monitor.people import loads as load_people

SECOND = 1_000_000_000
NOW = 1_790_000_000 * SECOND  #: when the envelope is approved; the log begins an hour later

IDENTITY, REGISTRY, EXPORTER = (
    SigningKey(n, bytes([i]) * 32) for i, n in enumerate(("robot", "registry", "assessor"), 1)
)
PLANNER, APPROVER = SigningKey("paula", bytes([7]) * 32), SigningKey("anton", bytes([8]) * 32)
PEOPLE = load_people(
    f"""edge_monitor_people: 1
people:
  paula: {{name: Paula, roles: [planner, approver], keys: ["{PLANNER.verifier.text()}"]}}
  anton: {{name: Anton, roles: [approver], keys: ["{APPROVER.verifier.text()}"]}}
""".encode()
)
ENVELOPE = b"""edge_monitor: 1
envelope: {id: yard, version: 1, vehicle: cart}
signals:
  speed: {topic: /odom, type: nav_msgs/msg/Odometry, field: twist.twist.linear.x, unit: m/s, max_age: 1 s}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 2.0, severity: critical, rationale: "the yard's limit"}
"""


@dataclass(frozen=True)
class Case:
    """A log, its envelope and approval, and what an assessor trusts."""

    folder: Path
    journal: Path
    attached: Attached
    trust: Trust

    def packet(
        self, name: str = "packet.zip", *, start: int = 0, end: int | None = None, attached: Attached | None = None
    ) -> Path:
        """A packet of it."""
        source = JournalSource(self.journal)
        export(source, self.folder / name, EXPORTER, start=start, end=end, attached=attached or self.attached)
        source.close()
        return self.folder / name


def made(folder: Path, *, approved_at: int = NOW, own: bool = False) -> Case:
    """A log of two runs under key epochs, receipted to its end. ``own``: the planner approves the envelope too."""
    file = folder / "yard.yaml"
    file.write_bytes(ENVELOPE)
    envelope = envelopes.load(file)
    note = propose(envelope, PLANNER, "paula", PEOPLE, NOW - SECOND)
    approval = _approval(envelope, note, approved_at, own)
    journal = folder / "journal.db"
    clock = [NOW + 3600 * SECOND]

    def wall() -> tuple[int, WallStatus, int]:
        clock[0] += SECOND
        return clock[0], WallStatus.SYNCHRONISED, 1000

    for boot in (1, 2):
        digests = Digests(bytes.fromhex(envelope.digest), b"", b"test")
        salts = iter(hashlib.sha256(bytes([boot, n])).digest() for n in range(256))
        options = {"wall": wall, "entropy": lambda count, salts=salts: next(salts)[:count], "epochs": True}
        with Journal.create_or_open(journal, IDENTITY, digests=digests, boot_id=bytes([boot]) * 16, **options) as log:
            _run(log)
    with Journal.create_or_open(journal, IDENTITY) as log, Reader(journal) as reader:
        _, checkpoint = reader.last_checkpoint() or (0, "")
        log.receive(cosign(checkpoint, REGISTRY, 1_790_010_000), cosigner_of(REGISTRY))
    attached = Attached({envelope.digest: (ENVELOPE, approval)})
    trust = Trust([EXPORTER.verifier], [IDENTITY.verifier], [cosigner_of(REGISTRY)], PEOPLE)
    return Case(folder, journal, attached, trust)


def _approval(envelope: envelopes.Envelope, note: bytes, at: int, own: bool) -> bytes:
    key, person = (PLANNER, "paula") if own else (APPROVER, "anton")
    if not own:
        return approve(envelope, note, key, person, PEOPLE, at, ticket="T-1", expires_ns=at + 30 * 86_400 * SECOND)
    from edge_monitor.envelope.statements import Consent, join_file, note_hash
    from edge_monitor.journal.notes import sign_note

    consent = Consent(note_hash(note.decode()), person, "T-1", "", at, at + 30 * 86_400 * SECOND)
    return join_file(note.decode(), sign_note(consent.text(), key))


def _run(log: Journal) -> None:
    log.append(Entry("monitor.started", Severity.NEGLIGIBLE, 0, 0, {"subject": "monitor"}, now=True))
    log.rotate(0)
    for t in range(1, 20):
        kind = ("check.fail", "check.pass", "gate.no_go", "authority.changed")[t % 4]
        payload = {
            "subject": "speed_limit",
            "value": t / 7,
            "limit": 2.0,
            "unit": "m/s",
            "cause": "<script>alert(1)</script>",
        }
        payload |= {"from": "human", "to": "autonomy"} if kind == "authority.changed" else {}
        log.append(Entry(kind, Severity.CRITICAL, t * SECOND, t * SECOND, payload, rules=("speed_limit",)))
    log.append(
        Entry("monitor.stopped", Severity.NEGLIGIBLE, 20 * SECOND, 20 * SECOND, {"subject": "monitor"}, now=True)
    )


def independent(root: Path) -> ModuleType:
    """The independent verifier, a file by itself; each signature is asked for once, as Ed25519 in Python is slow."""
    spec = importlib.util.spec_from_file_location("verify_packet", root / "registry/verify/verify_packet.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ed25519 = functools.cache(module.ed25519)
    return module


def keys_of(other: ModuleType) -> list[list[object]]:
    """The keys of the case as the independent verifier has them."""
    lines = (EXPORTER.verifier.text(), IDENTITY.verifier.text(), cosigner_of(REGISTRY).text())
    return [[other.parse_key(line, kind)] for line, kind in zip(lines, (b"\x01", b"\x01", b"\x04"), strict=True)]


def people_of(other: ModuleType) -> list[tuple[str, str, object]]:
    """Who may propose and approve, as the independent verifier has them."""
    paula, anton = (other.parse_key(key.verifier.text(), b"\x01") for key in (PLANNER, APPROVER))
    return [("planner", "paula", paula), ("approver", "paula", paula), ("approver", "anton", anton)]


def refused(other: ModuleType, path: Path, *keys: object, **bounds: object) -> str:
    """Why the independent verifier refuses a packet: its code and words; empty where it does not."""
    try:
        other.verify(path, *keys, **bounds)
    except other.Failed as error:
        return f"{error.code}: {error}"
    return ""


def second(other: ModuleType, path: Path) -> str:
    """What the independent verifier says."""
    try:
        return str(other.verify(path, *keys_of(other))[0])
    except other.Failed:
        return "FAILED"


def contents(packet: Path) -> dict[str, bytes]:
    """A packet's files."""
    with zipfile.ZipFile(packet) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sealed(files: dict[str, bytes], target: Path, key: SigningKey = EXPORTER) -> Path:
    """The files as a packet again: manifests and signed statement made to fit, as a dishonest exporter would."""
    document = json.loads(files["attest/packet.dsse.json"])
    predicate = json.loads(statement.decode_base64(document["payload"]) or b"{}")["predicate"]
    files = {name: data for name, data in files.items() if "manifest" not in name and not name.startswith("attest/")}
    for name, inside in (("manifest-sha256.txt", True), ("tagmanifest-sha256.txt", False)):
        lines = [f"{hashlib.sha256(data).hexdigest()}  {file}\n" for file, data in sorted(files.items())]
        files[name] = "".join(line for line in lines if line[66:].startswith("data/") == inside).encode()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return zipped(files | {"attest/packet.dsse.json": statement.sign(digests, predicate, key)}, target)


def zipped(files: dict[str, bytes], target: Path) -> Path:
    """The files as they are, as a zip."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    target.write_bytes(stream.getvalue())
    return target


Change = Callable[[dict[str, bytes]], None]
