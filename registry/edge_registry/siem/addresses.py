"""Where records go, as people write it: ``syslog://HOST:PORT``, ``syslog+tls://HOST:PORT``, ``otlp://HOST:PORT``, ``otlp+tls://…``."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edge_monitor.errors import ConfigError, UsageError

from .delivery import Output
from .forms import FORMS
from .otlp import PATH, OtlpOutput
from .syslog import SyslogOutput

#: Their usual ports: 601 and 6514 of syslog over TCP and TLS, 4318 of OTLP over HTTP.
PORTS = {"syslog": 601, "syslog+tls": 6514, "otlp": 4318, "otlp+tls": 4318}
HEADERS_VARIABLE = "EDGE_REGISTRY_SIEM_HEADERS"


@dataclass(frozen=True, slots=True)
class Address:
    """Where, without any secret."""

    scheme: str
    host: str
    port: int
    path: str

    def text(self) -> str:
        """As people write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse_address(text: str) -> Address:
    """Raises ``UsageError``."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    known = parts.scheme in PORTS
    syslog = parts.scheme.startswith("syslog")
    if not known or not parts.hostname or parts.username or parts.query or parts.fragment or (syslog and parts.path):
        raise UsageError(f"--to {text[:100]!r}: expected one of {', '.join(f'{name}://HOST:PORT' for name in PORTS)}")
    path = "" if syslog else parts.path if parts.path not in ("", "/") else PATH
    return Address(parts.scheme, parts.hostname, port or PORTS[parts.scheme], path)


def open_output(
    address: Address,
    form: str,
    *,
    authority: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    accept_eof: bool = False,
) -> Output:
    """The output at an address. ``authority``: certificates that are trusted (None: the machine's); ``certificate`` and ``key``:
    our own, where the receiver asks for one. ``accept_eof``: of a receiver of syslog over TLS that ends without close_notify.

    Raises ``ConfigError`` for files or headers that are not usable, ``UsageError`` for a form that the transport has not.
    """
    secure = address.scheme.endswith("+tls")
    if not secure and (authority or certificate):
        raise UsageError(f"{address.text()}: certificates are for TLS; use {address.scheme}+tls://")
    context = _context(authority, certificate, key) if secure else None
    if address.scheme.startswith("otlp"):
        return OtlpOutput(address.host, address.port, address.path, context, _headers())
    return SyslogOutput(address.host, address.port, FORMS[form], context, accept_eof=accept_eof)


def _context(authority: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as error:
        raise ConfigError(f"{certificate or authority}: not usable for TLS ({error.strerror or error})") from None
    return context


def _headers() -> Mapping[str, str]:
    """Headers that a collector asks for, such as a token: ``NAME=VALUE,…`` in the environment; arguments are for all to see."""
    found = {}
    for part in os.environ.get(HEADERS_VARIABLE, "").split(","):
        if not part.strip():
            continue
        name, mark, value = part.partition("=")
        if not mark or not name.strip().replace("-", "").isalnum() or not value.isprintable():
            raise ConfigError(f"{HEADERS_VARIABLE}: expected NAME=VALUE, and a comma between several")
        found[name.strip()] = value.strip()
    return found
