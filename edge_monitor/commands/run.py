"""``edge-monitor run``: the onboard process."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from ..errors import ConfigError, UsageError
from ..onboard.quick_start import quick_start

if TYPE_CHECKING:
    from ..curve_keys import Keys
    from ..envelope import Envelope
    from ..envelope.approval import Approval
    from ..events import Event
    from ..onboard.black_box import BlackBox
    from ..onboard.courier import Errand
    from ..onboard.loop import Onboard, Output
    from ..onboard.publication import Publication
    from ..onboard.scribe import Scribe
    from ..outputs.dds import DdsOutput
    from ..people import People
    from ..sources.addresses import Address
    from ..sources.live import LiveSource
    from ..sources.simulated_time import SimulatedClock
    from ..sources.wanted import Wanted

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PUBLISH, CONTROL = "tcp://127.0.0.1:7371", "tcp://127.0.0.1:7372"
SWITCH_S = 0.0002  #: for so long at most the journal's thread may keep the engine's waiting for the interpreter


class GraphNode(Protocol):
    """A node of ROS that the process is put into."""

    def join(self, wanted: Sequence[Wanted], clock: Callable[[], int]) -> LiveSource:
        """Begin to read topics; ``clock``: ns on CLOCK_BOOTTIME."""

    def send(self, parts: list[bytes]) -> None:
        """Something is published."""

    def renew(self, envelope: Envelope) -> None:
        """Another envelope is in force."""


@click.command(short_help="Monitor live inputs on board, until stopped.")
@click.option("--envelope", "-e", required=True, type=FILE, help="The envelope file.")
@click.option("--risk", help="Mission risk profile of the envelope; its own default otherwise.")
@click.option(
    "--source", "sources", multiple=True, required=True, metavar="KIND:ADDRESS",
    help="Where messages come from: 'sub:tcp://127.0.0.1:7370' connects, 'bind-sub:…' waits there, 'pull:…' and "
    "'bind-pull:…' likewise; 'dds:DOMAIN' joins a ROS 2 graph ('dds': that of ROS_DOMAIN_ID); "
    "'mavlink:udpin:127.0.0.1:14550' listens to a vehicle (docs/mavlink.md); may repeat.",
)  # fmt: skip
@click.option(
    "--messages", multiple=True, type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="With dds: definitions of the robot's own messages, FOLDER/PACKAGE/msg/TYPE.msg; may repeat. Those of a ROS 2 "
    "that is sourced, and those of the standard packages, are known.",
)  # fmt: skip
@click.option(
    "--journal", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The signed journal to write."
)
@click.option("--key", required=True, type=FILE, help="Signing key, from 'edge-monitor keys new'.")
@click.option(
    "--tapes", type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the black box: a tape a run, the oldest of eight are removed, and incidents that are kept of them. "
    "Without it nothing can be re-executed.",
)  # fmt: skip
@click.option("--tape-size", default=256, show_default=True, type=click.IntRange(16, 65536), help="MiB of a tape.")
@click.option(
    "--keep-size", default=1024, show_default=True, type=click.IntRange(16, 1 << 20),
    help="MiB of all incidents: the oldest are removed beyond it.",
)  # fmt: skip
@click.option(
    "--raw", "raw", multiple=True, metavar="TOPIC",
    help="Keep the messages of TOPIC as they came, monitored or not, in MCAP files; may repeat. Needs --tapes.",
)  # fmt: skip
@click.option(
    "--latched", "latched", multiple=True, metavar="TOPIC",
    help="The same, of a topic whose last message holds until the next: each file begins with it.",
)  # fmt: skip
@click.option(
    "--raw-size", default=256, show_default=True, type=click.IntRange(16, 1 << 20),
    help="MiB of all raw messages: the oldest files are removed beyond it.",
)  # fmt: skip
@click.option("--keep-all", is_flag=True, help="Keep the whole run, not only the time around incidents.")
@click.option("--publish", default=PUBLISH, show_default=True, help="Address for decisions, heartbeats and leases.")
@click.option("--control", default=CONTROL, show_default=True, help="Address for requests (status, go, commands).")
@click.option("--people", type=FILE, help="The people file: who may approve envelopes and command.")
@click.option(
    "--model", type=FILE,
    help="File of the model that drives or sees for the vehicle: its SHA-256 stands in every record, for a registry.",
)  # fmt: skip
@click.option(
    "--unapproved", is_flag=True, help="For the bench: run with an envelope that nobody approved; all is marked so."
)
@click.option(
    "--sim-time", metavar="TOPIC",
    help="For the bench: time is what a simulator tells on TOPIC, such as /clock, at any speed; no vehicle takes such leases.",
)  # fmt: skip
@click.option(
    "--turn", type=click.FloatRange(0.5, 10), metavar="MS",
    help="What comes within so long is decided together, 0.5 to 10 ms: longer is cheaper, and decisions are as much later. "
    "By default 10 with dds, where messages are stamped when they come, and 0.5 else.",
)  # fmt: skip
@click.option("--curve-key", type=FILE, help="This monitor's CURVE key, from 'edge-monitor keys curve'; with --peers.")
@click.option("--peers", type=FILE, help="The list of CURVE keys that may connect, and of what is connected to.")
@click.option("--plain", is_flag=True, help="Allow addresses beyond this machine without keys.")
@click.option(
    "--registry", type=FILE, help="Bring the journal to this registry: the link file, from 'edge-monitor sync enrol'."
)
@click.option(
    "--sync-rate", default=256, show_default=True, type=click.IntRange(0), metavar="KIB",
    help="With --registry: at most so many KiB a second; 0: no cap.",
)  # fmt: skip
@click.option(
    "--keep-days", default=0.0, type=click.FloatRange(0), metavar="DAYS",
    help="With --registry: erase payloads that it has receipted after so long; proofs stay. 0, the default: never.",
)  # fmt: skip
@click.option(
    "--journal-size", default=0, type=click.IntRange(0), metavar="MIB",
    help="With --registry: erase the oldest receipted payloads while the journal holds more; 0, the default: no limit.",
)  # fmt: skip
@click.option("--for", "seconds", type=float, metavar="SECONDS", help="Stop after so long.")
@click.option("--jsonl", is_flag=True, help="Print events on stdout, one JSON object a line.")
def command(
    envelope: Path,
    risk: str | None,
    sources: tuple[str, ...],
    messages: tuple[Path, ...],
    journal: Path,
    key: Path,
    tapes: Path | None,
    tape_size: int,
    keep_size: int,
    raw: tuple[str, ...],
    latched: tuple[str, ...],
    raw_size: int,
    keep_all: bool,
    publish: str,
    control: str,
    people: Path | None,
    model: Path | None,
    unapproved: bool,
    sim_time: str | None,
    turn: float | None,
    curve_key: Path | None,
    peers: Path | None,
    plain: bool,
    registry: Path | None,
    sync_rate: int,
    keep_days: float,
    journal_size: int,
    seconds: float | None,
    jsonl: bool,
) -> int:
    """Take messages from SOURCEs, decide go or no-go, and publish, journal and tape every decision.

    Ends cleanly on SIGTERM, SIGINT and after --for: every GO is revoked first. Exit code 3 when the envelope is not
    approved by a second person, unless --unapproved.
    """
    with ExitStack() as stack, ExitStack() as start:
        start.enter_context(quick_start())
        from .. import envelope as envelopes
        from ..envelope.approval import require
        from ..onboard.black_box import BlackBox
        from ..people import load as load_people
        from ..sources.addresses import parse

        loaded = envelopes.load(envelope, risk=risk)
        for warning in loaded.warnings:
            click.echo(f"warning: {warning}", err=True)
        trusted = load_people(people) if people is not None else None
        approval = require(loaded, trusted, time.time_ns(), unapproved)
        addresses = [parse(text) for text in sources]
        keys = curve_keys(curve_key, peers)
        identified = digest_of(model) if model is not None else b""
        synced = errand(registry, sync_rate, keep_days, journal_size)
        if tapes is None and (raw or latched or keep_all):
            raise UsageError("--raw, --latched and --keep-all are parts of the black box: give its folder with --tapes")
        black_box = None
        if tapes is not None:
            black_box = BlackBox(
                tapes, tape_size << 20, keep_size << 20, keep_all, raw=raw, latched=latched, raw_size=raw_size << 20
            )
        sys.setswitchinterval(SWITCH_S)
        stopping: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda caught, _: stopping.append(caught))
        onboard = assemble(
            stack, loaded, approval, addresses, journal, key,
            black_box=black_box, publish=publish, control=control, keys=keys, plain=plain, people=trusted,
            messages=messages, tell=partial(_tell, jsonl=jsonl), sim_time=sim_time, stop=lambda: bool(stopping), synced=synced,
            turn_ms=turn, model=identified,
        )  # fmt: skip
        start.close()
        if onboard is None:
            return 0
        end = None if seconds is None else time.monotonic() + seconds
        if sys.stderr.isatty():
            click.echo(
                f"edge-monitor: active; decisions at {publish}, requests at {control}; Ctrl-C stops it", err=True
            )
        onboard.run(lambda: bool(stopping) or (end is not None and time.monotonic() >= end))
    return 0


def digest_of(path: Path) -> bytes:
    """SHA-256 of a file of any size. Raises ``ConfigError`` where it can't be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name the model's file") from None
    return digest.digest()


