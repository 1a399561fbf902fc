"""Every module can be imported on every system, and configure() raises on none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from other_systems import MACOS, WINDOWS
from supervised import environment

LEFT_OUT = {
    "otelsync.cli.__main__": "it is the command itself",
    "otelsync.journal._native": "the C extension is for Linux",
}

IMPORT_ALL = f"""
import importlib, pkgutil
import otelsync
for module in pkgutil.walk_packages(otelsync.__path__, "otelsync."):
    if not module.name.startswith({tuple(LEFT_OUT)!r}):
        importlib.import_module(module.name)
otelsync.configure(log_format="json", service_name="svc")
with otelsync.pipeline("short"), otelsync.repo("acme/api"), otelsync.item("order", 1):
    otelsync.get_logger("app").info("said")
print(otelsync.flush(60), otelsync.shutdown(60))
"""


@pytest.mark.parametrize("system", [WINDOWS, MACOS], ids=["windows", "macos"])
def test_every_module_can_be_imported_and_configure_works(tmp_path: Path, system: str) -> None:
    """Without fcntl, termios, resource, flags of mmap, fork() or its hooks nothing raises, and records are rendered."""
    ended = subprocess.run(
        [sys.executable, "-c", system + IMPORT_ALL],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    *records, last = ended.stdout.splitlines()
    assert last == "True True"
    assert any('"event":"said"' in record for record in records)
