"""Definitions of ROS 2 message types, from folders of ``.msg`` files and from the collection that ``rosbags`` carries.

A type's name does not say which version of it a publisher has; its hash (``RIHS01_…``, REP-2011) does, and newer
distributions announce it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError

#: Collections of ``rosbags``, the one that is right where a publisher announces no hash first.
STORES = ("ROS2_JAZZY", "ROS2_LYRICAL", "ROS2_KILTED", "ROS2_HUMBLE")
SEPARATOR = "=" * 80
MOST_TYPES = 1000  #: that one definition may be made of
#: A line ``TYPE NAME…``; the type without its bound and its array.
_FIELD = re.compile(r"^\s*([A-Za-z]\w*(?:/[A-Za-z]\w*)*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[a-zA-Z]\w*", re.M)
_PLAIN = {
    "bool", "byte", "char", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64",
    "uint64", "string", "wstring",
}  # fmt: skip


class Known(NamedTuple):
    """A definition, as ``ros2msg`` text with all that it is made of, and its hash (empty: not known)."""

    text: str
    hash: str


class Definitions:
    """All definitions at hand. Folders come before the collection: they are this robot's own."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        """``folders``: each holds packages, ``PACKAGE/msg/TYPE.msg``. Raises ``ConfigError`` where one is none."""
        for folder in folders:
            if not folder.is_dir():
                raise ConfigError(f"{folder}: no such folder; give one that holds packages: PACKAGE/msg/TYPE.msg")
        self._folders = tuple(folders)
        self._stores: dict[str, Any] = {}
        self._found: dict[str, list[Known]] = {}

    def find(self, name: str, wanted: str = "") -> Known | None:
        """The definition of ``nav_msgs/msg/Odometry``, in the version that has the hash ``wanted`` where one is given.

        One whose own hash is not known counts as any version.
        """
        if name not in self._found:
            self._found[name] = list(self._all(name))
        return next((one for one in self._found[name] if not wanted or not one.hash or one.hash == wanted), None)

    def _all(self, name: str) -> Iterator[Known]:
        for folder in self._folders:
            known = self._of_folder(folder, name)
            if known is not None:
                yield known
        for store in STORES:
            known = self._of_store(store, name)
            if known is not None:
                yield known

    def _of_folder(self, folder: Path, name: str) -> Known | None:
        """The definition in a folder; what it is made of may lie in any."""
        first = folder / f"{name}.msg"
        if not first.is_file():
            return None
        texts: dict[str, str] = {name: _read(first)}
        left = [name]
        while left and len(texts) < MOST_TYPES:
            current = left.pop()
            for used in _uses(texts[current], current.partition("/")[0]):
                places = (place / f"{used}.msg" for place in (folder, *self._folders))
                path = next((place for place in places if place.is_file()), None)
                if path is not None and used not in texts:
                    texts[used] = _read(path)
                    left.append(used)
        parts = [texts.pop(name), *(f"{SEPARATOR}\nMSG: {_short(used)}\n{text}" for used, text in texts.items())]
        return Known("\n".join(parts), _hash_beside(first, name))

    def _of_store(self, store: str, name: str) -> Known | None:
        try:
            from rosbags.typesys import Stores, TypesysError, get_typestore
        except ImportError:
            return None
        if store not in self._stores:
            self._stores[store] = get_typestore(Stores[store]) if store in Stores.__members__ else None
        types = self._stores[store]
        if types is None or name not in types.fielddefs:
            return None
        try:
            return Known(types.generate_msgdef(name, ros_version=2)[0], types.hash_rihs01(name))
        except (TypesysError, KeyError):
            return None


def installed_folders() -> list[Path]:
    """Where the messages of a ROS 2 that is sourced are; none where none is."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return [path for prefix in prefixes if prefix and (path := Path(prefix) / "share").is_dir()]


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a message definition: {error}") from None


def _uses(text: str, package: str) -> Iterator[str]:
    """Full names of the types of a definition's fields."""
    for found in _FIELD.finditer(re.sub(r"#.*", "", text)):
        name = found[1]
        if name in _PLAIN:
            continue
        parts = name.split("/")
        if name == "Header":
            parts = ["std_msgs", "Header"]
        yield f"{parts[0] if len(parts) > 1 else package}/msg/{parts[-1]}"


def _short(name: str) -> str:
    package, _, rest = name.partition("/")
    return f"{package}/{rest.rpartition('/')[2]}"


def _hash_beside(path: Path, name: str) -> str:
    """The hash that the build of the package wrote beside the definition (Iron and later)."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        for row in json.loads(path.with_suffix(".json").read_text("utf-8"))["type_hashes"]:
            if row["type_name"] == name:
                return str(row["hash_string"])
    return ""
