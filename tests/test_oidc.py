"""Signing in through an OpenID provider, which is a process of its own: who gets in, and every lie that lets nobody in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import sqlalchemy as sa
from browser import MISSING, Browser, is_here
from pages_world import Client, World, wait, world
from test_pages_access import Clock

from edge_monitor.errors import ConfigError
from edge_monitor.people import PeopleError, loads
from edge_registry.web import tables as w
from edge_registry.web.app import SESSION
from edge_registry.web.oidc import is_safe
from edge_registry.web.oidc_pages import COOKIE, UNDER_WAY_S
from edge_registry.web.serving import provider

pytestmark = pytest.mark.skipif(
    find_spec("oidc_provider_mock") is None, reason="oidc-provider-mock is not installed (it needs Python 3.11)"
)
HERE = Path(__file__).parent
SECRET = "not-for-others"


class OpenID:
    """A provider at a free port."""

    def __init__(self) -> None:
        words = [sys.executable, str(HERE / "oidc_provider.py"), "0"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[1])
        self.issuer = f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, target: str, form: dict[str, str] | None = None) -> tuple[int, str, str]:
        """(status, location, body)."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"content-type": "application/x-www-form-urlencoded"} if form else {}
        connection.request(method, target, urlencode(form) if form else None, headers)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, response.getheader("location", ""), body

    def lie(self, name: str) -> None:
        """Say something wrong next."""
        assert self.ask("PUT", f"/lie/{name.replace(' ', '%20')}")[0] == 200

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def openid() -> Iterator[OpenID]:
    """A provider."""
    found = OpenID()
    yield found
    found.close()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, openid: OpenID) -> Iterator[World]:
    """A registry whose people file knows erin of the provider as of the assurance team."""
    found = world(tmp_path_factory.mktemp("oidc"), clock=Clock(), missions=False)
    people = found.folder / "people.yaml"
    entry = "roles: [assurance], sign_in: [{issuer: '%s', subject: erin}]"
    people.write_text(people.read_text().replace("roles: [assurance]", entry % openid.issuer))
    secret = found.folder / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    site = found.serving.site
    site.oidc = provider(openid.issuer, "registry", secret, found.serving.url, site.access.now)
    wait(lambda: (there := site.people()) is not None and there.signing_in(openid.issuer, "erin") is not None)
    yield found
    found.serving.stop()


@pytest.fixture(autouse=True)
def fresh(here: World) -> None:
    """Forget how often somebody tried to sign in."""
    here.serving.site.access.forget()


def there(openid: OpenID, client: Client, target: str = "/fleet") -> str:
    """Go to the provider; answers its address."""
    answer = client.get(f"/sign-in/oidc?{urlencode({'next': target})}")
    assert answer.status == 303, answer.text
    assert answer.headers["location"].startswith(f"{openid.issuer}/oauth2/authorize?")
    return answer.headers["location"]


def said(openid: OpenID, address: str, subject: str = "erin") -> str:
    """Sign in there; answers the path to which one is sent back."""
    parts = urlsplit(address)
    status, location, body = openid.ask("POST", f"{parts.path}?{parts.query}", {"sub": subject})
    assert status == 302, body
    back = urlsplit(location)
    return f"{back.path}?{back.query}"


