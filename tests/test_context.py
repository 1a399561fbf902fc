"""Scopes: what spans and records inside carry, and third-party spans around and inside ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import opentelemetry.context as context_api
import pytest
from opentelemetry import baggage, trace
from recorded import Recorded

import otelsync
from otelsync.recording.runtime_context import current_scope
from otelsync.recording.scope import EMPTY, SyncScope

SECRET = "ghp_" + "x1" * 20


def test_fields_reach_every_span_and_record_inside(recorded: Recorded) -> None:
    """What sync_context binds stands on all spans and records inside, ours and others', and on none outside."""
    log = otelsync.get_logger("app")
    tracer = trace.get_tracer("third.party")
    with otelsync.sync_context(team_id=7), otelsync.pipeline("p"):
        with otelsync.sync_context(task="t1"), tracer.start_as_current_span("GET"), otelsync.stage("s"):
            log.info("inside")
        log.info("between")
    log.info("outside")
    assert (
        recorded.tree("team_id", "task")
        == """
sync.pipeline p   [success] team_id=7
  GET             team_id=7 task=t1
    sync.stage s  [success] team_id=7 task=t1"""
    )
    assert [(line["event"], line.get("team_id"), line.get("task")) for line in recorded.lines[1:]] == [
        ("inside", 7, "t1"),
        ("between", 7, None),
        ("sync.pipeline.completed", 7, None),
        ("outside", None, None),
    ]
    assert [line.attributes.get("team_id") for line in recorded.logs] == [7, 7, 7, 7, None]


def test_a_span_s_own_attribute_wins_over_the_scope(recorded: Recorded) -> None:
    """A field of the scope that the span sets itself stands there once, with the span's value; so in records."""
    with otelsync.sync_context(team_id=7), otelsync.stage("s", team_id=8):
        otelsync.get_logger().info("said", team_id=9)
    assert recorded.span("sync.stage s").attributes["team_id"] == 8
    assert recorded.line("said")["team_id"] == 9
    (line,) = recorded.logs
    assert line.attributes["team_id"] == 9


def test_fields_are_inherited_and_restored() -> None:
    """Inner fields are added to outer ones, and gone afterwards, though nothing is configured."""
    assert current_scope() is EMPTY
    with otelsync.sync_context(a=1):
        with otelsync.sync_context(a=2, b=3):
            assert current_scope().attributes == {"a": 2, "b": 3}
        assert current_scope().attributes == {"a": 1}
    assert current_scope() is EMPTY


def test_functions_and_coroutines_are_bound(record: Callable[..., Recorded]) -> None:
    """As a decorator sync_context binds during each call of a function or coroutine function."""
    recorded = record(log_level="INFO")
    log = otelsync.get_logger()

    @otelsync.sync_context(team_id=1)
    def plain() -> None:
        log.info("plain")

    @otelsync.sync_context(team_id=2)
    async def coroutine() -> None:
        await asyncio.sleep(0)
        log.info("coroutine")

    async def main() -> None:
        await asyncio.gather(coroutine(), coroutine())

    plain()
    asyncio.run(main())
    log.info("after")
    assert [line.get("team_id") for line in recorded.lines] == [1, 2, 2, None]


def test_one_sync_context_is_entered_twice(recorded: Recorded) -> None:
    """A context that is entered while it is in force is left without an error."""
    again = otelsync.sync_context(team_id=1)
    with again, again:
        otelsync.get_logger().info("twice")
    assert recorded.line("twice")["team_id"] == 1
    assert current_scope().attributes == {}


def test_secrets_in_fields_are_redacted(recorded: Recorded) -> None:
    """Neither bound fields nor names of pipelines and repos carry a secret into spans, records or lines."""
    with (
        otelsync.sync_context(github_token="hunter2hunter2", note=f"with {SECRET}"),
        otelsync.pipeline(f"p {SECRET}"),
        otelsync.repo(f"https://user:{SECRET}@github.com/acme/api"),
    ):
        otelsync.get_logger().info("inside")
    everything = recorded.text.encode() + b"".join(path.read_bytes() for path in recorded.journal.iterdir())
    assert SECRET.encode() not in everything
    assert b"hunter2" not in everything
    assert recorded.line("inside")["note"] == "with [redacted]"


def test_hostile_fields_harm_nobody(recorded: Recorded) -> None:
    """A field that is circular, huge or of no known type is no error, and what stands beside it is kept."""
    circle: list[object] = []
    circle.append(circle)
    with otelsync.sync_context(circle=circle, huge=10**40, odd=object(), half="\ud800", fine=1), otelsync.stage("s"):
        otelsync.get_logger().info("inside")
    assert recorded.span("sync.stage s").attributes["fine"] == 1
    assert recorded.line("inside")["fine"] == 1


