"""Logs of a Celery worker: its own lines with ids where logging is kept, ours and each once where it was taken over."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import signals
from celery.app.log import Logging, TaskFormatter
from celery.utils.log import ColorFormatter
from recorded import Recorded
from test_configuration import python
from trace_tree import Line, logs_in_journal, spans_in_journal

import otelsync
from otelsync.integrations.celery import worker_logging
from otelsync.integrations.celery.worker_logging import LogFile

PROJECT = """
import logging, os
from celery import Celery, signals
from celery.utils.log import get_task_logger
import otelsync
app = Celery("project", broker="filesystem://", backend="file://" + os.environ["QUEUES"])
app.conf.broker_transport_options = {
    name: os.environ["QUEUES"] for name in ("data_folder_in", "data_folder_out", "control_folder", "processed_folder")
}
log = get_task_logger(__name__)
if os.environ.get("TAKEN") == "at import":
    otelsync.configure(log_format="json")
elif os.environ.get("TAKEN") == "in each child":
    @signals.worker_process_init.connect
    def begin(**_):
        otelsync.configure(log_format="json")

@app.task
def work(a, b):
    log.info("adding %d and %d", a, b)
    logging.getLogger("elsewhere").warning("two\\nlines")
    print("printed")
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("failed")
    return a + b
"""
WORKER = """
import sys
from otelsync.configuration import lifecycle
lifecycle.begin_under_run()
import otelsync
otelsync.instrument("celery")
from celery.__main__ import main
sys.argv = ["celery", "-A", "project", "worker", "--without-gossip", "--without-mingle", *sys.argv[1:]]
main()
"""


@pytest.fixture(autouse=True)
def _untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery has not set up logging in this process, whatever worker ran in it before."""
    monkeypatch.setattr(Logging, "_setup", False)


