"""Cut and flip recordings, and hold what the readers deliver against the undamaged run.

    python tests/fuzz_readers.py --cuts 64 --flips 256 [--seed N] [RECORDING …]

Without paths: every recording of a known format in the data folder, and small synthetic ones. What must hold:

- nothing but ``DamagedInputError`` is ever raised, and memory stays bounded;
- what is delivered is a subset of the undamaged messages, in their order, exact in topic, time and bytes. Where nothing in
  the format covers the flipped byte, the one message that holds it may differ (all messages of a compressed chunk without
  checksum; the label of all, where the byte stands in the only description of a topic);
- every message in a record, chunk or database page that was complete before the damage is delivered;
- where anything is missing, damage is reported; a cut is always reported, except where the format can't tell.

What must be there is worked out here, from the bytes of the file, apart from the readers (for ULog: from the undamaged run,
which tests compare with pyulog).
"""

from __future__ import annotations

import argparse
import bz2
import os
import random
import resource
import sqlite3
import struct
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lz4.frame
import zstandard

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "replay"), str(ROOT / "tests")]

from conftest import recordings_folder  # noqa: E402
from oracles.mavlink import records as mavlink_records  # noqa: E402

from edge_monitor.core.messages import Batch, Channel, Damage  # noqa: E402
from edge_monitor.errors import DamagedInputError  # noqa: E402
from edge_replay import readers  # noqa: E402
from edge_replay.readers.recording import ByteFile  # noqa: E402
from edge_replay.readers.sqlite_pages import Pages, Table, cell_offsets, local_size, varint  # noqa: E402

MEMORY = 1 << 30  #: bytes of address space that reading a damaged file may add
SUFFIXES = (".mcap", ".db3", ".bag", ".ulg", ".tlog", ".csv", ".jsonl")

Key = tuple[str, int, bytes]
Span = tuple[int, int]


@dataclass
class Unit:
    """Where a message lives: spans of the file that it needs, and its own bytes where they stand there as they are."""

    needs: list[Span]
    own: Span | None = None  #: None: compressed
    checked: bool = False  #: a checksum covers it


@dataclass
class Reference:
    """The undamaged run of a recording."""

    path: Path
    keys: list[Key]
    units: dict[Key, Unit]
    describing: list[Span] = field(default_factory=list)  #: where topics are described, once and unchecked
    clean_cuts: bool = False  #: a file of this format that ends between two records is whole
    places: dict[Key, int] = field(default_factory=dict)
    unlabelled: set[tuple[int, bytes]] = field(default_factory=set)
    damaged: bool = False

    def __post_init__(self) -> None:
        self.places = {key: i for i, key in enumerate(numbered(self.keys))}
        self.unlabelled = {key[1:] for key in self.keys}


def numbered(keys: list[Key]) -> list[Key]:
    """Keys made unique: the second message of equal topic, time and bytes gets a number."""
    seen: dict[Key, int] = {}
    result = []
    for key in keys:
        count = seen.get(key, 0)
        seen[key] = count + 1
        result.append(key if not count else (key[0], key[1], key[2] + b"#%d" % count))
    return result


def read(path: Path) -> tuple[list[Key], list[Damage], list[Span]]:
    """(messages, damage, where each stands in its batch's buffer)."""
    names: dict[int, str] = {}
    keys, damages, spans = [], [], []
    for item in readers.open(path):
        if isinstance(item, Channel):
            assert item.id == len(names), "channel ids are dense"
            names[item.id] = item.topic
        elif isinstance(item, Damage):
            damages.append(item)
        elif isinstance(item, Batch):
            data = item.data.tobytes()
            for t, start, size, channel in item.messages.tolist():
                assert 0 <= start <= start + size <= len(data), "a row points outside its buffer"
                keys.append((names[channel], t, data[start : start + size]))
                spans.append((start, start + size))
    return keys, damages, spans


# Where the messages of an undamaged file live.


