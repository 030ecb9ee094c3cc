"""What the catalogue holds, how it is called, and what may come from what."""

from __future__ import annotations

import re
from typing import NamedTuple

from edge_monitor.errors import UsageError

KINDS = ("model", "dataset", "suite", "run", "envelope", "baseline", "robot", "mission")

#: ``source relation target``, read as a sentence: "model trained_on dataset".
RELATIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "trained_on": (("model", "dataset"),),
    "distilled_from": (("model", "model"),),
    "derived_from": (("dataset", "dataset"), ("baseline", "dataset"), ("suite", "dataset")),
    "evaluates": (("run", "model"), ("run", "envelope"), ("run", "baseline")),
    "of_suite": (("run", "suite"),),
    "tested_on": (("run", "dataset"),),
    "uses": (("envelope", "baseline"), ("envelope", "model"), ("mission", "envelope"), ("mission", "model")),
    "replaces": tuple((kind, kind) for kind in KINDS),
    "flown_by": (("mission", "robot"),),
}
#: Relations that statements of others bring with them: what a build took in, what a test was run with.
FOREIGN = ("built_from", "tested_with")
#: What a person may sign for a thing of a kind.
APPROVABLE = ("model", "dataset", "suite", "envelope", "baseline", "mission")
PROMOTABLE = ("model", "baseline")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}")
_REF = re.compile(r"(?:([a-z]+):)?([A-Za-z0-9][A-Za-z0-9._-]{0,63})(?:@([A-Za-z0-9][A-Za-z0-9._+-]{0,31}))?")
_HEX = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})")


class Ref(NamedTuple):
    """A thing as people name it: ``digest`` its SHA-256 or the beginning of it, or ``kind:name@version`` (empty: any, newest)."""

    digest: str = ""
    kind: str = ""
    name: str = ""
    version: str = ""


def parse_ref(text: str) -> Ref:
    """``sha256:abcd…``, ``model:detector@3``, ``model:detector`` or ``detector@3``. Raises ``UsageError``."""
    found = _HEX.fullmatch(text)
    if found:
        return Ref(digest=found[1])
    match = _REF.fullmatch(text)
    if match is None or (match[1] is not None and match[1] not in KINDS):
        raise UsageError(
            f"{text[:80]!r} names nothing: use KIND:NAME@VERSION, such as model:detector@3, or the digest; "
            f"kinds are {', '.join(KINDS)}"
        )
    return Ref(kind=match[1] or "", name=match[2], version=match[3] or "")


def check_name(name: str, version: str) -> None:
    """Raises ``UsageError`` for what an alias can't have."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} is no name: letters, digits, '.', '_' and '-', at most 64, a letter or digit first"
        )
    if not _VERSION.fullmatch(version):
        raise UsageError(f"{version[:80]!r} is no version: letters, digits, '.', '_', '+' and '-', at most 32")


def alias(kind: str, name: str, version: str) -> str:
    """How people call it."""
    return f"{kind}:{name}@{version}"
