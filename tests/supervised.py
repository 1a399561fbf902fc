"""Programs under `otelsync run`, as real processes: started, waited for, and what they left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

OTELSYNC = [sys.executable, "-m", "otelsync.cli"]
PATIENCE = 180.0
"""Seconds that any of them may take. Only one that hangs takes as long."""

RECORDER = """
import os, signal, sys
got = open(sys.argv[1], "a", buffering=1)
numbers = [getattr(signal, name) for name in sys.argv[2:]]
for number in numbers:
    signal.signal(number, lambda number, frame: print(signal.Signals(number).name, file=got))
print("ready", os.getpid(), os.getpgrp(), file=got)
while True:
    signal.pause()
"""
"""A program that writes down which signals it gets."""


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of a program whose data is below `home`."""
    return {**os.environ, "OTELSYNC_HOME": str(home), **variables}


def run(home: Path, *arguments: str | Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """`otelsync run` with these arguments, to its end."""
    return subprocess.run(
        [*OTELSYNC, "run", *map(str, arguments)],
        env=environment(home, **variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def running(
    home: Path, *arguments: str | Path, stderr: IO[Any] | int | None = None, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """`otelsync run` with these arguments, killed at the end if it has not ended."""
    process = subprocess.Popen(
        [*OTELSYNC, "run", *map(str, arguments)],
        env=environment(home, **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if stderr is None else stderr,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE)


def script(directory: Path, code: str, name: str = "sync.py") -> Path:
    """A program with this code."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code, encoding="utf-8")
    return path
