"""Runs: what a run span says, how it ends, and what is current in it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from celery import Celery
from celery.app import trace as task_tracing
from celery.exceptions import Retry
from celery_here import expect, make_app, outcome, working
from opentelemetry import baggage, context
from recorded import Recorded

import otelsync
from otelsync.integrations.celery.headers import Envelope
from otelsync.integrations.celery.running import unwrapped
from otelsync.recording.runtime_context import current_scope
from otelsync.recording.scope import SyncScope

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SPAN_IDS = count(1000)
"""Each is decided once in a process, or it would be taken for a run that has begun before."""


@pytest.fixture(scope="module")
def app() -> Iterator[Celery]:
    """A worker in this process."""
    with working(make_app(worker_redirect_stdouts=False)) as app:
        yield app


@pytest.fixture
def tasks(app: Celery, recorded: Recorded) -> Any:
    """Its tasks, by name; what they do is recorded."""
    assert recorded
    return app.tasks


def run(app: Celery, name: str, *args: object, **request: Any) -> Any:
    """Run a task here and now, as a worker does when it has been given the message."""
    task = app.tasks[name]
    tracer: Any = task_tracing.build_tracer(name, task, app=app)
    info = {"exchange": "", "routing_key": "q", "priority": 0, "redelivered": False}
    given = {"id": "the-id", "task": name, "hostname": "w@host", "delivery_info": info, **request}
    return tracer("the-id", args, {}, given)


def test_what_a_run_says(tasks: Any, recorded: Recorded) -> None:
    """A run span has upstream's names, and ours for the outcome, the attempt, the queue, the worker and the times."""
    result = tasks["add"].delay(1, 2)
    assert outcome(result) == 3
    expect(recorded, "\napply_async/add\n  run/add        [success]")
    got = dict(recorded.span("run/add").attributes)
    for name in ("sync.queue.wait_seconds", "sync.run_seconds"):
        assert got[name] >= 0
        assert got.pop(name) == round(recorded.span("run/add").attributes[name], 6)
    queue = result.app.conf.task_default_queue
    worker, publisher, reply_to = (got.pop(f"celery.{name}") for name in ("worker", "hostname", "reply_to"))
    assert worker
    assert publisher.startswith("gen")
    assert reply_to
    assert got == {
        "celery.action": "run",
        "celery.state": "SUCCESS",
        "celery.task_name": "add",
        "messaging.conversation_id": result.id,
        "messaging.destination.name": queue,
        "messaging.message.id": result.id,
        "messaging.operation.type": "process",
        "messaging.system": "memory",
        "process.pid": os.getpid(),
        "sync.attempt": 1,
        "sync.outcome": "success",
    }
    assert recorded.span("run/add").kind == 5
    assert recorded.span("run/add").scope == "opentelemetry.instrumentation.celery"


def test_a_failure(tasks: Any, recorded: Recorded) -> None:
    """A task that fails for good is an error, with its exception and traceback, once."""
    assert isinstance(outcome(tasks["fail"].delay()), ValueError)
    expect(recorded, "\napply_async/fail\n  run/fail        [failure] type=ValueError", "error.type")
    span = recorded.span("run/fail")
    assert (span.status, span.message) == ("ERROR", "ValueError: no such record")
    ((event, said),) = span.events
    assert (event, said["exception.type"]) == ("exception", "ValueError")
    assert "raise ValueError" in said["exception.stacktrace"]
    assert span.attributes["celery.state"] == "FAILURE"


def test_an_expected_exception_is_no_error(tasks: Any, recorded: Recorded) -> None:
    """What a task lists in `throws` has failed, but is no error: no status, no exception event."""
    outcome(tasks["expected"].delay())
    expect(recorded, "\napply_async/expected\n  run/expected        [failure] type=ExpectedError", "error.type")
    span = recorded.span("run/expected")
    assert (span.status, span.events) == ("", [])


@pytest.mark.parametrize(
    ("how", "ends", "state", "status"),
    [
        ("ignore", "cancelled", "IGNORED", ""),
        ("reject", "cancelled", "REJECTED", ""),
        ("late", "failure", "FAILURE", "ERROR"),
    ],
)
def test_other_ends(app: Celery, recorded: Recorded, how: str, ends: str, state: str, status: str) -> None:
    """Ignore and Reject cancel a task; a soft time limit that it does not catch fails it."""
    run(app, "stop", how)
    span = recorded.span("run/stop")
    assert (span.attributes["sync.outcome"], span.attributes["celery.state"], span.status) == (ends, state, status)
    assert span.attributes.get("error.type") == ("SoftTimeLimitExceeded" if how == "late" else None)


