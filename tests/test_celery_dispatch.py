"""Handing over a pipeline: what its dispatcher may rely on, whatever is missing or broken."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import celery_here
import pytest
import redis
import trace_tree
from celery import Celery, chain, group
from celery_here import working
from opentelemetry import trace
from opentelemetry.sdk import trace as sdk
from otlp_server import eventually
from recorded import Recorded
from redis.backoff import NoBackoff
from redis.retry import Retry

import otelsync
from otelsync.errors import DispatchError
from otelsync.integrations.celery import dispatched, tally_store
from otelsync.integrations.celery.tally import Claim, RedisTally
from otelsync.integrations.celery.tally_store import TALLIES


def make_app(**options: Any) -> Celery:
    app = Celery("t", set_as_current=False)
    app.conf.update({"broker_url": "memory://", "result_backend": None, **options})

    @app.task(name="repo", ignore_result=True, shared=False)
    def repo(name: str, created: int = 1) -> None:
        with otelsync.repo(name) as repo:
            repo.count(created=created)

    @app.task(name="broken", ignore_result=True, shared=False)
    def broken() -> None:
        raise ValueError("no")

    return app


@pytest.fixture(autouse=True)
def _reachable() -> None:
    """No test depends on what another could not reach."""
    tally_store._unreachable_until = 0.0
    tally_store._said.clear()


@pytest.fixture
def app(recorded: Recorded) -> Iterator[Celery]:
    """An app without a worker, and the integration switched on."""
    assert recorded
    otelsync.instrument("celery")
    with make_app() as app:
        yield app
    otelsync.uninstrument("celery")


def test_the_dispatcher_writes_no_end(app: Celery, recorded: Recorded) -> None:
    """After dispatch() the block ends nothing: its span is open, and no event says that it has ended."""
    with otelsync.pipeline("p") as run:
        run.dispatch(app.tasks["repo"].s("acme/api"))
    node = recorded.span("sync.pipeline p")
    assert not node.ended
    assert [e for line in recorded.lines if (e := line["event"]).startswith("sync.")] == ["sync.pipeline.started"]


def test_a_count_after_the_dispatch_opens_nothing_again(app: Celery, recorded: Recorded) -> None:
    """The span is another process's by then: a second beginning of it would be closed as interrupted with this one."""
    with otelsync.pipeline("p") as run:
        run.count(created=1)
        run.dispatch(app.tasks["repo"].s("acme/api"))
        run.count(created=1)
    groups = [group for batch in trace_tree.batches(recorded.journal) for group in batch.groups]
    assert sum(len(group.started) for group in groups) == 2  # with the block, and with the first count
    assert sum(len(group.released) for group in groups) == 1


def test_whoever_ends_the_last_task_ends_the_pipeline(app: Celery, recorded: Recorded) -> None:
    """The end is written once, with the original ids, and with the event that says so."""
    with otelsync.pipeline("p", team_id=7) as run:
        result = run.dispatch(app.tasks["repo"].s("acme/api"))
    (key,) = _open_tallies(recorded)
    for _ in range(2):
        dispatched.ended(app, key, str(result.id), "success", {"items.created": 3})
    node = recorded.span("sync.pipeline p")
    assert node.ended
    assert (node.span_id, node.trace_id) == (run.span_id, run.trace_id)
    assert node.attributes["team_id"] == 7
    assert node.attributes["sync.id"] == run.sync_id
    assert node.attributes["sync.items.created"] == 3
    line = recorded.line("sync.pipeline.completed")
    assert (line["span_id"], line["trace_id"], line["sync_id"]) == (run.span_id, run.trace_id, run.sync_id)
    assert line["created"] == 3


def _open_tallies(recorded: Recorded) -> list[str]:
    import sqlite3

    with closing(sqlite3.connect(recorded.home / TALLIES)) as connection:
        return [run for (run,) in connection.execute("SELECT run FROM runs")]


def test_nothing_to_run(app: Celery, recorded: Recorded) -> None:
    """An empty group has run at once."""
    with otelsync.pipeline("p") as run:
        run.dispatch(group(app=app))
    assert recorded.tree() == "\nsync.pipeline p  [success]"


