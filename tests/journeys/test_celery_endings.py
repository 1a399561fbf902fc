"""Runs that cannot say how they ended: whoever survives says it, in exactly one span an attempt."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sync_tasks as sync
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.utils import uuid
from otlp_server import eventually
from trace_tree import Node
from workers import PATIENCE, Caller, Worker, drawn, publishing_app, trace, worker

import otelsync

TYPE, SIGNAL, WHY, REDELIVERED = "error.type", "celery.terminated.signal", "celery.revoked.reason", "sync.redelivered"
LATE = {"CONF_TASK_ACKS_LATE": "on", "CONF_TASK_REJECT_ON_WORKER_LOST": "on"}


class Crew:
    """A worker, and this process as the caller."""

    def __init__(self, running: Worker, app: Celery, directory: Path) -> None:
        self.worker = running
        self.app = app
        self._directory = directory

    def begin_waiting(self, **options: Any) -> tuple[Any, str, Path]:
        """A task that has begun: its result, its trace, and the file that it waits for."""
        begun, until = self.new_files()
        with otelsync.stage("caller") as here:
            result = self.app.tasks["hold"].apply_async((str(begun), str(until)), **options)
        eventually(begun.exists, PATIENCE)
        return result, here.trace_id, until

    def new_files(self) -> tuple[Path, Path]:
        """Names for files: one that says that a task has begun, one that it waits for."""
        return self._directory / uuid(), self._directory / uuid()

    def pid_of(self, trace_id: str) -> int:
        """Of the process that runs the task of a trace."""
        eventually(lambda: bool(self.runs(trace_id)), PATIENCE)
        return int(self.runs(trace_id)[0].attributes["process.pid"])

    def runs(self, trace_id: str) -> list[Node]:
        return [node for node in trace(self.worker.home, trace_id) if node.name.startswith("run/")]

    def has_ended(self, trace_id: str) -> bool:
        runs = self.runs(trace_id)
        return bool(runs) and all(run.ended for run in runs)

    def expect(self, trace_id: str, tree: str, *shown: str) -> list[Node]:
        """Hold that a trace comes to look like `tree`; returns its runs."""
        deadline = time.monotonic() + PATIENCE
        while (found := self._drawn(trace_id, *shown)) != tree and time.monotonic() < deadline:
            time.sleep(0.02)
        assert found == tree
        return self.runs(trace_id)

    def _drawn(self, trace_id: str, *shown: str) -> str:
        return drawn(trace(self.worker.home, trace_id), *shown)


@pytest.fixture(scope="module", params=["early", "late"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """A prefork worker that acknowledges a message before it runs the task, or afterwards."""
    broker = request.getfixturevalue("redis").broker()
    home = tmp_path_factory.mktemp(request.param)
    environment = LATE if request.param == "late" else {}
    with (
        worker(home, broker, "-I", "sync_tasks", environment=environment) as started,
        publishing_app(broker) as app,
    ):
        yield Crew(started, app, home)


@pytest.fixture
def crew(running: Crew) -> Iterator[Crew]:
    """The worker, with this process recording into the same home."""
    caller = Caller(running.worker.home, running.app)
    running.app.set_current()
    yield running
    caller.end()


@pytest.mark.parametrize("sent", ["SIGTERM", "SIGKILL"])
def test_terminated(crew: Crew, sent: str) -> None:
    """A run that was terminated is cancelled, and no error, though its process says otherwise or nothing."""
    result, trace_id, _ = crew.begin_waiting()
    crew.app.control.revoke(result.id, terminate=True, signal=sent)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE)
    [run] = crew.expect(
        trace_id,
        f"""
sync.stage caller
  apply_async/hold
    run/hold        [cancelled] reason=terminated signal={sent}""",
        WHY,
        SIGNAL,
    )
    assert run.status == ""
    assert run.attributes["sync.run_seconds"] > 0
    assert run.attributes["messaging.system"] == "redis"
    assert run.attributes["celery.state"] == "REVOKED"


def test_terminated_by_a_signal_that_does_not_kill(crew: Crew) -> None:
    """A run that goes on after a signal says itself how it ended."""
    result, trace_id, until = crew.begin_waiting()
    crew.app.control.revoke(result.id, terminate=True, signal="SIGCONT", reply=True, timeout=PATIENCE, limit=1)
    until.touch()
    crew.expect(
        trace_id,
        """
