"""A YAML file as plain data with the place of every value; no value is ever made by a tag.

ruamel.yaml's *events* are used, not its constructors: that gives exact places, shows anchors, tags and duplicate
keys, and leaves it to us what a scalar means. The meaning is YAML 1.2's core schema (so `yes`, `on` and `1:30` are
text), with everything refused that two readers could see differently or that an approver could overlook:

- anchors, aliases and merge keys: what is approved must stand where it is used; it also ends alias bombs
- tags, duplicate keys, several documents, keys that are not plain text
- null: a field without a value is nearly always a forgotten limit
- NaN and infinity, integers that float64 cannot hold, numbers with leading zeros
- control and direction-changing characters in text: they can hide what a file says
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from .problems import DocumentError, EnvelopeError, Finding, Mark, Path, Problem, shown
from .scalars import place_in_scalar

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_VALUES = 50_000
MAX_INTEGER = 2**53

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)


class Form(NamedTuple):
    """What kind of file is read: its name, how it begins, and the error of one that cannot be used."""

    name: str
    begins: str
    error: type[DocumentError]


ENVELOPE = Form("envelope", "`edge_monitor: 1`, `envelope:`, `signals:` …", EnvelopeError)


class Document:
    """The data of a file (dict, tuple, str, int, float, bool) and where each value stands.

    ``problems`` are what is wrong with the YAML itself. Values that could not be had are left out of ``data``, and
    :meth:`is_broken` knows them, so that nobody reports them a second time as missing.

    Raises:
        DocumentError: the form's; nothing can be read at all (not UTF-8, not YAML, too large, more than one document…).
    """

    def __init__(self, data: bytes, source: str, form: Form = ENVELOPE) -> None:
        self.source = source
        self.form = form
        self.problems: list[Problem] = []
        self._broken: set[Path] = set()
        self._places: dict[Path, tuple[Mark, Mark]] = {}
        self._values = 0
        self.data: dict[str, Any] = {}
        self._text = self._decoded(data)
        events = self._events(self._text)
        root = self._first(events)
        built = self._node(root, events, (), 0)
        self._no_second_document(events)
        if not isinstance(built, dict):
            raise self._fatal(self._mark(root), f"expected a mapping ({form.begins})")
        self.data = built

    def mark(self, path: Path, *, key: bool = False) -> Mark:
        """Where the value at ``path`` stands (its key if asked), or else the nearest thing that contains it."""
        wanted = path
        while path and path not in self._places:
            path = path[:-1]
        key_mark, value_mark = self._places.get(path, (Mark(1, 1), Mark(1, 1)))
        # What is missing inside a mapping is best shown at the mapping's name.
        return key_mark if key or path != wanted else value_mark

    def names(self, section: str) -> dict[str, None]:
        """All names that a section declares, usable or not, in the file's order."""
        return {str(path[1]): None for path in self._places if len(path) == 2 and path[0] == section}

    def problem(self, finding: Finding, *, key: bool = False) -> Problem:
        """The finding with its place."""
        mark = self.mark(finding.path, key=key)
        if finding.offset is not None and finding.path in self._places:
            mark = place_in_scalar(self._text, mark, self._value(finding.path), finding.offset)
        return Problem(self.source, mark, finding)

    def _value(self, path: Path) -> str:
        """The text at ``path``."""
        value: Any = self.data
        for part in path:
            value = value[part]
        return str(value)

    def is_broken(self, path: Path) -> bool:
        """True where the YAML itself is at fault, so that there is no more to be said."""
        return any(path[:length] in self._broken for length in range(1, len(path) + 1))

    def is_whole(self, path: Path) -> bool:
        """False where something below ``path`` was left out: what is missing there is not missing in the file."""
        return not any(broken[: len(path)] == path for broken in self._broken)

    def _fatal(self, mark: Mark, message: str) -> DocumentError:
        return self.form.error([Problem(self.source, mark, Finding((), message))])

    def _decoded(self, data: bytes) -> str:
        if len(data) > MAX_BYTES:
            raise self._fatal(Mark(1, 1), f"is larger than {MAX_BYTES} bytes: no {self.form.name} file")
        data = data.removeprefix(b"\xef\xbb\xbf")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            place = _end_of(data[: error.start].decode("utf-8"))
            raise self._fatal(place, f"is not UTF-8 (byte 0x{data[error.start]:02x}): save the file as UTF-8") from None

    def _events(self, text: str) -> Iterator[Event]:
        parser = YAML(typ="safe", pure=True)
        try:
            yield from parser.parse(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)
            raise self._fatal(place, _syntax_message(error)) from None
        except ReaderError as error:
            place, character = _end_of(text[: error.position]), ord(text[error.position])
            raise self._fatal(place, f"holds the control character U+{character:04X}: remove it") from None
        except (YAMLError, ValueError, OverflowError) as error:  # escapes such as "\UFFFFFFFF" end in chr()
            raise self._fatal(Mark(1, 1), f"is not YAML: {shown(error)}") from None

    def _first(self, events: Iterator[Event]) -> Event:
        for event in events:
            if isinstance(event, DocumentStartEvent):
                return next(events)
        raise self._fatal(Mark(1, 1), "is empty")

    def _no_second_document(self, events: Iterator[Event]) -> None:
        for event in events:
            if isinstance(event, DocumentStartEvent):
                raise self._fatal(self._mark(event), f"a second document starts here: one {self.form.name} a file")

    def _mark(self, event: Event) -> Mark:
        return Mark(event.start_mark.line + 1, event.start_mark.column + 1)

    def _node(self, event: Event, events: Iterator[Event], path: Path, depth: int) -> Any:
        """The value that starts with ``event``; None where there is none to be had."""
        self._values += 1
        if depth > MAX_DEPTH:
            raise self._fatal(self._mark(event), f"is nested deeper than {MAX_DEPTH} levels")
        if self._values > MAX_VALUES:
            raise self._fatal(self._mark(event), f"holds more than {MAX_VALUES} values")
        mark = self._mark(event)
        self._places.setdefault(path, (mark, mark))
        if isinstance(event, AliasEvent):
            name = shown(f"*{getattr(event, 'anchor', '')}")
            return self._refuse(path, f"aliases are not supported: write what {name} stands for")
        if anchor := getattr(event, "anchor", None):
            self._refuse(path, f"anchors are not supported: remove {shown(f'&{anchor}')}")
        if getattr(event, "ctag", None):
            self._refuse(path, "tags are not supported: remove it (quotes make text)")
        if isinstance(event, MappingStartEvent):
            return self._mapping(events, path, depth)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(events, path, depth)
        assert isinstance(event, ScalarEvent)
        return self._scalar(event, path)

    def _refuse(self, path: Path, message: str) -> Any:
        self.problems.append(self.problem(Finding(path, message)))
        self._broken.add(path)
        return None

    def _mapping(self, events: Iterator[Event], path: Path, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        seen: dict[str, int] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            mark = self._mark(event)
            if not isinstance(event, ScalarEvent):
                self.problems.append(Problem(self.source, mark, Finding(path, "a key must be plain text")))
                nowhere = (*path, "", f"key in line {mark.line}")
                self._node(event, events, nowhere, depth + 1)
                self._node(next(events), events, nowhere, depth + 1)
                continue
            key = event.value
            item = (*path, key)
            if key in seen:
                finding = Finding(item, f"is given twice (first in line {seen[key]})")
                self.problems.append(Problem(self.source, mark, finding))
                self._node(next(events), events, (*item, f"again in line {mark.line}"), depth + 1)
                continue
            seen[key] = mark.line
            if event.anchor or event.ctag or not _clean(key):
                self._places[item] = (mark, mark)
                self._refuse(item, "a key must be plain text, without tag, anchor or control characters")
            value_event = next(events)
            self._places[item] = (mark, self._mark(value_event))
            value = self._node(value_event, events, item, depth + 1)
            if value is not None:
                mapping[key] = value
        return mapping

    def _sequence(self, events: Iterator[Event], path: Path, depth: int) -> tuple[Any, ...]:
        items: list[Any] = []
        while not isinstance(event := next(events), SequenceEndEvent):
            value = self._node(event, events, (*path, len(items)), depth + 1)
            if value is not None:
                items.append(value)
        return tuple(items)

    def _scalar(self, event: ScalarEvent, path: Path) -> Any:
        text = event.value
        if event.style is not None or not event.implicit[0]:
            return text if _clean(text) else self._refuse(path, "holds a control or direction-changing character")
        if text in _NULL:
            return self._refuse(path, "has no value: give one, leave the field out, or quote a text that holds a comma")
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _INTEGER.fullmatch(text):
            return self._integer(text, path)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if abs(number) == float("inf"):
                return self._refuse(path, f"is too large: {shown(text)}")
            return number + 0.0
        if _NOT_FINITE.fullmatch(text):
            return self._refuse(path, f"must be a finite number, got {shown(text)} (no limit? leave the field out)")
        return text if _clean(text) else self._refuse(path, "holds a control or direction-changing character")

    def _integer(self, text: str, path: Path) -> Any:
        digits = text.lstrip("+-")
        if len(text) > 24:
            return self._refuse(path, "is too large a number")
        if digits[0] == "0" and digits.isdigit() and len(digits) > 1:
            return self._refuse(path, f"has a leading zero: write {shown(int(text))}, or quote it if it is text")
        number = int(text, 0)
        if abs(number) > MAX_INTEGER:
            return self._refuse(path, f"is too large to be exact: {shown(text)}")
        return number


def _clean(text: str) -> bool:
    """True where all characters show themselves: no control, format (direction, zero width) or surrogate ones."""
    return text.isprintable() or all(c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") for c in text)


def _end_of(text: str) -> Mark:
    return Mark(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


def _syntax_message(error: MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem or error.context or error).split())
    if "'\\t'" in problem:
        return "a tab cannot start a line or a value: indent with spaces"
    if "mapping values are not allowed" in problem:
        return "a second `:` on this line: quote text that holds `: `"
    context = f" {' '.join(str(error.context).split())}" if error.context and error.problem else ""
    return f"is not YAML: {problem}{context}"
