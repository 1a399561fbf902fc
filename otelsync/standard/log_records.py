"""Log records by the SDK's own logger provider: what a log path would journal is handed over to it.

A log path makes each record once, in OTLP's form and without secrets, as the journal takes it. Here that form is read
again: so nothing of the path has to know which way is in force, and both ways say the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context.context import Context
from opentelemetry.proto.logs.v1 import logs_pb2 as wire
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.environment_variables import OTEL_ATTRIBUTE_COUNT_LIMIT
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otelsync.bounds import MOST_ITEMS
from otelsync.hooks.host_errors import has_entered
from otelsync.otlp.decoding import value_of, values_of
from otelsync.standard.sending import Sender, Tally, is_sending

if TYPE_CHECKING:
    from opentelemetry._logs import Logger


_COUNT_LIMITS: Final = ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", OTEL_ATTRIBUTE_COUNT_LIMIT)


def logger_provider(resource: Resource) -> LoggerProvider:
    """Return a provider that takes as many fields as a log path leaves, unless a variable of the SDK says otherwise.

    Its own bound, 128, costs fields of records that the journal takes whole. Before 1.44 it cannot be changed.

    Raises:
        ValueError: A variable has a value that the SDK refuses.
    """
    limits: dict[str, Any] = {}
    is_open = "log_record_limits" in signature(LoggerProvider).parameters
    if is_open and not any(name in os.environ for name in _COUNT_LIMITS):
        from opentelemetry.sdk._logs import LogRecordLimits

        limits["log_record_limits"] = LogRecordLimits(max_log_record_attributes=MOST_ITEMS + 1)  # and the note of a cut
    return LoggerProvider(resource=resource, shutdown_on_exit=False, **limits)


class NoShortWay:
    """Encoders without the C extension's way to a journal."""

    append_span = None


class LogRecords:
    """The place that a provider of the journal's way and its journal have for a log path.

    Args:
        provider: Takes the records.
        resource: Of the records.
        tally: Counts them.
    """

    encoders = NoShortWay()

    def __init__(self, provider: LoggerProvider, resource: Resource, tally: Tally) -> None:
        self.resource = resource
        self._provider = provider
        self._tally = tally
        self._loggers: list[Logger] = []

    @property
    def journal(self) -> LogRecords:
        """Itself: it takes the records too."""
        return self

    def define_scope(self, resource: Resource, scope: InstrumentationScope) -> int:  # noqa: ARG002
        """Return the number of a logger."""
        self._loggers.append(self._provider.get_logger(scope.name, scope.version))
        return len(self._loggers) - 1

    def append(self, kind: int, ref: int, body: bytes) -> None:  # noqa: ARG002
        """Hand over a record. What an exporter itself logs while it sends is not sent: there would be no end to it."""
        if is_sending():
            return
        for record in wire.ScopeLogs.FromString(body).log_records:
            self._tally.note_made()
            self._loggers[ref].emit(_record_of(record))

    def has_taken(self, record: tuple[int, int, bytes], error: BaseException) -> bool:  # noqa: ARG002
        """Return whether a record was handed over, where `error` came out of that."""
        return has_entered(error, self.append)

    def drop(self, reason: int, kind: int) -> None:  # noqa: ARG002
        """Count a record that cannot be handed over."""
        self._tally.note_made()


class LogSender(LogRecordExporter):
    """Sends what the batch processor hands over."""

    def __init__(self, sender: Sender[ReadableLogRecord]) -> None:
        self._sender = sender

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Send them."""
        return LogRecordExportResult.SUCCESS if self._sender.send(batch) else LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002
        """Nothing waits here."""
        return True

    def shutdown(self) -> None:
        """End."""
        self._sender.close()


def _record_of(record: wire.LogRecord) -> LogRecord:
    attributes: Any = values_of(record.attributes)
    body: Any = value_of(record.body)
    return LogRecord(
        timestamp=record.time_unix_nano,
        observed_timestamp=record.observed_time_unix_nano,
        context=_context_of(record),
        severity_text=record.severity_text,
        severity_number=SeverityNumber(record.severity_number),
        body=body,
        attributes=attributes,
        event_name=record.event_name or None,
    )


def _context_of(record: wire.LogRecord) -> Context:
    """A context with the record's own span, or without any: its ids were decided where it was logged."""
    if not record.trace_id:
        return set_span_in_context(INVALID_SPAN, Context())
    flags = TraceFlags(record.flags & 0xFF)
    ids = int.from_bytes(record.trace_id, "big"), int.from_bytes(record.span_id, "big")
    return set_span_in_context(NonRecordingSpan(SpanContext(*ids, is_remote=False, trace_flags=flags)), Context())
