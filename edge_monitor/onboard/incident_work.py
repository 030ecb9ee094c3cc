"""What the keeper's thread does: bring the file of one window to where it should be, from a tape that is being written or
was left by a run that is over."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from ..core.samples import SAMPLE
from ..tape.format import ENDED, HEAD_SIZE, KEPT, Block, Kind, TapeError, entry_at, entry_seed
from ..tape.incident import IncidentFile
from ..tape.note import MOST_CAUSES, Cause, Note
from ..tape.ring_file import RingFile
from ..tape.windows import FOREVER

TIME = struct.Struct("<q")
UNFINISHED = ".part"
RAW = ".raw"  #: of raw messages that are kept with a file that is unfinished
CUT = "run.cut"  #: the cause of a window at the end of a run that was cut off


class Anchor(NamedTuple):
    """A place on the tape: so many bytes of a block, and their digest; ``times``: of the block's beginning and this (ns)."""

    block: int
    size: int
    digest: bytes
    times: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Wish:
    """How a window should be kept. ``anchor``: where it ends, once it has; ``settled``: nothing can change that;
    ``ended``: it was the run's end."""

    note: Note
    anchor: Anchor | None = None
    settled: bool = False
    ended: bool = False


@dataclass(slots=True)
class Work:
    """One window on its way to a file. ``wish`` is the engine thread's, all else the keeper's."""

    source: RingFile | None  #: None: the run's tape is gone
    wish: Wish
    folder: Path
    over: bool = False  #: the source's run is over: what it holds is all there is
    last: bool = False  #: with this window, the end of a run that was cut off is kept
    file: IncidentFile | None = None
    start: int = 0  #: sequence of the file's first block; 0: not settled yet
    part: int = 0
    cut: Anchor | None = None  #: where the file ends
    told: bool = False  #: all is done but for the journal
    failed: bool = False  #: a failure was told

    @property
    def next(self) -> int:
        """Sequence of the next block to be added."""
        return self.file.last + 1 if self.file is not None and self.file.last else self.start

    @property
    def begin(self) -> int:
        """From when on it needs raw messages, ns."""
        return max(self.wish.note.begin, self.file.first_t if self.file is not None and self.part else 0)

    def discard(self) -> None:
        """Remove what there is of the file."""
        if self.file is not None:
            self.file.discard()
        self.file = self.cut = None

    def give_back(self, but: RingFile | None = None) -> None:
        """Close what is open; a part of a file stays for the next start. ``but``: a tape that others read, too."""
        if self.file is not None and not self.told:
            self.file.close()
        if self.source is not None and self.source is not but:
            self.source.close()


def complete(work: Work, most: int) -> Iterator[IncidentFile]:
    """Bring the file to where its window's wish is, as far as the tape is; yields each file that is whole: several where
    one would have more than about ``most`` bytes. Raises ``OSError``, ``TapeError``."""
    wish = work.wish
    if work.file is not None and work.file.note.settled:
        work.told = True
        yield work.file
        return
    if work.source is not None:
        if work.file is not None and work.file.note.tail and (work.cut is None or work.cut != wish.anchor):
            work.file.uncut()
            work.cut = None
        if work.cut is None:
            yield from _add_blocks(work, work.source, wish, most)
            if work.over:
                _add_open(work, work.source)
        if wish.anchor is not None and work.cut is None and work.next == wish.anchor.block:
            _add_tail(work, work.source, wish)
    if work.file is None:
        if work.over:
            raise TapeError("the run's tape holds nothing of it")
        return
    note = replace(wish.note, tail=work.file.note.tail, part=work.part and work.part + 1)
    if work.over or (wish.settled and work.cut == wish.anchor):
        if work.over:
            work.file.finish()
        ended = wish.ended or (work.over and work.file.last_t < wish.note.end)
        work.file.say(replace(note, settled=True, ended=ended))
        work.told = True
        yield work.file
    elif note != work.file.note:
        work.file.say(note)


def _add_blocks(work: Work, source: RingFile, wish: Wish, most: int) -> Iterator[IncidentFile]:
    """Add the closed blocks of a window."""
    places = source.places(work.next)
    if not work.start:
        found = next((place for place in places if place.head.last >= wish.note.begin), None)
        work.start = found.head.sequence if found else places[-1].head.sequence + 1 if places else 1
    if work.file is None:
        _open(work, source, wish)
    last = wish.anchor.block - 1 if wish.anchor is not None else FOREVER
    for place in places:
        if not work.next <= place.head.sequence <= last or (work.over and place.head.first > wish.note.end):
            continue
        file = work.file
        assert file is not None
        if file.last and (file.size > most or place.head.sequence > work.next):  # large, or written over meanwhile
            work.part += 1
            file.finish()
            file.say(replace(wish.note, part=work.part, settled=True))
            work.file, work.start = None, place.head.sequence
            yield file
            file = _open(work, source, wish)
        elif file.last and place.head.before != file.digest:
            work.discard()
            raise TapeError(f"{source.path}: changed while it was read")
        data = source.stored(place)
        if data is None:
            raise TapeError(f"{source.path}: block {place.head.sequence} is damaged")
        file.add(data)


