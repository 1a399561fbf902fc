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
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

import orjson
from opentelemetry.trace import Span, format_span_id, format_trace_id, get_current_span

from otelsync.context import EMPTY, LOG_TAG, OWN_NAMES, SyncScope, current_scope
from otelsync.errors import message_of
from otelsync.recording import otlp
from otelsync.recording.journal import ENCODE_ERROR, LOG
from otelsync.recording.native import native
from otelsync.recording.runtime_context import CURRENT
from otelsync.redaction import Redactor

if TYPE_CHECKING:
    import structlog
    from opentelemetry.sdk.resources import Resource

    from otelsync.recording.provider import TracerProvider
    from otelsync.recording.span import Trace

DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50
LEVELS: Final = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL}
_NAMES: Final = {number: name for name, number in LEVELS.items()}
_SEVERITIES: Final = {DEBUG: 5, INFO: 9, WARNING: 13, ERROR: 17, CRITICAL: 21}
"""OTLP severity numbers; source: opentelemetry-specification, logs data model."""

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_pack_times: Final = Struct("<BQBQ").pack
_MICROSECONDS: Final = tuple(b"%03d" % n for n in range(1000))
_HEADS: Final = tuple(b"\x12" + otlp.varint(n) for n in range(4096))
"""What goes before a record of n bytes in ``ScopeLogs``: tag and length."""

