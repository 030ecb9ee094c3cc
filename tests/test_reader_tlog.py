"""Telemetry logs: against pymavlink, past damage, and a real dive through an envelope."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

import pytest
from mavlink_frames import Packer
from pymavlink import mavutil
from synthetic_recordings import write_tlog

from edge_monitor import envelope
from edge_monitor.core.layout import Extractor
from edge_monitor.core.messages import Batch, Channel, Damage
from edge_monitor.core.signals import Signal
from edge_replay import readers
from edge_replay.replay import replay

STAMP = 1_700_000_000_000_000
SUB = b"""
edge_monitor: 1
envelope: {id: sub, version: 1, vehicle: ardusub}
defaults: {max_age: 3 s}
signals:
  mode: {topic: mavlink/1/HEARTBEAT, field: custom_mode, values: {STABILIZE: 0, ALT_HOLD: 2, AUTO: 3, SURFACE: 9, MANUAL: 19}}
  armed: {topic: mavlink/1/HEARTBEAT, field: base_mode.bit7, values: {DISARMED: 0, ARMED: 1}}
  text: {topic: mavlink/1/STATUSTEXT, field: text, max_age: never}
  gain: {topic: "mavlink/1/NAMED_VALUE_FLOAT[PilotGain]", field: value}
  depth: {topic: mavlink/1/VFR_HUD, field: alt, unit: m}
checks:
  alive: {kind: stale, signal: armed, max: 2 s}
  gain_ok: {kind: bounds, signal: gain, min: 0.1, max: 1}
  not_flying: {kind: bounds, signal: depth, max: 5 m}
authority:
  mode: mode
  active: {signal: armed, value: ARMED}
  map: {human: [MANUAL, STABILIZE, ALT_HOLD], autonomy: [AUTO], fallback: [SURFACE]}
  reasons: {text: [text], within: 1500 ms}
"""


def record(stamp: int, frame: bytes) -> bytes:
    """A frame behind its time, µs."""
    return struct.pack(">Q", stamp) + frame


def read(path: Path, *signals: Signal) -> tuple[list[tuple[str, object, int]], list[Damage]]:
    """(samples by name, damage) of a log."""
    extractor = Extractor(signals)
    values: list[tuple[str, object, int]] = []
    damages = []
    for item in readers.open(path, topics=[signal.topic for signal in signals]):
        if isinstance(item, Channel):
            assert extractor.add_channel(item) == []
        elif isinstance(item, Batch):
            for sample in extractor.extract(item):
                name = signals[sample["signal"]].name
                value = float(sample["value"])
                values.append(
                    (name, extractor.texts.text(int(value)) if extractor.is_text(name) else value, int(sample["t"]))
                )
        else:
            damages.append(item)
    return values, damages


def test_a_real_log_is_read_as_pymavlink_reads_it(data_dir: Path) -> None:
    """All messages of all senders of a real dive, their counts, and every attitude and every pilot's gain with its time."""
    path = data_dir / "rov_ardusub/small.tlog"
    theirs: Counter[str] = Counter()
    attitudes, gains = [], []
    log = mavutil.mavlink_connection(str(path), dialect="all")
    while (message := log.recv_match()) is not None:
        if message.get_type() == "BAD_DATA":
            continue
        system, component, name = message.get_srcSystem(), message.get_srcComponent(), message.get_type()
        topic = f"mavlink/{system}/{name}" if component == 1 else f"mavlink/{system}/{component}/{name}"
        theirs[f"{topic}[{message.name}]" if name == "NAMED_VALUE_FLOAT" else topic] += 1
        if topic == "mavlink/1/ATTITUDE":
            attitudes.append((round(message._timestamp * 1e6) * 1000, message.roll))
        if name == "NAMED_VALUE_FLOAT" and message.name == "PilotGain":
            gains.append((round(message._timestamp * 1e6) * 1000, message.value))
    recording = readers.open(path)
    assert recording.format == "tlog"
    damages = [item for item in recording if isinstance(item, Damage)]
    ours: Counter[str] = Counter()
    for channel in recording.channels:
        ours[channel.topic] += recording.counts[channel.id]
    assert ours == theirs and len(ours) == 58 and sum(ours.values()) == 35_912
    assert len(attitudes) == 5245 and len(gains) == 528
    # four frames of a message whose definition has changed since: pymavlink can't read them either
    assert len(damages) == 1 and damages[0].what.startswith("4 frames whose checksum does not hold")
    signals = (
        Signal("roll", "mavlink/1/ATTITUDE", "roll"),
        Signal("g", "mavlink/1/NAMED_VALUE_FLOAT[PilotGain]", "value"),
    )
    values, _ = read(path, *signals)
    assert [(t, value) for name, value, t in values if name == "roll"] == attitudes
    assert [(t, value) for name, value, t in values if name == "g"] == gains
    assert recording.position == recording.size


