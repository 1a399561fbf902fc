"""OpenTelemetry's own instrumentation of an HTTP client, switched on by ours: its conventions and its hooks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.instrumentation._semconv import (
    OTEL_SEMCONV_STABILITY_OPT_IN,
    _OpenTelemetrySemanticConventionStability,
    _OpenTelemetryStabilitySignalType,
    _StabilityMode,
)


@contextmanager
def stable_http_conventions() -> Iterator[None]:
    """Let an instrumentation that is switched on inside follow the stable conventions.

    Where the user has set ``OTEL_SEMCONV_STABILITY_OPT_IN`` that holds. The choice is made for the whole process by
    whichever instrumentation is first, and is put back here, so that others find what they would have found.
    """
    if os.environ.get(OTEL_SEMCONV_STABILITY_OPT_IN):
        yield
        return
    conventions: Any = _OpenTelemetrySemanticConventionStability
    conventions._initialize()
    modes: dict[Any, Any] = conventions._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING
    http = _OpenTelemetryStabilitySignalType.HTTP
    before = modes.get(http, _StabilityMode.DEFAULT)
    modes[http] = _StabilityMode.HTTP
    try:
        yield
    finally:
        modes[http] = before


def then(ours: Callable[..., object], theirs: Callable[..., object] | None) -> Callable[..., object]:
    """A hook that does our part and then that of the user, if there is one."""
    if theirs is None:
        return ours

    def both(*args: Any) -> None:
        ours(*args)
        theirs(*args)

    return both
