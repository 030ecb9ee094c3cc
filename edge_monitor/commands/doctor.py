"""``edge-monitor doctor``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from ..errors import EdgeMonitorError
from .run import boottime, curve_keys

if TYPE_CHECKING:
    from ..curve_keys import Keys
    from ..envelope import Envelope

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FLUSHES = 25
#: A decision waits for one flush of the disk; slower than this, GO comes late.
SLOW_FLUSH_S = 0.05
#: Every turn of the loop lets time pass once; slower than this, a turn is no millisecond.
SLOW_TURN_S = 0.0005
STYLES = {"ok": "green", "warning": "yellow", "FAILED": "red"}


class Finding(NamedTuple):
    """One thing that was looked at: how it is, the machine's own numbers, and how to mend it."""

    what: str
    state: Literal["ok", "warning", "FAILED"]
    told: str


@click.command(short_help="Is this machine ready to run the monitor? Its own numbers, and what to mend.")
@click.option("--envelope", "-e", required=True, type=FILE, help="The envelope file that is to run.")
@click.option("--people", type=FILE, help="The people file: who may approve envelopes.")
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path), help="Where the journal is to be written.")
@click.option("--key", type=FILE, help="The robot's signing key.")
@click.option(
    "--source", "sources", multiple=True, metavar="KIND:ADDRESS", help="Inputs, as 'run' takes them; listened to."
)
@click.option(
    "--messages", multiple=True, type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Definitions of the robot's own messages, as 'run' takes them.",
)  # fmt: skip
@click.option("--curve-key", type=FILE, help="The robot's CURVE key, where 'run' is to have one.")
@click.option("--peers", type=FILE, help="The list of CURVE keys that may connect.")
@click.option("--listen", default=3.0, show_default=True, metavar="SECONDS", help="How long to listen to inputs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    envelope: Path,
    people: Path | None,
    journal: Path | None,
    key: Path | None,
    sources: tuple[str, ...],
    messages: tuple[Path, ...],
    curve_key: Path | None,
    peers: Path | None,
    listen: float,
    as_json: bool,
) -> int:
    """Look at clock, disk, key, envelope, kernels and inputs. Exit code 1 when something has to be mended first."""
    from .. import envelope as envelopes

    loaded = envelopes.load(envelope)
    found = [*clocks(), *approvals(loaded, people), *kernels(loaded)]
    if journal is not None:
        found += disk(journal)
    if key is not None:
        found += keys(key)
    curve: Keys | None = None
    if curve_key is not None or peers is not None:
        try:
            curve = curve_keys(curve_key, peers)
            found.append(connections(curve))
        except EdgeMonitorError as error:
            found.append(Finding("CURVE", "FAILED", str(error)))
    if sources:
        found += inputs(loaded, sources, listen, curve, messages)
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in found], indent=2, ensure_ascii=False))
    else:
        from rich.table import Table
        from rich.text import Text

        from ..command_line import console

        table = Table("what", "", "found", box=None, pad_edge=False)
        for finding in found:
            table.add_row(finding.what, Text(finding.state, STYLES[finding.state]), Text(finding.told))
        console().print(table)
    return 1 if any(finding.state == "FAILED" for finding in found) else 0


def clocks() -> Iterator[Finding]:
    """The clock that decides, and what is known of the one that is written down."""
    resolution = time.clock_getres(time.CLOCK_BOOTTIME)
    state: Literal["ok", "FAILED"] = "ok" if resolution <= 1e-3 else "FAILED"
    yield Finding("clock", state, f"CLOCK_BOOTTIME, resolution {resolution * 1e9:.0f} ns, counts suspend")
    if Path("/run/systemd/timesync/synchronized").exists():
        yield Finding("wall clock", "ok", "synchronised, says systemd-timesyncd")
    else:
        told = "nothing says that it is synchronised; validity of keys and approvals needs it right to minutes"
        yield Finding("wall clock", "warning", told)


