"""A page in headless Chromium, driven over its debugging protocol, and what the page asks for and complains about."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0")
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
SECONDS = 120


class Page:
    """An open page."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._asked = connection, 0
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser, and take note of the events until it answers."""
        self._asked += 1
        self._connection.send(json.dumps({"id": self._asked, "method": method, "params": parameters}))
        while (message := json.loads(self._connection.recv(timeout=SECONDS))).get("id") != self._asked:
            self._note(message)
        assert "error" not in message, message
        return message["result"]

    def value(self, expression: str) -> Any:
        """What ``expression`` is in the page; promises are waited for."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until ``expression`` is true."""
        end = time.monotonic() + SECONDS
        while not self.value(expression):
            assert time.monotonic() < end, f"{expression} does not come true; {self.complaints}"
            time.sleep(0.05)

    def press(self, key: str, *, code: int = 0) -> None:
        """A key, as a keyboard sends it."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The left button of a mouse, held from ``start`` to ``end`` in pixels of the window."""
        held = {"button": "left", "buttons": 1, "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], **held)
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=end[0], y=end[1], **held)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], **held)

    def picture(self, path: Path) -> None:
        """Save the whole page as a PNG."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(told["args"]))
            case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
                self.complaints.append(told["entry"]["text"])


def program() -> str:
    """Chromium on this machine; the test is skipped without one."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip("no Chromium on this machine: install it (apt-get install chromium) to test the page in a browser")
    return found


@contextmanager
def opened(path: Path, profile: Path, *, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """The page of the file ``path``, in a browser whose files lie in ``profile``."""
    command = [program(), *FLAGS, *QUIET, f"--user-data-dir={profile}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_address(profile / "DevToolsActivePort"), max_size=None, open_timeout=SECONDS) as connection:
            target = Page(connection).send("Target.createTarget", url="about:blank")["targetId"]
        port = (profile / "DevToolsActivePort").read_text().splitlines()[0]
        with connect(f"ws://127.0.0.1:{port}/devtools/page/{target}", max_size=None) as connection:
            page = Page(connection)
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.send(f"{domain}.enable")
            phone = width < 600
            size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
            page.send("Emulation.setDeviceMetricsOverride", **size)
            page.send("Page.navigate", url=path.resolve().as_uri())
            yield page
    finally:
        browser.terminate()
        try:
            browser.wait(20)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()


def _address(file: Path) -> str:
    end = time.monotonic() + SECONDS
    while not (file.is_file() and len(lines := file.read_text().splitlines()) == 2):
        assert time.monotonic() < end, "Chromium does not start"
        time.sleep(0.05)
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