def _add_open(work: Work, source: RingFile) -> None:
    """Add what a run that is over left in its open areas, if its window goes so far."""
    assert work.file is not None
    for block in source.opened():
        if block.sequence != work.next or (work.file.last and block.before != work.file.digest):
            continue
        raw, first, last = whole(block)
        if raw and first <= work.wish.note.end:
            work.file.cut(Block(block.sequence, raw, block.before, False), (first, last))


def _add_tail(work: Work, source: RingFile, wish: Wish) -> None:
    assert wish.anchor is not None and work.file is not None
    block = source.prefix(wish.anchor.block, wish.anchor.size)
    if block is None or block.digest() != wish.anchor.digest:
        raise TapeError(f"{source.path}: block {wish.anchor.block} was written over")
    work.file.cut(block, wish.anchor.times)
    work.cut = wish.anchor


def _open(work: Work, source: RingFile, wish: Wish) -> IncidentFile:
    """A new file. Its name says when it was begun by the wall clock (for people), why, and of which run."""
    cause = wish.note.causes[0] if wish.note.causes else Cause(0, "run")
    words = re.sub(r"[^A-Za-z0-9._]+", "-", str(cause)).strip("-.")[:64]
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number = 0
    while True:
        tail = f"-{number}" if number else ""
        path = work.folder / f"{stamp}-{words}-{source.boot.hex()[:8]}{tail}{UNFINISHED}"
        if not path.exists() and not path.with_suffix(".tape").exists():
            break
        number += 1
    note = replace(wish.note, tail=0, part=work.part and work.part + 1)
    work.file = IncidentFile(path, note, source.boot, source.envelope, source.plan)
    return work.file


def whole(block: Block) -> tuple[bytes, int, int]:
    """The entries of an open block up to the first that is damaged, and the times of the first and the last of them."""
    at, seed, times = 0, entry_seed(block.before), []
    while (entry := entry_at(block.raw, at, seed)) is not None:
        at = entry.end
        if entry.kind in (Kind.START, Kind.UNTIL):
            times.append(TIME.unpack(entry.payload)[0])
        elif entry.kind == Kind.ITEMS and entry.payload:
            times.append(TIME.unpack_from(entry.payload, len(entry.payload) - SAMPLE.itemsize)[0])
    return block.raw[:at], min(times, default=0), max(times, default=0)


def salvage(folder: Path, tapes: Path, own: Path, before: int, tell: Callable[[str, Path], None]) -> list[Work]:
    """What earlier runs left: files that were not finished, and the ends of runs that were cut off.

    ``own``: the tape of this run; tapes that another process writes are left alone. ``tell``: gets what can't be used.
    """
    cut_off: dict[bytes, Path] = {}  # by boot: tapes whose end is not kept
    written: set[bytes] = set()
    for path in sorted(tapes.glob("*.tape")):
        with suppress(OSError, TapeError), RingFile(path) as source:  # what is none, is told whoever re-executes it
            if path == own or source.written():
                written.add(source.boot)
            elif not source.flags & (ENDED | KEPT):
                cut_off[source.boot] = path
    for path in folder.glob(f"*{RAW}"):
        if not path.with_suffix(UNFINISHED).exists():
            path.unlink()
    found = [work for path in sorted(folder.glob(f"*{UNFINISHED}")) for work in _reopened(path, tapes, written, tell)]
    for boot, path in cut_off.items():
        mine = [work for work in found if work.file is not None and work.file.boot == boot]
        ended = [work for work in mine if any(cause.type == CUT for cause in work.wish.note.causes)]
        unfinished = [work for work in mine if work.file is not None and not work.file.note.settled]
        if ended:
            ended[-1].last = True  # it is kept already, and waits for the journal
        elif (t := _end_of(path)) is not None:
            cause = Cause(t, CUT)
            if not unfinished:
                note = Note(t - before, t, (cause,), 1)
                unfinished = [Work(RingFile(path), Wish(note), folder, over=True)]
                found += unfinished
            else:
                note = unfinished[-1].wish.note
                causes = (*note.causes, cause)[-MOST_CAUSES:]
                unfinished[-1].wish = Wish(replace(note, end=t, causes=causes, count=note.count + 1))
            unfinished[-1].last = True
    return found


def _reopened(path: Path, tapes: Path, written: set[bytes], tell: Callable[[str, Path], None]) -> list[Work]:
    """The file that an earlier run did not finish."""
    try:
        file = IncidentFile.reopen(path)
    except TapeError as error:
        if path.stat().st_size > HEAD_SIZE:
            tell(str(error), path)
            path.rename(path.with_suffix(".damaged"))
        else:
            path.unlink()  # begun, and nothing in it yet
        return []
    if file.boot in written:
        file.close()
        return []
    source = None
    with suppress(OSError, TapeError):
        source = RingFile(tapes / f"{file.boot.hex()}.tape")
    part = max(0, file.note.part - 1)
    return [Work(source, Wish(file.note), path.parent, over=True, file=file, start=file.first, part=part)]


def _end_of(path: Path) -> int | None:
    """The time at which a tape ends, ns; None where nothing is on it."""
    with RingFile(path) as source:
        for block in reversed(source.opened()):
            raw, _, last = whole(block)
            if raw and last:
                return last
        places = source.places()
        return places[-1].head.last if places else None
