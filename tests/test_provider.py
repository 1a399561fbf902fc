"""The tracer provider: everything that the SDK's does, with spans that go to the journal."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import random
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from recorded import Recorded
from trace_tree import Node, draw, spans_in_journal

import otelsync
from otelsync.hooks.opentelemetry_api import RANDOM_TRACE_ID
from otelsync.journal.writer import Journal
from otelsync.recording.ids import IdGenerator
from otelsync.recording.provider import TracerProvider
from otelsync.recording.scope import SyncScope
from otelsync.recording.sdk_tracers import draws_at_random
from otelsync.recording.tracer import Tracer

REMOTE = SpanContext(0xABCDEF, 0x123456, True, TraceFlags(1), TraceState([("vendor", "v1"), ("other", "x")]))


class Bench:
    """Providers over one journal."""

    def __init__(self, directory: Path) -> None:
        self.journal = Journal(directory)

    def provider(self, **arguments: object) -> TracerProvider:
        return TracerProvider(self.journal, shutdown_on_exit=False, **arguments)  # type: ignore[arg-type]

    @property
    def spans(self) -> list[Node]:
        return spans_in_journal(self.journal.directory)

    def tree(self, *shown: str, events: bool = False) -> str:
        return "\n" + draw(self.spans, *shown, events=events)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "journal")
    yield bench
    bench.journal.close()


class Seen(SpanProcessor):
    """A processor of a user."""

    def __init__(self) -> None:
        self.started: list[tuple[str, bool]] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: sdk.Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        self.started.append((span.name, span.is_recording()))
        span.set_attribute("from.processor", True)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


class OnlyNamed(sampling.Sampler):
    """Samples by name, and adds an attribute and a trace state."""

    def should_sample(
        self,
        parent_context: Context | None,  # noqa: ARG002  # the SDK's
        trace_id: int,  # noqa: ARG002  # the SDK's
        name: str,
        *_: Any,
        **__: Any,
    ) -> sampling.SamplingResult:
        decision = {
            "drop": sampling.Decision.DROP,
            "only": sampling.Decision.RECORD_ONLY,
        }.get(name, sampling.Decision.RECORD_AND_SAMPLE)
        return sampling.SamplingResult(decision, {"sampled.by": "name"}, TraceState([("s", name)]))

    def get_description(self) -> str:
        return "OnlyNamed"


def test_samplers_decide(bench: Bench) -> None:
    """A sampler drops spans, lets them be recorded unsampled, and adds attributes and trace state."""
    seen = Seen()
    provider = bench.provider(sampler=OnlyNamed())
    provider.add_span_processor(seen)
    tracer = provider.get_tracer("t")
    for name in ("drop", "only", "keep"):
        with tracer.start_as_current_span(name) as span:
            assert span.is_recording() is (name != "drop")
            assert span.get_span_context().trace_flags.sampled is (name == "keep")
            assert span.get_span_context().trace_state == {"s": name}
    (kept,) = bench.spans
    assert (kept.name, kept.trace_state, kept.attributes) == (
        "keep",
        "s=keep",
        {"sampled.by": "name", "from.processor": True},
    )
    assert [span.name for span in seen.ended] == ["only", "keep"]


def test_parent_based_sampling_follows_the_parent(bench: Bench) -> None:
    """Under a parent that is not sampled nothing is; the ids go on to children all the same."""
    tracer = bench.provider(sampler=sampling.ParentBased(sampling.ALWAYS_OFF)).get_tracer("t")
    with tracer.start_as_current_span("dropped") as outer, tracer.start_as_current_span("below") as inner:
        assert inner.get_span_context().trace_id == outer.get_span_context().trace_id
        assert not inner.is_recording()
    with trace.use_span(NonRecordingSpan(REMOTE)), tracer.start_as_current_span("kept"):
        pass
    assert [node.name for node in bench.spans] == ["kept"]


def test_sampler_from_the_environment(record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_TRACES_SAMPLER works; a run that is not sampled leaves no spans, and its records carry ids all the same."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    recorded = record()
    with otelsync.pipeline("p") as run, otelsync.pull_request(1):
        otelsync.get_logger().info("said")
    assert recorded.spans == []
    assert recorded.line("said")["sync_id"] == run.sync_id


def test_processors_see_readable_spans(bench: Bench) -> None:
    """A processor sees each start and, with all that a ReadableSpan has, each end; even for tracers made before."""
    provider = bench.provider(resource=Resource({"service.name": "svc"}))
    tracer = provider.get_tracer("t", "1.0")
    seen = Seen()
    provider.add_span_processor(seen)
    with tracer.start_as_current_span("outer", kind=SpanKind.SERVER, attributes={"a": 1}) as outer:
        outer.add_event("mark", {"b": 2})
        outer.add_link(REMOTE, {"c": 3})
        with pytest.raises(KeyError), tracer.start_as_current_span("inner"):
            raise KeyError("x")
    inner_end, outer_end = seen.ended
    assert seen.started == [("outer", True), ("inner", True)]
    assert (outer_end.name, outer_end.kind, outer_end.parent) == ("outer", SpanKind.SERVER, None)
    assert dict(outer_end.attributes or {}) == {"a": 1, "from.processor": True}
    assert [(event.name, dict(event.attributes or {})) for event in outer_end.events] == [("mark", {"b": 2})]
    assert [link.context for link in outer_end.links] == [REMOTE]
    assert outer_end.resource.attributes["service.name"] == "svc"
    assert outer_end.instrumentation_scope is not None
    assert (outer_end.instrumentation_scope.name, outer_end.instrumentation_scope.version) == ("t", "1.0")
    assert inner_end.parent == outer_end.context
    assert inner_end.status.status_code is StatusCode.ERROR
    assert inner_end.start_time is not None
    assert inner_end.end_time is not None
    assert inner_end.start_time <= inner_end.end_time
    assert inner_end.to_json()
    assert {node.name: node.attributes["from.processor"] for node in bench.spans} == {"outer": True, "inner": True}


def test_exporters_of_others_work_beside_the_journal(recorded: Recorded) -> None:
    """A stock exporter that a user adds gets the same spans, with the sync's attributes."""
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with otelsync.pipeline("p") as run, otelsync.pull_request(1):
        pass
    assert recorded.tree() == "\nsync.pipeline p  [success]\n  sync.pr"
    names = {span.name: dict(span.attributes or {}) for span in exporter.get_finished_spans()}
    own = {"sync.outcome": "success", "vcs.change.id": "1"}
    assert names["sync.pr"] == {"sync.id": run.sync_id, "sync.pipeline": "p", **own}