ExcInfo: TypeAlias = (
    bool | BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


class LogPath:
    """Where every record goes through.

    Args:
        service: The service's name, in every record.
        level: The least level that is let through.
        output: Writes a finished record: JSON or text, with its line end.
        redactor: Takes secrets out.
    """

    def __init__(
        self,
        *,
        service: str,
        level: int,
        output: Output,
        redactor: Redactor,
    ) -> None:
        self.service = service
        self.level = level
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
        self._write_log = native.write_log if native and redactor.is_standard else None
        self._known = self._encoder.known

    def journal_to(self, provider: TracerProvider | None) -> None:
        """Journal every record from now on, under the provider's resource; None: render only."""
        self._refs.clear()
        self._heads.clear()
        self._provider = provider

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
            fd = self._fd if self._fd >= 0 else self._output.shared_descriptor()
            if fd >= 0 and error is None:
                current: Any = CURRENT.get() if span is None else span
                trace = getattr(current, "trace", None)  # one of our spans has it, and nothing else that is current
                head = self._heads.get((level, logger, event))
                if trace is not None and head is not None:
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
        self, head: _Head, trace: Trace, span_id: bytes, scope: SyncScope, fields: Mapping[str, Any], fd: int
    ) -> bool:
        """The shortest way: the C extension does it all. False if it declines, and has written nothing."""
        provider = self._provider
        journal = None
        if provider is not None:
            if provider.append_span is None or provider._resource is not self._resource:
                return False
            journal = provider.journal
        try:
            rendered = orjson.dumps(fields, _plain, orjson.OPT_APPEND_NEWLINE)
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
        """The short way, for a record like one before it: JSON for a descriptor, inside a span of ours.

        What does not change from record to record is copied: what stands before the fields was rendered once.
        """
        now = time.time_ns()
        encoder = self._encoder
        redactions = encoder.redactions
        encoded = encoder.encode(fields)
        if encoder.redactions != redactions:
            fields = {key: self.redactor.redact_value(key, value) for key, value in fields.items()}
        millisecond, line_start = self._millisecond
        if millisecond != now // 1_000_000:
            line_start = self._new_millisecond(now // 1_000_000)
        line = b"".join(
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
        provider = self._provider
        if provider is not None:
            if provider.resource is not self._resource:
                self._heads.clear()
                head = self._new_head(head.level, head.logger, head.event)
            body = b"".join(
                (_pack_times(0x09, now, 0x59, now), head.otlp, trace.log_head, span_id, scope.log_bytes, encoded)
            )
            length = len(body)
            provider.journal.append(
                LOG, head.ref, (_HEADS[length] if length < 4096 else b"\x12" + otlp.varint(length)) + body, now
            )
        self._output.write_line(line)

    def _emit(
        self, level: int, logger: str, event: str, fields: Mapping[str, Any], span: Span | None, error: ExcInfo | None
    ) -> None:
        now = time.time_ns()
        error = fields.get("exc_info", error)
        if error or "exc_info" in fields or "stack_info" in fields:
            fields = _complete(fields, error)
        if not OWN_NAMES.isdisjoint(fields):
            fields = {f"{key}_" if key in OWN_NAMES else key: value for key, value in fields.items()}
        trace_id, span_id, ids, scope = _ids(span)
        head = self._heads.get((level, logger, event)) or self._new_head(level, logger, event)
        fields = self._journal(head, fields, scope, ids, now)
        record: dict[str, Any] = {
            "timestamp": _timestamp(now),
            "level": _level_name(level),
            "service": self.service,
            "logger": logger,
            "event": head.event,
        }
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
                head = self._new_head(head.level, head.logger, head.event)
            try:
                provider.journal.append(LOG, head.ref, otlp.field(0x12, b"".join(parts)), now)
            except Exception as problem:
                provider.journal.drop(ENCODE_ERROR, LOG)
                _complain(problem)
        return fields

    def _new_head(self, level: int, logger: str, event: str) -> _Head:
        """What records of this level, logger and event begin with; kept unless the event held a secret or is long."""
        clean = self.redactor.redact(event)
        ref = self._ref(logger) if self._provider is not None else 0
        head = _Head(level, logger, clean, self.service, ref)
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

    __slots__ = ("event", "json", "level", "logger", "otlp", "ref")

    def __init__(self, level: int, logger: str, event: str, service: str, ref: int) -> None:
        self.level = level
        self.logger = logger
        self.event = event
        self.ref = ref
        own = {"level": _level_name(level), "service": service, "logger": logger, "event": event, "trace_id": ""}
        self.json = b'Z",' + _dump(own)[1:-3]
        """From behind the timestamp up to where the trace id begins."""
        self.otlp = _severity(level) + otlp.field(0x2A, otlp.text(0x0A, event))
        if event and len(event) <= 128 and not any(character.isspace() for character in event):
            self.otlp += otlp.text(0x62, event)  # it has the look of an event's name


def _timestamp(now: int) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    second, nanoseconds = divmod(now, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{nanoseconds // 1000:06d}Z"


def _level_name(level: int) -> str:
    return _NAMES.get(level) or logging.getLevelName(level).lower()


def _complete(fields: Mapping[str, Any], error: ExcInfo | None) -> Mapping[str, Any]:
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


def _ids(span: Span | None) -> tuple[str, str, bytes, SyncScope]:
    """Trace id, span id and scope of the current span, or of `span`: as text, and as fields of a LogRecord."""
    current: Any = CURRENT.get() if span is None else span
    trace = getattr(current, "trace", None)
    if trace is not None:
        return trace.hex, current.id_bytes.hex(), trace.log_head + current.id_bytes, current.scope or EMPTY
    context = (span or get_current_span()).get_span_context()
    scope = current_scope()
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


class Output:
    """Writes records to a stream.

    Args:
        stream: A text or binary stream; None for standard output as it is at each moment.
        text: Write text for people, not JSON.
        colors: Colour the text.
    """

    def __init__(self, stream: IO[Any] | None, *, text: bool = False, colors: bool = False) -> None:
        self._stream = stream
        self._is_text = text
        self._shared: tuple[object, int] = (None, -1)
        self._renderer = _console_renderer(colors) if text else None
        self.descriptor = -1 if text else _descriptor(stream)
        """Where finished lines of JSON can be written at once; -1 if they have to go through the stream."""

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


def _descriptor(stream: IO[Any] | None) -> int:
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


# The standard library, and what is installed


class RecordHandler(logging.Handler):
    """The standard library's way into the log path."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; its message becomes the event, its extra attributes fields."""
        path = _active
        if path is None:
            return
        fields = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if record.stack_info:
            fields["stack"] = record.stack_info
        try:
            event = record.getMessage()
        except Exception:
            event = f"{record.msg} {record.args}"
        path.emit(record.levelno, record.name, event, fields, None, record.exc_info or None)


_active: LogPath | None = None
_latest: LogPath | None = None
_restore: Callable[[], None] | None = None


def install(path: LogPath) -> None:
    """Make `path` the way of every structlog and standard library record; :func:`uninstall` undoes it."""
    global _active, _context_vars, _latest, _restore
    import structlog

    from otelsync.structlog_logger import BoundLogger, NamedLogger, chain, end_of_chain

    uninstall()
    _context_vars = getattr(structlog.contextvars, "_CONTEXT_VARS", {"unknown": True})
    before = structlog.get_config() if structlog.is_configured() else None
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    chain[:] = [end_of_chain]
    structlog.configure(
        processors=chain,
        wrapper_class=BoundLogger,
        logger_factory=NamedLogger,
        cache_logger_on_first_use=True,
    )
    handler = RecordHandler()
    for old in handlers:
        if type(old) is logging.StreamHandler and old.stream in (sys.stdout, sys.stderr):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(path.level)
    _active = _latest = path

    def restore() -> None:
        root.removeHandler(handler)
        for old in handlers:
            if old not in root.handlers:
                root.addHandler(old)
        root.setLevel(level)
        if before is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**before)

    _restore = restore


def uninstall() -> None:
    """Leave structlog and the standard library's logging as :func:`install` found them."""
    global _active, _restore
    if _restore is not None:
        _restore()
    _active = _restore = None


def active() -> LogPath | None:
    """The path that is installed."""
    return _active


def latest() -> LogPath | None:
    """The path that is installed, or was last: cached structlog loggers go on with it."""
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
    from otelsync.structlog_logger import Logger

    return Logger(name, fields)
