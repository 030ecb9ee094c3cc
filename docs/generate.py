"""Rewrites the generated parts of README and docs from code and commands: `make docs`. A test asserts that they are up to date.

A generated part stands between `<!-- generated:NAME -->` and `<!-- end -->`; what a command really prints, between
`<!-- output:NAME -->` and `<!-- end -->`. With ``--slow``, the demo's output too.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(<!-- (?:generated|output):([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
BOOT = re.compile(r"\b[0-9a-f]{32}\b")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def first_sentence(text: str | None) -> str:
    """The first paragraph's first sentence, on one line."""
    line = " ".join((text or "").strip().split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", line)[0]


def check_kinds() -> str:
    """The table of check kinds, from the envelope's models."""
    from edge_monitor.envelope.checks import CHECK_MODELS

    lines = ["| kind | what it finds | parameters |", "|---|---|---|"]
    common = {"kind", "severity", "rationale", "hazard", "claim", "fail_for", "pass_for", "latch"}
    for kind, model in CHECK_MODELS.items():
        parameters = ", ".join(f"`{name}`" for name in model.model_fields if name not in common)
        page = f"docs/checks/{kind}.md"
        name = f"[`{kind}`]({page})" if (ROOT / page).exists() else f"`{kind}`"
        lines.append(f"| {name} | {first_sentence(model.__doc__)} | {parameters} |")
    return "\n".join(lines) + "\n"


def exit_codes() -> str:
    """The exit codes, from the text that `--help` prints."""
    from edge_monitor.cli import EXIT_CODES

    rows = re.findall(r"^  (\d)  (.*)$", EXIT_CODES, re.MULTILINE)
    return "\n".join(["| code | meaning |", "|---|---|", *(f"| {code} | {text} |" for code, text in rows)]) + "\n"


def cli_reference() -> str:
    """Every command and option of the programs, from their own declarations."""
    from edge_monitor.cli import group as monitor
    from edge_registry.cli import group as registry
    from edge_replay.cli import group as replay

    lines: list[str] = []
    for name, group in (("edge-monitor", monitor), ("edge-replay", replay), ("edge-registry", registry)):
        lines += [f"## {name}\n", f"{first_sentence(group.help)}\n"]
        describe(group, name, lines)
    return "\n".join(lines) + "\n"


def describe(group: click.Group, path: str, lines: list[str]) -> None:
    """Describe the commands of a group, and of the groups in it."""
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        here = f"{path} {name}"
        if isinstance(command, click.Group):
            describe(command, here, lines)
            continue
        usage = " ".join(command.collect_usage_pieces(click.Context(command, info_name=here)))
        lines += [f"### `{here}`\n", f"```text\n{here} {usage}\n```\n", f"{paragraphs(command.help)}\n"]
        options = [p for p in command.params if isinstance(p, click.Option)]
        if options:
            lines += ["| option | meaning |", "|---|---|"]
            for option in options:
                word = ", ".join(f"`{o}`" for o in option.opts)
                if isinstance(option.type, click.Choice):
                    word += " " + ", ".join(option.type.choices)
                lines.append(f"| {word} | {(option.help or '').replace('|', chr(92) + '|')} |")
            lines.append("")


def paragraphs(text: str | None) -> str:
    """Help text as Markdown paragraphs; what click must not rewrap becomes a block."""
    parts = (text or "").strip().split("\n\n")
    return "\n\n".join(
        f"```text\n{inspect.cleandoc(part.lstrip().removeprefix(chr(8)))}\n```"
        if part.lstrip().startswith("\b")
        else " ".join(part.split())
        for part in parts
    )


def evidence_reasons() -> str:
    """Why a packet is refused."""
    from edge_monitor.evidence.verify import REASONS

    return (
        "\n".join(["| code | why |", "|---|---|", *(f"| `{code}` | {why} |" for code, why in REASONS.items())]) + "\n"
    )


def siem_types() -> str:
    """What each event type is in OCSF and ECS."""
    import json

    from edge_monitor.journal.event_types import EVENT_TYPES
    from edge_monitor.journal.records import Severity, WallStatus
    from edge_registry.siem.forms import ecs, ocsf
    from edge_registry.siem.shipment import Shipment

    rows: dict[tuple[str, str], list[str]] = {}
    names = {0: "Base Event", 2004: "Detection Finding", 6002: "Application Lifecycle"}
    for kind in EVENT_TYPES:
        one = Shipment(
            "r/b/0", "r", "l", "b", 0, "", kind, Severity.MARGINAL, 0, WallStatus.UNKNOWN, 0, "", "", "", (), "", "", {}
        )
        first, second = json.loads(ocsf(one)), json.loads(ecs(one))
        activity = first["activity_name"] if first["class_uid"] else "Other"
        said = f"{first['class_uid']} {names[first['class_uid']]}, {activity}"
        event = second["event"]
        rows.setdefault((said, f"`{event['kind']}`, `{event['type'][0]}`"), []).append(f"`{kind}`")
    lines = [f"| {', '.join(kinds)} | {first} | {second} |" for (first, second), kinds in rows.items()]
    return "\n".join(["| event type | OCSF 1.2 | ECS 9.4 |", "|---|---|---|", *lines]) + "\n"


def exceptions() -> str:
    """What opens by itself."""
    from edge_registry.catalogue.judging import EXCEPTIONS

    return (
        "\n".join(["| kind | what it is |", "|---|---|", *(f"| `{k}` | {w} |" for k, w in EXCEPTIONS.items())]) + "\n"
    )


def event_types() -> str:
    """The closed list of event types, a family a line."""
    from itertools import groupby

    from edge_monitor.journal.event_types import EVENT_TYPES

    families = groupby(EVENT_TYPES, key=lambda name: name.split(".")[0])
    return "\n".join("- " + ", ".join(f"`{name}`" for name in names) for _, names in families) + "\n"


def journal_example() -> str:
    """The worked example of FORMAT.md, made by the code that writes journals."""
    from edge_monitor.journal.keys import SigningKey
    from edge_monitor.journal.merkle import leaf_hash
    from edge_monitor.journal.notes import Checkpoint, sign_note
    from edge_monitor.journal.records import Digests, Record, commitment, encode_payload, encode_record

    key = SigningKey("example-robot", bytes(range(32)))
    payload = encode_payload({"subject": "speed_limit", "value": 12.5, "limit": 12.0})
    salt, log_id = b"\x55" * 32, bytes.fromhex("00112233445566778899aabbccddeeff")
    t = 1_500_000_000
    record = encode_record(
        Record(
            1, log_id, 0, "check.fail", 2, b"\xbb" * 16, t, t, -1, 0, -1, "", Digests(envelope=b"\xee" * 32),
            (), ("speed_limit",), "H3", "G1.2", commitment(salt, payload), 0,
        )
    )  # fmt: skip
    leaf = leaf_hash(record)
    note = sign_note(Checkpoint("example-robot/00112233-4455-6677-8899-aabbccddeeff", 1, leaf).text(), key)
    lines = [
        "```text",
        f"verifier key  {key.verifier.text()}",
        f"payload       {payload.hex()}",
        f"commitment    {commitment(salt, payload).hex()}",
        f"record        {record.hex()}",
        f"leaf = root   {leaf.hex()}",
        "checkpoint",
        note.rstrip("\n"),
        "```",
    ]
    return "\n".join(lines) + "\n"


def approval_example() -> str:
    """The approval file of the vectors; a test holds it to be what the code makes."""
    vectors = json.loads((ROOT / "tests/vectors/approval_v1.json").read_text("utf-8"))
    return f"```text\n{vectors['file']}```\n"


def shell_blocks(path: Path) -> list[str]:
    """The ```sh blocks of a Markdown file: commands that a reader runs, one a line."""
    return re.findall(r"^```sh\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run(command: str, folder: Path) -> str:
    """What one command of ours prints, 120 columns wide, run in ``folder`` as in the checkout.

    Raises ``RuntimeError`` when it does not end with 0.
    """
    program, *arguments = command.split()
    variables = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    words = [str(Path(sys.executable).parent / program), *arguments]
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"'{command}' ended with {done.returncode}: {done.stderr}")
    return done.stdout


def checkout_in(folder: Path) -> Path:
    """A folder that looks like the checkout to a reader's commands, and keeps what they write."""
    for name in ("replay", "configs", "docs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@cache
def tour(page: str = "README.md") -> dict[str, str]:
    """What each command of a page's tour prints, in their order; log ids, which are random, are masked."""
    with tempfile.TemporaryDirectory() as name:
        folder = checkout_in(Path(name))
        lines = [line for block in shell_blocks(ROOT / page) for line in block.splitlines()]
        return {line: UUID.sub("<log id>", run(line, folder)) for line in lines if line.startswith("edge-")}


def printed(*commands: str, page: str = "README.md") -> str:
    """The outputs of a tour's commands that begin so, as a text block; the middle of long tables is left out."""
    lines: list[str] = []
    for command, text in tour(page).items():
        if command.startswith(commands) and "--quiet" not in command:
            if lines:
                lines.append("")
            lines += shortened([line.rstrip() for line in text.strip("\n").splitlines()])
    return "```text\n" + "\n".join(lines) + "\n```\n"


def shortened(lines: list[str], most: int = 14) -> list[str]:
    """Tables of checks with at most ``most`` lines, ``…`` where some are left out; everything else as it is."""
    found: list[str] = []
    table: list[str] = []
    for line in [*lines, ""]:
        if line:
            table.append(line)
            continue
        keep = table if len(table) <= most or "hecks" not in table[0] else [*table[: most - 3], "…", *table[-2:]]
        found += [*keep, ""]
        table = []
    return found[:-1]


def demo() -> str:
    """What the demo prints of the flight, its story and the proofs, at ten times real time; ids, which are random, are masked."""
    command = [sys.executable, str(ROOT / "replay/scenarios/demo.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the demo ended with {done.returncode}: {done.stderr}")
    _, _, flown = done.stdout.partition("The monitor starts")
    story, _, rest = flown.partition("What was made to happen")
    _, _, proofs = rest.partition("The journal proves")
    told = f"The monitor starts{story}The journal proves{proofs.partition('All of it took')[0]}".rstrip()
    return "```text\n" + BOOT.sub("<boot>", UUID.sub("<log id>", told)) + "\n```\n"


#: Parts that take a minute: made when asked for, and held to what the demo prints by tests/test_demo.py.
SLOW: dict[str, Callable[[], str]] = {"demo": demo}
PARTS: dict[str, Callable[[], str]] = {
    "check-kinds": check_kinds,
    "exit-codes": exit_codes,
    "cli": cli_reference,
    "event-types": event_types,
    "exceptions": exceptions,
    "siem-types": siem_types,
    "evidence-reasons": evidence_reasons,
    "journal-example": journal_example,
    "approval-example": approval_example,
    "run": lambda: printed("edge-replay run"),
    "check": lambda: printed("edge-replay check"),
    "journal": lambda: printed("edge-monitor journal"),
    "reexecute": lambda: printed("edge-replay reexecute", page="docs/black_box.md"),
}


def part(name: str) -> str | None:
    """The text of a generated part by its name; None for a name that is not known."""
    from edge_monitor.envelope.checks import CHECK_MODELS
    from edge_monitor.envelope.reference import TABLES, field_table, own_fields

    kind = CHECK_MODELS.get(name.removeprefix("kind-"))
    if name.startswith("kind-") and kind is not None:
        return field_table(kind, own_fields(kind))
    make = PARTS.get(name) or TABLES.get(name)
    return None if make is None else make()


def files() -> list[Path]:
    """The files that may hold generated parts."""
    return [ROOT / "README.md", ROOT / "edge_monitor/journal/FORMAT.md", *sorted((ROOT / "docs").rglob("*.md"))]


def rewritten(path: Path, slow: bool = False) -> str:
    """The text of ``path`` with its generated parts made anew; the slow ones where asked for."""

    def replace(match: re.Match[str]) -> str:
        text = SLOW[match[2]]() if slow and match[2] in SLOW else part(match[2])
        return match[0] if text is None else match[1] + text + match[3]

    return PART.sub(replace, path.read_text(encoding="utf-8"))


def main(slow: bool) -> int:
    """Rewrite what differs; answers how many files did."""
    changed = 0
    for path in files():
        text = rewritten(path, slow)
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            print(f"rewrote {path.relative_to(ROOT)}")
            changed += 1
    return changed


if __name__ == "__main__":
    main("--slow" in sys.argv[1:])
    sys.exit(0)
