"""The SDK's own providers, with the processors and exporters of the standard way."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.environment_variables import OTEL_BLRP_MAX_QUEUE_SIZE, OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otelsync.otlp.options import OtlpEndpoint, Signal
from otelsync.recording.ids import IdGenerator
from otelsync.recording.resource import renamed, resource_of
from otelsync.redaction import Redactor
from otelsync.standard.log_records import LogRecords, LogSender, logger_provider
from otelsync.standard.sending import Quiet, Sender, Tally, close_processor, queue_of
from otelsync.standard.spans import ScopeProcessor, SpanSender, clean, prepared
from otelsync.vocabulary import HOST_NAME, SERVICE_INSTANCE_ID, SERVICE_NAME


class Standard:
    """The SDK's providers of one process, and what they send.

    Args:
        endpoints: Where each signal goes; one without an endpoint goes nowhere, and has ids all the same.
        redactor: Takes secrets out of what is sent.
        service_name: The name of the service.
        place: What tells this place of recording from others on the host.

    Raises:
        ValueError: A variable of the SDK has a value that it refuses.
    """

    def __init__(self, endpoints: Sequence[OtlpEndpoint], redactor: Redactor, service_name: str, place: str) -> None:
        self._redactor = redactor
        self._place = place
        self._shown: tuple[Resource | None, Resource | None] = (None, None)
        self.spans, self.log_records = Tally(), Tally()
        self._processors: list[Any] = []
        self._senders: dict[Signal, Sender[Any]] = {}
        resource = resource_of(place, service_name)
        self._names = {key: resource.attributes[key] for key in (SERVICE_NAME, HOST_NAME, SERVICE_INSTANCE_ID)}
        """Attributes that are sent in place of the SDK's, which draws another id in a forked child."""
        self.tracers = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=IdGenerator())
        self._loggers = logger_provider(resource)
        self._records = LogRecords(self._loggers, resource, self.log_records)
        self.tracers.add_span_processor(ScopeProcessor(self.spans))
        self._quiet = Quiet()
        self._quiet.begin()
        self.send_to(endpoints)

    @property
    def destination(self) -> LogRecords | None:
        """Takes log records; None where they go nowhere."""
        return self._records if "logs" in self._senders else None

    def send_to(self, endpoints: Sequence[OtlpEndpoint]) -> None:
        """Send to these endpoints from now on; a signal without one that had one before goes where it went."""
        for endpoint in endpoints:
            if endpoint.signal in self._senders:
                self._senders[endpoint.signal].send_to(endpoint)
            elif endpoint.signal == "traces":
                self._send_spans(endpoint)
            elif endpoint.signal == "logs":
                self._send_logs(endpoint)

    def _send_spans(self, endpoint: OtlpEndpoint) -> None:
        sender: Sender[ReadableSpan] = Sender(endpoint, self.spans, self._prepare_span)
        processor = BatchSpanProcessor(SpanSender(sender), max_queue_size=queue_of(OTEL_BSP_MAX_QUEUE_SIZE))
        self.spans.counts = True
        self.tracers.add_span_processor(processor)
        self._processors.append(processor)
        self._senders["traces"] = sender

    def _send_logs(self, endpoint: OtlpEndpoint) -> None:
        sender: Sender[ReadableLogRecord] = Sender(endpoint, self.log_records, self._prepare_log)
        processor = BatchLogRecordProcessor(LogSender(sender), max_queue_size=queue_of(OTEL_BLRP_MAX_QUEUE_SIZE))
        self.log_records.counts = True
        self._loggers.add_log_record_processor(processor)
        self._processors.append(processor)
        self._senders["logs"] = sender

    # What the program says later

    def redact_with(self, redactor: Redactor) -> None:
        """Let `redactor` take secrets out of everything that is sent from now on."""
        self._redactor = redactor
        self._shown = (None, None)

    def rename_service(self, name: str) -> None:
        """Let everything that is sent from now on have another ``service.name``."""
        self._names = {**self._names, **renamed(self._names, name, self._place)}
        self._shown = (None, None)

    # What is sent

    def _prepare_span(self, span: ReadableSpan) -> ReadableSpan:
        return prepared(span, self._redactor, self._resource(span.resource))

    def _prepare_log(self, record: ReadableLogRecord) -> ReadableLogRecord:
        resource = self._resource(record.resource)
        return record if resource is record.resource else replace(record, resource=resource)

    def _resource(self, given: Resource) -> Resource:
        """The resource as it is sent: without secrets, and under the name that holds now."""
        known, shown = self._shown
        if known is not given or shown is None:
            attributes = clean({**given.attributes, **self._names}, self._redactor)
            shown = given if attributes == given.attributes else Resource(dict(attributes), given.schema_url)
            self._shown = (given, shown)
        return shown

    # Ends

    def flush(self, timeout: float) -> bool:
        """Send what was recorded so far; returns whether it has arrived within `timeout` seconds."""
        tallies, deadline = (self.spans, self.log_records), time.monotonic() + timeout
        made = [tally.made for tally in tallies]
        threads = [threading.Thread(target=processor.force_flush, daemon=True) for processor in self._processors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        is_over = not any(thread.is_alive() for thread in threads)
        arrived = [tally.has_arrived(number, is_over=is_over) for tally, number in zip(tallies, made, strict=True)]
        return all(arrived)

    def close(self, deadline: float) -> bool:
        """Send what is left until `deadline` (``time.monotonic()``), and end; returns whether it has arrived."""
        for processor in self._processors:
            left = deadline - time.monotonic()
            close_processor(processor, left if processor is self._processors[-1] else left * 0.6)
        self.tracers.shutdown()
        self._quiet.end()
        return not (self.spans.missing or self.log_records.missing)
