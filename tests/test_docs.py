"""The documents tell what the code does: generated parts, commands, links, names of files and options."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST = re.compile(r"`((?:[\w-]+/)+\w+\.py)::(test_\w+)`")
NAMED = re.compile(r"`(?:[\w./-]*/)?[\w-]+\.(?:py|md|yaml|json|mcap|toml)\b")


def documents() -> list[Path]:
    """Every Markdown file of the project, as git sees it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    return sorted(ROOT / name for name in listed) or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py as a module."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import generate as module
    finally:
        sys.path.remove(str(ROOT / "docs"))
    return module


def test_generated_parts_are_up_to_date(generate: ModuleType) -> None:
    """Tables, references and printed output are what code and commands give now (else: `make docs`)."""
    stale = [
        str(path.relative_to(ROOT)) for path in generate.files() if generate.rewritten(path) != path.read_text("utf-8")
    ]
    assert stale == []


def test_every_marker_has_a_generator_and_an_end(generate: ModuleType) -> None:
    """No generated part stands under a name that nothing makes, and none is left open."""
    count = 0
    for path in generate.files():
        text = path.read_text("utf-8")
        names = re.findall(r"<!-- (?:generated|output):([\w-]+) -->", text)
        assert len(names) == text.count("<!-- end -->") == len(generate.PART.findall(text)), path
        count += len(names)
        assert all(name in generate.SLOW or generate.part(name) is not None for name in names), path
    assert count > 20


