"""Both command lines as a person or a script meets them: real children, exit codes, streams, interrupts, start-up time."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
COMMANDS = ("edge-monitor", "edge-replay")

# Design §10: `--help` in at most 150 ms of CPU, so that completing a word on a small robot's computer is not felt.
HELP_BUDGET_S = 0.150

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(root: Path) -> Run:
    """Runs a command of ours in the checkout; answers its output and code."""

    def call(*arguments: object, cwd: Path = root, **environment: str) -> subprocess.CompletedProcess[str]:
        words = [str(BIN / str(arguments[0])), *map(str, arguments[1:])]
        variables = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "FORCE_COLOR")}
        return subprocess.run(
            words, cwd=cwd, env=variables | environment, capture_output=True, text=True, timeout=120, check=False
        )

    return call


@pytest.fixture(scope="module")
def flight(root: Path) -> Path:
    """The recorded survey flight."""
    return root / "replay/scenarios/survey_flight.mcap"


@pytest.fixture(scope="module")
def plane(root: Path) -> Path:
    """Its envelope."""
    return root / "configs/survey_plane.yaml"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """A signing key."""
    folder = tmp_path_factory.mktemp("keys")
    assert run("edge-monitor", "keys", "new", "robot", "--dir", folder).returncode == 0
    return folder / "robot.key"


def assert_one_line(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """A user's error: the documented code, one line on stderr with the words, no traceback, nothing on stdout."""
    assert result.returncode == code, result.stderr
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr, result.stderr
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr


# --- starting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_starts_quickly(command: str) -> None:
    """`--help` takes at most the budget of CPU time, in the best of five tries (a machine may be busy)."""
    best = float("inf")
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([BIN / command, "--help"], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert best < HELP_BUDGET_S


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command: str) -> None:
    """What makes a start slow (NumPy, Numba, pydantic, rich, SQLite) is not imported to print help or the version."""
    module = {"edge-monitor": "edge_monitor.cli", "edge-replay": "edge_replay.cli"}[command]
    code = (
        f"import sys; from {module} import main; sys.argv = ['{command}', sys.argv[1]]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    for option in ("--help", "--version"):
        result = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)
        loaded = set(result.stderr.split())
        assert "click" in loaded
        assert not loaded & {"numpy", "numba", "llvmlite", "pydantic", "rich", "sqlite3", "rosbags", "nacl", "ruamel"}


@pytest.mark.parametrize("command", COMMANDS)
def test_version(run: Run, command: str) -> None:
    """`--version` is the program's name and the package's version."""
    from edge_monitor import __version__

    assert run(command, "--version").stdout == f"{command} {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(run: Run, command: str, shell: str) -> None:
    """The script that shells source for completion is printed, and completes command names."""
    variable = f"_{command.upper().replace('-', '_')}_COMPLETE"
    assert command in run(command, **{variable: f"{shell}_source"}).stdout
    if shell == "bash":
        found = run(command, **{variable: "bash_complete", "COMP_WORDS": f"{command} ch", "COMP_CWORD": "1"})
        assert "plain,check" in found.stdout.split()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_arguments_is_help(run: Run, command: str) -> None:
    """A bare command shows its help, and counts as wrong usage."""
    result = run(command)
    assert result.returncode in (0, 2) and "Commands:" in result.stdout + result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run: Run, command: str) -> None:
    """Every command and subcommand answers `--help` with its options, all of them explained."""
    import click

    from edge_monitor.cli import group as monitor_group
    from edge_replay.cli import group as replay_group

    group = {"edge-monitor": monitor_group, "edge-replay": replay_group}[command]

    def walk(group: click.Group, path: list[str]) -> None:
        for name in group.list_commands(click.Context(group)):
            found = group.get_command(click.Context(group), name)
            assert found is not None
            if isinstance(found, click.Group):
                walk(found, [*path, name])
                continue
            assert found.help, name
            for parameter in found.params:
                assert not isinstance(parameter, click.Option) or parameter.help, f"{name} {parameter.name}"
            text = found.get_help(click.Context(found, info_name=name))
            assert text.startswith("Usage: ")

    walk(group, [command])