def assemble(
    stack: ExitStack,
    envelope: Envelope,
    approval: Approval,
    addresses: Sequence[Address],
    journal: Path,
    key: Path,
    *,
    black_box: BlackBox | None,
    publish: str,
    control: str,
    keys: Keys | None = None,
    plain: bool = False,
    people: People | None = None,
    messages: Sequence[Path] = (),
    tell: Callable[[Event], None] | None = None,
    turn_ms: float | None = None,
    sim_time: str | None = None,
    stop: Callable[[], bool] = bool,
    synced: Errand | None = None,
    node: GraphNode | None = None,
    model: bytes = b"",
) -> Onboard | None:
    """Put the process together: all kernels compiled and all files and sockets open when it returns.

    ``model``: SHA-256 of the model that records name, empty for none.
    ``node``: brings what is monitored, and is told all that is published; ``addresses`` then bring reports of action gates.
    None where it had to ``stop`` before the simulator of ``sim_time`` told a time.
    """
    import zmq

    from .. import __version__
    from ..action_reports import TOPIC as ACTIONS
    from ..envelope.approval import activated
    from ..events import Event
    from ..journal import Digests, Journal, load_signing_key
    from ..onboard.access import Access
    from ..onboard.black_box import INCIDENTS
    from ..onboard.compiler_memory import give_back
    from ..onboard.control import Control
    from ..onboard.history import read_history
    from ..onboard.loop import GRAPH_TURN_NS, TURN_NS, Onboard
    from ..onboard.own_signals import TOPIC
    from ..onboard.publication import Publication
    from ..onboard.reloading import Reloading
    from ..onboard.scribe import Scribe
    from ..onboard.service_manager import notify
    from ..outputs import everywhere
    from ..runtime import Monitor
    from ..sources.addresses import combine, open_sources
    from ..sources.wanted import wanted
    from ..sources.zmq import ZmqSource

    boot = os.urandom(16)
    topics, latched = black_box.topics(envelope) if black_box is not None else ((), ())
    asked = wanted(envelope, {ACTIONS, *topics}, {TOPIC}, latched)
    simulated = simulated_clock(sim_time, [one.topic for one in asked])
    clock = simulated or boottime
    monitor = Monitor(envelope)
    monitor.warm()
    context = zmq.Context()
    stack.callback(context.destroy, linger=200)
    access = Access(context, keys, plain=plain)
    send = access.publisher(publish).send
    requests = access.control(control)
    beside = {simulated.topic: simulated.take} if simulated is not None else {}
    curve, servers = (None, {}) if keys is None else (keys.inputs, keys.peers.servers)
    inputs: list[LiveSource] = []
    if node is not None:  # its graph has all but what action gates report
        inputs.append(node.join([one for one in asked if one.topic != ACTIONS], clock))
        asked = [one for one in asked if one.topic == ACTIONS]
    if addresses:
        inputs += open_sources(
            addresses, asked, clock, plain=plain, beside=beside, curve=curve, servers=servers, messages=messages
        )
    for one in inputs:
        if isinstance(one, ZmqSource):
            access.watch(one.refusals)
    source = combine(inputs)
    graph = any(one.kind == "dds" for one in addresses)
    spread: list[DdsOutput] = graphs(inputs, envelope) if graph else []
    if graph and len(inputs) == 1:
        inputs[0].reached = partial(getattr, monitor.decider, "now")
    turn_ns = round(turn_ms * 1e6) if turn_ms is not None else GRAPH_TURN_NS if graph else TURN_NS
    send = everywhere([send, *(one.send for one in spread)])
    if node is not None:
        send = everywhere([send, node.send])
    if simulated is not None and not simulated.wait(source, monitor.feed, stop):
        source.close()
        return None
    history = read_history(journal)
    history.resume(monitor.decider, clock())
    signing = load_signing_key(key)

    def digests(under: Envelope) -> Digests:
        return Digests(envelope=bytes.fromhex(under.digest), model=model, monitor=__version__.encode())

    ring, keeper, raw = black_box.open(monitor, boot) if black_box is not None else (None, None, None)
    wake: list[Onboard] = []
    scribe = Scribe(
        lambda: Journal.create_or_open(journal, signing, digests=digests(envelope), boot_id=boot, epochs=True),
        before=ring.sync if ring is not None else None,
        wake=lambda: wake[0].wake() if wake else None,
    )
    publication = Publication(
        send, boot, monitor.decider, unapproved=approval.unapproved, simulated=simulated is not None
    )
    onboard = Onboard(
        monitor, source, scribe, publication, clock,
        ring=ring, keeper=keeper, raw=raw, tell=tell, notify=notify, simulated=simulated is not None,
        outputs=spoken_to(inputs, publication, approval, simulated is not None), turn_ns=turn_ns,
    )  # fmt: skip
    reloading = Reloading(
        monitor, people, time.time_ns, wanted=lambda other: wanted(other, {ACTIONS, *topics}, {TOPIC}, latched),
        unable=source.unable, unapproved=approval.unapproved, wake=onboard.wake,
    )  # fmt: skip
    monitor.keep()
    courier = None
    if synced is not None:
        from ..onboard.courier import Courier

        incidents = black_box.tapes / INCIDENTS if black_box is not None else None
        courier = Courier(synced, journal, boot, f"edge-monitor {__version__}", scribe, envelope, incidents)
        onboard.sync(courier)
    also = [one.renew for one in (*spread, node, courier) if one is not None]
    onboard.renewing(reloading, digests, also)
    answers = Control(
        publication, lambda now: publication.state(now, onboard.beside()), onboard.obey, time.time_ns, people,
        keep=onboard.keep, reload=reloading.ask, log=run_of(scribe),
        receive=courier.take if courier is not None else None,
    )  # fmt: skip
    onboard.serve(requests, answers)
    onboard.admit(access)
    wake.append(onboard)
    told = activated(approval)
    version, digest = history.envelope
    if digest not in ("", envelope.digest):
        told["previous"] = {"envelope_version": version, "envelope_digest": digest}
        click.echo(
            f"warning: the last run ended under version {version} of the envelope ({digest[:16]}…); "
            f"version {envelope.version} of the command line is in force now",
            err=True,
        )
    active = Event("envelope.activated", envelope.id, 0, 0, "negligible", told, claim=envelope.claim)
    onboard.begin([active], history.commands(monitor.decider, clock()))
    gc.freeze()  # what has been made so far stays: the collector need not look at it, not even once
    give_back()
    notify("READY=1")
    if courier is not None:
        courier.start()
    return onboard


