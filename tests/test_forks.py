"""Forks that Python does not see, as by a server in C that embeds it: a child is a process of its own all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trace_tree

from otelsync.journal.names import list_segments

FORK = """
import ctypes, os, sys, threading
libc = ctypes.PyDLL(None)
def fork():
    "As uwsgi does: no hook of Python's is called."
    return libc.fork()
"""


def run(code: str, home: Path, *, pure: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK + code],
        env={**os.environ, "OTELSYNC_HOME": str(home), "OTELSYNC_PURE_PYTHON": "1" if pure else "", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("pure", [False, True])
def test_children_have_their_own_files_and_ids(tmp_path: Path, pure: bool) -> None:
    """Children of a process that has recorded write everything once, in series of their own, under ids of their own."""
    code = """
import otelsync
otelsync.configure(service_name="c", log_level="WARNING", ship="off")
with otelsync.pipeline("parent"): pass
children = []
for number in range(3):
    pid = fork()
    if not pid:
        for count in range(50):
            with otelsync.pipeline("child"):
                with otelsync.pull_request(count) as change: change.set(action="created")
        os._exit(0 if otelsync.shutdown() else 1)
    children.append(pid)
for pid in children: assert os.waitpid(pid, 0)[1] == 0
with otelsync.pipeline("parent"): pass
otelsync.shutdown()
"""
    run(code, tmp_path, pure=pure)
    directory = tmp_path / "journals" / "c"
    spans = list(trace_tree.spans_in_journal(directory))
    assert len(spans) == 2 + 3 * 50 * 2
    assert len({span.span_id for span in spans}) == len(spans)
    assert len({span.trace_id for span in spans}) == 2 + 3 * 50
    assert len(list_segments(directory)) == 4
    assert len({span.resource["service.instance.id"] for span in spans}) == 1


def test_a_child_waits_for_no_lock_of_its_parent_s(tmp_path: Path) -> None:
    """A child that was forked while threads of its parent held every lock of ours records, and ends."""
    code = """
import otelsync
from otelsync.configuration import lifecycle
from otelsync.stages import lineage, rate_limits, waits
otelsync.configure(service_name="c", log_level="WARNING")
with otelsync.pipeline("parent"): pass
held, release = threading.Barrier(2), threading.Event()
def hold():
    journal = lifecycle._running.recorder.journal
    with lifecycle._lock, lineage.rolling_up, rate_limits.observed._lock, waits._sums, journal._own().lock:
        held.wait()
        release.wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
pid = fork()
if not pid:
    with otelsync.pipeline("child") as run:
        with otelsync.repo("acme/api"), otelsync.pull_request(1): pass
    otelsync.shutdown(0.1)
    os._exit(0)
status = os.waitpid(pid, 0)[1]
release.set()
otelsync.shutdown()
print(status)
"""
    assert run(code, tmp_path).stdout == "0\n"
    listed = subprocess.run(
        [sys.executable, "-m", "otelsync.cli", "ledger", "--json"],
        env={**os.environ, "OTELSYNC_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    document = json.dumps(json.loads(listed.stdout))
    assert '"recorded": 4' in document, document


@pytest.mark.parametrize("pure", [False, True])
def test_renewal_in_a_child(tmp_path: Path, pure: bool) -> None:
    """Whoever asks for the number of this process notices a fork; what is due is done, also after it has failed."""
    code = """
from otelsync.journal import forks
done, fails = [], [True]
def first():
    done.append(1)
    if fails: fails.pop(); raise KeyError
forks.in_child(first)
forks.in_child(lambda: done.append(2))
before = forks.generation()
for generations in range(2):
    pid = fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
        assert forks.generation() == before and forks.mark[0] == before and done == [], done
        os._exit(0) if generations else sys.exit()
    assert forks.mark[0] != before
    fails[:] = [True]
    try: forks.generation()
    except KeyError: pass
    else: sys.exit("nothing was raised")
    assert forks.generation() != before
    assert forks.generation() == forks.mark[0]
    assert done == [1, 1, 2], done
    done.clear()
    before = forks.generation()
"""
    run(code, tmp_path, pure=pure)
