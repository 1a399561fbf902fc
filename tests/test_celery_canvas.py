"""Canvases: what a chain, a group, a chord and their like look like as whole traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery_here import expect, make_app, outcome, working
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otlp_server import eventually
from recorded import Recorded

import otelsync
from otelsync.hooks.opentelemetry_api import set_provider_aside


@pytest.fixture(scope="module")
def app() -> Iterator[Celery]:
    """A worker whose result backend lets the last header of a chord publish the body."""
    with working(make_app()) as app:
        yield app


@pytest.fixture
def tasks(app: Celery, recorded: Recorded) -> Any:
    """Its tasks, by name; what they do is recorded."""
    assert recorded
    return app.tasks


def test_the_steps_of_a_chain_are_siblings(tasks: Any, recorded: Recorded) -> None:
    """Each step stands where the chain was published, with a link to the run that went before; no step is deeper."""
    with otelsync.stage("here"):
        result = (tasks["add"].s(1, 2) | tasks["add"].s(1) | tasks["add"].s(1) | tasks["add"].s(1)).delay()
    assert outcome(result) == 6
    expect(
        recorded,
        """
sync.stage here
  apply_async/add
    run/add        [success]
  apply_async/add  -> run/add
    run/add        [success]
  apply_async/add  -> run/add
    run/add        [success]
  apply_async/add  -> run/add
    run/add        [success]""",
    )


def test_a_link_points_to_the_run_that_caused_the_publish(tasks: Any, recorded: Recorded) -> None:
    """The second step of a chain is linked to the first run, not to another of the same name."""
    result = (tasks["add"].s(1, 2) | tasks["note"].s()).delay()
    assert outcome(result) == 3
    expect(
        recorded,
        """
apply_async/add
  apply_async/note  -> run/add
    run/note        [success]
  run/add           [success]""",
    )
    assert recorded.span("apply_async/note").links == [recorded.span("run/add").span_id]


def test_a_group_is_as_many_siblings(tasks: Any, recorded: Recorded) -> None:
    """The tasks of a group are siblings without links."""
    with otelsync.stage("here"):
        result = group(tasks["add"].s(1), tasks["note"].s("x")).delay()
    assert outcome(result) == [2, "x"]
    expect(
        recorded,
        """
sync.stage here
  apply_async/add
    run/add         [success]
  apply_async/note
    run/note        [success]""",
    )


def test_a_group_outside_any_span_is_one_trace(tasks: Any, recorded: Recorded) -> None:
    """Where nothing is around a group, the first publish is the root of the others."""
    assert outcome(group(tasks["add"].s(1), tasks["note"].s("x"), tasks["note"].s("y")).delay()) == [2, "x", "y"]
    expect(
        recorded,
        """
apply_async/add
  apply_async/note
    run/note        [success]
  apply_async/note
    run/note        [success]
  run/add           [success]""",
    )


def test_a_chords_body_is_linked_to_all_headers(tasks: Any, recorded: Recorded) -> None:
    """The body stands beside its headers. Its run is linked to them all, its publish to the run that came last."""
    with otelsync.stage("here"):
        result = chord([tasks["add"].s(1), tasks["note"].s(5)])(tasks["total"].s())
    assert outcome(result) == 7
    expect(
        recorded,
        """
sync.stage here
  apply_async/add
    run/add          [success]
  apply_async/note
    run/note         [success]
  apply_async/total  -> run/note
    run/total        [success] -> apply_async/add -> apply_async/note""",
    )


def test_a_chord_outside_any_span_is_one_trace(tasks: Any, recorded: Recorded) -> None:
    """The first header's publish is the root of all."""
    result = chord([tasks["add"].s(1), tasks["note"].s(5)])(tasks["total"].s())
    assert outcome(result) == 7
    expect(
        recorded,
        """
apply_async/add
  apply_async/note
    run/note         [success]
  apply_async/total  -> run/note
    run/total        [success] -> apply_async/add -> apply_async/note
  run/add            [success]""",
    )


def test_headers_of_a_chord_that_its_caller_gave(tasks: Any, recorded: Recorded) -> None:
    """A user's message headers reach all tasks of a chord, ours do not mix with them, and the links are there."""
    canvas = chord([tasks["where"].s(), tasks["where"].s()], tasks["where"].si())
    result = canvas.apply_async(headers={"mine": "kept"})
    _, headers, _ = outcome(result)
    assert headers["mine"] == "kept"
    assert set(headers) <= {"mine", "traceparent", "otelsync", "properties"}
    expect(
        recorded,
        """
apply_async/where
  apply_async/where
    run/where        [success]
  apply_async/where  -> run/where
    run/where        [success] -> apply_async/where -> apply_async/where
  run/where          [success]""",
    )


