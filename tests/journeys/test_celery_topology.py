"""Topology: what a canvas of Celery looks like as a trace, over real brokers and in every pool.

Every publish is a span that its run is below. What Celery publishes on its own, to go on with a canvas, is a sibling of
what was published first, with a link to the run that caused it: a chain of a thousand steps is no deeper than one task.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import TaskRevokedError, TimeLimitExceeded
from celery.utils import uuid
from otlp_server import eventually, otlp_server
from workers import PATIENCE, Caller, Expectation, Worker, hold, publishing_app, trace, traces, worker

import otelsync

CREWS = ("redis-prefork", "rabbitmq-prefork", "redis-threads", "rabbitmq-solo", "redis-gevent")
prefork = pytest.mark.parametrize("crew", CREWS[:2], indirect=True)
"""For what no other pool can do."""
ATTEMPT, LOST = "sync.attempt", "error.type"


@pytest.fixture(scope="module", params=CREWS)
def crew(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """A worker for all tests of this module that want one of its kind."""
    system, pool = request.param.split("-")
    broker = request.getfixturevalue(system).broker()
    home = tmp_path_factory.mktemp(request.param)
    with (
        worker(home, broker, pool=pool, concurrency=1 if pool == "solo" else 4) as running,
        publishing_app(broker) as app,
    ):
        crew = Crew(running, app)
        yield crew
        assert running.end() == 0, running.log
    for expected in crew.expected:
        hold(home, expected)  # still: nothing more has come


class Crew:
    """A worker, and what its traces have to look like when it has ended."""

    def __init__(self, running: Worker, app: Celery) -> None:
        self.worker = running
        self.app = app
        self.expected: list[Expectation] = []

    def joined(self, tree: str) -> str:
        """A tree with chords, as it looks here: where Celery polls for the headers no run of one publishes the body."""
        polled = self.worker.broker.results.startswith("file:")
        return re.sub(r"(apply_async/total) +-> run/\w+", r"\1", tree) if polled else tree


@pytest.fixture
def caller(crew: Crew) -> Iterator[Caller]:
    """What publishes to the worker."""
    caller = Caller(crew.worker.home, crew.app)
    yield caller
    caller.end()
    crew.expected += caller.expected


def result_of(result: Any) -> object:
    """What came of a task, as soon as it is known."""
    return result.get(timeout=PATIENCE, interval=0.02)


def test_delay(caller: Caller) -> None:
    """A task is a publish, and below it a run."""
    with otelsync.stage("caller") as here:
        result = caller.task("add").delay(1, 2)
    assert result_of(result) == 3
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/add
    run/add        [success] attempt=1""",
        ATTEMPT,
    )


def test_a_task_that_fails(caller: Caller) -> None:
    """Its run is a failure and names the exception; the publish is none."""
    with otelsync.stage("caller") as here:
        result = caller.task("fail").delay("no such repo")
    with pytest.raises(ValueError, match="no such repo"):
        result_of(result)
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/fail
    run/fail        [failure] type=ValueError""",
        LOST,
    )


def test_send_task_to_an_unknown_name(caller: Caller) -> None:
    """A task that only the worker knows is traced like any other."""
    with otelsync.stage("caller") as here:
        result = caller.app.send_task("remote", (7,))
    assert result_of(result) == 7
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/remote
    run/remote        [success]""",
    )


def test_a_task_that_nobody_knows(caller: Caller) -> None:
    """What the worker has to discard has a run that failed."""
    with otelsync.stage("caller") as here:
        caller.app.send_task("nobody.knows")
        result = caller.task("add").delay(1, 1)
    assert result_of(result) == 2
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/add
    run/add                 [success]
  apply_async/nobody.knows
    run/nobody.knows        [failure] type=NotRegistered""",
        LOST,
    )


def test_published_outside_any_span(caller: Caller) -> None:
    """The publish is the root, and the rest of the canvas is in its trace."""
    add, first = caller.task("add"), uuid()
    assert result_of(chain(add.s(1, 2).set(task_id=first), add.s(3)).delay()) == 6
    caller.expect(
        _trace_of(caller.home, first),
        """
