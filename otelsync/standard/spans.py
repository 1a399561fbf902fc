"""Spans of the SDK's own provider: with the fields of their sync, and sent without secrets, within the bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import opentelemetry.context as context_api
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, Status

from otelsync.bounds import LONGEST_NAME
from otelsync.otlp.encoding import AttributeEncoder
from otelsync.recording.runtime_context import scope_in
from otelsync.redaction import Redactor
from otelsync.standard.sending import Sender, Tally

_ATTRIBUTES: Final = 0x4A
"""The field of a span, as an encoder wants to know; none is encoded here."""


class ScopeProcessor(SpanProcessor):
    """Gives each span that begins inside a sync what all of it carries, whichever library begins it.

    Args:
        tally: Counts the spans that are to be sent.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Set the fields that a caller has not set otherwise."""
        scope = scope_in(context_api.get_current() if parent_context is None else parent_context)
        if scope is not None and scope.attributes:
            own = span.attributes or {}
            span.set_attributes({key: value for key, value in scope.attributes.items() if key not in own})

    def on_end(self, span: ReadableSpan) -> None:
        """Count it."""
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled:
            self._tally.note_made()


class SpanSender(SpanExporter):
    """Sends what the batch processor hands over."""

    def __init__(self, sender: Sender[ReadableSpan]) -> None:
        self._sender = sender

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them."""
        return SpanExportResult.SUCCESS if self._sender.send(spans) else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """End."""
        self._sender.close()


def prepared(span: ReadableSpan, redactor: Redactor, resource: Resource) -> ReadableSpan:
    """Return the span without secrets, within the bounds of a record and under `resource`.

    The same one if there is nothing to change.
    """
    name, status = redactor.shorten(span.name, LONGEST_NAME), span.status
    attributes = clean(span.attributes, redactor)
    events = [_clean_event(event, redactor) for event in span.events]
    links = [_clean_link(link, redactor) for link in span.links]
    said = status.description and redactor.redact(status.description)
    if (
        name == span.name
        and resource is span.resource
        and attributes is span.attributes
        and said == status.description
        and all(a is b for a, b in zip(events, span.events, strict=True))
        and all(a is b for a, b in zip(links, span.links, strict=True))
    ):
        return span
    return ReadableSpan(
        name=name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=resource,
        attributes=_bounded(attributes, span.dropped_attributes),
        events=_list(events, span.dropped_events),
        links=_list(links, span.dropped_links),
        kind=span.kind,
        status=Status(status.status_code, said) if said != status.description else status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def clean(attributes: Mapping[str, Any] | None, redactor: Redactor) -> Mapping[str, Any]:
    """Return attributes without secrets and within the bounds of a record; the same ones if they are so."""
    if not attributes:
        return attributes if attributes is not None else {}
    given = dict(attributes)
    cleaned = AttributeEncoder(_ATTRIBUTES, redactor).clean(given)
    return attributes if cleaned is given else cleaned


def _clean_event(event: Event, redactor: Redactor) -> Event:
    name, attributes = redactor.redact(event.name), clean(event.attributes, redactor)
    if name == event.name and (attributes is event.attributes or not attributes):
        return event
    return Event(name, _bounded(attributes, event.dropped_attributes), event.timestamp)


def _clean_link(link: Link, redactor: Redactor) -> Link:
    attributes = clean(link.attributes, redactor)
    if attributes is link.attributes or not attributes:
        return link
    return Link(link.context, _bounded(attributes, link.dropped_attributes))


def _bounded(attributes: Mapping[str, Any], dropped: int) -> BoundedAttributes:
    """Attributes that say how many others a limit has cost."""
    bounded = BoundedAttributes(None, dict(attributes), immutable=True)
    bounded.dropped = dropped
    return bounded


def _list(parts: Sequence[Any], dropped: int) -> Sequence[Any]:
    bounded: BoundedList[Any] = BoundedList.from_seq(max(1, len(parts)), parts)
    bounded.dropped = dropped
    return cast("Sequence[Any]", bounded)
