"""RFC 5424 messages with octet counting over TCP (RFC 6587) and TLS (RFC 5425).

Syslog acknowledges nothing. A batch goes over a connection of its own, whose end says what became of it: over TLS the receiver's
``close_notify`` comes only after it has read ours, which stands behind the batch, and a process that was killed sends none; over
plain TCP an orderly end comes from a killed one too, unless something was left unread.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence

from edge_monitor.journal.records import Severity

from .delivery import DeliveryError
from .shipment import Shipment, moment

FACILITY = 13  #: log audit
SEVERITY = {Severity.CATASTROPHIC: 1, Severity.CRITICAL: 2, Severity.MARGINAL: 4, Severity.NEGLIGIBLE: 6}
#: The name of the structured data; 32473 is the number that RFC 5612 gives to examples: the project has none of its own.
DATA_ID = "edge@32473"
TIMEOUT_S = 30.0
LARGEST_REST = 1 << 16  #: bytes that a receiver may say at the end


def message(one: Shipment, body: bytes) -> bytes:
    """One message: header, structured data by which the record is found in its chain, and ``body``."""
    fields = {
        "id": one.id, "robot": one.robot, "boot": one.boot, "seq": str(one.sequence), "log": one.log, "hash": one.hash,
    }  # fmt: skip
    data = " ".join(f'{name}="{_escaped(value)}"' for name, value in fields.items())
    header = (
        f"<{FACILITY * 8 + SEVERITY[one.severity]}>1", moment(one.time_ns), _word(one.robot, 255), "edge-registry", "-",
        _word(one.type, 32), f"[{DATA_ID} {data}]",
    )  # fmt: skip
    return " ".join(header).encode() + b" " + body


def framed(messages: Sequence[bytes]) -> bytes:
    """Messages with their lengths."""
    return b"".join(b"%d %b" % (len(one), one) for one in messages)


class SyslogOutput:
    """Sends batches to a receiver. ``context``: for TLS; None: plain TCP."""

    def __init__(
        self, host: str, port: int, render: Callable[[Shipment], bytes], context: ssl.SSLContext | None = None, *,
        accept_eof: bool = False,
    ) -> None:  # fmt: skip
        """``accept_eof``: take the end of the connection for an answer where TLS ends without ``close_notify``."""
        self.certain = context is not None and not accept_eof
        self._accept_eof = accept_eof
        self._where = (host, port)
        self._render = render
        self._context = context

    def send(self, batch: Sequence[Shipment]) -> None:
        """Send a batch and wait until the receiver has ended the connection. Raises ``DeliveryError``."""
        data = framed([message(one, self._render(one)) for one in batch])
        try:
            with socket.create_connection(self._where, TIMEOUT_S) as plain:
                if self._context is None:
                    plain.sendall(data)
                    plain.shutdown(socket.SHUT_WR)
                    _read_to_end(plain)
                    return
                with self._context.wrap_socket(
                    plain, server_hostname=self._where[0], suppress_ragged_eofs=False
                ) as tls:
                    tls.sendall(data)
                    try:
                        tls.unwrap()  # sends close_notify, and raises unless the receiver's comes back
                    except ssl.SSLEOFError:
                        if not self._accept_eof:
                            raise
        except ssl.SSLEOFError:
            raise DeliveryError(
                f"{self._where[0]}:{self._where[1]}: ended without close_notify, so that nobody knows what it took; a receiver "
                "that always does needs --accept-eof"
            ) from None
        except OSError as error:  # ssl.SSLError is one
            raise DeliveryError(f"{self._where[0]}:{self._where[1]}: {error}") from None

    def close(self) -> None:
        """Nothing is kept open."""


def _read_to_end(connection: socket.socket) -> None:
    read = 0
    while rest := connection.recv(4096):
        read += len(rest)
        if read > LARGEST_REST:
            raise OSError("it talks back: that is no syslog receiver")


def _word(text: str, most: int) -> str:
    """Text as a header field: printable ASCII without blanks."""
    return "".join(character if "!" <= character <= "~" else "?" for character in text)[:most] or "-"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
