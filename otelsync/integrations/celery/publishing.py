"""One publish, one span: open and current while ``Celery.send_task`` runs, ended when it returns or raises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from functools import wraps
from time import time_ns
from typing import Any, Final, NamedTuple

from celery.utils import uuid
from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanContext, SpanKind

from otelsync.hooks.harmless import harmless
from otelsync.hooks.host_errors import forgive
from otelsync.hooks.propagators import propagate
from otelsync.integrations.celery import attributes as of
from otelsync.integrations.celery import dispatched, run_spans
from otelsync.integrations.celery.activation import (
    Tracers,
    activate,
    note_error,
    our_tracer,
    restore,
    start,
    with_parent,
)
from otelsync.integrations.celery.canvas import CANVAS, chord_of_body, decided_span_id
from otelsync.integrations.celery.continuation import HIDDEN, RUN, Run
from otelsync.integrations.celery.done_whole import done_whole
from otelsync.integrations.celery.headers import CHORD_HEADER, HEADER, Envelope, with_id
from otelsync.recording.runtime_context import CURRENT, current_scope
from otelsync.recording.scope import SyncScope
from otelsync.stages import lineage
from otelsync.vocabulary import SYNC_ATTEMPT

_TASK_ID_POSITION: Final = 5
"""Among the arguments of ``send_task``."""


class Place(NamedTuple):
    """Place of a publish in its trace.

    Args:
        parent: The parent of its span; None for a root.
        scope: What the span carries.
        own: The ids that its span is to have, if they are decided.
        is_here: Whether that is also what is current.
    """

    parent: SpanContext | None
    scope: SyncScope | None
    own: SpanContext | None = None
    is_here: bool = False


class Member(NamedTuple):
    """A task that is a part of a dispatched pipeline, whose key it has."""

    key: str
    task_id: str
    is_new: bool
    """True if the tally did not know of it."""


class Publisher:
    """Puts a span around each publish."""

    def __init__(self, tracers: Tracers) -> None:
        self._tracers = tracers

    def wrap(self, send_task: Callable[..., Any]) -> Callable[..., Any]:
        """``Celery.send_task`` in a span."""

        @wraps(send_task)
        def sent(app: Any, /, *args: Any, **options: Any) -> Any:
            publish = Publish(app)
            try:
                self._begin(publish, args[0] if args else options.get("name"), args, options)
                result = send_task(app, *args, **options)
            except BaseException as error:
                publish.fail(error)
                raise
            finally:
                publish.end()
            if publish.interruption is not None:
                raise publish.interruption
            return result

        return sent

    def _begin(self, publish: Publish, name: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        try:
            self._begin_it(publish, name, args, options)
        except Exception as error:
            forgive(error, "a publish of %r will not be traced", name)
            if publish.span is None and name not in HIDDEN:
                self._tracers.count_lost()

    def _begin_it(self, publish: Publish, name: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        run = RUN.get()
        cause = run if run is not None and run.is_continued_by(options) else None
        if cause is not None and name in HIDDEN and name == cause.request.get("task") and HEADER in cause.request:
            return  # a hidden task publishes itself anew: its message has our header already
        key = run.envelope.run if run is not None else None
        if key is not None:
            publish.member = _count_in(publish.app, key, args, options)
        if name in HIDDEN:
            publish.begin(name, self._hidden(cause, publish.member))
        else:
            publish.begin(str(name), self._visible(publish, str(name), options, cause))
        lineage.share()

    def _visible(self, publish: Publish, name: str, options: Mapping[str, Any], cause: Run | None) -> Envelope:
        place = _place(cause)
        decided = _decided(options, place, cause)
        span = publish.span = self._start(name, place, decided, cause)
        context = span.get_span_context()
        origin = place.parent or (context if context.is_valid else None)
        canvas = CANVAS.get()
        if canvas is not None and canvas.origin is None:
            canvas.origin = origin
        chord = chord_of_body(options.get("headers"), options)
        if chord is None and cause is not None and cause.task_id == options.get("task_id"):
            chord = cause.envelope.chord  # the next attempt of a chord's body is still its body
        key = publish.member.key if publish.member is not None else None
        return Envelope(origin, time_ns(), place.scope, key, chord)

    def _start(self, name: str, place: Place, own: SpanContext | None, cause: Run | None) -> Span:
        tracer = self._tracers.current()
        span_name = f"apply_async/{name}"
        attributes = {of.ACTION: "apply_async", of.TASK_NAME: name, of.OPERATION: "send"}
        links = [Link(cause.own)] if cause is not None and cause.own is not None else []
        if place.is_here and own is None:
            return tracer.start_span(span_name, None, SpanKind.PRODUCER, attributes, links)
        ours = our_tracer(tracer, place.parent)
        if own is None and ours is not None and place.parent is not None:
            own = with_id(place.parent, ours.id_generator.generate_span_id())
        if ours is None or own is None:
            elsewhere = with_parent(place.parent, place.scope)
            return start(tracer, span_name, SpanKind.PRODUCER, elsewhere, attributes, links)
        return ours.start_span_as(
            own,
            span_name,
            parent=place.parent,
            kind=SpanKind.PRODUCER,
            attributes=attributes,
            links=links,
            scope=place.scope,
        )

    def _hidden(self, cause: Run | None, member: Member | None) -> Envelope:
        """A publish that nobody asked for has no span, but what will be published by its task belongs somewhere."""
        canvas = CANVAS.get() if cause is None else None
        parent, scope = (canvas.origin, current_scope()) if canvas is not None else _place(cause)[:2]
        return Envelope(parent, time_ns(), scope, member.key if member else None)


class Publish:
    """A publish that is going on; its span, if it has one, is current until the end."""

    __slots__ = ("_before", "_outer", "_token", "app", "envelope", "interruption", "member", "name", "span")

    def __init__(self, app: Any) -> None:
        self.app = app
        self.name: str | None = None
        """Name of its task; None if nothing is recorded of it."""
        self.envelope = Envelope()
        self.span: Span | None = None
        self.member: Member | None = None
        self.interruption: Exception | None = None
        """An exception of the host's that came where Celery would have swallowed it: it is raised after the publish."""
        self._token: Token[Any] | None = None
        self._outer = PUBLISH.get()
        self._before = CURRENT.get()

    def begin(self, name: str, envelope: Envelope) -> None:
        """Become the publish that is going on, whose message will carry `envelope`."""
        self.name, self.envelope = name, envelope
        PUBLISH.set(self)
        if self.span is not None:
            self._token = activate(self.span, envelope.sync_scope)

    @done_whole
    def fail(self, error: BaseException) -> None:
        """Say that an exception ended it."""
        if self.member is not None and self.member.is_new:
            dispatched.unpublished(self.app, self.member.key, self.member.task_id)
        if self.span is not None and isinstance(error, Exception):
            note_error(self.span, error)

    @done_whole
    def end(self) -> None:
        """End its span, and restore what was current before."""
        PUBLISH.set(self._outer)
        if self.span is not None:
            restore(self._token, self._before)
            if getattr(self.span, "end_time", None) is None:
                self.span.end()

    def fill(self, headers: dict[str, Any], arguments: Mapping[str, Any]) -> None:
        """Put into a message's headers what it carries, and into the span what is known only now."""
        headers.pop(CHORD_HEADER, None)
        run_spans.forget(headers)  # a retry passes on that of the attempt before
        if self.span is not None:
            if self.span.get_span_context().is_valid:
                headers.pop("tracestate", None)
            propagate.inject(headers)
            if self.span.is_recording():
                self.span.set_attributes(self._attributes(headers, arguments))
        headers[HEADER] = self.envelope.to_header()

    def _attributes(self, headers: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        exchange, routing_key = arguments.get("exchange"), arguments.get("routing_key")
        found = of.of_context({**arguments, "exchange": getattr(exchange, "name", exchange)})
        found[of.MESSAGE_ID] = headers.get("id")
        found[of.SYSTEM] = of.system_of(self.app)
        found[of.DESTINATION_NAME] = routing_key
        retries = headers.get("retries")
        if retries:
            found[SYNC_ATTEMPT] = retries + 1
        return {key: value for key, value in found.items() if value is not None}


PUBLISH: Final[ContextVar[Publish | None]] = ContextVar("otelsync_celery_publish", default=None)
"""The publish that is going on here."""


def on_before_publish(sender: object = None, headers: object = None, **arguments: Any) -> None:
    """Receive Celery's signal ``before_task_publish``, which shows a message as it will be sent. Never raises."""
    try:
        _fill_in(sender, headers, arguments)
    except Exception as error:
        publish = PUBLISH.get()
        try:
            forgive(error, "a message of %r goes without our header", sender)
        except Exception as theirs:
            if publish is None:
                raise
            publish.interruption = theirs
            harmless(_fill_in)(sender, headers, arguments)


def _fill_in(sender: object, headers: object, arguments: Mapping[str, Any]) -> None:
    publish = PUBLISH.get()
    if publish is not None and publish.name == sender and isinstance(headers, dict) and headers:
        publish.fill(headers, arguments)


def _place(cause: Run | None) -> Place:
    if cause is not None:
        return Place(cause.origin, cause.envelope.sync_scope)
    current = trace.get_current_span().get_span_context()
    if current.is_valid:
        return Place(current, current_scope(), is_here=True)
    canvas = CANVAS.get()
    if canvas is None:
        return Place(None, current_scope(), is_here=True)
    own, canvas.first = canvas.first, None
    return Place(canvas.origin if own is None else None, current_scope(), own)


def _decided(options: Mapping[str, Any], place: Place, cause: Run | None) -> SpanContext | None:
    """The ids that a publish span is to have: as the first of a canvas, or as the header of a chord."""
    if cause is not None and (cause.request.get("delivery_info") or {}).get("redelivered"):
        return place.own  # the delivery before may have published the same
    span_id = decided_span_id(options)
    if place.own is not None or span_id is None or place.parent is None:
        return place.own
    return with_id(place.parent, span_id)


def _count_in(app: Any, key: str, args: tuple[Any, ...], options: dict[str, Any]) -> Member:
    """Tell the tally of a dispatched pipeline of a task, before anybody can run it."""
    if len(args) > _TASK_ID_POSITION:
        task_id = args[_TASK_ID_POSITION]
    else:
        task_id = options["task_id"] = options.get("task_id") or uuid()
    return Member(key, task_id, is_new=dispatched.published(app, key, task_id))
