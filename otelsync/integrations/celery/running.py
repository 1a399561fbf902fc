"""One run of a task, one span: current from the first to the last line of the function that Celery traces it with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Token
from functools import partial, wraps
from time import time_ns
from typing import Any, Final, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TraceState

from otelsync.hooks.harmless import harmless
from otelsync.hooks.host_errors import forgive
from otelsync.hooks.propagators import propagate
from otelsync.integrations.celery import attributes as of
from otelsync.integrations.celery import dispatched, run_spans
from otelsync.integrations.celery.activation import Tracers, activate, note_error, our_tracer, start, with_parent
from otelsync.integrations.celery.attributes import RunsOf
from otelsync.integrations.celery.canvas import links_to_headers
from otelsync.integrations.celery.continuation import HIDDEN, RUN, Run
from otelsync.integrations.celery.done_whole import done_whole
from otelsync.integrations.celery.execution import Execution
from otelsync.integrations.celery.headers import FLAGS, SPAN_ID, TRACE_ID, Envelope, from_traceparent, read, with_id
from otelsync.recording.runtime_context import CURRENT, current_scope, installed
from otelsync.recording.scope import EMPTY, SyncScope
from otelsync.recording.span import RecordedSpan
from otelsync.recording.span_bytes import Trace
from otelsync.recording.tracer import Tracer
from otelsync.stages.stage import Collector
from otelsync.vocabulary import INTERRUPTED, SYNC_OUTCOME, SYNC_REDELIVERED

_EMPTY: Final[dict[str, Any]] = {}
_NO_STATE: Final = TraceState()
_NO_CONTEXT: Final = Context()


class _RequestGetter(Getter[Mapping[str, Any]]):
    """Reads a request as upstream's getter reads Celery's ``Context``."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(key)
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return [key for key in carrier if isinstance(key, str)]


_GETTER: Final = _RequestGetter()


