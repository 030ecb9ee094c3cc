"""Shared fixtures: recordings, and the Hypothesis profile (derandomized, so that a red test stays red)."""

from __future__ import annotations

import os
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
