"""At the end of every run its report is there, whoever ships and however the run came to its end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from otlp_server import eventually, otlp_server
from supervised import OTELSYNC, PATIENCE, environment, run, running, script
from test_run_reports import GATE
from trace_tree import spans_in_store

PYTHON = sys.executable

SYNC = """
import os, signal, sys
import otelsync

otelsync.configure(service_name="sync", log_stream=sys.stderr)

def sync(how):
    with otelsync.pipeline("nightly") as run, otelsync.repo("acme/api"):
        with otelsync.pull_request(1) as pr:
            pr.set(action="created")
        if how == "failure":
            raise ValueError("no title")
        if how == "interrupted":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "cancelled":
            os.kill(os.getpid(), signal.SIGINT)
    print(run.sync_id, flush=True)

for how in sys.argv[1:]:
    sync(how)
"""
WHOLE = ["_SYNC_SUMMARY.md", "acme-api.md", "summary.json", "waterfall.html"]


class Place:
    """A directory with a program, its data, and the reports of its runs, which are made as they are by default."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.program = script(path, SYNC)
        self.home = path / "home"
        self.reports = path / "reports" / "sync"

    def environment(self, **variables: str) -> dict[str, str]:
        """Of a program here; an empty variable is none."""
        made = environment(self.home, OTELSYNC_REPORTS="", OTELSYNC_SHUTDOWN_TIMEOUT="60", LOG_LEVEL="ERROR")
        return {name: value for name, value in (made | variables).items() if value}

    def sync(self, *how: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the program here, which ships by itself."""
        return subprocess.run(
            [PYTHON, "-W", "error", self.program, *how],
            cwd=self.path,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def folders(self) -> list[str]:
        """The names of the reports."""
        return sorted(path.name for path in self.reports.glob("[!.]*"))

    def summary(self) -> dict[str, Any]:
        """The figures of the only report, which is whole."""
        (folder,) = self.reports.glob("[!.]*")
        assert sorted(path.name for path in folder.iterdir()) == WHOLE
        figures: dict[str, Any] = json.loads((folder / "summary.json").read_text())
        assert figures["sync_id"] == folder.name
        assert figures["discrepancies"] == []
        return figures


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def supervised(place: Place, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The program under ``otelsync run``."""
    given = {"OTELSYNC_REPORTS": "auto", "OTELSYNC_REPORTS_DIR": str(place.reports), "OTELSYNC_SHUTDOWN_TIMEOUT": "60"}
    return run(place.home, PYTHON, place.program, *arguments, **{"LOG_LEVEL": "ERROR", **given, **variables})


@pytest.mark.parametrize(("how", "outcome"), [("", "success"), ("failure", "failure"), ("cancelled", "cancelled")])
def test_a_program_that_ships_by_itself(place: Place, how: str, outcome: str) -> None:
    """When it has ended, well or not, the report of its run is there, below its current directory."""
    ended = place.sync(how)
    assert place.summary()["outcome"] == outcome, ended.stderr
    assert (place.summary()["items"]["created"], place.summary()["rows"]["spans"]) == (1, 3)
    assert "Warning" not in ended.stderr
    if not how:
        assert (ended.returncode, ended.stderr, ended.stdout.split()) == (0, "", place.folders())


def test_a_program_that_goes_on(place: Place) -> None:
    """While a program lives, the reports of the runs that it has ended are made."""
    code = place.program.read_text() + "sys.stdin.read()\n"
    with subprocess.Popen(
        [PYTHON, "-c", code, ""],
        cwd=place.path,
        env=place.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        eventually(place.folders)
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()
    assert place.summary()["outcome"] == "success"


@pytest.mark.parametrize(("how", "outcome"), [("", "success"), ("failure", "failure"), ("interrupted", "interrupted")])
def test_a_program_under_otelsync_run(place: Place, how: str, outcome: str) -> None:
    """When `otelsync run` has ended, the report is there, also of a program that was killed; nobody is left behind."""
    ended = supervised(place, how)
    assert place.summary()["outcome"] == outcome
    assert (place.summary()["items"]["created"], place.summary()["rows"]["spans"]) == (1, 3)
    assert ended.returncode == {"success": 0, "failure": 1, "interrupted": -signal.SIGKILL}[outcome]
    said = [line for line in ended.stderr.splitlines() if line.startswith("otelsync: ")]
    assert len(said) == 1
    assert said[0].endswith(": all shipped")


def test_a_supervisor_does_not_wait_longer_than_it_may(place: Place) -> None:
    """A report that takes longer than the drain is finished by itself, and nobody takes it for a part of the run."""
    (place.path / "sitecustomize.py").write_text(GATE)
    gate = place.path / "open"
    ended = supervised(place, "", PYTHONPATH=str(place.path), GATE=str(gate), OTELSYNC_SHUTDOWN_TIMEOUT="3")
    assert place.folders() == []
    assert "all shipped" in ended.stderr
    assert "go on" not in ended.stderr
    gate.touch()
    eventually(place.folders)
    assert place.summary()["outcome"] == "success"


def test_a_signal_while_a_report_is_made(place: Place) -> None:
    """It ends the wait and not the report; what was shipped is told as it is."""
    (place.path / "sitecustomize.py").write_text(GATE)
    gate = place.path / "open"
    with running(
        place.home,
        *(PYTHON, place.program, ""),
        OTELSYNC_REPORTS="auto",
        OTELSYNC_REPORTS_DIR=str(place.reports),
        OTELSYNC_SHUTDOWN_TIMEOUT="60",
        PYTHONPATH=str(place.path),
        GATE=str(gate),
    ) as process:
        eventually(lambda: _making(process.pid))
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "all shipped" in said
    gate.touch()
    eventually(place.folders)
    assert place.summary()["outcome"] == "success"


def _making(parent: int) -> bool:
    """Whether all that a process still waits for is a report that is made."""
    children = Path(f"/proc/{parent}/task").glob("*/children")
    pids = [pid for path in children for pid in path.read_text().split()]
    with suppress(OSError):
        commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
        return bool(commands) and all(b"--in-background" in command for command in commands)
    return False


def test_a_daemon_that_ships(place: Place) -> None:
    """`otelsync ship` makes the reports while it goes on, in one place for all services."""
    daemon = subprocess.Popen(
        [*OTELSYNC, "ship"], cwd=place.path, env=place.environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        first = place.sync("", OTELSYNC_SHIP="off")
        eventually(lambda: place.folders() == first.stdout.split())
        second = place.sync("", OTELSYNC_SHIP="off", OTELSYNC_JOURNAL_DIR=str(place.home / "journals" / "other"))
        expected = sorted((first.stdout + second.stdout).split())
        eventually(lambda: place.folders() == expected)
        assert daemon.poll() is None
    finally:
        daemon.terminate()
        _, said = daemon.communicate(timeout=PATIENCE)
    assert (daemon.returncode, said.count("\n")) == (0, 1)


def test_what_was_killed_is_reported_by_whoever_ships_it(place: Place) -> None:
    """A program that is killed has its report from the shipper beside it; one that ships by a thread, from the next."""
    place.sync("interrupted")
    eventually(lambda: place.folders())
    assert place.summary()["outcome"] == "interrupted"
    shutil.rmtree(place.reports)
    place.sync("interrupted", OTELSYNC_SHIP="thread")
    assert place.folders() == []
    subprocess.run([*OTELSYNC, "ship", "--once"], cwd=place.path, env=place.environment(), check=True, timeout=PATIENCE)
    assert place.summary()["outcome"] == "interrupted"


def test_a_directory_that_cannot_be_written(place: Place) -> None:
    """Program and shipping are unharmed; one warning for all runs names the cause and the fix."""
    (place.path / "reports").write_text("a file")
    ended = place.sync("", "", LOG_LEVEL="WARNING")
    assert ended.returncode == 0
    (line,) = ended.stderr.splitlines()
    said = json.loads(line)
    assert said["level"] == "warning"
    assert "cannot write the report" in said["event"]
    assert "OTELSYNC_REPORTS_DIR" in said["event"]
    assert len(spans_in_store(place.home / "store.db")) == 6
    under_run = supervised(place, "")
    assert under_run.returncode == 0
    assert under_run.stderr.count("a report could not be made") == 1
    assert "all shipped" in under_run.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"OTELSYNC_REPORTS": "off"},
        {"OTELSYNC_STORE": "off"},
        {"OTELSYNC_SHIP": "off"},
        {"OTEL_SDK_DISABLED": "true"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_where_there_are_none(place: Place, variables: dict[str, str]) -> None:
    """None is made if none is wanted, nothing is stored, nobody ships, or nothing is recorded."""
    assert place.sync("", **variables).stderr == ""
    assert not (place.path / "reports").exists()


def test_where_there_is_no_store(place: Place) -> None:
    """With an endpoint alone there is no report, and nothing is said of it."""
    with otlp_server() as server:
        assert place.sync("", OTEL_EXPORTER_OTLP_ENDPOINT=server.url).stderr == ""
        assert place.folders() == []
        both = place.sync("", OTEL_EXPORTER_OTLP_ENDPOINT=server.url, OTELSYNC_STORE="on")
        assert place.folders() == both.stdout.split()


def test_the_newest_are_kept(place: Place) -> None:
    """No more stay than are asked for; what is not ours stays as well."""
    foreign = place.reports / "202501010101-SYNC-AAAAAAAA"
    foreign.mkdir(parents=True)
    (foreign / "summary.json").write_text("{}")
    ids = [place.sync("", OTELSYNC_REPORTS_KEEP="2", OTELSYNC_SHUTDOWN_TIMEOUT="120").stdout.strip() for _ in range(3)]
    assert place.folders() == sorted([foreign.name, *ids[1:]])


def test_a_trace_without_a_pipeline_has_none(place: Place) -> None:
    """Only runs, as `otelsync list` shows them, have reports."""
    place.program.write_text("import otelsync\notelsync.configure()\nwith otelsync.stage('alone'):\n    pass\n")
    assert place.sync().returncode == 0
    assert len(spans_in_store(place.home / "store.db")) == 1
    assert not (place.path / "reports").exists()


def test_a_forked_child_makes_none(place: Place) -> None:
    """A child that ends in its own way neither waits for its parent's reports, which are held up, nor makes any."""
    (place.path / "sitecustomize.py").write_text(GATE)
    place.program.write_text(
        SYNC
        + "otelsync.flush(60)\n"
        + "child = os.fork()\n"
        + "if child:\n"
        + "    assert os.waitpid(child, 0)[1] == 0\n"
        + "    print(len(os.listdir('reports/sync')) if os.path.exists('reports') else 0)\n"
        + "    open(os.environ['GATE'], 'w').close()\n"
    )
    gate = str(place.path / "open")
    ended = place.sync("", PYTHONPATH=str(place.path), GATE=gate, OTELSYNC_SHUTDOWN_TIMEOUT="120")
    assert ended.returncode == 0, ended.stderr
    sync_id, before = ended.stdout.split()
    assert (place.folders(), before) == ([sync_id], "0")