def mcap_units(path: Path) -> tuple[dict[Key, Unit], list[Span]]:
    data = path.read_bytes()
    units: dict[Key, Unit] = {}
    topics: dict[int, str] = {}
    describing: list[Span] = []

    def walk(block: bytes, base: int | None, chunk: Span | None, checked: bool) -> None:
        at = 0
        while at < len(block):
            opcode, size = struct.unpack_from("<BQ", block, at)
            body, end = at + 9, at + 9 + size
            if opcode == 4:
                number, _, length = struct.unpack_from("<HHI", block, body)
                topics[number] = block[body + 8 : body + 8 + length].decode()
            if opcode in (3, 4) and chunk is None and base is not None:
                describing.append((base + at, base + end))
            if opcode == 5:
                number, _, t, _ = struct.unpack_from("<HIQQ", block, body)
                own = None if base is None else (base + at, base + end)
                units[topics[number], t, block[body + 22 : end]] = Unit([chunk or own or (0, 0)], own, checked)
            at = end

    at = 8
    while at < len(data) - 8:
        opcode, size = struct.unpack_from("<BQ", data, at)
        end = at + 9 + size
        if opcode == 15:
            break
        if opcode == 6:
            crc, length = struct.unpack_from("<II", data, at + 33)
            compression = data[at + 41 : at + 41 + length].decode()
            start = at + 49 + length
            raw = data[start:end]
            if compression == "zstd":
                raw = zstandard.ZstdDecompressor().decompress(raw, max_output_size=1 << 28)
            elif compression == "lz4":
                raw = lz4.frame.decompress(raw)
            walk(raw, None if compression else start, (at, end), crc != 0)
        else:
            walk(data[at:end], at, None, False)
        at = end
    return units, describing


def bag_units(path: Path) -> tuple[dict[Key, Unit], list[Span]]:
    data = path.read_bytes()
    units: dict[Key, Unit] = {}
    topics: dict[int, str] = {}

    def records(block: bytes, at: int) -> Iterator[tuple[dict[bytes, bytes], int, int, int]]:
        while at < len(block):
            length = struct.unpack_from("<I", block, at)[0]
            fields, p = {}, at + 4
            while p < at + 4 + length:
                size = struct.unpack_from("<I", block, p)[0]
                name, _, value = block[p + 4 : p + 4 + size].partition(b"=")
                fields[name] = value
                p += 4 + size
            size = struct.unpack_from("<I", block, p)[0]
            yield fields, at, p + 4, p + 4 + size
            at = p + 4 + size

    for fields, at, start, end in records(data, 13):
        if fields[b"op"] != b"\x05":
            continue
        raw, compression = data[start:end], fields[b"compression"]
        raw = (
            bz2.decompress(raw)
            if compression == b"bz2"
            else lz4.frame.decompress(raw)
            if compression == b"lz4"
            else raw
        )
        for inner, first, body, last in records(raw, 0):
            number = struct.unpack("<I", inner[b"conn"])[0]
            if inner[b"op"] == b"\x07":
                topics[number] = inner[b"topic"].decode()
                continue
            sec, nsec = struct.unpack("<II", inner[b"time"])
            own = (start + first, start + last) if compression == b"none" else None
            key = topics[number], sec * 1_000_000_000 + nsec, raw[body:last]
            units[key] = Unit([(at, end)], own, compression == b"bz2")
    return units, []


