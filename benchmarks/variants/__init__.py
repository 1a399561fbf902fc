"""The ways of tracing that are compared: one module a tracer, imported only in the process that measures it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final, NamedTuple, cast

from benchmarks.workload import Setting, Variant


class Entry(NamedTuple):
    """A variant as the table names it.

    Attributes:
        title: What the table says.
        factory: ``module:function`` below this package; called with a `Setting`.
        spans: Whether its spans must arrive at the sink.
        log_records: Whether it sends its log records as OTLP, so that they must arrive too.
        log_file: Whether it writes its log records to a file.
        share: The share of a round's pull requests that it does, to keep slow ones short.
        without_logs: The variant that is the same but for OTLP logs.
    """

    title: str
    factory: str
    spans: bool = True
    log_records: bool = False
    log_file: bool = True
    share: float = 1.0
    without_logs: str = ""


VARIANTS: Final[dict[str, Entry]] = {
    "empty": Entry("empty loop, no-op context managers", "empty:Empty", spans=False, log_file=False),
    "structlog": Entry("structlog alone, fastest set-up", "empty:LogOnly", spans=False),
    "otel": Entry("OTel SDK + fastest structlog", "opentelemetry_sdk:fastest", share=0.5),
    "otel-logs": Entry(
        "  the same + OTLP logs",
        "opentelemetry_sdk:fastest_with_logs",
        log_records=True,
        share=0.5,
        without_logs="otel",
    ),
    "otel-stdlib": Entry("OTel SDK + stdlib structlog", "opentelemetry_sdk:stdlib", share=0.5),
    "otel-stdlib-logs": Entry(
        "  the same + OTLP logs",
        "opentelemetry_sdk:stdlib_with_logs",
        log_records=True,
        share=0.5,
        without_logs="otel-stdlib",
    ),
    "logfire": Entry("logfire + fastest structlog", "logfire_sdk:Logfire", share=0.25),
    "ddtrace": Entry("ddtrace + fastest structlog", "datadog:Datadog"),
    "sentry": Entry("sentry-sdk + fastest structlog", "sentry:Sentry", share=0.5),
    "otelsync-api": Entry("otelsync under the OpenTelemetry API", "otelsync_recording:through_the_api"),
    "otelsync-api-structlog": Entry(
        "  the same by structlog.get_logger()", "otelsync_recording:through_the_api_and_structlog"
    ),
    "otelsync-api-logs": Entry(
        "  the same + OTLP logs",
        "otelsync_recording:through_the_api_with_logs",
        log_records=True,
        without_logs="otelsync-api",
    ),
    "otelsync": Entry("otelsync stages", "otelsync_recording:stages"),
    "otelsync-logs": Entry(
        "  the same + OTLP logs",
        "otelsync_recording:stages_with_logs",
        log_records=True,
        without_logs="otelsync",
    ),
}


def make(name: str, setting: Setting) -> Variant:
    """Set up a variant in this process.

    Raises:
        ImportError: The tracer is not installed: ``make bench`` installs it.
    """
    module, _, factory = VARIANTS[name].factory.partition(":")
    construct = getattr(import_module(f"{__name__}.{module}"), factory)
    return cast(Callable[[Setting], Variant], construct)(setting)
