"""The pages in a real headless Chromium: wide and narrow, with and without scripts, by keyboard alone, readable for weak eyes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import ENTER, MISSING, TAB, Browser, is_here
from conditions_world import YARD, covered
from pages_world import CLAIMED, DATA, ENVELOPE, HOSTILE_ROBOT, MODEL, World, world

pytestmark = pytest.mark.skipif(not is_here(), reason=MISSING)

#: Text against what is behind it, WCAG 2.1: 4.5 to 1, large text 3 to 1. Answers what falls short.
CONTRAST = """
const parts = text => { const found = text.match(/[\\d.]+/g).map(Number); return found.length > 3 ? found : [...found, 1]; };
const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = element => {
  for (let e = element; e; e = e.parentElement) {
    const fill = e.closest('svg') && e.tagName === 'text' ? e.parentElement.querySelector('rect') : null;
    if (fill) return parts(getComputedStyle(fill).fill);
    const colour = parts(getComputedStyle(e).backgroundColor);
    if (colour[3] === 1) return colour;
  }
  return [255, 255, 255, 1];
};
const found = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.getClientRects().length) continue;
  const style = getComputedStyle(element);
  const front = parts(element.tagName === 'text' ? style.fill : style.color);
  const [a, b] = [light(front), light(behind(element))].sort((x, y) => y - x);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  const ratio = (a + 0.05) / (b + 0.05);
  const name = element.className.baseVal ?? element.className;
  if (ratio < (large ? 3 : 4.5)) found.push(`${element.tagName} ${name}: ${ratio.toFixed(2)}`);
}
return [...new Set(found)];
"""
#: What a page must have whoever reads it: names for controls, one first heading, table heads, no id twice. Answers what it lacks.
NAMES = """
const found = [];
const all = css => [...document.querySelectorAll(css)];
for (const e of all('input:not([type=hidden]), select')) if (!e.labels.length) found.push('no label: ' + e.name);
for (const e of all('button, a')) if (!e.textContent.trim() && !e.querySelector('title')) found.push(e.outerHTML);
for (const e of document.querySelectorAll('thead th')) if (e.scope !== 'col') found.push('no scope: ' + e.textContent);
const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
if (new Set(ids).size < ids.length) found.push('an id twice');
if (document.querySelectorAll('h1').length !== 1) found.push('first headings: ' + document.querySelectorAll('h1').length);
if (!document.documentElement.lang) found.push('no language');
return found;
"""
WIDER = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A registry with its pages, and a packet."""
    found = world(tmp_path_factory.mktemp("pages"))
    covered(found)
    client = found.client("assurance")
    form = {"csrf": client.csrf("/fleet"), "log": found.logs["plane"], "first": "0", "end": "22"}
    assert client.ask("POST", "/packets", form).status == 303
    yield found
    found.serving.stop()


def paths(here: World) -> list[str]:
    """An example of every page."""
    log, lies = here.logs["plane"], here.logs[HOSTILE_ROBOT]
    return [
        "/fleet",
        "/robots/plane",
        here.robot(HOSTILE_ROBOT),
        "/missions",
        f"/logs/{log}/missions/0",
        f"/logs/{lies}/missions/2",
        "/episodes",
        "/episodes?kind=mrm",
        f"/logs/{log}/records",
        f"/logs/{lies}/records",
        f"/logs/{log}/records/6",
        f"/logs/{lies}/records/3",
        "/packets",
        "/packets/1",
        "/people",
        "/audit",
        "/help",
        "/nowhere",
        "/catalogue",
        f"/catalogue/{DATA}",
        f"/catalogue/{MODEL}",
        "/claims",
        f"/claims/{ENVELOPE}",
        f"/claims/{CLAIMED}",
        "/coverage",
        f"/coverage/{YARD}",
        f"/coverage/{YARD}?status=declared-but-unseen",
        f"/coverage/{YARD}/cell?weather=low_visibility&light=day",
        f"/coverage/{YARD}/cell?told=no",
        f"/coverage/{ENVELOPE}",
        "/exceptions",
        "/exceptions/1",
        f"/logs/{log}/records/6/lineage",
    ]


def signed_in(here: World, browser: Browser, person: str = "assurance") -> None:
    """Sign in by the form."""
    here.serving.site.access.forget()
    browser.open(here.serving.url)
    browser.type("#token", here.tokens[person])
    browser.click("form.stack button")
    browser.wait("return location.pathname === '/fleet' && document.readyState === 'complete'")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_every_page_wide_and_narrow(here: World, scripts: bool) -> None:
    """At 1280 and 400 px nothing runs out at the side, the console stays quiet, contrast is AA, controls have names."""
    with Browser(scripts=scripts) as browser:
        browser.open(f"{here.serving.url}sign-in")
        assert browser.run(CONTRAST) == [] and browser.run(NAMES) == []
        signed_in(here, browser)
        for path in paths(here):
            for width in (1280, 400):
                browser.size(width, 900)
                browser.open(here.serving.url + path[1:])
                assert browser.run(WIDER) <= 0, (path, width)
                assert browser.run(CONTRAST) == [], (path, width)
            names = browser.run(NAMES)
            assert names == [], (path, names)
            said = [one for one in browser.log() if path != "/nowhere"]
            assert said == [], path


