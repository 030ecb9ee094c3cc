"""The demo: a monitor's process, a plane flown against it, a pilot who accepts, a registry, and the proof of all that was said.

JSBSim flies ten times as fast as real, in the time that the flight itself tells (docs/live.md); where it is not installed,
the recorded flight is played over the same sockets.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import numpy as np
import signs
import story
import stream
from crew import BIN, PEOPLE, Pilot, people_file
from rig import Pace, Rig, RigError
from station import Station, is_free

from edge_monitor import envelope as envelopes
from edge_monitor.core.samples import FLAG_CAUSE, SAMPLE
from edge_monitor.errors import EdgeMonitorError
from edge_monitor.tape import Kind, Ring, read

ROOT = signs.SCENARIOS.parent.parent
RECORDING = signs.SCENARIOS / "survey_flight.mcap"
ENVELOPE = "survey_plane.yaml"
LINK = "registry.link"  #: where the registry is, and the robot's key for it
EXPORTER = "erin"  #: who exports the packet: of the assurance team, no person that the monitor needs to know
CLAIM = "The survey plane stays in its fence, height band and airspeed, or hands over in time"
PORT = 8480  #: of the registry's pages, where it is free
STEP = 60  #: s of the flight between signs of life
LONGEST = "600"  #: s after which the monitor ends by itself, whatever became of the demo

TRY_NEXT = """
What to try next
  what was decided          .venv/bin/edge-monitor journal show build/demo/journal.db --type gate
  prove one record          .venv/bin/edge-monitor journal proof build/demo/journal.db 10
  the packet's own page     unzip -p build/demo/mission.zip data/index.html > build/demo/mission.html, and open it in a browser
  another risk profile      .venv/bin/edge-replay run replay/scenarios/survey_flight.mcap -e configs/survey_plane.yaml --risk high
  limits from data          .venv/bin/edge-replay check replay/scenarios/survey_flight.mcap -e configs/survey_plane.yaml
  your own recording        .venv/bin/edge-replay info YOUR_RECORDING      (MCAP, rosbag2, ROS 1 bag, ULog, CSV, JSONL)
  your own envelope         copy configs/survey_plane.yaml, change a limit:  .venv/bin/edge-monitor check YOURS.yaml
  how to read all this      replay/README.md, docs/live.md, docs/handover.md, docs/sync.md, docs/evidence.md"""


def tell(*words: str | Path, expect: int = 0, quiet: bool = False) -> None:
    """Show a command of ours, run it, and stop the demo when it does not end as it should. ``quiet``: not what it prints."""
    arguments = [str(word) for word in words]
    shown = " ".join(f"'{word}'" if " " in word else word for word in arguments)
    print(f"$ {shown}", flush=True)
    where = subprocess.DEVNULL if quiet else None
    code = subprocess.run([BIN / arguments[0], *arguments[1:]], stdout=where, check=False).returncode
    if code != expect:
        raise RigError(f"'{shown}' ended with {code}, expected {expect}")


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def sign_envelope(out: Path) -> None:
    """Keys for the robot and three people; the envelope, proposed by one and approved by another."""
    for name in ("robot", *PEOPLE):
        tell("edge-monitor", "keys", "new", name, "--dir", out, quiet=True)
    people, envelope = out / "people.yaml", out / ENVELOPE
    people.write_text(people_file({name: (out / f"{name}.pub").read_text("utf-8").strip() for name in PEOPLE}))
    shutil.copy(ROOT / "configs" / ENVELOPE, envelope)
    common = ("--people", people)
    tell(
        "edge-monitor",
        "envelope",
        "sign",
        envelope,
        "--key",
        out / "alice.key",
        "--person",
        "alice",
        *common,
        quiet=True,
    )
    tell(
        "edge-monitor", "envelope", "approve", envelope, "--key", out / "bob.key", "--person", "bob", *common,
        "--ticket", "DEMO-7", "--reason", "Looked at the flight of 14 June", "--expires", "1d",
    )  # fmt: skip


def enrol(out: Path, station: Station) -> None:
    """The robot becomes known to the registry, with a token that counts once."""
    token, key = station.token("robot"), out / "robot.key"
    say(f"$ edge-registry enrol robot --dir {station.folder}")
    say(f"{token[:40]}…")
    say(f"$ edge-monitor sync enrol {token[:12]}… --key {key} --out {out / LINK}")
    done = subprocess.run(
        [BIN / "edge-monitor", "sync", "enrol", token, "--key", key, "--out", out / LINK], check=False
    )
    if done.returncode:
        raise RigError(f"'edge-monitor sync enrol' ended with {done.returncode}")


def hand_over(out: Path) -> None:
    """What the last receipt does not cover goes to the registry too; then a packet for someone who trusts none of this."""
    journal, packet, registry = out / "journal.db", out / "mission.zip", out / "registry"
    (tape,) = (out / "tapes").glob("*.tape")
    say("\nThe registry has it, and has signed for it:")
    tell("edge-monitor", "sync", "once", journal, "--registry", out / LINK, "--key", out / "robot.key")
    tell("edge-registry", "robots", "--dir", registry)
    say(
        "\nA packet for an assessor, verified with keys that reached them another way, by two programs that share no code:"
    )
    tell("edge-monitor", "keys", "new", EXPORTER, "--dir", out, quiet=True)
    exporter = out / EXPORTER
    tell(
        "edge-monitor", "evidence", "export", journal, "--out", packet, "--key", f"{exporter}.key",
        "--envelope", out / ENVELOPE, "--tape", tape,
    )  # fmt: skip
    keys = (
        "--exporter", f"{exporter}.pub", "--robot", out / "robot.pub", "--registry-key", registry / "receipts.pub",
    )  # fmt: skip
    tell("edge-monitor", "evidence", "verify", packet, *keys, "--people", out / "people.yaml", "--reexecute")
    tell("python", "registry/verify/verify_packet.py", *keys, packet)


def show_pages(out: Path, stay: bool) -> None:
    """Where the mission is to be seen in a browser, and the token to get in with. ``stay``: served until Ctrl-C."""
    registry = out / "registry"
    people = {**PEOPLE, EXPORTER: ("Erin, assurance", "assurance")}
    keys = {name: (out / f"{name}.pub").read_text("utf-8").strip() for name in people}
    (registry / "people.yaml").write_text(people_file(keys, people), "utf-8")
    say("\nThe registry learns the envelope and its approval, so that it can tell whether what flew was approved:")
    tell(
        "edge-registry", "catalogue", "add", "envelope", out / ENVELOPE, "--person", "alice", "--key", out / "alice.key",
        "--dir", registry, "--about", f"claim={CLAIM}", "--about", "not_for=winds above 6 m/s, icing, flight over people",
    )  # fmt: skip
    words = ["edge-registry", "access", "grant", EXPORTER, "--days", "7", "--dir", str(registry)]
    granted = subprocess.run([BIN / words[0], *words[1:]], capture_output=True, text=True, check=False)
    if granted.returncode:
        raise RigError(f"'{' '.join(words)}' ended with {granted.returncode}: {granted.stderr.strip()}")
    address = f"127.0.0.1:{PORT if is_free(PORT) else '*'}"
    command = ["edge-registry", "web", "--dir", str(registry), "--http", address]
    say(
        "\nIn a browser: the mission, who was asked, who was in control, what limited it, and the bytes behind each line\n"
        f"$ {' '.join(command)}"
    )
    if not stay:
        say(f"  then open http://127.0.0.1:{PORT}/ and sign in with  {granted.stdout.strip()}")
        return
    with subprocess.Popen([BIN / command[0], *command[1:]], stderr=subprocess.PIPE, text=True) as pages:
        assert pages.stderr is not None
        try:
            said = pages.stderr.readline()
            if "pages at " not in said:
                raise RigError(f"the pages did not start: {said.strip() or 'they said nothing'}")
            url = said.partition("pages at ")[2].partition(";")[0]
            say(f"  open {url} and sign in with  {granted.stdout.strip()}\n  Ctrl-C ends it")
            pages.wait()
        except KeyboardInterrupt:
            pages.wait()


def ticks(play: bool) -> tuple[Iterator[stream.Tick], str, bool]:
    """The flight, what is said of it, and whether it must be the recorded one to the nanosecond."""
    recorded = signs.TRUTH["jsbsim"]
    if not play:
        try:
            flown = stream.simulated(signs.TRUTH["seed"])
            first = next(flown)
        except ImportError:
            say(
                "JSBSim is not installed here (pip install 'edge-monitor[sim]'): the recorded flight is played instead."
            )
        else:
            here = version("jsbsim")
            same = here == recorded
            other = "" if same else f"; the recording is of {recorded}, so that events differ by a little"
            return chain([first], flown), f"JSBSim {here} flies{other}", same
    return stream.recorded(RECORDING), "the recorded flight is played", True


def fly(out: Path, rate: float, until: float, play: bool) -> tuple[int, bool]:
    """The flight against the monitor; answers when it ended (ns), and whether it was to be the recorded one."""
    flight, what, same = ticks(play)
    command = [
        "edge-monitor", "run", "--envelope", out / ENVELOPE, "--people", out / "people.yaml",
        "--journal", out / "journal.db", "--key", out / "robot.key", "--tapes", out / "tapes", "--tape-size", "32",
        "--registry", out / LINK, "--for", LONGEST,
    ]  # fmt: skip
    say(f"$ {' '.join(map(str, command))} …")
    with Rig(out, [BIN / str(command[0]), *map(str, command[1:])]) as rig:
        pilot = Pilot(out, rig.control, lambda line: say(f"{'':12}{line}"))
        try:
            first = next(tick for tick in flight if tick[1])
            rig.begin(first[1][0].t)
            speed = f"{rate:g} times as fast as real" if math.isfinite(rate) else "as fast as it goes"
            say(f"{what}, {speed}, and in real time while the pilot is asked:")
            pace, shown = Pace(rate), STEP
            for now, messages in chain([first], flight):
                if now >= signs.START + until * 1e9:
                    break
                for event in rig.send(now, messages):
                    pilot.hear(event)
                    line = story.progress(event)
                    if line:
                        say(line)
                pace.human(pilot.is_busy)
                pace.wait(now)
                if story.seconds(now) >= shown:
                    say(f"{shown:+8.1f} s  …")
                    shown += STEP
            while pilot.is_busy(late=True):
                time.sleep(0.02)
            for event in rig.end(now):
                line = story.progress(event)
                if line:
                    say(line)
        finally:
            pilot.leave()
    return now, same


def change_one_sample(tape: Path, forged: Path) -> str:
    """A copy of a tape, whole in itself, in which one reading of the pitot tube is 10 m/s higher; answers which."""
    envelope = envelopes.load(tape.parent.parent / ENVELOPE)
    airspeed = [signal.name for signal in envelope.signals].index("airspeed")
    found = read(tape)
    ring = Ring(forged, boot=found.boot, envelope=found.envelope, plan=found.plan, size=32 << 20)
    changed = ""
    for block in found.blocks:
        t = 0
        for item in block.entries():
            payload = item.payload
            if item.kind == Kind.ITEMS:
                rows = np.frombuffer(bytearray(payload), SAMPLE)
                t = int(rows["t"][-1])
                late = np.flatnonzero(
                    (rows["signal"] == airspeed)
                    & (rows["t"] >= signs.START + 92 * 10**9)
                    & (rows["flags"] & FLAG_CAUSE == 0)
                )
                if len(late) and not changed:
                    row, at = rows[late[0]], story.seconds(int(rows["t"][late[0]]))
                    changed = f"the airspeed of {at:+.3f} s, from {row['value']:g} to {row['value'] + 10:g} m/s"
                    row["value"] += 10
                    payload = rows.tobytes()
            if item.kind == Kind.SNAPSHOT:
                ring.turn(payload, t)
            else:
                ring.append(item.kind, payload, t)
    ring.close()
    return changed


def prove(out: Path, end: int, same: bool) -> None:
    """The journal verifies, the incident comes out of the black box again bit for bit, and a changed tape is found."""
    journal, envelope, key = out / "journal.db", out / ENVELOPE, out / "robot.pub"
    (tape,) = (out / "tapes").glob("*.tape")
    forged = out / "forged.tape"
    say("\nThe journal proves what was said, and by whom:")
    tell("edge-monitor", "journal", "verify", journal, "--key", key)
    say("\nThe black box makes every decision again:")
    tell("edge-replay", "reexecute", journal, tape, "--envelope", envelope, "--key", key)
    say(f"\nNow someone changes one sample of the tape: {change_one_sample(tape, forged)}.")
    tell("edge-replay", "reexecute", journal, forged, "--envelope", envelope, "--key", key, expect=5)
    until = end - 10**9
    found = [event for event in signs.compared(story.read(journal)) if event["t_ns"] < until]
    expected = signs.expected(until)
    if found == expected:
        say(
            f"\nLive as in a replay: the {len(found)} breaches, decisions and changes of command are those of "
            f"{signs.EXPECTED.name},\nat the same nanoseconds."
        )
    elif same:
        raise RigError(f"the events differ from {signs.EXPECTED.relative_to(ROOT)}: {_difference(found, expected)}")


def _difference(found: list[signs.Event], expected: list[signs.Event]) -> str:
    for number, event in enumerate(expected):
        if number >= len(found) or found[number] != event:
            return f"number {number} is {found[number] if number < len(found) else 'missing'}, not {event}"
    return f"{found[len(expected)]} should not be there"


def demonstrate(out: Path, rate: float, until: float, play: bool) -> None:
    """Fly and tell. Raises ``EdgeMonitorError``."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    say(
        "A survey flight of six minutes: turbulence, a blocked pitot tube, a takeover, a fence breached, a lost link.\n"
        "First, kernels are compiled: once for each version of the core, a minute or two."
    )
    tell("edge-monitor", "warm", f"configs/{ENVELOPE}")
    begun = time.monotonic()
    say("\nKeys, and an envelope that one person proposes and another approves:")
    sign_envelope(out)
    with Station(out / "registry") as station:
        say("\nA registry, and the robot enrolled there:")
        enrol(out, station)
        say("\nThe monitor starts, and the plane flies:")
        end, same = fly(out, rate, until, play)
        report(out, end, same)
        hand_over(out)
    say(f"\nAll of it took {time.monotonic() - begun:.0f} s, the compilation aside.")


