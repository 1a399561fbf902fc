"""OpenTelemetry's own SDK: batch processors, OTLP over HTTP, and structlog with or without OTLP log records.

The batch queues are made long enough for the whole round: with the default of 2,048 most spans would be dropped
(7,168 of 20,000 arrived), and what is dropped costs nothing.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.util.types import AttributeValue
from structlog.types import EventDict, Processor, WrappedLogger

from benchmarks.variants import structlog_setups
from benchmarks.variants.structlog_setups import add_opentelemetry_ids
from benchmarks.workload import PR_EVENT, PR_LOGGED, PR_SPAN, REPO_SPAN, SERVICE, PullRequest, Setting


class OpenTelemetry:
    """The unit of work as a user of OpenTelemetry's API writes it."""

    def __init__(self, log: Any, providers: Sequence[TracerProvider | LoggerProvider] = ()) -> None:
        self._log = log
        self._tracer = trace.get_tracer("benchmark")
        self._providers = providers

    def repo(self, name: str) -> AbstractContextManager[object]:
        """Open the repository's span."""
        return self._tracer.start_as_current_span(REPO_SPAN, attributes={"vcs.repository.name": name})

    def pull_request(self, pr: PullRequest) -> None:
        """Span, attributes, event, record, end."""
        attributes: dict[str, AttributeValue] = {
            "vcs.change.id": pr.change_id,
            "vcs.change.state": pr.state,
            "vcs.change.author": pr.author,
            "sync.api.page": pr.page,
        }
        with self._tracer.start_as_current_span(PR_SPAN, attributes=attributes) as span:
            if pr.has_event:
                span.add_event(PR_EVENT, {"sync.pr.files": pr.files})
            self._log.info(
                PR_LOGGED, number=pr.number, state=pr.state, action=pr.action, files=pr.files, title=pr.title
            )
            span.set_attribute("sync.action", pr.action)
            span.set_attribute("sync.pr.files", pr.files)

    def flush(self) -> None:
        """Deliver everything so far."""
        for provider in self._providers:
            provider.force_flush()

    def close(self) -> None:
        """Deliver everything, and stop."""
        self.flush()
        for provider in self._providers:
            provider.shutdown()


def fastest(setting: Setting) -> OpenTelemetry:
    """Spans, and records through the fastest structlog."""
    spans = _tracing(setting)
    return OpenTelemetry(structlog_setups.fastest(setting.log_file, [add_opentelemetry_ids]), [spans])


def fastest_with_logs(setting: Setting) -> OpenTelemetry:
    """Spans and OTLP log records, these emitted by a structlog processor."""
    spans, logs = _tracing(setting), _logging(setting)
    processors = [_emitting(logs), add_opentelemetry_ids]
    return OpenTelemetry(structlog_setups.fastest(setting.log_file, processors), [spans, logs])


def stdlib(setting: Setting) -> OpenTelemetry:
    """Spans, and records through structlog over the standard library."""
    spans = _tracing(setting)
    return OpenTelemetry(structlog_setups.stdlib(setting.log_file, [add_opentelemetry_ids]), [spans])


def stdlib_with_logs(setting: Setting) -> OpenTelemetry:
    """Spans and OTLP log records, these emitted by OpenTelemetry's handler on the root logger."""
    spans, logs = _tracing(setting), _logging(setting)
    with warnings.catch_warnings():
        # Moved to opentelemetry-instrumentation-logging in SDK 1.43; the code is the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        handler = LoggingHandler(logging.INFO, logs)
    log = structlog_setups.stdlib(setting.log_file, [add_opentelemetry_ids], [handler])
    return OpenTelemetry(log, [spans, logs])


def _tracing(setting: Setting) -> TracerProvider:
    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{setting.sink_url}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_queue_size(setting)))
    trace.set_tracer_provider(provider)
    return provider


def _logging(setting: Setting) -> LoggerProvider:
    provider = LoggerProvider(resource=Resource.create({"service.name": SERVICE}), shutdown_on_exit=False)
    exporter = OTLPLogExporter(f"{setting.sink_url}/v1/logs")
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, max_queue_size=_queue_size(setting)))
    return provider


def _queue_size(setting: Setting) -> int:
    return 2 * setting.prs + 2048


def _emitting(provider: LoggerProvider) -> Processor:
    logger = provider.get_logger("benchmark")

    def emit(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        fields = {key: value for key, value in event.items() if key not in ("event", "level", "timestamp")}
        logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.INFO,
                severity_text="INFO",
                body=event["event"],
                attributes=fields,
            )
        )
        return event

    return emit
