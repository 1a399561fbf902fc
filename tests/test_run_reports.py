"""Reports that are due: made by a process of their own, once the run is complete, and never in anybody's way."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from otlp_server import eventually
from stored import SYNC_ID, TRACE, batch, span, store

from otelsync.reports import automatic as run_reports
from otelsync.reports.automatic import MOST, RunReports
from otelsync.reports.process import environment_of_report
from otelsync.settings import Settings
from otelsync.store.writing import StoreSink

PATIENCE = 180.0
"""Seconds that a report may take. Only one that hangs takes as long."""
GATE = """
import os, sys, time
if any(word.startswith("--in-background") for word in sys.orig_argv):
    patience = time.monotonic() + 900
    while not os.path.exists(os.environ["GATE"]) and time.monotonic() < patience:
        time.sleep(0.01)
"""
"""A ``sitecustomize`` that holds up whoever makes reports until a file is there."""


def run(number: int = 1, sync: str | None = None) -> tuple[str, str, bytes]:
    """Sync id, trace id and only span of a run."""
    trace = f"{number:08x}{'0' * 24}" if number else TRACE
    sync = sync or f"202508022027-SYNC-{trace[:8].upper()}"
    return sync, trace, span("sync.pipeline nightly", 1, trace=trace, sync=sync, sync__outcome="success")


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., RunReports]:
    """Reports of what is in the store of the test."""

    def make(directory: Path | None = None, **variables: str) -> RunReports:
        settings = Settings.from_environment(home=tmp_path)
        environment = environment_of_report(settings, {**os.environ, **variables})
        return RunReports(directory or tmp_path / "reports", environment)

    return make


def begun(reports: RunReports) -> bool:
    """Whether what is due is being made; it is looked at."""
    reports.look()
    return bool(reports.pids)


def folders(tmp_path: Path) -> list[str]:
    """The reports that are there."""
    return sorted(path.name for path in tmp_path.glob("reports/[!.]*"))


def test_a_report_is_made_when_no_more_records_come(made: Callable[..., RunReports], tmp_path: Path) -> None:
    """What is due is made by and by, while somebody looks; other runs get none."""
    (sync, trace, ended), (_, _, other) = run(1), run(2)
    store(tmp_path / "store.db", batch(ended, other))
    reports = made()
    reports.ended(sync, trace)
    reports.look()
    assert reports.pids == []

    def is_there() -> bool:
        reports.recorded({"another"})
        reports.look()
        return bool(folders(tmp_path)) and not reports.pids

    eventually(is_there)
    assert folders(tmp_path) == [sync]
    assert (tmp_path / "reports" / sync / "waterfall.html").exists()


@pytest.mark.parametrize(
    ("settles", "at_most", "begins"), [(3600.0, 3600.0, False), (0.0, 3600.0, True), (3600.0, 0.0, True)]
)
def test_records_hold_a_report_back_for_a_while(
    made: Callable[..., RunReports], monkeypatch: pytest.MonkeyPatch, settles: float, at_most: float, begins: bool
) -> None:
    """A report waits until no more records of its run have come, and not for ever."""
    monkeypatch.setattr(run_reports, "SETTLES", settles)
    monkeypatch.setattr(run_reports, "SETTLES_AT_MOST", at_most)
    reports = made()
    sync, trace, _ = run()
    reports.ended(sync, trace)
    reports.recorded({sync})
    reports.look()
    assert bool(reports.pids) == begins
    reports.close(time.monotonic() + PATIENCE)


def test_closing_makes_what_is_due(made: Callable[..., RunReports], tmp_path: Path) -> None:
    """At the end nothing more can come: all reports are made, and waited for; then there is nothing left to do."""
    runs = [run(number) for number in range(1, 4)]
    store(tmp_path / "store.db", batch(*(ended for _, _, ended in runs)))
    reports = made()
    for sync, trace, _ in runs:
        reports.ended(sync, trace)
    reports.close(time.monotonic() + PATIENCE)
    assert folders(tmp_path) == [sync for sync, _, _ in runs]
    assert reports.pids == []


def test_what_takes_longer_goes_on(made: Callable[..., RunReports], tmp_path: Path) -> None:
    """A process that is not done in time is left alone, as is what was due behind it, and comes to its end."""
    (first, *_), (second, *_) = runs = run(1), run(2)
    store(tmp_path / "store.db", batch(*(ended for _, _, ended in runs)))
    (tmp_path / "sitecustomize.py").write_text(GATE)
    reports = made(PYTHONPATH=str(tmp_path), GATE=str(tmp_path / "open"))
    reports.ended(*runs[0][:2])
    reports.close(0)
    reports.ended(*runs[1][:2])
    reports.close(0)
    assert len(reports.pids) == 2
    assert folders(tmp_path) == []
    (tmp_path / "open").touch()
    eventually(lambda: folders(tmp_path) == [first, second])


def test_the_process_is_out_of_the_way(made: Callable[..., RunReports], tmp_path: Path) -> None:
    """Its priority is low, it is in a session of its own, and neither records nor ships."""
    sync, trace, ended = run()
    store(tmp_path / "store.db", batch(ended))
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, sys\n"
        "if any(word.startswith('--in-background') for word in sys.orig_argv):\n"
        "    atexit.register(lambda: open(os.environ['SEEN'], 'w').write(\n"
        "        f'{os.nice(0)} {os.getsid(0) == os.getpid()} {os.environ[\"OTEL_SDK_DISABLED\"]}'\n"
        "        f' {os.environ.get(\"OTEL_EXPORTER_OTLP_ENDPOINT\")}'))\n"
    )
    seen = tmp_path / "seen"
    endpoint = "http://127.0.0.1:1"
    reports = made(PYTHONPATH=str(tmp_path), SEEN=str(seen), OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    reports.ended(sync, trace)
    reports.close(time.monotonic() + PATIENCE)
    assert seen.read_text() == f"{min(19, os.nice(0) + 10)} True true None"
    assert not (tmp_path / "journals").exists()


def test_a_second_end_makes_it_again(made: Callable[..., RunReports], tmp_path: Path) -> None:
    """An end that comes twice, as two processes may claim it, or late, is followed by another report."""
    sync, trace, ended = run()
    reports = made()
    sink = StoreSink(tmp_path / "store.db", watch=reports)
    sink.deliver(batch(ended))
    reports.close(time.monotonic() + PATIENCE)
    written = tmp_path / "reports" / sync / "summary.json"
    written.unlink()
    sink.deliver(batch(span("sync.repo acme/api", 2, 1, trace=trace, sync=sync), start=1, end=2))
    reports.close(time.monotonic() + PATIENCE)
    assert not written.exists()
    sink.deliver(batch(ended, start=2, end=3))
    reports.close(time.monotonic() + PATIENCE)
    assert written.exists()
    sink.close()


def test_a_failure_is_said_once(
    made: Callable[..., RunReports], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first report that cannot be made is a warning with the cause and the fix; the others are still tried."""
    (first, trace, ended), (second, other, _) = run(1), run(2)
    store(tmp_path / "store.db", batch(ended))
    reports = made()
    reports.ended(second, other)
    reports.ended(first, trace)
    reports.close(time.monotonic() + PATIENCE)
    assert folders(tmp_path) == [first]
    for _ in range(2):
        reports.ended(second, other)
        reports.close(time.monotonic() + PATIENCE)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"a report could not be made: no run is called '{second}'; did you mean {first}?")
    assert "`otelsync report` makes it by hand" in said


