"""The reader's page: what happened, who was in control, what was decided and why, and what is missing.

One file, no network, no script. It is derived from the records, and vouches for nothing: it says so, and how to verify.
Nothing from a record is ever written unescaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ..journal.event_types import EVENT_TYPES
from ..journal.notes import parse_checkpoint, split_note
from ..journal.records import Record
from ..utc import SECOND, utc_text

#: Families whose every event stands in the story; of the others, only counts.
TOLD = ("authority", "handover", "override", "failsafe", "mrm", "gate", "latch", "action", "drift", "odd", "envelope", "monitor",
        "clock", "journal", "mitigation")  # fmt: skip
QUIET = frozenset({"monitor.heartbeat"})
MOST = 2000  #: events in the story
_STORY = frozenset(kind for kind in EVENT_TYPES if kind.split(".")[0] in TOLD) - QUIET

README = """This is an evidence packet of edge-monitor: part of a robot's signed log, for someone who trusts nobody in it.

Read        data/index.html   (any browser, no network)
Verify      edge-monitor evidence verify PACKET.zip --exporter EXPORTER.pub --robot ROBOT.pub --registry-key RECEIPTS.pub
            The keys must come to you another way than with this packet.
Checksums   unzip the packet and run: sha256sum -c manifest-sha256.txt

What it does not show: that what was never recorded did not happen; that sensors told the truth; anything after its last receipt.
data/gaps.json lists what is known to be missing.
"""

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #999}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem .25rem 0;vertical-align:top;border-bottom:1px solid #ddd}
td.t{white-space:nowrap;font-variant-numeric:tabular-nums}.box{border:2px solid #7a4a00;padding:.6rem 1rem;background:#fff7e6}
code{font-size:.9em;overflow-wrap:anywhere}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr{break-inside:avoid}}
"""

_HEAD = (
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    "<title>{0}</title><style>{1}</style>"
)
_DERIVED = (
    "<p>This page is derived from the signed records beside it and vouches for nothing by itself: <code>edge-monitor evidence "
    "verify</code> checks the packet with keys that reached you another way.</p>"
)