def walk(browser: Browser, wanted: str) -> None:
    """Press Tab until the focus is on what has these words, where it can be seen."""
    for _ in range(120):
        browser.press(TAB)
        words, seen = browser.run(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "const words = (e.textContent || '').trim() || (e.querySelector('title') || {}).textContent || e.id;"
            "return [words, s.outlineStyle !== 'none' || e.closest('svg') !== null];"
        )
        if wanted in words:
            assert seen, words
            return
    raise AssertionError(f"no focus came to {wanted!r} on {browser.url}")


def test_from_fleet_to_bytes_by_keyboard_alone(here: World) -> None:
    """Sign-in, mission, record and packet are reached with Tab and Enter; where the focus is can be seen."""

    here.serving.site.access.forget()
    with Browser() as browser:
        browser.open(here.serving.url)
        assert browser.run("return document.activeElement.id") == "token"
        browser.press(*here.tokens["assurance"])
        browser.press(ENTER)
        browser.wait("return location.pathname === '/fleet' && document.readyState === 'complete'")
        walk(browser, "open mission of plane")
        browser.press(ENTER)
        browser.wait("return location.pathname.includes('/missions/') && document.readyState === 'complete'")
        mission = browser.url
        walk(browser, "airspeed, from +30.0 s")
        browser.press(ENTER)
        browser.wait("return location.pathname.endsWith('/records/6') && document.readyState === 'complete'")
        assert "Proven" in browser.text(".box") and "000000" in browser.text(".hex")
        browser.open(mission)
        walk(browser, "Export evidence packet")
        browser.press(ENTER)
        browser.wait("return location.pathname.startsWith('/packets/') && document.readyState === 'complete'", 60)
        assert "INCOMPLETE: everything here holds" in browser.text(".box")


def test_from_coverage_to_the_record_behind_a_cell_by_keyboard_alone(here: World) -> None:
    """Matrix, cell and the record that tells its time are reached with Tab and Enter; a table that is too wide is scrolled so."""
    with Browser(width=400) as browser:
        signed_in(here, browser)
        browser.open(f"{here.serving.url}coverage")
        walk(browser, "yard-night@2")
        browser.press(ENTER)
        browser.wait(f"return location.pathname === '/coverage/{YARD}' && document.readyState === 'complete'")
        walk(browser, "weather / light")
        assert browser.run("return document.activeElement.scrollWidth > document.activeElement.clientWidth")
        walk(browser, "low visibility, daylight: 10 min")
        browser.press(ENTER)
        browser.wait("return location.pathname.endsWith('/cell') && document.readyState === 'complete'")
        walk(browser, "record 10")
        browser.press(ENTER)
        browser.wait("return location.pathname.endsWith('/records/10') && document.readyState === 'complete'")


def test_markup_of_a_robot_runs_nowhere(here: World) -> None:
    """On every page of the hostile robot no dialogue opens, nothing it named is loaded, its texts are read as they are."""
    lies = here.logs[HOSTILE_ROBOT]
    with Browser() as browser:
        signed_in(here, browser)
        places = (f"/logs/{lies}/missions/0", f"/logs/{lies}/records", f"/logs/{lies}/records/5", "/episodes")
        for path in (here.robot(HOSTILE_ROBOT), *places):
            browser.open(here.serving.url + path[1:])
            assert browser.run("return document.querySelectorAll('img, script:not([src^=\"/static/\"])').length") == 0
            assert "<script>alert(1)</script>" in browser.run("return document.body.textContent")
            assert browser.log() == [], path


def test_a_page_on_paper_leaves_out_what_is_for_the_screen(here: World) -> None:
    """Printed, navigation, filters and buttons are gone, and what was said stays."""
    with Browser() as browser:
        signed_in(here, browser)
        browser.open(f"{here.serving.url}logs/{here.logs['plane']}/missions/0")
        browser.media("print")
        shown = browser.run(
            "const all = [...document.querySelectorAll('nav, .filters, .actions, .files')];"
            "return all.filter(e => e.getClientRects().length).length;"
        )
        assert shown == 0 and browser.run("return document.querySelectorAll('svg.row')[0].getClientRects().length") == 1