# --- exit codes ------------------------------------------------------------------------------------------------------


def test_0_is_fine(run: Run, flight: Path, plane: Path) -> None:
    """A replay of a whole recording ends with 0, breaches or not, unless asked to fail on them."""
    assert run("edge-replay", "run", flight, "-e", plane, "--quiet").returncode == 0


@pytest.mark.parametrize("what", ["breach", "no-go", "unknown"])
def test_1_is_what_was_asked_for(run: Run, flight: Path, plane: Path, what: str) -> None:
    """`--fail-on` makes a breach, a no-go or an unknown end with 1; each is in the flight."""
    assert run("edge-replay", "run", flight, "-e", plane, "-q", "--fail-on", what).returncode == 1


def test_fail_on_what_is_not_there_is_0(run: Run, flight: Path, plane: Path) -> None:
    """In a quiet stretch of the flight nothing breaches: `--fail-on breach` ends with 0."""
    quiet = ("--from", "+20", "--to", "+50")
    assert run("edge-replay", "run", flight, "-e", plane, "-q", *quiet, "--fail-on", "breach").returncode == 0
    assert run("edge-replay", "run", flight, "-e", plane, "-q", *quiet, "--fail-on", "no-go").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["edge-replay", "rnu"], ["no command 'rnu'", "Did you mean 'run'?"]),
        (["edge-monitor", "jurnal"], ["no command 'jurnal'", "Did you mean 'journal'?"]),
        (["edge-monitor", "xyzzy"], ["no command 'xyzzy'", "--help"]),
        (["edge-replay", "run", "no_such.mcap", "-e", "configs/survey_plane.yaml"], ["no_such.mcap", "does not exist"]),
        (["edge-replay", "run", "FLIGHT"], ["--envelope", "edge-replay run --help"]),
        (["edge-replay", "run", "FLIGHT", "-e", "PLANE", "--jornal", "x"], ["--jornal", "--journal"]),
        (["edge-replay", "run", "FLIGHT", "-e", "PLANE", "--journal", "x.db"], ["--key", "keys new"]),
        (["edge-replay", "run", "FLIGHT", "-e", "PLANE", "--from", "noon"], ["--from noon", "seconds"]),
        (["edge-replay", "run", "FLIGHT", "-e", "PLANE", "--to", "inf"], ["--to inf", "seconds"]),
        (["edge-replay", "run", "FLIGHT", "-e", "PLANE", "--from", "nan"], ["--from nan", "seconds"]),
        (["edge-replay", "run", "FLIGHT", "-e", "PLANE", "--from", "+9", "--to", "+8"], ["--from +9", "after --to +8"]),
        (["edge-replay", "run", "FLIGHT", "-e", "PLANE", "--jsonl", "-", "--json"], ["--jsonl", "stdout"]),
        (["edge-replay", "run", "FLIGHT", "-e", "PLANE", "--jsonl", "FLIGHT"], ["overwrite an input"]),
        (["edge-replay", "run", "FLIGHT", "-e", "PLANE", "--risk", "hihg"], ["hihg", "did you mean `high`?"]),
        (["edge-replay", "run", "FLIGHT", "-e", "PLANE", "--fail-on", "rain"], ["rain", "breach", "no-go"]),
    ],
)
def test_2_is_wrong_usage(run: Run, flight: Path, plane: Path, arguments: list[str], words: list[str]) -> None:
    """Wrong usage ends with 2 and one line that says what is wrong, and where to read on or the nearest name."""
    places = {"FLIGHT": str(flight), "PLANE": str(plane)}
    assert_one_line(run(*(places.get(argument, argument) for argument in arguments)), 2, *words)


