"""The state of a span of ours, readable as that of the SDK's spans is, and the part of a tracer that it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time_ns
from typing import Any, Final, TypeVar

from opentelemetry.context.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util import types

from otelsync.bounds import LONGEST_NAME
from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.opentelemetry_api import SPAN_KEY
from otelsync.journal.native import native
from otelsync.journal.writer import Journal
from otelsync.otlp import encoding as otlp
from otelsync.recording.runtime_context import Strayed
from otelsync.recording.scope import SCOPE_KEY, SPAN_TAG, SyncScope
from otelsync.recording.sdk_tracers import SdkTracer
from otelsync.recording.span_bytes import LOCAL_FLAGS, REMOTE_FLAGS, Trace
from otelsync.redaction import Redactor
from otelsync.text.presentable import text_of

T = TypeVar("T")

UNSET: Final = Status(StatusCode.UNSET)
_EMPTY_STATUS: Final = b"\x7a\x00"
_EVENT_TAG, _LINK_TAG = 0x1A, 0x22
_LATEST: Final = 2**64 - 1


def instant(given: float) -> int:
    """Nanoseconds since the epoch from the number that a caller gave; the present where it gave none."""
    try:
        return max(0, min(int(given), _LATEST))
    except Exception as error:  # of its __int__
        hand_back(error)
        return time_ns()


class Bounded(list[T]):
    """The latest of what was appended. Unlike the SDK's it needs no lock, which a signal handler could wait for.

    Args:
        most: Items that it holds at most; None: any number.
    """

    dropped = 0
    """Number of items that there was no room for."""

    def __init__(self, most: int | None) -> None:
        super().__init__()
        self._most = most

    def append(self, item: T) -> None:
        """Append an item; the oldest goes where there is no more room."""
        super().append(item)
        if self._most is not None and len(self) > self._most:
            self.dropped += 1
            del self[0]


class Encoders:
    """Encoders of what spans hold, for one journal and one redactor; without a redactor everything stays as it is."""

    def __init__(self, journal: Journal, redactor: Redactor | None) -> None:
        self.redactor: Final = redactor
        self.redact: Final[Callable[[str], str]] = redactor.redact if redactor else lambda text: text
        self.span: Final = otlp.AttributeEncoder(SPAN_TAG, redactor)
        self.inner: Final = (otlp.AttributeEncoder(_EVENT_TAG, redactor), otlp.AttributeEncoder(_LINK_TAG, redactor))
        """Encoders of events and of links."""
        self.append_span: Callable[..., bool] | None = None
        if native and type(journal).append is Journal.append and (redactor is None or redactor.is_standard):
            self.append_span = native.append_span


class Recorder(SdkTracer):
    """The part of a tracer that its spans need."""

    journal: Journal
    ref: int
    """The number of its scope in the journal."""
    room: int
    """Number of attributes that a span may take without a look at its limits."""
    is_simple: bool
    """True if every child of a sampled span is recorded under a random id, and nobody looks on."""
    has_processors: bool
    span_processor: Any

    def take_encoders(self, encoders: Encoders) -> None:
        """Encode, and take secrets out, with these from now on."""
        self.encoder = encoders.span
        self.known = self.encoder.known
        self.is_guarded = encoders.redactor is not None
        self.append_span = encoders.append_span
        self.inner_encoders = encoders.inner
        self.redact = encoders.redact
        # By the value of the kind: an Enum's own hash is written in Python.
        self.names: dict[int, dict[str, bytes]] = {kind.value: {} for kind in SpanKind}
        self.internal_names = self.names[SpanKind.INTERNAL.value]
        self.remote_names: dict[int, dict[str, bytes]] = {kind.value: {} for kind in SpanKind}

    def name_of(self, name: object) -> str:
        """Return the name that a span has if it was given one that is very long, or no text."""
        text, redactor = text_of(name), self.encoder.redactor
        return text if redactor is None else redactor.shorten(text, LONGEST_NAME)

    def clean(self, key: object, value: object) -> Any:
        """Return the value of an attribute without secrets, within the bounds of a record."""
        redactor = self.encoder.redactor
        return value if redactor is None else redactor.redact_value(text_of(key), value)

    def clean_all(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return all attributes of a span, an event or a link so."""
        return self.encoder.clean(attributes)

    def new_name(self, kind: SpanKind, name: str, is_below_remote: bool = False) -> bytes:
        """Encode what follows the span's id: name, kind, flags of a local or remote parent, the unset status."""
        clean = self.redact(name)
        body = (otlp.text(0x2A, clean) if clean else b"") + bytes((0x30, kind.value + 1))
        body += (REMOTE_FLAGS if is_below_remote else LOCAL_FLAGS) + _EMPTY_STATUS
        names = (self.remote_names if is_below_remote else self.names)[kind.value]
        if len(names) >= 1024:
            names.clear()
        names[name] = body
        return body


class SpanState(Strayed, Span):
    """The identity of a span and what has been set so far, with the names that the SDK's spans have for them."""

    # What most spans leave as it is stands here: a span is made a thousand times more often than it fails.
    _dropped_attributes = 0
    _end_time: int | None = None
    _events: Bounded[Event] | None = None
    _links: Bounded[Link] | None = None
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
    inner: Any = None
    """Collector of the parts inside an item, made when one of them fails; this room knows nothing of it."""
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
        self._name = name if type(name) is str and len(name) <= LONGEST_NAME else tracer.name_of(name)
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
    def above(self) -> SpanState | None:
        """The parent, where that is a span of ours in this process."""
        return self._parent if isinstance(self._parent, SpanState) else None

    @property
    def is_announced(self) -> bool:
        """Return whether its beginning was journalled, as that of stages is and that of items is not."""
        return self._started

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
            values[SPAN_KEY] = self
            if self.scope is not None:
                values[SCOPE_KEY] = self.scope
            self._as_context = Context(values)
        return self._as_context

    def stand_on(self, base: Context | None) -> None:
        """Let `base` be what is current beside it, and beside what begins below it, from now on."""
        self.base = base
        self._as_context = None

    def make_children_prefix(self) -> bytes:
        """Return the beginning of every child's message: the trace's id, and this span's id as the parent's."""
        head = self.children_prefix
        if head is None:
            head = self.children_prefix = self.trace.head + b"\x22\x08" + self.id_bytes
        return head

    def set_tail(self, tail: bytes) -> None:
        """Set what else its message says beyond what siblings share: a trace state."""
        self._has_more = True
        self._tail += tail