def test_eager_tasks(recorded: Recorded) -> None:
    """Where tasks are mere calls, the pipeline has ended with the call, with their counts and what failed."""
    otelsync.instrument("celery")
    with make_app(task_always_eager=True) as app:
        tasks = app.tasks
        for canvas in (
            group([tasks["repo"].si("acme/a"), tasks["broken"].si()], app=app),
            chain(tasks["repo"].si("acme/b"), tasks["repo"].si("acme/c")),
        ):
            with otelsync.pipeline("p") as run:
                run.dispatch(canvas)
    otelsync.uninstrument("celery")
    assert (
        recorded.tree("sync.items.created")
        == """
sync.pipeline p       [partial] created=1
  run/repo            [success]
    sync.repo acme/a  [success] created=1
  run/broken          [failure]
sync.pipeline p       [success] created=2
  run/repo            [success]
    sync.repo acme/b  [success] created=1
  run/repo            [success]
    sync.repo acme/c  [success] created=1"""
    )


def _wait() -> None:
    with otelsync.rate_limit_wait(0.0), otelsync.rate_limit_wait(0.0, kind="secondary"):
        pass


def _decorated() -> None:
    otelsync.stage("step")(_wait)()


def _log() -> None:
    otelsync.get_logger().info("working")
    with otelsync.stage("step") as stage:
        stage.event("step.done", size=1)
        stage.skip("nothing new")


def _track() -> None:
    with otelsync.stage("batches") as stage:
        assert list(stage.track(range(3))) == [0, 1, 2]


def _pull_request() -> None:
    with otelsync.pull_request(1) as pull:
        pull.set(action="created")


def _api_call() -> None:
    with otelsync.api_call("GET /x"), otelsync.rate_limit_wait(0.0):
        pass


def _pipeline() -> None:
    with otelsync.pipeline("inner"), otelsync.repo("acme/a") as repo:
        repo.count(failed=1)


@pytest.mark.parametrize("body", [_wait, _decorated, _log, _track, _pull_request, _api_call, _pipeline])
def test_whatever_a_task_of_it_does(recorded: Recorded, body: Callable[[], None]) -> None:
    """A task of a dispatched pipeline can use every kind of stage, in the pipeline's place or below it."""
    app = celery_here.make_app()
    task = app.task(name="body", shared=False)(body)
    with working(app):
        with otelsync.pipeline("p") as run:
            result = run.dispatch(task.si())
        assert celery_here.outcome(result) is None
        eventually(lambda: recorded.span("sync.pipeline p").ended)
    assert recorded.span("sync.pipeline p").attributes["sync.tasks.succeeded"] == 1


def test_waits_of_its_tasks_are_summed(recorded: Recorded) -> None:
    """The pipeline has the seconds that rate limits took in its tasks, and in its block before."""

    def wait() -> None:
        with otelsync.rate_limit_wait(0.02):
            time.sleep(0.02)

    app = celery_here.make_app()
    task = app.task(name="wait", shared=False)(wait)
    with working(app):
        with otelsync.pipeline("p") as run:
            wait()
            run.dispatch(group([task.si(), task.si()], app=app))
        eventually(lambda: recorded.span("sync.pipeline p").ended)
    waits = [span for span in recorded.spans if span.name == "sync.rate_limit.wait"]
    seconds = sum(span.attributes["sync.rate_limit.actual_seconds"] for span in waits)
    whole = recorded.span("sync.pipeline p").attributes["sync.rate_limit.waited_seconds"]
    assert (len(waits), whole) == (3, pytest.approx(seconds, abs=0.005))