def test_third_party_spans_nest_both_ways(recorded: Recorded) -> None:
    """Spans of other libraries stand under our stages and ours under theirs, and all carry the sync id below ours."""
    tracer = trace.get_tracer("third.party")
    with tracer.start_as_current_span("server"):
        with otelsync.pipeline("p") as run, tracer.start_as_current_span("GET") as get:
            assert trace.get_current_span() is get
            with otelsync.stage("s"):
                span = tracer.start_span("detached")
                with trace.use_span(span, end_on_exit=True), tracer.start_as_current_span("INSERT"):
                    pass
        assert trace.get_current_span() is not run.span
    assert (
        recorded.tree()
        == """
server
  sync.pipeline p   [success]
    GET
      sync.stage s  [success]
        detached
          INSERT"""
    )
    ids = {span.name: span.attributes.get("sync.id") for span in recorded.spans}
    assert ids.pop("server") is None
    assert set(ids.values()) == {run.sync_id}


def test_get_current_span_is_the_stage_s(recorded: Recorded) -> None:
    """Inside a stage its span is OpenTelemetry's current one, open to whoever sets attributes on it."""
    with otelsync.stage("outer") as outer:
        trace.get_current_span().set_attribute("from", "outside")
        with otelsync.stage("inner") as inner:
            assert trace.get_current_span() is inner.span
        assert trace.get_current_span() is outer.span
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert (
        recorded.tree("from")
        == """
sync.stage outer    [success] from=outside
  sync.stage inner  [success]"""
    )


def test_baggage_passes_through_stages(recorded: Recorded) -> None:
    """Baggage that is set around a stage is there inside, and what is set inside is gone outside."""
    token = context_api.attach(baggage.set_baggage("team", "seven"))
    try:
        with otelsync.pipeline("p"), otelsync.stage("s"):
            assert baggage.get_baggage("team") == "seven"
            inner = context_api.attach(baggage.set_baggage("page", "2"))
            with otelsync.stage("below"):
                assert baggage.get_all() == {"team": "seven", "page": "2"}
            context_api.detach(inner)
            assert baggage.get_all() == {"team": "seven"}
    finally:
        context_api.detach(token)
    assert baggage.get_all() == {}
    assert (
        recorded.tree()
        == """
sync.pipeline p       [success]
  sync.stage s        [success]
    sync.stage below  [success]"""
    )


def test_links_point_across_traces(recorded: Recorded) -> None:
    """A span that is linked to another trace's says so, and has no other tie to it."""
    tracer = trace.get_tracer("third.party")
    with otelsync.pipeline("first") as first:
        pass
    with otelsync.pipeline("second") as second:
        second.span.add_link(first.span.get_span_context(), {"why": "goes on"})
        with tracer.start_as_current_span("read", links=[trace.Link(first.span.get_span_context())]):
            pass
    assert (
        recorded.tree()
        == """
sync.pipeline first   [success]
sync.pipeline second  [success] -> sync.pipeline first
  read                -> sync.pipeline first"""
    )
    assert len({span.trace_id for span in recorded.spans}) == 2


def test_threads_begin_outside(recorded: Recorded) -> None:
    """A thread that was not given the context begins a trace of its own; one that was goes on in it."""

    def work(name: str) -> None:
        with otelsync.stage(name):
            pass

    with otelsync.pipeline("p"), ThreadPoolExecutor(1) as pool:
        pool.submit(work, "alone").result()
        context = context_api.get_current()

        def attached() -> None:
            token = context_api.attach(context)
            work("together")
            context_api.detach(token)

        pool.submit(attached).result()
    assert (
        recorded.tree("sync.pipeline")
        == """
sync.pipeline p        [success] pipeline=p
  sync.stage together  [success] pipeline=p
sync.stage alone       [success]"""
    )


def test_tasks_inherit_and_do_not_disturb(recorded: Recorded) -> None:
    """Each asyncio task begins where it was made, and what it enters stays its own."""
    tracer = trace.get_tracer("third.party")

    async def work(number: int, *, fails: bool = False) -> None:
        with otelsync.sync_context(number=number), tracer.start_as_current_span(f"task {number}"):
            await asyncio.sleep(0)
            with otelsync.stage("step"):
                await asyncio.sleep(0)
                if fails:
                    raise ValueError(number)

    async def main() -> None:
        with otelsync.pipeline("p"):
            results = await asyncio.gather(work(1), work(2, fails=True), work(3), return_exceptions=True)
            assert [type(result) for result in results] == [type(None), ValueError, type(None)]
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(work(4, fails=True))

    asyncio.run(main())
    assert (
        recorded.tree("number")
        == """
sync.pipeline p      [partial]
  task 1             number=1
    sync.stage step  [success] number=1
  task 2             ERROR number=2
    sync.stage step  [failure] number=2
  task 3             number=3
    sync.stage step  [success] number=3
  task 4             ERROR number=4
    sync.stage step  [failure] number=4"""
    )


def test_a_scope_keeps_what_it_was_made_of() -> None:
    """A scope does not change with the dictionary that it was made of."""
    fields = {"a": 1}
    scope = SyncScope(fields)
    fields["a"] = 2
    assert scope.attributes == {"a": 1}
    assert scope.with_fields({"b": "x"}).rendered == {"a": 1, "b": "x"}


def test_a_name_that_is_no_text_harms_nothing() -> None:
    """Half a surrogate pair in the name of a bound field does not reach the host as an exception."""
    with otelsync.sync_context(**{"a\ud800": 1}):
        pass
