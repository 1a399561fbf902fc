"""Starts spans under parents of other processes and makes them current, the short way over our own provider."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Token
from typing import Any, Final, cast

import opentelemetry.context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.celery.version import __version__
from opentelemetry.trace import INVALID_SPAN, Link, NonRecordingSpan, Span, SpanContext, SpanKind, TracerProvider
from opentelemetry.trace import Tracer as TracerApi

from otelsync.hooks.harmless import harmless
from otelsync.hooks.opentelemetry_api import provider_that_is_set
from otelsync.hooks.own_messages import own_logger
from otelsync.journal.format import ENCODE_ERROR, SPAN
from otelsync.recording.exceptions import take_error
from otelsync.recording.runtime_context import CURRENT, installed, leave
from otelsync.recording.scope import SCOPE_KEY, SyncScope
from otelsync.recording.span import RecordedSpan
from otelsync.recording.tracer import Tracer
from otelsync.text.presentable import text_of

log: Final = own_logger("otelsync")

SCOPE_NAME: Final = "opentelemetry.instrumentation.celery"
SCHEMA: Final = "https://opentelemetry.io/schemas/1.11.0"
"""Schema URL of upstream's instrumentation; source: its ``CeleryInstrumentor._instrument``."""


class Tracers:
    """The tracer of the provider that is set now, whenever it was set; or of `provider`, whatever is set."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._fixed = provider
        self._known: tuple[TracerProvider, TracerApi] | None = None

    def current(self) -> TracerApi:
        """The tracer, under the name of upstream's instrumentation."""
        provider = self._fixed or provider_that_is_set() or trace.get_tracer_provider()
        known = self._known
        if known is None or known[0] is not provider:
            known = self._known = (provider, provider.get_tracer(SCOPE_NAME, __version__, SCHEMA))
        return known[1]

    @harmless
    def count_lost(self) -> None:
        """Count a span as dropped that could not be begun by a fault of ours."""
        tracer = self.current()
        if isinstance(tracer, Tracer):
            tracer.journal.drop(ENCODE_ERROR, SPAN)


def our_tracer(tracer: TracerApi, parent: SpanContext | None) -> Tracer | None:
    """The tracer, if it is ours and would record each child of `parent`, so that ids can be chosen."""
    if type(tracer) is Tracer and tracer.is_simple and (parent is None or parent.trace_flags.sampled):
        return tracer
    return None


def with_parent(parent: SpanContext | None, scope: SyncScope | None, base: Context | None = None) -> Context:
    """A context in which the next span is a child of `parent`, or a root, with everything else as in `base`.

    `scope` is what the span and everything below it carry; `base` is the current context by default.
    """
    span = NonRecordingSpan(parent) if parent is not None else INVALID_SPAN
    return context_api.set_value(SCOPE_KEY, scope, trace.set_span_in_context(span, base))


def start(
    tracer: TracerApi,
    name: str,
    kind: SpanKind,
    context: Context,
    attributes: dict[str, Any],
    links: Sequence[Link] = (),
) -> Span:
    """Start a span under what `context` holds, over any provider; the scope's fields are its attributes."""
    span = tracer.start_span(name, context, kind, attributes, links)
    scope = context.get(SCOPE_KEY)
    if isinstance(scope, SyncScope) and scope.attributes and not hasattr(span, "scope"):
        span.set_attributes(scope.attributes)
    return span


def activate(span: Span, scope: SyncScope | None, context: Context | None = None) -> Token[Any]:
    """Make a span current, with the scope that everything inside carries; `runtime_context.leave` undoes it."""
    if hasattr(span, "announce") and installed():
        ours = cast(RecordedSpan, span)
        ours.scope = scope
        return CURRENT.set(ours)
    context = trace.set_span_in_context(span, context)
    return context_api.attach(context_api.set_value(SCOPE_KEY, scope, context))


def restore(token: Token[Any] | None, before: Any) -> None:
    """Make current again what was `before`; `token` undoes what :func:`activate` did, unless that was interrupted."""
    if token is not None:
        leave(token)
    elif CURRENT.get() is not before:
        CURRENT.set(before)


def note_error(span: Span, error: BaseException) -> None:
    """Set what says that an exception ended the span for good."""
    span.set_status(trace.Status(trace.StatusCode.ERROR, text_of(error)))
    take_error(span, error)