def test_3_is_a_bad_envelope(run: Run, flight: Path, plane: Path, tmp_path: Path) -> None:
    """Each problem of an envelope is one line with its place; `edge-replay run` and `edge-monitor check` end with 3."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(plane.read_text().replace("kind: agreement", "kind: agreemnt").replace("max: 55 m/s", "max: 55 km"))
    for arguments in (("edge-monitor", "check", bad), ("edge-replay", "run", flight, "-e", bad)):
        result = run(*arguments)
        assert result.returncode == 3 and result.stdout == "" and "Traceback" not in result.stderr
        assert len(result.stderr.splitlines()) == 2
        assert all("bad.yaml:" in line for line in result.stderr.splitlines())
        assert "agreement" in result.stderr  # the nearest kind


def test_3_is_a_bad_key(run: Run, flight: Path, plane: Path, tmp_path: Path) -> None:
    """A file that is no key can't sign a journal."""
    noise = tmp_path / "noise.key"
    noise.write_text("not a key\n")
    arguments = ("edge-replay", "run", flight, "-e", plane, "-q", "--journal", tmp_path / "j.db", "--key", noise)
    assert_one_line(run(*arguments), 3, "noise.key")


def test_4_is_damage(run: Run, flight: Path, plane: Path, tmp_path: Path) -> None:
    """Half a recording ends with 4 and is replayed as far as it goes; noise ends with 4 and one line."""
    half = tmp_path / "half.mcap"
    half.write_bytes(flight.read_bytes()[: flight.stat().st_size // 2])
    result = run("edge-replay", "run", half, "-e", plane, "--json")
    document = json.loads(result.stdout)
    assert result.returncode == 4 and document["damage"] and document["breaches"]
    noise = tmp_path / "noise.mcap"
    noise.write_bytes(bytes(4000))
    assert_one_line(run("edge-replay", "run", noise, "-e", plane, "-q"), 4, "noise.mcap")
    assert run("edge-replay", "check", noise, "-e", plane).returncode == 4
    # A recording that can't be read does not keep the others from being replayed.
    both = run("edge-replay", "run", noise, flight, "-e", plane, "--json")
    assert both.returncode == 4 and json.loads(both.stdout)["log"].endswith("survey_flight.mcap")


def test_5_is_a_broken_journal(run: Run, flight: Path, plane: Path, key: Path, tmp_path: Path) -> None:
    """A journal with one changed letter, or another key's, does not verify: 5. Whole and with its key it does: 0."""
    journal = tmp_path / "mission.db"
    arguments = ("edge-replay", "run", flight, "-e", plane, "-q", "--journal", journal, "--key", key)
    assert run(*arguments).returncode == 0
    public = key.with_suffix(".pub")
    assert run("edge-monitor", "journal", "verify", journal, "--key", public).returncode == 0
    run("edge-monitor", "keys", "new", "robot", "--dir", tmp_path)
    other = run("edge-monitor", "journal", "verify", journal, "--key", tmp_path / "robot.pub")
    assert other.returncode == 5 and "authorship    FAILED" in other.stdout
    data = journal.read_bytes()
    journal.write_bytes(data.replace(b"Pilot took over", b"Pilot look over"))
    forged = run("edge-monitor", "journal", "verify", journal, "--key", public)
    assert forged.returncode == 5 and "FAILED        record" in forged.stdout


# --- what is printed -------------------------------------------------------------------------------------------------


def test_json_is_one_document(run: Run, flight: Path, plane: Path) -> None:
    """`--json` prints one JSON document and nothing else, for every command that has it."""
    document = json.loads(run("edge-replay", "run", flight, "-e", plane, "--json").stdout)
    assert document["messages"] > 20_000 and len(document["breaches"]) == document["events"]["check.fail"]
    assert {"authority", "gates", "checks", "inputs_lost", "damage", "engine_digest"} <= document.keys()
    survey = json.loads(run("edge-replay", "check", flight, "-e", plane, "--json").stdout)
    assert {check["check"] for check in survey["checks"]} == {line["check"] for line in document["checks"]}
    assert json.loads(run("edge-monitor", "check", plane, "--json").stdout)["files"][0]["ok"] is True
    assert json.loads(run("edge-replay", "info", flight, "--json").stdout)


def test_jsonl_is_a_stream_of_events(run: Run, flight: Path, plane: Path, tmp_path: Path) -> None:
    """Each line is an event with type, times and subject; the summary goes to stderr; a file gets the same lines."""
    result = run("edge-replay", "run", flight, "-e", plane, "--jsonl", "-")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(events) > 70 and "Breaches" in result.stderr
    for event in events:
        assert event["type"] and event["subject"] and event["t_s"] == event["t_ns"] / 1e9
        assert event["t_decided_ns"] >= event["t_ns"]
    run("edge-replay", "run", flight, "-e", plane, "--jsonl", tmp_path / "events.jsonl", "--quiet")
    assert (tmp_path / "events.jsonl").read_text() == result.stdout


def test_events_of_several_recordings_name_theirs(run: Run, flight: Path, plane: Path, tmp_path: Path) -> None:
    """With several LOGs each JSON line says which it is from."""
    second = tmp_path / "second.mcap"
    second.write_bytes(flight.read_bytes())
    result = run("edge-replay", "run", flight, second, "-e", plane, "-q", "--jsonl", "-")
    logs = [json.loads(line)["log"] for line in result.stdout.splitlines()]
    assert set(logs) == {str(flight), str(second)} and logs == sorted(logs, key=[str(flight), str(second)].index)


def test_quiet_prints_nothing(run: Run, flight: Path, plane: Path) -> None:
    """`--quiet` leaves stdout and stderr empty."""
    result = run("edge-replay", "run", flight, "-e", plane, "--quiet")
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.parametrize("columns", [80, 160])
def test_the_summary_fits_the_terminal(run: Run, flight: Path, plane: Path, columns: int) -> None:
    """No line is wider than the terminal, and every check, breach and change of command is there."""
    for command in ("run", "check"):
        text = run("edge-replay", command, flight, "-e", plane, COLUMNS=str(columns)).stdout
        assert max(len(line.rstrip()) for line in text.splitlines()) <= columns
        for word in ("airspeed_agrees", "height_band", "worst margin"):
            assert word in text
        if command == "run":
            assert all(word in text for word in ("Pilot took over using sticks", "Breaches", "Inputs lost", "NO_GO"))


def test_no_color_is_respected(root: Path, flight: Path, plane: Path) -> None:
    """On a terminal the summary is coloured, and with NO_COLOR it is not."""
    import pty

    def on_terminal(**environment: str) -> bytes:
        parent, child = pty.openpty()
        words = [str(BIN / "edge-replay"), "run", str(flight), "-e", str(plane)]
        variables = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        variables |= {"TERM": "xterm-256color", "COLUMNS": "120", **environment}
        process = subprocess.Popen(words, stdout=child, stderr=subprocess.DEVNULL, env=variables, cwd=root)
        os.close(child)
        found = b""
        while True:
            try:
                piece = os.read(parent, 65536)
            except OSError:
                break
            if not piece:
                break
            found += piece
        assert process.wait() == 0
        os.close(parent)
        return found

    colours = (b"\x1b[31m", b"\x1b[32m", b"\x1b[36m")
    assert any(code in on_terminal() for code in colours)
    assert not any(code in on_terminal(NO_COLOR="1") for code in colours)


def test_an_empty_window_is_explained(run: Run, flight: Path, plane: Path) -> None:
    """Where `--from`/`--to` leave nothing, the summary says what times the recording has."""
    text = run("edge-replay", "run", flight, "-e", plane, "--from", "+1000").stdout
    assert "nothing between --from and --to" in text and "+357.9" in text


# --- interruptions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["jsonl", "summary", "schema"])
def test_a_reader_that_leaves_is_no_error(root: Path, flight: Path, plane: Path, command: str) -> None:
    """`| head -1` gets its line; nothing is said on stderr, and the code is that of a broken pipe, not of a breach."""
    words = {
        "jsonl": ["edge-replay", "run", str(flight), str(flight), str(flight), "-e", str(plane), "-q", "--jsonl", "-"],
        "summary": ["edge-replay", "run", str(flight), "-e", str(plane)],
        "schema": ["edge-monitor", "schema"],
    }[command]
    process = subprocess.Popen(
        [str(BIN / words[0]), *words[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root, bufsize=0
    )
    assert process.stdout is not None and process.stderr is not None
    if command == "jsonl":
        assert process.stdout.read(1) == b"{"
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) in (0, 141), errors
    assert errors == b""


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A CSV of 150,000 rows whose value breaches in every other one, and its envelope."""
    folder = tmp_path_factory.mktemp("long")
    recording, loaded = folder / "long.csv", folder / "long.yaml"
    recording.write_text("t_s,v\n" + "".join(f"{i / 100:.2f},{i % 2}\n" for i in range(150_000)))
    loaded.write_text(
        "edge_monitor: 1\n"
        "envelope: {id: long, version: 1, vehicle: any}\n"
        "signals: {v: {topic: csv, field: v, max_age: 1 s}}\n"
        "checks: {low: {kind: bounds, signal: v, max: 0.5}}\n"
    )
    return recording, loaded


def test_ctrl_c_leaves_a_valid_journal(run: Run, long_recording: tuple[Path, Path], key: Path, tmp_path: Path) -> None:
    """SIGINT in the middle of a replay: code 130, one line, and a journal that verifies and ends without an end mark."""
    recording, loaded = long_recording
    journal, lines = tmp_path / "cut.db", tmp_path / "cut.jsonl"
    arguments = ["run", recording, "-e", loaded, "-q", "--journal", journal, "--key", key, "--jsonl", lines]
    process = subprocess.Popen(
        [str(BIN / "edge-replay"), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (lines.exists() and lines.stat().st_size > 100_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed == "" and errors.strip() == "edge-replay: interrupted; what was written so far is complete"
    report = run("edge-monitor", "journal", "verify", journal, "--key", key.with_suffix(".pub"))
    assert report.returncode == 0 and "without a clean end" in report.stdout
    told = [json.loads(line) for line in lines.read_text().splitlines()]  # every line is whole
    kept = run("edge-monitor", "journal", "show", journal, "--jsonl").stdout.splitlines()
    assert [event["t_ns"] for event in told] == [json.loads(line)["t_ns"] for line in kept]
    assert told[-1]["type"] != "monitor.stopped" and len(told) > 300


def test_ctrl_c_stops_a_survey(long_recording: tuple[Path, Path]) -> None:
    """`edge-replay check` stops at SIGINT too."""
    recording, loaded = long_recording
    process = subprocess.Popen(
        [str(BIN / "edge-replay"), "check", *[str(recording)] * 60, "-e", str(loaded)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for _ in range(20):  # as a person does: the first may come while libraries are loaded, some of which swallow it
            time.sleep(3)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
                break
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in errors


def test_warm_tells_a_terminal_how_far_it_is(root: Path, plane: Path) -> None:
    """On a terminal `warm` names what it compiles; elsewhere only the last line is printed, for what the envelope needs."""
    command = [str(BIN / "edge-monitor"), "warm", str(plane)]
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=theirs) as child:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # the terminal's other end is closed
            pass
        assert child.stdout is not None
        said = child.stdout.read().decode()
    os.close(ours)
    assert child.returncode == 0
    assert b"compiling the layout" in shown and b"compiling the engine" in shown
    assert said.startswith("2 kernels ready in ")
    piped = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert (piped.stderr, piped.stdout[:18]) == ("", "2 kernels ready in")
