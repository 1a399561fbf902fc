"""HTTP calls that nobody wants a span of, such as those that one instrumented client makes through another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import opentelemetry.context as context_api
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import (
    is_http_instrumentation_enabled,
    suppress_http_instrumentation,
    suppress_instrumentation,
)
from opentelemetry.trace import Span

from otelsync.hooks.harmless import harmless
from otelsync.recording.runtime_context import CURRENT


def _what_it_sets(suppress: Callable[[], AbstractContextManager[Any]]) -> dict[str, object]:
    token = context_api.attach(Context())
    try:
        with suppress():
            return dict(context_api.get_current())
    finally:
        context_api.detach(token)


_HTTP: Final = _what_it_sets(suppress_http_instrumentation)
_KEYS: Final = _HTTP.keys() | _what_it_sets(suppress_instrumentation).keys()
_ONLY_THAT: Final = Context(_HTTP)


def is_wanted() -> bool:
    """Return whether an HTTP call that begins now is to have a span, as OpenTelemetry's context says."""
    current: Any = CURRENT.get()
    base = current if isinstance(current, dict) else getattr(current, "base", None)
    if base is not None and base.keys().isdisjoint(_KEYS):
        return True
    return is_http_instrumentation_enabled()


@harmless
def quiet(span: Span) -> Any:
    """Let no HTTP call inside `span`, the current one, have a span of its own, until :func:`loud`.

    It does what OpenTelemetry's ``suppress_http_instrumentation`` does, without a context of its own where the span is
    one of ours: that stands for its context, and hands it on to what begins below.

    Returns:
        What `loud` takes.
    """
    stand_on = getattr(span, "stand_on", None)
    current: Any = CURRENT.get()
    if stand_on is not None and current is span:
        before = getattr(span, "base", None)
        stand_on(Context({**before, **_HTTP}) if before else _ONLY_THAT)
        return before
    block = suppress_http_instrumentation()
    block.__enter__()
    return block


@harmless
def loud(span: Span, outer: Any) -> None:
    """Undo :func:`quiet`, which has returned `outer`."""
    if outer is None or isinstance(outer, Context):
        stand_on = getattr(span, "stand_on", None)
        if stand_on is not None:
            stand_on(outer)
    else:
        outer.__exit__(None, None, None)
