"""The shipper as a process beside the program: its begin and end, what it holds, and what the program gets of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from otlp_server import Answer, OtlpServer, otlp_server

from otelsync.configuration import attending
from otelsync.doctor.backlog import examine
from otelsync.settings import Settings
from otelsync.settings.handing_over import from_text, to_text
from otelsync.shipping.messages import latest
from otelsync.shipping.ownership import owner
from otelsync.testing.reading import spans_in

PATIENCE = 120.0
"""Seconds that anything may take. Only what hangs takes as long."""

BEGIN = """
import os, sys, time
from pathlib import Path
import otelsync
sys.executable = os.environ.get("EXECUTABLE", sys.executable)
sys.frozen = "FROZEN" in os.environ
otelsync.configure(service_name="sync", log_format="json", log_level="WARNING")
here = Path(os.environ["OTELSYNC_HOME"])
journal = here / "journals" / "sync"

def record(name):
    with otelsync.pipeline(name):
        pass

def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.01)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home of otelsync. At the end no shipper is left of it."""
    home = tmp_path / "home"
    yield home
    for pid in shippers(home):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with otlp_server() as server:
        yield server


def environment(home: Path, **variables: str) -> dict[str, str]:
    given = {"OTELSYNC_HOME": str(home), "OTELSYNC_SHIP": "process", "OTELSYNC_SHUTDOWN_TIMEOUT": "0"}
    return {**os.environ, **given, **variables}


def begin(home: Path, code: str, *flags: str, **variables: str) -> subprocess.Popen[str]:
    """Start a program that records."""
    return subprocess.Popen(
        [sys.executable, *flags, "-c", BEGIN + textwrap.dedent(code)],
        env=environment(home, **variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(home: Path, code: str, *flags: str, **variables: str) -> str:
    """Run a program that records, to its end; returns what it has printed."""
    with begin(home, code, *flags, **variables) as program:
        out, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0, err
    return out + err


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def shippers(home: Path) -> list[int]:
    """The processes that ship a journal below a home, or are about to.

    One that forks and ends while it is looked for is found by a second look: its child was not listed in the first.
    """
    return _shippers(home) or _shippers(home)


def _shippers(home: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(part.endswith(b"ship_beside.py") for part in command) and any(
            part.startswith(bytes(home)) for part in command
        ):
            found.append(int(process.name))
    return found


def stored(home: Path) -> list[str]:
    """The names of the spans of a home that are in no journal any more."""
    if any((home / "journals").glob("*/*.journal")):
        return []
    return [span.name for span in spans_in(home)]


def test_what_a_program_records_arrives_after_its_end(home: Path) -> None:
    """The program waits for nobody, its pipes end with it, and the shipper ends when all is shipped."""
    run(home, 'record("a"); record("b")')
    wait_until(lambda: not shippers(home))
    assert stored(home) == ["sync.pipeline a", "sync.pipeline b"]


def test_nothing_of_the_shipper_is_in_the_program(home: Path) -> None:
    """It has no thread, no child and no descriptor but the journal's, and a loop of os.wait() comes to its end."""
    code = """
        before = set(os.listdir("/proc/self/fd"))
        record("first")
        while not (journal / "shipper.json").exists():
            time.sleep(0.01)
        try:
            while True:
                os.wait()
        except ChildProcessError:
            pass
        opened = {os.readlink(f"/proc/self/fd/{name}") for name in set(os.listdir("/proc/self/fd")) - before - {"3"}
                  if os.path.lexists(f"/proc/self/fd/{name}")}
        print(len(os.listdir("/proc/self/task")), [name for name in opened if not name.endswith(".journal")])
    """
    assert run(home, code).split() == ["1", "[]"]


def test_the_shipper_holds_nothing_of_the_program(home: Path) -> None:
    """It has none of its descriptors, not even those that children inherit; it has a session and a place of its own."""
    code = """
        import socket
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.set_inheritable(True)
        record("first")
        print("ready", flush=True)
        sys.stdin.read()
    """
    with begin(home, code, OTEL_EXPORTER_OTLP_HEADERS="authorization=geheim") as program:
        assert program.stdout is not None
        program.stdout.readline()
        wait_until(lambda: owner(home / "journals" / "sync"))
        pid = owner(home / "journals" / "sync")
        process = Path(f"/proc/{pid}")
        held = [str(each.readlink()) for each in (process / "fd").iterdir()]
        command = (process / "cmdline").read_text()
        session, where = os.getsid(pid or 0), (process / "cwd").readlink()
        program.communicate("")
    assert all(str(home) in name or name == "/dev/null" for name in held), held
    assert (session, where) != (os.getsid(0), Path.cwd())
    assert where == Path("/")
    assert "ship_beside.py" in command
    assert "geheim" not in command


