"""A seeded sample of the fuzz run (`make fuzz`): cut and flipped recordings against the undamaged run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_readers import SUFFIXES, fuzz, judge, read, reference
from synthetic_recordings import write_all

SEED = 7


@pytest.mark.parametrize(
    "name",
    [
        "bag2.db3", "bz2.bag", "log.tlog", "log.ulg", "lz4.bag", "lz4.mcap", "no_index.mcap", "none.bag", "none.mcap",
        "none_unchecked.mcap", "rows.csv", "rows.jsonl", "unchunked.mcap", "unchunked_unchecked.mcap", "zstd.mcap",
        "zstd_unchecked.mcap",
    ],
)  # fmt: skip
def test_small_recordings_of_every_kind(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, name: str) -> None:
    """64 cuts and 128 flips of each: exact subset, complete before the damage, reported, no exception."""
    folder = tmp_path_factory.getbasetemp() / "synthetic"
    if not folder.is_dir():
        folder.mkdir()
        write_all(folder)
    complaints, _ = fuzz(reference(folder / name), 64, 128, random.Random(f"{SEED} {name}"), tmp_path)
    assert complaints == []


def test_real_recordings(data_dir: Path, tmp_path: Path) -> None:
    """A few cuts and flips of every real recording hold the same."""
    paths = sorted(path for path in data_dir.rglob("*") if path.suffix in SUFFIXES)
    assert len(paths) >= 20
    for path in paths:
        complaints, _ = fuzz(reference(path), 3, 8, random.Random(f"{SEED} {path.name}"), tmp_path)
        assert complaints == []


def test_the_judge_finds_what_is_wrong(tmp_path: Path) -> None:
    """The oracle itself: a lost message, a changed one and a silent cut are complaints."""
    from synthetic_recordings import write_mcap

    write_mcap(tmp_path / "a")
    known = reference(tmp_path / "a")
    assert judge(known, tmp_path / "a", flip=known.path.stat().st_size - 1) == ([], 440)
    assert any("cut file is not reported" in text for text in judge(known, tmp_path / "a", cut=10**6)[0])
    dropped = known.keys.pop(5)
    known.places = {key: i for i, key in enumerate(known.keys)}
    assert judge(known, tmp_path / "a", flip=0)[0] == ["1 messages are not of the undamaged run (0 may differ)"]
    known.keys.insert(5, dropped)
    known.keys.append(("/imu", 0, b""))
    known.units["/imu", 0, b""] = known.units[dropped]
    known.places = {key: i for i, key in enumerate(known.keys)}
    assert len(judge(known, tmp_path / "a", cut=known.path.stat().st_size)[0]) == 3


def test_readers_agree_with_and_without_compilation(tmp_path: Path) -> None:
    """The kernels give the same rows interpreted as compiled, for every format."""
    paths = write_all(tmp_path)
    program = (
        "import sys; sys.path[:0] = sys.argv[1].split(':')\n"
        "from fuzz_readers import read; from pathlib import Path; import hashlib\n"
        "print([hashlib.sha256(repr(read(Path(p))[:2]).encode()).hexdigest() for p in sys.argv[2:]])"
    )
    here = Path(__file__).parent
    folders = f"{here}:{here.parent}:{here.parent / 'replay'}"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", program, folders, *map(str, paths)]
    interpreted = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    import hashlib

    assert interpreted.strip() == str([hashlib.sha256(repr(read(p)[:2]).encode()).hexdigest() for p in paths])