def test_a_person_signs_in_through_the_provider_and_is_what_the_people_file_says(here: World, openid: OpenID) -> None:
    """With PKCE, a state and a nonce of their own; the session is new, Strict, of that person's roles, and written down."""
    client = here.client()
    assert f"Sign in at 127.0.0.1:{openid.port}" in client.get("/sign-in?next=/people").text
    client.cookies[SESSION] = "chosen-by-an-attacker"
    address = there(openid, client, "/people")
    asked = parse_qs(urlsplit(address).query)
    assert (
        asked["code_challenge_method"] == ["S256"]
        and asked["response_type"] == ["code"]
        and asked["scope"] == ["openid"]
    )
    assert asked["redirect_uri"] == [f"{here.serving.url}sign-in/oidc/back"] and len(asked["state"][0]) >= 30
    answer = client.get(said(openid, address))
    assert answer.status == 200 and 'content="0; url=/people"' in answer.text
    (cookie,) = (one for one in answer.cookies if one.startswith(SESSION))
    assert "SameSite=strict" in cookie and "HttpOnly" in cookie and "chosen" not in cookie
    assert client.get("/people").status == 200 and client.get("/audit").status == 200
    assert "erin" in client.get("/audit?person=assurance").text
    assert Client(here.port, {SESSION: "chosen-by-an-attacker"}).get("/fleet").status == 303
    sent = json.loads(openid.ask("GET", "/seen")[2])[-1]
    assert SECRET not in str({k: v for k, v in sent.items() if k != "basic"}) and sent["basic"].startswith("Basic ")
    assert SECRET not in repr(here.serving.site.oidc.client) and len(sent["code_verifier"]) >= 43
    assert client.ask("POST", "/sign-out", {"csrf": client.csrf("/help")}).status == 303
    assert client.get("/fleet").status == 303


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("iss", "another issuer"), ("audience", "somebody else"), ("audiences", "somebody else"), ("party", "somebody else"),
        ("over", "is over"), ("endless", "is over"), ("future", "from the future"), ("nonce", "not of this sign-in"),
        ("no nonce", "not of this sign-in"), ("nobody", "names nobody"), ("key", "signature does not hold"),
        ("secret", "signature does not hold"), ("none", "signature does not hold"), ("flipped", "signature does not hold"),
        ("missing", "no ID token"),
    ],
)  # fmt: skip
def test_a_token_that_is_wrong_in_any_way_signs_nobody_in(here: World, openid: OpenID, name: str, words: str) -> None:
    """Of another issuer, for another, over, without or with another nonce, or not signed by the provider: a line, no session."""
    client = here.client()
    path = said(openid, there(openid, client))
    openid.lie(name)
    answer = client.get(path)
    assert answer.status == 403 and words in answer.text and SESSION not in client.cookies, answer.text
    assert client.get("/fleet").status == 303


def test_an_answer_counts_once_in_the_browser_that_asked_and_not_for_ever(here: World, openid: OpenID) -> None:
    """Replayed, in another browser, with another state, too late, or of another issuer: refused before the code is used."""
    client, other = here.client(), here.client()
    path = said(openid, there(openid, client))
    there(openid, other)
    before = openid.ask("GET", "/seen")[2].count("grant_type")
    assert other.get(path).status == 403 and here.client().get(path).status == 403
    assert client.get(path.replace("state=", "state=x")).status == 403
    assert openid.ask("GET", "/seen")[2].count("grant_type") == before
    assert client.get(path).status == 200
    replayed = Client(here.port, {COOKIE: client.cookies.get(COOKIE, "")})
    assert replayed.get(path).status == 403 and client.get(path).status == 403
    late = here.client()
    path = said(openid, there(openid, late))
    clock = here.clock
    assert isinstance(clock, Clock)
    try:
        clock.ahead = UNDER_WAY_S + 1
        assert late.get(path).status == 403
    finally:
        clock.ahead = 0
    mixed = here.client()
    path = said(openid, there(openid, mixed))
    assert "another provider" in mixed.get(f"{path}&iss=https://evil.example").text
    with here.store.read() as tx:
        (left,) = tx.connection.execute(sa.select(sa.func.count()).select_from(w.sign_ins)).one()
    assert left == 1, "what was used is deleted; the other browser's is still under way"


def test_who_is_not_in_the_people_file_is_nobody_and_who_is_taken_out_is_out(here: World, openid: OpenID) -> None:
    """An unknown subject is told its name; a session ends when the file no longer says that the subject is that person."""
    client = here.client()
    answer = client.get(said(openid, there(openid, client), "mallory<b>"))
    assert answer.status == 403 and "mallory&lt;b&gt;" in answer.text and SESSION not in client.cookies
    client = here.client()
    assert client.get(said(openid, there(openid, client))).status == 200 and client.get("/fleet").status == 200
    people = here.folder / "people.yaml"
    before = people.read_text()
    try:
        people.write_text(before.replace("subject: erin", "subject: eric"))
        wait(lambda: client.get("/fleet").status == 303)
        people.write_text(before)
        wait(lambda: client.get("/fleet").status == 200)
        people.write_text(before.replace("subject: erin}]", "subject: erin}], revoked: true"))
        wait(lambda: client.get("/fleet").status == 303)
        again = here.client()
        assert again.get(said(openid, there(openid, again))).status == 403
    finally:
        people.write_text(before)
        wait(lambda: client.get("/fleet").status == 200)


