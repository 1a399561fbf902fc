"""Programs that root starts and that become another user, as servers and workers do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65534
root_alone = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

PRELUDE = f"""
import concurrent.futures.thread, importlib, os, pkgutil, sys, tempfile
import otelsync, otelsync.cli

def become_nobody():
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})

def load_all():  # the interpreter itself may be in a home of root's
    for module in pkgutil.walk_packages(otelsync.__path__, "otelsync."):
        if not module.name.endswith(("__main__", "sitecustomize")):
            try:
                importlib.import_module(module.name)
            except ImportError:
                pass
    with tempfile.TemporaryDirectory() as home:
        otelsync.configure(home=home, journal_dir=home + "/journal", ship="off")
        work(1)
        otelsync.shutdown()

def command(*arguments):
    try:
        otelsync.cli.main(list(arguments), standalone_mode=False)
    except SystemExit as ended:
        print("exit", ended.code)

def work(count, name="work"):
    for _ in range(count):
        with otelsync.stage(name):
            pass
"""


def program(code: str, *, timeout: float = 300, **environment: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program that has `become_nobody`, `load_all`, `command` and `work`, to its end."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        env={**os.environ, "LOG_LEVEL": "WARNING", **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
