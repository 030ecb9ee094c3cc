"""Enrolment: a one-time token makes a registry know a robot, and the robot know the registry (docs/sync.md §5)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import zmq

from ..errors import ConfigError, EdgeMonitorError, VerificationError
from ..journal.cosignatures import parse_cosigner_key
from ..journal.keys import SigningKey, VerifierKey
from ..journal.notes import open_note, sign_note
from ..secret_files import open_to_others
from . import wire
from .uplink import Registry

PREFIX = "emt1."
_TITLE = "edge-monitor enrolment v1"
ANSWER_MS = 10_000


class Token(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What ``edge-registry enrol`` prints: addresses as ZeroMQ has them, CURVE public key, receipt key line, one-time secret."""

    robot: str
    sync: str
    enrol: str
    server: str
    receipts: str
    secret: bytes

    def text(self) -> str:
        """The token in one line."""
        return PREFIX + base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).decode().rstrip("=")


def parse_token(text: str) -> Token:
    """The token of its line. Raises ``ConfigError`` for anything else."""
    try:
        packed = text.strip().removeprefix(PREFIX)
        return msgspec.msgpack.decode(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), type=Token)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise ConfigError("not an enrolment token: copy the whole line that 'edge-registry enrol' printed") from None


def statement(robot: str, curve: str, secret: bytes) -> str:
    """What a device's identity key signs to be enrolled with a CURVE public key."""
    return f"{_TITLE}\n{robot}\n{curve}\n{hashlib.sha256(secret).hexdigest()}\n"


def curve_of(note: str, identity: VerifierKey, robot: str, secret: bytes) -> str:
    """The CURVE key that a signed statement enrols. Raises ``VerificationError`` where it does not hold."""
    text, signers = open_note(note, [identity])
    lines = text.split("\n")
    if not signers or identity.name != robot or len(lines) != 5 or text != statement(robot, lines[2], secret):
        raise VerificationError(f"the statement is not one by the identity key of {robot}")
    return lines[2]


@dataclass(frozen=True, slots=True)
class Link:
    """A file (mode 0600) that holds what a robot knows of its registry."""

    registry: Registry

    def text(self) -> str:
        """The file's content: JSON."""
        r = self.registry
        fields = {
            "edge_monitor_link": 1, "address": r.address, "server": r.server, "receipts": r.receipts.text(),
            "public": r.public, "secret": r.secret,
        }  # fmt: skip
        return json.dumps(fields, indent=1) + "\n"


def load_link(path: Path) -> Registry:
    """The registry of a link file. Raises ``ConfigError`` when it is unreadable, malformed, or open to other users."""
    try:
        data = json.loads(path.read_text("utf-8")[:8192])
        if open_to_others(path):
            raise ConfigError(f"{path}: other users can read this key; run 'chmod 600 {path}'")
        fields = {name: str(data[name]) for name in ("address", "server", "receipts", "public", "secret")}
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; enrol with 'edge-monitor sync enrol'") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: no link to a registry; enrol with 'edge-monitor sync enrol'") from None
    receipts = parse_cosigner_key(fields["receipts"], str(path))
    return Registry(fields["address"], fields["server"], receipts, fields["public"], fields["secret"])


def enrol(token: Token, identity: SigningKey, path: Path) -> Registry:
    """Make a CURVE key, have it enrolled, and write the link file.

    Raises ``ConfigError`` where the file exists or can't be written, ``EdgeMonitorError`` where the registry refuses or does not
    answer.
    """
    if path.exists():
        raise ConfigError(f"{path} exists; a key is never overwritten: name another file")
    if identity.verifier.name != token.robot:
        raise ConfigError(
            f"the token is for {token.robot}, the key is of {identity.verifier.name}: use the robot's own key"
        )
    public, secret = (key.decode() for key in zmq.curve_keypair())
    registry = Registry(token.sync, token.server, parse_cosigner_key(token.receipts, "token"), public, secret)
    note = sign_note(statement(token.robot, public, token.secret), identity)
    answer = _asked(token, wire.Enrol(token.secret, note, identity.verifier.text()), public, secret)
    if not isinstance(answer, wire.Enrolled):
        words = answer.words if isinstance(answer, wire.Refused) else "it answered something else"
        raise EdgeMonitorError(f"the registry did not enrol {token.robot}: {words}")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(Link(registry).text())
            stream.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a file in a folder you can write to") from None
    return registry


def _asked(token: Token, message: wire.Enrol, public: str, secret: str) -> wire.Downlink:
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.CURVE_SERVERKEY, token.server.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
        socket.connect(token.enrol)
        socket.send(wire.encode(message))
        if not socket.poll(ANSWER_MS):
            raise EdgeMonitorError(
                f"{token.enrol}: no answer within {ANSWER_MS // 1000} s: is the registry running, and reachable?"
            )
        return wire.decode_downlink(socket.recv())
    except zmq.ZMQError as error:
        raise EdgeMonitorError(f"{token.enrol}: {error}") from None
    finally:
        socket.close()
        context.term()
