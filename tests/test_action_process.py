"""From a vehicle's action gate to the signed journal: real processes, Python's records and C's, a flood and garbage."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgpack
import pytest
import zmq
from c_programs import compiled

from edge_monitor.action_gate import ActionGate, Range
from edge_monitor.consumer import Answer, Reason, boottime_ns
from edge_monitor.journal import load_verifier_key
from edge_monitor.journal.keys import make_key
from edge_monitor.journal.reader import Reader
from edge_monitor.journal.records import decode_payload, decode_record
from edge_monitor.journal.verify import verify
from edge_monitor.outputs.wire import HEARTBEAT_TOPIC

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parent.parent
ENVELOPE = """
edge_monitor: 1
envelope: {id: live, version: 1, vehicle: bench}
signals:
  speed: {topic: /odom, field: speed, unit: m/s, max_age: 300 ms}
checks:
  speed_limit: {kind: bounds, signal: speed, max: 12, severity: critical}
gates:
  continue: {require: all, criteria: [speed_limit], lease: 5 s}
"""
VEHICLE = """
#include <stdio.h>
{example}
int send_parts(const char *topic, const void *meta, uint32_t meta_bytes, const void *body, uint32_t body_bytes) {{
  const uint32_t sizes[] = {{(uint32_t)strlen(topic), meta_bytes, body_bytes}};
  const void *const parts[] = {{topic, meta, body}};
  uint32_t i, j;
  for (i = 0; i < 3; i++) {{
    for (j = 0; j < sizes[i]; j++) printf("%02x", ((const uint8_t *)parts[i])[j]);
    printf("\\n");
  }}
  return 0;
}}
int main(void) {{
  struct edge_action gate;
  struct edge_action_verdict verdict;
  edge_action_init(&gate);
  if (!edge_action_add_command(&gate, "tilt", 0.0, 0.25, 1U) || !edge_action_set_unit(&gate, "tilt", "rad")) return 1;
  verdict = edge_action_command(&gate, "tilt", 0.5, EDGE_LEASE_GO, 1000);
  tell("continue", &verdict);
  return 0;
}}
"""


def examples(language: str) -> list[str]:
    """The code blocks of the consumer's page in a language."""
    text = (ROOT / "docs/consumer.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def events(journal: Path) -> list[tuple[str, dict]]:
    """Types and payloads of all records."""
    with Reader(journal) as reader:
        return [(decode_record(row.record).type, decode_payload(row.payload or b"")) for row in reader.rows()]


def test_what_a_vehicle_holds_back_is_journaled_and_can_be_re_executed(tmp_path: Path) -> None:
    """Records of both languages arrive with all they say, a flood is a few events with its sum, garbage is one damage, and
    the run comes out again from its tape."""
    (tmp_path / "live.yaml").write_text(ENVELOPE)
    make_key("robot", tmp_path)
    process = subprocess.Popen(
        [
            BIN / "edge-monitor", "run", "-e", "live.yaml", "--unapproved", "--source", f"bind-pull:ipc://{tmp_path}/in",
            "--journal", "j.db", "--key", "robot.key", "--tapes", "tapes", "--tape-size", "16",
            "--publish", f"ipc://{tmp_path}/out", "--control", f"ipc://{tmp_path}/ask",
        ],
        cwd=tmp_path,
    )  # fmt: skip
    context = zmq.Context()
    try:
        subscriber = context.socket(zmq.SUB)
        subscriber.subscribe(b"event/action.blocked")
        subscriber.subscribe(HEARTBEAT_TOPIC)
        subscriber.connect(f"ipc://{tmp_path}/out")
        assert subscriber.poll(180_000), process.poll()  # it runs, and what it says from here on is heard
        subscriber.unsubscribe(HEARTBEAT_TOPIC)
        names: dict = {}
        exec(examples("python")[2].replace("/run/edge-monitor/in", f"{tmp_path}/in"), names)
        scope = ActionGate("continue", max_speed=5.0, commands={"climb": Range(-1.0, 2.5, unit="m/s")})
        fast = scope.velocity((6.0, 0.0, 8.0), Answer(True, Reason.GO), boottime_ns())
        names["monitor"].sndhwm = 10_000
        names["tell"](fast.record)
        topic, body = subscriber.recv_multipart()
        while topic == HEARTBEAT_TOPIC:  # those that were on their way
            assert subscriber.poll(60_000), process.poll()
            topic, body = subscriber.recv_multipart()
        told = msgpack.unpackb(body)
        assert (told["subject"], told["requested"], told["granted"]) == (
            "velocity",
            [6.0, 0.0, 8.0],
            list(fast.granted),
        )
        (tmp_path / "vehicle.c").write_text(VEHICLE.format(example=examples("c")[1]))
        program = compiled(tmp_path / "vehicle.c", tmp_path / "vehicle", "-std=c99", "-Wall", "-Wextra", "-Werror")
        lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
        names["monitor"].send_multipart([bytes.fromhex(line) for line in lines])
        for _ in range(3):
            begun = time.monotonic()
            for _ in range(30):  # all together fewer than are read in a second, whatever the machine does
                held = {**fast.record, "subject": "drop", "requested": [], "granted": [], "rule": "budget"}
                names["tell"]({**held, "counts": {"budget": 3}})
            names["tell"]({**held, "gate": "fly"})
            time.sleep(max(0.0, 1.05 - (time.monotonic() - begun)))
        time.sleep(1.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        context.destroy(linger=0)
        names["monitor"].close()
    assert verify(tmp_path / "j.db", [load_verifier_key(tmp_path / "robot.pub")]).ok
    found = events(tmp_path / "j.db")
    blocked = [payload for kind, payload in found if kind == "action.blocked"]
    assert {key: blocked[0][key] for key in fast.record} == fast.record
    (tilt,) = [payload for payload in blocked if payload["subject"] == "tilt"]
    assert (tilt["outcome"], tilt["rule"], tilt["requested"], tilt["granted"], tilt["unit"]) == (
        "blocked", "range", [0.5], [], "rad",
    )  # fmt: skip
    drops = [payload for payload in blocked if payload["subject"] == "drop"]
    assert 3 <= len(drops) <= 7
    assert sum(payload["reports"] for payload in drops) == 90
    assert Counter(payload["rule"] for payload in drops) == {"budget": len(drops)}
    assert sum(payload["counts"]["budget"] for payload in drops) == 270
    damages = [payload for kind, payload in found if kind == "log.damage"]
    assert sum(payload["lost_messages"] for payload in damages) == 3 and "no gate 'fly'" in damages[0]["what"]
    (tape,) = (tmp_path / "tapes").glob("*.tape")
    done = subprocess.run(
        [BIN / "edge-replay", "reexecute", "j.db", tape, "-e", "live.yaml", "--key", "robot.pub"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "EQUAL" in done.stdout, done.stdout + done.stderr


def test_reports_come_to_a_source_and_not_to_the_control_socket() -> None:
    """Over the control socket, which has no such limits, a report is refused with where to send it."""
    from edge_monitor.core.commands import ReportAction
    from edge_monitor.errors import EdgeMonitorError
    from edge_monitor.onboard.control import Control

    control = Control(None, lambda now: b"", lambda order, now: ([], ""), time.time_ns)  # type: ignore[arg-type]
    order = ReportAction(t=5, subject="drop", gate="continue", outcome="blocked", rule="budget").payload()
    del order["t"]
    answer = msgpack.unpackb(control(msgpack.packb({"do": "command", "command": order}), 9).body)
    assert not answer["ok"] and "own topic" in answer["error"]
    with pytest.raises(EdgeMonitorError):
        ReportAction(t=5, subject="", gate="continue", outcome="blocked", rule="budget")
