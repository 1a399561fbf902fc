"""The demo through the four servers: ``make demo STACK=1``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from collector.addresses import Shown, shown, variables
from collector.stack import ROOT, Ports
from otelsync.store.runs import find_run, open_store

PATIENCE: Final = 60.0
"""Seconds until everything of a run is to be seen in every server."""
HOME: Final = ROOT / ".demo"


def run(ports: Ports, home: Path = HOME) -> int:
    """Run the demo, and print where each server shows its run; returns the demo's exit status."""
    # A program for itself, as a user's is: with its end, the last of it is sent.
    done = subprocess.run(
        [sys.executable, "-m", "examples.github_sync", "demo", "--home", home],
        env={**os.environ, **variables(ports)},
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        return done.returncode
    with open_store(home / "otelsync" / "store.db") as store:
        trace_id = find_run(store, None).trace_id
    print("\nin the servers")
    for what, page, number in _settled(ports, trace_id):
        print(f"  {what:<8} {number:>4}  {page}")
    return 0


def _settled(ports: Ports, trace_id: str) -> list[Shown]:
    """Return what is shown as soon as it grows no more: servers show things a moment after they took them."""
    deadline = time.monotonic() + PATIENCE
    before: list[Shown] = []
    now = list(shown(ports, trace_id))
    while (now != before or not all(each.number for each in now)) and time.monotonic() < deadline:
        time.sleep(2)
        before, now = now, list(shown(ports, trace_id))
    return now