def report(out: Path, end: int, same: bool) -> None:
    """What happened, as the journal tells it, and the proof."""
    events = story.read(out / "journal.db")
    for title, lines in (
        ("Who was in command, and what was withheld meanwhile", story.command(events, end)),
        ("Handovers", story.handovers(events)),
        ("What was made to happen, and by what the monitor showed it", story.incidents(events, end)),
    ):
        say(f"\n{title}")
        for line in lines:
            say(line)
    prove(out, end, same)


def record() -> None:
    """Write `survey_flight.events.json` anew from a replay, after a wanted change of the envelope or the flight."""
    from edge_replay.replay import replay

    events = replay(RECORDING, envelopes.load(ROOT / "configs" / ENVELOPE)).events
    found = signs.compared([event.document() for event in events])
    signs.EXPECTED.write_text("[\n" + ",\n".join(f"  {json.dumps(event)}" for event in found) + "\n]\n")
    print(f"wrote {signs.EXPECTED.relative_to(ROOT)}")


def main() -> int:
    """Run the demo; everything it writes goes to build/demo."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=10.0, help="times real time; 0: as fast as it goes (default 10)")
    parser.add_argument("--until", type=float, default=math.inf, help="seconds of the flight after which it ends")
    parser.add_argument("--play", action="store_true", help="play the recorded flight, JSBSim or not")
    parser.add_argument(
        "--stay", action="store_true", default=sys.stdout.isatty(),
        help="serve the registry's pages in the end, until Ctrl-C (default: on a terminal)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "demo", help="folder that is made anew")
    parser.add_argument("--record", action="store_true", help="write survey_flight.events.json anew, and nothing else")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside, it ends its processes too
    try:
        if arguments.record:
            record()
        else:
            out = Path(os.path.relpath(arguments.out.resolve()))
            demonstrate(out, arguments.rate or math.inf, arguments.until, arguments.play)
            print(TRY_NEXT, flush=True)
            show_pages(out, arguments.stay)
    except EdgeMonitorError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        print("\ndemo: stopped, and the monitor with it", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
