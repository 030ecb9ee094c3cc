"""The pages of catalogue, retention and SIEM: every command as it stands there, in order, where what they speak of is there."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
from catalogue_case import KEYS, World
from evidence_case import ENVELOPE
from test_siem_delivery import CERTIFICATE, Receiver, fill

from edge_monitor.command_line import run
from edge_monitor.journal import Digests
from edge_registry.catalogue.statements import PROVENANCE, sign
from edge_registry.cli import group

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A registry in ``registry-data`` of the folder that commands run in."""
    monkeypatch.delenv("EDGE_REGISTRY_DATABASE", raising=False)
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path)
    yield world
    world.close()


def commands(page: str) -> list[str]:
    """The lines of a page's shell blocks."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def follow(line: str, code: int = 0) -> str:
    """Do what a line says; answers what it prints."""
    program, *words = shlex.split(line)
    assert program == "edge-registry"
    said = SimpleNamespace(buffer=io.BytesIO(), write=None)
    text = io.TextIOWrapper(said.buffer, "utf-8", write_through=True)
    with redirect_stdout(text), redirect_stderr(text), pytest.raises(SystemExit) as ended:
        run(group, program, words)
    found = said.buffer.getvalue().decode()
    assert ended.value.code == code, (line, found)
    return found


def test_the_page_of_the_catalogue_can_be_followed(world: World) -> None:
    """From a data set to a model on a robot, an envelope, lineage from a record, and an exception's end."""
    for name in ("yard.tar", "detector.onnx", "night.json", "night-3.json"):
        world.file(name)
    (world.folder / "yard.yaml").write_bytes(ENVELOPE)
    (world.house.folder / "registry.yaml").write_text("edge_registry: 1\nexceptions: {grace: 1 s}\n")
    said: list[str] = []
    for line in commands("catalogue.md"):
        if "catalogue import" in line:
            (digest,) = re.findall(r"model:detector@3  sha256:([0-9a-f]{64})", "".join(said))
            dependency = {"digest": {"sha256": "5" * 64}}
            provenance = {"buildDefinition": {"resolvedDependencies": [dependency]}}
            data = sign(PROVENANCE, [("detector", digest)], provenance, KEYS["bruno"])
            world.file("provenance.dsse.json", data.decode())
        if "robot-7/2" in line:
            world.drive(Digests(b"\xee" * 32, b"", b"1"), time.time_ns())
            world.sync()
        if line.startswith("edge-registry exceptions list --dir"):
            follow(line)  # looks at the records; they have a second to become known
            time.sleep(1.1)
        said.append(follow(line))
    whole = "".join(said)
    for words in (
        "provenance/v1, verified by bruno", "model:detector@3 is approved by anton on T-12", "promoted to robot-7 by bruno",
        "trained_on  dataset:yard@1  (says paula)", "training data  dataset:yard@1", "unknown_digest  open  owner nobody yet",
        "mitigating  owner anton", "accepted  owner anton",
    ):  # fmt: skip
        assert words in whole, words
    assert len(said) > 14


def test_the_page_of_siem_can_be_followed(world: World) -> None:
    """All three transports and the printed form, to receivers at ports of this machine."""
    fill(world, 20)
    shutil.copy(CERTIFICATE, world.folder / "receiver.pem")
    receivers = {
        port: Receiver(world.folder, kind) for port, kind in (("4318", "otlp"), ("6514", "tls"), ("601", "syslog"))
    }
    try:
        said = [
            follow(re.sub(r":(4318|6514|601)\b", lambda found: f":{receivers[found[1]].port}", line))
            for line in commands("siem.md")
        ]
    finally:
        for receiver in receivers.values():
            receiver.kill()
    assert [len(receivers[port].taken()) for port in ("4318", "6514", "601")] == [20, 20, 0]
    whole = "".join(said)
    assert whole.count("20 records acknowledged") == 2 and "soc  syslog+tls://localhost:" in whole
    assert len(said) == 5 and said[-1].count("\n") == 20


def test_the_page_of_retention_can_be_followed(world: World) -> None:
    """Windows of the page's own configuration, a deletion that is refused and logged, and a person's payloads."""
    text = (ROOT / "docs" / "retention.md").read_text("utf-8")
    block = re.search(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    (world.house.folder / "registry.yaml").write_text(block[1])
    fill(world, 5)
    said = [
        follow(line.partition(" || ")[0], code=3 if "test $? -eq 3" in line else 0) for line in commands("retention.md")
    ]
    whole = "".join(said)
    for words in (
        "floor 183 d, default 1827 d\ncheck.fail  1098 d  5 payloads, 0 past it", "0 payloads whose windows were over",
        "is kept until", "kim  deletion  refused, 0 payloads", "0 payloads are erased; statement sha256:",
    ):  # fmt: skip
        assert words in whole, words


def test_the_pages_give_the_numbers_of_the_code() -> None:
    """Versions, sizes and terms on the pages are those of the program."""
    from edge_registry.siem import forms, sending, shipment, syslog

    text = (ROOT / "docs" / "siem.md").read_text("utf-8")
    assert f"OCSF {forms.OCSF_VERSION[:3]}" in text and f"ECS {forms.ECS_VERSION[:3]}" in text
    assert f"({sending.BATCH} records at most)" in text and f"{shipment.LARGEST_PAYLOAD // 1024} KiB" in text
    assert f"`{syslog.DATA_ID}`" in text and "OCSF 6, 5, 3, 1; CEF 10, 8, 5, 1" in text
    assert list(forms.OCSF_SEVERITY.values()) == [6, 5, 3, 1] and list(forms.CEF_SEVERITY.values()) == [10, 8, 5, 1]
