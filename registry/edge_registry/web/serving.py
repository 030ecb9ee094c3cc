"""The pages over HTTP: in this process (``Serving``), or in one beside a registry that takes records (``Beside``)."""

from __future__ import annotations

import logging
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from edge_monitor.errors import ConfigError
from edge_monitor.secret_files import open_to_others

from ..blobs import Blobs
from ..catalogue.opening import PEOPLE_FILE
from ..catalogue.watching import Watching
from ..configuration import load as load_configuration
from ..house import House
from .access import Access
from .app import Site, application
from .follower import Follower
from .news import MOST
from .oidc import Client, Provider
from .oidc_pages import BACK
from .packets import Packets
from .pages_store import PagesStore
from .people import PeopleFile

AT_ONCE = (
    64 + MOST
)  #: connections, those of pages that listen for news among them; beyond them an answer says to come again
AGAIN_S, LONGEST_S = (
    1.0,
    30.0,
)  #: after the pages' process ended, it is begun again after so long, doubled up to the latter


@dataclass(frozen=True, slots=True)
class Address:
    """Where pages are served. ``certificate`` and ``key``: PEM files for TLS, both or neither."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @property
    def secure(self) -> bool:
        """Whether browsers come by TLS."""
        return self.certificate is not None


def parse_address(text: str, certificate: Path | None = None, key: Path | None = None) -> Address:
    """``HOST:PORT``; the port ``*`` or 0 is one that is free. Raises ``ConfigError``."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(\*|[0-9]{1,5})", text)
    if match is None or (match[3] != "*" and int(match[3]) > 65535):
        raise ConfigError(f"{text[:100]!r} is no address for pages: HOST:PORT, such as 127.0.0.1:8480")
    if (certificate is None) != (key is None):
        raise ConfigError("TLS takes a certificate and its key: give both --tls-cert and --tls-key, or neither")
    host = match[1] or match[2]
    if certificate is None and host not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError(
            f"{text}: without TLS pages are served on this machine only; give --tls-cert and --tls-key, or 127.0.0.1"
        )
    return Address(host, 0 if match[3] == "*" else int(match[3]), certificate, key)


def site(house: House, people: Path | None, *, secure: bool = False, now: Callable[[], float] = time.time) -> Site:
    """Everything pages need, over the registry in a folder. Raises ``ConfigError``."""
    store = PagesStore(house.database)
    file = PeopleFile(people if people is not None else house.folder / PEOPLE_FILE)
    packets = Packets(store, house.folder / "packets", house.receipts, Blobs(house.blobs))
    return Site(store, house, file, Access(store, file, now), packets, secure)


def provider(
    issuer: str | None, client: str | None, secret: Path | None, url: str, now: Callable[[], float]
) -> Provider:
    """The OpenID provider that signs people in; ``secret``: a file, ``url``: where browsers find the pages.

    Raises ``ConfigError``.
    """
    if issuer is None or client is None:
        raise ConfigError("signing in through an OpenID provider takes both --oidc-issuer and --oidc-client")
    words = ""
    if secret is not None:
        try:
            if open_to_others(secret):
                raise ConfigError(f"{secret}: others may read it; chmod 600 {secret}")
            words = secret.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{secret}: can't be read ({error})") from None
    return Provider(Client(issuer, client, f"{url.rstrip('/')}{BACK}", words), now)


class Serving:
    """Pages at an address, in a thread; and the follower that reads for them."""

    def __init__(self, site: Site, address: Address, tell: Callable[[str], None] = lambda words: None) -> None:
        """Raises ``ConfigError`` where the address is taken, or the certificate is none."""
        self.site = site
        self.address = address
        self.follower = Follower(site.store, tell)
        self.watching = Watching(
            site.store, site.people, load_configuration(site.house.folder), tell, Blobs(site.house.blobs)
        )
        context = _context(address)
        self._socket = _bound(address)
        options = uvicorn.Config(
            application(site),
            access_log=False,
            log_level=logging.WARNING,
            log_config=None,
            server_header=False,
            date_header=True,
            limit_concurrency=AT_ONCE,
            timeout_keep_alive=20,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=32 << 10,
            lifespan="off",
            ws="none",
            http="h11",
            proxy_headers=False,
        )
        options.load()
        if context is not None:
            options.ssl = context
        self._server = uvicorn.Server(options)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="pages", daemon=True)

    @property
    def url(self) -> str:
        """Where to find them."""
        port = self._socket.getsockname()[1]
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        return f"{'https' if self.address.secure else 'http'}://{host}:{port}/"

    def start(self) -> None:
        """Serve until :meth:`stop`."""
        self.follower.start()
        self.watching.start()
        self._thread.start()

    def stop(self) -> None:
        """End well: what is being answered is answered."""
        self.site.news.close()
        self._server.should_exit = True
        self._thread.join()
        self.follower.stop()
        self.watching.stop()
        self._socket.close()
        self.site.store.close()


class Beside:
    """The command ``edge-registry web`` as a process of its own, begun again where it ends by itself. It ends with its parent."""

    def __init__(self, arguments: list[str], tell: Callable[[str], None]) -> None:
        """``arguments``: of ``edge-registry web``."""
        self._command = [
            sys.executable,
            "-c",
            "from edge_registry.cli import main; main()",
            "web",
            *arguments,
            "--with-parent",
        ]
        self._tell = tell
        self._wait, self._next = AGAIN_S, 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, as far as is known; None where it does not run."""
        return self._process.pid if self._process is not None else None

    def look(self) -> None:
        """Begin the process where it does not run; call it now and then."""
        if self._process is not None and self._process.poll() is not None:
            self._tell(f"the pages ended with code {self._process.returncode}; again in {self._wait:g} s")
            self._process, self._next = None, time.monotonic() + self._wait
            self._wait = min(LONGEST_S, 2 * self._wait)
        if self._process is None and time.monotonic() >= self._next:
            # It reads from a pipe whose other end is ours, and ends when that closes, however we ended.
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, start_new_session=True)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _context(address: Address) -> ssl.SSLContext | None:
    if address.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(address.certificate, address.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{address.certificate}, {address.key}: no certificate with its key in PEM ({error})"
        ) from None
    return context


def _bound(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((address.host, address.port))
        found.listen(128)
    except OSError as error:
        found.close()
        raise ConfigError(f"{address.host}:{address.port}: {error.strerror}; choose an address that is free") from None
    found.set_inheritable(False)
    return found
