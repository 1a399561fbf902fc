"""Makers of the spans of an HTTP client: a tracer, the options of OpenTelemetry's instrumentation, a metric."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import Any, Final

from opentelemetry.metrics import get_meter
from opentelemetry.trace import Span, get_tracer
from opentelemetry.util.http import (
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST,
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE,
    detect_synthetic_user_agent,
    get_excluded_urls,
    normalize_user_agent,
    parse_excluded_urls,
)

from otelsync import vocabulary
from otelsync.hooks.harmless import harmless
from otelsync.hooks.propagators import propagate
from otelsync.integrations.http.suppression import is_wanted
from otelsync.integrations.http.trace_headers import GuardedPropagator

_OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.21.0"
"""The schema that the instrumentations of HTTP clients name."""
_DURATION: Final = "http.client.request.duration"
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Boundaries in seconds. Source: semantic conventions of HTTP, ``http.client.request.duration``."""
_LABELS: Final = (
    vocabulary.HTTP_REQUEST_METHOD,
    vocabulary.SERVER_ADDRESS,
    vocabulary.SERVER_PORT,
    vocabulary.HTTP_RESPONSE_STATUS_CODE,
    vocabulary.NETWORK_PROTOCOL_VERSION,
    vocabulary.ERROR_TYPE,
)
_LONGEST_AGENT: Final = 512


def are_plain() -> bool:
    """Return whether spans are to follow the stable conventions alone, and no headers are to be captured.

    Everything else OpenTelemetry's own instrumentations do, in more time.
    """
    opted = {word.strip() for word in os.environ.get(_OPT_IN, "").split(",") if word.strip()}
    captured = (
        OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST,
        OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE,
    )
    is_stable = not opted or ("http" in opted and "http/dup" not in opted)
    return is_stable and not any(os.environ.get(name) for name in captured)


class ClientSpans:
    """Makes the spans and the metric of one client.

    Args:
        scope: Name of the instrumentation scope: that of OpenTelemetry's own instrumentation.
        version: Its version.
        environment: The middle of the environment variable that names URLs to leave out.
        options: What the instrumentation was switched on with, as OpenTelemetry's own takes it.
    """

    def __init__(self, scope: str, version: str, environment: str, options: Mapping[str, Any]) -> None:
        self.tracer = get_tracer(scope, version, options.get("tracer_provider"), schema_url=_SCHEMA)
        excluded = options.get("excluded_urls")
        self._excluded = get_excluded_urls(environment) if excluded is None else parse_excluded_urls(excluded)
        boundaries: Sequence[float] = options.get("duration_histogram_boundaries") or _BUCKETS
        self._duration = get_meter(scope, version, options.get("meter_provider"), schema_url=_SCHEMA).create_histogram(
            _DURATION,
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=boundaries,
        )

    def want(self, url: str | None) -> bool:
        """Return whether a request to `url` that begins now is to have a span."""
        return is_wanted() and not (self._excluded and url and self._excluded.url_disabled(url))

    @harmless
    def end(self, seconds: float, said: Mapping[str, Any]) -> None:
        """Record how long a call took. `said` are the attributes of its span; the metric has a few of them."""
        self._duration.record(seconds, {key: said[key] for key in _LABELS if key in said})

    @harmless
    def end_failed(self, span: Span, error_type: str, seconds: float, said: Mapping[str, Any]) -> None:
        """Record how long a call took that ended by an exception of that type."""
        span.set_attribute(vocabulary.ERROR_TYPE, error_type)
        self.end(seconds, {**said, vocabulary.ERROR_TYPE: error_type})


def tell(host: str, headers: MutableMapping[str, Any], span: Span) -> None:
    """Put `span`, the current one, into the headers of a request to `host`, as far as that host may learn of it."""
    propagator = propagate.get_global_textmap()
    if isinstance(propagator, GuardedPropagator):
        propagator.inject_for(host, headers, span)
    else:
        propagate.inject(headers)


def response_attributes(status: Any, version: object) -> dict[str, Any]:
    """Return what a span says of a response: its status code, an error type for one that is none, the protocol.

    `version` is 10 or 11, as `http.client` has it; None or 0 where it is not known.
    """
    found: dict[str, Any] = {}
    try:
        code = int(status)
    except ValueError:
        code = -1
    if code >= 0:
        found[vocabulary.HTTP_RESPONSE_STATUS_CODE] = code
    if not 100 <= code < 400:
        found[vocabulary.ERROR_TYPE] = str(status)
    if version:
        found[vocabulary.NETWORK_PROTOCOL_VERSION] = "1.1" if version == 11 else "1.0"
    return found


def agent_attributes(user_agent: Any) -> Mapping[str, str]:
    """Return what a span says of the ``User-Agent`` header, which is text, bytes or None."""
    agent = normalize_user_agent(user_agent)
    if not agent:
        return {}
    return _of_agent(agent) if len(agent) <= _LONGEST_AGENT else _of_agent.__wrapped__(agent)


@lru_cache(64)
def _of_agent(agent: str) -> Mapping[str, str]:
    kind = detect_synthetic_user_agent(agent)
    found = {vocabulary.USER_AGENT_SYNTHETIC_TYPE: kind} if kind else {}
    return {**found, vocabulary.USER_AGENT_ORIGINAL: agent}