def test_remote_parents_and_trace_state(bench: Bench) -> None:
    """A span below a remote parent takes its trace and trace state, passes both on, and says that it is remote."""
    tracer = bench.provider().get_tracer("t")
    context = trace.set_span_in_context(NonRecordingSpan(REMOTE))
    with tracer.start_as_current_span("outer", context=context) as outer, tracer.start_as_current_span("inner"):
        assert outer.get_span_context().trace_state == REMOTE.trace_state
        assert not outer.get_span_context().is_remote
    assert (
        bench.tree()
        == f"""
outer    <- {REMOTE.span_id:016x}
  inner"""
    )
    flags = {node.name: node.flags & 0x300 for node in bench.spans}
    assert flags == {"outer": 0x300, "inner": 0x100}
    assert {node.trace_state for node in bench.spans} == {"vendor=v1,other=x"}
    assert {node.trace_id for node in bench.spans} == {f"{REMOTE.trace_id:032x}"}


def test_an_invalid_parent_begins_a_new_trace(bench: Bench) -> None:
    """A parent without ids is none; an empty context begins a root even inside a span."""
    tracer = bench.provider().get_tracer("t")
    with tracer.start_as_current_span("outer"), tracer.start_as_current_span("root", context=Context()):
        pass
    with trace.use_span(trace.INVALID_SPAN), tracer.start_as_current_span("another"):
        pass
    assert bench.tree() == "\nouter\nroot\nanother"
    assert len({node.trace_id for node in bench.spans}) == 3


