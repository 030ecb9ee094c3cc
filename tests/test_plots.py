"""The figures of the documents show what the code does now."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def plots(root: Path) -> ModuleType:
    """docs/plots.py as a module."""
    sys.path.insert(0, str(root / "docs"))
    try:
        import plots as module
    finally:
        sys.path.remove(str(root / "docs"))
    return module


def test_every_figure_is_drawn_and_shown(root: Path, plots: ModuleType) -> None:
    """Images that documents name are made by the script, and all that it makes lie beside them."""
    shown = {
        match
        for page in (root / "docs").rglob("*.md")
        for match in re.findall(r"!\[[^\]]*\]\(([^)]+\.svg)\)", page.read_text("utf-8"))
    }
    assert {"drift.svg", "camera.svg"} <= shown <= set(plots.FIGURES)
    assert {path.name for path in (root / "docs").rglob("*.svg")} == set(plots.FIGURES)


@pytest.mark.parametrize("name", ["drift.svg", "robustness.svg", "camera.svg"])
def test_the_numbers_of_a_figure_are_made_again(root: Path, plots: ModuleType, name: str) -> None:
    """The series that a figure was drawn from are those that the code makes now (else: `make plots`)."""
    text = (root / "docs" / "checks" / name).read_text("utf-8")
    (written,) = re.findall(r"series sha256 ([0-9a-f]{64})", text)
    assert written == plots.digest(plots.FIGURES[name][0]())
    assert "<dc:date>" not in text and len(text) < 200_000


def test_the_figures_show_what_the_pages_say(plots: ModuleType) -> None:
    """Each fault moves its statistic beyond its limit within a second, and the formula is unknown only in the gap."""
    camera = plots.camera()
    for fault, name, bad in (
        ("darkened", "luminance_ratio", lambda v: v < 0.45),
        ("blurred", "sharpness_ratio", lambda v: v < 0.3),
        ("frozen", "still_frames", lambda v: v > 4),
        ("covered", "occluded", lambda v: v > 0.15),
    ):
        start, end = plots.FAULTS[fault]
        inside = (camera["t"] >= start + 1) & (camera["t"] < end)
        healthy = np.ones(len(camera["t"]), bool)
        for first, last in plots.FAULTS.values():
            healthy &= (camera["t"] < first) | (camera["t"] >= last + 0.5)
        assert bad(camera[name][inside]).all() and not bad(camera[name][healthy & (camera["t"] > 0.5)]).any()
    formula = plots.formula()
    known = (formula["lo"] > 0) | (formula["hi"] < 0)
    unknown = formula["t"][~known]
    assert unknown[unknown > 2].min() >= 4.0 and unknown.max() <= 8.1
    assert (formula["hi"] < 0)[(formula["t"] > 10.05) & (formula["t"] < 12.2)].all()
