"""Mistakes in formulas and expressions: file, line, column and the fix, however the text stands in the YAML."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_monitor.core.signals import Signal
from edge_monitor.envelope import EnvelopeError, loads
from edge_monitor.envelope.formulas import FormulaError, parse_expression, parse_formula

BASE = """\
edge_monitor: 1
envelope: {id: test, version: 1, vehicle: rover}
signals:
  speed: {topic: /odom, field: v, unit: m/s, max_age: 1 s}
  height: {topic: /odom, field: h, unit: m, max_age: 1 s}
  contact: {topic: /contact, field: f, max_age: 1 s}
  mode: {topic: /mode, field: m, max_age: 1 s, values: {MANUAL: 0, AUTO: 1}}
  word: {topic: /state, field: data, max_age: never}
"""


def marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without its marks, and the line and column of each ``▸``."""
    places = []
    while (at := text.find("▸")) >= 0:
        places.append((text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)))
        text = text[:at] + text[at + 1 :]
    return text, places


def problems(text: str) -> list[str]:
    """The lines of the errors of a file, without its name."""
    with pytest.raises(EnvelopeError) as caught:
        loads(text.encode())
    return [line.removeprefix("<envelope>:") for line in str(caught.value).splitlines()]


def only_problem(text: str, expected: str) -> None:
    """The file's only problem says this, and stands at the mark."""
    plain, [(line, column)] = marked(text)
    [found] = problems(plain)
    assert found.startswith(f"{line}:{column}: ") and expected in found


COMMAND = f"""\
{BASE}\
  wrong_unit: {{expr: "speed - ▸3 V", unit: m/s, max_age: 1 s}}
  unknown: {{expr: "abs(▸sped)", unit: m/s, max_age: 1 s}}
  unclosed: {{expr: "lag▸(speed, 200 ms", unit: m/s, max_age: 1 s}}
  reversed: {{expr: "lag(speed, ▸200) * contact", unit: m/s, max_age: 1 s}}
  declared: {{expr: "diff(speed)", unit: ▸m/s, max_age: 1 s}}
checks:
  unit: {{kind: formula, formula: "historically[0 s, 2 s](speed <= ▸0.3 V)"}}
  signal: {{kind: formula, formula: "historically[0 s, 2 s](▸sped <= 0.3 m/s)"}}
  window:
    kind: formula
    formula: >-
      once(contact > 0)
      implies historically▸[2 s, 0 s](speed <= 0.3 m/s)
  bracket: {{kind: formula, formula: "historically[0 s, 2 s]▸(speed <= 0.3 m/s"}}
"""
TOLD = [
    "signals.wrong_unit.expr: takes the difference of `m/s` and `V`: write it in `m/s`",
    "signals.unknown.expr: no signal is named `sped` (did you mean `speed`?)",
    "signals.unclosed.expr: this `(` is never closed: a `)` is missing",
    "signals.reversed.expr: a duration needs its unit: `200 s`? (units: ns us ms s min h)",
    "signals.declared.unit: `expr` is in `m/s2`, declared as `m/s`: write `unit: m/s2`",
    "checks.unit.formula: compares `m/s` with `V`: write it in `m/s`",
    "checks.signal.formula: no signal is named `sped` (did you mean `speed`?)",
    "checks.window.formula: the window is reversed: write `[0 s, 2 s]`",
    "checks.bracket.formula: this `(` is never closed: a `)` is missing",
]


