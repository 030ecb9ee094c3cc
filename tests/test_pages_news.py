"""Server-sent events: pages that are open hear of new records, and nothing else; who may not, or no longer, hears nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from browser import MISSING, Browser, is_here
from pages_world import Client, World, entry, people_file, wait, world

from edge_monitor.journal import Entry
from edge_registry.web import news
from edge_registry.web.access import IDLE_S, withdraw
from edge_registry.web.news import MOST_OF_ONE, read_of


class Clock:
    """A clock that a test turns on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """A registry with its pages, and a mission."""
    found = world(tmp_path, clock=Clock())
    yield found
    found.serving.stop()


@contextmanager
def listening(client: Client, query: str = "") -> Iterator[HTTPResponse]:
    """A stream of events."""
    connection = HTTPConnection("127.0.0.1", client.port, timeout=30)
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    connection.request("GET", f"/news?as=events{query}", headers={"cookie": cookies})
    response = connection.getresponse()
    try:
        yield response
    finally:
        response.close()
        connection.close()


def event(stream: HTTPResponse) -> dict[str, str]:
    """The next event; empty at the end of the stream."""
    found: dict[str, str] = {}
    while line := stream.readline().decode():
        name, _, value = line.rstrip("\n").partition(": ")
        if line == "\n" and "event" in found:
            return found
        if line != "\n":
            found[name] = value
    return {}


def some(count: int) -> list[Entry]:
    """Records of a run."""
    return [
        entry("monitor.started", 0, subject="x"),
        *(entry("check.pass", n, subject="x") for n in range(1, count - 1)),
    ]


def seen(here: World) -> int:
    """Records that pages know."""
    with here.store.read() as tx:
        return read_of(tx)


def test_a_stream_tells_how_many_records_are_new(here: World) -> None:
    """At once what came since the page was made, and then what comes; of one log only where one is named."""
    client = here.client("operator")
    before = seen(here)
    with listening(client, f"&seen={before - 3}") as stream, ExitStack() as stack:
        assert stream.status == 200 and stream.headers["content-type"].startswith("text/event-stream")
        assert (
            stream.headers["cache-control"] == "no-store"
            and "default-src 'none'" in stream.headers["content-security-policy"]
        )
        assert event(stream) == {"retry": "5000", "event": "records", "data": "3"}
        other = stack.enter_context(listening(client, f"&log={here.logs['plane']}&seen=0"))
        first = event(other)
        here.bring("late", some(9), 21)
        assert event(stream) == {"event": "records", "data": str(3 + 9)}
        assert first["data"] == "22" and seen(here) == before + 9
        here.serving.site.news.close()
        assert event(other) == {} and event(stream) == {}  # the ends are whole: nothing was cut
    for query, status in (("&seen=x", 400), ("&log=nothing", 404), ("&seen=-1", 400)):
        with listening(client, query) as refused:
            assert refused.status == status and refused.headers["content-type"].startswith("text/plain"), query


@pytest.mark.parametrize("how", ["sign-out", "withdrawn", "no role", "idle"])
def test_a_stream_ends_with_what_let_it_in(here: World, how: str) -> None:
    """After sign-out, withdrawal of the token, loss of the role, and an hour without any other request, it says so and ends."""
    client = here.client("planner")
    with listening(client, f"&seen={seen(here) - 1}") as stream:
        assert event(stream)["data"] == "1"
        if how == "sign-out":
            assert client.ask("POST", "/sign-out", {"csrf": client.csrf("/help")}).status == 303
        elif how == "withdrawn":
            with here.store.own() as tx:
                withdraw(tx, 1, "test", int(time.time()))
        elif how == "no role":
            people_file(here.folder, {"planner": "key_admin"})
        else:
            assert isinstance(here.clock, Clock)
            here.clock.ahead = IDLE_S - 5
            here.bring("late", some(4), 22)
            assert event(stream)["data"] == "5"  # to be told is no request of the person's own
            here.clock.ahead = IDLE_S + 5
        assert event(stream) == {"event": "over", "data": "signed out"}
        assert stream.readline() == b""
    if how != "no role":
        with listening(client) as refused:
            assert refused.status == 401


def test_streams_are_few(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person has so many, all people together so many; one that is closed makes room; pages are answered meanwhile."""
    client = here.client("operator")

    def status(who: Client) -> int:
        with listening(who) as stream:
            return stream.status

    with ExitStack() as stack:
        streams = [stack.enter_context(listening(client)) for _ in range(MOST_OF_ONE)]
        assert {stream.status for stream in streams} == {200} and status(client) == 429
        assert client.get("/fleet").status == 200 and status(here.client("planner")) == 200
        monkeypatch.setattr(news, "MOST", MOST_OF_ONE)
        wait(lambda: status(here.client("approver")) == 429)
    wait(lambda: status(client) == 200)


@pytest.mark.skipif(not is_here(), reason=MISSING)
def test_a_browser_offers_to_show_what_is_new(here: World) -> None:
    """A page says so once, as a status; the way to the new page is a link; signed out elsewhere, it says that."""
    here.serving.site.access.forget()
    with Browser() as browser:
        browser.open(here.serving.url)
        browser.type("#token", here.tokens["assurance"])
        browser.click("form.stack button")
        browser.wait("return location.pathname === '/fleet' && document.readyState === 'complete'")
        assert browser.find(".news") == []
        here.bring("late", some(7), 23)
        browser.wait(
            "return document.querySelector('.news') && document.querySelector('.news').textContent.includes('7')"
        )
        assert browser.text(".news") == "New records since this page was made (7): show them"
        assert browser.run("return document.querySelector('.news').getAttribute('role')") == "status"
        assert browser.run("return document.querySelector('main').textContent.includes('late')") is False
        browser.click(".news a")
        browser.wait(
            "return document.querySelector('main').textContent.includes('late') && !document.querySelector('.news')"
        )
        (session,) = browser.cookies("edge_registry_session")
        other = Client(here.port, {"edge_registry_session": session})
        assert other.ask("POST", "/sign-out", {"csrf": other.csrf("/help")}).status == 303
        browser.wait("return document.querySelector('.news')")
        assert browser.text(".news") == "You are signed out: sign in"
        assert browser.log() == []


@pytest.mark.skipif(not is_here(), reason=MISSING)
def test_without_scripts_a_page_is_right_as_of_its_foot(here: World) -> None:
    """Nothing renews itself, nothing says that it does, and loading again shows what is new."""
    here.serving.site.access.forget()
    with Browser(scripts=False) as browser:
        browser.open(here.serving.url)
        browser.type("#token", here.tokens["assurance"])
        browser.click("form.stack button")
        browser.wait("return location.pathname === '/fleet'")
        here.bring("late", some(7), 24)
        assert browser.find(".news") == [] and "As of" in browser.text("footer")
        browser.open(f"{here.serving.url}fleet")
        assert "late" in browser.text("main")