class Work:
    """What a worker has said and recorded of one task."""

    def __init__(self, directory: Path, *options: str, **environment: str) -> None:
        self.directory = directory
        self.queues = directory / "queues"
        self.queues.mkdir(parents=True)
        (directory / "project.py").write_text(PROJECT)
        variables = {
            **os.environ,
            "PYTHONPATH": str(directory),
            "QUEUES": str(self.queues),
            "OTELSYNC_HOME": str(directory),
            "OTELSYNC_SHIP": "off",
            "OTEL_SERVICE_NAME": "worker",
            **environment,
        }
        with (directory / "output").open("wb") as output:
            worker = subprocess.Popen(
                [sys.executable, "-c", WORKER, *options],
                cwd=directory,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            client = "from project import work; print(work.delay(1, 2).get(timeout=120))"
            asked = python(client, **{**variables, "TAKEN": "", "PYTHONWARNINGS": "ignore"}, OTEL_SDK_DISABLED="true")
            assert asked.stdout.endswith("3\n"), asked.stderr + self.output
        finally:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(60)
            finally:
                worker.kill()

    @property
    def output(self) -> str:
        return (self.directory / "output").read_text()

    @property
    def records(self) -> list[Line]:
        return [line for line in logs_in_journal(self.directory / "journals" / "worker") if line.logger != "otelsync"]

    @property
    def run(self) -> Any:
        (span,) = [
            node for node in spans_in_journal(self.directory / "journals" / "worker") if node.name.startswith("run/")
        ]
        return span

    def of(self, *loggers: str) -> list[tuple[str, str]]:
        """Event and span id of what these loggers have said."""
        return [(line.event, line.span_id) for line in self.records if line.logger in loggers]


def lines_of(text: str, word: str) -> list[str]:
    return [line for line in text.splitlines() if word in line]


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_lines_of_a_worker_carry_the_ids_of_its_tasks(tmp_path: Path, pool: str) -> None:
    """Under `otelsync run` a worker's lines are Celery's own, those of a task with its ids, each journalled once."""
    work = Work(tmp_path, "-P", pool, "-c", "1", "-l", "INFO")
    ids = f" trace_id={work.run.trace_id} span_id={work.run.span_id}"
    for said in ("adding 1 and 2", "two", "printed", "failed"):
        (line,) = lines_of(work.output, said)
        assert re.fullmatch(rf"\[[-\d: ,]+: [A-Z]+/\w+(-\d+)?\] .*{said}{ids}", line), line
    for said in ("received", "succeeded in"):
        (line,) = lines_of(work.output, said)
        assert line.endswith(ids), line
    assert [line for line in work.output.splitlines() if "ready." in line and "trace_id" in line] == []
    assert re.search(rf"failed{ids}\nTraceback \(most recent call last\):\n  File .*\n    1 / 0\n", work.output)
    assert re.search(rf"two{ids}\nlines\n", work.output)
    span_id = work.run.span_id
    assert work.of("project", "elsewhere", "celery.redirected") == [
        ("adding 1 and 2", span_id),
        ("two\nlines", span_id),
        ("printed", span_id),
        ("failed", span_id),
    ]
    ((received, of_received),) = work.of("celery.worker.strategy")
    assert (received.endswith("received"), of_received) == (True, span_id)
    ((succeeded, of_succeeded),) = work.of("celery.app.trace")
    assert ("succeeded in" in succeeded, of_succeeded) == (True, span_id)


def test_a_log_file_carries_ids(tmp_path: Path) -> None:
    """With --logfile, as `celery multi` gives it, the lines in the file carry the ids."""
    work = Work(tmp_path, "-P", "prefork", "-c", "1", "-l", "INFO", "-f", "%p%I.log")
    (file,) = tmp_path.glob("*-1.log")
    (line,) = lines_of(file.read_text(), "adding 1 and 2")
    assert line.endswith(f" trace_id={work.run.trace_id} span_id={work.run.span_id}")


@pytest.mark.parametrize("taken", ["at import", "in each child"])
def test_a_program_that_takes_logging_over(tmp_path: Path, taken: str) -> None:
    """After configure() tasks' records come out rendered by us, once, with ids, although Celery wants the root."""
    work = Work(tmp_path, "-P", "prefork", "-c", "1", TAKEN=taken)
    rendered = [json.loads(line) for line in work.output.splitlines() if line.startswith("{")]
    said = [(line["event"], line["span_id"]) for line in rendered if line["logger"] in ("project", "elsewhere")]
    span_id = work.run.span_id
    assert said == [("adding 1 and 2", span_id), ("two\nlines", span_id), ("failed", span_id)]
    assert work.of("project", "elsewhere") == said
    assert len(lines_of(work.output, "adding 1 and 2")) == 1
    assert len(lines_of(work.output, "printed")) == 1
    if taken == "at import":  # else Celery has decided before that nobody wants its own records of tasks
        of_celery = [line for line in rendered if "received" in line["event"] or "succeeded in" in line["event"]]
        assert [line["span_id"] for line in of_celery] == [span_id] * 2


def test_the_options_of_a_worker_are_obeyed(tmp_path: Path) -> None:
    """Where logging was taken over --loglevel is our level, and --logfile our file, for each child its own."""
    Work(tmp_path, "-P", "prefork", "-c", "1", "-l", "WARNING", "-f", "worker%I.log", TAKEN="at import")
    child = [json.loads(line)["event"] for line in (tmp_path / "worker-1.log").read_text().splitlines()]
    assert [event for event in child if event in ("adding 1 and 2", "two\nlines", "failed")] == ["two\nlines", "failed"]
    assert all(json.loads(line)["level"] != "info" for line in (tmp_path / "worker.log").read_text().splitlines())
    assert "two" not in (tmp_path / "output").read_text()


# Line by line


@pytest.fixture
def connected(record: Callable[..., Recorded]) -> Any:
    """Celery's lines carry ids, as in a worker."""
    recorded = record(logging="keep")
    worker_logging.connect()
    yield recorded
    worker_logging.disconnect()


def shown(formatter: logging.Formatter, message: str, *, level: int = logging.INFO) -> str:
    """What a handler of Celery's writes with a formatter that it got after the signal."""
    logger, stream = logging.getLogger("celery.shown"), io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    try:
        signals.after_setup_logger.send(
            sender=None, logger=logger, loglevel=level, logfile=None, format="", colorize=None
        )
        handler.setFormatter(formatter)
        logger.handlers = [handler]
        logger.log(level, message)
    finally:
        logger.handlers, logger.propagate = [], True
    return stream.getvalue()


@pytest.mark.parametrize(
    "formatter",
    [
        logging.Formatter("%(message)s"),
        ColorFormatter('{"message": "%(message)s"}', use_color=False),
        ColorFormatter("%(message)s [%(otelTraceID).0s]", use_color=False),
    ],
)
def test_lines_that_may_be_no_free_text_are_left_alone(connected: Recorded, formatter: logging.Formatter) -> None:  # noqa: ARG001
    """A formatter of the program's, and a format that does not end with the message, get no ids behind them."""
    with otelsync.stage("s"):
        inside = shown(formatter, "said")
    assert inside == shown(formatter, "said")


@pytest.mark.parametrize("kind", [ColorFormatter, TaskFormatter])
def test_colours_stay(connected: Recorded, kind: type[ColorFormatter]) -> None:  # noqa: ARG001
    """A coloured line is coloured as before, with the ids behind it; outside spans it is the same to the byte."""
    formatter = kind("%(message)s", use_color=True)
    with otelsync.pipeline("p") as run:
        inside = shown(formatter, "said", level=logging.ERROR)
    outside = shown(formatter, "said", level=logging.ERROR)
    assert outside == "\x1b[1;31msaid\x1b[0m\n"
    ids = f" trace_id={run.trace_id} span_id={run.span_id} sync_id={run.sync_id}"
    assert inside == outside.replace("\n", f"{ids}\n")


def test_everything_is_put_back(record: Callable[..., Recorded]) -> None:
    """After disconnect() nobody listens to Celery's signals, and handlers format as they did."""
    record(logging="keep")
    receivers = [len(each.receivers or ()) for each in (signals.after_setup_logger, signals.setup_logging)]
    worker_logging.connect()
    worker_logging.connect()
    logger = logging.getLogger("celery.shown")
    handler = logging.NullHandler()
    logger.handlers = [handler]
    try:
        signals.after_setup_logger.send(sender=None, logger=logger, loglevel=20, logfile=None, format="", colorize=None)
        assert "format" in vars(handler)
        otelsync.shutdown()
        otelsync.configure(logging="take", ship="off", home=Path(os.devnull), log_stream=io.StringIO())
        assert len(signals.setup_logging.receivers or ()) == receivers[1] + 1
        worker_logging.disconnect()
        worker_logging.disconnect()
        assert "format" not in vars(handler)
        assert [len(each.receivers or ()) for each in (signals.after_setup_logger, signals.setup_logging)] == receivers
    finally:
        logger.handlers = []


def test_a_log_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    """After logrotate has moved the file, lines go to a new one of its name."""
    file = LogFile(str(tmp_path / "log"))
    try:
        file.write(b"one\n")
        file.flush()
        (tmp_path / "log").rename(tmp_path / "log.1")
        file.write(b"two\n")
        file.flush()
    finally:
        file.close()
    assert ((tmp_path / "log.1").read_text(), (tmp_path / "log").read_text()) == ("one\n", "two\n")
