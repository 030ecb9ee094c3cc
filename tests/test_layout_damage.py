"""Damaged and hostile messages and definitions, and the same bits from interpreter and compiled code."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_layout import (
    DETECTIONS,
    IDL,
    LITTLE,
    SCAN,
    ULOG,
    ULOG_CELL,
    batch,
    causes,
    channel,
    detections,
    scan,
    signals,
)

from edge_monitor.core.layout import Extractor
from edge_monitor.core.messages import Batch
from edge_monitor.core.samples import FLAG_END, MESSAGE, SAMPLE, Cause

WANTED = [
    "status",
    "xyz[1]",
    "frame",
    ("ranges", "p50"),
    ("ranges", "mean"),
    ("xyz", "norm"),
    "ranges[1]",
    ("detections[*].results[0].score", "min"),
    "detections[1].results[1].score",
    "detections[0].id",
    "last",
]
BOTH = SCAN + "uint8[7] fill\n" + DETECTIONS.replace("int32 after\n", "int32 after\nwstring w\nint16 last\n")


def both(ranges: Sequence[float] = (1.0, math.inf, 2.0)) -> bytes:
    """A message of BOTH."""
    return scan(ranges) + b"\0" * 7 + detections([0.9], [0.2, 0.4]) + struct.pack("<I2Ih", 2, 65, 66, -5)


@given(st.data())
def test_damaged_messages_never_read_their_neighbours(data: st.DataObject) -> None:
    """Truncated or flipped bytes: samples do not depend on what lies around the message; none is lost."""
    raw = bytearray(LITTLE + both())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    for _ in range(data.draw(st.integers(0, 4))):
        if raw:
            at = data.draw(st.integers(0, len(raw) - 1))
            raw[at] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]))
    outputs = []
    for guard in (b"\0" * 64, b"\xff" * 64, b"\1\2\3\4" * 16):
        extractor = Extractor(signals(*WANTED))
        assert extractor.add_channel(channel(BOTH)) == []
        around = np.frombuffer(guard + bytes(raw) + guard, np.uint8)
        samples = extractor.extract(Batch(around, np.array([(1, 64, len(raw), 0)], MESSAGE)))
        assert samples["signal"].tolist() == list(range(len(WANTED)))
        assert [bool(flags & FLAG_END) for flags in samples["flags"]] == [False] * (len(WANTED) - 1) + [True]
        outputs.append(samples.tobytes())
    assert outputs[0] == outputs[1] == outputs[2]


def test_every_truncation_is_invalid_as_a_whole() -> None:
    """A message cut anywhere before the last monitored field's end gives no value at all."""
    extractor = Extractor(signals(*WANTED))
    assert extractor.add_channel(channel(BOTH)) == []
    whole = both()
    assert Cause.INVALID not in causes(extractor.extract(batch(whole)))
    for size in range(len(whole)):
        samples = extractor.extract(batch(whole[:size]))
        assert causes(samples) == [Cause.INVALID] * len(WANTED), size
        assert np.isnan(samples["value"]).all()


@pytest.mark.parametrize("row", [(-1, 10), (0, -1), (0, 1000), (2**62, 10), (2**63 - 1, 2**31 - 1)])
def test_a_message_outside_its_buffer_is_invalid(row: tuple[int, int]) -> None:
    """Byte ranges that a source got wrong are not followed."""
    extractor = Extractor(signals("angle"))
    extractor.add_channel(channel(SCAN))
    samples = extractor.extract(Batch(np.zeros(64, np.uint8), np.array([(1, *row, 0)], MESSAGE)))
    assert causes(samples) == [Cause.INVALID]


def test_a_hostile_length_costs_no_time() -> None:
    """Four billion elements of zero size (ROS 1), of fixed and of variable size: at once, invalid where not held."""
    huge = struct.pack("<I", 2**32 - 1)
    for kind, cause in (("std_msgs/Empty", Cause.NONE), ("p/V", Cause.INVALID), ("string", Cause.INVALID)):
        definition = f"{kind}[] many\nuint8 x\n===\nMSG: std_msgs/Empty\n===\nMSG: p/V\nfloat64[1000] x\n"
        extractor = Extractor(signals("x", ("many", "count")))
        assert extractor.add_channel(channel(definition, encoding="ros1", schema="ros1msg", type="p/T")) == []
        assert causes(extractor.extract(batch(huge + b"\7", header=b""))) == [cause] * 2


def test_a_hostile_definition_is_refused() -> None:
    """Exponentially many fields are a problem, not a hang."""
    blocks = [f"===\nMSG: p/A{i}\n" + f"A{i + 1} a\n" * 10 for i in range(20)]
    definition = "A0 a\nfloat32 angle\n" + "\n".join(blocks) + "===\nMSG: p/A20\nstring s\n"
    (problem,) = Extractor(signals("angle")).add_channel(channel(definition))
    assert "too large" in problem.message


@given(st.data())
def test_no_definition_text_raises(data: st.DataObject) -> None:
    """Definitions with random damage are read or refused, and what is compiled from them walks any bytes."""
    schema, text = data.draw(
        st.sampled_from([("ros2msg", BOTH), ("ros1msg", BOTH), ("ros2idl", IDL), ("ulog", f"{ULOG}\n{ULOG_CELL}")])
    )
    at = data.draw(st.integers(0, len(text)))
    dropped = data.draw(st.integers(0, 12))
    text = (
        text[:at]
        + data.draw(st.text(st.sampled_from("ab[]<=0123 \n/{};:@#\"'*Tp\u0663²"), max_size=5))
        + text[at + dropped :]
    )
    encoding = {"ros1msg": "ros1", "ulog": "packed"}.get(schema, "cdr")
    extractor = Extractor(signals(*WANTED, "angle", "c.mv", "serial"))
    extractor.add_channel(channel(text, schema=schema, encoding=encoding, type="p/T"))
    samples = extractor.extract(batch(both(), b"\xff" * 99))
    assert samples.dtype == SAMPLE


SCRIPT = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from test_layout import LITTLE, batch, channel, signals
from test_layout_damage import BOTH, WANTED, both
from edge_monitor.core.layout import Extractor
extractor = Extractor(signals(*WANTED))
assert extractor.add_channel(channel(BOTH)) == []
whole = both([0.1, 0.7, -3.5, float("nan"), 1e-30, 1e30] * 3)
out = extractor.extract(batch(whole, whole[:-9], both([]), b"\\xff" * 80, whole))
sys.stdout.write(out.tobytes().hex())
"""


def test_interpreter_and_compiled_code_agree_bit_for_bit(root: Path) -> None:
    """The same small stream with and without compilation gives equal bytes."""
    script = SCRIPT.format(tests=str(root / "tests"), root=str(root))
    outputs = []
    for disabled in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            env={**os.environ, "NUMBA_DISABLE_JIT": disabled},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert len(outputs[0]) == 5 * len(WANTED) * SAMPLE.itemsize * 2
    assert outputs[0] == outputs[1]
