"""Another envelope, waivers and latches at a running monitor, through the commands that people type."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from talkers import BIN
from yard import Yard

from edge_monitor.consumer import Consumer, Subscriber
from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_record
from edge_monitor.journal.verify import verify

ENVELOPE = """
edge_monitor: 1
envelope: {id: yard, version: 1, vehicle: rover}
signals:
  speed: {topic: /state, field: speed, unit: m/s, max_age: 500 ms}
  mode: {topic: /state, field: mode, max_age: 2 s, values: {MANUAL: 0, AUTO: 1}}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, severity: critical, latch: manual}
  calm: {kind: bounds, signal: speed, max: 8}
  sitting: {kind: bounds, signal: speed, max: 3, severity: critical}
authority: {mode: mode, map: {autonomy: [AUTO], human: [MANUAL]}}
gates:
  takeoff: {require: all, criteria: [sitting, calm], go_after: 200 ms, lease: 1 s}
  continue: {require: all, criteria: [speed_limit], lease: 1 s, on_unknown: {hold: 3 s}}
  resume: {require: all, criteria: [calm], go_after: 1 s, lease: 500 ms}
handover: {accept_within: 5 min, complete_within: 5 min, attest_within: 5 min, gates: [resume]}
"""
TIGHTER = ENVELOPE.replace("version: 1", "version: 2").replace("max: 12", "max: 10")
LOOSER = ENVELOPE.replace("version: 1", "version: 3").replace("max: 12", "max: 20")
#: One more topic, a formula (another kernel) and a derived signal.
RICHER = (
    ENVELOPE.replace("version: 1", "version: 4").replace("max: 12", "max: 9")
    .replace("signals:", "signals:\n  slope: {expr: diff(speed), unit: m/s2, max_age: 1 s}\n"
             "  fuel: {topic: /fuel, field: left, max_age: 5 s}", 1)
    .replace("checks:", 'checks:\n  smooth: {kind: formula, formula: "historically[0 s, 1 s](slope < 3 m/s2)"}\n'
             "  fuelled: {kind: bounds, signal: fuel, min: 0.2}", 1)
)  # fmt: skip


class Reloaded(Yard):
    """A yard with an envelope of this file, three operators, and a consumer that watches it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        people = folder / "people.yaml"
        more = ""
        for name in ("dave", "erin"):
            text = make_key(name, folder)[1].read_text().strip().splitlines()[-1]
            more += f"  {name}: {{name: {name}, roles: [operator], keys: [{text}]}}\n"
        people.write_text(people.read_text() + more)
        self.write("yard.yaml", ENVELOPE)
        self.watching = threading.Event()
        self.refused: list[str] = []
        self.seen: set[bytes] = set()
        self.watcher = threading.Thread(target=self._watch, daemon=True)

    def write(self, name: str, text: str, *, approved: bool = True) -> str:
        """An envelope file, proposed by alice and approved by bob."""
        (self.folder / name).write_text(text)
        if approved:
            self.tell("envelope", "sign", name, "--key", "alice.key", "--person", "alice", "--people", "people.yaml")
            self.tell(
                "envelope", "approve", name, "--key", "bob.key", "--person", "bob", "--people", "people.yaml",
                "--ticket", "T-1",
            )  # fmt: skip
        return name

    def reload(self, name: str, *more: str, expect: int = 0) -> str:
        """What carol is told who puts an envelope in force."""
        words = ["envelope", "reload", name, "--control", self.control, "--person", "carol", "--reason", "wind", *more]
        return self.tell(*words, expect=expect)

    def watch(self) -> None:
        """From here on a consumer asks all the time whether it may continue."""
        self.subscriber = Subscriber.connect(Consumer(["continue"]), f"ipc://{self.folder}/out")
        self.watcher.start()
        assert self.watching.wait(20)

    def _watch(self) -> None:
        while self.process is not None and self.process.poll() is None:
            self.subscriber.poll(5)
            answer = self.subscriber.allowed("continue")
            if answer.go:
                self.watching.set()
            elif self.watching.is_set():
                self.refused.append(answer.reason.name)


@pytest.fixture
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloaded]:
    """A yard whose monitor is not running."""
    found = Reloaded(tmp_path_factory.mktemp("yard"))
    yield found
    found.close()


