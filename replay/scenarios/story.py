"""The story of a flight, told from the events of its journal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path

from signs import SIGNS, START, TRUTH, Event, sign_of

from edge_monitor.commands.journal import document
from edge_monitor.errors import EdgeMonitorError
from edge_monitor.journal.notes import parse_checkpoint
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_payload, decode_record

WIDTH = 118


class MissingSignError(EdgeMonitorError):
    """Something was made to happen, and the monitor did not show it."""


def read(journal: Path) -> list[Event]:
    """The events of a journal, in order."""
    with Reader(journal) as reader:
        return [
            document(decode_record(row.record), None if row.payload is None else decode_payload(row.payload))
            for row in reader.rows()
        ]


def seconds(t: int) -> float:
    """Seconds since the start of the flight."""
    return (t - START) / 1e9


def progress(event: Event) -> str:
    """What is said of an event while the plane flies; empty where nothing is."""
    kind, subject = event["type"], event["subject"]
    words = ""
    if kind == "authority.changed":
        words = f"{event['to']} in command: {event['cause']}"
    elif kind == "gate.go":
        words = f"{subject} GO"
    elif kind == "gate.no_go" and "never_received" not in event["cause"]:
        words = f"{subject} NO_GO: {event['cause']}"
    elif kind.startswith(("handover.", "mrm.", "failsafe.")):
        words = f"{kind} {subject}" if kind.startswith("handover.") else kind
        words += f": {event['cause']}" if event["cause"] else ""
    return f"{seconds(event['t_ns']):+8.1f} s  {words}" if words else ""


def command(events: Sequence[Event], end: int) -> Iterator[str]:
    """Who was in command, when and why, and what the gates withheld meanwhile. ``end``: of the flight, ns."""
    changes = [event for event in events if event["type"] == "authority.changed"]
    limits = list(_limits(events, end))
    for event, after in pairwise([*changes, None]):
        assert event is not None
        until = end if after is None else after["t_ns"]
        yield f"{_span(event['t_ns'], until)}  {event['to']:<9} {event['cause']}"
        for since, to, words in limits:
            if event["t_ns"] <= since < until:
                yield from _wrapped(f"{'':21}{_span(since, to)}  ", words)


def _limits(events: Sequence[Event], end: int) -> Iterator[tuple[int, int, str]]:
    """Spans of NO_GO with their reasons; gates that say the same at the same times are one line."""
    decisions = [event for event in events if event["type"] in ("gate.go", "gate.no_go")]
    found = []
    for number, event in enumerate(decisions):
        if event["type"] == "gate.no_go":
            later = (other for other in decisions[number + 1 :] if other["subject"] == event["subject"])
            found.append((event["t_ns"], next((other["t_ns"] for other in later), end), _why(event), event["subject"]))
    for (since, to, why), same in groupby(sorted(found), key=lambda row: row[:3]):
        yield since, to, f"no-go for {' and '.join(row[3] for row in same)}: {why}"


def _why(event: Event) -> str:
    """The criteria that a gate failed on with value and limit; what is unknown in a few words."""
    failed = [reason for reason in event["reasons"] if reason["verdict"] == "FAIL"]
    if (
        all(reason["cause"] == "never_received" for reason in event["reasons"] if reason["verdict"] == "UNKNOWN")
        and not failed
    ):
        return "nothing received yet"
    if not failed:
        return str(event["cause"])
    return ", ".join(f"{reason['criterion']}{_figures(reason)}" for reason in failed)


def _figures(said: Event) -> str:
    if said.get("value") is not None and said.get("limit") is not None:
        return f" {said['value']:.4g} against {said['limit']:.4g} {said['unit']}".rstrip()
    return f" ({said['cause']})" if said.get("cause") else ""


def handovers(events: Sequence[Event]) -> Iterator[str]:
    """Each handover from request to end: who asked, who answered with whose signature, how long it took, who commanded."""
    stories: dict[str, list[Event]] = {}
    last = ""
    for event in events:
        if event["type"].startswith("handover."):
            stories.setdefault(event["subject"], []).append(event)
            last = last if event.get("phase") == "attestation" else event["subject"]
        elif event["type"].startswith("mrm."):  # comes of the handover before it
            stories.setdefault(last, []).append(event)
    for id_, steps in stories.items():
        asked = steps[0]["handover"]
        yield f"{id_}: {asked['from']} → {asked['to']}, asked by {asked['initiator']}: {asked['reason']}"
        for event in steps:
            yield from _wrapped(f"{seconds(event['t_ns']):+12.3f} s  ", _step(event))
        metrics = next((event["metrics"] for event in reversed(steps) if "metrics" in event), None)
        if metrics is not None:
            yield from _wrapped(f"{'':16}", _metrics(metrics))


def _step(event: Event) -> str:
    words = [event["type"].removeprefix("handover.")]
    if event.get("phase") == "attestation":
        words = ["signed" if event["type"] == "handover.accepted" else "signature missing"]
    if event.get("person"):
        words.append(f"by {event['person']}")
    if event.get("signature"):
        size = parse_checkpoint(event["checkpoint"]).size
        words.append(f"with an own key, over its terms and the journal's first {size} records")
    text = " ".join(words) + (f": {event['cause']}" if event["cause"] else "")
    return text + ("; signature pending" if event.get("attestation") == "pending" else "")


def _metrics(metrics: Event) -> str:
    said = [
        f"{name} after {metrics[key] / 1e9:.3f} s"
        for name, key in (
            ("acknowledged", "acknowledge_ns"),
            ("in command", "completion_ns"),
            ("manoeuvre asked for", "mrm_ns"),
        )
        if metrics[key] is not None
    ]
    for name, key in (("no controller", "no_controller"), ("two controllers", "two_controllers")):
        span = metrics[key]
        if span["observed"] != "yes":
            said.append(f"{name}: {span['observed']}")
        else:
            least, most = (span[bound] / 1e9 for bound in ("at_least_ns", "at_most_ns"))
            said.append(f"{name} for {least:g} s" if least == most else f"{name} for {least:g} to {most:g} s")
    return "; ".join(said)


def incidents(events: Sequence[Event], until: int) -> Iterator[str]:
    """What was made to happen before ``until`` (ns), and by what the monitor showed it. Raises ``MissingSignError``."""
    for sign, injected in zip(SIGNS, TRUTH["injected"], strict=True):
        if sign.t + sign.within >= seconds(until):
            continue
        event = sign_of(sign, events) if sign.type else None
        if sign.type and event is None:
            raise MissingSignError(f"no {sign.type} of {sign.subject} within {sign.within} s of +{sign.t} s")
        yield from _wrapped(f"{sign.t:+10.3f} s  ", injected["detail"])
        if event is None:
            yield f"{'':14}→ no event: {sign.why}"
        else:
            delay = max(0.0, seconds(event["t_ns"]) - sign.t)
            after = "at once" if delay < 0.001 else f"{delay:.3f} s later"
            why = f" {event['to']}" if event["type"] == "authority.changed" else _figures(event)
            yield f"{'':14}→ {after}: {event['type']} {event['subject']}{why}"


def _span(since: int, to: int) -> str:
    return f"{seconds(since):7.1f} –{seconds(to):6.1f} s"


def _wrapped(start: str, words: str) -> list[str]:
    return textwrap.wrap(words, WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
