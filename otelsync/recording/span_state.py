"""The state of a span of ours, readable as that of the SDK's spans is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.context.context import Context
from opentelemetry.sdk.trace import Event, SpanLimits
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation import _SPAN_KEY
from opentelemetry.util import types

from otelsync.journal.writer import Journal
from otelsync.otlp.encoding import AttributeEncoder
from otelsync.recording.scope import SCOPE_KEY, SyncScope
from otelsync.recording.span_bytes import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

UNSET: Final = Status(StatusCode.UNSET)


class Recorder(Protocol):
    """The part of a tracer that its spans need."""

    journal: Journal
    ref: int
    limits: SpanLimits
    room: int
    encoder: AttributeEncoder
    inner_encoders: tuple[AttributeEncoder, AttributeEncoder]
    known: Any
    is_guarded: bool
    is_simple: bool
    append_span: Callable[..., bool] | None
    has_processors: bool
    span_processor: Any
    resource: Resource
    instrumentation_scope: InstrumentationScope
    redact: Callable[[str], str]
    names: dict[int, dict[str, bytes]]
    internal_names: dict[str, bytes]
    remote_names: dict[int, dict[str, bytes]]

    def start_span(self, *arguments: Any, **options: Any) -> Span:
        """Start a span of ours, or of the SDK where it has to be."""

    def new_name(self, kind: SpanKind, name: str, is_below_remote: bool = False) -> bytes:
        """Return what follows the span's id in its bytes, encoded now."""


class SpanState(Span):
    """The identity of a span and what has been set so far, with the names that the SDK's spans have for them."""

    # What most spans leave as it is stands here: a span is made a thousand times more often than it fails.
    _dropped_attributes = 0
    _end_time: int | None = None
    _events: BoundedList[Event] | None = None
    _links: BoundedList[Link] | None = None
    _status = UNSET
    children_prefix: bytes | None = None
    known_context: SpanContext | None = None
    _as_context: Context | None = None
    _tail = b""
    _has_more = False
    """True if there are events, links, a status or anything else that most spans do not have."""
    _started = False
    is_below_remote = False
    """True if its parent is a span of another process, which its flags say."""
    records_exceptions = True
    sets_status = True

    def __init__(
        self,
        tracer: Recorder,
        name: str,
        kind: SpanKind,
        trace: Trace,
        id_bytes: bytes,
        head: bytes,
        parent: SpanState | SpanContext | Callable[[], SpanContext | None] | None,
        scope: SyncScope | None,
        base: Context | None,
        start_time: int,
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._kind = kind
        self.trace = trace
        self.id_bytes = id_bytes
        self._head = head
        self._parent = parent
        self.scope = scope
        self.base = base
        self._start_time = start_time
        self._attributes: dict[str, types.AnyValue] = {}
        if trace.tail:
            self.set_tail(trace.tail)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(name="{self._name}", context={self.get_span_context()})'

    # What it is

    def get_span_context(self) -> SpanContext:
        """Ids, flags and state, as they travel to children and to other processes."""
        if self.known_context is None:
            trace = self.trace
            span_id = int.from_bytes(self.id_bytes, "big")
            self.known_context = SpanContext(trace.id, span_id, False, trace.flags, trace.state)
        return self.known_context

    @property
    def context(self) -> SpanContext:
        """The same as :meth:`get_span_context`, as span processors know it."""
        return self.get_span_context()

    @property
    def name(self) -> str:
        """The operation's name."""
        return self._name

    @property
    def kind(self) -> SpanKind:
        """Its role in a remote call."""
        return self._kind

    @property
    def parent(self) -> SpanContext | None:
        """The parent's span context; None for a root."""
        parent = self._parent
        if isinstance(parent, SpanState):
            return parent.get_span_context()
        return parent() if callable(parent) else parent

    @property
    def start_time(self) -> int:
        """Nanoseconds since the epoch."""
        return self._start_time

    @property
    def end_time(self) -> int | None:
        """Nanoseconds since the epoch; None while it runs."""
        return self._end_time

    @property
    def status(self) -> Status:
        """Its status so far."""
        return self._status

    @property
    def attributes(self) -> types.Attributes:
        """A copy of its attributes, with those of the sync that it is part of."""
        inherited = self.scope.attributes if self.scope else {}
        return {**inherited, **self._attributes}

    @property
    def events(self) -> tuple[Event, ...]:
        """Its events so far."""
        return tuple(self._events or ())

    @property
    def links(self) -> tuple[Link, ...]:
        """Its links so far."""
        return tuple(self._links or ())

    @property
    def dropped_attributes(self) -> int:
        """Number of attributes that the span limits have cost."""
        return self._dropped_attributes

    @property
    def dropped_events(self) -> int:
        """Number of events that the span limits have cost."""
        return 0 if self._events is None else self._events.dropped

    @property
    def dropped_links(self) -> int:
        """Number of links that the span limits have cost."""
        return 0 if self._links is None else self._links.dropped

    @property
    def resource(self) -> Resource:
        """The resource that produces it."""
        return self._tracer.resource

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """The library that produces it."""
        return self._tracer.instrumentation_scope

    def is_recording(self) -> bool:
        """Return whether it has not ended."""
        return self._end_time is None

    def redact(self, text: str) -> str:
        """Return `text` without secrets, as it would be recorded."""
        return self._tracer.redact(text)

    def as_context(self) -> Context:
        """The OpenTelemetry context in which this span is current; built once, when first asked for."""
        if self._as_context is None:
            values = dict(self.base or {})
            values[_SPAN_KEY] = self
            if self.scope is not None:
                values[SCOPE_KEY] = self.scope
            self._as_context = Context(values)
        return self._as_context

    def make_children_prefix(self) -> bytes:
        """Return the beginning of every child's message: the trace's id, and this span's id as the parent's."""
        head = self.children_prefix
        if head is None:
            head = self.children_prefix = self.trace.head + b"\x22\x08" + self.id_bytes
        return head

    def set_tail(self, tail: bytes) -> None:
        """Set what else its message says beyond what siblings share: a trace state."""
        self._tail += tail
        self._has_more = True