def test_the_command_names_file_line_column_and_fix(tmp_path: Path) -> None:
    """`edge-monitor check FILE` ends with 3 and one line a mistake: wrong units, unknown signals, windows, brackets."""
    text, places = marked(COMMAND)
    file = tmp_path / "robot.yaml"
    file.write_text(text)
    command = [Path(sys.executable).parent / "edge-monitor", "check", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 3 and done.stdout == ""
    told = [f"{file}:{line}:{column}: {what}" for (line, column), what in zip(places, TOLD, strict=True)]
    assert done.stderr.splitlines() == told


FORMULAS = [
    ("speed < ▸1 V", "compares `m/s` with `V`: write it in `m/s`"),
    ("speed < ▸height", "compares `m/s` with `m`: both need one unit"),
    ("contact > ▸3 N", "compares no unit with `N`: leave it out, or give `contact` its `unit`"),
    ("speed > ▸contact", "compares `m/s` with no unit: give `contact` its `unit` in `signals`"),
    ("speed + ▸height > 3", "adds `m/s` and `m`: both need one unit"),
    ("abs(speed * speed - ▸height) < 1", "takes the difference of `m2/s2` and `m`"),
    ("min(speed, ▸height) < 1", "compares `m/s` with `m`"),
    ("▸sped < 1", "no signal is named `sped` (did you mean `speed`?)"),
    ("speed < 1 and mode == ▸ATUO", "signal `mode` has no state `ATUO` (did you mean `AUTO`?)"),
    ("word == ▸auto", "no signal is named `auto` (is it a text of `word`? quote it: 'auto')"),
    ("▸'auto' < speed", "a text can only be compared with a signal: `mode == 'AUTO'`"),
    ("abs(speed) == ▸'auto'", "a text can only be compared with a signal"),
    ("once▸[3 s, 1 s](contact > 0)", "the window is reversed: write `[1 s, 3 s]`"),
    ("contact > 0 since▸[3 s, 1 s] speed > 1", "the window is reversed: write `[1 s, 3 s]`"),
    ("once[0, ▸3](contact > 0)", "a duration needs its unit: `3 s`?"),
    ("once[0, ▸3 m](contact > 0)", "unknown unit `m`"),
    ("once[0, ▸speed](contact > 0)", "expected a duration such as `200 ms`, got `speed`"),
    ("rise▸[0 s, 1 s](contact > 0)", "`rise` takes no window"),
    ("▸historicaly(contact > 0)", "there is no function `historicaly` (did you mean `historically`?)"),
    ("▸once > 1", "`once` needs what it is about in brackets: `once(…)`"),
    ("▸lag(speed) > 1", "`lag` takes 2 in its brackets, got 1"),
    ("▸min(speed) > 1", "`min` takes at least 2 in its brackets, got 1"),
    ("▸speed", "`speed` is a number, not a condition: compare it, as in `… <= 0.3`"),
    ("▸speed + 1", "this is a number, not a condition"),
    ("not ▸speed", "`speed` is a number, where a condition is needed: compare it, as in `… > 0`"),
    ("abs(▸contact > 0) > 1", "this is a condition, where a number is needed"),
    ("historically▸(speed < 1", "this `(` is never closed: a `)` is missing"),
    ("historically▸[0 s, 1 s(speed < 1)", "this `[` is never closed: a `]` is missing"),
    ("speed < 1▸)", "this `)` closes nothing: remove it"),
    ("speed < 1 and▸", "ends too early: a value or condition is missing"),
    ("speed < ▸< 1", "a value or condition is missing before `<`"),
    ("speed < 1 ▸contact > 0", "an operator such as `and`, `<=` or `+` is missing before `contact`"),
    ("0 < speed ▸< 1", "one comparison at a time: write `a < b and b < c`"),
    ("contact > 0 since speed > 1 ▸since contact > 1", "which `since` first? put one of them in brackets"),
    ("contact ▸= 0", "a comparison is written `==`"),
    ("contact > 0 ▸&& speed > 1", "write `and`, `or`, `not`"),
    ("contact > 0 ▸; speed > 1", "does not belong into a formula"),
    ("mode == ▸'AUTO", "this quote is never closed"),
    ("speed < ▸1e999", "is too large"),
    ("▸" + " and ".join(["contact > 0"] * 400), "is longer than 4096 characters: split it into several checks"),
    ("not " * 64 + "▸contact > 0", "has more than 500 parts, or 64 inside each other"),
]


@pytest.mark.parametrize(("formula", "expected"), FORMULAS, ids=[row[0][:40] for row in FORMULAS])
def test_mistakes_in_a_formula(formula: str, expected: str) -> None:
    """Each mistake in a formula is the only problem of its file, at the place of the mark."""
    only_problem(f'{BASE}checks:\n  c:\n    kind: formula\n    formula: "{formula}"\n', expected)


EXPRESSIONS = [
    ("speed + ▸height", "adds `m/s` and `m`: both need one unit"),
    ("▸speed > 1", "this is a condition, not a number: a derived signal is a number"),
    ("▸3 m/s", "names no signal: nothing would ever change it"),
    ("▸d + speed", "`d` is made of itself"),
    ("▸historically[0 s, 1 s](speed > 1)", "this is a condition, not a number"),
    ("lag(▸sped, 1 s)", "no signal is named `sped` (did you mean `speed`?)"),
    ("lag(speed, ▸-1 s)", "expected a duration such as `200 ms`, got `-1 s`"),
]


@pytest.mark.parametrize(("text", "expected"), EXPRESSIONS, ids=[row[0] for row in EXPRESSIONS])
def test_mistakes_in_an_expression(text: str, expected: str) -> None:
    """Each mistake in a derived signal is the only problem of its file, at the place of the mark."""
    check = "checks:\n  c: {kind: bounds, signal: d, max: 3}\n"
    only_problem(f'{BASE}  d: {{expr: "{text}", unit: m/s, max_age: 1 s}}\n{check}', expected)


def test_a_profile_is_told_its_own_place() -> None:
    """A formula that a risk profile puts in the place of another is looked for in the profile."""
    checks = 'checks:\n  c: {kind: formula, formula: "speed < 1 m/s"}\n'
    profile = 'mission:\n  risk: medium\n  profiles:\n    high:\n      c: {formula: "speed < ▸1 V"}\n'
    only_problem(f"{BASE}{checks}{profile}", "mission.profiles.high.c.formula: compares `m/s` with `V`")


# How a text may stand in YAML. `▸` marks the place that the problem must name.
STYLES = {
    "plain": "speed < 1 and ▸sped > 0",
    "plain over lines": "speed < 1\n      and contact > 0\n\n      and ▸sped > 0",
    "single quotes": "'mode == ''AUTO'' and ▸sped > 0'",
    "single quotes over lines": "'mode == ''AUTO''\n\n      and ▸sped > 0'",
    "double quotes": '"mode == \\"AUTO\\" and ▸sped > 0"',
    "escapes": "\"mode \\x3d= 'AUTO'\\tand\\n\\u0028▸sped > 0)\"",
    "escaped character itself": '"speed < 1 and ▸\\x73ped > 0"',
    "escaped line ends": '"speed < 1 \\\n      and \\\n      \\ ▸sped > 0"',
    "literal": "|\n      speed < 1 and\n        ▸sped > 0",
    "literal, first line": "|\n      ▸sped > 0\n      and speed < 1",
    "literal, kept": "|+\n\n      speed < 1 and\n      ▸sped > 0\n\n",
    "literal with indent and comment": "|2- # why\n        speed < 1 and\n      ▸sped > 0",
    "folded": ">\n      speed < 1 and\n      contact > 0 and\n\n      ▸sped > 0",
    "folded, more indented": ">-\n      speed < 1 and (\n        contact > 0 and\n          ▸sped > 0\n      )",
    "no ASCII before": "\"word != 'größer ≥ µ' and ▸sped > 0\"",
}


@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_yaml(style: str) -> None:
    """Quotes, escapes, block scalars and folding lie between a formula and its file; the column is the file's."""
    expected = "checks.c.formula: no signal is named `sped` (did you mean `speed`?)"
    only_problem(f"{BASE}checks:\n  c:\n    kind: formula\n    formula: {STYLES[style]}\n", expected)


def test_the_end_of_a_block() -> None:
    """What is missing at the end of a block scalar is missing after its last character."""
    text = "checks:\n  c:\n    kind: formula\n    formula: |\n      speed < 1\n      and▸\n\n    severity: marginal\n"
    only_problem(BASE + text, "ends too early: a value or condition is missing")


WORDS = st.lists(st.sampled_from(("speed < 1 m/s", "(contact > 0)", "mode != MANUAL", "once(contact > 0)")), max_size=4)


@st.composite
def scalars(draw: st.DrawFn) -> str:
    """A formula with one unknown signal, marked, in some style and folded anywhere between its words."""
    before, after = draw(WORDS), draw(WORDS)
    words = " and ".join([*before, "▸sped > 0", *after]).split(" ")
    style = draw(st.sampled_from(("|", ">", "|-", ">+", '"', "'", "")))
    text = words[0]
    for word in words[1:]:
        gap = draw(st.sampled_from((" ", " ", "  ", "\n", "\n\n", "\n\n\n" if style else "\n")))
        deeper = "  " * draw(st.integers(0, 2)) if style[:1] in "|>" and style else ""
        text += (gap + "      " + deeper if "\n" in gap else gap) + word
    if style in ('"', "'", ""):
        return style + text + style
    return f"{style}\n      {text}"


@settings(max_examples=200)
@given(scalars())
def test_any_style_of_any_formula(scalar: str) -> None:
    """Wherever a formula is broken into lines, the unknown signal is found where it stands."""
    only_problem(f"{BASE}checks:\n  c:\n    kind: formula\n    formula: {scalar}\n", "no signal is named `sped`")


KNOWN = {
    "x": Signal("x", "/t", unit="m"),
    "mode": Signal("mode", "/t", values=(("AUTO", 1.0),)),
}
PIECES = (
    "x", "mode", "y", "AUTO", "'AUTO'", '"', "'", "historically", "once", "since", "prev", "rise", "fall", "diff", "lag",
    "abs", "min", "max", "and", "or", "not", "implies", "->", "[", "]", "(", ")", ",", "0 s", "3 m", "2 ms", "1e400", "1.",
    ".5", "7", "<", "<=", "==", "!=", "=", "+", "-", "*", "/", "[0 s, 1 s]", "[2 s, 1 s]", "(x > 1)", "\n", "%", "é", "\x00",
)  # fmt: skip


@settings(max_examples=500)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join) | st.text(max_size=40))
@example("(" * 200 + "x > 1" + ")" * 200)
@example("-" * 4000 + "x > 1")
@example("1e999 * x > 1")
def test_any_text_is_read_or_refused_at_a_place(text: str) -> None:
    """Any text is a formula or gives one error with a place in it and no more than one line; the same for expressions."""
    for read in (parse_formula, parse_expression):
        try:
            assert read(text, KNOWN).term.signals() or read is parse_formula
        except FormulaError as error:
            assert 0 <= error.offset <= len(text)
            assert re.fullmatch(r"[^\n]+", str(error))
