"""A monitor that runs with a registry: real processes on both sides, a link that comes and goes, a stick, and retention."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from chaos.serving import free_ports
from lone_process import ENVELOPE, Process
from talkers import BIN

from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.cosignatures import open_receipt, parse_cosigner_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.verify import verify
from edge_monitor.onboard.client import ask


class Site:
    """A registry, as ``edge-registry serve`` runs it, and one robot that is enrolled there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sync, self.enrol = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
        self.serving: subprocess.Popen[str] | None = None
        self.start()
        make_key("robot", folder)
        token = self.registry("enrol", "robot", "--sync", self.sync, "--enrol", self.enrol)
        self.monitor("sync", "enrol", token.strip(), "--key", "robot.key")

    def start(self) -> None:
        """Serve, and wait until it does."""
        self.serving = subprocess.Popen(
            [BIN / "edge-registry", "serve", "--dir", "registry", "--sync", self.sync, "--enrol", self.enrol],
            cwd=self.folder, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.serving.stderr is not None and "takes records" in self.serving.stderr.readline()

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End the registry's process."""
        if self.serving is not None:
            self.serving.send_signal(how)
            self.serving.communicate()
            self.serving = None

    def registry(self, *arguments: str) -> str:
        """What ``edge-registry`` prints."""
        verb, *rest = arguments
        return run(self.folder, "edge-registry", verb, *rest, "--dir", "registry")

    def monitor(self, *arguments: str) -> str:
        """What ``edge-monitor`` prints."""
        return run(self.folder, "edge-monitor", *arguments)

    def delivered(self) -> set[str]:
        """Kinds of files that the registry has whole."""
        with closing(sqlite3.connect(self.folder / "registry/registry.db", timeout=30)) as database:
            return {kind for (kind,) in database.execute("SELECT kind FROM blobs WHERE complete_s IS NOT NULL")}

    def held(self) -> int:
        """Records of the robot that the registry tells of."""
        with Reader(self.folder / "journal.db") as reader:
            receipt = reader.last_receipt()
        if receipt is None:
            return 0
        key = parse_cosigner_key((self.folder / "registry/receipts.pub").read_text().strip(), "receipts.pub")
        assert open_receipt(receipt[1], key).checkpoint.size == receipt[0]
        return receipt[0]


def approve(site: Site, people: Path) -> None:
    """Ann proposes the envelope that is there, and bob approves it; carol may export."""
    keys = {name: make_key(name, site.folder)[1].read_text().strip() for name in ("ann", "bob", "carol")}
    roles = {"ann": "planner", "bob": "approver", "carol": "assurance"}
    lines = [f"  {name}: {{name: {name}, roles: [{role}], keys: [{keys[name]}]}}\n" for name, role in roles.items()]
    people.write_text("edge_monitor_people: 1\npeople:\n" + "".join(lines))
    common = ("--people", str(people))
    site.monitor("envelope", "sign", "live.yaml", "--key", "ann.key", "--person", "ann", *common)
    asked = ("--ticket", "T-1", "--expires", "1d")
    site.monitor("envelope", "approve", "live.yaml", "--key", "bob.key", "--person", "bob", *common, *asked)


def run(folder: Path, program: str, *arguments: str, code: int | None = 0) -> str:
    """What a command prints; it must end with ``code``."""
    done = subprocess.run(
        [BIN / program, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert code in (None, done.returncode), (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A registry with a robot."""
    found = Site(tmp_path_factory.mktemp("site"))
    yield found
    found.stop(signal.SIGKILL)


def flip(process: Process, times: int) -> None:
    """Let the speed break its limit, and come back."""
    for _ in range(times):
        process.publisher.value = 20.0
        assert process.wait_for(False, 10) < 10
        process.publisher.value = 5.0
        assert process.wait_for(True, 20) < 20


def test_a_running_monitor_brings_its_journal_and_incidents_whatever_the_registry_does(site: Site) -> None:
    """Receipts reach the journal, over a registry that is killed and comes back; incidents and the approved envelope follow;
    all of it verifies, and the registry's packet of it, in which decisions are made again."""
    people = site.folder / "people.yaml"
    process = Process(site.folder, "--registry", str(site.folder / "registry.link"), "--people", str(people))
    approve(site, people)
    try:
        process.start()
        wait(lambda: site.held() > 0)
        site.stop(signal.SIGKILL)
        before = site.held()
        flip(process, 2)
        with Reader(site.folder / "journal.db") as reader:
            size = reader.size()
        assert size > before
        site.start()
        wait(lambda: site.held() >= size)
        state = ask(f"ipc://{site.folder}/ask", {"do": "status"})["state"]["sync"]
        assert state["receipted"] >= size and "failure" not in state
        assert "sync connected" in site.monitor("status", "--control", f"ipc://{site.folder}/ask")
        wait(lambda: {"envelope", "approval", "incident"} <= site.delivered())
        assert process.run is not None
        process.run.terminate()
        assert process.run.wait(30) == 0
    finally:
        process.end()
    # What came after the last receipt, such as the end mark, a laptop brings.
    told = site.monitor("sync", "once", "journal.db", "--registry", "registry.link", "--key", "robot.key")
    assert told.startswith(f"{site.held()} of {site.held()} records receipted")
    report = verify(site.folder / "journal.db", [load_verifier_key(site.folder / "robot.pub")])
    assert report.ok and report.records == site.held(), report.findings
    assert f"{report.records}" in site.registry("robots")
    site.registry("evidence", "export", "--robot", "robot", "--key", "carol.key", "--out", "packet.zip")
    verdict = json.loads(
        run(
            site.folder, "edge-monitor", "evidence", "verify", "packet.zip", "--exporter", "carol.pub", "--robot", "robot.pub",
            "--registry-key", "registry/receipts.pub", "--people", "people.yaml", "--reexecute", "--json", code=None,
        )
    )  # fmt: skip
    assert verdict["failures"] == [] and not [words for words in verdict["missing"] if "envelope" in words], verdict
    assert not [words for words in verdict["missing"] if "no black box" in words], verdict
    assert [note for note in verdict["notes"] if "events came out as they were recorded" in note], verdict


def test_a_stick_and_a_laptop_bring_receipts_to_a_monitor_that_no_link_reaches(site: Site) -> None:
    """Exported while it is written, imported twice, and the receipt handed to the monitor, which keeps no other's."""
    address = f"ipc://{site.folder}/ask"
    site.stop()
    process = Process(site.folder, "--registry", str(site.folder / "registry.link"))
    keys = ("--registry", "registry.link", "--key", "robot.key", "--control", address)
    try:
        process.start()
        told = site.monitor("sync", "export", "journal.db", "stick.ems")
        assert "records 0 to" in told
        first = site.registry("import", "stick.ems")
        assert site.registry("import", "stick.ems") == first and "records of robot are held" in first
        told = site.monitor("sync", "import", "journal.db", "stick.ems.receipt", *keys)
        size = int(told.split()[1])
        wait(lambda: site.held() == size)
        forged = (site.folder / "stick.ems.receipt").read_text().replace("registry", "another")
        (site.folder / "forged").write_text(forged)
        done = subprocess.run(
            [BIN / "edge-monitor", "sync", "import", "journal.db", "forged", *keys],
            cwd=site.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1 and "no cosignature by registry" in done.stderr
        flip(process, 1)
        assert f"records {size} to" in site.monitor("sync", "export", "journal.db", "next.ems")
        damaged = bytearray((site.folder / "next.ems").read_bytes())
        damaged[-200] ^= 1
        (site.folder / "damaged.ems").write_bytes(damaged)
        done = subprocess.run(
            [BIN / "edge-registry", "import", "damaged.ems", "--dir", "registry"],
            cwd=site.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode in (4, 5) and "Traceback" not in done.stderr
        assert "are held" in site.registry("import", "next.ems")
        site.start()
        told = site.monitor("sync", "once", "journal.db", *keys)
        held, _, of, *_ = told.split()
        assert int(held) >= int(of)
        wait(lambda: site.held() >= int(of))
    finally:
        process.end()


def test_only_what_is_receipted_is_erased_and_the_next_start_lacks_nothing(site: Site) -> None:
    """With a limit of age payloads go once they are receipted, never before; proofs hold, and the monitor starts anew."""
    more = ("--registry", str(site.folder / "registry.link"), "--keep-days", "0.00002")
    site.stop()
    process = Process(site.folder, *more)

    def erased() -> int:
        with Reader(site.folder / "journal.db") as reader:
            return sum(row.payload is None for row in reader.rows())

    try:
        process.start()
        flip(process, 2)
        time.sleep(3)
        assert erased() == 0
        site.start()
        wait(lambda: erased() > 4)
        assert process.run is not None
        process.run.kill()
        process.run.wait()
        process.start()
        flip(process, 1)
        process.run.terminate()
        process.run.wait(30)
    finally:
        process.end()
    report = verify(site.folder / "journal.db", [load_verifier_key(site.folder / "robot.pub")])
    assert report.ok, report.findings
    shutil.copy(site.folder / "journal.db", site.folder / "copy.db")
    with Reader(site.folder / "copy.db") as reader:
        assert all(row.seq < site.held() for row in reader.rows() if row.payload is None)


def test_a_bundle_reaches_a_running_monitor_whose_gate_asks_for_its_age(site: Site) -> None:
    """Signed while robots are connected, it is held, journaled and shown, and makes the gate GO; the next one replaces it,
    and an older one under a newer number is refused."""
    address = f"ipc://{site.folder}/ask"
    process = Process(site.folder, "--registry", str(site.folder / "registry.link"))
    with_age = ENVELOPE.replace(
        "checks:", "  age: {topic: edge_monitor/self, field: bundle_age, unit: s, max_age: 5 s}\nchecks:"
    )
    with_age = with_age.replace("checks:", "checks:\n  fresh: {kind: bounds, signal: age, max: 3600}")
    (site.folder / "live.yaml").write_text(with_age.replace("criteria: [", "criteria: [fresh, "))

    def held() -> int:
        return int(ask(address, {"do": "status"})["state"]["sync"]["bundle"])

    def told(type_: str) -> list[dict[str, object]]:
        lines = (site.folder / "events.jsonl").read_text().splitlines()
        return [event for line in lines if line.endswith("}") and (event := json.loads(line))["type"] == type_]

    try:
        process.start(go=False)
        wait(lambda: bool(told("gate.no_go")))
        assert process.wait_for(True, 1) == 1
        site.registry("bundle", "--envelope", "live.yaml")
        assert process.wait_for(True, 60) < 60
        assert held() == 1
        first = site.monitor("sync", "bundle", "--registry", "registry.link", "--extract", "sent")
        assert "\nenvelope live.yaml " in first
        assert (site.folder / "sent/envelope/live.yaml").read_bytes() == (site.folder / "live.yaml").read_bytes()
        assert site.registry("bundle", "--again").splitlines()[2] == "2"
        wait(lambda: held() == 2)
        with closing(sqlite3.connect(site.folder / "registry/registry.db", timeout=30)) as database, database:
            database.execute("INSERT INTO bundles SELECT 3, data, made_s FROM bundles WHERE version = 1")
        wait(lambda: bool(told("bundle.refused")))
        assert held() == 2 and process.wait_for(True, 1) < 1
    finally:
        process.end()
    assert len(told("bundle.accepted")) == 2
    assert {(event["version"], event["held"]) for event in told("bundle.refused")} == {(3, 2)}
    assert "not above the one that is held (2)" in str(told("bundle.refused")[0]["cause"])
