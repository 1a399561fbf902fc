"""A real browser: what a page looks like to it after it has loaded, and its scripts have run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

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


class Browser:
    """Chromium, with a profile of its own in `directory`."""

    def __init__(self, program: str, directory: Path) -> None:
        self._command = [program, *_OPTIONS, f"--user-data-dir={directory / 'profile'}"]

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
