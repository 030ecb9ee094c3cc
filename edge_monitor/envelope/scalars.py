"""From a place in a YAML scalar's text to the place in the file: quotes, escapes and folding lie between the two."""

from __future__ import annotations

from .problems import Mark

#: Escapes of a double-quoted scalar that stand for white space, and those that are followed by a character's number.
_BLANK = frozenset("nrtvfabe0 _NLP")
_NUMBERED = {"x": 2, "u": 4, "U": 8}


def place_in_scalar(text: str, start: Mark, value: str, offset: int) -> Mark:
    """Where the character ``offset`` of ``value`` stands in ``text``, whose scalar begins at ``start``.

    Characters that are not blank keep their order whatever the style of the scalar, so they are counted: in the value up
    to ``offset``, then in the file. A blank, or the end, is just after the character before it.
    """
    before = sum(not c.isspace() for c in value[:offset])
    at_character = offset < len(value) and not value[offset].isspace()
    lines = text.splitlines()
    row, column = start.line - 1, start.column - 1
    style = lines[row][column] if column < len(lines[row]) else ""
    if style in ("|", ">"):
        row, column = row + 1, 0
    elif style in ("'", '"'):
        column += 1
    place = Mark(row + 1, column + 1)
    while row < len(lines):
        while column < len(lines[row]):
            length, counts = _character(lines[row], column, style)
            if counts:
                if before == 0 and at_character:
                    return Mark(row + 1, column + 1)
                if before == 0:
                    return place
                before -= 1
                place = Mark(row + 1, column + length + 1)
            column += length
        row, column = row + 1, 0
    return place


def _character(line: str, column: int, style: str) -> tuple[int, bool]:
    """How many characters of the file make one of the scalar, and whether that is not blank."""
    if style == "'" and line.startswith("''", column):
        return 2, True
    if style == '"' and line[column] == "\\":
        if column + 1 == len(line):  # an escaped line end
            return 1, False
        escape = line[column + 1]
        return 2 + _NUMBERED.get(escape, 0), escape not in _BLANK
    return 1, not line[column].isspace()
