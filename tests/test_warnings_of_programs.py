"""Warnings filters that are meant for the program: otelsync's own processes, and what it does in the program, go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from supervised import OTELSYNC, environment, run, script
from trace_tree import draw, spans_in_store

PROGRAM = "import otelsync\nwith otelsync.pipeline('p'): pass"
WARNS = """
import sqlite3, sys, warnings
connect = sqlite3.connect
def warning(*arguments, **options):
    warnings.warn("as a newer Python might", DeprecationWarning, stacklevel=2)
    return connect(*arguments, **options)
if sys.argv[:1] == ["-m"]:
    sqlite3.connect = warning
"""
"""A ``sitecustomize`` that has the standard library warn in processes of otelsync's commands."""


@pytest.mark.parametrize("filters", ["error", "always"])
def test_our_own_processes_go_on(tmp_path: Path, filters: str) -> None:
    """The supervisor ships, and the commands show, whatever the filters do with warnings."""
    site = script(tmp_path / "site", WARNS, "sitecustomize.py").parent
    variables = {"PYTHONWARNINGS": filters, "PYTHONPATH": str(site)}
    ended = run(tmp_path, sys.executable, "-c", PROGRAM, **variables)
    assert ended.returncode == 0, ended.stderr
    assert "Warning" not in ended.stderr
    assert draw(spans_in_store(tmp_path / "store.db"))
    for command in (["list"], ["show"], ["ledger"], ["ship", "--once"]):
        shown = subprocess.run(
            [*OTELSYNC, *command],
            env=environment(tmp_path, **variables),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (shown.returncode, shown.stderr) == (0, ""), command
