"""A real headless Chromium, driven over the WebDriver protocol of Debian's chromium-driver; no package is needed for that."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

MISSING = "no browser here: apt-get install chromium chromium-driver"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
TAB, ENTER = "\ue004", "\ue007"


def is_here() -> bool:
    """Whether there is a browser, and what drives it."""
    return all(shutil.which(name) for name in ("chromium", "chromedriver"))


class Browser:
    """One session. ``scripts``: whether pages may run them; ``width``: of the window's content, CSS pixels."""

    def __init__(self, *, scripts: bool = True, width: int = 1280, height: int = 900) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="browser-")
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._driver.stdout is not None
        port = next(
            match[1] for line in self._driver.stdout if (match := re.search(r"successfully on port (\d+)", line))
        )
        self._http = HTTPConnection("127.0.0.1", int(port), timeout=300)  # a machine may stand still
        arguments = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            f"--user-data-dir={self._profile.name}", "--no-first-run", "--disable-background-networking",
        ]  # fmt: skip
        options: dict[str, Any] = {"args": arguments}
        if not scripts:
            options["prefs"] = {"profile.managed_default_content_settings.javascript": 2}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}, "acceptInsecureCerts": True}
        self._session = ""
        answer = self._do("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{answer['sessionId']}"
        self.size(width, height)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError, HTTPException, AssertionError):  # after a failure it may not be asked any more
            self._do("DELETE", "")
        self._http.close()
        self._driver.terminate()  # and takes its browser along
        self._driver.communicate()
        self._profile.cleanup()

    def size(self, width: int, height: int) -> None:
        """Give the content this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._do("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics})

    def media(self, kind: str) -> None:
        """Show pages as on a ``screen`` or in ``print``."""
        self._do("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"media": kind}})

    def open(self, url: str) -> None:
        """Load a page, whole."""
        self._do("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self._do("GET", "/url"))

    @property
    def title(self) -> str:
        """Of the page."""
        return str(self._do("GET", "/title"))

    def find(self, css: str) -> list[str]:
        """Elements, as handles."""
        found = self._do("POST", "/elements", {"using": "css selector", "value": css})
        return [one[_ELEMENT] for one in found]

    def text(self, css: str) -> str:
        """What is visible of the first element."""
        return str(self._do("GET", f"/element/{self.find(css)[0]}/text"))

    def click(self, css: str) -> None:
        """Click the first element."""
        self._do("POST", f"/element/{self.find(css)[0]}/click", {})

    def type(self, css: str, text: str) -> None:
        """Type into the first element."""
        self._do("POST", f"/element/{self.find(css)[0]}/value", {"text": text})

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._do("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def run(self, script: str, *arguments: object) -> Any:
        """What a function's body returns in the page."""
        return self._do("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def cookies(self, name: str) -> list[str]:
        """Values of the cookies of a name."""
        return [one["value"] for one in self._do("GET", "/cookie") if one["name"] == name]

    def log(self) -> list[str]:
        """What the console was told since the last call, warnings and worse."""
        found = self._do("POST", "/se/log", {"type": "browser"})
        return [one["message"] for one in found if one["level"] in ("WARNING", "SEVERE")]

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of the window; ``whole``: of all of the page."""
        params: dict[str, Any] = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            size = self.run("return [document.documentElement.clientWidth, document.documentElement.scrollHeight]")
            params["clip"] = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        answer = self._do("POST", "/goog/cdp/execute", {"cmd": "Page.captureScreenshot", "params": params})
        path.write_bytes(base64.b64decode(answer["data"]))

    def wait(self, script: str, seconds: float = 20) -> Any:
        """Wait until a function's body returns something true."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"in vain: {script}"
            time.sleep(0.05)
        return found

    def _do(self, method: str, path: str, body: object = None) -> Any:
        data = json.dumps(body) if body is not None else None
        self._http.request(method, f"{self._session}{path}", data, {"content-type": "application/json"})
        answer = json.loads(self._http.getresponse().read())["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(f"{answer['error']}: {answer['message'].splitlines()[0]}")
        return answer
