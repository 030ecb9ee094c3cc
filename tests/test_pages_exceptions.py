"""The page of exceptions: all of them, page by page, and the commands by which a person does something about one."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout

import pytest
import sqlalchemy as sa
from pages_world import Client, World, world

from edge_monitor.command_line import run as command
from edge_monitor.journal.keys import SigningKey
from edge_registry.catalogue import tables as t
from edge_registry.catalogue.exceptions import PIECE
from edge_registry.cli import group

MANY = PIECE + 30


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A registry in which many exceptions have been opened, every third of them of a robot of its own."""
    found = world(tmp_path_factory.mktemp("exceptions"), missions=False)
    now = int(time.time())
    with found.store.begin() as tx:
        for number in range(MANY):
            about = {"kind": "unknown_digest", "robot": f"robot-{number % 3}", "subject": f"{number:064x}"}
            when = {"log": 0, "seq": -1, "opened_s": now, "deadline_s": now + 3600}
            values = {**about, **when, "owner": "planner" if number % 2 else "", "words": f"case {number}"}
            tx.connection.execute(sa.insert(t.exceptions).values(**values))
    yield found
    found.serving.stop()


def listed(client: Client, path: str) -> tuple[list[int], str]:
    """Numbers on a page, and where it goes on."""
    page = client.get(path).text
    more = re.search(r'href="([^"]+)">Earlier exceptions', page)
    return [int(one) for one in re.findall(r'<a href="/exceptions/(\d+)">', page)], html.unescape(
        more[1]
    ) if more else ""


@pytest.mark.parametrize("which", ["", "robot=robot-1", "owner=planner", "kind=unknown_digest&all=yes"])
def test_all_of_them_are_found_page_by_page(here: World, which: str) -> None:
    """Pages follow each other, the newest first, each exception once, with the filters; the file has what all pages have."""
    client = here.client("planner")
    numbers, path, pages = list[int](), f"/exceptions?{which}", 0
    while path:
        found, path = listed(client, path)
        assert len(found) <= 100 and (not path or len(found) == 100)
        numbers += found
        pages += 1
    wanted = {"robot=robot-1": MANY // 3 + (MANY % 3 > 1), "owner=planner": MANY // 2}.get(which, MANY)
    assert numbers == sorted(set(numbers), reverse=True) and len(numbers) == wanted
    assert pages == -(-wanted // 100)
    rows = csv.DictReader(io.StringIO(client.get(f"/exceptions?{which}&as=csv").body.decode("utf-8-sig")))
    assert [int(row["number"]) for row in rows] == numbers
    if "all" not in which:
        told = json.loads(client.get(f"/api/v1/exceptions?{which}&before={numbers[4]}&limit=3").body)
        assert [one["id"] for one in told] == numbers[5:8]


def test_filters_that_are_none_are_refused(here: World) -> None:
    """A strange number or kind is a bad request; a filter that nothing matches says so."""
    client = here.client("planner")
    for query in ("before=x", "before=-1", "kind=x"):
        assert client.get(f"/exceptions?{query}").status == 400, query
    assert "that “nobody” owns" in client.get("/exceptions?owner=nobody").text
    assert "None is open" in client.get("/exceptions?before=1").text


def shown(client: Client, number: int) -> list[str]:
    """The commands on an exception's page."""
    page = client.get(f"/exceptions/{number}").text
    return [html.unescape(one) for one in re.findall(r"<pre[^>]*>(edge-registry [^<]+)</pre>", page)]


def typed(here: World, line: str, person: str, seed: int, owner: str = "") -> tuple[int, str]:
    """Exit code and output of a command, as somebody types it who has filled in what is in capitals."""
    key = here.folder / f"{person}.key"
    key.touch(0o600)
    key.write_text(SigningKey(person, bytes([seed]) * 32).text() + "\n")
    filled = line.replace("YOUR.key", shlex.quote(str(key))).replace(" ID", f" {owner}").replace("WHY", "a bench robot")
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as ended:
        command(group, "edge-registry", shlex.split(filled)[1:])
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.getvalue()


def test_the_commands_on_the_page_do_what_it_says(here: World) -> None:
    """As they stand there they assign and settle; who owns it gets none to settle it; who has not the role gets none."""
    approver, assurance = here.client("approver"), here.client("assurance")
    planner = here.client("planner")
    assert shown(planner, 1) == [] and "assurance or approver" in planner.get("/exceptions/1").text
    commands = shown(assurance, 1)
    assert [one.split(" --reason")[0].split()[-1] for one in commands] == ["ID", "closed", "mitigated", "accepted"]
    assert all("--person assurance" in one for one in commands)
    code, said = typed(here, commands[0], "assurance", 104, "approver")
    assert code == 0 and "mitigating  owner approver" in said
    own = approver.get("/exceptions/1").text
    assert "You own it, or did" in own and len(shown(approver, 1)) == 1
    code, said = typed(here, commands[3].replace("assurance", "approver"), "approver", 101)
    assert code == 2 and "another person must settle it" in said
    code, said = typed(here, commands[3], "assurance", 104)
    assert code == 0 and "accepted" in said
    settled = assurance.get("/exceptions/1").text
    assert "It does not open again" in settled and shown(assurance, 1) == [] and "a bench robot" in settled
    assert (
        1 not in listed(assurance, f"/exceptions?before={3}")[0]
        and 1 in listed(assurance, "/exceptions?all=yes&before=3")[0]
    )


def test_no_page_changes_an_exception(here: World) -> None:
    """There is no form for it, and no request that would."""
    client = here.client("assurance")
    assert 'method="post"' not in client.get("/exceptions/2").text.split("<main")[1]
    assert client.ask("POST", "/exceptions/2", {"csrf": client.csrf("/help"), "state": "closed"}).status in (404, 405)
