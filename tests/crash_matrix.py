"""``make crash``: the full crash matrix, a line for each part; ``test_crash.py`` runs a short form of the same.

Exits with 1 where a part did not hold, and with 0 otherwise; what could not be run here is said.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

from crash import read_only, small_disk, strace, vfs
from crash.full_incidents import full_incidents
from crash.incidents import kill_while_keeping
from crash.injection import inject
from crash.kills import kill_at_random
from crash.power_loss import replay, survives
from crash.restarts import restart
from crash.strace import Call
from crash.tape_states import after_power_loss, check, killed, recorded
from parts import Parts

SIZES = ((1 << 18, 1 << 13, 0.0), (1 << 14, 1 << 13, 0.0), (1 << 18, 1 << 13, 0.2))


def memory() -> str | None:
    """A folder in memory, for files that are made anew thousands of times; None: the usual temporary folder."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def power_loss(folder: Path, states: int, seed: int, *, entries: int = 160, pad: int = 300_000) -> str:
    """Record two runs of the shipping process on one journal, and open every state.

    The second has ``entries``, each 20th of ``pad`` bytes; by default enough for the WAL to be begun anew within it.
    """
    shipped = folder / "shipped"
    shipped.mkdir()
    calls = strace.record(shipped / "journal.db", 0, 40, 2_000, folder / "first")
    calls += strace.record(shipped / "journal.db", 40, entries, pad, folder / "second")
    return replayed(calls, shipped, folder, states, seed)


def power_loss_vfs(folder: Path, states: int, seed: int) -> str:
    """The same with the store on the SQLite of apsw, through a recording VFS."""
    shipped = folder / "shipped"
    shipped.mkdir()
    return replayed(vfs.record(shipped / "journal.db", [(40, 2_000), (60, 20_000)]), shipped, folder, states, seed)


def replayed(calls: list[Call], shipped: Path, folder: Path, states: int, seed: int) -> str:
    """Open ``states`` states of ``calls`` in ``folder``."""
    journal = folder / "state" / "journal.db"
    journal.parent.mkdir()
    more = 0
    for state, acknowledged in replay(calls, shipped, states, seed):
        more += survives(state, acknowledged, journal) > acknowledged
    syncs = sum(call.name == "sync" for call in calls)
    return f"{states} states of {len(calls)} recorded calls ({syncs} syncs); {more} held more than was acknowledged"


def tape_states(folder: Path, states: int, entries: int, seed: int) -> str:
    """Drive rings of some sizes, on disks that fail and don't; check each store, and ``states`` states after power loss."""
    stores = blocks = 0
    for number, (size, open_size, failing) in enumerate(SIZES):
        made = recorded(
            folder / f"{number}.tape", entries, seed + number, size=size, open_size=open_size, failing=failing
        )
        anchors = made.anchors()
        for state in killed(made):
            check(state, anchors, folder / "state.tape")
            stores += 1
        for state in after_power_loss(made, states // len(SIZES), seed):
            blocks += check(state, anchors, folder / "state.tape")
    return f"{stores} states of a killed process, {states} after power loss; {blocks} blocks read"


def main() -> int:
    """The full form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="printed; the same gives the same choices")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--restarts", type=int, default=60, help="of the whole process")
    parser.add_argument("--states", type=int, default=12_000)
    parser.add_argument("--injections", type=int, default=None, help="a sample instead of every call")
    parser.add_argument("--only", help="one part, by its name in the output")
    given = parser.parse_args()
    seed = given.seed
    print(f"seed {seed}", flush=True)
    parts = Parts(given.only, 12)
    parts.run("tape", lambda folder: tape_states(folder, given.states, 600, seed), memory())
    parts.run("power loss", lambda folder: power_loss(folder, given.states, seed), memory(), strace.why_not())
    parts.run("with apsw", lambda folder: power_loss_vfs(folder, given.states, seed), memory())
    parts.run("small disk", small_disk.small_disk, reason=small_disk.why_not())
    parts.run("read-only", read_only.read_only, reason=read_only.why_not())
    for name, with_tape in (("EIO, ENOSPC", False), ("with a tape", True)):
        injected = partial(inject, sample=given.injections, seed=seed, with_tape=with_tape)
        parts.run(name, injected, reason=strace.why_not())
    parts.run("no room", full_incidents, reason=small_disk.why_not())
    parts.run("incidents", kill_while_keeping, memory())
    parts.run("kill -9", lambda folder: kill_at_random(folder, given.kills, seed))
    parts.run("restart", lambda folder: restart(folder, given.restarts, seed))
    return 0 if parts.good else 1


if __name__ == "__main__":
    sys.exit(main())