def test_the_commands_of_the_documents_run(generate: ModuleType, tmp_path: Path) -> None:
    """Every line of the shell blocks in README, replay/README and the pages with commands runs as it stands, in order."""
    folder = generate.checkout_in(tmp_path)
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = 0
    for path in (ROOT / "README.md", ROOT / "replay/README.md", ROOT / "docs/black_box.md"):
        for block in generate.shell_blocks(path):
            for line in block.splitlines():
                done = subprocess.run(
                    ["sh", "-c", line], cwd=folder, env=variables, capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, f"{path.name}: {line}\n{done.stderr}"
                ran += 1
    assert ran >= 8
    assert (tmp_path / "build/tour/mission.db").exists()


def test_readme_names_the_two_commands() -> None:
    """`make demo` and `make test` stand in the README, and the Makefile has them."""
    readme, makefile = (ROOT / "README.md").read_text("utf-8"), (ROOT / "Makefile").read_text("utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in readme and re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_every_command_and_option_is_documented() -> None:
    """docs/cli.md has a section for each command, and each option in it."""
    from edge_monitor.cli import group as monitor
    from edge_registry.cli import group as registry
    from edge_replay.cli import group as replay

    text = (ROOT / "docs/cli.md").read_text("utf-8")
    sections = {m[1]: m[2] for m in re.finditer(r"^### `([^`]+)`\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)}
    seen = set()

    def walk(group: click.Group, path: str) -> None:
        for name in group.list_commands(click.Context(group)):
            found = group.get_command(click.Context(group), name)
            assert found is not None
            if isinstance(found, click.Group):
                walk(found, f"{path} {name}")
                continue
            seen.add(f"{path} {name}")
            for option in found.params:
                if isinstance(option, click.Option):
                    assert all(f"`{word}`" in sections[f"{path} {name}"] for word in option.opts), f"{path} {name}"

    walk(monitor, "edge-monitor")
    walk(replay, "edge-replay")
    walk(registry, "edge-registry")
    assert seen == set(sections)


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Relative links of a document point to files that exist, and anchors to headings."""
    text = path.read_text("utf-8")
    for target in LINK.findall(re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{path.name}: {target}"
        if anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{path.name}: {target}"


def test_the_architecture_names_every_folder() -> None:
    """docs/architecture.md has a line for each package, and names no file or folder that does not exist."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    rooms = text[text.index("## The rooms") : text.index("## What was found")]
    packages = {
        folder.parent
        for top in ("edge_monitor", "registry/edge_registry", "replay/edge_replay")
        for folder in (ROOT / top).rglob("__init__.py")
        if folder.parent != ROOT / "edge_monitor"
    }
    for package in sorted(packages):
        assert f"`{package.relative_to(ROOT)}/`" in rooms, package
    for name in re.findall(r"`((?:edge_monitor|registry|replay)/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name
    for name in {match.strip("`").split(":")[0] for match in NAMED.findall(text)}:
        places = (ROOT, ROOT / "edge_monitor", ROOT / "edge_monitor/journal", ROOT / "replay/edge_replay")
        assert any((place / name).exists() for place in places), name


def test_rules_of_the_onboard_page_name_their_tests() -> None:
    """Every test that docs/live.md names exists."""
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/live.md").read_text("utf-8")))
    there = {
        name
        for path in (ROOT / "tests").glob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
    }
    assert len(named) >= 7 and named <= there


def test_the_onboard_page_gives_the_process_s_numbers() -> None:
    """Times of turns, heartbeats and states, and the addresses, are those of the code."""
    from edge_monitor.commands.run import CONTROL, PUBLISH
    from edge_monitor.onboard import loop, publication

    text = (ROOT / "docs/live.md").read_text("utf-8")
    assert f"{loop.TURN_NS / 1e6:g} ms after the last one and at most {loop.LONGEST_MS} ms" in text
    assert f"every {publication.PERIOD_NS / 1e6:g} ms, after a completed turn" in text
    rarely, often = publication.STATE_NS / 1e9, publication.QUICK_STATE_NS / 1e6
    assert f"at most every {often:g} ms, and every {rarely:g} s |" in text
    assert PUBLISH in text and CONTROL in text


def test_every_test_that_a_page_names_exists() -> None:
    """A claim that names `tests/FILE.py::NAME` names a test that is there."""
    named = [(path.name, *found) for path in documents() for found in TEST.findall(path.read_text("utf-8"))]
    known = {
        file: set(re.findall(r"^\s*(?:async )?def (test_\w+)", (ROOT / file).read_text("utf-8"), re.MULTILINE))
        for file in {file for _, file, _ in named if (ROOT / file).is_file()}
    }
    assert len(named) > 20
    assert [one for one in named if one[2] not in known.get(one[1], set())] == []


def test_documents_speak_of_the_project_alone() -> None:
    """No machine's paths stand in the documents."""
    for path in documents():
        assert not re.search(r"(?<![\w.])/(?:work|root|tmp|home)/", path.read_text("utf-8")), path


def test_the_examples_of_the_checks_pages_load() -> None:
    """Every whole envelope on the page of a kind loads and, where it needs no reference file, compiles, without a warning."""
    from edge_monitor.core.engine import Engine
    from edge_monitor.core.plan import Plan
    from edge_monitor.envelope import loads

    found = 0
    for page in sorted((ROOT / "docs/checks").glob("*.md")):
        for block in re.findall(
            r"^```yaml\n(edge_monitor: 1\n.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
        ):
            needs = "reference:" in block
            envelope = loads(block.encode(), source=page.name, references=not needs)
            assert envelope.warnings == ()
            found += 1
            if needs:  # the tests of these kinds make the files and compile the examples
                continue
            assert len(Engine(Plan.build(envelope.signals, envelope.checks)).checks) == len(envelope.checks)
    assert found >= 2


def test_the_operators_of_the_formula_page() -> None:
    """The page's table names every operator, and each example can be read, over the signals of the page's envelope."""
    from edge_monitor.core.formula.term import ALL
    from edge_monitor.envelope import loads
    from edge_monitor.envelope.formulas import parse_formula

    text = (ROOT / "docs/checks/formula.md").read_text("utf-8")
    block = re.search(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    envelope = loads(block[1].encode())
    known = {signal.name: signal for signal in envelope.signals}
    table = text[text.index("| operator |") :].split("\n\n")[0]
    rows = [row.split("|") for row in table.splitlines()[2:]]
    for row in rows:
        assert parse_formula(row[-2].strip(" `"), known).unit is not None
    named = {word for row in rows for word in re.findall(r"[a-z]+|[^\sa-z`]+", row[1])}
    assert ALL - named == {"signal", "number", "negate", "is"}
