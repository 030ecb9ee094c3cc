"""consumer/edge_lease.h: compiles everywhere without a warning, and is the Python consumer, answer for answer."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from c_programs import HEADERS, STRICT, answers, compiled, compiler, sanitizers
from consumer_cases import (
    BOOTS,
    ENVELOPES,
    GATES,
    MS,
    TIMEOUT,
    Life,
    Settings,
    framed,
    message_frame,
    mutated,
    question_frame,
)

from edge_monitor import consumer as module
from edge_monitor.consumer import Consumer, Reason, Taken
from edge_monitor.outputs import wire

VECTORS = json.loads((Path(__file__).parent / "vectors/lease_v1.json").read_text("utf-8"))["vectors"]
HEADER = (HEADERS / "edge_lease.h").read_text("utf-8")


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    """consumer/example.c, compiled strictly and with the sanitizers where there are some."""
    folder = tmp_path_factory.mktemp("c")
    return compiled(HEADERS / "example.c", folder / "example", *STRICT, *sanitizers(folder))


def line(answer: Reason) -> str:
    """An answer as the example prints it."""
    return "GO" if answer == Reason.GO else f"NO_GO {answer.name}"


@pytest.mark.parametrize("names", [("gcc", "cc"), ("clang",)], ids=["gcc", "clang"])
def test_the_header_is_plain_c99(tmp_path, names):
    """Each compiler that is there takes header and example as strict C99 without a warning, at 32 bits too if it has them."""
    command = compiler(*names)
    probe = tmp_path / "probe.c"
    probe.write_text("#include <stdio.h>\nint main(void) { return 0; }\n")
    for options in ((), ("-O2",), ("-O3", "-funsigned-char"), ("-O2", "-m32")):
        builds = [command, *options, "-o", tmp_path / "probe", probe]
        if "-m32" not in options or subprocess.run(builds, capture_output=True, check=False).returncode == 0:
            compiled(HEADERS / "example.c", tmp_path / "example", *STRICT, *options, command=command)


@pytest.mark.parametrize("standard", ["c++11", "c++20"])
def test_the_header_is_cplusplus_too(tmp_path, standard):
    """A C++ compiler takes the same files without a warning."""
    compiled(
        HEADERS / "example.c", tmp_path / "example", "-x", "c++", f"-std={standard}", *STRICT[1:],
        command=compiler("g++", "clang++", "c++"),
    )  # fmt: skip


def test_the_header_needs_nothing(tmp_path):
    """It includes stdint.h and string.h only, and a program of it calls nothing but memcmp, memcpy and memset."""
    assert re.findall(r"#include\s+(\S+)", HEADER) == ["<stdint.h>", "<string.h>"]
    source = tmp_path / "alone.c"
    source.write_text(
        '#include "edge_lease.h"\n'
        "int ask(struct edge_lease *c, const uint8_t *t, const char *g, uint32_t n, int64_t now);\n"
        "int ask(struct edge_lease *c, const uint8_t *t, const char *g, uint32_t n, int64_t now) {\n"
        "  edge_lease_init(c); edge_lease_reset(c); (void)edge_lease_watch(c, g); (void)edge_lease_take(c, t, n, t, n, now);\n"
        "  return (int)edge_lease_allowed(c, g, now);\n}\n"
    )
    compiled(source, tmp_path / "alone.o", *STRICT, "-O0", "-c")
    if shutil.which("nm") is None:
        pytest.skip("no nm: install binutils")
    listed = subprocess.run(["nm", "-u", tmp_path / "alone.o"], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"U (\S+)", listed)) - {"_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"} <= {
        "memcmp",
        "memcpy",
        "memset",
    }


def test_names_and_numbers_are_the_same():
    """Every reason, outcome, size and limit has the same number in header and Python."""
    for kind, prefix in ((Reason, "EDGE_LEASE_"), (Taken, "EDGE_LEASE_TAKEN_")):
        for member in kind:
            name = "EDGE_LEASE_TAKEN" if member == Taken.TAKEN and kind is Taken else prefix + member.name
            assert re.search(rf"\b{name} = {member.value}\b", HEADER), name
    numbers = {
        name: int(value)
        for name, value in re.findall(r"#define EDGE_LEASE_(\w+) (?:INT64_C\()?(\d+)(?:U|\))?$", HEADER, re.MULTILINE)
    }
    assert numbers == {
        "VERSION": wire.VERSION,
        "HEARTBEAT_BYTES": wire.HEARTBEAT.size,
        "LEASE_BYTES": wire.LEASE.size,
        "BOOT_BYTES": 16,
        "DIGEST_BYTES": 32,
        "GATE_BYTES": wire.GATE_BYTES,
        "MAX_GATES": module.MAX_GATES,
        "RETIRED_BOOTS": module.RETIRED_BOOTS,
        "FLAG_UNAPPROVED": wire.UNAPPROVED,
        "FLAG_WAIVED": wire.WAIVED,
        "HEARTBEAT_TIMEOUT_NS": module.HEARTBEAT_TIMEOUT_NS,
        "MAX_TIMEOUT_NS": 60_000_000_000,
        "AHEAD_NS": module.AHEAD_NS,
        "DRIFT": module.DRIFT,
        "LIFE_LIMIT_NS": wire.LIFE_LIMIT,
    }
    assert "EDGE_LEASE_TIME_LIMIT (INT64_C(1) << 61)" in HEADER and wire.TIME_LIMIT == 1 << 61


def test_the_stored_vectors_are_read_alike(example):
    """Each stored message is taken by both sides, and each malformed one refused, with a heartbeat of its boot before it."""
    boot, envelope = bytes(range(16)), bytes(range(100, 132))
    frames, expected = b"", []
    for vector in VECTORS:
        topic, body = bytes.fromhex(vector["topic"]), bytes.fromhex(vector["body"])
        message = vector["message"] or {"seq": 7}
        now = message.get("sent_ns", message.get("issued_ns", 1_500_000_100_000))
        choice = Settings(("takeoff",), every_lease=False)
        consumer = choice.consumer()
        frames += choice.frame()
        if topic != wire.HEARTBEAT_TOPIC:
            first = wire.encode_heartbeat(wire.Heartbeat(boot, message["seq"] - 1, now, envelope))
            assert consumer.take(wire.HEARTBEAT_TOPIC, first, now) == Taken.TAKEN
            frames += message_frame(wire.HEARTBEAT_TOPIC, first, now)
            expected.append("taken TAKEN")
        taken = consumer.take(topic, body, now)
        assert (taken in (Taken.TAKEN, Taken.NOT_WATCHED)) == (vector["message"] is not None), vector["name"]
        assert taken != Taken.MALFORMED or vector["message"] is None
        frames += message_frame(topic, body, now)
        expected.append(f"taken {taken.name}")
    assert answers(example, frames) == expected


def lived(seed: int, operations: int) -> tuple[bytes, list[str]]:
    """A random life as frames, and what the Python consumer answers."""
    life = Life(random.Random(seed))
    choice = life.settings()
    consumer = choice.consumer()
    frames, expected = [choice.frame()], []
    for _ in range(operations):
        life.step()
        draw = life.chance.random()
        now = life.now if draw > 0.004 else life.chance.choice((-1, 1 << 61, -(1 << 63), (1 << 63) - 1))
        if draw > 0.996:
            consumer.reset()
            frames.append(framed(b"R"))
        elif life.chance.random() < 0.55:
            topic, body = life.damaged()
            frames.append(message_frame(topic, body, now))
            expected.append(f"taken {consumer.take(topic, body, now).name}")
        else:
            gate = life.chance.choice((*GATES, *GATES, "landing", "x" * 31, "x" * 32, "x" * 33))
            frames.append(question_frame(gate, now))
            expected.append(line(consumer.allowed(gate, now).reason))
    return b"".join(frames), expected


def test_random_lives_end_alike_in_c(example):
    """20,000 random lives of 16 operations: every outcome and every reason is the same on both sides."""
    seen = Counter()
    for start in range(0, 20_000, 4_000):
        lives = [lived(seed, 16) for seed in range(start, start + 4_000)]
        expected = [answer for _, told in lives for answer in told]
        assert answers(example, b"".join(frames for frames, _ in lives)) == expected
        seen.update(expected)
    assert set(seen) == {f"taken {t.name}" for t in Taken} | {line(r) for r in Reason}
    assert min(seen.values()) > 50, seen


def test_damaged_frames_do_c_no_harm(example):
    """100,000 mutated frames: no fault under the sanitizers, and never a GO that Python does not give."""
    chance = random.Random(5)
    bodies = [(bytes.fromhex(v["topic"]), bytes.fromhex(v["body"])) for v in VECTORS]
    choice = Settings(("takeoff", "x"), every_lease=False)
    consumer = choice.consumer()
    frames, expected = [choice.frame()], []
    for i in range(100_000):
        if i % 50 == 0:
            consumer.reset()
            frames.append(framed(b"R"))
            now = 1_500_000_050_000
        topic, body = chance.choice(bodies)
        if chance.random() < 0.9:
            topic = mutated(chance, topic)[:255] if chance.random() < 0.1 else topic
            body = mutated(chance, body)
        now += chance.choice((0, 0, MS, 20 * MS))
        frames += [message_frame(topic, body, now), question_frame("takeoff", now)]
        expected += [f"taken {consumer.take(topic, body, now).name}", line(consumer.allowed("takeoff", now).reason)]
    told = answers(example, b"".join(frames))
    assert told == expected
    assert told.count("GO") > 100


def test_settings_out_of_range_stay_safe_in_c(example):
    """A timeout below 1 ns counts as 1 ns and one above 60 s as 60 s; more than 16 gates are refused."""
    for asked, kept in ((0, 1), (-5, 1), ((1 << 63) - 1, 60_000 * MS), (TIMEOUT, TIMEOUT)):
        frames = Settings(("takeoff",), timeout=asked).frame()
        frames += message_frame(b"heartbeat", wire.encode_heartbeat(wire.Heartbeat(BOOTS[0], 1, 0, ENVELOPES[0])), 0)
        frames += question_frame("takeoff", kept - 1) + question_frame("takeoff", kept)
        assert answers(example, frames) == ["taken TAKEN", "NO_GO NEVER_RECEIVED", "NO_GO HEARTBEAT_LATE"]
    sixteen = tuple(f"gate{i}" for i in range(16))
    assert answers(example, Settings(sixteen).frame() + question_frame("gate15", 0)) == ["NO_GO NO_HEARTBEAT"]
    assert Consumer(sixteen).allowed("gate15", 0).reason == Reason.NO_HEARTBEAT
    for frames in (
        Settings((*sixteen, "one more")).frame(),
        framed(b"?"),
        framed(b"M"),
        b"\xff\xff\xff\xff",
        framed(b""),
    ):
        done = subprocess.run([example], input=frames, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (2, b"example: not a frame\n")