def test_an_exit_interrupts(app: Celery, recorded: Recorded) -> None:
    """What ends the process passes unchanged, and ends the span as interrupted."""
    with pytest.raises(SystemExit):
        run(app, "stop", "exit")
    span = recorded.span("run/stop")
    assert span.ended
    assert (span.attributes["sync.outcome"], span.attributes["error.type"]) == ("interrupted", "SystemExit")


def test_a_run_has_begun_before_it_ends(app: Celery, recorded: Recorded) -> None:
    """The start is recorded, with what says which task it is, so that a run whose process dies is known."""
    seen: list[Any] = []

    @app.task(name="look", shared=False)
    def look() -> None:
        seen.extend(recorded.spans)

    run(app, "look", traceparent=PARENT)
    (span,) = seen
    assert not span.ended
    assert span.attributes == {
        "celery.action": "run",
        "celery.hostname": "w@host",
        "celery.task_name": "look",
        "celery.worker": "w@host",
        "messaging.destination.name": "q",
        "messaging.system": "memory",
        "messaging.message.id": "the-id",
        "messaging.operation.type": "process",
        "process.pid": os.getpid(),
        "sync.attempt": 1,
    }


def test_a_redelivery_says_so(app: Celery, recorded: Recorded) -> None:
    """A message that the broker delivers again is marked."""
    run(app, "add", 1, delivery_info={"routing_key": "q", "redelivered": True}, retries=2)
    span = recorded.span("run/add")
    assert span.attributes["sync.redelivered"] is True
    assert span.attributes["sync.attempt"] == 3


def test_a_run_that_a_killed_child_had_begun(app: Celery, recorded: Recorded) -> None:
    """Handed to another child with the ids that were decided for it, it is a sibling of its own, and says so."""
    span_id = f"{next(SPAN_IDS):016x}"
    ids = f"{PARENT[:36]}{span_id}-01"
    for _ in range(3):
        run(app, "add", 1, traceparent=PARENT, otelsync_run_span=ids)
    spans = [span for span in recorded.spans if span.name == "run/add"]
    assert spans[0].span_id == span_id
    assert len({span.span_id for span in spans}) == 3
    assert {span.parent_id for span in spans} == {PARENT[36:52]}
    assert [span.attributes.get("sync.redelivered") for span in spans] == [None, True, True]


@pytest.mark.parametrize(("name", "args"), [("add", (1,)), ("stop", ("reject",)), ("stop", ("late",))])
@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"correlation_id": "the-id", "reply_to": "here", "origin": "gen1@host", "timelimit": [None, None]},
        {"otelsync": Envelope(published=1, sync_scope=SyncScope({"sync.id": "S", "n": 7})).to_header()},
        {"retries": 2, "eta": "2026-08-01T12:00:00+00:00", "expires": "2036-08-01T12:00:00+00:00"},
        {"delivery_info": {"exchange": "", "routing_key": "q", "redelivered": True}, "timelimit": [30, 20]},
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_the_short_way_says_the_same(
    app: Celery, recorded: Recorded, name: str, args: tuple[object, ...], request_: dict[str, Any], times: int
) -> None:
    """Whether a run begins the short way or the general one, which whole ids ask for, its span is the same."""
    found = []
    for ids in ("{}", PARENT[:36] + "{}-01"):
        span_id = f"{next(SPAN_IDS):016x}"
        before = len(recorded.spans)
        for _ in range(times):
            run(app, name, *args, traceparent=PARENT, otelsync_run_span=ids.format(span_id), **request_)
        span = recorded.spans[-1] if times == 1 else recorded.spans[before + 1]
        said = {key: value for key, value in span.attributes.items() if not key.endswith("_seconds")}
        times_said = {key for key in span.attributes if key.endswith("_seconds")}
        found.append(
            (span.name, span.trace_id, span.parent_id, span.kind, span.status, span.flags, span.scope, said, times_said)
        )
        assert (span.span_id == span_id) == (times == 1)
    assert found[0] == found[1]


@pytest.mark.parametrize("ids", ["rubbish", 7, None, f"00-{7:032x}-{7:016x}-01"])
def test_ids_that_nobody_has_decided(app: Celery, recorded: Recorded, ids: object) -> None:
    """What a message says of its run's ids leads into no other trace."""
    run(app, "add", 1, traceparent=PARENT, otelsync_run_span=ids)
    span = recorded.span("run/add")
    assert (span.trace_id, span.parent_id) == (PARENT[3:35], PARENT[36:52])


