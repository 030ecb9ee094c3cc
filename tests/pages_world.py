"""A registry and its pages on a real socket, with a robot that flew a mission, one that lies in every text, and a silent one."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from edge_monitor.journal import Digests, Entry, Journal, Severity
from edge_monitor.journal.keys import SigningKey
from edge_monitor.people import load as load_people
from edge_monitor.sync import wire
from edge_monitor.sync.outbox import Outbox
from edge_registry.catalogue.entering import Link, Registration, take
from edge_registry.catalogue.statements import Trust
from edge_registry.catalogue.watch import Watch
from edge_registry.house import House, open_house
from edge_registry.ingest import Ingest
from edge_registry.store import Store
from edge_registry.web.access import grant
from edge_registry.web.pages_store import PagesStore
from edge_registry.web.serving import Serving, parse_address, site

SECOND = 10**9
START = 1_700_000_000 * SECOND
ROLES = ("planner", "approver", "operator", "field_engineer", "assurance", "key_admin")
#: What a hostile robot writes wherever it may: markup of every context, a formula, a path, a line break, a control character.
HOSTILE = (
    '=HYPERLINK("http://x")\'"><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}'
    "\r\nSet-Cookie: a=b../../etc/passwd\u202e"
)
HOSTILE_ROBOT = "a/../../etc/passwd"
DATA, MODEL = "1" * 64, "2" * 64  #: digests of a data set and of the model that was trained on it
ENVELOPE, CLAIMED = (
    bytes(range(32)).hex(),
    "4" * 64,
)  #: of an envelope that nobody registered, and of one that somebody did


def entry(kind: str, at: float, severity: Severity = Severity.NEGLIGIBLE, **how: Any) -> Entry:
    """An entry ``at`` s after the start; what is left is its payload, but for ``rules``."""
    rules = how.pop("rules", ())
    t = START + round(at * SECOND)
    return Entry(kind, severity, t, t, how, rules=rules, now=True)


def flight() -> list[Entry]:
    """A mission: autonomy, a blocked pitot tube, a demand that a person accepts, a fence, a demand that nobody answers."""
    critical, marginal = Severity.CRITICAL, Severity.MARGINAL

    def fails(rule: str, at: float, value: float, limit: float, unit: str) -> Entry:
        measured = {"value": value, "limit": limit, "margin": limit - value, "unit": unit}
        return entry("check.fail", at, critical, subject=rule, rules=(rule,), verdict="FAIL", cause="", **measured)

    def gate(name: str, at: float, against: tuple[str, ...]) -> Entry:
        if against:
            return entry("gate.no_go", at, critical, subject=name, rules=against, cause=f"{', '.join(against)} FAIL")
        return entry("gate.go", at, subject=name, cause="", rules=("airspeed",))

    def control(at: float, before: str, after: str, mode: str, cause: str) -> Entry:
        command = {"decision": after, "execution": after, "mode": mode, "intention": mode}
        said = {"from": before, "to": after, "cause": cause, "after": command}
        return entry("authority.changed", at, marginal, subject="authority", **said)

    def handover(kind: str, at: float, ident: str, **more: Any) -> Entry:
        terms = {"id": ident, "from": "autonomy", "to": "human", "initiator": "monitor", "reason": "gate autonomy is NO_GO",
                 "demand": True, "gate": "autonomy", "rules": ["autonomy"]}  # fmt: skip
        return entry(f"handover.{kind}", at, marginal, subject=ident, handover=terms, rules=("autonomy",), **more)

    return [
        entry("monitor.started", 0, subject="survey", envelope="survey", risk="medium"),
        entry("envelope.activated", 0, subject="survey", envelope="survey"),
        control(0.5, "unknown", "human", "MANUAL", "not recorded"),
        gate("autonomy", 2, ()),
        control(10, "human", "autonomy", "AUTO", "mission started"),
        fails("airspeed", 30, 12.5, 10.0, "m/s"),
        gate("autonomy", 30, ("airspeed",)),
        handover("requested", 30, "monitor-1"),
        handover("accepted", 33, "monitor-1", person="olivia"),
        control(35, "autonomy", "human", "MANUAL", "pilot took over"),
        handover("completed", 35, "monitor-1", person="olivia"),
        entry("check.pass", 40, subject="airspeed", rules=("airspeed",)),
        gate("autonomy", 41, ()),
        control(50, "human", "autonomy", "AUTO", "handed back"),
        fails("fence", 70, 4.8, 0.0, "m"),
        gate("autonomy", 70, ("fence",)),
        handover("requested", 70, "monitor-2"),
        handover("timeout", 85, "monitor-2", phase="acceptance"),
        entry(
            "mrm.start",
            85,
            critical,
            subject="monitor-2",
            cause="no acceptance in time",
            rules=("autonomy",),
            handover={"id": "monitor-2", "gate": "autonomy"},
        ),
        entry("mrm.succeeded", 95, subject="mrm"),
        entry("monitor.stopped", 100, subject="survey"),
    ]


def lies() -> list[Entry]:
    """Every field that is text says :data:`HOSTILE`; others are of types that nobody expects."""
    bad = HOSTILE
    terms = {
        "id": bad,
        "from": bad,
        "to": bad,
        "initiator": bad,
        "reason": bad,
        "demand": True,
        "gate": bad,
        "rules": [bad],
    }
    texts = {"subject": bad, "cause": bad, "unit": bad, "state": bad, "envelope": bad, "risk": bad, "what": bad, "reason": bad,
             "person": bad, "from": bad, "to": bad, "value": bad, "limit": bad, bad: bad, "phase": bad}  # fmt: skip
    odd: dict[str, Any] = {
        "subject": 7,
        "handover": [1],
        "after": "x",
        "to": None,
        "value": {"a": b"\xff"},
        "cause": [bad],
    }
    found = []
    for at, kind in enumerate(
        (
            "monitor.started",
            "envelope.activated",
            "check.fail",
            "gate.no_go",
            "drift.detected",
            "odd.exit",
            "failsafe.start",
            "mrm.start",
            "handover.requested",
            "handover.accepted",
            "handover.refused",
            "override.start",
            "latch.set",
            "action.blocked",
            "gate.waived",
            "mitigation.applied",
            "authority.changed",
            "journal.gap",
            "check.pass",
            "log.damage",
        )
    ):
        t = START + at * SECOND
        after = {"decision": bad, "execution": bad, "mode": bad, "intention": bad}
        for payload in ({**texts, "handover": terms, "after": after}, odd):
            found.append(
                Entry(
                    kind,
                    Severity.CRITICAL,
                    t,
                    t,
                    payload,
                    actor=bad.replace("\r\n", " "),
                    rules=(bad[:60],),
                    hazard=bad[:60],
                    claim=bad[:60],
                    now=True,
                )
            )
    return found


def written(path: Path, key: SigningKey, entries: list[Entry], digests: Digests = Digests()) -> Path:  # noqa: B008
    """A journal with these entries."""
    with Journal.create_or_open(path, key, epochs=True, digests=digests) as journal:
        for number, one in enumerate(entries):
            journal.append(one)
            if number == 0:
                journal.rotate(one.t_decided)
    return path


def send(store: Store, ingest: Ingest, key: SigningKey, journal: Path) -> None:
    """A robot's journal into the registry, as its messages."""
    outbox = Outbox(journal)
    head = outbox.head()
    with store.begin() as tx:
        if tx.robot(key.verifier.name) is None:
            tx.enrol(key.verifier.name, key.verifier, os.urandom(20).hex(), time.time_ns())
        robot = tx.robot(key.verifier.name)
        assert robot is not None
        welcome = ingest.hello(tx, robot, wire.Hello((1, 1), head.origin, bytes(16), head.note, head.receipt, 0, "t"))[
            0
        ]
        assert isinstance(welcome, wire.Welcome), welcome
    log_id = bytes.fromhex(head.origin.rpartition("/")[2].replace("-", ""))
    for load in outbox.loads(welcome.size):
        batch = wire.Batch(welcome.session, load.first, load.end - load.first, load.data, load.checkpoint)
        with store.begin() as tx:
            answer = ingest.batches(tx, robot, log_id, [batch])[-1]
        assert isinstance(answer, wire.Receipt), answer


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: list[str]

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


