"""What is wrong with a file that a person wrote, and where: one line each, ``file:line:col: dotted.field: problem``."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..errors import ConfigError

Path = tuple[str | int, ...]

#: More lines than this help nobody; the last line says how many were left out.
MOST_LINES = 100
#: Above this many names the nearest one is not looked for: the search is quadratic in a hostile file.
MOST_CANDIDATES = 1000


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a text file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem at ``path``; ``wrong`` and ``candidates`` give the *did you mean*. Has no place in a file yet.

    ``offset``: where in the text that stands at ``path``, from 0; None: all of it.
    """

    path: Path
    message: str
    wrong: str = ""
    candidates: tuple[str, ...] = ()
    offset: int | None = None

    def under(self, prefix: Path) -> Finding:
        """The same finding about a part of something larger."""
        return replace(self, path=prefix + self.path)


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding with its place in the file."""

    source: str
    mark: Mark
    finding: Finding

    def __str__(self) -> str:
        found = self.finding
        field = f"{dotted(found.path)}: " if found.path else ""
        near = nearest(found.wrong, found.candidates)
        hint = f" (did you mean {shown(near)}?)" if near else ""
        return f"{self.source}:{self.mark.line}:{self.mark.column}: {field}{found.message}{hint}"


class DocumentError(ConfigError):
    """A file that cannot be used. ``problems`` holds every one, in the file's order; ``str`` is the lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.mark, dotted(p.finding.path), p.finding.message)))
        lines = [str(problem) for problem in self.problems[:MOST_LINES]]
        left_out = self.problems[MOST_LINES:]
        if left_out:
            first = left_out[0]
            lines.append(f"{first.source}:{first.mark.line}:{first.mark.column}: and {len(left_out)} more from here on")
        super().__init__("\n".join(lines))


class EnvelopeError(DocumentError):
    """An envelope file that cannot be used."""


def nearest(wrong: str, candidates: Iterable[str]) -> str:
    """The candidate most like ``wrong``, or nothing where none is near."""
    names = list(candidates)
    if not wrong or len(names) > MOST_CANDIDATES:
        return ""
    # Case is the most common slip in mode names, so it must not count as distance.
    by_folded = {name.casefold(): name for name in reversed(names)}
    close = difflib.get_close_matches(wrong[:100].casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else ""


def dotted(path: Path) -> str:
    """``('checks', 'fence', 'polygon', 2)`` as ``checks.fence.polygon[2]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part:
            text += f".{printable(part)}" if text else printable(part)
    return text


def shown(value: object) -> str:
    """A value as an error shows it: short, on one line, text and numbers in back-ticks."""
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return f"`{int(value)}`"
    return f"`{printable(str(value))}`"


def printable(text: str) -> str:
    """``text`` without line breaks and control characters, cut at 60 characters."""
    if len(text) > 60:
        text = text[:57] + "…"
    return "".join(c if unicodedata.category(c)[0] not in "CZ" or c == " " else f"\\u{ord(c):04x}" for c in text)