def disk(journal: Path) -> Iterator[Finding]:
    """How long one flush takes where the journal is to be: the limit of one decision a commit."""
    probe = journal.with_name(f"{journal.name}.probe")
    times = []
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            for _ in range(FLUSHES):
                os.write(descriptor, bytes(4096))
                begun = time.perf_counter()
                os.fdatasync(descriptor)
                times.append(time.perf_counter() - begun)
        finally:
            os.close(descriptor)
            probe.unlink()
        free = os.statvfs(journal.parent)
    except OSError as error:
        yield Finding(
            "disk", "FAILED", f"{journal}: {error.strerror}: name a journal in a folder that can be written to"
        )
        return
    median, slowest = sorted(times)[FLUSHES // 2], max(times)
    told = f"a flush takes {median * 1e3:.2f} ms, {slowest * 1e3:.1f} at most: {1 / median:,.0f} decisions a second"
    yield Finding("disk", "ok" if median <= SLOW_FLUSH_S else "warning", told)
    gib = free.f_bavail * free.f_frsize / (1 << 30)
    yield Finding(
        "room", "ok" if gib > 1 else "FAILED", f"{gib:.1f} GiB free beside the journal; tapes take theirs at the start"
    )


def keys(key: Path) -> Iterator[Finding]:
    """The robot's key: usable, and nobody else's to read."""
    from ..journal import load_signing_key

    try:
        signing = load_signing_key(key)
    except EdgeMonitorError as error:
        yield Finding("key", "FAILED", str(error))
        return
    yield Finding("key", "ok", f"{signing.verifier.name}, readable by its owner alone")


def approvals(envelope: Envelope, people: Path | None) -> Iterator[Finding]:
    """Whether 'run' would start with this envelope."""
    from ..envelope.approval import require
    from ..people import load

    try:
        approval = require(envelope, load(people) if people is not None else None, time.time_ns())
    except EdgeMonitorError as error:
        yield Finding("envelope", "FAILED", " ".join(str(error).split()))
        return
    days = (approval.expires - time.time_ns()) / 86_400e9
    told = f"{envelope.id} version {envelope.version}, approved by {approval.approver} for {days:.0f} more days"
    yield Finding("envelope", "ok", told)


def kernels(envelope: Envelope) -> Iterator[Finding]:
    """How long a start takes, and what a turn of the engine costs here."""
    from ..runtime import Monitor

    begun = time.perf_counter()
    monitor = Monitor(envelope)
    monitor.warm()
    took = time.perf_counter() - begun
    told = f"ready in {took:.1f} s" + (
        "" if took < 5 else f": run 'edge-monitor warm {envelope.source}' after an installation"
    )
    yield Finding("kernels", "ok" if took < 5 else "warning", told)
    turns, t = 2000, 1_000_000_000
    monitor.until(t)
    begun = time.perf_counter()
    for n in range(turns):
        monitor.until(t + n * 1_000_000)
    each = (time.perf_counter() - begun) / turns
    told = f"a turn without messages takes {each * 1e6:.0f} µs ({len(envelope.checks)} checks)"
    yield Finding("turn", "ok" if each < SLOW_TURN_S else "warning", told)


def connections(keys: Keys | None) -> Finding:
    """Who may do what over CURVE."""
    assert keys is not None
    doors = keys.peers.doors
    told = [f"{', '.join(sorted(set(doors[door].values()))) or 'nobody'} may {door}" for door in doors]
    return Finding("CURVE", "ok" if any(doors.values()) else "warning", "; ".join([f"{keys.pair.name}", *told]))


def inputs(
    envelope: Envelope, sources: tuple[str, ...], listen: float, keys: Keys | None, messages: tuple[Path, ...] = ()
) -> Iterator[Finding]:
    """What comes on each topic that the envelope reads."""
    from ..onboard.own_signals import TOPIC
    from ..sources.addresses import combine, open_sources, parse
    from ..sources.wanted import wanted

    asked = wanted(envelope, never={TOPIC})
    curve, servers = (None, {}) if keys is None else (keys.inputs, keys.peers.servers)
    lasting = {signal.topic for signal in envelope.signals if signal.max_age is not None}
    addresses = [parse(text) for text in sources]
    opened = open_sources(addresses, asked, boottime, plain=True, curve=curve, servers=servers, messages=messages)
    with closing(combine(opened)) as source:
        end = time.monotonic() + listen
        while time.monotonic() < end:
            source.drain()
            time.sleep(0.005)
        troubles = {status.topic: status.message for status in source.status() if status.cause}
        for topic in (one.topic for one in asked):
            counts = source.counts[topic]
            dropped = counts.over_rate + counts.over_size + counts.invalid + counts.gaps
            if not counts.taken:
                # what is said once (max_age: never) need not have been said while we listened
                yield Finding(
                    topic,
                    "FAILED" if topic in lasting else "warning",
                    troubles.get(topic, f"nothing came in {listen:g} s; {'; '.join(source.describe())}"),
                )
            elif dropped:
                why = troubles.get(topic, "lost on the way")
                yield Finding(
                    topic, "warning", f"{counts.taken / listen:.1f} messages a second, {dropped} dropped: {why}"
                )
            else:
                yield Finding(topic, "ok", f"{counts.taken / listen:.1f} messages a second")
