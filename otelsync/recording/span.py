"""A span that is encoded to OTLP bytes and journalled when it ends.

It behaves as the SDK's span does (a property test drives both with the same calls and compares the wire), and does
less: ids stay bytes, attributes stay a dict, and nothing is built that is not asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from struct import Struct
from types import TracebackType
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util import types

from otelsync.bounds import LONGEST_NAME
from otelsync.hooks.host_errors import forgive, hand_back, has_entered
from otelsync.journal.format import ENCODE_ERROR, SPAN, SPAN_END, SPAN_PENDING, SPAN_RELEASED, SPAN_START
from otelsync.journal.native import native
from otelsync.otlp.encoding import field, is_little, varint
from otelsync.recording.clock import present
from otelsync.recording.scope import EMPTY
from otelsync.recording.sdk_tracers import announce_ending
from otelsync.recording.span_bytes import END_TIME, count_field, encode_events, encode_links, status_field
from otelsync.recording.span_state import UNSET, Bounded, SpanState, instant
from otelsync.text.presentable import message_of, presentable, text_of
from otelsync.text.tracebacks import traceback_of
from otelsync.vocabulary import EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE, EXCEPTION_TYPE

_log = logging.getLogger("opentelemetry.sdk.trace")  # misuse is reported where users of the SDK look for it

_PLAIN: Final = frozenset((str, int, float, bool))
_INTERNAL: Final = SpanKind.INTERNAL
_pack_times: Final = Struct("<BQBQ").pack
_START: Final = 0x39
_HEADS: Final = tuple(b"\x12" + varint(n) for n in range(4096))
"""Tag and length of a span of n bytes in ``ScopeSpans``."""


class RecordedSpan(SpanState):
    """A span of our provider. Made by :class:`~otelsync.recording.tracer.Tracer` alone."""

    def set_attribute(self, key: str, value: types.AnyValue) -> None:
        """Set an attribute; after the end it is ignored, with a warning."""
        if self._end_time is not None:
            _log.warning("Setting attribute on ended span.")
            return None
        attributes = self._attributes
        room = self._tracer.room
        if type(value) in _PLAIN and type(key) is str and key:
            if key not in attributes:
                if len(attributes) < room:
                    attributes[key] = value
                    return None
            elif room >= 0:
                del attributes[key]  # so that it moves to the end, as it does in the SDK
                attributes[key] = value
                return None
        return self._set_bounded(key, value)

    def _set_bounded(self, key: str, value: types.AnyValue) -> None:
        """Set an attribute in the general way: as the SDK does, within the limits."""
        limits = self._tracer.limits
        cleaned = BoundedAttributes(None, None, immutable=False, max_value_len=limits.max_span_attribute_length)
        if limits.max_span_attributes == 0:
            self._drop_attributes(1)
            return
        value = self._tracer.clean(key, value)
        try:
            cleaned[key] = value
        except Exception as error:
            hand_back(error)
            cleaned[key] = presentable(value)
        self._drop_attributes(cleaned.dropped)
        self._merge(cleaned)

    def _bounded(
        self, most: int | None, attributes: types.Attributes, longest: int | None, *, immutable: bool = False
    ) -> BoundedAttributes:
        """Attributes within limits, cut where no secret is torn in two."""
        given = attributes or {}
        clean = given if longest is None and is_little(given) else self._tracer.clean_all(given)
        return _bounded(most, clean, longest, immutable=immutable)

    def _drop_attributes(self, count: int) -> None:
        self._has_more = True
        self._dropped_attributes += count

    def set_attributes(self, attributes: Mapping[str, types.AnyValue]) -> None:
        """Set several attributes; after the end they are ignored, with a warning."""
        if self._end_time is not None:
            _log.warning("Setting attribute on ended span.")
            return
        self.put_attributes(attributes)

    def put_attributes(self, attributes: Mapping[str, Any]) -> None:
        tracer = self._tracer
        own = self._attributes
        if len(own) + len(attributes) <= tracer.room:
            copy = _plain_copy(attributes)
            if copy is not None:
                if own.keys().isdisjoint(copy):  # else they move to the end, as they do in the SDK
                    own.update(copy)
                    return
                self._attributes = {key: value for key, value in own.items() if key not in copy} | copy
                return
        limits = tracer.limits
        if limits.max_span_attributes == 0:
            self._drop_attributes(len(attributes))
        else:
            cleaned = self._bounded(None, attributes, limits.max_span_attribute_length)
            self._drop_attributes(cleaned.dropped)
            self._merge(cleaned)

    def _merge(self, cleaned: Mapping[str, types.AnyValue]) -> None:
        own = dict(self._attributes)  # whatever is raised on the way, none is missing
        most = self._tracer.limits.max_span_attributes
        for key, value in cleaned.items():
            own.pop(key, None)
            if most is not None and len(own) >= most:
                del own[next(iter(own))]
                self._drop_attributes(1)
            own[key] = value
        self._attributes = own

    def add_event(self, name: str, attributes: types.Attributes = None, timestamp: int | None = None) -> None:
        """Mark a moment, by default the present one; `timestamp` in nanoseconds since the epoch."""
        if self._end_time is not None:
            _log.warning("Tried calling %s on an ended span.", "_add_event")
            return
        limits = self._tracer.limits
        bounded = self._bounded(limits.max_event_attributes, attributes, limits.max_attribute_length, immutable=True)
        if self._events is None:
            self._has_more = True
            self._events = Bounded(limits.max_events)
        at = present(self.trace.offset, 0) if timestamp is None else instant(timestamp)
        self._events.append(Event(text_of(name), bounded, timestamp=at))

    def add_link(self, context: SpanContext, attributes: types.Attributes = None) -> None:
        """Point to another span; an invalid context with nothing beside it is ignored."""
        if not is_valid_link(context, attributes):
            return
        if self._end_time is not None:
            _log.warning("Tried calling %s on an ended span.", "_add_link")
            return
        self.append_link(context, attributes)

    def append_link(self, context: SpanContext, attributes: types.Attributes) -> None:
        """Add a link that is known to be valid."""
        limits = self._tracer.limits
        bounded = self._bounded(limits.max_link_attributes, attributes, limits.max_attribute_length, immutable=True)
        if self._links is None:
            self._has_more = True
            self._links = Bounded(limits.max_links)
        self._links.append(Link(context, bounded))

    def update_name(self, name: str) -> None:
        """Give it another name."""
        if self._end_time is not None:
            _log.warning("Tried calling %s on an ended span.", "update_name")
            return
        self._name = name if type(name) is str and len(name) <= LONGEST_NAME else self._tracer.name_of(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status; OK is final, and UNSET changes nothing."""
        if self._end_time is not None:
            _log.warning("Tried calling %s on an ended span.", "set_status")
            return
        code = status.status_code if isinstance(status, Status) else status
        if self._status.status_code is StatusCode.OK or code is StatusCode.UNSET:
            return
        if not isinstance(status, Status):
            status = Status(status, description)
        elif description is not None:
            _log.warning("Description %s ignored. Use either `Status` or `(StatusCode, Description)`", description)
        self._has_more = True
        self._status = status

    def record_exception(
        self,
        exception: BaseException,
        attributes: types.Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Record an exception and its traceback as an event named ``exception``."""
        kind = type(exception)
        module = kind.__module__
        described: dict[str, types.AnyValue] = {
            EXCEPTION_TYPE: f"{module}.{kind.__qualname__}" if module and module != "builtins" else kind.__qualname__,
            EXCEPTION_MESSAGE: message_of(exception),
            EXCEPTION_STACKTRACE: traceback_of(exception),
            "exception.escaped": str(escaped),
        }
        if attributes:
            described.update(attributes)
        self.add_event("exception", described, timestamp)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """End it, after noting the exception that leaves its block."""
        if exc_val is not None and self.is_recording():
            self.note_exception(exc_val, self.records_exceptions, self.sets_status, escaped=True)
        self.end()

    def note_exception(self, error: BaseException, record: bool, set_status: bool, *, escaped: bool = False) -> None:
        """Record an exception that leaves the span's block, and set the status, as far as each is wanted."""
        if record:
            self.record_exception(error, escaped=escaped)
        if set_status:
            self.set_status(Status(StatusCode.ERROR, text_of(error)))

    def announce(self) -> None:
        """Journal that it has begun, so that it can be closed for us should the process die."""
        self._started = True
        tracer = self._tracer
        if self.trace.flags & 1:
            if self._announce_shortly():
                return
            try:
                tracer.journal.append(SPAN_START, tracer.ref, self._encode(0))
            except Exception as error:
                forgive(error, "the start of span %r could not be journalled", self._name)

    def release(self) -> None:
        """Leave its end to another process: it is over here, without a record, and nobody closes it for us."""
        if self._end_time is not None:
            _log.warning("Tried calling %s on an ended span.", "release")
            return
        self._end_time = present(self.trace.offset, self._start_time)
        tracer = self._tracer
        if self._started and self.trace.flags & 1:
            ids = field(0x12, self.trace.head + b"\x12\x08" + self.id_bytes)
            tracer.journal.append(SPAN_RELEASED, tracer.ref, ids)

    def end_for_now(self, end_time: int | None = None) -> None:
        """End it, and let the shipper complete it with what other processes have recorded below it."""
        if self._end_time is not None or self._tracer.has_processors or not self.trace.flags & 1:
            return self.end(end_time)
        try:
            self._end_time = present(self.trace.offset, self._start_time) if end_time is None else instant(end_time)
            self._tracer.journal.append(SPAN_PENDING, self._tracer.ref, self._encode(self._end_time))
        except BaseException as error:
            self._end_despite(error, SPAN_PENDING)
        return None

    def end(self, end_time: int | None = None) -> None:
        """End it, now or at `end_time` (nanoseconds since the epoch), and journal it if it is sampled."""
        if self._end_time is not None:
            _log.warning("Calling end() on an ended span.")
            return None
        tracer = self._tracer
        if tracer.has_processors:
            return self._end_with_processors(end_time)
        trace = self.trace
        try:
            if end_time is None:
                self._end_time = now = present(trace.offset, self._start_time)
            else:
                self._end_time = now = instant(end_time)
            if trace.flags & 1:
                append_span = tracer.append_span
                if append_span is not None and not self._has_more:
                    scope = self.scope or EMPTY
                    is_plain = self._kind is _INTERNAL and not self.is_below_remote
                    if append_span(
                        tracer.journal,
                        tracer.known,
                        tracer.is_guarded,
                        SPAN_END if self._started else SPAN,
                        tracer.ref,
                        self._head,
                        self.id_bytes,
                        (tracer.internal_names if is_plain else self._names()).get(self._name),
                        self._start_time,
                        now,
                        scope.span_bytes,
                        scope.keys,
                        self._attributes,
                    ):
                        return None
                    tracer.encoder.learn(self._attributes)
                tracer.journal.append(SPAN_END if self._started else SPAN, tracer.ref, self._encode(now))
        except BaseException as error:
            self._end_despite(error, SPAN_END if self._started else SPAN)
        return None

    def _end_despite(self, error: BaseException, kind: int) -> None:
        """End it where something was raised on the way: journal it, if that was not done; hand back what is the host's.

        What cannot be encoded is counted as dropped.
        """
        if self._end_time is None:
            self._end_time = present(self.trace.offset, self._start_time)
        journal = self._tracer.journal
        if self.trace.flags & 1:
            try:
                record = (kind, self._tracer.ref, self._encode(self._end_time))
                if not journal.has_taken(record, error):
                    journal.append(*record)
            except BaseException as problem:
                if not has_entered(problem, journal.append):
                    journal.drop(ENCODE_ERROR, SPAN)
                if isinstance(problem, Exception):
                    forgive(problem, "span %r could not be encoded, and is counted as dropped", self._name)
        hand_back(error)

    def _announce_shortly(self) -> bool:
        """Let the C extension do it, as in :meth:`end`, if there is one and the span is like most."""
        tracer = self._tracer
        append_span = tracer.append_span
        if append_span is None or self._has_more:
            return False
        scope = self.scope or EMPTY
        if append_span(
            tracer.journal,
            tracer.known,
            tracer.is_guarded,
            SPAN_START,
            tracer.ref,
            self._head,
            self.id_bytes,
            self._names().get(self._name),
            self._start_time,
            0,
            scope.span_bytes,
            scope.keys,
            self._attributes,
        ):
            return True
        tracer.encoder.learn(self._attributes)
        return False

    def _names(self) -> dict[str, bytes]:
        """Return the bytes that follow the id in spans of this kind, by name."""
        tracer = self._tracer
        if self.is_below_remote:
            return tracer.remote_names[self._kind._value_]
        return tracer.internal_names if self._kind is _INTERNAL else tracer.names[self._kind._value_]

    def _end_with_processors(self, end_time: int | None) -> None:
        processor = self._tracer.span_processor
        kind = SPAN_END if self._started else SPAN
        self._end_time = present(self.trace.offset, self._start_time) if end_time is None else instant(end_time)
        announce_ending(processor, self)
        try:
            if self.trace.flags & 1:
                self._tracer.journal.append(kind, self._tracer.ref, self._encode(self._end_time))
        except BaseException as error:
            self._end_despite(error, kind)
        processor.on_end(self.readable())

    def readable(self) -> ReadableSpan:
        """The SDK's read-only view, for span processors and exporters."""
        attributes = BoundedAttributes(None, self.attributes, immutable=True)
        attributes.dropped = self._dropped_attributes
        return ReadableSpan(
            name=self._name,
            context=self.get_span_context(),
            parent=self.parent,
            resource=self.resource,
            attributes=attributes,
            events=self._events or (),
            links=self._links or (),
            kind=self._kind,
            status=self._status,
            start_time=self._start_time,
            end_time=self._end_time,
            instrumentation_scope=self.instrumentation_scope,
        )

    _readable_span = readable

    # Its bytes

    def _encode(self, end_time: int) -> bytes:
        """The span as ``ScopeSpans`` field 2. An `end_time` of 0 means that it has none yet."""
        tracer = self._tracer
        parts = [
            self._head,
            b"\x12\x08",
            self.id_bytes,
            self._names().get(self._name) or tracer.new_name(self._kind, self._name, self.is_below_remote),
            _pack_times(_START, self._start_time, END_TIME, end_time),
        ]
        scope = self.scope
        if scope is not None and not scope.keys.isdisjoint(self._attributes):
            tracer.encoder.extend(parts, {**scope.attributes, **self._attributes})
        else:
            if scope is not None:
                parts.append(scope.span_bytes)
            tracer.encoder.extend(parts, self._attributes)
        if self._has_more:
            self._encode_rest(parts)
        body = b"".join(parts)
        length = len(body)
        return (_HEADS[length] if length < 4096 else b"\x12" + varint(length)) + body

    def _encode_rest(self, parts: list[bytes]) -> None:
        """Encode what most spans do not have: events, links, a status, and what the limits have cost."""
        encoder = self._tracer.inner_encoders
        parts += encode_events(self._events or (), encoder[0], self._tracer.redact)
        parts += encode_links(self._links or (), encoder[1])
        parts += (
            self._tail,
            count_field(0x50, self._dropped_attributes),
            count_field(0x60, self.dropped_events),
            count_field(0x70, self.dropped_links),
        )
        if self._status is not UNSET:
            parts.append(status_field(self._status.status_code, self._tracer.redact(self._status.description or "")))


def is_valid_link(context: SpanContext | None, attributes: types.Attributes) -> bool:
    """Return whether a link says anything: it has a valid context, or attributes, or a trace state."""
    return bool(context and (context.is_valid or attributes or context.trace_state))


def _bounded(
    most: int | None, attributes: types.Attributes, longest: int | None, *, immutable: bool = False
) -> BoundedAttributes:
    """Attributes within limits, as the SDK has them. It calls ``str()`` of what is no plain value, which may raise."""
    try:
        return BoundedAttributes(most, attributes, immutable=immutable, max_value_len=longest)
    except Exception as error:
        hand_back(error)
        shown = {key: presentable(value) for key, value in (attributes or {}).items()}
        return BoundedAttributes(most, shown, immutable=immutable, max_value_len=longest)


def _plain_copy_in_python(attributes: object) -> dict[str, Any] | None:
    """A copy, if it is a dict of str, not empty, to str, int, float and bool alone; else None."""
    if type(attributes) is not dict:
        return None
    for key, value in attributes.items():
        if type(value) not in _PLAIN or type(key) is not str or not key:
            return None
    return attributes.copy()


_plain_copy: Final = native.plain_copy if native else _plain_copy_in_python