def test_a_real_dive_through_an_envelope(data_dir: Path) -> None:
    """When the vehicle was armed and disarmed, from its heartbeats, and nothing that the envelope reads is missing."""
    found = replay(data_dir / "rov_ardusub/small.tlog", envelope.loads(SUB))
    assert found.missing_topics == []
    changes = [event for event in found.events if event.type == "authority.changed"]
    assert [(event.payload["from"], event.payload["to"]) for event in changes] == [
        ("unknown", "none"), ("none", "human"), ("human", "none")
    ]  # fmt: skip
    assert found.recorded is not None
    seconds = [round((event.t_effective - found.recorded[0]) / 1e9, 1) for event in changes[1:]]
    assert seconds == [pytest.approx(206.7, abs=1.1), pytest.approx(222.7, abs=1.1)]  # heartbeats come once a second
    assert changes[1].payload["after"]["mode"] == "MANUAL"
    assert not [event for event in found.events if event.type == "check.fail"]


def test_texts_in_pieces_are_one_text(tmp_path: Path) -> None:
    """Pieces are put together where the last one stands; one that never ends comes a second later with a mark."""
    packer, path = Packer(), tmp_path / "text.tlog"
    pieces = [
        (0, {"text": "a" * 50, "id": 1, "chunk_seq": 0}),
        (10, {"text": "b", "id": 1, "chunk_seq": 1}),
        (20, {"text": "c" * 50, "id": 2, "chunk_seq": 0}),
        (30, {"text": "whole"}),
    ]
    raw = [record(STAMP + ms * 1000, packer.pack("STATUSTEXT", severity=3, **values)) for ms, values in pieces]
    raw.append(record(STAMP + 3_000_000, packer.pack("HEARTBEAT")))
    path.write_bytes(b"".join(raw))
    values, damages = read(path, Signal("text", "mavlink/1/STATUSTEXT", "text"))
    assert damages == []
    assert [(value, t // 1000 - STAMP) for _, value, t in values] == [
        ("a" * 50 + "b", 10_000), ("whole", 30_000), ("c" * 50 + "[...]", 30_000)
    ]  # fmt: skip


def test_instances_and_unwanted_topics(tmp_path: Path) -> None:
    """A second battery is an instance; what nobody wants is counted and not delivered; unknown messages are told."""
    packer, path = Packer(), tmp_path / "batteries.tlog"
    unknown = bytearray(packer.pack("HEARTBEAT"))
    unknown[7:10] = b"\xff\xff\x00"
    frames = [packer.pack("BATTERY_STATUS", id=n % 2, battery_remaining=n) for n in range(10)] + [bytes(unknown)]
    frames += [packer.pack("HEARTBEAT") for _ in range(3)]
    path.write_bytes(b"".join(record(STAMP + n, frame) for n, frame in enumerate(frames)))
    values, damages = read(path, Signal("second", "mavlink/1/BATTERY_STATUS[1]", "battery_remaining"))
    assert [value for _, value, _ in values] == [1.0, 3.0, 5.0, 7.0, 9.0]
    assert len(damages) == 1 and damages[0].what.startswith("1 messages that pymavlink's dialects do not have")
    recording = readers.open(path, topics=["mavlink/1/BATTERY_STATUS[1]"])
    assert sum(len(item.messages) for item in recording if isinstance(item, Batch)) == 5
    counts = {(channel.topic, channel.instance): recording.counts[channel.id] for channel in recording.channels}
    assert counts == {
        ("mavlink/1/BATTERY_STATUS", 0): 5, ("mavlink/1/BATTERY_STATUS", 1): 5, ("mavlink/1/HEARTBEAT", 0): 3
    }  # fmt: skip


def test_a_wound_is_told_with_its_place(tmp_path: Path) -> None:
    """Bytes that are no frame are a damage with its range, and reading goes on behind them."""
    path = tmp_path / "log.tlog"
    write_tlog(path)
    whole, _ = read(path, Signal("roll", "mavlink/1/ATTITUDE", "roll"))
    raw = bytearray(path.read_bytes())
    raw[7000:7100] = b"\xaa" * 100
    path.write_bytes(raw)
    values, damages = read(path, Signal("roll", "mavlink/1/ATTITUDE", "roll"))
    assert len(whole) - 4 <= len(values) < len(whole)
    (damage,) = damages
    assert damage.where.startswith("log.tlog bytes ")
    first, last = (int(part) for part in damage.where.split()[-1].split("–"))
    assert 6900 < first <= 7000 and 7100 <= last < 7200


def test_a_time_that_cannot_be_is_left_out(tmp_path: Path) -> None:
    """What no checksum covers: a message years from those beside it is told; a second flight on another day is none."""
    packer, path = Packer(), tmp_path / "log.tlog"
    stamps = [STAMP + n for n in range(10)] + [STAMP + 5 * 86_400_000_000 + n for n in range(10)]
    stamps[4] ^= 1 << 50
    path.write_bytes(b"".join(record(stamp, packer.pack("ATTITUDE", roll=float(n))) for n, stamp in enumerate(stamps)))
    values, (damage,) = read(path, Signal("roll", "mavlink/1/ATTITUDE", "roll"))
    assert [value for _, value, _ in values] == [float(n) for n in range(20) if n != 4]
    assert damage.what.startswith("1 messages whose time is a day")
