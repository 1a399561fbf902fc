"""OpenTelemetry's API, where it has no public way: what is set as its provider and as its runtime context.

Its private names are reached here alone. ``tests/test_private_names.py`` says which versions have which; where one is
missing, a public way that does less is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import opentelemetry.context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, TraceFlags, TracerProvider, set_span_in_context

RANDOM_TRACE_ID: Final[int] = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)
"""The flag of a trace id that was drawn at random; 0 where the API (before 1.42) does not know it."""

SPAN_KEY: Final[str] = next(iter(set_span_in_context(INVALID_SPAN, Context())))
"""The key under which a context holds its span."""

SUPPRESS_KEY: Final[str] = getattr(context_api, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
"""The key under which a context says that nothing is to be recorded."""

RuntimeContextBase: Final[Any] = getattr(context_api, "_RuntimeContext", object)


def provider_that_is_set() -> TracerProvider | None:
    """Return the tracer provider that somebody has set; None if nobody has."""
    try:
        return trace._TRACER_PROVIDER
    except AttributeError:
        found = trace.get_tracer_provider()
        return None if isinstance(found, trace.ProxyTracerProvider) else found


def set_provider_aside() -> Callable[[], None]:
    """Let a provider be set as if none had been: OpenTelemetry itself lets it be set once.

    Returns:
        What puts back the one that was set.
    """
    names = ("_TRACER_PROVIDER", "_TRACER_PROVIDER_SET_ONCE")
    before = {name: getattr(trace, name) for name in names if hasattr(trace, name)}
    if len(before) == len(names):
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE = type(trace._TRACER_PROVIDER_SET_ONCE)()

    def put_back() -> None:
        for name, value in before.items():
            setattr(trace, name, value)

    return put_back


def runtime_context() -> Any:
    """Return the runtime context in use; None where this version of the API does not say."""
    return getattr(context_api, "_RUNTIME_CONTEXT", None)


def use_runtime_context(runtime: Any) -> bool:
    """Use another runtime context from now on; False where this version of the API does not let it be replaced."""
    if not hasattr(context_api, "_RUNTIME_CONTEXT"):
        return False
    context_api._RUNTIME_CONTEXT = runtime
    return True
