"""What verification says: separate verdicts, what does not hold, and what cannot be proven locally."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold. ``sequence`` to ``last``: the records it speaks of, -1 for none in particular.

    ``kind``: ``missing``, ``order``, ``record``, ``payload``, ``cache``, ``root``, ``checkpoint``, ``file`` or
    ``signature`` or ``receipt``.
    """

    sequence: int
    last: int
    kind: str
    what: str


@dataclass(slots=True)
class Run:
    """Records between a begin mark, or a change of boot, and the next: sequences, and which of its marks are there."""

    boot_id: bytes
    first: int
    last: int
    begun: bool
    ended: bool


@dataclass(slots=True)
class Report:
    """What verification found. Times in ns on the stream's clock."""

    path: Path
    origin: str = ""
    records: int = 0
    checkpoints: int = 0
    t_first: int | None = None
    t_last: int | None = None
    keys_given: bool = False
    signers: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    silences: list[tuple[int, int]] = field(default_factory=list)  #: (sequence after it, ns), longer than HEARTBEAT_NS
    erased: list[int] = field(default_factory=list)  #: sequences whose payload was erased, the first of them
    erased_payloads: int = 0
    events: dict[str, int] = field(default_factory=dict)
    receipted: int | None = None  #: records under the newest valid receipt; None where no registry's key was given

    @property
    def integrity(self) -> str:
        """``verified`` or ``FAILED``."""
        return "FAILED" if any(finding.kind != "signature" for finding in self.findings) else "verified"

    @property
    def authorship(self) -> str:
        """``verified``, ``FAILED``, or ``not checked`` where no key was given."""
        if not self.keys_given:
            return "not checked"
        return (
            "FAILED"
            if not self.signers or any(finding.kind == "signature" for finding in self.findings)
            else "verified"
        )

    @property
    def gapless(self) -> bool:
        """Whether every sequence from 0 to the last is there, once."""
        return not any(finding.kind in ("missing", "order") for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether nothing that was checked failed."""
        return self.integrity == "verified" and self.authorship != "FAILED"

    def document(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "journal": str(self.path),
            "origin": self.origin,
            "verified": self.ok,
            "integrity": self.integrity,
            "authorship": self.authorship,
            "signers": self.signers,
            "records": self.records,
            "checkpoints": self.checkpoints,
            "t_first_ns": self.t_first,
            "t_last_ns": self.t_last,
            "events": dict(sorted(self.events.items())),
            "erased_payloads": {"count": self.erased_payloads, "sequences": self.erased},
            "completeness": {
                "gapless": self.gapless,
                "tail": "not provable locally",
                "receipted_up_to": self.receipted,
                "runs": [
                    {
                        "boot": r.boot_id.hex(),
                        "first": r.first,
                        "last": r.last,
                        "begin_mark": r.begun,
                        "clean_end": r.ended,
                    }
                    for r in self.runs
                ],
                "silences": [{"before_sequence": sequence, "seconds": ns / 1e9} for sequence, ns in self.silences],
            },
            "findings": [
                {"sequence": f.sequence, "last": f.last, "kind": f.kind, "what": f.what} for f in self.findings
            ],
        }
