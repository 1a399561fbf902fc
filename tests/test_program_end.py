"""The end of a program: what its threads and its finalizers record until the very last is recorded, or counted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trace_tree


def run(code: str, home: Path, *, pure: bool) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OTELSYNC_HOME": str(home), "OTELSYNC_PURE_PYTHON": "1" if pure else ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("pure", [False, True])
def test_threads_that_go_on_to_the_end(tmp_path: Path, pure: bool) -> None:
    """A daemon thread records beside the shutdown, and after it: each record that it has ended is in the journal."""
    code = """
import otelsync, atexit, os, threading, time
def last():
    "Called after otelsync's own."
    until = done + 50
    while done < until: time.sleep(0.001)
    os.write(1, b"%d" % done)
atexit.register(last)
otelsync.configure(service_name="x", log_level="WARNING", ship="off")
done = 0
def work():
    global done
    while True:
        with otelsync.pull_request(done) as change: change.set(action="created")
        done += 1
        time.sleep(0.0001)
threading.Thread(target=work, daemon=True).start()
while done < 50: time.sleep(0.001)
"""
    done = int(run(code, tmp_path, pure=pure))
    directory = tmp_path / "journals" / "x"
    assert len(list(trace_tree.spans_in_journal(directory))) >= done >= 100


@pytest.mark.parametrize("pure", [False, True])
def test_finalizers_that_record(tmp_path: Path, pure: bool) -> None:
    """A ``__del__`` that runs when modules are being taken apart records a stage, and a log record, or counts it."""
    code = """
import otelsync
otelsync.configure(service_name="x", log_level="CRITICAL", ship="off")
with otelsync.pipeline("nightly"): pass
class Thing:
    def __del__(self, otelsync=otelsync, log=otelsync.get_logger("x")):
        with otelsync.pull_request(1) as change: change.set(action="created")
        log.critical("gone")
thing, cycle = Thing(), Thing()
cycle.itself = cycle
"""
    run(code, tmp_path, pure=pure)
    directory = tmp_path / "journals" / "x"
    names = sorted(span.name for span in trace_tree.spans_in_journal(directory))
    assert names == ["sync.pipeline nightly", "sync.pr", "sync.pr"]
    records = sum(len(group.logs) for batch in trace_tree.batches(directory) for group in batch.groups)
    assert records + sum(trace_tree.dropped(directory)["log"].values()) == 2
