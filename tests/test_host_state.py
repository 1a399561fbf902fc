"""What a process has one of stays the program's: hooks, filters, handlers, limits, descriptors, random numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from host_state import MODES, SDK_WARNINGS

PROGRAM = Path(__file__).with_name("host_state.py")
WHILE = {
    "descriptors",
    "threads",
    "methods of Logger: callHandlers",
    "root logger",
    SDK_WARNINGS,
}
"""Is changed while otelsync is in use: its files, its shipper, where it looks at log records, what shows them, and a
filter of the SDK's warnings that come again and again."""
UNDER_RUN = {
    "descriptors",
    "importers",
    "environment",
    SDK_WARNINGS,
}
"""Differs under `otelsync run` before the program's first line."""


@cache
def seen(mode: str, home: Path) -> dict[str, dict[str, Any]]:
    command = [sys.executable, str(PROGRAM), mode]
    if mode == "run":
        command = [sys.executable, "-m", "otelsync.cli", "run", *command]
    environment = {**os.environ, "OTELSYNC_HOME": str(home), "OTELSYNC_REPORTS": "off"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, dict[str, Any]] = json.loads(next(line for line in ended.stdout.split("\n") if "before" in line))
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.mark.parametrize("mode", MODES)
def test_little_is_changed_and_all_of_it_is_given_back(mode: str, home: Path) -> None:
    """After shutdown() a process is as it was before configure()."""
    found = seen(mode, home)
    assert found["while"].keys() <= WHILE
    assert found["after"].keys() <= ({"descriptors"} if mode == "run" else set())


def test_a_program_under_run_begins_as_it_does_alone(home: Path) -> None:
    """Signals, masks, limits, streams and hooks are those that the program would have found."""
    alone, under_run = seen("plain", home)["before"], seen("run", home)["before"]
    assert {name for name in alone if alone[name] != under_run[name]} <= UNDER_RUN


@pytest.mark.parametrize("first", ["otelsync.configure()", "otelsync.get_logger().info('x')", "otelsync.instrument()"])
def test_random_numbers_are_the_program_s(first: str, tmp_path: Path) -> None:
    """A seeded program draws what it always has, though packages that otelsync imports draw as well."""
    program = f"import random; random.seed(7); import otelsync; {first}; print('drawn', random.random())"
    environment = {**os.environ, "OTELSYNC_HOME": str(tmp_path), "OTELSYNC_SHIP": "off", "LOG_FORMAT": "console"}
    command = [sys.executable, "-c", program]
    drawn = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "drawn 0.32383276483316237" in drawn
