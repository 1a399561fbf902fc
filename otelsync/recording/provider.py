"""The tracer provider: the SDK's, with spans that go to the journal."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import random
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Token
from time import time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeAlias, TypeVar

import opentelemetry.context as context_api
from opentelemetry.context.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.id_generator import IdGenerator as SdkIdGenerator
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
    set_span_in_context,
)
from opentelemetry.trace import Tracer as TracerApi
from opentelemetry.trace.propagation import _SPAN_KEY
from opentelemetry.util import types

from otelsync.journal.native import native
from otelsync.journal.writer import SPAN_VERDICT, Journal
from otelsync.otlp import encoding as otlp
from otelsync.recording.runtime_context import CURRENT, installed
from otelsync.recording.scope import SCOPE_KEY, SyncScope
from otelsync.recording.span import RecordedSpan, Trace, encode_verdict, flags_field, is_valid_link
from otelsync.version import __version__
from otelsync.vocabulary import ERROR_TYPE, SERVICE_INSTANCE_ID, SERVICE_NAME, SYNC_OUTCOME

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from otelsync.redaction import Redactor

P = ParamSpec("P")
R = TypeVar("R")
_SpanArguments: TypeAlias = tuple[
    str, Context | None, SpanKind, types.Attributes, Sequence[Link] | None, int | None, bool, bool
]

_log = logging.getLogger("otelsync")

_LINK_TAG, _EVENT_TAG, _SPAN_TAG = 0x22, 0x1A, 0x4A
_NO_STATE: Final = TraceState()
_ANY: Final = 1 << 62
_LOCAL_FLAGS: Final = flags_field(is_remote=False)
_REMOTE_FLAGS: Final = flags_field(is_remote=True)
_EMPTY_STATUS: Final = b"\x7a\x00"

_chance: Final = random.Random()  # ids are no secrets; our own, so that a host's random.seed() repeats none
_random: random.Random = _chance
_random_bits = _random.getrandbits


def draw_ids_from(source: random.Random | None = None) -> random.Random:
    """Draw the bits of all ids from `source` from now on; by default at random, as it is from the beginning.

    For tests. What a process forks draws at random in any case.

    Returns:
        What they were drawn from until now.
    """
    global _random, _random_bits
    before, _random = _random, source or _chance
    _random_bits = _random.getrandbits
    return before


def _draw_anew() -> None:
    """After a fork: two children must not draw the same ids."""
    _chance.seed()
    draw_ids_from()


os.register_at_fork(after_in_child=_draw_anew)


class IdGenerator(RandomIdGenerator):
    """Draws ids from a generator of our own: the host's ``random.seed()`` neither repeats them nor is disturbed."""

    def generate_span_id(self) -> int:
        """A random number of 64 bits, not 0."""
        return _random.getrandbits(64) or self.generate_span_id()

    def generate_trace_id(self) -> int:
        """A random number of 128 bits, not 0."""
        return _random.getrandbits(128) or self.generate_trace_id()


