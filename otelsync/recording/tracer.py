"""Start spans: the shortest way where nobody looks on, else step by step as the SDK does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from typing import Any, Final

import opentelemetry.context as context_api
from opentelemetry.context.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    get_current_span,
)
from opentelemetry.util import types

from otelsync.hooks.host_errors import forgive
from otelsync.hooks.opentelemetry_api import RANDOM_TRACE_ID
from otelsync.hooks.own_messages import own_logger
from otelsync.journal.format import SPAN_VERDICT
from otelsync.journal.writer import Journal
from otelsync.otlp import encoding as otlp
from otelsync.recording import ids
from otelsync.recording.clock import present
from otelsync.recording.ids import IdGenerator
from otelsync.recording.runtime_context import CURRENT, scope_in
from otelsync.recording.scope import SyncScope
from otelsync.recording.sdk_tracers import SdkProvider
from otelsync.recording.span import RecordedSpan, is_valid_link
from otelsync.recording.span_blocks import CurrentSpan, SpanBlock
from otelsync.recording.span_bytes import Trace, encode_verdict
from otelsync.recording.span_state import Encoders, Recorder, instant
from otelsync.version import __version__
from otelsync.vocabulary import ERROR_TYPE, SYNC_OUTCOME

_NO_STATE: Final = TraceState()
_ANY: Final = 1 << 62
_log: Final = own_logger("otelsync")


class Owner(SdkProvider):
    """The part of a provider that its tracers need, and those who hold one of them."""

    journal: Journal
    encoders: Encoders
    has_processors: bool
    _resource_numbers: list[tuple[Resource, int]]
    _scope_numbers: dict[tuple[int, bytes], int]
    """Numbers of scopes in the journal: a tracer that is made again is of the same scope."""

    def define_scope(self, resource: Resource, scope: InstrumentationScope) -> int:
        """The journal's number for an instrumentation scope under a resource."""
        number = -1
        for known, defined_as in self._resource_numbers:
            if known is resource:
                number = defined_as
        if number < 0:
            number = self.journal.resource(otlp.resource(resource.attributes, self.encoders.redactor))
            self._resource_numbers.append((resource, number))
        key = number, otlp.scope(scope.name, scope.version, scope.attributes, scope.schema_url)
        defined = self._scope_numbers.get(key)
        if defined is None:
            defined = self._scope_numbers[key] = self.journal.scope(*key)
        return defined

    def give_verdict(
        self,
        span_context: SpanContext,
        *,
        outcome: str,
        error_type: str | None = None,
        message: str | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        """Say what ends another process's span: for whoever kills that process, before the kill. Never raises.

        It counts if that process has announced the span and dies without ending it.

        Args:
            span_context: Which span.
            outcome: Its ``sync.outcome``.
            error_type: Its ``error.type``; with one the span's status is ERROR.
            message: The description of that status.
            attributes: Further attributes. All of them replace what the span began with.
        """
        if not span_context.trace_flags & TraceFlags.SAMPLED:
            return
        found: dict[str, object] = {**(attributes or {}), SYNC_OUTCOME: outcome}
        if error_type is not None:
            found[ERROR_TYPE] = error_type
        ends = time_ns()
        status = None
        try:
            if error_type is not None:
                status = Status(StatusCode.ERROR, self.encoders.redact(message or error_type))
            body = encode_verdict(span_context, ends, self.encoders.span.encode(found), status)
            tracer = self.get_tracer("otelsync", __version__)
            self.journal.append(SPAN_VERDICT, tracer.ref if isinstance(tracer, Tracer) else 0, body)
        except Exception as error:
            forgive(error, "the verdict on span %016x could not be journalled", span_context.span_id)


class Tracer(Recorder):
    """Starts spans that go to the journal. Made by :meth:`TracerProvider.get_tracer`."""

    def __init__(self, like: sdk.Tracer, provider: Owner, scope: InstrumentationScope) -> None:
        self.belong_to(provider, like, scope)

    def belong_to(self, provider: Owner, like: sdk.Tracer, scope: InstrumentationScope) -> None:
        """Record for `provider` from now on, as the SDK's tracer `like` would."""
        self.become_like(like, scope, provider.limits)
        self.provider = provider
        self.journal = provider.journal
        most = self.limits.max_span_attributes
        self.room = _ANY if most is None else most
        if self.limits.max_span_attribute_length is not None:
            self.room = -1
        self.take_encoders(provider.encoders)
        self.reconsider()
        self.take_resource(provider.resource)

    def reconsider(self) -> None:
        """Find out anew which ways are open, after something was added or switched off."""
        self.has_processors = self.provider.has_processors
        self.is_simple = (
            not self.has_processors
            and self.is_enabled()
            and type(self.id_generator) in (IdGenerator, RandomIdGenerator)
            and self.sampler in (sampling.DEFAULT_ON, sampling.ALWAYS_ON)
        )

    def take_resource(self, resource: Resource) -> None:
        """Let what is recorded from now on carry `resource`."""
        self.resource = resource
        self.ref = self.provider.define_scope(resource, self.instrumentation_scope)

    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Any:  # the API promises its own context manager class; this one does the same
        """A context manager, and decorator, in which a new span is current."""
        if (
            context is None
            and not links
            and start_time is None
            and record_exception
            and set_status_on_exception
            and end_on_exit
        ):
            return CurrentSpan(self, name, kind, attributes)
        arguments = (name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception)
        return SpanBlock(self, arguments, end_on_exit)

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """Start a span, by default as a child of the current one; it does not become current.

        Raises:
            TypeError: The span in `context` has a span context that is none.
        """
        if context is None and not links and self.is_simple:
            parent: Any = CURRENT.get()
            trace = getattr(parent, "trace", None)  # isinstance() would ask ABCMeta, at a third of a span's price
            if trace is not None and trace.flags & 1:
                span = RecordedSpan(
                    self,
                    name,
                    kind,
                    trace,
                    ids.bits(64).to_bytes(8, "big"),
                    parent.children_prefix or parent.make_children_prefix(),
                    parent,
                    parent.scope,
                    parent.base,
                    present(trace.offset, 0) if start_time is None else instant(start_time),
                )
                if attributes:
                    span.put_attributes(attributes)
                if not (record_exception and set_status_on_exception):
                    span.records_exceptions = record_exception
                    span.sets_status = set_status_on_exception
                return span
        return self._start_sampled(
            name, context, kind, attributes, links or (), start_time, record_exception, set_status_on_exception
        )

    def start_span_as(
        self,
        own: SpanContext,
        name: str,
        *,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: types.Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        scope: SyncScope | None = None,
        context: Context | None = None,
    ) -> RecordedSpan:
        """Start a span whose ids were decided before, here or in another process; it does not become current.

        No sampler is asked: the flags of `own` say whether it is recorded. `parent` is None for a root; `context` is
        what is current besides the span, such as baggage.
        """
        flags = own.trace_flags if self.is_enabled() else TraceFlags(own.trace_flags & ~TraceFlags.SAMPLED)
        base = context_api.get_current() if context is None else context
        around = get_current_span(base)
        above = around if isinstance(around, RecordedSpan) and around.trace.id == own.trace_id else None
        trace = _trace_below(above, own.trace_id, flags, own.trace_state)
        span = self._make(name, kind, trace, own.span_id, parent, scope, base, attributes, links, start_time)
        if flags is own.trace_flags and not own.is_remote:
            span.known_context = own
        if self.has_processors:
            self.span_processor.on_start(span)
        return span

    def start_remote_child(
        self,
        trace: Trace,
        id_bytes: bytes,
        name: str,
        kind: SpanKind,
        parent_id: bytes,
        parent: Callable[[], SpanContext | None],
        attributes: dict[str, Any],
        scope: SyncScope | None,
        context: Context,
        start_time: int,
    ) -> RecordedSpan:
        """Start a span as :meth:`start_span_as` does, below one of another process, the short way.

        Only where :attr:`is_simple`: nobody is asked, and nobody looks on.

        Args:
            trace: Of both; sampled.
            id_bytes: The span's id.
            name: The operation's name.
            kind: Its role in a remote call.
            parent_id: The id of the parent.
            parent: What makes the parent's span context, should anybody ask for it.
            attributes: Its first attributes.
            scope: What it and everything below it carry.
            context: What is current besides when the span is.
            start_time: Nanoseconds since the epoch.
        """
        head = trace.head + b"\x22\x08" + parent_id
        span = RecordedSpan(self, name, kind, trace, id_bytes, head, parent, scope, context, start_time)
        span.is_below_remote = True
        span.put_attributes(attributes)
        return span

    def _start_sampled(
        self,
        name: str,
        context: Context | None,
        kind: SpanKind,
        attributes: types.Attributes,
        links: Sequence[Link],
        start_time: int | None,
        record_exception: bool,
        set_status_on_exception: bool,
    ) -> Span:
        """Start a span in the general way: as the SDK does, step by step."""
        parent_span: Span | None = get_current_span(context)
        parent = parent_span.get_span_context() if parent_span else None
        if parent is not None and not isinstance(parent, SpanContext):
            raise TypeError("parent_span_context must be a SpanContext or None.")
        if not self.is_enabled():
            return NonRecordingSpan(parent or INVALID_SPAN_CONTEXT)
        if parent is None or not parent.is_valid:
            parent_span = parent = None
            trace_id = self.id_generator.generate_trace_id()
            is_random = self.draws_at_random()
        else:
            trace_id = parent.trace_id
            is_random = bool(parent.trace_flags & RANDOM_TRACE_ID)
        result = self.sampler.should_sample(context, trace_id, name, kind, attributes, links)
        is_sampled = result.decision is sampling.Decision.RECORD_AND_SAMPLE
        flags = TraceFlags((TraceFlags.SAMPLED if is_sampled else 0) | (RANDOM_TRACE_ID if is_random else 0))
        span_id = self.id_generator.generate_span_id()
        if result.decision is sampling.Decision.DROP:
            dropped = SpanContext(trace_id, span_id, False, flags, result.trace_state)
            return UnsampledSpan(dropped, kind, attributes or {})
        state = _NO_STATE if result.trace_state is None else result.trace_state
        above = parent_span if isinstance(parent_span, RecordedSpan) else None
        trace = _trace_below(above, trace_id, flags, state)
        base = context_api.get_current() if context is None else context
        span = self._make(
            name, kind, trace, span_id, above or parent, scope_in(base), base, result.attributes, links, start_time
        )
        span.records_exceptions = record_exception
        span.sets_status = set_status_on_exception
        if self.has_processors:
            self.span_processor.on_start(span, parent_context=context)
        return span

    def _make(
        self,
        name: str,
        kind: SpanKind,
        trace: Trace,
        span_id: int,
        parent: RecordedSpan | SpanContext | None,
        scope: SyncScope | None,
        base: Context,
        attributes: types.Attributes,
        links: Sequence[Link] | None,
        start_time: int | None,
    ) -> RecordedSpan:
        above = parent.get_span_context() if isinstance(parent, RecordedSpan) else parent
        head = trace.head + (b"\x22\x08" + above.span_id.to_bytes(8, "big") if above else b"")
        id_bytes = span_id.to_bytes(8, "big")
        began = present(trace.offset, 0) if start_time is None else instant(start_time)
        span = RecordedSpan(self, name, kind, trace, id_bytes, head, parent, scope, base, began)
        if above and above.is_remote:
            span.is_below_remote = True
        if attributes:
            span.put_attributes(attributes)
        for link in links or ():
            if link and is_valid_link(link.context, link.attributes):
                span.append_link(link.context, link.attributes)
        return span


def _trace_below(above: RecordedSpan | None, trace_id: int, flags: TraceFlags, state: TraceState) -> Trace:
    """The trace of a span below another one of this process, whose clock it shares; None: it sets its own."""
    if above is None:
        return Trace(trace_id, flags, state)
    return above.trace if above.trace.is_like(flags, state) else Trace(trace_id, flags, state, above.trace.offset)


class UnsampledSpan(NonRecordingSpan):
    """A span that is not recorded, and says all the same where it leads: that decides whether its ids may travel."""

    def __init__(self, context: SpanContext, kind: SpanKind, attributes: Mapping[str, types.AnyValue]) -> None:
        super().__init__(context)
        self.kind = kind
        self.attributes = attributes
