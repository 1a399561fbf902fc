"""Looking at runs of other processes while they go on: listed, watched in a terminal, killed, and run by Celery."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from brokers import RedisServer
from celery import group
from hosts import PATIENCE, environment
from otlp_server import eventually
from sync_tasks import wait_in_stage
from workers import Caller, publishing_app, worker

import otelsync

PROGRAM = """
import os, sys, otelsync
otelsync.configure(service_name="host", log_stream=open(os.devnull, "w"), ship=sys.argv[1])
with otelsync.pipeline("github.onboarding") as run:
    for name in run.track(["acme/api", "acme/\\x1b[2Jweb"]):
        with otelsync.repo(name) as repo:
            for number in repo.track(range(1, 11)):
                with otelsync.pull_request(number, state="open") as pr:
                    pr.set(action="created")
                if number == 5:
                    print(run.sync_id, flush=True)
                    sys.stdin.readline()
otelsync.shutdown(20)
"""
"""Stops at the fifth pull request of each repository until it is told to go on."""
OTELSYNC = [sys.executable, "-m", "otelsync.cli"]
SIZE = (30, 100)
"""Rows and columns of a terminal."""


class Syncing:
    """A process that syncs, and stands still until it is told to go on."""

    def __init__(self, home: Path, ship: str = "thread") -> None:
        self.home = home
        self.environment = environment(home)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, ship],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.sync_id = self.stand()

    def stand(self) -> str:
        """Wait until it stands still; what it is called."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, self.process.wait(PATIENCE)
        return line

    def go_on(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ps(self) -> list[dict[str, Any]]:
        """The runs in flight, as a command of another process says."""
        return runs_in_flight(self.home)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.communicate()


def runs_in_flight(home: Path) -> list[dict[str, Any]]:
    """What ``otelsync ps --json`` says."""
    command = [*OTELSYNC, "ps", "--json"]
    done = subprocess.run(command, env=environment(home), capture_output=True, timeout=PATIENCE, check=True)
    assert done.stderr == b""
    runs: list[dict[str, Any]] = json.loads(done.stdout)["runs"]
    return runs


@pytest.fixture(params=["thread", "off"])
def syncing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Syncing]:
    """A process in flight, which ships by itself, or is shipped by nobody."""
    process = Syncing(tmp_path / "home", request.param)
    yield process
    process.kill()


def test_a_run_is_seen_from_outside(syncing: Syncing) -> None:
    """Where it is, while it is there; and nothing any more when it has ended."""
    (run,) = syncing.ps()
    assert (run["sync_id"], run["pid"], run["state"]) == (syncing.sync_id, syncing.process.pid, "running")
    (place,) = run["at"]
    assert (place["repo"], place["last_item"]["id"]) == ("acme/api", "5")
    assert (run["progress"]["done"], run["progress"]["total"]) == (0, 2)
    syncing.go_on()
    syncing.stand()
    (run,) = syncing.ps()
    assert [place["repo"] for place in run["at"]] == ["acme/\x1b[2Jweb"]
    assert (run["progress"]["done"], run["progress"]["counts"]["created"]) == (1, 10)
    syncing.go_on()
    assert syncing.process.wait(PATIENCE) == 0
    assert syncing.ps() == []


def test_a_killed_run_is_not_in_flight(syncing: Syncing) -> None:
    """Its process is gone, so nobody will go on with it, whatever its journal says."""
    assert len(syncing.ps()) == 1
    syncing.kill()
    assert syncing.ps() == []


