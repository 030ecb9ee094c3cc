"""The pages as a process, by TLS, and what is said on the command line about who may sign in."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from pages_world import Client, people_file, wait

from edge_monitor.command_line import run as command
from edge_monitor.errors import ConfigError
from edge_registry.cli import group
from edge_registry.house import open_house
from edge_registry.web.app import SESSION
from edge_registry.web.serving import Beside, Serving, parse_address, site

MAIN = [sys.executable, "-c", "from edge_registry.cli import main; main()"]


def test_secrets_stand_in_no_message(tmp_path: Path) -> None:
    """The command as a process: tokens, cookies, forged lines and broken requests leave nothing on its output."""
    people = people_file(tmp_path)
    with subprocess.Popen(
        [
            *MAIN,
            "serve",
            "--dir",
            str(tmp_path / "r"),
            "--sync",
            "tcp://127.0.0.1:*",
            "--enrol",
            "tcp://127.0.0.1:*",
            "--http",
            "127.0.0.1:*",
            "--people",
            str(people),
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(2)]
        assert "takes records" in said[0] and "pages at http://127.0.0.1:" in said[1], said
        port = int(re.findall(r":(\d+)/", said[1])[0])
        granted = subprocess.run(
            [*MAIN, "access", "grant", "assurance", "--dir", str(tmp_path / "r")],
            capture_output=True,
            text=True,
            check=True,
        )
        token = granted.stdout.strip()
        client = Client(port)
        assert client.sign_in(token).status == 303 and client.get("/audit").status == 200
        client.get("/logs/" + "x" * 300)
        client.get("/fleet?robot=%0d%0aedge-registry:%20forged%20line")
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(
                f"GET /fleet?token={token} HTTP/9.9\r\ncookie: {SESSION}={client.cookies[SESSION]}\r\n\r\n".encode()
            )
            raw.recv(1000)
        listed = subprocess.run(
            [*MAIN, "access", "list", "--dir", str(tmp_path / "r")], capture_output=True, text=True, check=True
        )
        process.terminate()
        rest = process.stderr.read()
        assert process.wait(20) == 0
    everything = "".join(said) + rest + listed.stdout + granted.stderr
    assert token not in everything and token[5:] not in everything and client.cookies[SESSION] not in everything
    assert "forged line" not in everything and "Traceback" not in everything, rest
    assert "assurance" in listed.stdout and "counts" in listed.stdout
    with pytest.raises(OSError):  # the pages have ended with their parent
        socket.create_connection(("127.0.0.1", port), timeout=2)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
def test_by_tls_cookies_travel_no_other_way(tmp_path: Path, root: Path) -> None:
    """With a certificate pages are served by TLS 1.2 or newer; cookies are Secure, and browsers are told to come so again."""
    pem = root / "tests/vectors/siem_receiver.pem"
    house = open_house(tmp_path / "registry", make="registry")
    serving = Serving(site(house, people_file(tmp_path), secure=True), parse_address("127.0.0.1:*", pem, pem))
    serving.start()
    try:
        port = int(serving.url.rstrip("/").rpartition(":")[2])
        assert serving.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(pem))
        context.check_hostname = False
        connection = HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
        connection.request("GET", "/sign-in")
        answer = connection.getresponse()
        assert answer.status == 200 and "max-age" in answer.headers["strict-transport-security"]
        assert "; Secure" in answer.headers["set-cookie"]
        connection.close()
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)), socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            old.wrap_socket(raw)
    finally:
        serving.stop()


@pytest.mark.parametrize(
    ("address", "pem", "words"),
    [
        ("0.0.0.0:8480", "", "without TLS pages are served on this machine only"),
        ("8480", "", "no address for pages"), ("127.0.0.1:70000", "", "no address for pages"),
        ("127.0.0.1:*", "cert", "both --tls-cert and --tls-key"), ("127.0.0.1:*", "both", "no certificate with its key"),
    ],
)  # fmt: skip
def test_an_address_that_can_not_be_is_refused(tmp_path: Path, address: str, pem: str, words: str) -> None:
    """Beyond this machine without TLS, no port, half a certificate, a file that is none: a line that says how to mend it."""
    file = tmp_path / "none.pem"
    file.write_text("no certificate")
    with pytest.raises(ConfigError, match=words):
        where = parse_address(address, file if pem else None, file if pem == "both" else None)
        Serving(site(open_house(tmp_path / "r", make="registry"), people_file(tmp_path)), where)


def test_tokens_are_handed_out_listed_and_withdrawn_on_the_command_line(tmp_path: Path) -> None:
    """A token is printed once and only by itself; who is no id of a person gets none; what is withdrawn can't be again."""
    open_house(tmp_path / "r", make="registry").store().close()

    def run(*words: str) -> tuple[int, str, str]:
        said, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(said), redirect_stderr(errors), pytest.raises(SystemExit) as ended:
            command(group, "edge-registry", ["access", *words, "--dir", str(tmp_path / "r")])
        return int(ended.value.code or 0), said.getvalue(), errors.getvalue()

    code, token, told = run("grant", "erin", "--days", "3")
    assert code == 0 and re.fullmatch(r"ert1\.[\w-]{43}\n", token) and "token 1 of erin, for 3 days" in told
    assert "erin" in run("list")[1] and token.strip() not in run("list")[1]
    assert run("withdraw", "1")[:2] == (0, "token 1 of erin counts no more\n") and "withdrawn" in run("list")[1]
    for words, expected in ((("withdraw", "1"), "no token 1 that counts"), (("grant", "a b"), "no id of a person")):
        code, said, told = run(*words)
        assert code == 2 and said == "" and expected in told and told.count("\n") == 1


def test_pages_that_end_by_themselves_are_begun_again(tmp_path: Path) -> None:
    """Killed, the process of the pages is told of and begun anew while records are taken on; stopped, it is gone."""
    open_house(tmp_path / "r", make="registry").store().close()
    told: list[str] = []
    beside = Beside(
        ["--dir", str(tmp_path / "r"), "--http", "127.0.0.1:*", "--people", str(people_file(tmp_path))], told.append
    )
    beside.look()
    first = beside.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)

    def is_anew() -> bool:
        beside.look()
        return beside.pid not in (None, first)

    wait(is_anew)
    second = beside.pid
    assert told == ["the pages ended with code -9; again in 1 s"] and second is not None
    beside.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)