def test_scopes_are_kept_apart(bench: Bench) -> None:
    """Spans stand under the library that made them; the same library has the same tracer."""
    provider = bench.provider()
    assert provider.get_tracer("a", "1") is provider.get_tracer("a", "1")
    for name in ("a", "b"):
        provider.get_tracer(name, "1").start_span(f"of {name}").end()
    assert {node.name: node.scope for node in bench.spans} == {"of a": "a", "of b": "b"}


def test_decorated_functions_have_a_span_a_call(recorded: Recorded) -> None:
    """start_as_current_span decorates functions and coroutine functions; each call has a span of its own."""
    tracer = trace.get_tracer("t")

    @tracer.start_as_current_span("function", attributes={"k": 1})
    def function(depth: int) -> int:
        """Counts down."""
        return function(depth - 1) if depth else 7

    @tracer.start_as_current_span("coroutine")
    async def coroutine(fails: bool) -> None:
        await asyncio.sleep(0)
        if fails:
            raise ValueError("no")

    async def main() -> None:
        results = await asyncio.gather(coroutine(False), coroutine(True), return_exceptions=True)
        assert [type(result) for result in results] == [type(None), ValueError]

    assert function(1) == 7
    assert function.__doc__ == "Counts down."
    with tracer.start_as_current_span("around"):
        asyncio.run(main())
    assert (
        recorded.tree("k", events=True)
        == """
function         k=1
  function       k=1
around
  coroutine
  coroutine      ERROR
    * exception"""
    )


def test_exceptions_are_recorded_as_asked(recorded: Recorded) -> None:
    """A span notes an exception that leaves it and sets ERROR, each unless told not to; it passes unchanged."""
    tracer = trace.get_tracer("t")
    error = RuntimeError("broken")
    for name, arguments in (
        ("both", {}),
        ("no event", {"record_exception": False}),
        ("no status", {"set_status_on_exception": False}),
        ("neither", {"record_exception": False, "set_status_on_exception": False}),
    ):
        with pytest.raises(RuntimeError) as caught, tracer.start_as_current_span(name, **arguments):  # type: ignore[arg-type]
            raise error
        assert caught.value is error
    with pytest.raises(GeneratorExit), tracer.start_as_current_span("closed"):
        raise GeneratorExit
    assert (
        recorded.tree("exception.type", events=True)
        == """
both           ERROR
  * exception  type=RuntimeError
no event       ERROR
no status
  * exception  type=RuntimeError
neither
closed"""
    )
    assert recorded.span("both").message == "RuntimeError: broken"


def test_an_exception_that_cannot_be_described_passes_unchanged(recorded: Recorded) -> None:
    """An exception whose str() raises passes through a span as it is, and the span ends as an error."""

    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    error = UnspeakableError()
    with pytest.raises(UnspeakableError) as caught, trace.get_tracer("t").start_as_current_span("s"):
        raise error
    assert caught.value is error
    assert recorded.span("s").failed


def test_a_span_that_outlives_its_block(recorded: Recorded) -> None:
    """With end_on_exit off a span goes on after its block, and is recorded when it ends."""
    tracer = trace.get_tracer("t")
    with tracer.start_as_current_span("long", end_on_exit=False) as span:
        pass
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert recorded.tree() == "\n"
    span.set_attribute("late", 1)
    span.end()
    assert recorded.tree("late") == "\nlong  late=1"


def test_threads_have_contexts_of_their_own(recorded: Recorded) -> None:
    """Two threads trace at the same time without seeing each other; a copied context goes on below its span."""
    tracer = trace.get_tracer("t")

    def work(name: str) -> None:
        with tracer.start_as_current_span(name), tracer.start_as_current_span(f"in {name}"):
            pass

    with tracer.start_as_current_span("main"), ThreadPoolExecutor(2) as pool:
        pool.submit(work, "alone").result()
        pool.submit(contextvars.copy_context().run, work, "together").result()
    assert (
        recorded.tree()
        == """
main
  together
    in together
alone
  in alone"""
    )


