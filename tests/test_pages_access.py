"""Who gets to see what: every page with every role; and what attackers try: markup, formulas, forged forms, leaks."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from http.client import HTTPConnection
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from pages_world import DATA, ENVELOPE, HOSTILE_ROBOT, MODEL, ROLES, Client, World, wait, world

from edge_monitor.journal.keys import SigningKey
from edge_registry.catalogue import tables as catalogue
from edge_registry.catalogue.entering import Registration, take
from edge_registry.catalogue.watch import Watch
from edge_registry.web import tables as w
from edge_registry.web.access import ATTEMPTS, IDLE_S, SESSION_S
from edge_registry.web.account_pages import local
from edge_registry.web.app import BODY, SESSION
from edge_registry.web.downloads import Table, as_csv, tamed
from edge_registry.web.routes import ROUTES

EVERYBODY = set(ROLES)
SEES_FLEET = {"planner", "approver", "operator", "field_engineer", "assurance"}
SEES_RECORDS = SEES_FLEET - {"operator"}
EXPORTS = {"field_engineer", "assurance"}
KEEPS_KEYS = {"assurance", "key_admin"}

#: Every route: who may, of the roles; and where an example of it is.
TABLE: dict[tuple[str, str], tuple[set[str], str]] = {
    ("GET", "/"): (EVERYBODY, "/"),
    ("POST", "/sign-out"): (EVERYBODY, "/sign-out"),
    ("GET", "/help"): (EVERYBODY, "/help"),
    ("GET", "/fleet"): (SEES_FLEET, "/fleet"),
    ("GET", "/robots/{robot:path}"): (SEES_FLEET, "/robots/plane"),
    ("GET", "/missions"): (SEES_FLEET, "/missions"),
    ("GET", "/logs/{log}/missions/{first:int}"): (SEES_FLEET, "/logs/LOG/missions/0"),
    ("GET", "/episodes"): (SEES_FLEET, "/episodes"),
    ("GET", "/news"): (SEES_FLEET, "/news"),
    ("GET", "/catalogue"): (SEES_RECORDS, "/catalogue"),
    ("GET", "/catalogue/{digest}"): (SEES_RECORDS, f"/catalogue/{MODEL}"),
    ("GET", "/claims"): (SEES_RECORDS, "/claims"),
    ("GET", "/claims/{digest}"): (SEES_RECORDS, f"/claims/{ENVELOPE}"),
    ("GET", "/coverage"): (SEES_RECORDS, "/coverage"),
    ("GET", "/coverage/{digest}"): (SEES_RECORDS, f"/coverage/{ENVELOPE}"),
    ("GET", "/coverage/{digest}/cell"): (SEES_RECORDS, f"/coverage/{ENVELOPE}/cell"),
    ("GET", "/exceptions"): (SEES_RECORDS, "/exceptions"),
    ("GET", "/exceptions/{number:int}"): (SEES_RECORDS, "/exceptions/1"),
    ("GET", "/logs/{log}/records/{seq:int}/lineage"): (SEES_RECORDS, "/logs/LOG/records/6/lineage"),
    ("GET", "/logs/{log}/records"): (SEES_RECORDS, "/logs/LOG/records"),
    ("GET", "/logs/{log}/records/{seq:int}"): (SEES_RECORDS, "/logs/LOG/records/6"),
    ("GET", "/logs/{log}/records/{seq:int}/bytes"): (SEES_RECORDS, "/logs/LOG/records/6/bytes"),
    ("GET", "/logs/{log}/records/{seq:int}/proof"): (SEES_RECORDS, "/logs/LOG/records/6/proof"),
    ("GET", "/logs/{log}/records/{seq:int}/signals"): (SEES_RECORDS, "/logs/LOG/records/6/signals"),
    ("GET", "/tail"): (SEES_RECORDS, "/tail"),
    ("GET", "/packets"): (EXPORTS, "/packets"),
    ("POST", "/packets"): (EXPORTS, "/packets"),
    ("GET", "/packets/{number:int}"): (EXPORTS, "/packets/1"),
    ("GET", "/packets/{number:int}/file"): (EXPORTS, "/packets/1/file"),
    ("GET", "/people"): (KEEPS_KEYS, "/people"),
    ("GET", "/audit"): (KEEPS_KEYS, "/audit"),
    ("GET", "/api/v1/openapi.json"): (EVERYBODY, "/api/v1/openapi.json"),
    ("GET", "/api/v1/words"): (SEES_RECORDS, "/api/v1/words"),
    ("GET", "/api/v1/items"): (SEES_RECORDS, "/api/v1/items"),
    ("GET", "/api/v1/items/{ref}"): (SEES_RECORDS, "/api/v1/items/dataset:demo"),
    ("GET", "/api/v1/items/{ref}/lineage"): (SEES_RECORDS, "/api/v1/items/dataset:demo/lineage"),
    ("GET", "/api/v1/statements/{digest}"): (SEES_RECORDS, "/api/v1/statements/STATEMENT"),
    ("GET", "/api/v1/robots"): (SEES_RECORDS, "/api/v1/robots"),
    ("GET", "/api/v1/robots/{robot:path}"): (SEES_RECORDS, "/api/v1/robots/plane"),
    ("GET", "/api/v1/robots/{robot:path}/records/{log}/{sequence}/lineage"): (
        SEES_RECORDS,
        "/api/v1/robots/plane/records/LOG/6/lineage",
    ),
    ("GET", "/api/v1/coverage"): (SEES_RECORDS, "/api/v1/coverage"),
    ("GET", "/api/v1/coverage/{digest}"): (SEES_RECORDS, f"/api/v1/coverage/{ENVELOPE}"),
    ("GET", "/api/v1/robots/{robot:path}/records/{log}/{sequence}/signals"): (
        SEES_RECORDS,
        "/api/v1/robots/plane/records/LOG/6/signals",
    ),
    ("GET", "/api/v1/erasures"): (SEES_RECORDS, "/api/v1/erasures"),
    ("GET", "/api/v1/outputs"): (SEES_RECORDS, "/api/v1/outputs"),
    ("GET", "/api/v1/exceptions"): (SEES_RECORDS, "/api/v1/exceptions"),
    ("GET", "/api/v1/exceptions/{number}"): (SEES_RECORDS, "/api/v1/exceptions/1"),
}
#: What anybody sees who is not signed in.
OPEN = {
    ("GET", "/sign-in"), ("POST", "/sign-in"), ("GET", "/sign-in/oidc"), ("GET", "/sign-in/oidc/back"),
    ("GET", "/static/{name}"),
}  # fmt: skip


class Clock:
    """A clock that a test turns on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A registry with its pages, and one packet made."""
    found = world(tmp_path_factory.mktemp("pages"), clock=Clock())
    client = found.client("assurance")
    form = {"csrf": client.csrf("/fleet"), "log": found.logs["plane"], "first": "0", "end": "22"}
    assert client.ask("POST", "/packets", form).status == 303
    catalogued(found)
    yield found
    found.serving.stop()


def catalogued(found: World) -> None:
    """Something in the catalogue; the envelope of the plane is unknown there, which opens an exception by itself."""
    key = SigningKey("planner", bytes([100]) * 32)
    with found.store.begin() as tx:
        now = time.time_ns()
        data = Registration("dataset", "demo", "1", "d" * 64, "planner", {}, ()).signed("planner", key, now)
        assert take(tx, data, found.serving.site.trust(), now).alias == "dataset:demo@1"
    Watch(found.store, found.serving.site.trust).run_to_end()


@pytest.fixture(autouse=True)
def fresh(here: World) -> None:
    """Forget how often somebody tried to sign in."""
    here.serving.site.access.forget()


def test_every_route_with_every_role(here: World) -> None:
    """The table is whole; each role gets what it names, and 403 for all else; nobody gets anything without a session."""
    assert {(page.method, page.path) for page in ROUTES} == set(TABLE) | OPEN
    clients = {role: here.client(role) for role in ROLES}
    nobody = here.client()
    with here.store.read() as tx:
        statement = str(tx.connection.execute(sa.select(catalogue.statements.c.digest)).scalar())
    for (method, route), (may, example) in TABLE.items():
        path = example.replace("LOG", here.logs["plane"]).replace("STATEMENT", statement)
        form = {"log": here.logs["plane"], "first": "0", "end": "3"} if method == "POST" else None
        if route.startswith("/api/"):
            answer = nobody.get(path)
            assert answer.status == 401 and '"code":"sign_in"' in answer.text, route
        elif method == "GET":
            answer = nobody.get(path)
            assert answer.status == 303 and answer.headers["location"].startswith("/sign-in?next="), route
            assert nobody.get(f"{path}?as=csv").status == 401, route
        else:
            assert nobody.ask(method, path, {**(form or {}), "csrf": "x"}).status == 403, route
        for role, client in clients.items():
            if path == "/sign-out":
                client = here.client(role)
            sent = form and {**form, "csrf": client.csrf("/help")}
            status = client.ask(method, path, sent).status
            assert (status in (200, 303)) if role in may else status == 403, (method, route, role, status)


def test_programs_are_answered_in_json_whatever_happens(here: World) -> None:
    """Under ``/api/`` refusals and what is not there have the shape of errors; a robot's name may have slashes."""
    client = here.client("assurance")
    for path, status in (
        ("/api/v1/items?limit=x", 400), ("/api/v1/items/model:none", 404), ("/api/v1/nothing", 404),
        (f"/api/v1/robots/{quote(HOSTILE_ROBOT, safe='')}", 200), (f"/api/v1/robots/{HOSTILE_ROBOT}", 200),
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status == status and answer.headers["content-type"] == "application/json", path
        assert (status == 200) != ("error" in json.loads(answer.text)), path
    found = json.loads(client.get("/api/v1/exceptions?robot=plane").text)
    assert {one["kind"] for one in found} == {"unknown_digest", "unreleased_model"}


def test_a_program_sends_its_token_along(here: World) -> None:
    """With the token of a person as bearer it gets what that person may, under ``/api/`` only; withdrawn, nothing."""
    from edge_registry.web.access import grant, withdraw

    with here.store.own() as tx:
        number, token = grant(tx, "assurance", "test", 1, int(time.time()))
    program = Client(here.port)
    good = {"authorization": f"Bearer {token}"}
    assert program.get("/api/v1/items", **good).status == 200 and program.cookies == {}
    operator = {"authorization": f"Bearer {here.tokens['operator']}"}
    assert program.get("/api/v1/items", **operator).status == 403
    assert program.get("/fleet", **good).status == 303
    for wrong in ("", "Bearer ", "Bearer ert1.wrong", f"Basic {token}", f"Bearer {token}x", f"Bearer {'x' * 5000}"):
        assert program.get("/api/v1/items", authorization=wrong).status == 401, wrong
    with here.store.own() as tx:
        withdraw(tx, number, "test", int(time.time()))
    assert program.get("/api/v1/items", **good).status == 401


def test_a_person_without_roles_or_out_of_the_people_file_is_out(here: World) -> None:
    """Who is taken out of the people file, or revoked, is out with the next request; a broken file lets nobody in."""
    people = here.folder / "people.yaml"
    before = people.read_text()
    client = here.client("planner")
    assert client.get("/fleet").status == 200
    try:
        for change in (
            before.replace("  planner:", "  someone:"),
            before.replace("roles: [planner]", "roles: [planner], revoked: true"),
            "{",
        ):
            people.write_text(change)
            wait(lambda: client.get("/fleet").status == 303)
            assert here.client().sign_in(here.tokens["planner"]).status == 403
            people.write_text(before)
            wait(lambda: client.get("/fleet").status == 200)
    finally:
        people.write_text(before)
        wait(lambda: client.get("/fleet").status == 200)


def test_sessions_end(here: World) -> None:
    """After an hour without a request, after twelve in any case, and at sign-out; a withdrawn token ends its sessions at once."""
    clock = here.clock
    assert isinstance(clock, Clock)
    try:
        idle = here.client("planner")
        clock.ahead += IDLE_S + 1
        assert idle.get("/fleet").status == 303
        busy = here.client("planner")
        for _ in range(SESSION_S // 3000):
            clock.ahead += 3000
            assert busy.get("/fleet").status == (200 if _ < SESSION_S // 3000 else 303)
        clock.ahead += 3000
        assert busy.get("/fleet").status == 303
        out = here.client("planner")
        cookie = dict(out.cookies)
        assert out.ask("POST", "/sign-out", {"csrf": out.csrf("/help")}).status == 303
        assert Client(here.port, cookie).get("/fleet").status == 303
    finally:
        clock.ahead = 0
    from edge_registry.web.access import grant, withdraw

    with here.store.own() as tx:
        number, token = grant(tx, "planner", "test", 1, int(time.time()))
    client = here.client()
    assert client.sign_in(token).status == 303 and client.get("/fleet").status == 200
    with here.store.own() as tx:
        assert withdraw(tx, number, "test", int(time.time())) == "planner"
    assert client.get("/fleet").status == 303 and here.client().sign_in(token).status == 403


def test_a_session_can_not_be_fixed_and_its_cookie_goes_nowhere_else(here: World) -> None:
    """A name that the browser brings along is not taken over; cookies are HttpOnly and Strict; the stored hash is none."""
    client = here.client()
    client.cookies[SESSION] = "chosen-by-an-attacker"
    answer = client.sign_in(here.tokens["planner"])
    first = client.cookies[SESSION]
    assert first != "chosen-by-an-attacker" and len(first) >= 40
    (cookie,) = (one for one in answer.cookies if one.startswith(SESSION))
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie and "Max-Age" not in cookie
    assert Client(here.port, {SESSION: "chosen-by-an-attacker"}).get("/fleet").status == 303
    with here.store.read() as tx:
        stored = [bytes(one) for one in tx.connection.execute(sa.select(w.sessions.c.hash)).scalars()]
        tokens = [bytes(one) for one in tx.connection.execute(sa.select(w.tokens.c.hash)).scalars()]
    assert (
        stored and first.encode() not in stored and hashlib.sha256(here.tokens["planner"].encode()).digest() in tokens
    )
    for digest in stored:
        assert Client(here.port, {SESSION: digest.hex()}).get("/fleet").status == 303
    again = here.client()
    again.cookies = dict(client.cookies)
    again.ask("POST", "/sign-out", {"csrf": again.csrf("/help")})
    assert again.sign_in(here.tokens["planner"]).status == 303 and again.cookies[SESSION] != first


def test_forms_that_were_not_sent_from_our_pages_are_refused(here: World) -> None:
    """Without the session's secret, with another session's, from another origin: nothing is changed; sign-in likewise."""
    client, other = here.client("assurance"), here.client("field_engineer")
    form = {"log": here.logs["plane"], "first": "0", "end": "2"}
    good = client.csrf("/fleet")

    def packets() -> int:
        with here.store.read() as tx:
            return int(tx.connection.execute(sa.select(sa.func.count()).select_from(w.packets)).scalar() or 0)

    before = packets()
    for csrf, headers in (
        ("", {}), ("x", {}), (other.csrf("/fleet"), {}), (good, {"origin": "http://evil.example"}), (good, {"origin": "null"}),
        (good, {"sec_fetch_site": "cross-site"}), (good, {"origin": f"http://127.0.0.1:{here.port + 1}"}),
    ):  # fmt: skip
        assert client.ask("POST", "/packets", {**form, "csrf": csrf}, **headers).status == 403, (csrf, headers)
        assert client.ask("POST", "/sign-out", {"csrf": csrf}, **headers).status == 403
    assert packets() == before
    own = {"origin": f"http://127.0.0.1:{here.port}", "sec_fetch_site": "same-origin"}
    assert client.ask("POST", "/packets", {**form, "csrf": good}, **own).status == 303 and packets() == before + 1
    stranger = here.client()
    assert stranger.ask("POST", "/sign-in", {"token": here.tokens["planner"], "csrf": "", "next": "/"}).status == 403
    assert (
        client.get("/packets?csrf=" + good).status == 200
        and client.ask("PUT", "/packets", {"csrf": good}).status == 405
    )


def test_attempts_to_sign_in_are_few(here: World) -> None:
    """After ten in a minute from one address the answer is 429, for a right token too; other pages go on."""
    client = here.client()
    for attempt in range(ATTEMPTS):
        assert client.sign_in("ert1.wrong").status == 403, attempt
    answer = client.sign_in(here.tokens["planner"])
    assert answer.status == 429 and answer.headers["retry-after"] == "60" and client.get("/sign-in").status == 200


def test_a_form_has_bounds(here: World) -> None:
    """Too large, too many fields, no UTF-8: a line, never a failure."""
    client = here.client("assurance")
    csrf = client.csrf("/fleet")
    assert client.ask("POST", "/packets", {"csrf": csrf, "log": "x" * BODY}).status == 413
    assert client.ask("POST", "/packets", {"csrf": csrf} | {f"n{n}": "" for n in range(60)}).status in (400, 403)
    connection = HTTPConnection("127.0.0.1", here.port, timeout=10)
    connection.request("POST", "/packets", b"\xff\xfe=%ff&csrf=%zz", {"cookie": f"{SESSION}={client.cookies[SESSION]}"})
    assert connection.getresponse().status == 403
    connection.close()


def test_every_answer_carries_what_keeps_a_browser_from_harm(here: World) -> None:
    """Pages, files and refusals alike: no inline script or style, no frame, no guess of the type; none is kept in a cache."""
    client = here.client("assurance")
    for path in (
        "/fleet",
        "/nowhere",
        "/static/style.css",
        "/static/../app.py",
        "/sign-in",
        "/fleet?as=csv",
        "/packets/1/file",
    ):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy, path
        assert headers["x-content-type-options"] == "nosniff" and "server" not in headers
        assert ("no-store" in headers["cache-control"]) != path.endswith(".css")
    for path in ("/fleet", f"/logs/{here.logs['plane']}/missions/0", "/sign-in", "/people"):
        assert not re.search(r"<script(?! src=\"/static/)|<style| style=| on\w+=|javascript:", client.get(path).text), (
            path
        )


class _Markup(HTMLParser):
    """Gathers tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_nothing_that_a_robot_says_is_markup(here: World) -> None:
    """On every page that shows the hostile robot its texts stand as text: no tag, attribute or header comes of them."""
    client = here.client("assurance")
    log = here.logs[HOSTILE_ROBOT]
    with here.store.read() as tx:
        size = tx.connection.execute(sa.text("select max(read) from web_logs")).scalar()
    assert size is not None
    paths = [
        "/fleet",
        here.robot(HOSTILE_ROBOT),
        "/missions",
        f"/logs/{log}/missions/0",
        f"/logs/{log}/missions/2",
        f"/logs/{log}/records",
        "/people",
        "/audit",
        "/packets",
        "/help",
        "/catalogue",
        f"/catalogue/{DATA}",
        f"/claims/{ENVELOPE}",
        "/coverage",
        f"/coverage/{ENVELOPE}",
        f"/coverage/{ENVELOPE}/cell?told=no",
        f"/coverage/{ENVELOPE}?since={HOSTILE_QUERY}",
        f"/coverage/{ENVELOPE}/cell?light={HOSTILE_QUERY}",
        "/exceptions",
        "/exceptions/1",
        f"/logs/{log}/records/3/lineage",
    ]
    paths += [f"/episodes?kind={kind}" for kind in ("breach", "drift", "odd", "failsafe", "mrm", "override")]
    paths += [f"/logs/{log}/records/{seq}" for seq in range(int(size))]
    paths += [
        f"{path}?{name}={HOSTILE_QUERY}"
        for path in (
            "/fleet",
            "/missions",
            "/episodes",
            "/audit",
            f"/coverage/{ENVELOPE}",
            f"/coverage/{ENVELOPE}/cell",
        )
        for name in ("robot", "person")
    ]
    told = 0
    for path in paths:
        answer = client.get(path)
        assert answer.status in (200, 400, 404), (path, answer.status)
        page = _Markup()
        page.feed(answer.text)
        assert page.tags.count("script") == 1 and "img" not in page.tags and "set-cookie" not in answer.headers, path
        assert not [name for name, _ in page.attributes if name.startswith("on")], path
        told += answer.text.count("&lt;script&gt;")
    assert told > 50


HOSTILE_QUERY = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E"


def test_no_cell_of_a_csv_is_a_formula(here: World) -> None:
    """What begins like one, after white space too, begins with an apostrophe; numbers stay numbers."""
    client = here.client("assurance")
    log = here.logs[HOSTILE_ROBOT]
    cells = 0
    for path in (
        "/fleet",
        here.robot(HOSTILE_ROBOT),
        "/missions",
        f"/logs/{log}/missions/0",
        "/episodes?kind=mrm",
        f"/logs/{log}/records",
    ):
        joint = "&" if "?" in path else "?"
        for row in csv.reader(io.StringIO(client.get(f"{path}{joint}as=csv").body.decode("utf-8-sig"))):
            for cell in row:
                cells += 1
                assert not re.match(r"[\s\u00a0\ufeff]*[=+@|%]|[\s\u00a0\ufeff]*-\D", cell), (path, cell)
    assert cells > 200
    assert [tamed(one) for one in ("=1", " =1", "\t@x", "+1", "-1+2", "\u00a0=1", "x=1", -1, -0.5, None, "")] == [
        "'=1",
        "' =1",
        "'\t@x",
        "'+1",
        "'-1+2",
        "'\u00a0=1",
        "x=1",
        -1,
        -0.5,
        None,
        "",
    ]
    assert as_csv(Table("t", ["a"], [['=1;"x"']])).decode("utf-8-sig") == 'a\r\n"\'=1;""x"""\r\n'


def test_no_path_leads_out(here: World) -> None:
    """Static files, logs, packets: whatever a path says, nothing but what is meant is read."""
    client = here.client("assurance")
    for path in (
        "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/..%5capp.py", "/static//etc/passwd", "/static/style.css%00.py",
        "/packets/..%2f1/file", "/packets/1%2f..%2f..%2fregistry.key/file", "/logs/..%2f..%2fetc/records", "/logs/%00/records",
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status == 404 and b"import" not in answer.body and b"root:" not in answer.body, path
    assert HOSTILE_ROBOT in client.get(here.robot(HOSTILE_ROBOT)).text
    assert [
        local(one)
        for one in ("/fleet?a=b", "//evil", "/\\evil", "https://evil", "evil", "/a\r\nb", "/" + "x" * 2000, "")
    ] == [
        "/fleet?a=b",
        "/",
        "/",
        "/",
        "/",
        "/",
        "/",
        "/",
    ]


def test_who_read_and_changed_what_is_written_down(here: World) -> None:
    """Reading payloads, exporting, signing in and out each leave a line with person and subject; the fleet does not."""
    client = here.client("field_engineer")
    log = here.logs["plane"]
    with here.store.read() as tx:
        last = tx.connection.execute(sa.select(sa.func.max(w.audit.c.id))).scalar() or 0
    for path in (
        "/fleet",
        f"/logs/{log}/records/6",
        f"/logs/{log}/records?as=csv",
        f"/logs/{log}/records/6/proof",
        f"/logs/{log}/missions/0",
    ):
        assert client.get(path).status == 200
    assert here.client("operator").get(f"/logs/{log}/records/6").status == 403
    client.ask("POST", "/packets", {"csrf": client.csrf("/fleet"), "log": log, "first": "0", "end": "2"})
    here.client().sign_in("ert1.none")
    with here.store.read() as tx:
        rows = tx.connection.execute(sa.select(w.audit).where(w.audit.c.id > last).order_by(w.audit.c.id)).all()
    assert [(row.person, row.action) for row in rows] == [
        ("field_engineer", "record read"),
        ("field_engineer", "records read"),
        ("field_engineer", "record read"),
        ("field_engineer", "mission read"),
        ("operator", "sign-in"),
        ("field_engineer", "packet made"),
        ("unknown", "sign-in refused"),
    ]
    assert (
        rows[0].subject == f"/logs/{log}/records/6" and rows[1].words == "as=csv" and rows[5].words == "records 0 to 1"
    )
    assert all(row.address in ("127.0.0.1",) for row in rows)


def test_nothing_is_read_without_a_line_of_it_on_the_disk(here: World) -> None:
    """A page of payloads is refused while the audit record can't be written, and what was asked for is not in the answer."""
    client = here.client("field_engineer")
    path = f"/logs/{here.logs['plane']}/records/6"
    assert "bytes that were signed" in client.get(path).text
    for old, new in (("web_audit", "web_audit_away"), ("web_audit_away", "web_audit")):
        with here.store.own() as tx:
            tx.connection.exec_driver_sql(f"alter table {old} rename to {new}")
        answer = client.get(path)
        assert (answer.status, "bytes that were signed" in answer.text) == (
            (503, False) if new == "web_audit_away" else (200, True)
        )