def test_another_envelope_is_put_in_force_without_a_break(yard: Reloaded) -> None:
    """A tighter file in motion, one with another topic and another kernel, and files that are refused: the consumer's GO never
    ends, each record bears the envelope in force, and the run re-executes through all of it."""
    for name, text in (("tighter.yaml", TIGHTER), ("looser.yaml", LOOSER), ("richer.yaml", RICHER)):
        yard.write(name, text)
    yard.write("nobody.yaml", TIGHTER.replace("version: 2", "version: 5"), approved=False)
    yard.write("boat.yaml", TIGHTER.replace("rover", "boat"))
    yard.start()
    yard.wait("continue", True)
    yard.watch()
    first = yard.state()["envelope"]["digest"]
    assert "yard v2 is in force" in yard.reload("tighter.yaml")
    state = yard.state()
    assert (state["envelope"]["version"], state["reload"]["phase"]) == (2, "active") and state["envelope"][
        "digest"
    ] != first
    # In motion nothing looser; and nothing at all that is not approved, of something else, changed, or no envelope.
    said = yard.reload("looser.yaml", expect=1)
    assert "loosening: check speed_limit: max 10 → 20 (looser, and gate continue" in said and "stays" in said
    assert "proposed" in yard.reload("nobody.yaml", expect=3)
    assert "other_vehicle: its vehicle is 'boat'" in yard.reload("boat.yaml", expect=1)
    (yard.folder / "tighter.yaml").write_text(TIGHTER + "# changed\n")
    assert "file: " in yard.reload("tighter.yaml", expect=3)
    (yard.folder / "wrong.yaml").write_text(TIGHTER.replace("signal: speed", "signal: sped"))
    assert "wrong.yaml:9:" in yard.reload("wrong.yaml", expect=3)
    assert "alice" in yard.tell(
        "envelope", "reload", "looser.yaml", "--control", yard.control, "--person", "alice", expect=1
    )
    assert yard.state()["envelope"]["version"] == 2
    # Another topic and another kernel, which is loaded meanwhile.
    assert "yard v4 is in force" in yard.reload("richer.yaml")
    assert yard.refused == []
    yard.vehicle.speed = 9.5
    yard.wait("continue", False)
    assert yard.process is not None
    yard.process.terminate()
    assert yard.process.wait(20) == 0
    rejected = [payload["reasons"][0]["code"] for kind, payload in yard.events("envelope.rejected")]
    assert rejected == ["loosening", "not_approved", "other_vehicle", "file", "invalid"] or rejected[1] == "missing"
    activated = [payload for _, payload in yard.events("envelope.activated")]
    assert [a["envelope_version"] for a in activated] == [1, 2, 4] and activated[1]["approver"] == "bob"
    assert activated[1]["by"] == {"person": "carol", "reason": "wind", "path": str(yard.folder / "tighter.yaml")}
    digests: list[str] = []
    with Reader(yard.folder / "j.db") as reader:
        for row in reader.rows():
            digests.append(decode_record(row.record).digests.envelope.hex())
    changes = [digest for n, digest in enumerate(digests) if n == 0 or digest != digests[n - 1]]
    assert changes == [a["envelope_digest"] for a in activated]
    assert verify(yard.folder / "j.db", [load_verifier_key(yard.folder / "robot.pub")]).ok
    (tape,) = (yard.folder / "tapes").glob("*.tape")
    (yard.folder / "tighter.yaml").write_text(TIGHTER)
    files = [
        word
        for name in ("yard.yaml", "tighter.yaml", "looser.yaml", "boat.yaml", "richer.yaml")
        for word in ("-e", name)
    ]
    done = subprocess.run(
        [BIN / "edge-replay", "reexecute", "j.db", tape, *files, "--key", "robot.pub", "--json"],
        cwd=yard.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["equal"]
    # A restart runs what its command line says, and says that this is another one.
    yard.vehicle.speed = 5.0
    yard.start()
    assert yard.state()["envelope"]["version"] == 1
    *_, (_, payload) = yard.events("envelope.activated")
    assert payload["previous"]["envelope_version"] == 4


def test_waivers_by_one_and_by_two(yard: Reloaded) -> None:
    """One operator waives a criterion, two a critical one, each with their own key; the gate is GO while it lasts, the lease
    says so, and who signed what is in the journal; what is not theirs to sign, or used, or over, is refused."""
    yard.start()
    yard.vehicle.speed = 9.0
    yard.wait("continue", True)
    assert yard.go("takeoff") is False and yard.go("resume") is False
    assert "waived in resume by carol" in yard.operator(
        "waive", "resume", "calm", "--for", "10 min", "--reason", "gusts", "--key", "carol.key"
    )
    yard.wait("resume", True)
    (waiver,) = yard.state()["waivers"]
    assert (waiver["criterion"], waiver["gates"], waiver["persons"]) == ("calm", ["resume"], ["carol"])
    assert "calm" in yard.tell("status", "--control", yard.control)
    yard.operator("withdraw", "calm", "--reason", "calm again")
    yard.wait("resume", False)
    yard.operator("waive", "resume", "calm", "--for", "5 s", "--reason", "gusts", "--key", "carol.key")
    assert "two people must waive it" in yard.operator(
        "waive", "takeoff", "sitting", "--for", "1 min", "--reason", "towed", "--key", "carol.key", expect=2
    )
    yard.operator("waive", "takeoff", "calm", "--for", "1 min", "--reason", "towed", "--key", "carol.key")
    said = yard.operator(
        "waive", "takeoff", "sitting", "--for", "1 min", "--reason", "towed", "--key", "carol.key", "--with", "dave"
    )
    assert "countersign sitting.waiver --person dave" in said and yard.go("takeoff") is False

    def countersign(person: str, key: str, expect: int = 0) -> str:
        words = [
            "operator",
            "countersign",
            "sitting.waiver",
            "--control",
            yard.control,
            "--person",
            person,
            "--key",
            key,
        ]
        return yard.tell(*words, expect=expect)

    assert "waits for the signature of dave" in countersign("erin", "erin.key", 2)
    assert "no key of dave signed" in countersign("dave", "erin.key", 1)
    changed = (yard.folder / "sitting.waiver").read_text()
    (yard.folder / "sitting.waiver").write_text(changed.replace('"towed"', '"tired"'))
    assert "no key of carol signed" in countersign("dave", "dave.key", 1)
    (yard.folder / "sitting.waiver").write_text(changed)
    assert "carol waives sitting in takeoff" in countersign("dave", "dave.key")
    yard.wait("takeoff", True)
    assert "withdrawn" in yard.operator("withdraw", "sitting", "--reason", "enough")
    yard.wait("takeoff", False)
    assert "used already" in countersign("dave", "dave.key", 1)
    end = time.monotonic() + 20
    while "expired" not in [p["state"] for _, p in yard.events("gate.waived")]:
        assert time.monotonic() < end
    told = [(p["state"], p["criterion"], len(p.get("signatures", []))) for _, p in yard.events("gate.waived")]
    assert sorted(told) == [
        ("expired", "calm", 0), ("granted", "calm", 1), ("granted", "calm", 1), ("granted", "calm", 1), ("granted", "sitting", 2),
        ("withdrawn", "calm", 0), ("withdrawn", "sitting", 0),
    ]  # fmt: skip
    (go,) = [p for _, p in yard.events("gate.go") if p["subject"] == "takeoff"]
    assert {w["criterion"] for w in go["waivers"]} == {"calm", "sitting"}
    # Nothing that was signed for this run counts in the next one.
    assert yard.process is not None
    yard.process.kill()
    yard.process.wait()
    yard.start()
    assert yard.state()["waivers"] == [] and "before this run" in countersign("dave", "dave.key", 1)


def test_a_latch_goes_by_a_named_person_and_a_signed_request_hands_back(yard: Reloaded) -> None:
    """A manual latch outlives what it was set by and goes when a person resets it; command goes back to autonomy on a request
    that its person has signed, once the gate for that has passed for long enough; a wrong signature is refused."""
    yard.vehicle.mode = 0
    yard.start()
    yard.wait("continue", True)
    yard.vehicle.speed = 13.0
    yard.wait("continue", False)
    yard.vehicle.speed = 5.0
    time.sleep(0.5)
    assert yard.go("continue") is False
    assert "latched" in yard.tell("status", "--control", yard.control)
    yard.operator("reset-latch", "speed_limit", "--reason", "looked at the brakes")
    yard.wait("continue", True)
    yard.wait("resume", True)
    wrong = yard.operator("request", "--to", "autonomy", "--reason", "go on", "--key", "dave.key", expect=1)
    assert "does not hold" in wrong
    yard.operator("request", "--to", "autonomy", "--reason", "go on", "--key", "carol.key", "--id", "back")
    yard.vehicle.mode = 1
    end = time.monotonic() + 20
    while yard.state()["handover"]["open"] is not None:
        assert time.monotonic() < end
    back = [(kind, p) for kind, p in yard.events("handover.") if p["handover"]["id"] == "back"]
    told: list[tuple[str, Any]] = [(kind, p.get("attestation")) for kind, p in back]
    assert told == [("handover.requested", "signed"), ("handover.accepted", None), ("handover.completed", "signed")]
    assert "back" not in yard.state()["handover"]["attestation_pending"]
