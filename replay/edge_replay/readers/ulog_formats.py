"""The formats of a ULog: what a topic's bytes mean, checked as far as they can be."""

from __future__ import annotations

import re

from .recording import MalformedError

SIZES = {
    "int8_t": 1, "uint8_t": 1, "bool": 1, "char": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4, "uint32_t": 4, "float": 4,
    "int64_t": 8, "uint64_t": 8, "double": 8,
}  # fmt: skip
FIELD = re.compile(r"([A-Za-z_][\w/-]*)(?:\[(\d{1,5})\])? ([A-Za-z_]\w*)")

#: Texts of the log as a topic: a packed layout has no strings, so the text is padded with zeros (PX4's longest is 127).
TEXT_FORMAT = "logged_message:uint64_t timestamp;uint8_t log_level;char[128] text;"
TEXT_SIZE = 8 + 1 + 128


class Formats:
    """The formats met so far, by name."""

    def __init__(self) -> None:
        self._fields: dict[str, list[tuple[str, int, str]]] = {}  # type, count (0: no array), name
        self._text: dict[str, str] = {}

    def add(self, body: bytes) -> None:
        """Take a format record, ``name:type field;type[n] field;…``. Raises MalformedError."""
        try:
            text = body.decode("ascii")
        except UnicodeDecodeError:
            raise MalformedError(f"the format {body.split(b':')[0][:40]!r} is not text") from None
        name, colon, rest = text.partition(":")
        if not colon or not re.fullmatch(r"[\w/-]+", name):
            raise MalformedError(f"the format {name[:40]!r} has no name")
        fields = []
        for part in rest.split(";"):
            if not part:
                continue
            match = FIELD.fullmatch(part)
            if not match:
                raise MalformedError(f"the format {name} has a field {part[:40]!r}, which can't be one")
            fields.append((match[1], int(match[2]) if match[2] else 0, match[3]))
        if self._text.get(name, text) != text:
            raise MalformedError(f"the format {name} is given twice, differently")
        self._fields[name], self._text[name] = fields, text

    def layout(self, name: str) -> tuple[str, int, int, int]:
        """(definition with nested formats, least bytes, most bytes, offset of the stamp or -1) of a topic.

        Trailing ``_padding`` fields may be missing from the data: least leaves them out. Raises MalformedError.
        """
        fields = self._fields.get(name)
        if fields is None:
            raise MalformedError(f"the topic {name[:60]!r} has no format; its messages are skipped")
        most, stamp, least = 0, -1, 0
        for kind, count, field in fields:
            if field == "timestamp" and kind == "uint64_t" and not count:
                stamp = most
            most += self._size(kind, (name,)) * max(count, 1)
            if not field.startswith("_padding"):
                least = most
        needed = [name]
        for needing in needed:
            needed += [kind for kind, _, _ in self._fields[needing] if kind not in SIZES and kind not in needed]
        return "\n".join(self._text[each] for each in needed), least, most, stamp

    def _size(self, kind: str, above: tuple[str, ...]) -> int:
        if kind in SIZES:
            return SIZES[kind]
        if kind not in self._fields or kind in above or len(above) > 20:
            raise MalformedError(
                f"the format {above[0]} needs {kind[:60]!r}, which is not there; its messages are skipped"
            )
        return sum(self._size(inner, (*above, kind)) * max(count, 1) for inner, count, _ in self._fields[kind])