apply_async/add
  apply_async/add  -> run/add
    run/add        [success]
  run/add          [success]""",
    )


def _trace_of(home: Path, task_id: str) -> str:
    """The trace in which a task was published."""
    (trace_id,) = {node.trace_id for node in traces(home) if node.attributes.get("messaging.message.id") == task_id}
    return trace_id


def test_chain(caller: Caller) -> None:
    """The steps of a chain are siblings, each linked to the one that it follows."""
    add = caller.task("add")
    with otelsync.stage("caller") as here:
        result = chain(add.s(1, 1), add.s(1), add.s(1), add.s(1), add.s(1))()
    assert result_of(result) == 6
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/add
    run/add        [success]
  apply_async/add  -> run/add
    run/add        [success]
  apply_async/add  -> run/add
    run/add        [success]
  apply_async/add  -> run/add
    run/add        [success]
  apply_async/add  -> run/add
    run/add        [success]""",
    )


def test_group(caller: Caller) -> None:
    """The members of a group are siblings."""
    add = caller.task("add")
    with otelsync.stage("caller") as here:
        result = group(add.s(number, 1) for number in range(3))()
    assert result_of(result) == [1, 2, 3]
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/add
    run/add        [success]
  apply_async/add
    run/add        [success]
  apply_async/add
    run/add        [success]""",
    )


def test_chord(crew: Crew, caller: Caller) -> None:
    """The body of a chord is a sibling of its headers, linked to each; nothing is seen of how it was waited for."""
    add, total = caller.task("add"), caller.task("total")
    with otelsync.stage("caller") as here:
        result = chord([add.s(number, 1) for number in range(3)])(total.s())
    assert result_of(result) == 6
    caller.expect(
        here.trace_id,
        crew.joined("""
sync.stage caller
  apply_async/add
    run/add          [success]
  apply_async/add
    run/add          [success]
  apply_async/add
    run/add          [success]
  apply_async/total  -> run/add
    run/total        [success] -> apply_async/add -> apply_async/add -> apply_async/add"""),
    )


def test_a_chain_with_a_group_in_it(crew: Crew, caller: Caller) -> None:
    """What follows a group is the body of a chord, and all of it is one level deep."""
    add, total = caller.task("add"), caller.task("total")
    with otelsync.stage("caller") as here:
        result = chain(add.s(1, 1), group(add.s(1), add.s(2)), total.s())()
    assert result_of(result) == 7
    caller.expect(
        here.trace_id,
        crew.joined("""
sync.stage caller
  apply_async/add
    run/add          [success]
  apply_async/add    -> run/add
    run/add          [success]
  apply_async/add    -> run/add
    run/add          [success]
  apply_async/total  -> run/add
    run/total        [success] -> apply_async/add -> apply_async/add"""),
    )


def test_a_group_of_chains(caller: Caller) -> None:
    """Each step of each chain is a sibling of all others."""
    add = caller.task("add")
    with otelsync.stage("caller") as here:
        result = group(chain(add.s(1, 1), add.s(1)), chain(add.s(2, 2), add.s(2)))()
    assert result_of(result) == [3, 6]
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/add
    run/add        [success]
  apply_async/add
    run/add        [success]
  apply_async/add  -> run/add
    run/add        [success]
  apply_async/add  -> run/add
    run/add        [success]""",
    )


def test_a_chord_of_a_chord(crew: Crew, caller: Caller) -> None:
    """A chord whose header is a chord is one level deep."""
    add, total = caller.task("add"), caller.task("total")
    with otelsync.stage("caller") as here:
        result = chord([chord([add.s(1, 1), add.s(2, 2)], total.s())])(total.s())
    assert result_of(result) == 6
    caller.expect(
        here.trace_id,
        crew.joined("""
sync.stage caller
  apply_async/add
    run/add          [success]
  apply_async/add
    run/add          [success]
  apply_async/total  -> run/add
    run/total        [success] -> apply_async/add -> apply_async/add
  apply_async/total  -> run/total
    run/total        [success] -> apply_async/total"""),
    )


def test_a_chord_of_chains(crew: Crew, caller: Caller) -> None:
    """A chord whose headers are chains is one level deep."""
    add, total = caller.task("add"), caller.task("total")
    with otelsync.stage("caller") as here:
        result = chord([chain(add.s(1, 1), add.s(1)), chain(add.s(2, 2), add.s(2))])(total.s())
    assert result_of(result) == 9
    caller.expect(
        here.trace_id,
        crew.joined("""
sync.stage caller
  apply_async/add
    run/add          [success]
  apply_async/add
    run/add          [success]
  apply_async/add    -> run/add
    run/add          [success]
  apply_async/add    -> run/add
    run/add          [success]
  apply_async/total  -> run/add
    run/total        [success] -> apply_async/add -> apply_async/add"""),
    )


