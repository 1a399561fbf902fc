"""One log path: a record from structlog or from the standard library is built, redacted, rendered and journalled once.

Records inside a span carry its ids. Standard output gets JSON, or coloured text on a terminal; the journal gets an OTLP
log record.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
import time
import traceback
from binascii import hexlify
from collections.abc import Callable, Mapping
from struct import Struct
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import opentelemetry.context as context_api
import orjson
from opentelemetry.trace import Span, format_span_id, format_trace_id, get_current_span

from otelsync.errors import message_of
from otelsync.journal.native import native
from otelsync.journal.writer import ENCODE_ERROR, LOG
from otelsync.logs import events, own_events  # noqa: F401  # own_events declares what otelsync itself logs
from otelsync.logs.verbosity import Levels, level_name
from otelsync.otlp import encoding as otlp
from otelsync.recording.runtime_context import CURRENT, current_scope
from otelsync.recording.scope import EMPTY, LOG_TAG, OWN_NAMES, SyncScope
from otelsync.redaction import Redactor
from otelsync.vocabulary import EVENT_ID

if TYPE_CHECKING:
    import structlog
    from opentelemetry.sdk.resources import Resource

    from otelsync.recording.provider import TracerProvider
    from otelsync.recording.span_bytes import Trace

DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50
LEVELS: Final = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL}
_NAMES: Final = {number: name for name, number in LEVELS.items()}
_SEVERITIES: Final = {DEBUG: 5, INFO: 9, WARNING: 13, ERROR: 17, CRITICAL: 21}
"""OTLP severity numbers; source: opentelemetry-specification, logs data model."""

_pack_times: Final = Struct("<BQBQ").pack
_MICROSECONDS: Final = tuple(b"%03d" % n for n in range(1000))
_HEADS: Final = tuple(b"\x12" + otlp.varint(n) for n in range(4096))
"""What goes before a record of n bytes in ``ScopeLogs``: tag and length."""
_BODIES: Final = tuple(
    b"\x2a" + otlp.varint(n + 1 + len(otlp.varint(n))) + b"\x0a" + otlp.varint(n) for n in range(512)
)
"""What goes before a body of n bytes of text in a LogRecord: tags and lengths of the value and of its text."""

ExcInfo: TypeAlias = (
    bool | BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


class LogPath:
    """Where every record goes through.

    Args:
        service: The service's name, in every record.
        level: The least level that is shown, for all records or by their names.
        output: Writes a finished record: JSON or text, with its line end.
        redactor: Takes secrets out.
        journal_level: The least level that is journalled, where that is another than the one that is shown.
    """

    renders = True
    """Whether it shows records; if not, the program does."""
    level: int
    """The least level that goes anywhere."""
    level_changed: Callable[[int], object] | None = None
    """Is told of each change of that level."""

    def __init__(
        self,
        *,
        service: str,
        level: int | Levels,
        output: Output,
        redactor: Redactor,
        journal_level: int | None = None,
    ) -> None:
        self.service = service
        self._given = level if isinstance(level, Levels) else Levels(level)
        self._asked: Mapping[str, int] = {}
        self._journal_level = journal_level
        self._output = output
        self.redactor = redactor
        self._encoder = otlp.AttributeEncoder(LOG_TAG, redactor, _as_rendered)
        self._provider: TracerProvider | None = None
        self._resource: Resource | None = None
        self._refs: dict[str, int] = {}
        self._heads: dict[tuple[int, str, object], _Head] = {}
        self._millisecond = (-1, b"")
        """The last millisecond, and what its lines begin with; one tuple, so that threads see both or neither."""
        self._fd = output.descriptor
        self._moves = output.is_standard
        self._write_log = native.write_log if native and redactor.is_standard else None
        self._known = self._encoder.known
        self._use_levels()

    def set_level(self, level: int) -> None:
        """Change the least level that is shown; those by name stay."""
        self._given = Levels(level, self._given.others)
        self._use_levels()

    def ask_for(self, levels: Mapping[str, int]) -> None:
        """Let levels by name go before those that were given at first; with none, those hold again."""
        self._asked = dict(levels)
        self._use_levels()
        said = ",".join(f"{name}={level_name(number)}" for name, number in levels.items())
        emit(INFO, "otelsync", "otelsync.verbosity.changed", {"levels": said})

    def _use_levels(self) -> None:
        self._levels = self._given.changed(self._asked)
        self._lets_all = not self._levels.others and self._journal_level is None
        """Whether what passes `level` is shown: whoever calls has looked."""
        lowest = self._levels.lowest
        self.level = lowest if self._journal_level is None else min(lowest, self._journal_level)
        self._heads.clear()
        if self.level_changed is not None:
            self.level_changed(self.level)

    def forget_events(self) -> None:
        """Look up anew what is known of each event."""
        self._heads.clear()

    def is_shown(self, level: int, logger: str, event: str) -> bool:
        """Whether a record is shown, if `level` has been passed."""
        return self._lets_all or level >= self._levels.of(logger, event)

    def journal_to(self, provider: TracerProvider | None) -> None:
        """Journal every record from now on, under the provider's resource; None: render only."""
        self._refs.clear()
        self._heads.clear()
        self._provider = provider

    def write_to(self, stream: Stream) -> None:
        """Write to `stream` from now on, instead of to standard output; one that the program has named stays."""
        if self._moves:
            self._output = self._output.on(stream)
            self._fd = self._output.descriptor

    def emit(
        self,
        level: int,
        logger: str,
        event: object,
        fields: Mapping[str, Any],
        span: Span | None = None,
        error: ExcInfo | None = None,
    ) -> None:
        """Build, render and journal one record. Never raises."""
        try:
            if type(event) is not str:
                event = str(event)
            if _context_vars and (bound := _bound_in_context()):
                fields = {**bound, **fields}
            head = self._heads.get((level, logger, event))
            if head is not None and error is None and not (head.id and EVENT_ID in fields):
                fd = None
                if head.is_shown:
                    fd = self._fd if self._fd >= 0 else self._output.shared_descriptor()
                current: Any = CURRENT.get() if span is None else span
                trace = getattr(current, "trace", None)  # one of our spans has it, and nothing else that is current
                if trace is not None and (fd is None or fd >= 0):
                    scope = current.scope or EMPTY
                    if self._write_log is not None and self._write_natively(
                        head, trace, current.id_bytes, scope, fields, fd
                    ):
                        return None
                    if scope.reserved.isdisjoint(fields):
                        return self._emit_known(head, trace, current.id_bytes, scope, fields)
            self._emit(level, logger, event, fields, span, error)
        except Exception as problem:
            if self._provider is not None:
                self._provider.journal.drop(ENCODE_ERROR, LOG)
            _complain(problem)
        return None

    def _write_natively(
        self, head: _Head, trace: Trace, span_id: bytes, scope: SyncScope, fields: Mapping[str, Any], fd: int | None
    ) -> bool:
        """The shortest way: the C extension does it all. False if it declines, and has written nothing."""
        provider = self._provider
        journal = None
        if provider is not None:
            if provider.encoders.append_span is None or provider.resource is not self._resource:
                return False
            journal = provider.journal
        try:
            rendered = b"" if fd is None else orjson.dumps(fields, _plain, orjson.OPT_APPEND_NEWLINE)
        except (TypeError, ValueError, RecursionError):
            return False
        rest = self._write_log(  # type: ignore[misc]  # the caller has looked
            journal,
            self._known,
            True,
            head.ref,
            fd,
            time.time_ns(),
            head.json,
            head.otlp,
            trace.hex_bytes,
            trace.log_head,
            span_id,
            scope.json_bytes,
            scope.log_bytes,
            scope.reserved,
            fields,
            rendered,
        )
        if rest is True:
            return True
        if rest is False:
            self._encoder.learn(fields)
            return False
        self._output.write_line(rest)
        return True

    def _emit_known(
        self, head: _Head, trace: Trace, span_id: bytes, scope: SyncScope, fields: Mapping[str, Any]
    ) -> None:
        """The short way, for a record like one before it: JSON for a descriptor or none, inside a span of ours.

        What does not change from record to record is copied: what stands before the fields was rendered once.
        """
        now = time.time_ns()
        encoder = self._encoder
        redactions = encoder.redactions
        encoded = encoder.encode(fields)
        if encoder.redactions != redactions:
            fields = {key: self.redactor.redact_value(key, value) for key, value in fields.items()}
        line = self._line(head, trace, span_id, scope, fields, now) if head.is_shown else b""
        provider = self._provider
        if provider is not None:
            if provider.resource is not self._resource:
                self._heads.clear()
                head = self._new_head(head.level, head.logger, head.event) or head
            body = b"".join(
                (_pack_times(0x09, now, 0x59, now), head.otlp, trace.log_head, span_id, scope.log_bytes, encoded)
            )
            provider.journal.append(LOG, head.ref, in_scope_logs(body), now)
        if line:
            self._output.write_line(line)

    def _line(
        self, head: _Head, trace: Trace, span_id: bytes, scope: SyncScope, fields: Mapping[str, Any], now: int
    ) -> bytes:
        millisecond, line_start = self._millisecond
        if millisecond != now // 1_000_000:
            line_start = self._new_millisecond(now // 1_000_000)
        return b"".join(
            (
                line_start,
                _MICROSECONDS[now // 1000 % 1000],
                head.json,
                trace.hex_bytes,
                b'","span_id":"',
                hexlify(span_id),
                scope.json_bytes if fields else scope.json_bytes[:-1] + b"}\n",
                _dump(fields)[1:] if fields else b"",
            )
        )

    def _emit(
        self, level: int, logger: str, event: str, fields: Mapping[str, Any], span: Span | None, error: ExcInfo | None
    ) -> None:
        head = self._heads.get((level, logger, event)) or self._new_head(level, logger, event)
        if head is None:
            return
        now = time.time_ns()
        error = fields.get("exc_info", error)
        if error or "exc_info" in fields or "stack_info" in fields:
            fields = with_error(fields, error)
        fields = without_own_names(fields, head.id)
        trace_id, span_id, ids, scope = ids_in(span)
        fields = self._journal(head, fields, scope, ids, now)
        if not head.is_shown:
            return
        record: dict[str, Any] = {
            "timestamp": _timestamp(now),
            "level": _level_name(level),
            "service": self.service,
            "logger": logger,
            "event": head.event,
        }
        if head.id:
            record[EVENT_ID] = head.id
        if trace_id:
            record["trace_id"] = trace_id
            record["span_id"] = span_id
        self._output.write({**record, **scope.rendered, **fields})

    def _new_millisecond(self, millisecond: int) -> bytes:
        """Render what the lines of one millisecond begin with."""
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millisecond // 1000))
        line_start = f'{{"timestamp":"{second}.{millisecond % 1000:03d}'.encode()
        self._millisecond = (millisecond, line_start)
        return line_start

    def _journal(
        self, head: _Head, fields: Mapping[str, Any], scope: SyncScope, ids: bytes, now: int
    ) -> Mapping[str, Any]:
        """Journal the record; returns the fields free of secrets."""
        encoder = self._encoder
        redactions = encoder.redactions
        parts = [_pack_times(0x09, now, 0x59, now), head.otlp, ids]
        if scope.keys.isdisjoint(fields):
            parts.append(scope.log_bytes)
            encoder.extend(parts, fields)
        else:
            encoder.extend(parts, {**scope.attributes, **fields})
        if encoder.redactions != redactions:
            fields = {key: self.redactor.redact_value(key, value) for key, value in fields.items()}
        provider = self._provider
        if provider is not None:
            if provider.resource is not self._resource:
                self._heads.clear()
                head = self._new_head(head.level, head.logger, head.event) or head
            try:
                provider.journal.append(LOG, head.ref, in_scope_logs(b"".join(parts)), now)
            except Exception as problem:
                provider.journal.drop(ENCODE_ERROR, LOG)
                _complain(problem)
        return fields

    def _new_head(self, level: int, logger: str, event: str) -> _Head | None:
        """What records of this level, logger and event begin with; kept unless the event held a secret or is long.

        None: they go nowhere.
        """
        is_shown = self.is_shown(level, logger, event)
        if not is_shown and (self._journal_level is None or level < self._journal_level):
            return None
        clean = self.redactor.redact(event)
        ref = self._ref(logger) if self._provider is not None else 0
        head = _Head(level, logger, clean, self.service, ref, is_shown=is_shown)
        if clean is event and len(event) <= 128:
            if len(self._heads) >= 1024:
                self._heads.clear()
            self._heads[level, logger, event] = head
        return head

    def _ref(self, logger: str) -> int:
        """The journal's number of a logger's scope."""
        provider = self._provider
        assert provider is not None
        if provider.resource is not self._resource:
            self._refs.clear()
            self._resource = provider.resource
        if logger not in self._refs:
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope

            if len(self._refs) >= 1024:  # loggers named after data: the rest share a scope
                logger = "root"
            self._refs[logger] = provider.define_scope(provider.resource, InstrumentationScope(logger))
        return self._refs[logger]


class _Head:
    """What records of one level, logger and event have in common, rendered and encoded."""

    __slots__ = ("event", "id", "is_shown", "json", "level", "logger", "otlp", "ref")

    def __init__(self, level: int, logger: str, event: str, service: str, ref: int, *, is_shown: bool) -> None:
        self.level = level
        self.logger = logger
        self.event = event
        self.ref = ref
        self.is_shown = is_shown
        """Whether such a record is rendered; else it is journalled alone."""
        self.id = id_of(event)
        own = {"level": _level_name(level), "service": service, "logger": logger, "event": event}
        if self.id:
            own[EVENT_ID] = self.id
        own["trace_id"] = ""
        self.json = b'Z",' + _dump(own)[1:-3]
        """From behind the timestamp up to where the trace id begins."""
        self.otlp = otlp_head(level, event)


def id_of(event: str) -> str:
    """The id of an event that stands in a catalogue, else an empty text."""
    known = events.known.get(event)
    return known.id if known is not None else ""


def without_own_names(fields: Mapping[str, Any], event_id: str) -> Mapping[str, Any]:
    """The fields, with an underscore behind a name that the record has for itself."""
    if OWN_NAMES.isdisjoint(fields) and not (event_id and EVENT_ID in fields):
        return fields
    own = OWN_NAMES | {EVENT_ID} if event_id else OWN_NAMES
    return {f"{key}_" if key in own else key: value for key, value in fields.items()}


def in_scope_logs(body: bytes) -> bytes:
    """A LogRecord as it stands in ``ScopeLogs``."""
    length = len(body)
    return (_HEADS[length] if length < 4096 else b"\x12" + otlp.varint(length)) + body


def otlp_head(level: int, event: str) -> bytes:
    """Severity, body, event name and the event's id, as an attribute, of a LogRecord."""
    raw = event.encode("utf-8", "replace")
    body = _BODIES[len(raw)] + raw if len(raw) < len(_BODIES) else otlp.field(0x2A, otlp.field(0x0A, raw))
    head = _severity(level) + body
    if " " not in event and 0 < len(event) <= 128 and not any(character.isspace() for character in event):
        head += otlp.field(0x62, raw)  # it has the look of an event's name
    number = id_of(event)
    return head + otlp.field(LOG_TAG, otlp.key_value(EVENT_ID, number)) if number else head


def _timestamp(now: int) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    second, nanoseconds = divmod(now, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{nanoseconds // 1000:06d}Z"


def _level_name(level: int) -> str:
    return _NAMES.get(level) or logging.getLevelName(level).lower()


def with_error(fields: Mapping[str, Any], error: ExcInfo | None) -> Mapping[str, Any]:
    """The fields, with what the exception says."""
    complete = dict(fields)
    complete.pop("exc_info", None)
    if complete.pop("stack_info", None):
        complete["stack"] = "".join(traceback.format_stack(sys._getframe(4)))
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        complete.setdefault("error", message_of(error))
        complete.setdefault("error_type", type(error).__qualname__)
        complete["exception"] = "".join(traceback.format_exception(error)).rstrip()
    return complete


_context_vars: Mapping[str, object] = {}
"""structlog's own registry of context variables: empty as long as nobody binds any."""


def _bound_in_context() -> Mapping[str, Any]:
    """What ``structlog.contextvars.bind_contextvars()`` has bound."""
    structlog_contextvars = sys.modules.get("structlog.contextvars")
    return structlog_contextvars.get_contextvars() if structlog_contextvars else {}


_NOWHERE: Final = ("", "", b"", EMPTY)


def ids_in(span: Span | None) -> tuple[str, str, bytes, SyncScope]:
    """Trace id, span id and scope of the current span, or of `span`: as text, and as fields of a LogRecord."""
    current: Any = CURRENT.get() if span is None else span
    trace = getattr(current, "trace", None)
    if trace is not None:
        return trace.hex, current.id_bytes.hex(), trace.log_head + current.id_bytes, current.scope or EMPTY
    if current is None and not context_api.get_current():
        return _NOWHERE
    context = (span or get_current_span()).get_span_context()
    scope: SyncScope = getattr(span, "scope", None) or current_scope()
    if not context.is_valid:
        return "", "", b"", scope
    fields = b"\x45" + int(context.trace_flags).to_bytes(4, "little")
    fields += b"\x4a\x10" + context.trace_id.to_bytes(16, "big") + b"\x52\x08" + context.span_id.to_bytes(8, "big")
    return format_trace_id(context.trace_id), format_span_id(context.span_id), fields, scope


def _severity(level: int) -> bytes:
    """Fields 2 and 3 of a LogRecord: severity number and text."""
    known = _ENCODED_SEVERITIES.get(level)
    if known is None:
        number = next((n for limit, n in sorted(_SEVERITIES.items(), reverse=True) if level >= limit), 1)
        return bytes((0x10, number)) + otlp.text(0x1A, logging.getLevelName(level))
    return known


_ENCODED_SEVERITIES: Final = {
    level: bytes((0x10, number)) + otlp.text(0x1A, _NAMES[level].upper()) for level, number in _SEVERITIES.items()
}


def _complain(problem: Exception) -> None:
    """A record that cannot be logged is no reason to harm the host; whoever develops wants to know."""
    if logging.raiseExceptions and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"otelsync: a log record was lost: {type(problem).__name__}: {problem}\n")


# Output


class Stream(Protocol):
    """What takes finished lines: a text or binary file, or anything that can do as much."""

    def write(self, line: Any, /) -> object:
        """Append a line."""

    def flush(self) -> object:
        """Let what was written reach its place."""


class Output:
    """Writes records to a stream.

    Args:
        stream: A text or binary stream; None for standard output as it is at each moment.
        text: Write text for people, not JSON.
        colors: Colour the text.
    """

    def __init__(self, stream: Stream | None, *, text: bool = False, colors: bool = False) -> None:
        self._stream = stream
        self._is_text = text
        self._shared: tuple[object, int] = (None, -1)
        self._renderer = _console_renderer(colors) if text else None
        self.descriptor = -1 if text else _descriptor(stream)
        """Where finished lines of JSON can be written at once; -1 if they have to go through the stream."""

    @property
    def is_standard(self) -> bool:
        """Whether it is standard output."""
        return self._stream is None

    def on(self, stream: Stream) -> Output:
        """What writes to another stream, in the same form but for colours."""
        return Output(stream, text=self._is_text)

    def shared_descriptor(self) -> int:
        """The descriptor behind a stream that others write to as well, such as standard output; -1 if it has none.

        What they have written so far goes out first, so that everything stays in order.
        """
        if self._is_text:
            return -1
        stream: Any = sys.stdout if self._stream is None else self._stream
        if self._shared[0] is not stream:
            self._shared = (stream, _fileno(stream))
        if self._shared[1] >= 0:
            try:
                stream.flush()
            except (OSError, ValueError):
                return -1
        return self._shared[1]

    def write(self, record: dict[str, Any]) -> None:
        """Render a record and write it."""
        self.write_line(self._text(record).encode("utf-8", "backslashreplace") if self._renderer else _dump(record))

    def write_line(self, line: bytes) -> None:
        """Write a finished line. A stream that is gone is no reason to harm the host."""
        try:
            if self.descriptor < 0:
                self._write_to_stream(line)
            elif (written := os.write(self.descriptor, line)) < len(line):
                _write_rest(self.descriptor, line[written:])
        except BlockingIOError:
            _write_rest(self.descriptor, line)
        except (OSError, ValueError):
            pass

    def _write_to_stream(self, line: bytes) -> None:
        stream: Any = self._stream or sys.stdout
        if stream is None:
            return
        if isinstance(stream, io.TextIOBase):
            stream.write(line.decode("utf-8", "replace"))
        else:
            stream.write(line)
        stream.flush()

    def _text(self, record: dict[str, Any]) -> str:
        assert self._renderer is not None
        shown = {printable(key): printable(value) if isinstance(value, str) else value for key, value in record.items()}
        if isinstance(record.get("exception"), str):
            shown["exception"] = printable(record["exception"], keep="\n\t")
        level = str(shown["level"])
        return f"{self._renderer(None, level, shown)}\n"


def _console_renderer(colors: bool) -> structlog.dev.ConsoleRenderer:
    from structlog.dev import ConsoleRenderer, plain_traceback

    return ConsoleRenderer(colors=colors, exception_formatter=plain_traceback)


_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    code: f"\\u{code:04x}" for code in (*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
}


def printable(text: str, keep: str = "") -> str:
    """`text` with control characters and invisible ones shown as escapes, so that it cannot steer a terminal."""
    table = {code: escape for code, escape in _ESCAPES.items() if chr(code) not in keep} if keep else _ESCAPES
    return text.translate(table)


def _descriptor(stream: Stream | None) -> int:
    """The file descriptor behind a stream of ours, to write past its buffers; -1 if there is none.

    Standard output is not ours: what others have written to it must stay in order.
    """
    return -1 if stream is None or stream in (sys.stdout, sys.stderr) else _fileno(stream)


def _fileno(stream: Any) -> int:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError, TypeError):
        return -1


def _write_rest(fd: int, line: bytes) -> None:
    """Finish a line on a descriptor that does not take it at once; give up after a second without progress."""
    while line:
        if not select.select([], [fd], [], 1.0)[1]:
            return
        line = line[os.write(fd, line) :]


def _dump(fields: Mapping[str, Any]) -> bytes:
    """A line of JSON, whatever the values."""
    try:
        return orjson.dumps(fields, _plain, orjson.OPT_APPEND_NEWLINE)
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return orjson.dumps(fields, _plain, orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError):
        safe = {str(_safe(str(key))): value if _renders(value) else _safe(value) for key, value in fields.items()}
        return orjson.dumps(safe, _plain, orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def _renders(value: object) -> bool:
    try:
        orjson.dumps(value, _plain, orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _as_rendered(value: object) -> object:
    """What a rendered line shows of a value that OTLP has no form for."""
    shown = orjson.loads(_dump({"": value}))[""]
    return shown if not isinstance(shown, int) or -(2**63) <= shown < 2**63 else str(shown)


def _plain(value: object) -> object:
    """What stands for a value that JSON has no form for."""
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _safe(value: object) -> object:
    """A value that is sure to render: what is circular, too deep or half a surrogate becomes text."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose repr() raised {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()


# What is installed

_active: LogPath | None = None
_latest: LogPath | None = None
_restore: Callable[[], None] | None = None


def _look_up_ids_anew() -> None:
    for path in (_active, _latest):
        if path is not None:
            path.forget_events()


events.on_declaration(_look_up_ids_anew)


def install(path: LogPath, connect: Callable[[LogPath], Callable[[], None]]) -> None:
    """Make `path` the way of otelsync's own records, and of those that `connect` leads to it.

    Args:
        path: Where records go through.
        connect: Leads records of others to the path, and returns what undoes that.
    """
    global _active, _latest, _restore
    uninstall()
    _active = path
    _latest = path if path.renders else None
    merge_context_vars({})
    _restore = connect(path)


def merge_context_vars(registry: Mapping[str, object]) -> None:
    """Add structlog's context variables to every record, as long as its `registry` of them is not empty."""
    global _context_vars
    _context_vars = registry


def uninstall() -> None:
    """Leave everything as :func:`install` found it."""
    global _active, _restore
    restore, _restore = _restore, None
    if restore is not None:
        restore()
    _active = None


def active() -> LogPath | None:
    """The path that is installed."""
    return _active


def latest() -> LogPath | None:
    """The path that is installed, or was last, if it renders: cached structlog loggers go on with it."""
    return _latest


def enabled(level: int) -> bool:
    """Whether a record of this level would go anywhere."""
    return _active is not None and level >= _active.level


def emit(
    level: int,
    logger: str,
    event: str,
    fields: Mapping[str, Any],
    span: Span | None = None,
    error: ExcInfo | None = None,
) -> None:
    """Log an event of otelsync's own, in `span` if given; outside any configuration it goes nowhere."""
    path = _active
    if path is not None and level >= path.level:
        path.emit(level, logger, event, fields, span, error)


def get_logger(name: str | None = None, **fields: Any) -> Any:
    """A structlog logger with a name, and fields that it carries from the start.

    The same as ``structlog.get_logger(name)``, but it reaches the log path without structlog's lazy proxy.
    """
    from otelsync.logs.structlog_logger import Logger

    return Logger(name, fields)
