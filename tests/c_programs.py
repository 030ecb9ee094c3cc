"""Compiling the C side in tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HEADERS = Path(__file__).resolve().parent.parent / "consumer"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion", "-Wshadow")
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compiler(*names: str) -> str:
    """The first compiler of these that there is; without one the test is skipped, with the reason."""
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no C compiler: install gcc (looked for {', '.join(names)})")


def compiled(source: Path, program: Path, *options: str, command: str | None = None) -> Path:
    """``program`` from ``source`` with the headers of consumer/; a compiler's complaint fails the test."""
    done = subprocess.run(
        [command or compiler("gcc", "clang", "cc"), *options, f"-I{HEADERS}", "-o", str(program), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return program


def sanitizers(folder: Path) -> tuple[str, ...]:
    """The options of address and undefined-behaviour checks where a program built with them runs, else none."""
    source = folder / "probe.c"
    source.write_text("int main(void) { return 0; }\n")
    command = [compiler("gcc", "clang", "cc"), *SANITIZED, "-o", str(folder / "probe"), str(source)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return ()
    return () if subprocess.run([folder / "probe"], capture_output=True, check=False).returncode else SANITIZED


def answers(program: Path, frames: bytes) -> list[str]:
    """What the program prints for frames, a line each; anything but a clean end fails the test."""
    done = subprocess.run([program], input=frames, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()
