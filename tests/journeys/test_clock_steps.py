"""The wall clock is set while a sync runs: no duration changes, children stay within their parents, nothing is lost."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trace_tree
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from otelsync.testing.reading import logs_in

TESTS = Path(__file__).parents[1]
COMPILER = shlex.split(sysconfig.get_config_var("CC") or "cc")
HOUR = 3600
SLEPT = 40_000_000
"""Nanoseconds that each part of the program takes at least."""
PATIENCE = 60

BEGINNING = """
import asyncio, contextvars, logging, os, shutil, struct, sys, threading, time
import otelsync
home, seconds = sys.argv[1], int(sys.argv[2])
clock = open(os.environ["CLOCK_OFFSET"], "r+b", buffering=0)
is_set = False

def set_clock():
    "To and fro."
    global is_set
    is_set = not is_set
    before = time.time()
    clock.seek(0)
    clock.write(struct.pack("<q", seconds if is_set else 0))
    assert abs(abs(time.time() - before) - abs(seconds)) < 60, "the clock cannot be set"

def wait():
    time.sleep(0.02)
    set_clock()
    time.sleep(0.021)

otelsync.configure(service_name="test", home=home, ship="off", debug_logs="all", log_level="CRITICAL")
"""

SYNC = (
    BEGINNING
    + """
def in_thread():
    with otelsync.stage("thread"):
        wait()

async def in_task():
    with otelsync.stage("task"):
        await asyncio.sleep(0.02)
        set_clock()
        await asyncio.sleep(0.021)

with otelsync.pipeline("p") as run:
    with otelsync.repo("acme/api"):
        with otelsync.pull_request(1) as pr:
            pr.set(action="created")
            wait()
            pr.span.add_event("seen")
        with otelsync.rate_limit_wait(0.04):
            wait()
    thread = threading.Thread(target=contextvars.copy_context().run, args=(in_thread,))
    thread.start()
    thread.join()
    asyncio.run(in_task())
    with otelsync.stage("parent"):
        pid = os.fork()
        if not pid:
            with otelsync.stage("child"):
                wait()
            os._exit(0)
        os.waitpid(pid, 0)
        is_set = not is_set  # as the child has left it
    with otelsync.stage("fails"):
        try:
            with otelsync.stage("raises"):
                wait()
                raise ValueError("no")
        except ValueError:
            pass
"""
)

TASK = (
    BEGINNING
    + """
import celery
otelsync.instrument("celery")
app = celery.Celery("app", broker="memory://")

@app.task
def work():
    wait()

work.apply()
"""
)

DAMAGE = (
    BEGINNING
    + """
journal = os.path.join(home, "journals", "test")

def record(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with otelsync.pull_request(1) as pr:
            pr.set(action="created")
        time.sleep(0.002)

with otelsync.pipeline("p"):
    record(0.2)
    assert os.path.isdir(journal)
    set_clock()
    record(0.05)
    shutil.rmtree(journal)
    record(0.5)
    assert os.path.isdir(journal), "nobody noticed that it was removed"
"""
)


@dataclass
class Program:
    """What runs while the clock is set, and what it has recorded."""

    home: Path
    environment: dict[str, str]
    seconds: int

    def run(self, code: str) -> dict[str, Span]:
        """Run it; returns its spans by name."""
        command = [sys.executable, "-c", code, str(self.home), str(self.seconds)]
        ended = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        bodies = [
            body
            for journal in (self.home / "journals").iterdir()
            for batch in trace_tree.batches(journal)
            for group in batch.groups
            for body in (*group.spans, *group.pending)
        ]
        return {span.name: span for span in ScopeSpans.FromString(b"".join(bodies)).spans}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lets a process believe that its clock was set."""
    if shutil.which(COMPILER[0]) is None or sys.platform != "linux":
        pytest.skip("it takes a C compiler and Linux to set a clock for one process alone")
    made = tmp_path_factory.mktemp("clock") / "stepping_clock.so"
    source = str(TESTS / "stepping_clock.c")
    subprocess.run([*COMPILER, "-O1", "-fPIC", "-shared", source, "-o", str(made)], check=True)
    return made


@pytest.fixture(params=["C", "Python"])
def program(request: pytest.FixtureRequest, library: Path, tmp_path: Path) -> Callable[[int], Program]:
    """Make a program, with the C extension and without, whose clock is set by so many seconds."""
    offset = tmp_path / "offset"
    offset.write_bytes(bytes(4096))
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "CLOCK_OFFSET": str(offset),
        "OTELSYNC_PURE_PYTHON": "1" if request.param == "Python" else "",
    }
    return lambda seconds: Program(tmp_path / "home", environment, seconds)


def lasted(span: Span) -> int:
    return span.end_time_unix_nano - span.start_time_unix_nano


def attributes(span: Span) -> dict[str, Any]:
    return trace_tree.fields(span.attributes)


@pytest.mark.parametrize("seconds", [-HOUR, 6 * HOUR])
def test_durations_are_the_time_that_passed(program: Callable[[int], Program], seconds: int) -> None:
    """In the block, in a thread, in a task and in a forked child; spans, records and seconds of waits agree."""
    made = program(seconds)
    spans = made.run(SYNC)
    logs = {log.event: log for log in logs_in(made.home)}
    parts = {f"sync.stage {name}" for name in ("thread", "task", "child", "raises")}
    for name in (*parts, "sync.pr", "sync.rate_limit.wait"):
        assert SLEPT <= lasted(spans[name]) < 100 * SLEPT, name
    by_id = {span.span_id: span for span in spans.values()}
    for span in spans.values():
        parent = by_id.get(span.parent_span_id, span)
        assert parent.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= parent.end_time_unix_nano
        for mark in span.events:
            assert span.start_time_unix_nano <= mark.time_unix_nano <= span.end_time_unix_nano
    assert [event.name for event in spans["sync.pr"].events] == ["seen"]
    assert [event.name for event in spans["sync.stage raises"].events] == ["exception"]
    wait = spans["sync.rate_limit.wait"]
    assert attributes(wait)["sync.rate_limit.actual_seconds"] == pytest.approx(lasted(wait) / 1e9, abs=0.02)
    for event, name in (
        ("sync.pr.processed", "sync.pr"),
        ("sync.repo.completed", "sync.repo acme/api"),
        ("sync.pipeline.completed", "sync.pipeline p"),
    ):
        said = logs[event].attributes["duration_ms"]
        assert said == pytest.approx(lasted(spans[name]) / 1e6, abs=20), json.dumps({event: said})


def test_a_task_says_how_long_it_ran(program: Callable[[int], Program]) -> None:
    """A Celery task's seconds are those of its span."""
    span = next(span for name, span in program(-HOUR).run(TASK).items() if name.startswith("run/"))
    assert SLEPT <= lasted(span) < 100 * SLEPT
    assert attributes(span)["sync.run_seconds"] == pytest.approx(lasted(span) / 1e9, abs=0.02)


@pytest.mark.parametrize("seconds", [-24 * HOUR, 24 * HOUR])
def test_a_removed_directory_is_noticed(program: Callable[[int], Program], seconds: int) -> None:
    """The journal looks at its file as often as before, whatever the clock says."""
    program(seconds).run(DAMAGE)
