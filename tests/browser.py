"""A real browser: what a page looks like to it after it has loaded, and its scripts have run."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import pytest
import websocket

PATIENCE: Final = 120.0

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class Page:
    """A page that is open in Chromium, driven by its DevTools protocol."""

    def __init__(self, target: str) -> None:
        self._socket = websocket.create_connection(target, timeout=PATIENCE)
        self._number = 0

    def go(self, url: str) -> None:
        """Go to an address, and wait until the page is there."""
        self._call("Page.enable")
        self._call("Page.navigate", url=url)
        self.until("document.readyState == 'complete' && location.href != 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        said = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until a JavaScript expression holds."""
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, f"it never held: {condition}"
            time.sleep(0.05)

    def text(self) -> str:
        """Return what a person reads on the page."""
        return str(self.evaluate("document.body.innerText"))

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]


class Browser:
    """Chromium, with a profile of its own in `directory`."""

    def __init__(self, program: str, directory: Path) -> None:
        self._profile = directory / "profile"
        self._command = [program, *_OPTIONS, f"--user-data-dir={self._profile}"]

    @contextmanager
    def page(self, url: str) -> Iterator[Page]:
        """Open a page, and keep it open for the length of the block."""
        command = [*self._command, "--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as chromium:
            try:
                with closing(Page(self._target())) as page:
                    page.go(url)
                    yield page
            finally:
                chromium.terminate()

    def _target(self) -> str:
        """Return the address by which the first page is driven."""
        told = self._profile / "DevToolsActivePort"
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError, ValueError, IndexError, KeyError):
                port = int(told.read_text().splitlines()[0])
                listed = json.loads(urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE).read())
                return str(next(each["webSocketDebuggerUrl"] for each in listed if each["type"] == "page"))
            assert time.monotonic() < deadline, "Chromium did not begin"
            time.sleep(0.05)

    def dom(self, page: Path) -> str:
        """The document as it stands after loading, as HTML."""
        return self._dumped(page.as_uri())

    def dom_at(self, address: str) -> str:
        """The document at an address, when it has asked for what it shows and has drawn it."""
        return self._dumped("--virtual-time-budget=60000", address)  # milliseconds; requests stop that clock

    def _dumped(self, *arguments: str) -> str:
        command = [*self._command, "--dump-dom", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    """Skips the test only where no browser is installed: on Debian, ``apt-get install chromium``."""
    for name in _NAMES:
        program = shutil.which(name)
        if program is not None:
            return Browser(program, tmp_path)
    pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