def db3_units(path: Path) -> tuple[dict[Key, Unit], list[Span]]:
    """Rows by SQLite itself; pages by walking the tree of the undamaged file."""
    with sqlite3.connect(f"file:{path}?immutable=1", uri=True) as database:
        rows = {row[0]: row[1:] for row in database.execute(
            "select messages.id, name, timestamp, data from messages join topics on topics.id = topic_id")}  # fmt: skip
        roots = dict(database.execute("select name, rootpage from sqlite_master where rootpage"))
    units: dict[Key, Unit] = {}
    with ByteFile(path) as file:
        pages = Pages(file)

        def span(page: int) -> Span:
            return (page - 1) * pages.size, page * pages.size

        describing = []
        for root in (1, roots["topics"], roots.get("message_definitions", 1)):
            visited = bytearray(pages.count + 1)
            list(Table(pages, root).leaves(visited))
            describing += [span(page) for page in range(1, len(visited)) if visited[page]]

        def descend(page: int, above: list[Span]) -> None:
            data = pages[page]
            above = [*above, span(page)]
            if data[0] == 5:
                for at in cell_offsets(data, 0, 12):
                    descend(int.from_bytes(data[at : at + 4], "big"), above)
                descend(int.from_bytes(data[8:12], "big"), above)
                return
            for at in cell_offsets(data, 0, 8):
                size, p = varint(data, at)
                row, p = varint(data, p)
                needs, local = list(above), local_size(size, pages.usable)
                page_left, left = int.from_bytes(data[p + local : p + local + 4], "big"), size - local
                while left > 0:
                    needs.append(span(page_left))
                    page_left, left = int.from_bytes(pages[page_left][:4], "big"), left - pages.usable + 4
                units[rows[row]] = Unit([*needs, *describing], (at + span(page)[0], p + local + span(page)[0]))

        descend(roots["messages"], [])
    return units, describing


def reference(path: Path) -> Reference:
    """Read the undamaged file and find out where its messages live."""
    keys, damages, spans = read(path)
    describing: list[Span] = []
    clean = False
    head = path.read_bytes()[:16]
    if head.startswith(b"\x89MCAP"):
        units, describing = mcap_units(path)
    elif head.startswith(b"#ROSBAG"):
        units, describing = bag_units(path)
    elif head.startswith(b"SQLite"):
        units, describing = db3_units(path)
    elif head.startswith(b"ULog"):
        size, clean = path.stat().st_size, True
        first = min(start for start, _ in spans)
        describing = [(0, first)]
        units = {
            key: Unit([(start - 5, end)], (start - 5, end)) if end <= size else Unit([(0, size)], (0, size))
            for key, (start, end) in zip(keys, spans, strict=True)
        }
    elif path.suffix == ".tlog":
        clean = True
        records = mavlink_records(path.read_bytes())
        ends = [at for *_, at in records[1:]] + [path.stat().st_size]
        # the checksum covers all but the time, so that only a flip there may change a message
        units = {
            (topic, t, payload): Unit([(at, end)], (at, at + 8))
            for (topic, t, payload, at), end in zip(records, ends, strict=True)
        }
    else:
        clean = True
        lines, at = [], 0
        for line in path.read_bytes().splitlines(keepends=True):
            lines.append((at, at + len(line)))
            at += len(line)
        describing = lines[:1] if path.suffix == ".csv" else lines[:2]
        own = lines[1:] if path.suffix == ".csv" else lines
        units = {key: Unit([line], line) for key, line in zip(keys, own, strict=True)}
    if not head.startswith(b"ULog"):
        assert set(units) == set(keys), f"{path.name}: the undamaged run is not what the file holds"
    return Reference(path, keys, units, describing, clean, damaged=bool(damages))


def judge(known: Reference, path: Path, *, cut: int | None = None, flip: int | None = None) -> tuple[list[str], int]:
    """(what is wrong with the reading of a damaged copy, how many messages it delivered)."""
    try:
        keys, damages, _ = read(path)
        refused = False
    except DamagedInputError:
        keys, damages, refused = [], [], True
    except Exception:
        return [traceback.format_exc(limit=-4)], 0
    wrong = []
    at = cut if cut is not None else flip
    assert at is not None
    describes = flip is not None and any(start <= flip < end for start, end in known.describing)
    delivered, last, altered = set(), -1, 0
    allowed = allowance(known, flip) if flip is not None else 0
    for key in numbered(keys):
        place = known.places.get(key)
        if place is None:
            if not (describes and (key[1:] in known.unlabelled or known.clean_cuts)):
                altered += 1
            continue
        if place < last:
            wrong.append(f"message {place} is delivered after {last}")
            break
        last = place
        delivered.add(place)
    if altered > allowed:
        wrong.append(f"{altered} messages are not of the undamaged run ({allowed} may differ)")
    missing = [
        key for key, place in known.places.items()
        if place not in delivered and key in known.units and not lost(known.units[key], cut, flip)
    ]  # fmt: skip
    if missing and not describes:
        wrong.append(f"{len(missing)} messages that were complete before the damage are missing, as {missing[0][:2]}")
    reported = bool(damages) or refused
    if not reported and len(delivered) + altered < len(known.keys) and not (describes and known.clean_cuts):
        unchanged = cut is not None and known.clean_cuts
        if not unchanged:
            wrong.append(f"{len(known.keys) - len(delivered)} messages are missing and nothing is reported")
    if cut is not None and not reported and not known.clean_cuts:
        wrong.append("a cut file is not reported")
    return wrong, len(delivered)


