"""System calls of the shipping process: recorded, or made to fail, with strace."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

WRITER = Path(__file__).with_name("writer.py")
WRITING = ("pwrite64", "write", "ftruncate", "fdatasync", "fsync", "unlink", "openat")
PATIENCE_S = 60

_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(.*)$")
_UNFINISHED = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)$")


@functools.cache
def why_not() -> str:
    """Why strace can't be used here; empty where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (Debian package strace)"
    done = subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-o", os.devnull, "-e", "trace=fsync", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else f"strace does not work here ({done.stderr.strip().splitlines()[-1]})"


def run_writer(
    journal: Path, tape: Path | None, first: int, count: int, pad: int, trace: Path, options: list[str]
) -> subprocess.CompletedProcess[str]:
    """Run ``writer.py`` to its end under strace, whose output goes to ``trace``."""
    return subprocess.run(
        [
            "strace", "-f", "--seccomp-bpf", "-qq", "-o", str(trace), *options,
            sys.executable, str(WRITER), str(journal), str(tape or "-"), str(first), str(count), str(pad),
        ],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=_environment(),
    )  # fmt: skip


def _environment() -> dict[str, str]:
    tests = str(WRITER.parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), tests])}


@dataclass(frozen=True, slots=True)
class Call:
    """One call that succeeded, in the order in which they ended; ``data``: what a write wrote, ``at``: where, or the
    length of a truncation. ``name`` is ``ack`` for an acknowledgement, with the entry's number in ``at``."""

    name: str
    path: str
    at: int = 0
    data: bytes = b""


def record(journal: Path, first: int, count: int, pad: int, trace: Path) -> list[Call]:
    """What a writer without a tape does to the files of ``journal``, and when it acknowledges what."""
    options = ["-y", "-xx", "-s", str(1 << 20), "-e", "trace=" + ",".join(WRITING)]
    done = run_writer(journal, None, first, count, pad, trace, options)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "closed", (done.stdout, done.stderr)
    calls = []
    started: dict[tuple[str, str], str] = {}
    for line in trace.read_text().splitlines():
        if unfinished := _UNFINISHED.match(line):
            started[unfinished[1], unfinished[2]] = unfinished[3]
            continue
        if resumed := _RESUMED.match(line):
            line = f"{resumed[1]} {resumed[2]}({started.pop((resumed[1], resumed[2]))}{resumed[3]}"
        if (whole := _LINE.match(line)) and int(whole[4]) >= 0:
            calls += _call(whole[2], whole[3], int(whole[4]), whole[5])
    return [call for call in calls if call.name == "ack" or call.path.startswith(str(journal.parent))]


def _call(name: str, arguments: str, answer: int, rest: str) -> list[Call]:
    match name:
        case "write":
            descriptor, data, _ = _split(arguments)
            if descriptor.split("<")[0] == "1":
                return [
                    Call("ack", "", int(line.split()[1]))
                    for line in _bytes(data).decode().splitlines()
                    if line.startswith("ack")
                ]
            raise AssertionError(f"a write without a place: {arguments[:80]}")
        case "pwrite64":
            descriptor, data, size, at = _split(arguments)
            written = _bytes(data)
            assert answer == int(size) == len(written), arguments[-40:]
            return [Call(name, _path(descriptor), int(at), written)]
        case "ftruncate":
            descriptor, size = _split(arguments)
            return [Call(name, _path(descriptor), int(size))]
        case "fdatasync" | "fsync":
            return [Call("sync", _path(arguments))]
        case "unlink":
            return [Call(name, _bytes(arguments).decode())]
        case "openat":
            return [Call("open", _path(rest))] if "O_CREAT" in arguments else []
    raise AssertionError(name)


def _split(arguments: str) -> list[str]:
    return arguments.split(", ")


def _bytes(quoted: str) -> bytes:
    assert quoted.startswith('"') and quoted.endswith('"'), quoted[-20:]
    return bytes.fromhex(quoted[1:-1].replace("\\x", ""))


def _path(descriptor: str) -> str:
    inside = descriptor[descriptor.index("<") + 1 : descriptor.rindex(">")]
    return bytes.fromhex(inside.replace("\\x", "")).decode() if inside.startswith("\\x") else inside
