"""rosbag2 folders: split files (SQLite or MCAP), with or without their metadata.yaml."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from edge_monitor.errors import DamagedInputError

from .recording import Item, Recording


def _numbers(file: Path) -> list[tuple[int, str]]:
    """Sort key by which bag_10 comes after bag_9."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", file.name)]


class Rosbag2Folder(Recording):
    """A rosbag2 folder: its files, in the order of metadata.yaml or else of their numbers."""

    def __init__(self, path: Path, topics: Collection[str] | None = None) -> None:
        super().__init__(path, topics)
        from . import TOLERATED, closest_magic

        self.stated: int | None = None
        self.problems: list[str] = []
        present: dict[str, str] = {}
        for file in sorted(path.iterdir(), key=_numbers):
            if file.is_file():
                with file.open("rb") as opened:
                    name, wrong = closest_magic(opened.read(16))
                if wrong <= TOLERATED and name in ("mcap", "rosbag2-sqlite3"):
                    present[file.name] = name
        files = self._listed(path / "metadata.yaml", present)
        if not files:
            raise DamagedInputError(
                f"{path}: a folder without any rosbag2 file that can be read (looked for db3 and MCAP)"
            )
        self.files = [path / name for name in files]
        self.format = present[files[0]]
        self.size = sum(file.stat().st_size for file in self.files)

    def _listed(self, metadata: Path, present: dict[str, str]) -> list[str]:
        """The files that metadata.yaml names and those it does not, as far as they are there."""
        named: list[str] = []
        if metadata.is_file():
            try:
                from ruamel.yaml import YAML
                from ruamel.yaml.error import YAMLError

                content = YAML(typ="safe", pure=True).load(metadata)
                about = content["rosbag2_bagfile_information"]
                named = [Path(str(name)).name for name in about["relative_file_paths"]]
                self.stated = int(about["message_count"]) or None
            except (YAMLError, OSError, ValueError, KeyError, TypeError) as error:
                self.problems.append(f"metadata.yaml can't be read ({type(error).__name__}); read without it")
        else:
            return list(present)
        for name in named:
            if name not in present:
                self.problems.append(f"metadata.yaml names {name}, which is not there or is no recording")
        return [name for name in named if name in present] + [name for name in present if name not in named]

    def _items(self) -> Iterator[Item]:
        from . import open_with

        for problem in self.problems:
            yield self.damage(problem)
        done = 0
        for file in self.files:
            try:
                part = open_with(file, self.topics, self.table)
                for item in part:
                    self.position = done + part.position
                    yield item
            except DamagedInputError as error:
                yield self.damage(str(error))
            done += file.stat().st_size
        count = sum(self.counts.values())
        if self.stated is not None and count < self.stated:
            yield self.damage(
                f"metadata.yaml states {self.stated} messages, {count} were read", lost=self.stated - count
            )