def test_many_programs_share_one_shipper(home: Path) -> None:
    """Whoever comes while a directory has an owner starts none, and is served by it."""
    code = 'record("one"); print("ready", flush=True); sys.stdin.read()'
    first = begin(home, code)
    assert first.stdout is not None
    first.stdout.readline()
    wait_until(lambda: owner(home / "journals" / "sync"))
    more = [begin(home, code) for _ in range(3)]
    for program in more:
        assert program.stdout is not None
        program.stdout.readline()
    assert len(shippers(home)) == 1
    for program in (first, *more):
        program.communicate("", timeout=PATIENCE)
    wait_until(lambda: not shippers(home))
    assert len(stored(home)) == 4


def test_short_programs_one_after_another_lose_nothing(home: Path) -> None:
    """Where one begins just when the other's shipper ends, one of both shippers takes it."""
    for number in range(6):
        run(home, f'record("{number}")')
    wait_until(lambda: not shippers(home))
    assert len(stored(home)) == 6


def test_a_killed_program_is_shipped_at_once(home: Path) -> None:
    """SIGKILL needs no further command: what was open is closed as interrupted."""
    with begin(home, 'with otelsync.pipeline("p"): record("q"); os.kill(os.getpid(), 9)') as program:
        program.communicate(timeout=PATIENCE)
    wait_until(lambda: not shippers(home))
    assert sorted(stored(home)) == ["sync.pipeline p", "sync.pipeline q"]
    outcomes = {span.name: span.attributes["sync.outcome"] for span in spans_in(home)}
    assert outcomes == {"sync.pipeline p": "interrupted", "sync.pipeline q": "success"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_whose_shipper_ends_gets_another(home: Path, number: signal.Signals) -> None:
    """It notices when it records something, and nothing is lost."""
    code = """
        record("before")
        print("ready", flush=True)
        while sys.stdin.readline():
            record("after")
            print("recorded", otelsync.flush(60), flush=True)
    """
    program = begin(home, code)
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdout.readline()
    wait_until(lambda: owner(home / "journals" / "sync"))
    pid = owner(home / "journals" / "sync")
    assert pid
    os.kill(pid, number)
    wait_until(lambda: pid not in shippers(home))
    program.stdin.write("again\n")
    program.stdin.flush()
    assert program.stdout.readline() == "recorded True\n"
    program.communicate(timeout=PATIENCE)
    wait_until(lambda: not shippers(home))
    assert stored(home) == ["sync.pipeline before", "sync.pipeline after"]


def test_forked_children_are_shipped_with_their_parent(home: Path) -> None:
    """They start no shipper of their own, whether Python knows of the fork or not, and may outlive the parent."""
    code = """
        import ctypes
        record("parent")
        for fork in (os.fork, ctypes.PyDLL(None).fork):
            if fork() == 0:
                time.sleep(0.2)
                record("child")
                os._exit(0)
    """
    run(home, code)
    wait_until(lambda: not shippers(home))
    assert sorted(stored(home)) == ["sync.pipeline child"] * 2 + ["sync.pipeline parent"]


@pytest.mark.parametrize("when", ["first", "begun", "shipping", "flushed"])
@pytest.mark.parametrize("where", ["script", "forked"])
def test_a_program_that_closes_all_descriptors_keeps_its_own_files(home: Path, when: str, where: str) -> None:
    """As a daemon does: what it opens then gets the numbers of what was closed, and stays as it was written."""
    code = f"""
        when, where = {when!r}, {where!r}
        if when != "first":
            record("before")
        if when == "shipping":
            wait_for(journal / "shipper.json")
        if when == "flushed":
            otelsync.flush(60)
        if where == "forked" and (child := os.fork()):
            raise SystemExit(os.waitpid(child, 0)[1])
        os.closerange(3, 4096)
        files = [open(here / f"own.{{number}}", "wb", buffering=0) for number in range(12)]
        for file in files:
            file.write(b"D" * 400_000)
        for number in range(600):
            with otelsync.stage("s", padding="x" * 1000):
                pass
            if number % 200 == 0:
                otelsync.flush(5)
        otelsync.shutdown(5)
        for file in files:
            file.write(b"E" * 1000)
        os._exit(0)
    """
    home.mkdir()
    run(home, code)
    wait_until(lambda: not shippers(home))
    for number in range(12):
        assert (home / f"own.{number}").read_bytes() == b"D" * 400_000 + b"E" * 1000
    names = stored(home)
    assert names.count("sync.stage s") == 600
    assert names.count("sync.pipeline before") == (when != "first")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_children_that_become_another_users_are_shipped(tmp_path: Path) -> None:
    """Root's program starts the shipper before its first record, as gunicorn with --user may never make one."""
    home = tmp_path / "home"
    code = """
        if os.fork() == 0:
            os.setgid(65534)
            os.setuid(65534)
            time.sleep(1)
            for _ in range(3):
                record("p")
            os._exit(0)
        os.wait()
    """
    tmp_path.chmod(0o755)
    run(home, code)
    wait_until(lambda: len(spans_in(home)) == 3 and not shippers(home))
    assert stored(home) == ["sync.pipeline p"] * 3


def test_flush_and_shutdown_wait_for_it(home: Path, server: OtlpServer) -> None:
    """What both say is true: everything has arrived."""
    code = 'record("p"); print(otelsync.flush(60)); record("q"); print(otelsync.shutdown(60), otelsync.shutdown(60))'
    assert run(home, code, OTEL_EXPORTER_OTLP_ENDPOINT=server.url).split() == ["True", "True", "True"]
    assert {span.name for span in server.spans} == {"sync.pipeline p", "sync.pipeline q"}


def test_flush_and_shutdown_say_the_same_after_a_shutdown(home: Path, server: OtlpServer) -> None:
    """What has not arrived has not for who asks again, until something is configured; a forked child answers anew."""
    code = """
        record("p")
        print(otelsync.shutdown(0), otelsync.shutdown(0), otelsync.flush(0), flush=True)
        if os.fork() == 0:
            print(otelsync.flush(0), otelsync.shutdown(0), flush=True)
            os._exit(0)
        os.wait()
        otelsync.configure(service_name="sync", log_level="WARNING")
        print(otelsync.shutdown(PATIENCE), otelsync.shutdown(0))
    """
    said = run(home, code.replace("PATIENCE", str(PATIENCE)), OTEL_EXPORTER_OTLP_ENDPOINT=server.url)
    assert said.split() == ["False"] * 3 + ["True"] * 4


def test_a_home_that_is_no_text_in_the_programs_locale(tmp_path: Path) -> None:
    """Its name is bytes then; the store of all things must be found all the same."""
    home = tmp_path / "größe"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    said = run(home, f'record("p"); print(otelsync.shutdown({PATIENCE}))', **locale)
    assert said.split() == ["True"]
    assert (home / "store.db").exists()


def test_shutdown_waits_for_what_forked_children_have_left(home: Path, server: OtlpServer) -> None:
    """And for the end of the stage they were in, which the shipper writes: that makes it no process that records."""
    code = """
        with otelsync.pipeline("parent"):
            for _ in range(4):
                if os.fork() == 0:
                    for number in range(2000):
                        with otelsync.pull_request(number):
                            pass
                    os._exit(0)
            for _ in range(4):
                os.wait()
        print(otelsync.shutdown(PATIENCE))
    """
    said = run(
        home, code.replace("PATIENCE", str(PATIENCE)), OTEL_EXPORTER_OTLP_ENDPOINT=server.url, OTELSYNC_FOLD="off"
    )
    assert (said.split(), len(server.spans)) == (["True"], 8001)


def test_shutdown_waits_for_no_service_that_ships(home: Path) -> None:
    """Where an ``otelsync ship`` does, what was recorded has arrived when it has taken it: it never ends."""
    run(home, 'record("before")', OTELSYNC_SHIP="off")
    service = subprocess.Popen(
        [sys.executable, "-m", "otelsync.cli", "ship"], env=environment(home), stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: owner(home / "journals" / "sync") == service.pid)
        code = 'record("p"); otelsync.flush(60); print(otelsync.shutdown(10 * 3600))'
        assert run(home, code).split() == ["True"]
        assert service.poll() is None
    finally:
        service.terminate()
        service.wait(PATIENCE)


def test_what_the_shipper_says_the_program_logs(home: Path) -> None:
    """A shipper has no output: its warnings are a small file, whose lines the program that began it logs as its own."""
    endpoint = "http://127.0.0.1:9"
    said = run(home, 'record("p"); otelsync.flush(3); print(otelsync.flush(0))', OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert "False" in said
    assert "Connection refused" in said
    (directory,) = (home / "journals").iterdir()
    assert any("Connection refused" in message.text for message in latest(directory))
    settings = Settings.from_environment(home=home, service_name="sync")
    assert "Connection refused" in {finding.code: finding.message for finding in examine(settings)}["shipper_said"]


def test_each_outage_is_told_when_it_begins_and_when_it_is_over(home: Path, server: OtlpServer) -> None:
    """A second one for the same reason, too: the last word is never that all is well while it is not."""
    server.answers.extend((Answer(503), Answer(503), Answer(), Answer(503), Answer()))
    said = run(
        home,
        'record("a"); assert otelsync.flush(60); record("b"); assert otelsync.flush(60)',
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{server.url}/v1/traces",
    )
    told = re.findall(r"stay in the journal|works again", said)
    assert told == ["stay in the journal", "works again"] * 2


@pytest.mark.parametrize("executable", ["/usr/bin/uwsgi", ""])
def test_where_python_is_embedded_it_is_found_in_its_prefix(home: Path, executable: str) -> None:
    """A thread would hold locks when the server forks by C code, and its workers would wait for them for ever."""
    code = """
        record("p")
        import threading
        print([thread.name for thread in threading.enumerate()][1:], otelsync.shutdown(60))
    """
    assert run(home, code, EXECUTABLE=executable).split() == ["[]", "True"]
    assert stored(home) == ["sync.pipeline p"]


def test_where_no_process_can_be_started_a_thread_ships(home: Path) -> None:
    """A frozen program has no Python beside it."""
    code = """
        record("p")
        import threading
        print([thread.name for thread in threading.enumerate()][1:2], otelsync.shutdown(60))
    """
    assert run(home, code, FROZEN="yes").split() == ["['otelsync-shipper']", "True"]
    assert stored(home) == ["sync.pipeline p"]


def test_a_python_that_is_gone_leaves_the_records_in_the_journal(home: Path) -> None:
    """That is said once, and the program goes on."""
    code = """
        for _ in range(3):
            record("p")
            otelsync.flush(0)
    """
    assert run(home, code, EXECUTABLE="/nowhere/python").count("cannot start the shipper") == 1
    assert len(spans_in(home)) == 3


def test_it_is_found_wherever_the_program_found_it(home: Path, tmp_path: Path) -> None:
    """Neither -I, -S nor a removed current directory is in its way, nor modules beside the script with common names."""
    gone = tmp_path / "gone"
    gone.mkdir()
    (gone / "logging.py").write_text("raise SystemExit(1)")
    code = f"""
        import os, shutil, sys
        sys.path[:] = {[place for place in sys.path if place]!r}
        sys.path.insert(1, {str(Path(__file__).parents[1])!r})
        import logging
        os.chdir({str(gone)!r})
        shutil.rmtree({str(gone)!r})
        {BEGIN.replace(chr(10), chr(10) + " " * 8)}
        record("p")
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", textwrap.dedent(code)],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not shippers(home))
    assert stored(home) == ["sync.pipeline p"]


def test_an_endpoint_that_is_down_does_not_keep_it_alive(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody records any more it tries for a while, and leaves the rest to the next shipper."""
    run(home, 'record("p")', OTELSYNC_SHIP="off")
    monkeypatch.setattr(attending, "LINGERS", 0.5)
    settings = Settings.from_environment(home=home, service_name="sync", endpoint="http://127.0.0.1:9")
    attending.Attending(settings.journal, to_text(settings), []).run()
    assert owner(settings.journal) is None
    assert list(settings.journal.glob("*.journal"))


def test_settings_are_handed_over_whole() -> None:
    """What the other process goes by is what the program goes by."""
    given = {"redact_keys": "a,b", "log_levels": "sync.pr=WARNING", "journal_dir": "/here", "metrics_port": 0}
    settings = Settings.from_environment({}, home="/home", trace_hosts="*.example.com", **given)
    assert from_text(to_text(settings)) == replace(settings, reports_dir=settings.reports_dir.absolute())