def test_callbacks(caller: Caller) -> None:
    """What is linked to a task, for its success or its failure, is its sibling."""
    note = caller.task("note")
    with otelsync.stage("caller") as here:
        caller.task("add").apply_async((1, 2), link=note.si(), link_error=note.si())
        caller.task("fail").apply_async(("no",), link=note.si(), link_error=note.si())
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/add
    run/add         [success]
  apply_async/fail
    run/fail        [failure]
  apply_async/note  -> run/add
    run/note        [success]
  apply_async/note  -> run/fail
    run/note        [success]""",
    )


def test_what_a_task_publishes(caller: Caller) -> None:
    """What the body of a task publishes is below its run."""
    with otelsync.stage("caller") as here:
        result = caller.task("parent").delay(1, 2)
    inner = caller.app.AsyncResult(str(result_of(result)))
    assert result_of(inner) == 3
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/parent
    run/parent         [success]
      apply_async/add
        run/add        [success]""",
    )


def test_a_task_that_is_replaced(caller: Caller) -> None:
    """The task that takes the place of another is its sibling; that other one has done what it had to."""
    with otelsync.stage("caller") as here:
        result = caller.task("replaced").delay(1, 2)
    assert result_of(result) == 3
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/add       -> run/replaced
    run/add             [success]
  apply_async/replaced
    run/replaced        [success]""",
    )


def test_three_retries_then_success(caller: Caller) -> None:
    """The attempts of a task are siblings with a number; that there was another is no error."""
    with otelsync.stage("caller") as here:
        result = caller.task("stubborn").delay(3)
    assert result_of(result) == "done"
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/stubborn
    run/stubborn        [retry] attempt=1 reason=Retry in 0.1s: ConnectionError('not yet')
  apply_async/stubborn  -> run/stubborn attempt=2
    run/stubborn        [retry] attempt=2 reason=Retry in 0.1s: ConnectionError('not yet')
  apply_async/stubborn  -> run/stubborn attempt=3
    run/stubborn        [retry] attempt=3 reason=Retry in 0.1s: ConnectionError('not yet')
  apply_async/stubborn  -> run/stubborn attempt=4
    run/stubborn        [success] attempt=4""",
        ATTEMPT,
        "celery.retry.reason",
    )


def test_retries_exhausted(caller: Caller) -> None:
    """Only the last attempt is an error."""
    with otelsync.stage("caller") as here:
        result = caller.task("stubborn").delay(9, max_retries=2)
    with pytest.raises(ConnectionError, match="not yet"):
        result_of(result)
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/stubborn
    run/stubborn        [retry] attempt=1
  apply_async/stubborn  -> run/stubborn attempt=2
    run/stubborn        [retry] attempt=2
  apply_async/stubborn  -> run/stubborn attempt=3
    run/stubborn        [failure] attempt=3 type=ConnectionError""",
        ATTEMPT,
        LOST,
    )


@pytest.mark.parametrize("planned", ["countdown", "eta"])
def test_a_planned_delay(caller: Caller, planned: str) -> None:
    """What was to be run later looks the same; how long it was to wait is told from how long it waited beyond that."""
    when: dict[str, Any] = {"countdown": 0.3} if planned == "countdown" else {"eta": datetime.now(UTC) + _soon()}
    with otelsync.stage("caller") as here:
        result = caller.task("add").apply_async((1, 2), **when)
    assert result_of(result) == 3
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/add
    run/add        [success]""",
    )
    (run,) = [node for node in trace(caller.home, here.trace_id) if node.name == "run/add"]
    assert 0 < run.attributes["sync.queue.planned_delay_seconds"] < 1
    assert run.attributes["sync.queue.wait_seconds"] >= 0


def _soon() -> timedelta:
    return timedelta(seconds=0.3)


def test_eager(caller: Caller) -> None:
    """A task that is run on the spot is a run below the caller's span; nothing is published."""
    with otelsync.stage("caller") as here:
        assert caller.task("add").apply((1, 2)).get() == 3
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  run/add          [success]""",
    )


def test_an_ignored_result(caller: Caller) -> None:
    """A task whose result nobody keeps is traced like any other."""
    with otelsync.stage("caller") as here:
        caller.task("add").apply_async((1, 2), ignore_result=True)
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/add
    run/add        [success]""",
    )


