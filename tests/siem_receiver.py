"""A receiver of syslog (plain or over TLS) or OTLP, as a process of its own: writes down each record before it reads the next.

``python siem_receiver.py syslog|tls|otlp PORT FILE [CERTIFICATE]``; says "ready" when it listens. One line of FILE is one record:
its id, its hash and the length of what came, with blanks between.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAMES = re.compile(rb'\[edge@32473 id="([^"]+)" .*? hash="([0-9a-f]{64})"\]')


def main(kind: str, port: int, file: str, certificate: str = "") -> None:
    """Receive until killed."""
    with open(file, "a", buffering=1, encoding="ascii") as out:
        if kind == "otlp":
            otlp(port, out)
        else:
            syslog(port, out, certificate)


def syslog(port: int, out: object, certificate: str) -> None:
    """Messages with their lengths, a connection after the other."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
    if context is not None:
        context.load_cert_chain(certificate)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        try:
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            take(connection, out)
            if isinstance(connection, ssl.SSLSocket):
                connection.unwrap()
        except OSError:
            pass
        connection.close()


def take(connection: socket.socket, out: object) -> None:
    """The messages of a connection, to its end; half a message at the end is none."""
    data = b""
    while more := connection.recv(4096):
        data += more
        while match := re.match(rb"(\d{1,9}) ", data):
            end = match.end() + int(match[1])
            if len(data) < end:
                break
            message, data = data[match.end() : end], data[end:]
            names = NAMES.search(message)
            assert names is not None
            out.write(f"{names[1].decode()} {names[2].decode()} {len(message)}\n")  # type: ignore[attr-defined]


def otlp(port: int, out: object) -> None:
    """Requests, each answered when it is written down."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in json.loads(body)["resourceLogs"]:
                for record in resource["scopeLogs"][0]["logRecords"]:
                    said = {one["key"]: one["value"] for one in record["attributes"]}
                    names = said["log.record.uid"]["stringValue"], said["edge.hash"]["stringValue"]
                    out.write(f"{names[0]} {names[1]} {len(json.dumps(record))}\n")  # type: ignore[attr-defined]
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A sender that was killed is nothing to tell."""

    server = Server(("127.0.0.1", port), Handler)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