@pytest.mark.parametrize(
    ("executable", "cause"),
    [("/usr/bin/uwsgi", "/usr/bin/uwsgi is no Python"), ("/nowhere/python3", "/nowhere/python3")],
)
def test_where_no_python_can_be_started(
    made: Callable[..., RunReports],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    executable: str,
    cause: str,
) -> None:
    """A program that Python is embedded in is not started as if it were one; a missing Python is a warning."""
    reports = made()
    monkeypatch.setattr(sys, "executable", executable)
    reports.ended(*run()[:2])
    reports.close(time.monotonic() + PATIENCE)
    (said,) = [record.getMessage() for record in caplog.records]
    assert cause in said


def test_a_process_that_is_killed_is_named(
    made: Callable[..., RunReports], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A report whose process was ended from outside is a failure."""
    (tmp_path / "sitecustomize.py").write_text(GATE)
    reports = made(PYTHONPATH=str(tmp_path), GATE=str(tmp_path / "never"))
    reports.ended(*run()[:2])
    eventually(lambda: begun(reports))
    (pid,) = reports.pids
    os.kill(pid, 9)
    reports.close(time.monotonic() + PATIENCE)
    assert "its process was ended by signal 9" in caplog.text


def test_too_many_wait(made: Callable[..., RunReports], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond a hundred the oldest go without; that is said once. A run waits once however often it has ended."""
    runs = [run(number) for number in range(1, MOST + 3)]
    store(tmp_path / "store.db", batch(*(ended for _, _, ended in runs)))
    reports = made()
    for sync, trace, _ in runs:
        reports.ended(sync, trace)
        reports.ended(sync, trace)
    reports.close(time.monotonic() + PATIENCE)
    assert folders(tmp_path) == [sync for sync, _, _ in runs[2:]]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("sync", ["--help", "a b\n", "\x00", "x" * 500_000, "../up"])
def test_a_sync_id_is_any_text(made: Callable[..., RunReports], tmp_path: Path, sync: str) -> None:
    """An id that is an option, or cannot be an argument, is one like any other."""
    _, trace, ended = run(sync=sync)
    store(tmp_path / "store.db", batch(ended))
    reports = made()
    reports.ended(sync, trace)
    reports.close(time.monotonic() + PATIENCE)
    assert len(folders(tmp_path)) == 1


def test_a_forked_child_leaves_reports_to_its_parent(made: Callable[..., RunReports], tmp_path: Path) -> None:
    """In the child nothing is due and nothing is being made; the parent's go on."""
    (first, *_), (second, *_) = runs = run(1), run(2)
    store(tmp_path / "store.db", batch(*(ended for _, _, ended in runs)))
    (tmp_path / "sitecustomize.py").write_text(GATE)
    reports = made(PYTHONPATH=str(tmp_path), GATE=str(tmp_path / "open"))
    reports.ended(*runs[0][:2])
    eventually(lambda: begun(reports))
    reports.ended(*runs[1][:2])
    child = os.fork()
    if child == 0:
        reports.close(time.monotonic() + PATIENCE)
        os._exit(len(reports.pids))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert folders(tmp_path) == []
    (tmp_path / "open").touch()
    reports.close(time.monotonic() + PATIENCE)
    assert folders(tmp_path) == [first, second]


def test_the_environment_says_where_the_data_is_and_nothing_else(tmp_path: Path) -> None:
    """No option of whoever ships has a say in how a report is made, nor what sets up a recorded program."""
    from otelsync.hooks.python_path import BOOTSTRAP

    settings = Settings.from_environment(home=tmp_path, reports_keep=7)
    given = {"PYTHONPATH": f"{BOOTSTRAP}:/lib", "LOG_LEVEL": "SHOUTING", "OTELSYNC_SHIP": "thread", "HOME": "/root"}
    assert environment_of_report(settings, given) == {
        "PYTHONPATH": "/lib",
        "HOME": "/root",
        "OTELSYNC_HOME": str(tmp_path),
        "OTELSYNC_STORE_PATH": str(tmp_path / "store.db"),
        "OTELSYNC_REPORTS": "off",
        "OTELSYNC_REPORTS_KEEP": "7",
        "OTELSYNC_SHIP": "off",
        "OTEL_SDK_DISABLED": "true",
    }


def test_a_directory_does_not_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative directory is below where the program was when it began, wherever it goes then."""
    sync, trace, ended = run(0)
    assert sync == SYNC_ID
    store(tmp_path / "store.db", batch(ended))
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment(home=tmp_path)
    reports = RunReports(settings.reports_dir, environment_of_report(settings, os.environ))
    monkeypatch.chdir("/")
    reports.ended(sync, trace)
    reports.close(time.monotonic() + PATIENCE)
    assert (tmp_path / "reports" / "sync" / SYNC_ID / "summary.json").exists()
