"""The two structlog set-ups that the peers are measured with: the fastest that structlog documents, and stdlib's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog
from opentelemetry import trace
from structlog.types import EventDict, Processor, WrappedLogger


def add_opentelemetry_ids(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the current span's ids: the recipe in structlog's documentation."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def fastest(log_file: Path, processors: Sequence[Processor]) -> Any:
    """The set-up of structlog's page on performance: orjson, a BytesLogger, a filtering bound logger, cached."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *processors,
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(file=log_file.open("ab")),
        cache_logger_on_first_use=True,
    )
    return structlog.get_logger("benchmark")


def stdlib(log_file: Path, processors: Sequence[Processor], handlers: Sequence[logging.Handler] = ()) -> Any:
    """The set-up of structlog's page on the standard library: a ProcessorFormatter writes to a FileHandler."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *processors,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    to_file = logging.FileHandler(log_file)
    to_file.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in (to_file, *handlers):
        root.addHandler(handler)
    return structlog.get_logger("benchmark")
