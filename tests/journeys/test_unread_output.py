"""Programs whose output is a full pipe that nobody reads: what they record is shipped, and they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from otlp_server import Answer, OtlpServer, eventually, otlp_server
from supervised import OTELSYNC, PATIENCE, environment, script

SPANS = 30
PROGRAM = """
import sys, time
from pathlib import Path
import otelsync
otelsync.configure()
for number in range({spans}):
    with otelsync.stage("one", number=number):
        time.sleep(0.02)
while not (Path(sys.argv[1]) / "arrived").exists():
    with otelsync.stage("another"):
        time.sleep(0.02)
"""
SERVER = """
import logging, os, sys
os.close(1)
logging.basicConfig(level=logging.WARNING)
"""
"""A server that has closed its standard output, as gunicorn does."""
BLOCKING_HANDLER = """
import logging, threading
class Blocking(logging.Handler):
    def emit(self, record):
        if threading.current_thread() is not threading.main_thread():
            threading.Event().wait()
    def acquire(self):
        pass
    release = acquire
logging.getLogger().addHandler(Blocking())
"""
LOGGING = {"rendered": {}, "kept": {"OTELSYNC_LOGGING": "keep"}}
"""A pipeline would log its begin where records are rendered; that is the program's own write, and waits as it did."""


@contextmanager
def unread_pipe() -> Iterator[int]:
    """A pipe that is full to the brim."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    for size in (4096, 1):
        while True:
            try:
                os.write(writes, b"x" * size)
            except BlockingIOError:
                break
    os.set_blocking(writes, True)
    try:
        yield writes
        assert os.get_blocking(writes), "the flag is shared by all that write there"
    finally:
        os.close(reads)
        os.close(writes)


@contextmanager
def failing_at_first() -> Iterator[OtlpServer]:
    """An endpoint of which there is something to say."""
    with otlp_server() as server:
        server.answers.extend([Answer(status=503)] * 2)
        yield server


def start(command: list[str], home: Path, server: OtlpServer, pipe: int, **variables: str) -> subprocess.Popen[bytes]:
    """Start a program that writes to the pipe."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url, "OTEL_SERVICE_NAME": "unread", **variables}
    return subprocess.Popen(command, env=environment(home, **variables), stdout=pipe, stderr=pipe)


def arrive(server: OtlpServer, home: Path, program: subprocess.Popen[bytes]) -> None:
    """Wait until all has arrived, and let the program end."""
    try:
        eventually(lambda: sum(span.name.endswith("one") for span in server.spans) >= SPANS)
        (home / "arrived").touch()
        assert program.wait(PATIENCE) == 0
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()


@pytest.mark.parametrize("variables", LOGGING.values(), ids=LOGGING)
@pytest.mark.parametrize("ship", ["process", "thread"])
@pytest.mark.parametrize("before", ["", SERVER], ids=["script", "server"])
def test_a_script_ships(tmp_path: Path, before: str, ship: str, variables: dict[str, str]) -> None:
    """A warning of the shipper is for nobody, and holds up neither it, nor the program, nor its end."""
    source = script(tmp_path, before + PROGRAM.format(spans=SPANS))
    with failing_at_first() as server, unread_pipe() as pipe:
        command = [sys.executable, str(source), str(tmp_path)]
        arrive(server, tmp_path, start(command, tmp_path, server, pipe, OTELSYNC_SHIP=ship, **variables))


@pytest.mark.parametrize("variables", LOGGING.values(), ids=LOGGING)
def test_a_program_under_run_is_shipped(tmp_path: Path, variables: dict[str, str]) -> None:
    """The supervisor's own lines wait for nobody either, nor does its end."""
    source = script(tmp_path, PROGRAM.format(spans=SPANS))
    with failing_at_first() as server, unread_pipe() as pipe:
        command = [*OTELSYNC, "run", sys.executable, str(source), str(tmp_path)]
        arrive(server, tmp_path, start(command, tmp_path, server, pipe, **variables))


def test_ship_ships(tmp_path: Path) -> None:
    """`otelsync ship` begins, ships and ends without a reader of what it says."""
    source = script(tmp_path, PROGRAM.format(spans=SPANS))
    with failing_at_first() as server, unread_pipe() as pipe:
        shipper = start([*OTELSYNC, "ship", "--timeout", "1"], tmp_path, server, pipe)
        try:
            command = [sys.executable, str(source), str(tmp_path)]
            arrive(server, tmp_path, start(command, tmp_path, server, pipe, OTELSYNC_SHIP="off"))
            shipper.send_signal(signal.SIGTERM)
            assert shipper.wait(PATIENCE) in (0, 1)
        finally:
            if shipper.poll() is None:
                shipper.kill()
                shipper.wait()


def test_ship_ends_with_an_error_that_nobody_reads(tmp_path: Path) -> None:
    """What could not be shipped is said at the end, and the exit code says it too."""
    source = script(tmp_path, "import otelsync\notelsync.configure()\nwith otelsync.stage('one'):\n    pass\n")
    with otlp_server() as server, unread_pipe() as pipe:
        server.always = Answer(status=503)
        assert start([sys.executable, str(source)], tmp_path, server, pipe, OTELSYNC_SHIP="off").wait(PATIENCE) == 0
        command = [*OTELSYNC, "ship", "--once", "--timeout", "0.5"]
        assert start(command, tmp_path, server, pipe).wait(PATIENCE) == 1


def test_a_handler_that_blocks_holds_up_no_shipper(tmp_path: Path) -> None:
    """A handler of which nothing is known is waited for by a thread that has nothing else to do."""
    source = script(tmp_path, BLOCKING_HANDLER + PROGRAM.format(spans=SPANS))
    with failing_at_first() as server, unread_pipe() as pipe:
        command = [sys.executable, str(source), str(tmp_path)]
        variables = {"OTELSYNC_SHIP": "thread", "OTELSYNC_LOGGING": "keep"}
        arrive(server, tmp_path, start(command, tmp_path, server, pipe, **variables))