@pytest.mark.parametrize("how", ["ignore", "reject"])
def test_a_task_without_a_result(caller: Caller, how: str) -> None:
    """A task that ignores or rejects itself is cancelled, and no error."""
    with otelsync.stage("caller") as here:
        caller.task("give_up").delay(how)
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/give_up
    run/give_up        [cancelled]""",
    )


def test_revoked_before_it_starts(caller: Caller) -> None:
    """A task that was revoked in the queue has a run that says so."""
    task_id = uuid()
    assert caller.app.control.revoke(task_id, reply=True, timeout=PATIENCE, limit=1)
    with otelsync.stage("caller") as here:
        result = caller.task("add").apply_async((1, 2), task_id=task_id)
    with pytest.raises(TaskRevokedError):
        result_of(result)
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/add
    run/add        [cancelled]""",
    )


def test_expired(caller: Caller) -> None:
    """A task that came too late has a run that says so."""
    with otelsync.stage("caller") as here:
        result = caller.task("add").apply_async((1, 2), expires=datetime.now(UTC) - timedelta(seconds=10))
    with pytest.raises(TaskRevokedError):
        result_of(result)
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/add
    run/add        [cancelled]""",
    )


@prefork
def test_terminated(caller: Caller, tmp_path: Path) -> None:
    """A task that was revoked while it ran is cancelled, and no error, although its process was killed."""
    begun = tmp_path / "begun"
    with otelsync.stage("caller") as here:
        result = caller.task("hold").delay(str(begun), str(tmp_path / "never"))
    eventually(begun.exists, PATIENCE)
    caller.app.control.revoke(result.id, terminate=True, signal="SIGKILL")
    with pytest.raises(TaskRevokedError):
        result_of(result)
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/hold
    run/hold        [cancelled] attempt=1""",
        ATTEMPT,
    )


@prefork
def test_a_soft_time_limit(caller: Caller, tmp_path: Path) -> None:
    """A task that was told to stop is a failure that says why."""
    with otelsync.stage("caller") as here:
        files = (str(tmp_path / "begun"), str(tmp_path / "never"))
        result = caller.task("hold").apply_async(files, soft_time_limit=0.3, time_limit=PATIENCE)
    with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
        result_of(result)
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/hold
    run/hold        [failure] attempt=1 type=SoftTimeLimitExceeded""",
        ATTEMPT,
        LOST,
    )


@prefork
def test_a_hard_time_limit(caller: Caller, tmp_path: Path) -> None:
    """A task whose process was killed as it took too long has a run that says so."""
    with otelsync.stage("caller") as here:
        result = caller.task("hold").apply_async((str(tmp_path / "begun"), str(tmp_path / "never")), time_limit=0.5)
    with pytest.raises(TimeLimitExceeded):
        result_of(result)
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/hold
    run/hold        [failure] attempt=1 type=TimeLimitExceeded""",
        ATTEMPT,
        LOST,
    )


def test_a_request_inside_a_task(caller: Caller) -> None:
    """What a task asks of a server is below its run."""
    with otlp_server() as server, otelsync.stage("caller") as here:
        result = caller.task("fetch").delay(server.url)
        assert result_of(result) == 501  # nothing but POST is known there
    caller.expect(
        here.trace_id,
        """
sync.stage caller
  apply_async/fetch
    run/fetch        [success]
      GET /          ERROR""",
    )


@pytest.mark.parametrize("crew", CREWS[:1], indirect=True)
def test_beat(crew: Crew) -> None:
    """Each time that beat sends a task is a trace of its own."""
    home = crew.worker.home

    def sent() -> set[str]:
        return {node.trace_id for node in traces(home) if node.name == "run/tick"}

    with worker(home, crew.worker.broker, beat=True, environment={"TEST_BEAT": "0.2"}) as beat:
        beat.wait_until(lambda: len(sent()) >= 3)
        assert beat.end() == 0, beat.log
    for trace_id in sent():
        crew.expected.append(Expectation(trace_id, "\napply_async/tick\n  run/tick        [success]", ()))
        eventually(lambda: len(trace(home, trace_id)) == 2, PATIENCE)  # noqa: B023  (at once)
