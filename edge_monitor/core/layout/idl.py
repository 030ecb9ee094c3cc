"""The part of OMG IDL 4.2 that rosidl generates and MCAP carries as ``ros2idl``: modules, structs, typedefs, constants.

Blocks are separated by ``===`` lines with ``IDL: package/msg/Name`` in front, the channel's own first.
"""

from __future__ import annotations

import re

from .definitions import SEQUENCE, Definition, Field, LayoutError, number, short_name

_TOKEN = re.compile(
    r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[A-Za-z_]\w*(?:::\w+)*|[-+]?[\d.][\w.]*(?:[eE][-+]\d+)?|[^\s\w"\']'
)
_NOISE = re.compile(
    r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/|^\s*#[^\n]*$|^={3,}[ \t]*$|^IDL: [^\n]*$', re.MULTILINE | re.DOTALL
)
_PLAIN = {
    "boolean": "bool",
    "octet": "uint8",
    "char": "uint8",
    "short": "int16",
    "long": "int32",
    "long long": "int64",
    "unsigned short": "uint16",
    "unsigned long": "uint32",
    "unsigned long long": "uint64",
    "float": "float32",
    "double": "float64",
    "string": "string",
    "wstring": "wstring",
    **{name: name for bits in (8, 16, 32, 64) for name in (f"int{bits}", f"uint{bits}")},
}


def parse_idl(text: str, root: str) -> Definition:
    """The definition of ``root`` (``package/Name``). Raises :class:`LayoutError` where it cannot be read."""
    parser = _Parser(_NOISE.sub(lambda match: match[0] if match[0].startswith('"') else "", text), root)
    try:
        parser.block(())
    except IndexError as error:
        raise LayoutError(f"{root}: its IDL definition ends in the middle") from error
    if root not in parser.types:
        raise LayoutError(f"{root}: its IDL definition does not define it")
    return Definition(root, parser.types, parser.constants)


class _Parser:
    def __init__(self, text: str, root: str) -> None:
        self.tokens = _TOKEN.findall(text)
        self.at = 0
        self.root = root
        self.types: dict[str, tuple[Field, ...]] = {}
        self.aliases: dict[str, tuple[str, int | None]] = {}
        self.constants: dict[str, float] = {}

    def next(self) -> str:
        """The next token; annotations are passed over."""
        while self.tokens[self.at] == "@":
            self.at += 2
            depth = 0
            while depth or self.tokens[self.at] == "(":
                depth += {"(": 1, ")": -1}.get(self.tokens[self.at], 0)
                self.at += 1
        self.at += 1
        return str(self.tokens[self.at - 1])

    def expect(self, wanted: str) -> None:
        found = self.next()
        if found != wanted:
            raise LayoutError(f"{self.root}: its IDL definition has {found[:40]!r} where {wanted!r} belongs")

    def block(self, modules: tuple[str, ...]) -> None:
        """Declarations up to the closing brace, or, outside of any module, to the end."""
        while modules or self.at < len(self.tokens):
            word = self.next()
            if word == "}":
                return
            if word == "module":
                name = self.next()
                self.expect("{")
                if len(modules) >= 8:
                    raise LayoutError(f"{self.root}: modules of its IDL definition are nested too deep")
                self.block((*modules, name))
            elif word == "struct":
                self.struct(modules)
            elif word == "typedef":
                name, kind, length = self.declarator(*self.kind(modules))
                self.aliases["::".join((*modules, name))] = (kind, length)
            elif word == "const":
                self.kind(modules)
                name = self.next()
                self.expect("=")
                value = number(self.next())
                if value is not None and modules and f"{modules[0]}/{modules[-1]}" == f"{self.root}_Constants":
                    self.constants[name] = value
            else:
                raise LayoutError(f"{self.root}: its IDL definition has {word[:40]!r}, which is not read")
            while self.next() != ";":
                pass

    def struct(self, modules: tuple[str, ...]) -> None:
        name = self.next()
        self.expect("{")
        fields = []
        while True:
            before = self.at
            if self.next() == "}":
                break
            self.at = before
            label, kind, length = self.declarator(*self.kind(modules))
            fields.append(Field(label, kind, length))
            self.expect(";")
        self.types[f"{modules[0]}/{name}" if modules else name] = tuple(fields)

    def declarator(self, kind: str, length: int | None) -> tuple[str, str, int | None]:
        """``name`` or ``name[n]``: (name, type, length)."""
        name = self.next()
        if self.tokens[self.at] == "[":
            self.at += 1
            size = self.next()
            self.expect("]")
            if length is not None or not re.fullmatch(r"\d{1,12}", size):
                raise LayoutError(f"{self.root}: {name} is an array of lists, which is not read")
            length = int(size)
        return name, kind, length

    def kind(self, modules: tuple[str, ...]) -> tuple[str, int | None]:
        """A type: (plain type or name, length)."""
        word = self.next()
        if word == "sequence":
            self.expect("<")
            if self.tokens[self.at] == "sequence":
                raise LayoutError(f"{self.root}: a list of lists is not read")
            kind, length = self.kind(modules)
            while self.next() != ">":
                pass
            if length is not None:
                raise LayoutError(f"{self.root}: a list of lists is not read")
            return kind, SEQUENCE
        while f"{word} {self.tokens[self.at]}" in _PLAIN or word == "unsigned":
            word += f" {self.next()}"
        if word in ("string", "wstring") and self.tokens[self.at] == "<":
            while self.next() != ">":
                pass
        if word in _PLAIN:
            return _PLAIN[word], None
        for depth in range(len(modules), -1, -1):
            alias = self.aliases.get("::".join((*modules[:depth], word)))
            if alias:
                return alias
        return short_name(word if "::" in word or not modules else f"{modules[0]}/{word}"), None