def _free_port() -> int:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@pytest.mark.parametrize("kind", ["redis", "file"])
def test_a_store_that_cannot_be_reached(recorded: Recorded, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """The canvas goes out all the same, the pipeline ends with its block, and one warning says why."""
    otelsync.instrument("celery")
    with make_app() as app:
        if kind == "file":
            (recorded.home / TALLIES).mkdir(parents=True)
        else:
            app.__dict__["_otelsync_tally"] = RedisTally(redis.Redis(port=_free_port(), retry=Retry(NoBackoff(), 0)))
        for _ in range(3):
            with otelsync.pipeline("p") as run:
                run.dispatch(app.tasks["repo"].s("acme/a"))
                run.count(created=1)
    otelsync.uninstrument("celery")
    assert (
        recorded.tree("sync.items.created")
        == """
sync.pipeline p     [success] created=1
  apply_async/repo
sync.pipeline p     [success] created=1
  apply_async/repo
sync.pipeline p     [success] created=1
  apply_async/repo"""
    )
    said = [record for record in caplog.records if record.name == "otelsync" and "tally" in record.getMessage()]
    assert [record.levelname for record in said] == ["WARNING"]


def test_a_broker_that_cannot_be_reached(app: Celery, recorded: Recorded) -> None:
    """The exception of apply_async passes, the pipeline fails by it, and nothing is left open."""
    app.conf.update(broker_url="amqp://127.0.0.1:1//", broker_transport_options={"max_retries": 0})
    with pytest.raises(Exception, match="refused"), otelsync.pipeline("p") as run:
        run.dispatch(app.tasks["repo"].s("acme/api"), retry=False)
    node = recorded.span("sync.pipeline p")
    assert (node.ended, node.failed) == (True, True)
    assert _open_tallies(recorded) == []


def test_dispatch_needs_a_run(app: Celery) -> None:
    """A pipeline can be dispatched inside its block, once, and with a canvas; each error says what to do."""
    canvas = app.tasks["repo"].s("acme/api")
    with pytest.raises(DispatchError, match="Did you forget `with"):
        otelsync.pipeline("p").dispatch(canvas)
    with otelsync.pipeline("p") as run:
        with pytest.raises(DispatchError, match="a signature, chain, group or chord"):
            run.dispatch("repo")  # type: ignore[arg-type]
        run.dispatch(canvas)
        with pytest.raises(DispatchError, match="dispatched already"):
            run.dispatch(canvas)
    with pytest.raises(DispatchError, match="dispatched already"):
        run.dispatch(canvas)


def test_dispatch_needs_the_integration(recorded: Recorded) -> None:
    """Without the integration nobody would end the pipeline: nothing is published, and the error says what to do."""
    with (
        make_app() as app,
        otelsync.pipeline("p") as run,
        pytest.raises(DispatchError, match=r"instrument.*otelsync\[celery\]"),
    ):
        run.dispatch(app.tasks["repo"].s("acme/api"))
    assert recorded.tree() == "\nsync.pipeline p  [success]"


def test_what_comes_after_dispatch_is_said_to_be_lost(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    """Counting after dispatch(), or an exception, changes the run no more, and is warned of."""
    with otelsync.pipeline("p") as run:
        run.dispatch(app.tasks["repo"].s("acme/api"))
        run.count(created=1)
    assert "after dispatch() is lost" in caplog.text
    with contextlib.suppress(ValueError), otelsync.pipeline("q") as run:
        run.dispatch(app.tasks["repo"].s("acme/api"))
        raise ValueError("late")
    assert "'q' goes on, though ValueError left its block" in caplog.text


@pytest.mark.parametrize(
    "details",
    [
        "",
        "[]",
        "{",
        "null",
        json.dumps({"name": "p"}),
        json.dumps({"name": 1, "own": "00-" + "1" * 32 + "-" + "1" * 16 + "-01", "start": 1}),
        json.dumps(
            {"name": "p", "own": "00-x", "start": 1, "attributes": {}, "scope": {}},
        ),
        "x" * 2_000_000,
    ],
)
def test_a_store_that_lies_harms_nobody(recorded: Recorded, details: str) -> None:
    """What a tally's details say is checked; rubbish ends no pipeline, and raises nothing."""
    dispatched._finish(Claim(details, {"items.created": 1}))
    assert recorded.spans == []


def test_other_providers_keep_their_spans(
    record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A span that is not ours cannot be ended elsewhere: the canvas goes out, and it ends with its block."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", sdk.TracerProvider(shutdown_on_exit=False))
    recorded = record()
    otelsync.instrument("celery")
    with make_app() as app, otelsync.pipeline("p") as run:
        run.dispatch(app.tasks["repo"].s("acme/api"))
    otelsync.uninstrument("celery")
    assert not run.span.is_recording()
    assert recorded.line("sync.pipeline.completed")["trace_id"] == run.trace_id
    assert "after dispatch" not in caplog.text