class Page:
    """Gathers the story record by record."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._counts: Counter[str] = Counter()
        self._rules: dict[str, Counter[str]] = {}
        self._story: list[tuple[int, int, str, str]] = []  # sequence, t, type, words
        self._told = 0
        self._control: list[tuple[int, str, str]] = []  # t, who, why
        self._span: list[int] = []
        self._wall: list[int] = []

    def add(self, record: Record, payload: dict[str, Any] | None) -> None:
        """The next record."""
        said = payload or {}
        self._counts[record.type] += 1
        self._span = [self._span[0] if self._span else record.t_effective, record.t_decided]
        if record.wall_ns > 0:
            self._wall = [self._wall[0] if self._wall else record.wall_ns, record.wall_ns]
        if record.type.startswith("check."):
            for rule in record.rules:
                self._rules.setdefault(rule, Counter())[record.type] += 1
        if record.type == "authority.changed":
            self._control.append((record.t_effective, str(said.get("to", "unknown")), str(said.get("cause", ""))))
        if record.type in _STORY:
            self._told += 1
            if len(self._story) < MOST:
                self._story.append((record.sequence, record.t_effective, record.type, words(record, payload)))

    def html(self, gaps: dict[str, Any], missing: Sequence[str], receipts: Sequence[str], count: int) -> bytes:
        """The page. ``missing``: the gaps in words."""
        start = self._span[0] if self._span else 0
        last = gaps["before"] + count - 1
        parts = [
            _HEAD.format(escape(self.origin), _STYLE),
            f"<h1>What {escape(self.origin.rpartition('/')[0])} recorded</h1>",
            f"<p>Log <code>{escape(self.origin)}</code>, records {gaps['before']} to {last}{self._when()}.</p>",
            _DERIVED,
            "<h2>What is missing</h2>",
            _listed(missing) if missing else "<p>Nothing is known to be missing.</p>",
            _receipts(receipts),
            "<h2>Who was in control</h2>",
            self._controls(start),
            "<h2>What happened</h2>",
            self._happened(start),
            "<h2>Limits</h2>",
            self._limits(),
            "<h2>All records by type</h2>",
            _table(("type", "records"), [(escape(kind), str(n)) for kind, n in sorted(self._counts.items())]),
            "</html>",
        ]
        return "\n".join(parts).encode("utf-8", "replace")

    def _when(self) -> str:
        if not self._wall:
            return ", wall clock unknown"
        first, last = (utc_text(ns // SECOND * SECOND) for ns in self._wall)
        return f", {escape(first)} to {escape(last)} by the robot's clock"

    def _controls(self, start: int) -> str:
        if not self._control:
            return "<p>No change of control is recorded here; who was in control is not known from these records.</p>"
        rows = []
        ends = [t for t, _, _ in self._control[1:]] + [self._span[1]]
        for (t, who, why), end in zip(self._control, ends, strict=True):
            rows.append((_seconds(t - start), _seconds(end - t), escape(who), escape(why) or "not recorded"))
        return _table(("from (s)", "for (s)", "in control", "why"), rows)

    def _happened(self, start: int) -> str:
        if not self._story:
            return "<p>No decision, handover or change is recorded here.</p>"
        rows = [(str(seq), _seconds(t - start), escape(kind), escape(text)) for seq, t, kind, text in self._story]
        more = (
            f"<p>{self._told - len(self._story)} more are in events.ndjson.</p>"
            if self._told > len(self._story)
            else ""
        )
        return _table(("record", "at (s)", "what", "in words"), rows) + more

    def _limits(self) -> str:
        rows = [
            (escape(rule), *(str(counts[f"check.{verdict}"]) for verdict in ("fail", "unknown", "pass")))
            for rule, counts in sorted(self._rules.items())
        ]
        if not rows:
            return "<p>No limit was passed or came back within its bounds in these records.</p>"
        return _table(("check", "times failed", "times unknown", "times passed again"), rows)


def words(record: Record, payload: dict[str, Any] | None) -> str:
    """An event in a line, from what its payload says."""
    if payload is None:
        return "(payload not there)"
    parts = [str(payload.get("subject", ""))]
    if "from" in payload and "to" in payload:
        parts.append(f"{payload['from']} → {payload['to']}:")
    if payload.get("value") is not None:
        parts.append(
            f"value {payload['value']:.6g}" if isinstance(payload["value"], float) else f"value {payload['value']}"
        )
    if payload.get("limit") is not None:
        limit = payload["limit"]
        parts.append(f"limit {limit:.6g}" if isinstance(limit, float) else f"limit {limit}")
        parts.append(str(payload.get("unit", "")))
    parts += [str(payload[name]) for name in ("cause", "what", "reason") if payload.get(name)]
    if record.actor:
        parts.append(f"by {record.actor}")
    return " ".join(part for part in parts if part)[:500]


def _receipts(receipts: Sequence[str]) -> str:
    for note in receipts:
        text, signatures = split_note(note)
        for name, signature in signatures[1:]:
            if len(signature) == 76:  # key id, time, Ed25519: a cosignature
                time = int.from_bytes(signature[4:12], "big")
                size = parse_checkpoint(text).size
                return f"<p>Receipted: {escape(name)} says that it held the first {size} records at {_utc(time)}.</p>"
    return "<p class=box>No registry has receipted these records.</p>"


def _utc(seconds: int) -> str:
    try:
        return escape(utc_text(seconds * SECOND))
    except (ValueError, OverflowError):
        return "an impossible time"


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:.3f}"


def _listed(lines: Iterable[str]) -> str:
    return "<div class=box><ul>" + "".join(f"<li>{escape(line)}" for line in lines) + "</ul></div>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th scope=col>{escape(name)}" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows)
    return f"<table><thead><tr>{top}<tbody>{body}</table>"