@contextmanager
def watching(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``otelsync watch`` with a pipe for its output."""
    process = subprocess.Popen(
        [*OTELSYNC, "watch", *arguments],
        env={**environment(home), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    assert line.rstrip("\n").isprintable()
    return line.partition(" ")[2].partition(" ")[2].rstrip("\n")


def test_a_pipe_gets_a_line_for_each_change(syncing: Syncing) -> None:
    """The line says where the run is; the last one how it ended, and then the command ends."""
    name = f"{syncing.sync_id} github.onboarding"
    with watching(syncing.home, syncing.sync_id[-8:].lower()) as process:
        assert next_line(process) == f"{name} running, 0 of 2 0.0%, acme/api 0 of 10 0.0%"
        syncing.go_on()
        syncing.stand()
        assert next_line(process).startswith(f"{name} running, 1 of 2 50.0% created 10, acme/\\x1b[2Jweb 0 of 10")
        syncing.go_on()
        lines = [next_line(process)]
        while " ended: " not in lines[-1]:  # it may be seen once more on its way to the end
            lines.append(next_line(process))
        assert lines[-1].startswith(f"{name} ended: success after ")
        assert process.wait(PATIENCE) == 0


def test_a_pipe_hears_of_a_killed_run(syncing: Syncing) -> None:
    """It has no end that anybody wrote, unless a shipper closes it."""
    with watching(syncing.home) as process:
        next_line(process)
        syncing.kill()
        assert re.search(r"has gone without an end|ended: interrupted", next_line(process))
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_who_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    """An id that no run in flight has is an error, and says where to look."""
    done = subprocess.run(
        [*OTELSYNC, "watch", "765151E9"], env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "otelsync: no run in flight is called '765151E9'; otelsync ps lists them"


class Terminal:
    """``otelsync watch`` in a terminal of its own."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self._ours, self.theirs = pty.openpty()
        ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
        self.before = termios.tcgetattr(self.theirs)
        self.seen = ""
        self.process = subprocess.Popen(
            [*OTELSYNC, "watch", *arguments],
            env={**environment(home), "TERM": "xterm"},
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )

    def read(self) -> None:
        """Take what has come."""
        while select.select([self._ours], [], [], 0)[0]:
            self.seen += os.read(self._ours, 65536).decode()

    def shows(self, text: str) -> bool:
        """Whether the present screen has that."""
        self.read()
        return text in re.sub(r"\x1b\[[0-9;]*m", "", self.seen.rpartition("\x1b[H")[2])

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        """Its exit code; that it leaves the terminal other than it was is an error."""
        code = self.process.wait(PATIENCE)
        self.read()
        assert termios.tcgetattr(self.theirs) == self.before
        assert self.seen.count("\x1b[?1049h") == self.seen.count("\x1b[?1049l") == 1
        assert self.seen.count("\x1b[?25l") == self.seen.count("\x1b[?25h") == 1
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self.theirs)


@contextmanager
def terminal(home: Path, *arguments: str) -> Iterator[Terminal]:
    opened = Terminal(home, *arguments)
    try:
        yield opened
    finally:
        opened.close()


def test_a_terminal_is_drawn_anew(tmp_path: Path) -> None:
    """It follows the run, in its width, and lets nothing through that a name holds; at the end it says how it went."""
    syncing = Syncing(tmp_path / "home")
    try:
        with terminal(syncing.home, syncing.sync_id) as shown:
            eventually(lambda: shown.shows("acme/api  "), PATIENCE)
            assert shown.shows(syncing.sync_id)
            assert shown.shows("last #5")
            syncing.go_on()
            syncing.stand()
            eventually(lambda: shown.shows("acme/\\x1b[2Jweb"), PATIENCE)
            assert "\x1b[2J" not in shown.seen
            assert not shown.shows("acme/api")
            syncing.go_on()
            assert shown.end() == 0
            assert "ended: success after " in shown.seen.rpartition("\x1b[?1049l")[2]
    finally:
        syncing.kill()


@pytest.mark.parametrize(("keys", "code"), [("q", 0), ("\x03", 0), ("", 128 + signal.SIGTERM)])
def test_a_terminal_is_given_back_as_it_was(tmp_path: Path, keys: str, code: int) -> None:
    """q and Ctrl-C leave, other keys do not, and neither does SIGTERM without putting things right."""
    with terminal(tmp_path / "home") as shown:
        eventually(lambda: shown.shows("no run is in flight"), PATIENCE)
        shown.press("x\x1b[A")
        frames = shown.seen.count("\x1b[H")
        eventually(lambda: shown.shows("no run") and shown.seen.count("\x1b[H") > frames, PATIENCE)
        if keys:
            shown.press(keys)
        else:
            shown.process.terminate()
        assert shown.end() == code


def test_a_dispatched_run_is_followed_into_its_workers(redis: RedisServer, tmp_path: Path) -> None:
    """In flight from its dispatch until its last task has ended, with the tasks that run now and their processes."""
    home, gate = tmp_path / "home", tmp_path / "gate"
    broker = redis.broker()
    with worker(home, broker, "-I", "sync_tasks") as started, publishing_app(broker) as app:
        caller = Caller(home, app)
        app.set_current()
        try:
            with otelsync.pipeline("nightly") as run:
                run.dispatch(group(wait_in_stage.s(str(gate)) for _ in range(2)))
            found: list[dict[str, Any]] = []

            def is_working() -> bool:
                found[:] = runs_in_flight(home)
                return len(found) == 1 and len(found[0]["at"]) == 2

            started.wait_until(is_working)
            assert (found[0]["sync_id"], found[0]["dispatched"], found[0]["pid"]) == (run.sync_id, True, None)
            assert {place["task"] for place in found[0]["at"]} == {"sync.wait_in_stage"}
            assert {place["stages"][-1]["name"] for place in found[0]["at"]} == {"sync.stage waiting"}
            assert {place["pid"] for place in found[0]["at"]} <= set(started.processes())
            caller.end()
            assert [each["sync_id"] for each in runs_in_flight(home)] == [run.sync_id]
            gate.touch()
            started.wait_until(lambda: runs_in_flight(home) == [])
        finally:
            caller.end()