@dataclass
class Client:
    """A browser without eyes: cookies, forms, and no redirects that it was not told to follow."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, form: Mapping[str, str] | None = None, **headers: str) -> Answer:
        """One request."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} if self.cookies else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        body = None
        if form is not None:
            body = urlencode(form)
            sent["content-type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, body, sent)
        response: HTTPResponse = connection.getresponse()
        cookies = [value for name, value in response.getheaders() if name.lower() == "set-cookie"]
        for one in cookies:
            name, _, rest = one.partition("=")
            self.cookies[name] = rest.split(";")[0].strip('"')
        headers = {k.lower(): v for k, v in response.getheaders()}
        endless = headers.get("content-type", "").startswith("text/event-stream")
        answer = Answer(response.status, headers, response.readline() if endless else response.read(), cookies)
        connection.close()
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        """A page."""
        return self.ask("GET", path, None, **headers)

    def csrf(self, path: str) -> str:
        """The secret of the forms on a page."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get(path).text)
        assert found is not None, path
        return found[1]

    def sign_in(self, token: str) -> Answer:
        """Sign in as a person does."""
        form = {"token": token, "csrf": self.csrf("/sign-in"), "next": "/"}
        return self.ask("POST", "/sign-in", form)


@dataclass
class World:
    """A registry with its pages. ``tokens``: by person; each role has a person of its name."""

    house: House
    store: PagesStore
    serving: Serving
    tokens: dict[str, str]
    folder: Path
    clock: Callable[[], float]
    logs: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """Of the pages."""
        return int(self.serving.url.rstrip("/").rpartition(":")[2])

    def client(self, person: str = "") -> Client:
        """A client, signed in as a person."""
        client = Client(self.port)
        if person:
            self.serving.site.access.forget()
            assert client.sign_in(self.tokens[person]).status == 303
        return client

    def bring(self, name: str, entries: list[Entry], seed: int, digests: Digests = Digests()) -> str:  # noqa: B008
        """A robot that recorded this; answers its log's id."""
        key = SigningKey(name, bytes([seed]) * 32)
        path = written(self.folder / f"{seed}.db", key, entries, digests)
        send(self.store, Ingest(self.house.key), key, path)
        self.logs[name] = Outbox(path).head().origin.rpartition("/")[2]
        self.serving.follower.catch_up()
        return self.logs[name]

    def robot(self, name: str) -> str:
        """The path of a robot's page."""
        return f"/robots/{quote(name, safe='')}"


def people_file(folder: Path, roles: Mapping[str, str] | None = None) -> Path:
    """A people file with a person for each role."""
    lines = ["edge_monitor_people: 1", "people:"]
    for number, (person, role) in enumerate(
        (roles or dict.fromkeys(ROLES, "") | {role: role for role in ROLES}).items()
    ):
        key = SigningKey(person, bytes([100 + number]) * 32).verifier.text()
        lines.append(f"  {person}: {{name: {json.dumps(person.title())}, roles: [{role}], keys: [{key}]}}")
    path = folder / "people.yaml"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def world(
    folder: Path, database: str | None = None, clock: Callable[[], float] = time.time, *, missions: bool = True
) -> World:
    """A registry in a folder, with its pages at a free port. Stop its ``serving`` in the end."""
    house = open_house(folder / "registry", database, make="registry")
    pages = site(house, people_file(folder), now=clock)
    serving = Serving(pages, parse_address("127.0.0.1:*"))
    tokens = {}
    with pages.store.own() as tx:
        for role in ROLES:
            tokens[role] = grant(tx, role, "test", 30, int(clock()))[1]
    found = World(house, pages.store, serving, tokens, folder, clock)
    if missions:
        found.bring("plane", flight(), 1, Digests(bytes(range(32)), bytes.fromhex(MODEL), b"0.1.0"))
        found.bring(HOSTILE_ROBOT, lies(), 2)
        with found.store.begin() as tx:
            tx.enrol("silent", SigningKey("silent", bytes([3]) * 32).verifier, "z" * 40, time.time_ns())
        register(found)
    serving.start()
    return found


def register(world: World) -> None:
    """A data set and a model, registered by the planner; what robots use beyond that opens exceptions."""
    trust, now = Trust(load_people(world.folder / "people.yaml")), time.time_ns()
    planner = SigningKey("planner", bytes([100]) * 32)
    with world.store.begin() as tx:
        for one in (
            Registration("dataset", "yard", "1", DATA, "planner", {"sources": HOSTILE}, ()),
            Registration("model", "detector", "3", MODEL, "approver", {}, (Link("trained_on", "dataset", DATA),)),
            Registration(
                "envelope", "yard", "1", CLAIMED, "approver", {"claim": "Keeps to 2 m/s", "not_for": "snow"}, ()
            ),
        ):
            take(tx, one.signed("planner", planner, now), trust, now)
    Watch(world.store, lambda: trust).run_to_end()


def wait(done: object) -> None:
    """Wait for something."""
    end = time.monotonic() + 10
    assert callable(done)
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