def test_tasks_are_siblings(recorded: Recorded) -> None:
    """Tasks that were gathered are siblings; one that is cancelled ends its span without an error."""
    tracer = trace.get_tracer("t")

    async def work(name: str, *, waits: bool = False) -> None:
        with tracer.start_as_current_span(name):
            await asyncio.sleep(0)
            with tracer.start_as_current_span(f"in {name}"):
                if waits:
                    await asyncio.Event().wait()

    async def main() -> None:
        with tracer.start_as_current_span("main"):
            await asyncio.gather(work("one"), work("two"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.create_task(work("cancelled", waits=True))

    asyncio.run(main())
    assert (
        recorded.tree()
        == """
main
  one
    in one
  two
    in two
  cancelled
    in cancelled"""
    )


def test_an_async_generator_is_closed_in_another_context(recorded: Recorded) -> None:
    """A span that was entered in one context and left in another ends, and disturbs neither."""
    tracer = trace.get_tracer("t")

    async def stream() -> AsyncIterator[int]:
        with tracer.start_as_current_span("stream"):
            yield 1
            yield 2

    async def main() -> None:
        with tracer.start_as_current_span("main") as span:
            source = stream()
            await asyncio.create_task(source.__anext__())  # type: ignore[arg-type]
            assert trace.get_current_span() is span
            await source.aclose()  # type: ignore[attr-defined]
            assert trace.get_current_span() is span

    asyncio.run(main())
    assert recorded.tree() == "\nmain\n  stream"


def test_non_recording_spans_are_harmless(recorded: Recorded) -> None:
    """A span that records nothing can be current, take any call, and hands its ids to children."""
    tracer = trace.get_tracer("t")
    quiet = NonRecordingSpan(REMOTE)
    with trace.use_span(quiet, end_on_exit=True):
        quiet.set_attribute("a", 1)
        quiet.add_event("e")
        quiet.set_status(StatusCode.ERROR)
        with otelsync.stage("s") as stage, tracer.start_as_current_span("child"):
            assert stage.trace_id == f"{REMOTE.trace_id:032x}"
    assert recorded.tree() == f"\nsync.stage s  [success] <- {REMOTE.span_id:016x}\n  child"


def test_ids_are_not_the_host_s_random_numbers() -> None:
    """Neither does random.seed() repeat ids, nor do ids disturb the host's random numbers; none is 0."""
    ids = IdGenerator()
    random.seed(7)
    first = [ids.generate_trace_id(), ids.generate_span_id()]
    number = random.random()
    random.seed(7)
    assert random.random() == number
    second = [ids.generate_trace_id(), ids.generate_span_id()]
    assert not set(first) & set(second)
    assert all(first + second)
    assert draws_at_random(ids)() == bool(RANDOM_TRACE_ID)


def test_forked_children_draw_ids_of_their_own(bench: Bench) -> None:
    """Children that were forked from one parent draw no id twice, and say in their resource who they are."""
    provider = bench.provider(resource=Resource({"service.name": "svc", "process.pid": os.getpid()}))
    tracer = provider.get_tracer("t")
    tracer.start_span("warm").end()
    pids = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            for _ in range(50):
                with tracer.start_as_current_span("root"), tracer.start_as_current_span("child"):
                    pass
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    nodes = bench.spans
    assert len(nodes) == 401
    assert len({node.span_id for node in nodes}) == 401
    assert len({node.trace_id for node in nodes}) == 201
    assert {node.resource["process.pid"] for node in nodes} == {os.getpid(), *pids}


def test_a_span_takes_ids_that_were_decided_elsewhere(bench: Bench) -> None:
    """A span can be given its ids, its parent, its scope and its start; children, announcement and end go with them."""
    own = SpanContext(0xFEED, 0xBEEF, True, TraceFlags(3), TraceState([("vendor", "v1")]))
    parent = SpanContext(0xFEED, 0xCAFE, True, TraceFlags(3))
    tracer = bench.provider().get_tracer("t")
    assert isinstance(tracer, Tracer)
    span = tracer.start_span_as(
        own,
        "run/task",
        parent=parent,
        kind=SpanKind.CONSUMER,
        attributes={"a": 1},
        links=[Link(REMOTE)],
        start_time=17,
        scope=SyncScope({"sync.id": "S"}),
    )
    span.announce()
    with trace.use_span(span), tracer.start_as_current_span("child"):
        pass
    span.end(42)
    shown = bench.tree("a", "sync.id")
    assert shown == f"\nrun/task  <- {parent.span_id:016x} -> {REMOTE.span_id:016x} a=1 id=S\n  child   id=S"
    node = next(node for node in bench.spans if node.name == "run/task")
    assert (node.trace_id, node.span_id) == (f"{own.trace_id:032x}", f"{own.span_id:016x}")
    assert node.start == 17


def test_a_given_span_that_is_not_sampled_is_not_recorded(bench: Bench) -> None:
    """Whether a span with given ids is recorded stands in their flags."""
    tracer = bench.provider().get_tracer("t")
    assert isinstance(tracer, Tracer)
    quiet = SpanContext(0xFEED, 0xBEEF, True, TraceFlags(0))
    tracer.start_span_as(quiet, "quiet", parent=None, kind=SpanKind.CONSUMER).end()
    tracer.start_span_as(REMOTE, "heard", parent=None, kind=SpanKind.CONSUMER).end()
    assert [node.name for node in bench.spans] == ["heard"]


def test_random_ids_are_flagged(bench: Bench) -> None:
    """New traces say that their ids are random, as W3C Trace Context level 2 wants it."""
    with bench.provider().get_tracer("t").start_as_current_span("s") as span:
        assert span.get_span_context().trace_flags == 1 | RANDOM_TRACE_ID


def test_a_tracer_is_disabled(bench: Bench) -> None:
    """After shutdown a provider's tracers do no harm."""
    provider = bench.provider()
    tracer = provider.get_tracer("t")
    provider.shutdown()
    with tracer.start_as_current_span("late"):
        pass
    assert provider.force_flush()


def test_secrets_are_taken_out(recorded: Recorded) -> None:
    """Names, attributes, events, links, messages of statuses: none carries a secret into the journal."""
    secret = "ghp_" + "a1B2" * 9
    tracer = trace.get_tracer("t")
    with tracer.start_as_current_span(f"s {secret}") as span:
        span.set_attribute("note", secret)
        span.set_attribute("api_key", "hunter2")
        span.set_attribute("list", [secret, "fine"])
        span.add_event(f"e {secret}", {"x": secret})
        span.add_link(REMOTE, {"x": secret})
        span.record_exception(ValueError(f"refused {secret}"))
        span.set_status(StatusCode.ERROR, f"refused {secret}")
    content = b"".join(path.read_bytes() for path in recorded.journal.iterdir())
    assert secret.encode() not in content
    assert b"hunter2" not in content
    (node,) = recorded.spans
    assert node.name == "s [redacted]"
    assert node.attributes["list"] == ["[redacted]", "fine"]
    assert node.message == "refused [redacted]"


def test_tracers_of_ever_new_names_are_not_kept(recorded: Recorded) -> None:
    """A tracer that nobody holds goes, and one of the same name that is asked for again is of the same scope."""
    provider = trace.get_tracer_provider()
    made = [weakref.ref(provider.get_tracer(f"library {number}")) for number in range(100)]
    gc.collect()
    assert not any(each() for each in made)
    for _ in range(3):
        provider.get_tracer("library 7").start_span("again").end()
    assert [span.scope for span in recorded.spans] == ["library 7"] * 3