def run_of(scribe: Scribe) -> Callable[[], tuple[str, int, int]]:
    """Tells the journal's origin, its size when this run began, and its size now."""
    from ..journal.notes import parse_checkpoint

    first = scribe.health().head
    begun = parse_checkpoint(first).size if first else 0

    def log() -> tuple[str, int, int]:
        head = parse_checkpoint(scribe.health().head)
        return head.origin, begun, head.size

    return log


def spoken_to(
    sources: Sequence[LiveSource], publication: Publication, approval: Approval, simulated: bool
) -> list[Output]:
    """What speaks to the vehicles that are listened to over MAVLink."""
    from ..outputs.mavlink import MavlinkOutput
    from ..sources.mavlink import MavlinkSource

    lines = [source for source in sources if isinstance(source, MavlinkSource)]
    return [MavlinkOutput(line, publication, unapproved=approval.unapproved, simulated=simulated) for line in lines]


def graphs(sources: Sequence[LiveSource], envelope: Envelope) -> list[DdsOutput]:
    """What publishes into the ROS 2 graphs that are listened to."""
    from ..outputs.dds import DdsOutput
    from ..outputs.ros_reports import RosReports
    from ..sources.dds import DdsSource

    namespace = os.environ.get("ROS_NAMESPACE", "")
    joined = [source.participant for source in sources if isinstance(source, DdsSource)]
    return [DdsOutput(one, RosReports(envelope, time.time_ns), namespace) for one in joined]