class Runner:
    """Puts a span around each run of a task.

    `record_seconds` is told the seconds of each run, with the labels of upstream's histogram.
    """

    def __init__(self, tracers: Tracers, record_seconds: Callable[[float, dict[str, Any]], None]) -> None:
        self._tracers = tracers
        self._record_seconds = record_seconds

    def wrap_builder(self, build_tracer: Callable[..., Any]) -> Callable[..., Any]:
        """``celery.app.trace.build_tracer``, so that what it builds traces in a span."""

        wrap = harmless(self.wrap)

        @wraps(build_tracer)
        def build(name: str, task: Any, *args: Any, **options: Any) -> Any:
            tracer = build_tracer(name, task, *args, **options)
            traced = wrap(tracer, task, bool(options.get("eager")))
            if traced is None:
                self._tracers.count_lost()
            return traced or tracer

        return build

    def wrap(self, tracer: Callable[..., Any], task: Any, eager: bool = False) -> Callable[..., Any]:
        """The function that Celery calls to run `task`, in a span; :func:`unwrapped` gives back the original."""
        if unwrapped(tracer) is not tracer:
            return tracer
        traced = self._hidden(tracer, task) if task.name in HIDDEN else self._visible(tracer, task, eager)
        traced.__dict__[_ORIGINAL] = tracer
        return traced

    def _visible(self, tracer: Callable[..., Any], task: Any, eager: bool) -> Callable[..., Any]:
        begin, runs = self._begin, RunsOf(task)

        def trace_task(uuid: Any, args: Any, kwargs: Any, request: Any = None) -> Any:
            before, outer, execution = CURRENT.get(), RUN.get(), None
            try:
                execution = begin(runs, task, uuid, request or _EMPTY, eager)
                if execution is None:
                    unbegun((before, outer))
                result = tracer(uuid, args, kwargs, request)
            except BaseException as error:
                if execution is None:
                    unbegun((before, outer), error)
                else:
                    execution.end_raising(error)
                raise
            if execution is not None:
                execution.end_returning(result)
            return result

        return trace_task

    def _hidden(self, tracer: Callable[..., Any], task: Any) -> Callable[..., Any]:
        def trace_task(uuid: Any, args: Any, kwargs: Any, request: Any = None) -> Any:
            run, outer, result = Run(uuid, request or _EMPTY, continues=True), RUN.get(), (None, None)
            try:
                RUN.set(run)
                result = tracer(uuid, args, kwargs, request)
            finally:
                RUN.set(outer)
                _hidden_ended(run, task.app, result)
            return result

        return trace_task

    def _begin(self, runs: RunsOf, task: Any, uuid: Any, request: Mapping[str, Any], eager: bool) -> Execution | None:
        before = CURRENT.get()
        try:
            if eager:
                return self._start_eager(task, uuid, request)
            return self._start_shortly(runs, task, uuid, request) or self._start(task, uuid, request)
        except Exception as error:
            forgive(error, "a run of %r will not be traced", uuid)
            if CURRENT.get() is before:
                self._tracers.count_lost()
            return None

    def _start_shortly(self, runs: RunsOf, task: Any, uuid: Any, request: Mapping[str, Any]) -> Execution | None:
        """Begin a run that is like most: its ids were decided below its publish span, and little else came with it.

        It does what :meth:`_start` does, in half the time; None where that is not enough.
        """
        ids = request.get(run_spans.KEY)
        tracer = self._tracers.current()
        if not (run_spans.is_child(ids) and type(tracer) is Tracer and tracer.is_simple and installed()):
            return None
        envelope = read(request)
        if envelope.run is not None or envelope.chord is not None or "baggage" in request or "tracestate" in request:
            return None
        now = time_ns()
        scope = envelope.sync_scope
        found: dict[str, Any] = {of.MESSAGE_ID: uuid, **of.of_message(request)}
        if envelope.published or request.get("eta"):
            found.update(waits_of(task, request, envelope, now))
        parent, span_id = request["traceparent"], int(ids, 16)
        if run_spans.begun is not None:
            span_id = _first_or_next(span_id, found)
        whole = runs.scope(scope, request)
        make_parent = partial(from_traceparent, parent)
        span = tracer.start_remote_child(
            Trace(int(parent[TRACE_ID], 16), FLAGS[int(parent[53:], 16)], _NO_STATE),
            span_id.to_bytes(8, "big"),
            runs.span_name,
            SpanKind.CONSUMER,
            bytes.fromhex(parent[SPAN_ID]),
            make_parent,
            found,
            whole,
            _NO_CONTEXT,
            now,
        )
        token = CURRENT.set(span)
        span.announce()
        span.scope = scope
        run_spans.forget(request)
        run = Run(uuid, request, envelope=envelope, own=span.get_span_context, parent=make_parent)
        return Execution(self._record_seconds, task, run, token, span, whole, None)

    def _start(self, task: Any, uuid: Any, request: Mapping[str, Any]) -> Execution:
        envelope = read(request)
        collector = Collector() if envelope.run is not None else None
        scope = envelope.sync_scope
        if collector is not None:
            scope = (scope or EMPTY).with_stage(collector)
        name = f"run/{task.name}"
        tracer = self._tracers.current()
        context, parent = _parent_of(request)
        links: list[Link] = []
        if envelope.chord is not None and parent is not None:  # it is the chord's body
            links = links_to_headers(envelope.chord, parent.trace_id)
        decided = run_spans.decided(request)
        run_spans.forget(request)
        ours = our_tracer(tracer, parent) if context is None or decided is not None else None
        now = time_ns()
        found = {of.MESSAGE_ID: uuid, **of.of_message(request), **waits_of(task, request, envelope, now)}
        span: Span
        whole: SyncScope | None = None
        if ours is not None and (parent is not None or decided is not None):
            whole = of.scope_of_run(scope, task, request)
            own = _own(ours, parent, decided)
            if decided is not None and run_spans.begun is not None:
                own = with_id(own, _first_or_next(own.span_id, found))
            span = ours.start_span_as(
                own,
                name,
                parent=parent,
                kind=SpanKind.CONSUMER,
                attributes=found,
                links=links,
                start_time=now,
                scope=whole,
                context=context,
            )
        else:
            context = with_parent(parent, scope, context or Context())
            found.update(of.constants(task, request))
            span = start(tracer, name, SpanKind.CONSUMER, context, found, links)
        token = _begin_span(span, scope, context)
        run = Run(uuid, request, envelope=envelope, own=_valid(span.get_span_context()), parent=parent)
        return Execution(self._record_seconds, task, run, token, span, whole, collector)

    def _start_eager(self, task: Any, uuid: Any, request: Mapping[str, Any]) -> Execution:
        """Begin a run that is a call: below whatever is current, with no message."""
        outer = RUN.get()
        envelope = Envelope(run=outer.envelope.run if outer is not None else None)
        parent = _valid(trace.get_current_span().get_span_context())
        scope = current_scope()
        attributes = {**first_attributes(task, uuid, request), **waits_of(task, request, envelope, time_ns())}
        span = self._tracers.current().start_span(f"run/{task.name}", None, SpanKind.CONSUMER, attributes)
        token = _begin_span(span, scope)
        run = Run(uuid, request, envelope=envelope, own=_valid(span.get_span_context()), parent=parent)
        collector = None
        if envelope.run is not None and outer is not None and outer.task_id is None:
            # A part of what a pipeline dispatches. Its stages count where they are called, and not here.
            dispatched.published(task.app, envelope.run, uuid)
            collector = Collector()
        return Execution(self._record_seconds, task, run, token, span, None, collector)


