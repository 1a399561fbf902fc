"""A program may close any descriptor, and open files that get its number: the journal has none, and goes on by path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trace_tree

RECORD = """
import os, sys, otelsync
otelsync.configure(service_name="x", log_level="CRITICAL", ship="off")
def record(count):
    for number in range(count):
        with otelsync.pull_request(number) as change: change.set(action="created", padding="x" * 200)
"""


def run(code: str, home: Path, *, pure: bool, shell: str = "") -> str:
    environment = {**os.environ, "OTELSYNC_HOME": str(home), "OTELSYNC_PURE_PYTHON": "1" if pure else ""}
    command = ["sh", "-c", f'exec "$0" "$@" {shell}', sys.executable, "-c", RECORD + code, str(home)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=300, check=False)
    assert done.returncode == 0
    return done.stdout


def recorded(home: Path) -> int:
    return len(list(trace_tree.spans_in_journal(home / "journals" / "x")))


@pytest.mark.parametrize("pure", [False, True])
def test_a_program_that_closes_all_descriptors(tmp_path: Path, pure: bool) -> None:
    """Closed at any moment, and again by a forked child: its own files are as without, and nothing is lost."""
    code = """
directory = sys.argv[1]
def of_ours():
    return [link for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")
            and "journals" in (link := os.readlink(f"/proc/self/fd/{fd}"))]
def close_and_open(name):
    os.closerange(3, 256)
    return [os.open(f"{directory}/{name}{number}", os.O_WRONLY | os.O_CREAT) for number in range(8)]
record(1)
assert of_ours() == [], of_ours()
for moment in range(5):
    files = close_and_open(f"own-{moment}-")
    for fd in files: os.write(fd, b"D" * 400_000)
    record(2000)
    assert of_ours() == [], of_ours()
    for fd in files: os.write(fd, b"E" * 1000)
pid = os.fork()
if not pid:
    files = close_and_open("own-child-")
    record(2000)
    for fd in files: os.write(fd, b"D" * 400_000 + b"E" * 1000)
    otelsync.shutdown()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
os.closerange(3, 256)
otelsync.shutdown()
"""
    run(code, tmp_path, pure=pure)
    own = list(tmp_path.glob("own-*"))
    assert len(own) == 6 * 8
    assert all(file.read_bytes() == b"D" * 400_000 + b"E" * 1000 for file in own)
    assert recorded(tmp_path) == 1 + 6 * 2000


@pytest.mark.parametrize("pure", [False, True])
def test_a_program_without_standard_streams(tmp_path: Path, pure: bool) -> None:
    """What is closed when it starts is not taken by a file of ours, so that nobody writes his messages into one."""
    code = """
record(10)
links = [f"/proc/self/fd/{fd}" for fd in (0, 2)]
taken = [link for link in links if os.path.lexists(link) and sys.argv[1] in os.readlink(link)]
try:
    os.write(2, b"a message of native code")
    taken.append("written")
except OSError: pass
record(10)
otelsync.shutdown()
print(taken)
"""
    assert json.loads(run(code, tmp_path, pure=pure, shell="0<&- 2>&-")) == []
    assert recorded(tmp_path) == 20
    assert b"a message" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*.journal"))