def test_refusals_and_a_provider_that_is_away_are_told(here: World, openid: OpenID) -> None:
    """What a provider says of a refusal is told without markup; one that does not answer keeps nobody from using a token."""
    client = here.client()
    address = there(openid, client)
    state = parse_qs(urlsplit(address).query)["state"][0]
    answer = client.get(f"/sign-in/oidc/back?{urlencode({'error': 'access_denied<script>', 'state': state})}")
    assert answer.status == 403 and "access_denied?script?" in answer.text
    site = here.serving.site
    known, secret = site.oidc, here.folder / "secret"
    try:
        site.oidc = provider("http://127.0.0.1:9", "registry", secret, here.serving.url, time.time)
        answer = client.get("/sign-in/oidc")
        assert answer.status == 503 and "can&#39;t be reached" in answer.text
        assert here.client().sign_in(here.tokens["planner"]).status == 303
        site.oidc = provider(openid.issuer, "registry", secret, here.serving.url, time.time)
        openid.lie("issuer")
        assert "another name" in here.client().get("/sign-in/oidc").text
        site.oidc = None
        assert (
            here.client().get("/sign-in/oidc").status == 404 and "Sign in at" not in here.client().get("/sign-in").text
        )
    finally:
        site.oidc = known


def test_what_can_not_be_is_refused_at_the_start(tmp_path: Path) -> None:
    """No secret travels in the clear or lies open; half of the options is none; one subject is one person."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o644)
    for issuer, client, file, url, words in (
        ("http://login.example", "r", None, "https://r.example/", "--oidc-issuer"),
        ("https://x", "r", None, "http://r.example", "--url"),
        ("https://x?y", "r", None, "https://r.example/", "--oidc-issuer"), ("https://x", None, None, "https://r", "both"),
        (None, "r", None, "https://r", "both"), ("https://x", "r", secret, "https://r", "others may read it"),
        ("https://x", "", None, "https://r", "--oidc-client"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            provider(issuer, client, file, url, time.time)
    assert is_safe("http://[::1]:1/") and not is_safe("http://localhost.evil/") and not is_safe("https://u@x/")
    person = "  %s: {name: %s, roles: [operator], keys: ['%s'], sign_in: [{issuer: 'https://x', subject: s}]}"
    from catalogue_case import KEYS

    lines = [person % (name, name, KEYS[name].verifier.text()) for name in ("paula", "anton")]
    with pytest.raises(PeopleError, match="each subject is one person"):
        loads("\n".join(["edge_monitor_people: 1", "people:", *lines]).encode())


def test_the_commands_take_a_provider(here: World, openid: OpenID, tmp_path: Path) -> None:
    """``edge-registry serve --http … --oidc-issuer …`` offers it, with the way back to where the pages are."""
    words = [sys.executable, "-c", "from edge_registry.cli import main; main()", "serve", "--dir", str(tmp_path / "r"),
             "--sync", "tcp://127.0.0.1:*", "--enrol", "tcp://127.0.0.1:*", "--http", "127.0.0.1:*"]  # fmt: skip
    with subprocess.Popen(
        [*words, "--oidc-issuer", openid.issuer, "--oidc-client", "r"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            assert "ended with code" not in line, line
            if "pages at " in line:
                break
        port = int(line.partition("pages at ")[2].partition(";")[0].rstrip("/").rpartition(":")[2])
        answer = Client(port).get("/sign-in/oidc")
        assert answer.status == 303
        asked = parse_qs(urlsplit(answer.headers["location"]).query)
        assert asked["redirect_uri"] == [f"http://127.0.0.1:{port}/sign-in/oidc/back"]
        process.terminate()
        process.wait()


@pytest.mark.skipif(not is_here(), reason=MISSING)
def test_a_browser_goes_there_and_comes_back_signed_in(here: World, openid: OpenID) -> None:
    """From the page that was asked for, over the provider's own page, back to it, with cookies as browsers treat them."""
    with Browser() as browser:
        browser.open(f"{here.serving.url}people")
        browser.click("a[href^='/sign-in/oidc']")
        browser.wait(f"return location.port === '{openid.port}' && document.readyState === 'complete'")
        browser.type("input[name=sub]", "erin")
        browser.click("form button")
        browser.wait("return location.pathname === '/people' && document.readyState === 'complete'")
        assert "Assurance" in browser.text("header .who")
        assert browser.log() == []
