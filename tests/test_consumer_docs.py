"""docs/consumer.md tells what wire.py, the consumers and their tests are; its examples run."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import zmq
from c_programs import STRICT, answers, compiled, sanitizers

from edge_monitor.consumer import boottime_ns, headers
from edge_monitor.outputs import wire

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs/consumer.md").read_text("utf-8")
LETTERS = {"H": "u16", "B": "u8", "Q": "u64", "q": "i64", "I": "u32"}


def blocks(language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("title", "layout"), [("`heartbeat`", wire.HEARTBEAT), ("`lease/`", wire.LEASE)])
def test_the_byte_tables_are_those_of_the_code(title, layout):
    """Offsets, sizes and types of both tables are those that wire.py packs, to the last byte."""
    part = TEXT[TEXT.index(f"Topic {title}") :]
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\w+) \| (\w+) \|", part.split("\n\n")[1], re.MULTILINE)
    fields = re.findall(r"(\d*)([sHBQqI])", layout.format)
    expected, at = [], 0
    for count, letter in fields:
        size = struct.calcsize(f"<{count}{letter}")
        expected.append((str(at), str(size), LETTERS.get(letter, "bytes")))
        at += size
    assert [row[:3] for row in rows] == expected
    assert at == layout.size and f"{at} bytes:" in part.split("\n\n")[0]


def test_every_rule_names_a_test_that_exists():
    """Each numbered rule names at least one test, and every test that is named is there."""
    code = "".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    rules = re.findall(r"^\d+\. (.*?)(?=^\d+\. |^#|\Z|\n\n)", TEXT, re.DOTALL | re.MULTILINE)
    assert len(rules) == 19 + 6
    for text in rules:
        assert re.search(r"`(test_\w+|TestLives)`", text), text
    for name in re.findall(r"`(test_\w+)`", TEXT):
        assert re.search(rf"^def {name}\(", code, re.MULTILINE), name
    rule_tests = re.findall(r"^def (test_\w+)\(", (ROOT / "tests/test_consumer.py").read_text("utf-8"), re.MULTILINE)
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    others = {
        "test_a_waived_go_is_a_go", "test_other_gates_and_topics_are_no_trouble", "test_wrong_settings_are_usage_errors",
        "test_settings_at_their_ends_are_taken",
        "test_a_silent_publisher_is_no_go_within_the_timeout", "test_an_address_that_is_none_is_a_usage_error",
        "test_the_consumer_needs_neither_numba_nor_numpy",
    }  # fmt: skip
    assert set(rule_tests) - named == others


def test_the_python_example_drives_while_go_and_stops_after():
    """The example drives while a publisher sends heartbeats and leases, and stops when it no longer does."""
    socket = zmq.Context.instance().socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    silent = threading.Event()

    def publish() -> None:
        seq = 0
        while not silent.wait(0.01):
            for topic in (b"heartbeat", b"lease/continue"):
                seq += 1
                now = boottime_ns()
                heartbeat = wire.encode_heartbeat(wire.Heartbeat(b"b" * 16, seq, now, b"e" * 32))
                lease = wire.encode_lease(wire.Lease(b"b" * 16, seq, now, b"e" * 32, "continue", True, 10**10))
                socket.send_multipart([topic, heartbeat if topic == b"heartbeat" else lease])

    done: list[str] = []
    end = boottime_ns() + 20 * 10**9

    def drive() -> None:
        done.append("drive")
        silent.set()

    def goes_on() -> bool:
        assert boottime_ns() < end
        return not (done and done[-1] == "stop" and "drive" in done)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        example = blocks("python")[0].replace("127.0.0.1:5556", f"127.0.0.1:{port}")
        exec(example, {"mission_goes_on": goes_on, "drive": drive, "stop": lambda: done.append("stop")})
    finally:
        silent.set()
        thread.join()
        socket.close(0)
    assert done.count("drive") >= 1 and done[-1] == "stop"


def test_the_action_example_prints_what_stands_below_it(capsys):
    """The action gate's example prints its text block."""
    exec(blocks("python")[1], {})
    assert capsys.readouterr().out == blocks("text")[0]


def test_the_c_example_drives_while_go_and_stops_after(tmp_path):
    """The example, compiled strictly, drives after a heartbeat and a lease, up to the heartbeat's age."""
    bodies = (
        (b"heartbeat", wire.encode_heartbeat(wire.Heartbeat(b"b" * 16, 1, 1000, b"e" * 32))),
        (b"lease/continue", wire.encode_lease(wire.Lease(b"b" * 16, 2, 1000, b"e" * 32, "continue", True, 10**10))),
    )
    calls = "\n".join(
        f"  {{ static const uint8_t t[] = {{{', '.join(map(str, topic))}}}, b[] = {{{', '.join(map(str, body))}}};\n"
        f'    receive(t, sizeof t, b, sizeof b, 1000); printf("%d\\n", may_drive(1000)); }}'
        for topic, body in bodies
    )
    source = tmp_path / "example.c"
    source.write_text(
        f"#include <stdio.h>\n{blocks('c')[0]}\nint main(void) {{\n"
        f'  start(); printf("%d\\n", may_drive(0));\n{calls}\n'
        '  printf("%d\\n", may_drive(180000999)); printf("%d\\n", may_drive(180001000));\n  return 0;\n}\n'
    )
    options = [option for option in STRICT if option != "-Wconversion"]
    program = compiled(source, tmp_path / "example", *options, *sanitizers(tmp_path))
    assert answers(program, b"") == ["0", "0", "1", "1", "0"]


def test_the_headers_are_found_in_a_checkout():
    """`headers()` names a folder with all headers."""
    assert {path.name for path in headers().glob("*.h")} == {"edge_lease.h", "edge_action.h", "edge_report.h"}


def test_the_headers_are_in_the_wheel(tmp_path):
    """A built wheel carries all headers, where `headers()` looks for them, and they are those of consumer/."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in ("edge_lease.h", "edge_action.h", "edge_report.h"):
            assert archive.read(f"edge_monitor/consumer_c/{name}") == (ROOT / "consumer" / name).read_bytes()
        archive.extractall(tmp_path / "installed")
    told = subprocess.run(
        [sys.executable, "-c", "import edge_monitor.consumer as c; print(c.headers())"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "installed")}, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert told == str(tmp_path / "installed/edge_monitor/consumer_c")