sync.stage caller
  apply_async/hold
    run/hold        [success]""",
        WHY,
    )
    # Its pool goes on to think of that process as terminated: another task that dies in it would count as revoked.
    os.kill(crew.pid_of(trace_id), signal.SIGKILL)


def test_a_hard_time_limit(crew: Crew) -> None:
    """A run that took too long has failed by that; what was inside has not."""
    with otelsync.stage("caller") as here:
        sync.wait_in_stage.apply_async((str(Path("/nowhere/never")),), time_limit=1)
    [run] = crew.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/sync.wait_in_stage
    run/sync.wait_in_stage        [failure] type=TimeLimitExceeded
      sync.stage waiting          [cancelled]""",
        TYPE,
    )
    assert run.message == "TimeLimitExceeded: the task took longer than 1 s"


def test_a_killed_process(crew: Crew) -> None:
    """A run whose process was killed was interrupted; one that is delivered again is its sibling, and says so."""
    result, trace_id, until = crew.begin_waiting()
    os.kill(crew.pid_of(trace_id), signal.SIGKILL)
    until.touch()
    if "CONF_TASK_ACKS_LATE" in crew.worker.environment:
        result.get(timeout=PATIENCE)
        again = "\n    run/hold        [success] redelivered=True"
    else:
        again = ""
    crew.expect(
        trace_id,
        f"""
sync.stage caller
  apply_async/hold
    run/hold        [interrupted]{again}""",
        REDELIVERED,
    )


@pytest.mark.parametrize("why", ["revoked", "expired"])
def test_never_begun(crew: Crew, why: str) -> None:
    """What was revoked or had expired before it began has a whole span that says why, and is no error."""
    options: dict[str, Any] = {"expires": datetime.now(UTC) - timedelta(seconds=10)}
    if why == "revoked":
        options = {"task_id": uuid()}
        assert crew.app.control.revoke(options["task_id"], reply=True, timeout=PATIENCE, limit=1)
    with otelsync.stage("caller") as here, otelsync.sync_context(team_id=7):
        crew.app.tasks["add"].apply_async((1, 2), **options)
    [run] = crew.expect(
        here.trace_id,
        f"""
sync.stage caller
  apply_async/add  team_id=7
    run/add        [cancelled] team_id=7 reason={why}""",
        "team_id",
        WHY,
    )
    assert (run.kind, run.status, run.attributes["celery.action"]) == (5, "", "run")
    assert run.attributes["celery.state"] == "REVOKED"


def test_many_kills_make_one_span_an_attempt(crew: Crew) -> None:
    """However often processes are killed, each attempt has exactly one span, and all of them have ended."""
    waiting = []
    for number in range(6):
        result, trace_id, until = crew.begin_waiting()
        waiting.append(trace_id)
        if number % 2:
            os.kill(crew.pid_of(trace_id), signal.SIGKILL)
            until.touch()
        else:
            crew.app.control.revoke(result.id, terminate=True, signal="SIGKILL")
    for trace_id in waiting:
        eventually(lambda t=trace_id: crew.has_ended(t), PATIENCE)  # type: ignore[misc]  # a default binds it
        runs = crew.runs(trace_id)
        assert len({run.span_id for run in runs}) == len(runs)
        assert runs[0].attributes["sync.outcome"] in ("cancelled", "interrupted")


def test_a_pipeline_waits_for_what_is_delivered_again(crew: Crew) -> None:
    """A task whose process was lost has ended for good, unless its message goes back to the queue."""
    begun, until = crew.new_files()
    with otelsync.pipeline("p") as run:
        run.dispatch(crew.app.tasks["hold"].s(str(begun), str(until)))
    eventually(begun.exists, PATIENCE)
    os.kill(crew.pid_of(run.trace_id), signal.SIGKILL)
    until.touch()

    def ended() -> list[Node]:
        nodes = trace(crew.worker.home, run.trace_id)
        return [node for node in nodes if node.name == "sync.pipeline p" and node.ended]

    eventually(ended, PATIENCE)
    [node] = ended()
    is_late = "CONF_TASK_ACKS_LATE" in crew.worker.environment
    assert node.attributes["sync.outcome"] == ("success" if is_late else "failure")
    assert node.attributes["sync.tasks.succeeded" if is_late else "sync.tasks.failed"] == 1
