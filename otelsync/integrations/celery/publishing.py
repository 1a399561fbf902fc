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

from otelsync.hooks.host_errors import forgive
from otelsync.hooks.propagators import propagate
from otelsync.integrations.celery import attributes as of
from otelsync.integrations.celery import dispatched, run_spans
from otelsync.integrations.celery.activation import Tracers, activate, note_error, our_tracer, start, with_parent
from otelsync.integrations.celery.canvas import CANVAS, chord_of_body, decided_span_id
from otelsync.integrations.celery.continuation import HIDDEN, RUN, Run
from otelsync.integrations.celery.headers import CHORD_HEADER, HEADER, Envelope, with_id
from otelsync.recording.runtime_context import current_scope, leave
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
            publish = self._begin(app, args[0] if args else options.get("name"), args, options)
            if publish is None:
                return send_task(app, *args, **options)
            lineage.share()
            try:
                return send_task(app, *args, **options)
            except BaseException as error:
                publish.fail(error)
                raise
            finally:
                publish.end()

        return sent

    def _begin(self, app: Any, name: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Publish | None:
        try:
            run = RUN.get()
            cause = run if run is not None and run.is_continued_by(options) else None
            if cause is not None and name in HIDDEN and name == cause.request.get("task") and HEADER in cause.request:
                return None  # a hidden task publishes itself anew: its message has our header already
            key = run.envelope.run if run is not None else None
            member = _count_in(app, key, args, options) if key is not None else None
            if name in HIDDEN:
                return self._hidden(app, name, cause, member)
            return self._visible(app, str(name), options, cause, member)
        except Exception as error:
            forgive(error, "a publish of %r will not be traced", name)
            return None

    def _visible(
        self, app: Any, name: str, options: Mapping[str, Any], cause: Run | None, member: Member | None
    ) -> Publish:
        place = _place(cause)
        decided = _decided(options, place, cause)
        span = self._start(name, place, decided, cause)
        context = span.get_span_context()
        origin = place.parent or (context if context.is_valid else None)
        canvas = CANVAS.get()
        if canvas is not None and canvas.origin is None:
            canvas.origin = origin
        chord = chord_of_body(options.get("headers"), options)
        if chord is None and cause is not None and cause.task_id == options.get("task_id"):
            chord = cause.envelope.chord  # the next attempt of a chord's body is still its body
        key = member.key if member is not None else None
        return Publish(app, name, Envelope(origin, time_ns(), place.scope, key, chord), member, span)

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

    def _hidden(self, app: Any, name: str, cause: Run | None, member: Member | None) -> Publish:
        """A publish that nobody asked for has no span, but what will be published by its task belongs somewhere."""
        canvas = CANVAS.get() if cause is None else None
        parent, scope = (canvas.origin, current_scope()) if canvas is not None else _place(cause)[:2]
        return Publish(app, name, Envelope(parent, time_ns(), scope, member.key if member else None), member)


class Publish:
    """A publish that is going on; its span, if it has one, is current until the end."""

    __slots__ = ("_app", "_before", "_member", "_token", "envelope", "name", "span")

    def __init__(
        self, app: Any, name: str, envelope: Envelope, member: Member | None = None, span: Span | None = None
    ) -> None:
        self._app = app
        self.name = name
        self.envelope = envelope
        self.span = span
        self._member = member
        self._token: Token[Any] | None = activate(span, envelope.sync_scope) if span is not None else None
        self._before = PUBLISH.set(self)

    def fail(self, error: BaseException) -> None:
        """Say that an exception ended it."""
        try:
            if self._member is not None and self._member.is_new:
                dispatched.unpublished(self._app, self._member.key, self._member.task_id)
            if self.span is not None and isinstance(error, Exception):
                note_error(self.span, error)
        except Exception as another:
            forgive(another, "the failure of a publish was not recorded")

    def end(self) -> None:
        """End its span, and restore what was current before."""
        try:
            PUBLISH.reset(self._before)
            if self.span is not None and self._token is not None:
                leave(self._token)
                self.span.end()
        except Exception as error:
            forgive(error, "the span of a publish did not end")

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
        found[of.SYSTEM] = of.system_of(self._app)
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
        publish = PUBLISH.get()
        if publish is not None and publish.name == sender and isinstance(headers, dict) and headers:
            publish.fill(headers, arguments)
    except Exception as error:
        forgive(error, "a message of %r goes without our header", sender)


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