def allowance(known: Reference, flip: int) -> int:
    """How many messages may differ, as nothing covers the flipped byte."""
    count = 0
    for unit in known.units.values():
        if not unit.checked:
            spans = [unit.own] if unit.own is not None else unit.needs
            if len(unit.needs) > 1 and unit.own is not None:  # database: overflow pages are its own, too
                spans = [unit.own, *[need for need in unit.needs if need not in known.describing]]
            count += any(start <= flip < end for start, end in spans)
    return count


def lost(unit: Unit, cut: int | None, flip: int | None) -> bool:
    """Whether a message need not be delivered: the damage is in what it needs, or before it."""
    if cut is not None:
        return any(end > cut for _, end in unit.needs)
    assert flip is not None
    if len(unit.needs) > 1:  # database pages stand for themselves
        return any(start <= flip < end for start, end in unit.needs)
    return any(end > flip for _, end in unit.needs)


def fuzz(known: Reference, cuts: int, flips: int, chance: random.Random, scratch: Path) -> tuple[list[str], float]:
    """(complaints, mean share of messages that was delivered after a flip)."""
    data = known.path.read_bytes()
    target = scratch / known.path.name
    complaints, share = [], []
    for at in sorted(chance.sample(range(len(data)), min(cuts, len(data)))):
        target.write_bytes(data[:at])
        complaints += [f"{known.path.name} cut at {at}: {text}" for text in judge(known, target, cut=at)[0]]
    for at in sorted(chance.sample(range(len(data)), min(flips, len(data)))):
        flipped = bytearray(data)
        flipped[at] ^= chance.randrange(1, 256)
        target.write_bytes(flipped)
        wrong, count = judge(known, target, flip=at)
        share.append(count / max(len(known.keys), 1))
        complaints += [f"{known.path.name} flip at {at} to 0x{flipped[at]:02x}: {text}" for text in wrong]
    target.unlink(missing_ok=True)
    return complaints, sum(share) / max(len(share), 1)


def bound_memory() -> None:
    """From here on, an allocation beyond the bound is an error."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else None
    if pages is not None:
        limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, metavar="RECORDING")
    parser.add_argument("--cuts", type=int, default=64)
    parser.add_argument("--flips", type=int, default=256)
    parser.add_argument("--seed", type=int, default=20260322)
    options = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        paths = options.paths
        if not paths:
            from synthetic_recordings import write_all

            (Path(folder) / "synthetic").mkdir()
            paths = write_all(Path(folder) / "synthetic")
            if recordings_folder().is_dir():
                paths += sorted(path for path in recordings_folder().rglob("*") if path.suffix in SUFFIXES)
            else:
                print("no folder of real recordings (EDGE_MONITOR_DATA): synthetic ones only")
        for path in paths:
            known = reference(path)
            bound_memory()
            chance = random.Random(f"{options.seed} {path.name}")
            complaints, share = fuzz(known, options.cuts, options.flips, chance, Path(folder))
            failures += len(complaints)
            verdict = "ok" if not complaints else f"{len(complaints)} complaints"
            print(
                f"{path.name}: {len(known.keys)} messages, {options.cuts} cuts, {options.flips} flips, seed {options.seed}: "
                f"{verdict}; {share:.1%} delivered after a flip",
                flush=True,
            )
            for complaint in complaints[:20]:
                print(f"  {complaint}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