def simulated_clock(topic: str | None, topics: Sequence[str]) -> SimulatedClock | None:
    """The clock of ``--sim-time``. Raises ``ConfigError`` where the envelope reads that topic as an input."""
    from ..sources.simulated_time import SimulatedClock

    if topic is None:
        return None
    if topic.removeprefix("/") in {name.removeprefix("/") for name in topics}:
        raise ConfigError(
            f"--sim-time {topic}: the envelope reads this topic as an input; tell the time on one of its own"
        )
    return SimulatedClock(topic)


def errand(link: Path | None, rate_kib: int, keep_days: float, size_mib: int) -> Errand | None:
    """What is to be brought to a registry; None where none is named. Raises ``ConfigError``, ``UsageError``."""
    if link is None:
        if keep_days or size_mib:
            raise UsageError(
                "--keep-days and --journal-size erase only what a registry has receipted: name one with --registry"
            )
        return None
    from ..onboard.courier import Errand
    from ..sync.enrolment import load_link

    return Errand(load_link(link), link.with_suffix(".bundle"), rate_kib << 10, keep_days * 86_400, size_mib << 20)


def curve_keys(curve_key: Path | None, peers: Path | None) -> Keys | None:
    """The CURVE keys of a command line; None where it gives none. Raises ``ConfigError``, ``UsageError``."""
    if curve_key is None and peers is None:
        return None
    if curve_key is None or peers is None:
        raise UsageError("--curve-key and --peers go together: whose key this is, and who else is trusted")
    from ..curve_keys import Keys, load_pair, load_peers

    return Keys(load_pair(curve_key), load_peers(peers))


#: Ns since the machine started, suspend included.
boottime: Callable[[], int] = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)


def _tell(event: Event, jsonl: bool) -> None:
    """What is printed of an event: all of it with ``--jsonl``; in any case who was refused, and what was not kept."""
    if event.type == "access.refused":
        for one in event.payload["refused"]:
            who = f"{one['name']}'s key" if one["name"] else "an unknown key"
            click.echo(
                f"edge-monitor: refused {who} {one['key']} from {one['address']} at the door {one['door']!r}, "
                f"attempt {one['times']}; --peers has not given it that right",
                err=True,
            )
    if event.type in ("incident.removed", "incident.failed"):
        click.echo(f"edge-monitor: {event.type} {event.subject}: {event.payload['cause']}", err=True)
    if jsonl:
        sys.stdout.write(json.dumps(event.document(), ensure_ascii=False, separators=(",", ":")) + "\n")
        sys.stdout.flush()