class Tracer(sdk.Tracer):
    """Starts spans that go to the journal. Made by :meth:`TracerProvider.get_tracer`."""

    journal: Journal
    ref: int
    """The number of this tracer's scope in the journal."""

    def __init__(self, like: sdk.Tracer, provider: TracerProvider) -> None:
        self.belong_to(provider, like)

    def belong_to(self, provider: TracerProvider, like: sdk.Tracer) -> None:
        """Record for `provider` from now on, as the SDK's tracer `like` would."""
        super().__init__(
            like.sampler,
            like.resource,
            like.span_processor,
            like.id_generator,
            like.instrumentation_info,
            like._span_limits,
            like._instrumentation_scope,
            meter_provider=provider._meter_provider,
            _tracer_config=like._tracer_config,
        )
        self.provider = provider
        self.journal = provider.journal
        self.limits = like._span_limits
        self.instrumentation_scope: InstrumentationScope = like._instrumentation_scope
        most = self.limits.max_span_attributes
        self.room = _ANY if most is None else most
        """How many attributes a span may take without a look at its limits."""
        if self.limits.max_span_attribute_length is not None:
            self.room = -1
        self.take_encoders()
        self.has_processors = provider.has_processors
        self.is_simple = False
        """Whether every child of a sampled span is recorded under a random id, and nobody looks on."""
        self.reconsider()
        self.ref = provider.define_scope(self.resource, self.instrumentation_scope)

    def take_encoders(self) -> None:
        """Encode, and take secrets out, as the provider says now."""
        provider = self.provider
        self.encoder = provider.encoder
        self.known = self.encoder.known
        self.is_guarded = provider.is_guarded
        self.append_span = provider.append_span
        self.inner_encoders = provider.inner_encoders
        self.redact = provider.redact
        # By the value of the kind: an Enum's own hash is written in Python.
        self.names: dict[int, dict[str, bytes]] = {kind.value: {} for kind in SpanKind}
        self.internal_names = self.names[SpanKind.INTERNAL.value]
        self.remote_names: dict[int, dict[str, bytes]] = {kind.value: {} for kind in SpanKind}

    def reconsider(self) -> None:
        """Find out anew which ways are open, after something was added or switched off."""
        self.has_processors = self.provider.has_processors
        self.is_simple = (
            not self.has_processors
            and self._tracer_config.is_enabled
            and type(self.id_generator) in (IdGenerator, RandomIdGenerator)
            and self.sampler in (sampling.DEFAULT_ON, sampling.ALWAYS_ON)
        )

    def _set_tracer_config(self, tracer_config: sdk._TracerConfig) -> None:
        super()._set_tracer_config(tracer_config)
        self.reconsider()

    def _set_resource(self, resource: Resource) -> None:
        super()._set_resource(resource)
        self.ref = self.provider.define_scope(resource, self.instrumentation_scope)

    def new_name(self, kind: SpanKind, name: str, is_below_remote: bool = False) -> bytes:
        """What follows the span's id: name, kind, flags that say whether the parent is remote, and the unset status."""
        clean = self.redact(name)
        body = (otlp.text(0x2A, clean) if clean else b"") + bytes((0x30, kind.value + 1))
        body += (_REMOTE_FLAGS if is_below_remote else _LOCAL_FLAGS) + _EMPTY_STATUS
        names = (self.remote_names if is_below_remote else self.names)[kind.value]
        if len(names) >= 1024:
            names.clear()
        names[name] = body
        return body

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
        return SpanBlock(self, arguments, record_exception, set_status_on_exception, end_on_exit)

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
                    _random_bits(64).to_bytes(8, "big"),
                    parent._children_head or parent.children_head(),
                    parent,
                    parent.scope,
                    parent._base,
                    time_ns() if start_time is None else start_time,
                )
                if attributes:
                    span._set_all(attributes)
                if not (record_exception and set_status_on_exception):
                    span._record_exception = record_exception
                    span._set_status_on_exception = set_status_on_exception
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

        No sampler is asked: whether it is recorded stands in the flags of `own`.

        Args:
            own: Its ids, flags and trace state.
            name: The operation's name.
            parent: Of the same trace; None for a root.
            kind: Its role in a remote call.
            attributes: Its first attributes.
            links: Other spans that it points to.
            start_time: Nanoseconds since the epoch, by default now.
            scope: What it and everything below it carry.
            context: What is current besides when the span is, such as baggage; by default what is now.
        """
        flags = own.trace_flags if self._is_enabled() else TraceFlags(own.trace_flags & ~TraceFlags.SAMPLED)
        trace = Trace(own.trace_id, flags, own.trace_state)
        span = RecordedSpan(
            self,
            name,
            kind,
            trace,
            own.span_id.to_bytes(8, "big"),
            trace.head + (b"\x22\x08" + parent.span_id.to_bytes(8, "big") if parent else b""),
            parent,
            scope,
            context_api.get_current() if context is None else context,
            time_ns() if start_time is None else start_time,
        )
        if flags is own.trace_flags and not own.is_remote:
            span._context = own
        if parent and parent.is_remote:
            span.is_below_remote = True
        if attributes:
            span._set_all(attributes)
        for link in links or ():
            if link and is_valid_link(link.context, link.attributes):
                span.append_link(link.context, link.attributes)
        if self.has_processors:
            self.span_processor.on_start(span)  # type: ignore[arg-type]  # as good as the SDK's
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
        span._set_all(attributes)
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
        if not self._is_enabled():
            return NonRecordingSpan(parent or INVALID_SPAN_CONTEXT)
        if parent is None or not parent.is_valid:
            parent_span = None
            trace_id = self.id_generator.generate_trace_id()
            is_random = self.id_generator.is_trace_id_random()
        else:
            trace_id = parent.trace_id
            is_random = parent.trace_flags.random_trace_id
        result = self.sampler.should_sample(context, trace_id, name, kind, attributes, links)
        is_sampled = result.decision is sampling.Decision.RECORD_AND_SAMPLE
        flags = TraceFlags((TraceFlags.SAMPLED if is_sampled else 0) | (TraceFlags.RANDOM_TRACE_ID if is_random else 0))
        span_id = self.id_generator.generate_span_id()
        if result.decision is sampling.Decision.DROP:
            dropped = SpanContext(trace_id, span_id, False, flags, result.trace_state)
            return UnsampledSpan(dropped, kind, attributes or {})
        span = self._make(name, kind, trace_id, flags, result.trace_state, span_id, parent_span, context, start_time)
        if result.attributes:
            span._set_all(result.attributes)
        for link in links:
            if link and is_valid_link(link.context, link.attributes):
                span.append_link(link.context, link.attributes)
        span._record_exception = record_exception
        span._set_status_on_exception = set_status_on_exception
        if self.has_processors:
            self.span_processor.on_start(span, parent_context=context)  # type: ignore[arg-type]  # as good as the SDK's
        return span

    def _make(
        self,
        name: str,
        kind: SpanKind,
        trace_id: int,
        flags: TraceFlags,
        state: TraceState | None,
        span_id: int,
        parent_span: Span | None,
        context: Context | None,
        start_time: int | None,
    ) -> RecordedSpan:
        parent = parent_span.get_span_context() if parent_span else None
        state = state if state is not None else _NO_STATE
        if isinstance(parent_span, RecordedSpan) and parent_span.trace.is_like(flags, state):
            trace = parent_span.trace
        else:
            trace = Trace(trace_id, flags, state)
        base = context_api.get_current() if context is None else context
        span = RecordedSpan(
            self,
            name,
            kind,
            trace,
            span_id.to_bytes(8, "big"),
            trace.head + (b"\x22\x08" + parent.span_id.to_bytes(8, "big") if parent else b""),
            parent_span if isinstance(parent_span, RecordedSpan) else parent,
            scope_in(base),
            base,
            time_ns() if start_time is None else start_time,
        )
        if parent and parent.is_remote:
            span.is_below_remote = True
        return span


class UnsampledSpan(NonRecordingSpan):
    """A span that is not recorded, and says all the same where it leads: that decides whether its ids may travel."""

    def __init__(self, context: SpanContext, kind: SpanKind, attributes: Mapping[str, types.AnyValue]) -> None:
        super().__init__(context)
        self.kind = kind
        self.attributes = attributes


class SpanBlock:
    """A block, or a function, in which a new span is current, with any of the options that there are.

    What it was called with is kept, since as a decorator it begins a span a call.
    """

    __slots__ = ("_arguments", "_end_on_exit", "_record_exception", "_set_status", "_span", "_token", "_tracer")

    def __init__(
        self, tracer: Tracer, arguments: _SpanArguments, record_exception: bool, set_status: bool, end_on_exit: bool
    ) -> None:
        self._tracer = tracer
        self._arguments = arguments
        self._record_exception = record_exception
        self._set_status = set_status
        self._end_on_exit = end_on_exit

    def __enter__(self) -> Span:
        span = self._tracer.start_span(*self._arguments)
        if isinstance(span, RecordedSpan) and self._arguments[1] is None and installed():
            self._token = CURRENT.set(span)
        else:
            self._token = context_api.attach(_context_of(span))  # type: ignore[assignment]  # a token all the same
        self._span = span
        return span

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        span = self._span
        leave(self._token)
        if (
            exc_val is not None
            and isinstance(exc_val, Exception)  # GeneratorExit and the like are no errors; otel-python #4484
            and isinstance(span, RecordedSpan)
            and span.is_recording()
        ):
            span.note_exception(exc_val, self._record_exception, self._set_status)
        if self._end_on_exit:
            span.end()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function or a coroutine function: each call has a span of its own."""
        return _decorated(function, self._again)

    def _again(self) -> SpanBlock:
        return SpanBlock(self._tracer, self._arguments, self._record_exception, self._set_status, self._end_on_exit)


