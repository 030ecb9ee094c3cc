"""Take the pictures of docs/registry.md anew, of the registry that `make demo` leaves (or another, the argument).

It works on a copy, and needs Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import MISSING, Browser, is_here  # noqa: E402 (from the tests' folder)
from conditions_world import YARD, covered  # noqa: E402
from pages_world import world  # noqa: E402

from edge_registry.house import open_house  # noqa: E402
from edge_registry.web.access import grant  # noqa: E402
from edge_registry.web.serving import Serving, parse_address, site  # noqa: E402

PICTURES = Path(__file__).parent / "pictures"
LARGEST = 150_000  #: bytes of one


def take(registry: Path) -> None:
    """Serve the registry, sign in, and follow the guide."""
    pages = site(open_house(registry), None)
    with pages.store.own() as tx:
        token = grant(tx, "erin", "screenshots", 1, int(time.time()))[1]
    serving = Serving(pages, parse_address("127.0.0.1:*"))
    serving.follower.catch_up()
    serving.start()
    PICTURES.mkdir(exist_ok=True)
    try:
        with Browser() as browser:
            follow(browser, serving.url, token)
    finally:
        serving.stop()


def conditions(folder: Path) -> None:
    """Coverage, of two rovers that the tests have: the demo's flight measures no conditions."""
    folder.mkdir()
    made = world(folder, missions=False)
    covered(made)
    try:
        with Browser() as browser:
            browser.open(f"{made.serving.url}sign-in")
            browser.type("#token", made.tokens["assurance"])
            browser.click("form.stack button")
            browser.open(f"{made.serving.url}coverage/{YARD}")
            picture(browser, "coverage", height=900)
    finally:
        made.serving.stop()


def picture(browser: Browser, name: str, width: int = 1280, height: int = 720) -> None:
    """A picture of the page."""
    browser.size(width, height)
    path = PICTURES / f"{name}.png"
    browser.picture(path)
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size} bytes")
    if path.stat().st_size > LARGEST:
        sys.exit(f"{path.name} is larger than {LARGEST} bytes: show less of the page")


def follow(browser: Browser, url: str, token: str) -> None:
    """Each step of the guide, and its picture."""
    browser.open(f"{url}sign-in")
    picture(browser, "sign_in", height=480)
    browser.type("#token", token)
    browser.click("form.stack button")
    picture(browser, "fleet", height=480)
    browser.click("a[href*='/missions/']")
    mission = browser.url
    picture(browser, "mission", height=1130)
    picture(browser, "mission_narrow", 400, 900)
    browser.size(1280, 900)

    def segment(label: str) -> str:
        found = "[...document.querySelectorAll('svg a')].find(a => a.textContent.includes(arguments[0]))"
        return str(browser.run(f"return {found}.getAttribute('href')", f"{label}, from"))

    fence, airspeed = segment("fence"), segment("airspeed_low")
    browser.open(url.rstrip("/") + fence)
    picture(browser, "record", height=900)
    browser.run("document.getElementById('proof').scrollIntoView()")
    picture(browser, "proof", height=620)
    browser.open(f"{url.rstrip('/')}{airspeed}/signals")
    browser.wait("return document.querySelector('[data-shown=yes] canvas')", 60)
    picture(browser, "signals", height=1000)
    browser.open(mission)
    browser.run("[...document.querySelectorAll('form[action=\"/packets\"]')][0].querySelector('button').focus()")
    browser.press("\ue007")
    browser.wait("return /packets.[0-9]+$/.test(location.pathname) && document.readyState === 'complete'", 120)
    picture(browser, "packet", height=620)


def main() -> None:
    """Copy, serve, take."""
    if not is_here():
        sys.exit(f"screenshots: {MISSING}")
    registry = Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo/registry")
    if not (registry / "registry.db").exists():
        sys.exit(f"screenshots: {registry} is no registry with a database; run 'make demo' first")
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "registry"
        shutil.copytree(registry, copy)
        take(copy)
        conditions(Path(name) / "rovers")


if __name__ == "__main__":
    main()
