"""A waiver between two people: what stands in the file is what they sign, and what is no waiver is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_monitor.core.commands import Waive
from edge_monitor.errors import EdgeMonitorError, UsageError
from edge_monitor.waiver_files import read, write

ORDER = Waive(
    t=7, check="fence", persons=("ada", "bob"), reason="über the line", expires=10_000, gates=("takeoff",),
    checkpoint="robot/1\n7\nabc\n",
)  # fmt: skip


def test_there_and_back(tmp_path: Path) -> None:
    """The text that the second person signs is the one that the first one did."""
    write(tmp_path / "a.waiver", ORDER, [b"\x01" * 64])
    order, signatures = read(tmp_path / "a.waiver")
    assert (order, signatures, order.text()) == (ORDER, [b"\x01" * 64], ORDER.text())


@pytest.mark.parametrize("change", [
    {"reason": 7}, {"persons": ["ada", "ada"]}, {"expires_ns": 3}, {"signatures": ["zz"]}, {"signatures": ["00"]},
    {"edge_monitor_waiver": 2}, {"more": 1}, {"check": "a b"}, {"gates": "takeoff"}, {"signatures": 3},
])  # fmt: skip
def test_what_is_no_waiver_is_one_line(tmp_path: Path, change: dict[str, object]) -> None:
    """A file with other fields, or with values that no waiver has, is refused with what to do."""
    path = tmp_path / "a.waiver"
    write(path, ORDER, [])
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match="is no waiver") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 60_000, b"1e999"])
def test_any_bytes_are_refused_cleanly(tmp_path: Path, data: bytes) -> None:
    """Nothing that is in a file ends in anything but a line."""
    (tmp_path / "a.waiver").write_bytes(data)
    with pytest.raises(EdgeMonitorError):
        read(tmp_path / "a.waiver")
