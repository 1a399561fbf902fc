"""One request to this service: its correlation id, its context and span, and the record of its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import Token
from typing import Any, Final

import opentelemetry.context as context_api
from opentelemetry import baggage, trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from otelsync import vocabulary
from otelsync.hooks.harmless import harmless
from otelsync.hooks.propagators import propagate
from otelsync.levels import INFO
from otelsync.logs.installed import emit
from otelsync.recording.runtime_context import leave
from otelsync.stages.correlation import accepted, new_id, with_correlation

HEADER: Final = "X-Correlation-ID"
_HEADER_KEY: Final = HEADER.lower()
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"))
"""Methods that a span's name and attributes may have; source: HTTP semantic conventions, ``http.request.method``."""
_OTHER: Final = "_OTHER"
_SERVER_ERROR: Final = 500


_known: tuple[trace.TracerProvider, trace.Tracer] | None = None


def _tracer() -> trace.Tracer:
    """The tracer of the provider in force, asked for once: asking costs more than starting a span."""
    global _known
    known, provider = _known, trace.get_tracer_provider()
    if known is None or known[0] is not provider:
        known = _known = (provider, provider.get_tracer("otelsync.middleware"))
    return known[1]


class ServedRequest:
    """A request from its arrival to its end. Nothing here raises into the service.

    Args:
        method: As it was sent.
        path: Without the query.
        scheme: ``http`` or ``https``.
        headers: By name in lower case.
    """

    def __init__(self, method: str, path: str, scheme: str, headers: Mapping[str, str]) -> None:
        self.correlation_id = new_id()
        self.status: int | None = None
        self._method, self._path, self._scheme = method, path, scheme
        self._began = time.perf_counter_ns()
        self._context: context_api.Context | None = None
        self._own: Span | None = None
        self._has_ended = False
        self._begin(headers)

    @harmless
    def _begin(self, headers: Mapping[str, str]) -> None:
        current = trace.get_current_span()
        is_served = getattr(current, "kind", None) is SpanKind.SERVER and current.is_recording()
        context = context_api.get_current()
        if not is_served:
            context = propagate.extract(headers, context)
        given = headers.get(_HEADER_KEY)
        offered = given if given is not None else baggage.get_baggage(vocabulary.CORRELATION_ID, context)
        self.correlation_id = accepted(offered) or self.correlation_id
        context = with_correlation(self.correlation_id, context)
        if is_served:
            current.set_attribute(vocabulary.CORRELATION_ID, self.correlation_id)
        else:
            self._own = self._start(context)
            context = trace.set_span_in_context(self._own, context)
        self._context = context

    def _start(self, context: context_api.Context) -> Span:
        method = self._method if self._method in _METHODS else _OTHER
        return _tracer().start_span(
            method if method != _OTHER else "HTTP",
            context,
            SpanKind.SERVER,
            {
                vocabulary.HTTP_REQUEST_METHOD: method,
                vocabulary.URL_PATH: self._path,
                vocabulary.URL_SCHEME: self._scheme,
            },
        )

    @harmless
    def enter(self) -> Token[Any] | None:
        """Make the request's context current."""
        return context_api.attach(self._context) if self._context is not None else None

    def leave(self, token: Token[Any] | None) -> None:
        """Make current again what was before :meth:`enter`."""
        if token is not None:
            leave(token)

    @harmless
    def end(self, error: BaseException | None = None) -> None:
        """Log the request and end its span, once; to be called inside its context.

        Args:
            error: What the service raised, if it did. A server answers an exception with the status 500.
        """
        if self._has_ended:
            return
        self._has_ended = True
        if self.status is None and isinstance(error, Exception):
            self.status = _SERVER_ERROR
        milliseconds = round((time.perf_counter_ns() - self._began) / 1e6, 2)
        fields: dict[str, Any] = {"method": self._method, "path": self._path, "duration_ms": milliseconds}
        if self.status is not None:
            fields["status_code"] = self.status
        emit(INFO, "otelsync.middleware", "http_request", fields)
        if self._own is not None:
            self._finish(self._own, error)

    def _finish(self, span: Span, error: BaseException | None) -> None:
        if self.status is not None:
            span.set_attribute(vocabulary.HTTP_RESPONSE_STATUS_CODE, self.status)
        if isinstance(error, Exception):
            span.record_exception(error)
        if error is not None or (self.status or 0) >= _SERVER_ERROR:
            named = type(error).__qualname__ if error is not None else str(self.status)
            span.set_attribute(vocabulary.ERROR_TYPE, named)
            span.set_status(StatusCode.ERROR)
        span.end()
