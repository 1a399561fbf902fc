"""`otelsync run` and what crosses processes: terminals, PID 1, orphans, daemons, and whoever is killed."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from otlp_server import eventually, otlp_server
from supervised import OTELSYNC, PATIENCE, RECORDER, environment, run, running, script
from trace_tree import draw, spans_in_store

from otelsync.shipping.ledger import read_ledger

PYTHON = sys.executable

KILLED = """
import os, signal, otelsync
with otelsync.pipeline("p"), otelsync.repo("acme/api"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
GOES_ON = """
import os, sys, time, otelsync
from pathlib import Path
here = Path(sys.argv[1])
with otelsync.stage("before"):
    pass
(here / "beginning").write_text(str(os.getpid()))
(here / "beginning").rename(here / "begun")
while not (here / "go").exists():
    time.sleep(0.01)
with otelsync.stage("after"):
    pass
(here / "done").touch()
"""
DAEMON = f"""
import os, sys
if os.fork() == 0:
    os.setsid()
    for number in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    if os.fork() == 0:
{textwrap.indent(GOES_ON, "        ")}
    os._exit(0)
os.wait()
"""
ORPHAN = """
import os, sys, time
from pathlib import Path
reads, writes = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.write(writes, str(os.getpid()).encode())
    os._exit(0)
os.wait()
orphan = Path("/proc", os.read(reads, 20).decode())
deadline = time.monotonic() + 120
while orphan.exists() and time.monotonic() < deadline:
    time.sleep(0.01)
print("reaped" if not orphan.exists() else "a zombie")
"""


class Terminal:
    """A terminal with a program in it, and what that has shown so far."""

    def __init__(self, home: Path, *command: str) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvpe(command[0], command, environment(home, TERM="dumb", PS1="$ "))
            finally:
                os._exit(127)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def shows(self, text: str) -> bool:
        """Read what there is, until `text` is shown; forget what stands before it."""
        if text not in self.shown:
            with suppress(OSError):  # the program has ended
                self.shown += os.read(self._fd, 4096).decode(errors="replace")
        before, found, after = self.shown.partition(text)
        self.shown = after if found else before
        return bool(found)

    def end(self) -> int:
        """Wait for the program, and return its exit code."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._fd)
        return code


@contextmanager
def terminal(home: Path, *command: str) -> Iterator[Terminal]:
    opened = Terminal(home, *command)
    try:
        yield opened
    finally:
        with suppress(ProcessLookupError):
            os.kill(opened.pid, signal.SIGHUP)


def test_what_is_typed_reaches_the_program_once(tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches program and supervisor; the program gets it once, as Celery's second one kills."""
    got = tmp_path / "got"
    arguments = [*OTELSYNC, "run", PYTHON, "-c", RECORDER, str(got), "SIGINT", "SIGQUIT", "SIGTERM"]
    with terminal(tmp_path, *arguments) as opened:
        eventually(lambda: got.exists() and got.read_text().startswith("ready"), PATIENCE)
        for count, key in enumerate(("\x03", "\x1c", "\x03"), 2):
            opened.type(key)
            eventually(lambda count=count: len(got.read_text().splitlines()) >= count)  # type: ignore[misc]
        os.kill(opened.pid, signal.SIGTERM)
        eventually(lambda: got.read_text().endswith("SIGTERM\n"))
        os.kill(int(got.read_text().split()[1]), signal.SIGKILL)
        assert opened.end() == -signal.SIGKILL
    assert got.read_text().splitlines()[1:] == ["SIGINT", "SIGQUIT", "SIGINT", "SIGTERM"]


def test_the_terminal_is_the_programs(tmp_path: Path) -> None:
    """Under a terminal the program sees one, is in its foreground, and reads what is typed."""
    code = "import os, sys; print(sys.stdin.isatty(), sys.stdout.isatty(), os.tcgetpgrp(0) == os.getpgrp(), input())"
    with terminal(tmp_path, *OTELSYNC, "run", PYTHON, "-c", code) as opened:
        opened.type("typed\n")
        eventually(lambda: opened.shows("True True True typed"), PATIENCE)
        assert opened.end() == 0


def test_job_control(tmp_path: Path) -> None:
    """Ctrl-Z stops the program and gives the shell its prompt; fg goes on with both, and the exit code is kept."""
    code = "import sys; print('re' + 'ady', flush=True); print('got', input()); sys.exit(7)"
    with terminal(tmp_path, "bash", "--norc", "--noediting", "-i") as shell:
        shell.type(f'{" ".join(OTELSYNC)} run {PYTHON} -c "{code}"\n')
        eventually(lambda: shell.shows("ready"), PATIENCE)
        shell.type("\x1a")
        eventually(lambda: shell.shows("Stopped"), PATIENCE)
        shell.type("fg\n")
        shell.type("typed\n")
        eventually(lambda: shell.shows("got typed"), PATIENCE)
        shell.type("echo code $?\n")
        eventually(lambda: shell.shows("code 7"), PATIENCE)
        shell.type("exit\n")
        assert shell.end() == 0


def test_orphans_are_reaped(tmp_path: Path) -> None:
    """A process of the run that has lost its parent is reaped by the supervisor."""
    ended = run(tmp_path, PYTHON, script(tmp_path, ORPHAN))
    assert ended.stdout == "reaped\n"


def test_as_the_first_process_of_a_container(tmp_path: Path) -> None:
    """As PID 1 it reaps, hands on signals, ships, and ends with 128 + the number of a signal."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no PID namespace can be made here")

    def contained(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*unshare, *OTELSYNC, "run", "--service-name", "svc", *command],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    assert contained(PYTHON, str(script(tmp_path, ORPHAN))).stdout == "reaped\n"
    assert contained("sh", "-c", "exit 3").returncode == 3
    assert contained("sh", "-c", "kill -9 $$").returncode == 128 + 9
    killed = contained(PYTHON, str(script(tmp_path, KILLED)))
    assert killed.returncode == 128 + 9
    assert draw(spans_in_store(tmp_path / "store.db")) == (
        "sync.pipeline p       [interrupted]\n  sync.repo acme/api  [interrupted]"
    )
    told = contained("sh", "-c", f"kill -USR1 1; exec {PYTHON} -c 'import signal; signal.pause()'")
    assert told.returncode == 128 + signal.SIGUSR1


def test_what_a_killed_program_has_left_open_is_closed(tmp_path: Path) -> None:
    """A program that is killed leaves a trace that says so, shipped before the supervisor ends."""
    ended = run(tmp_path, PYTHON, script(tmp_path, KILLED))
    assert ended.returncode == -signal.SIGKILL
    assert ended.stderr.endswith(": all shipped\n")
    assert draw(spans_in_store(tmp_path / "store.db")) == (
        "sync.pipeline p       [interrupted]\n  sync.repo acme/api  [interrupted]"
    )


def test_a_program_outlives_its_supervisor(tmp_path: Path) -> None:
    """When the supervisor is killed the program goes on; the next run ships what it has recorded since."""
    with running(tmp_path, "--service-name", "svc", PYTHON, script(tmp_path, GOES_ON), tmp_path) as first:
        eventually((tmp_path / "begun").exists, PATIENCE)
        first.kill()
        first.wait(PATIENCE)
        (tmp_path / "go").touch()
        eventually((tmp_path / "done").exists, PATIENCE)
        pid = int((tmp_path / "begun").read_text())
        eventually(lambda: not Path(f"/proc/{pid}").exists(), PATIENCE)
    assert run(tmp_path, "--service-name", "svc", "true").returncode == 0
    names = [span.name for span in spans_in_store(tmp_path / "store.db")]
    assert names == ["sync.stage before", "sync.stage after"]


def test_two_runs_of_one_service_ship_everything_once(tmp_path: Path) -> None:
    """Of two runs with one journal directory one ships; the other leaves it that, and takes over when it ends."""
    with otlp_server() as server:
        options = ("--service-name", "svc", "--endpoint", server.url)
        with running(tmp_path, *options, PYTHON, script(tmp_path, GOES_ON), tmp_path) as first:
            eventually(lambda: len(server.spans) == 1, PATIENCE)
            other = run(tmp_path, *options, PYTHON, "-c", "import otelsync\nwith otelsync.stage('other'): pass")
            assert other.returncode == 0
            eventually(lambda: len(server.spans) == 2, PATIENCE)
            (tmp_path / "go").touch()
            assert first.wait(PATIENCE) == 0
        assert sorted(span.name for span in server.spans) == [
            "sync.stage after",
            "sync.stage before",
            "sync.stage other",
        ]


def test_daemons_are_shipped_for_after_the_program_has_ended(tmp_path: Path) -> None:
    """Where processes of the run go on as daemons, that is said, and a shipper of their own stays until they end."""
    try:
        ended = run(tmp_path, "--service-name", "svc", PYTHON, script(tmp_path, DAEMON), tmp_path)
        eventually((tmp_path / "begun").exists, PATIENCE)
    finally:
        (tmp_path / "go").touch()
    pid = (tmp_path / "begun").read_text()
    assert ended.returncode == 0
    said = ended.stderr.splitlines()[-1]
    assert said.startswith(f"otelsync: 1 process of this run goes on ({pid}); process ")
    shipper = Path("/proc", said.removesuffix(" ships for them").rpartition(" ")[2])
    eventually(lambda: not shipper.exists(), PATIENCE)
    assert [span.name for span in spans_in_store(tmp_path / "store.db")] == ["sync.stage before", "sync.stage after"]
    assert read_ledger(tmp_path / "journals" / "svc").reconciles


CELERY = """
import os
from celery import Celery
folder = os.environ["FOLDER"]
for name in ("queue", "control", "results"):
    os.makedirs(f"{folder}/{name}", exist_ok=True)
app = Celery("proj", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue", "data_folder_out": f"{folder}/queue", "control_folder": f"{folder}/control"
}

@app.task(name="proj.add")
def add(x, y):
    return x + y

if __name__ == "__main__":
    print(sum(result.get(timeout=120) for result in [add.delay(1, number) for number in range(3)]))
"""
CELERY_TRACE = "apply_async/proj.add\n  run/proj.add        [success]"


def traces(home: Path) -> list[str]:
    spans = spans_in_store(home / "store.db")
    roots = {span.trace_id: [other for other in spans if other.trace_id == span.trace_id] for span in spans}
    return [draw(each) for each in roots.values()]


@pytest.mark.slow
def test_celery_multi(tmp_path: Path) -> None:
    """`otelsync run celery multi start` records the daemons that it leaves behind, and ships for them."""
    script(tmp_path, CELERY, "proj.py")
    variables = {"FOLDER": str(tmp_path), "PYTHONPATH": str(tmp_path), "C_FORCE_ROOT": "1"}
    files = [f"--pidfile={tmp_path}/%n.pid", f"--logfile={tmp_path}/%n.log"]
    multi = [PYTHON, "-m", "celery", "multi"]
    started = run(tmp_path, *multi, "start", "w1", "-A", "proj", "-c", "1", *files, **variables)
    try:
        assert "1 process of this run goes on" in started.stderr, started.stdout + started.stderr
        assert run(tmp_path, PYTHON, tmp_path / "proj.py", **variables).stdout == "6\n"
    finally:
        subprocess.run([*multi, "stopwait", "w1", *files], capture_output=True, timeout=PATIENCE, check=True)
    eventually(lambda: traces(tmp_path) == [CELERY_TRACE] * 3, PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "gevent", "threads", "solo"])
def test_a_celery_worker(tmp_path: Path, pool: str) -> None:
    """A worker of any pool is recorded without a line of it changed, and ends as it does without us."""
    script(tmp_path, CELERY, "proj.py")
    variables = {"FOLDER": str(tmp_path), "PYTHONPATH": str(tmp_path), "C_FORCE_ROOT": "1"}
    worker = ["celery", "-A", "proj", "worker", "-P", pool, "-c", "2", "-l", "INFO"]
    with (
        (tmp_path / "stderr").open("w+") as stderr,
        running(tmp_path, PYTHON, "-m", *worker, stderr=stderr, **variables) as process,
    ):
        ended = run(tmp_path, PYTHON, tmp_path / "proj.py", **variables)
        assert ended.stdout == "6\n", (tmp_path / "stderr").read_text()
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert "MonkeyPatchWarning" not in (tmp_path / "stderr").read_text()
    assert traces(tmp_path) == [CELERY_TRACE] * 3