NESTED: list[tuple[str, Callable[[Any], Any], int, str]] = [
    (
        "a chain of groups",
        lambda t: chain(
            group(t["add"].s(1), t["add"].s(2)), t["total"].s(), group(t["add"].s(3), t["add"].s(4)), t["total"].s()
        ),
        17,
        """
sync.stage here
  apply_async/add
    run/add          [success]
  apply_async/add
    run/add          [success]
  apply_async/total  -> run/add
    run/total        [success] -> apply_async/add -> apply_async/add
  apply_async/add    -> run/total
    run/add          [success]
  apply_async/add    -> run/total
    run/add          [success]
  apply_async/total  -> run/add
    run/total        [success] -> apply_async/add -> apply_async/add""",
    ),
    (
        "a chord in a chord",
        lambda t: chord([chord([t["add"].s(1), t["add"].s(2)], t["total"].s()), t["note"].s(5)], t["total"].s()),
        10,
        """
sync.stage here
  apply_async/add
    run/add          [success]
  apply_async/add
    run/add          [success]
  apply_async/note
    run/note         [success]
  apply_async/total  -> run/add
    run/total        [success] -> apply_async/add -> apply_async/add
  apply_async/total  -> run/total
    run/total        [success] -> apply_async/total -> apply_async/note""",
    ),
    (
        "a chord of chains",
        lambda t: chord([t["note"].s(1) | t["add"].s(2), t["note"].s(3) | t["add"].s(4)], t["total"].s()),
        10,
        """
sync.stage here
  apply_async/note
    run/note         [success]
  apply_async/note
    run/note         [success]
  apply_async/add    -> run/note
    run/add          [success]
  apply_async/add    -> run/note
    run/add          [success]
  apply_async/total  -> run/add
    run/total        [success] -> apply_async/add -> apply_async/add""",
    ),
]


@pytest.mark.parametrize(("canvas", "result", "tree"), [pytest.param(*case[1:], id=case[0]) for case in NESTED])
def test_nested_canvases_stay_flat(
    tasks: Any, recorded: Recorded, canvas: Callable[[Any], Any], result: int, tree: str
) -> None:
    """However canvases are nested, every publish is a child of the span around the first."""
    with otelsync.stage("here"):
        going = canvas(tasks).delay()
    assert outcome(going) == result
    expect(recorded, tree)


def test_attempts_are_siblings(tasks: Any, recorded: Recorded) -> None:
    """Three retries and a success are four runs at one depth. A retry is no error, and says why it was made."""
    with otelsync.stage("here"):
        assert outcome(tasks["again"].delay(3)) == 3
    expect(
        recorded,
        """
sync.stage here
  apply_async/again
    run/again        [retry] attempt=1
  apply_async/again  -> run/again attempt=2
    run/again        [retry] attempt=2
  apply_async/again  -> run/again attempt=3
    run/again        [retry] attempt=3
  apply_async/again  -> run/again attempt=4
    run/again        [success] attempt=4""",
        "sync.attempt",
    )
    runs = [span for span in recorded.spans if span.name == "run/again"]
    assert [run.status for run in runs] == ["", "", "", ""]
    assert [run.events for run in runs] == [[], [], [], []]
    assert [run.attributes.get("celery.retry.reason") for run in runs] == [
        *["Retry in 0s: ConnectionError('not yet')"] * 3,
        None,
    ]


def test_retries_exhausted(tasks: Any, recorded: Recorded) -> None:
    """The last attempt alone is an error, with the exception that it ended with."""
    with otelsync.stage("here"):
        assert isinstance(outcome(tasks["again"].delay(9, max_retries=1)), ConnectionError)
    expect(
        recorded,
        """
sync.stage here
  apply_async/again
    run/again        [retry] attempt=1
  apply_async/again  -> run/again attempt=2
    run/again        [failure] attempt=2 type=ConnectionError""",
        "sync.attempt",
        "error.type",
    )


def test_callbacks_and_errbacks_are_siblings(tasks: Any, recorded: Recorded) -> None:
    """What is linked to a task stands beside it, whether the task succeeded or failed."""
    with otelsync.stage("here"):
        first = tasks["add"].apply_async((1, 2), link=[tasks["note"].s(), tasks["add"].s(1)])
        second = tasks["fail"].apply_async(link_error=tasks["note"].s())
    assert outcome(first) == 3
    assert isinstance(outcome(second), ValueError)
    expect(
        recorded,
        """
sync.stage here
  apply_async/add
    run/add         [success]
  apply_async/fail
    run/fail        [failure]
  apply_async/note  -> run/add
    run/note        [success]
  apply_async/add   -> run/add
    run/add         [success]
  apply_async/note  -> run/fail
    run/note        [success]""",
    )