def test_a_plain_producer(app: Celery, recorded: Recorded) -> None:
    """A message of a program that knows OpenTelemetry alone: its `traceparent` is the parent, its baggage is there."""
    assert run(app, "where", traceparent=PARENT, baggage="team=7").retval[2] == recorded.span("run/where").span_id
    span = recorded.span("run/where")
    assert (span.trace_id, span.parent_id) == (PARENT[3:35], PARENT[36:52])


def test_a_trace_that_is_not_sampled(app: Celery, recorded: Recorded) -> None:
    """Below a parent that is not sampled nothing is recorded, and its ids go on."""
    result = run(app, "where", traceparent=PARENT[:-1] + "0")
    assert result.retval[0] == {}
    assert recorded.spans == []


@pytest.mark.parametrize("header", ["rubbish", '{"origin": 7, "scope": [], "published": "x"}', None, 7, b"x"])
def test_rubbish_in_our_header(app: Celery, recorded: Recorded, header: object) -> None:
    """A task runs as ever whatever stands in the header."""
    assert run(app, "add", 1, otelsync=header, traceparent="rubbish").retval == 2
    assert recorded.tree() == "\nrun/add  [success]"


def test_the_scope_is_current(app: Celery, recorded: Recorded) -> None:
    """In a task, stages and records carry what the message brought; Celery's own records carry the run's ids."""
    scope = SyncScope({"sync.id": "the-sync", "sync.pipeline": "p", "team_id": 7})
    with recorded_celery_logs():
        run(app, "add", 1, traceparent=PARENT, otelsync=Envelope(sync_scope=scope).to_header())
    span = recorded.span("run/add")
    assert {"sync.id": "the-sync", "sync.pipeline": "p", "team_id": 7}.items() <= span.attributes.items()
    (line,) = [line for line in recorded.lines if "succeeded" in line["event"]]
    assert (line["trace_id"], line["span_id"], line["sync_id"]) == (span.trace_id, span.span_id, "the-sync")


class recorded_celery_logs:  # noqa: N801  # a block
    """Let Celery log its successes, though no worker has set its level."""

    def __enter__(self) -> None:
        self._level = logging.getLogger("celery").level
        logging.getLogger("celery").setLevel(logging.INFO)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("celery").setLevel(self._level)


def test_what_was_current_is_current_again(app: Celery, recorded: Recorded) -> None:
    """A run, however it ends, leaves the caller's span and baggage as they were."""
    token = context.attach(baggage.set_baggage("mine", "kept"))
    try:
        with otelsync.stage("here") as here:
            for name, args in (("add", (1,)), ("fail", ()), ("stop", ("ignore",))):
                run(app, name, *args)
            assert current_scope().stage is here
            assert baggage.get_baggage("mine") == "kept"
    finally:
        context.detach(token)
    assert recorded.span("sync.stage here").ended


def test_eager_tasks_are_calls(tasks: Any, recorded: Recorded) -> None:
    """`apply()` is a run below whatever is current, without a publish; each attempt is one more."""
    with otelsync.stage("here"):
        tasks["add"].apply((1, 2))
        tasks["again"].apply((2,))
    expect(
        recorded,
        """
sync.stage here
  run/add        [success] attempt=1
  run/again      [retry] attempt=1
  run/again      [retry] attempt=2
  run/again      [success] attempt=3""",
        "sync.attempt",
    )


def test_eager_exceptions_pass(tasks: Any, recorded: Recorded) -> None:
    """An eager task that propagates raises what it raised, and its span says the same as in a worker."""
    with pytest.raises(ValueError, match="no such record"):
        tasks["fail"].apply(throw=True)
    with pytest.raises(Retry):
        tasks["again"].apply((1,), throw=True)
    assert [span.attributes["sync.outcome"] for span in recorded.spans] == ["failure", "retry"]


def test_a_tracer_is_wrapped_once(app: Celery) -> None:
    """A tracer that is ours already stays as it is."""
    task = app.tasks["add"]
    tracer = task_tracing.build_tracer("add", task, app=app)
    assert unwrapped(tracer) is not tracer
    assert unwrapped(unwrapped(tracer)) is unwrapped(tracer)


def test_ignored_results(tasks: Any, recorded: Recorded) -> None:
    """A task whose result nobody keeps is traced like any other."""
    tasks["silent"].delay(1)
    expect(recorded, "\napply_async/silent\n  run/silent        [success]")