class CurrentSpan(RecordedSpan):
    """A span that is its own block: entering begins it and makes it current, leaving ends it.

    It is what ``with tracer.start_as_current_span(name)`` nearly always comes to, and saves the block's own object.
    Where there is no span of ours around it, a :class:`SpanBlock` does the work.
    """

    _token: Token[Any] | None = None
    _block: SpanBlock | None = None

    def __init__(self, tracer: Tracer, name: str, kind: SpanKind, attributes: types.Attributes) -> None:
        self._tracer = tracer
        self._name = name
        self._kind = kind
        self._given = attributes

    def __enter__(self) -> Span:
        tracer = self._tracer
        parent: Any = CURRENT.get()
        trace = getattr(parent, "trace", None)
        if trace is None or not (tracer.is_simple and trace.flags & 1):
            arguments = (self._name, None, self._kind, self._given, (), None, True, True)
            self._block = SpanBlock(tracer, arguments, True, True, True)
            return self._block.__enter__()
        self.trace = trace
        self.id_bytes = _random_bits(64).to_bytes(8, "big")
        self._head = parent._children_head or parent.children_head()
        self._parent = parent
        self.scope = parent.scope
        self._base = parent._base
        self._attributes = {}
        if trace.tail:
            self.set_tail(trace.tail)
        if self._given:
            self._set_all(self._given)
        self._start_time = time_ns()
        self._token = CURRENT.set(self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if self._block is not None:
            return self._block.__exit__(exc_type, exc_val, exc_tb)
        if self._token is not None:
            try:  # noqa: SIM105  # contextlib.suppress costs more than the whole of the rest
                CURRENT.reset(self._token)
            except ValueError:
                pass  # closed in another context, as the generator that holds it was: there is nothing to undo
            self._token = None
        if exc_val is not None and isinstance(exc_val, Exception) and self._end_time is None:
            self.note_exception(exc_val, True, True)
        self.end()
        return None

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function or a coroutine function: each call has a span of its own."""
        return _decorated(function, lambda: CurrentSpan(self._tracer, self._name, self._kind, self._given))


def _decorated(function: Callable[P, R], block: Callable[[], AbstractContextManager[Any]]) -> Callable[P, R]:
    """`function`, each call of which runs in a block of its own."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def around_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            with block():
                return await function(*args, **kwargs)

        return around_coroutine  # type: ignore[return-value]  # a coroutine function for a coroutine function

    @functools.wraps(function)
    def around(*args: P.args, **kwargs: P.kwargs) -> R:
        with block():
            return function(*args, **kwargs)

    return around


def leave(token: Token[Any]) -> None:
    """Undo an activation. In another `contextvars` context (a generator closed elsewhere) there is nothing to undo."""
    if token.var is CURRENT:
        try:  # noqa: SIM105  # contextlib.suppress costs more than the whole of the rest
            CURRENT.reset(token)
        except ValueError:
            pass
    else:
        context_api.detach(token)


def scope_in(context: Context) -> SyncScope | None:
    """The sync scope that a context carries, itself or through its span."""
    scope = context.get(SCOPE_KEY)
    if scope is None:
        scope = getattr(context.get(_SPAN_KEY), "scope", None)
    return scope if isinstance(scope, SyncScope) else None


def _context_of(span: Span) -> Context:
    context = set_span_in_context(span)
    scope = getattr(span, "scope", None)
    return context_api.set_value(SCOPE_KEY, scope, context) if isinstance(scope, SyncScope) else context


class TracerProvider(sdk.TracerProvider):
    """The SDK's tracer provider, with spans that are journalled when they end.

    Args:
        journal: Where finished spans go.
        redactor: Takes secrets out of names, attributes and messages on the way; None leaves everything as it is.

    All other arguments are the SDK's. Span processors that are added see every span, at the price of building what they
    read.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        redactor: Redactor | None = None,
        sampler: sampling.Sampler | None = None,
        resource: Resource | None = None,
        shutdown_on_exit: bool = True,
        active_span_processor: sdk.SynchronousMultiSpanProcessor | sdk.ConcurrentMultiSpanProcessor | None = None,
        id_generator: SdkIdGenerator | None = None,
        span_limits: sdk.SpanLimits | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self.journal = journal
        self.has_processors = active_span_processor is not None
        self._take_redactor(redactor)
        self._resource_numbers: list[tuple[Resource, int]] = []
        super().__init__(
            sampler=sampler,
            resource=resource,
            shutdown_on_exit=shutdown_on_exit,
            active_span_processor=active_span_processor,
            id_generator=id_generator or IdGenerator(),
            span_limits=span_limits,
            meter_provider=meter_provider,
        )

    def _take_redactor(self, redactor: Redactor | None) -> None:
        self.redact: Callable[[str], str] = redactor.redact if redactor else _as_it_is
        self.encoder = otlp.AttributeEncoder(_SPAN_TAG, redactor)
        self.inner_encoders = (otlp.AttributeEncoder(_EVENT_TAG, redactor), otlp.AttributeEncoder(_LINK_TAG, redactor))
        self.is_guarded = redactor is not None
        self.append_span = None
        """The C extension's way into the journal, where it can be gone."""
        if native and type(self.journal).append is Journal.append and (redactor is None or redactor.is_standard):
            self.append_span = native.append_span
        self._redactor = redactor

    def redact_with(self, redactor: Redactor) -> None:
        """Let `redactor` take secrets out of everything that is recorded from now on."""
        with self._tracers_lock:
            self._take_redactor(redactor)
            for tracer in self._tracers.values():
                if isinstance(tracer, Tracer):
                    tracer.take_encoders()

    def rename_service(self, name: str) -> None:
        """Let everything that is recorded from now on have another ``service.name``."""
        if self.resource.attributes.get(SERVICE_NAME) != name:
            self._update_resource(Resource({SERVICE_NAME: name}))

    def define_scope(self, resource: Resource, scope: InstrumentationScope) -> int:
        """The journal's number for an instrumentation scope under a resource."""
        number = next((n for known, n in self._resource_numbers if known is resource), None)
        if number is None:
            number = self.journal.resource(otlp.resource(resource.attributes, self._redactor))
            self._resource_numbers.append((resource, number))
        return self.journal.scope(number, otlp.scope(scope.name, scope.version, scope.attributes, scope.schema_url))

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: types.Attributes = None,
    ) -> TracerApi:
        """The tracer of a library; the same one for the same arguments."""
        tracer = super().get_tracer(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        if isinstance(tracer, sdk.Tracer) and not isinstance(tracer, Tracer):
            with self._tracers_lock:
                scope = tracer._instrumentation_scope
                ours = self._tracers.get(scope)
                if not isinstance(ours, Tracer):
                    ours = self._tracers[scope] = Tracer(tracer, self)
                return ours
        return tracer

    def adopt_tracers(self, other: TracerProvider) -> None:
        """Let the tracers that `other` has given out record here from now on: modules and libraries hold on to them."""
        with other._tracers_lock:
            theirs = [tracer for tracer in other._tracers.values() if isinstance(tracer, Tracer)]
        for tracer in theirs:
            scope = tracer.instrumentation_scope
            with self._tracers_lock:
                self._tracers.pop(scope, None)
            like = super().get_tracer(scope.name, scope.version, scope.schema_url, scope.attributes)
            if isinstance(like, sdk.Tracer):
                with self._tracers_lock:
                    tracer.belong_to(self, like)
                    self._tracers[scope] = tracer

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
        try:
            body = encode_verdict(span_context, ends, self.encoder.encode(found), self._error(error_type, message))
            tracer = self.get_tracer("otelsync", __version__)
            self.journal.append(SPAN_VERDICT, tracer.ref if isinstance(tracer, Tracer) else 0, body, ends)
        except Exception as error:
            _log.debug("the verdict on span %016x could not be journalled: %s", span_context.span_id, error)

    def _error(self, error_type: str | None, message: str | None) -> Status | None:
        if error_type is None:
            return None
        return Status(StatusCode.ERROR, self.redact(message or error_type))

    def add_span_processor(self, span_processor: sdk.SpanProcessor) -> None:
        """Let `span_processor` see the start and the end of every span."""
        super().add_span_processor(span_processor)
        self.has_processors = True
        with self._tracers_lock:
            for tracer in self._tracers.values():
                if isinstance(tracer, Tracer):
                    tracer.reconsider()

    def _handle_fork(self) -> None:
        """A forked child is an instance of its own.

        The SDK runs its resource detectors again, in a pool of threads, in every child; what they would find is known.
        """
        self._tracers_lock = threading.Lock()
        changed: dict[str, types.AttributeValue] = {}
        if SERVICE_INSTANCE_ID in self._resource.attributes:
            changed[SERVICE_INSTANCE_ID] = str(uuid.uuid4())
        if "process.pid" in self._resource.attributes:
            changed["process.pid"] = os.getpid()
        if changed:
            self._update_resource(Resource(changed))


def _as_it_is(text: str) -> str:
    return text