@pytest.mark.parametrize(
    ("how", "tree"),
    [
        (
            "task",
            """
sync.stage here
  apply_async/replaced
    run/replaced        [success] replaced=True
  apply_async/add       -> run/replaced
    run/add             [success]""",
        ),
        (
            "chain",
            """
sync.stage here
  apply_async/replaced
    run/replaced        [success] replaced=True
  apply_async/add       -> run/replaced
    run/add             [success]
  apply_async/add       -> run/add
    run/add             [success]""",
        ),
    ],
)
def test_what_replaces_a_task_is_its_sibling(tasks: Any, recorded: Recorded, how: str, tree: str) -> None:
    """A task that is replaced has done its work, and what takes its place stands beside it."""
    with otelsync.stage("here"):
        result = tasks["replaced"].delay(how)
    assert outcome(result) in (3, 6)
    expect(recorded, tree, "sync.replaced")


def test_what_a_body_publishes_belongs_to_it(tasks: Any, recorded: Recorded) -> None:
    """A publish from the body of a task is a child of what is current there: a stage in the run."""
    with otelsync.stage("here"):
        outcome(tasks["outer"].delay())
    expect(
        recorded,
        """
sync.stage here
  apply_async/outer
    run/outer            [success]
      sync.stage work    [success]
        apply_async/add
          run/add        [success]""",
    )


def test_fields_of_the_sync_travel(tasks: Any, recorded: Recorded) -> None:
    """Each task of a canvas has the sync's id, the pipeline and bound fields, on its spans and in its scope."""
    with otelsync.pipeline("p") as run, otelsync.sync_context(team_id=7):
        result = (tasks["add"].si(1, 2) | tasks["where"].si()).delay()
    scope, *_ = outcome(result)
    assert scope == {"sync.id": run.sync_id, "sync.pipeline": "p", "team_id": 7}
    expect(
        recorded,
        f"""
sync.pipeline p      [success] id={run.sync_id}
  apply_async/add    id={run.sync_id} team_id=7
    run/add          [success] id={run.sync_id} team_id=7
  apply_async/where  -> run/add id={run.sync_id} team_id=7
    run/where        [success] id={run.sync_id} team_id=7""",
        "sync.id",
        "team_id",
    )


@pytest.mark.parametrize("when", ["countdown", "eta"])
def test_a_planned_delay_is_no_wait(tasks: Any, recorded: Recorded, when: str) -> None:
    """How long a task was to wait, by a countdown or an ETA, is told apart from how long it waited beyond that."""
    delay = {"countdown": 0.2} if when == "countdown" else {"eta": datetime.now(UTC) + timedelta(seconds=0.2)}
    assert outcome(tasks["add"].apply_async((1, 2), **delay)) == 3
    expect(recorded, "\napply_async/add\n  run/add        [success]")
    run = recorded.span("run/add")
    planned = run.attributes["sync.queue.planned_delay_seconds"]
    assert planned == pytest.approx(0.2, abs=0.1)
    published = recorded.span("apply_async/add").start
    assert run.start >= published + int(planned * 1e9)
    assert run.attributes["sync.queue.wait_seconds"] == pytest.approx((run.start - published) / 1e9 - planned, abs=0.05)


def test_over_another_provider(app: Celery) -> None:
    """The tree is the same over the SDK's provider; only the links of a chord's body to its headers are missing."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    try:
        with provider.get_tracer("t").start_as_current_span("here"):
            result = (group(app.tasks["add"].s(1), app.tasks["note"].s(5)) | app.tasks["total"].s()).delay()
        assert outcome(result) == 7
        eventually(lambda: len(exporter.get_finished_spans()) == 7)
    finally:
        set_provider_aside()
    spans = {span.context.span_id: span for span in exporter.get_finished_spans() if span.context}
    around = {
        span.name: spans[span.parent.span_id].name if span.parent else None for span in exporter.get_finished_spans()
    }
    assert around == {
        "here": None,
        "apply_async/add": "here",
        "run/add": "apply_async/add",
        "apply_async/note": "here",
        "run/note": "apply_async/note",
        "apply_async/total": "here",
        "run/total": "apply_async/total",
    }


def test_without_any_provider(app: Celery) -> None:
    """Where nothing records, tasks run as ever, and what came with a message goes on with what follows from it."""
    incoming = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    result = (app.tasks["add"].si(1).set(headers={"traceparent": incoming}) | app.tasks["where"].si()).delay()
    _, headers, _ = outcome(result)
    assert "otelsync" in headers