def first_attributes(task: Any, uuid: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that a span has even if nobody is left to end it."""
    return {**of.constants(task, request), of.MESSAGE_ID: uuid, **of.of_message(request)}


def waits_of(task: Any, request: Mapping[str, Any], envelope: Envelope, now: int) -> dict[str, float]:
    """Return how long a run that begins now has waited, as attributes."""
    eta = request.get("eta")
    if not eta and not envelope.published:
        return {}
    return of.waits(envelope.published, of.planned(eta, task.app.timezone) if eta else 0, now)


def _begin_span(span: Span, scope: SyncScope | None, context: Context | None = None) -> Token[Any]:
    """Make a run span current, with `scope` for what is inside, and let its start be known, over our own provider.

    Whatever comes in between finds a span that is known as one that is current.
    """
    if hasattr(span, "announce") and installed():
        ours = cast(RecordedSpan, span)
        token = CURRENT.set(ours)
        ours.announce()
        ours.scope = scope
        return token
    announce = getattr(span, "announce", None)
    if announce is not None:
        announce()
    return activate(span, scope, context)


@done_whole
def unbegun(was: tuple[Any, Run | None], error: BaseException | None = None) -> None:
    """Undo the beginning of a run that was interrupted: what is current is what it was, and a span has ended.

    Args:
        was: The context and the run that were current before.
        error: What ended it; None if the task runs on, without a span.
    """
    before, outer = was
    RUN.set(outer)
    span = CURRENT.get()
    if span is before:
        return
    CURRENT.set(before)
    if isinstance(span, RecordedSpan) and span.end_time is None:
        if error is not None:
            span.set_attribute(SYNC_OUTCOME, INTERRUPTED)
            note_error(span, error)
        span.end()


@done_whole
def _hidden_ended(run: Run, app: Any, result: Any) -> None:
    """Tell a dispatched pipeline that a task of Celery's own has ended, unless it will be run again."""
    if run.envelope.run is not None and getattr(result[1], "state", None) != "RETRY":
        dispatched.unpublished(app, run.envelope.run, str(run.task_id))


def _parent_of(request: Mapping[str, Any]) -> tuple[Context | None, SpanContext | None]:
    """The publish span that a request names, and a context if it names more than that: baggage, or a trace state."""
    text = request.get("traceparent")
    if text is not None and "baggage" not in request and "tracestate" not in request:
        parent = from_traceparent(text)
        if parent is not None:
            return None, parent
    context = propagate.extract(request, Context(), _GETTER)
    return (context or None), _valid(trace.get_current_span(context).get_span_context())


def _valid(context: SpanContext) -> SpanContext | None:
    return context if context.is_valid else None


def _own(tracer: Tracer, parent: SpanContext | None, decided: SpanContext | None) -> SpanContext:
    """The ids of a run span: those that the worker's main process has decided, if they fit the parent."""
    if decided is not None and parent is not None and decided.trace_id != parent.trace_id:
        decided = None
    if decided is not None and (parent is None or not parent.trace_state):
        return decided
    assert parent is not None
    return with_id(parent, decided.span_id if decided is not None else tracer.id_generator.generate_span_id())


def _first_or_next(decided: int, attributes: dict[str, Any]) -> int:
    """The id of a run span: another than was decided if a child that was killed at once has begun the same run."""
    assert run_spans.begun is not None
    span_id = run_spans.begun.begin(decided)
    if span_id != decided:
        attributes[SYNC_REDELIVERED] = True
    return span_id


_ORIGINAL: Final = "__otelsync_original__"


def unwrapped(tracer: Callable[..., Any]) -> Callable[..., Any]:
    """Return the tracer behind :meth:`Runner.wrap`; `tracer` itself if it was never wrapped."""
    original: Callable[..., Any] = getattr(tracer, _ORIGINAL, tracer)
    return original
