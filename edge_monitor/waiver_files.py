"""A waiver on its way from one person to the next: what is signed, and who has signed it, as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .core.commands import SIGNATURE, Waive
from .errors import ConfigError, UsageError

FORMAT = 1
LARGEST = 1 << 16  #: bytes
FIELDS = ("edge_monitor_waiver", "check", "gates", "persons", "reason", "granted_ns", "expires_ns", "checkpoint")


def write(path: Path, order: Waive, signatures: Sequence[bytes]) -> None:
    """Write a waiver with the signatures of the first of its persons. Raises ``ConfigError``: it can't be written."""
    document = {
        "edge_monitor_waiver": FORMAT,
        "check": order.check,
        "gates": list(order.gates),
        "persons": list(order.persons),
        "reason": order.reason,
        "granted_ns": order.t,
        "expires_ns": order.expires,
        "checkpoint": order.checkpoint,
        "signatures": [signature.hex() for signature in signatures],
    }
    try:
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; choose another place with --out") from None


def read(path: Path) -> tuple[Waive, list[bytes]]:
    """The waiver and its signatures so far. Raises ``UsageError`` where the file is none."""
    mend = "have a new one made with 'edge-monitor operator waive'"
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(LARGEST))
        if set(document) != {*FIELDS, "signatures"} or document["edge_monitor_waiver"] != FORMAT:
            raise UsageError("has other fields than a waiver")
        if not all(isinstance(document[name], list) for name in ("gates", "persons", "signatures")):
            raise UsageError("gates, persons and signatures are lists")
        signatures = [bytes.fromhex(one) for one in document["signatures"]]
        if any(len(one) != SIGNATURE for one in signatures):
            raise UsageError(f"a signature has not {SIGNATURE} bytes")
        order = Waive(
            t=document["granted_ns"], check=document["check"], persons=tuple(document["persons"]),
            reason=document["reason"], expires=document["expires_ns"], gates=tuple(document["gates"]),
            checkpoint=document["checkpoint"],
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError, UsageError) as error:
        raise UsageError(f"{path}: is no waiver ({error}); {mend}") from None
    return order, signatures
