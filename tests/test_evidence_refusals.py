"""What an evidence packet is refused for, each way with a code of its own, and the same one at both verifiers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from evidence_case import (
    IDENTITY,
    NOW,
    REGISTRY,
    SECOND,
    Case,
    contents,
    independent,
    keys_of,
    made,
    people_of,
    refused,
    sealed,
    zipped,
)
from test_evidence import LOG, swapped, tail_cut, without

from edge_monitor.evidence.verify import Trust, verify
from edge_monitor.journal.cosignatures import cosigner_of
from edge_monitor.journal.keys import SigningKey

Files = dict[str, bytes]
STRANGER = SigningKey("assessor", bytes([99]) * 32)


@dataclass(frozen=True)
class Attempt:
    """A packet that must not pass: how it is made of a good one's files, and what its verifier knows besides."""

    code: str
    change: Callable[[Files], object] = lambda files: None
    seal: Callable[[Files, Path], Path] = zipped
    late: bool = False
    own: bool = False
    stranger: bool = False
    known: int = 0
    revoked: dict[str, int] = field(default_factory=dict)


def flipped(files: Files) -> None:
    """One byte of the records."""
    data = files[f"{LOG}/events.bin"]
    files[f"{LOG}/events.bin"] = data[:100] + bytes([data[100] ^ 1]) + data[101:]


def other_type(files: Files) -> None:
    """The signed payload said to be of another type."""
    name = "attest/packet.dsse.json"
    files[name] = json.dumps(json.loads(files[name]) | {"payloadType": "text/plain"}).encode()


def bomb(files: Files, target: Path) -> Path:
    """A zip whose last entry says that it grows to 2 GiB."""
    data = bytearray(zipped(files, target).read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, 2 << 30)
    target.write_bytes(data)
    return target


ATTEMPTS = {
    "flipped byte": Attempt("file_changed", flipped),
    "dropped event": Attempt("dropped", without(7), sealed),
    "dropped tail": Attempt("checkpoint", tail_cut, sealed),
    "dropped counter-evidence": Attempt("file_missing", lambda files: files.pop("data/gaps.json")),
    "reordered segment": Attempt("reordered", swapped, sealed),
    "extra file": Attempt("file_unlisted", lambda files: files.update({"data/more.txt": b"and another thing"})),
    "wrong key": Attempt("exporter_key", stranger=True),
    "revoked key": Attempt("revoked_key", revoked={"robot": 5}),
    "payload type swapped": Attempt("payload_type", other_type),
    "old packet replayed": Attempt("older", known=9999),
    "self-approval": Attempt("self_approval", own=True),
    "envelope approved after use": Attempt("envelope_late", late=True),
    "zip-slip": Attempt("zip_path", lambda files: files.update({"../out": b""})),
    "zip bomb": Attempt("zip_bomb", seal=bomb),
    "oversize JSON": Attempt(
        "oversize", lambda files: files.update({"data/gaps.json": files["data/gaps.json"] + b" " * (65 << 20)}), sealed
    ),
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Case, Path]]:
    """A log with everything in it, one whose envelope was approved late, and one whose planner approved it; packets of them."""
    found = {}
    options: dict[str, dict[str, Any]] = {"": {}, "late": {"approved_at": NOW + 7200 * SECOND}, "own": {"own": True}}
    for name, arguments in options.items():
        case = made(tmp_path_factory.mktemp("evidence"), **arguments)
        found[name] = case, case.packet()
    return found


@pytest.fixture(scope="module")
def other(root: Path) -> ModuleType:
    """The independent verifier."""
    return independent(root)


@pytest.mark.parametrize("what", ATTEMPTS)
def test_each_way_is_refused_by_both_verifiers_with_its_own_code(
    cases: dict[str, tuple[Case, Path]], tmp_path: Path, other: ModuleType, what: str
) -> None:
    """Both verifiers refuse it, and say the one code that is this way's."""
    attempt = ATTEMPTS[what]
    case, packet = cases["late" if attempt.late else "own" if attempt.own else ""]
    files = contents(packet)
    attempt.change(files)
    target = attempt.seal(files, tmp_path / "p.zip")
    origin = json.loads(contents(packet)[f"{LOG}/proof.json"])["origin"]
    known = {origin: attempt.known} if attempt.known else {}
    exporters, keys = case.trust.exporters, keys_of(other)
    if attempt.stranger:
        exporters, keys[0] = [STRANGER.verifier], [other.parse_key(STRANGER.verifier.text(), b"\x01")]
    trust = Trust(
        exporters, [IDENTITY.verifier], [cosigner_of(REGISTRY)], case.trust.people, known=known, revoked=attempt.revoked
    )
    assert [code for code, _ in verify(target, trust).failures] == [attempt.code]
    bounds = {"known": known, "revoked": attempt.revoked, "people": people_of(other)}
    assert refused(other, target, *keys, **bounds).startswith(f"{attempt.code}: ")


def test_no_two_ways_share_a_code() -> None:
    """Who is told the code knows which of the ways it was."""
    codes = [attempt.code for attempt in ATTEMPTS.values()]
    assert len(set(codes)) == len(codes)


def test_a_good_packet_passes_both_with_people_given(cases: dict[str, tuple[Case, Path]], other: ModuleType) -> None:
    """With planner and approver given, the second verifier accepts what the first does, and holds people to their roles."""
    case, packet = cases[""]
    assert verify(packet, case.trust).word == "VERIFIED"
    assert other.verify(packet, *keys_of(other), people=people_of(other))[0] == "VERIFIED"
    planners = [one for one in people_of(other) if one[0] == "planner"]
    assert refused(other, packet, *keys_of(other), people=planners).startswith("envelope_unapproved: ")
