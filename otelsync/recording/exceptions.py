"""Exceptions that end spans: recorded in the innermost stage or task that they leave, and passing the others."""

from __future__ import annotations

import contextlib
from typing import Final

from opentelemetry.trace import Span

from otelsync.vocabulary import ERROR_TYPE, EXCEPTION_TYPE, SYNC_ERROR_PASSED

_RECORDED_IN: Final = "__otelsync_recorded_in__"
"""The key in an exception's ``__dict__`` that holds the ids of the trace and span in which it was recorded."""
_DEEPEST: Final = 20
"""Levels of exception groups that are looked into."""


def take_error(span: Span, error: BaseException) -> bool:
    """Set what a span says of an exception that ends it; returns whether it arose there.

    Where it arose it is recorded as an event with its traceback. Further out it is named alone, and marked as passing.
    An exception group passes if each exception in it arose further inside.
    """
    span.set_attribute(ERROR_TYPE, type(error).__qualname__)
    context = span.get_span_context()
    trace_id, here = context.trace_id, (context.trace_id, context.span_id)
    if _recorded_in(error) == here:
        return True
    if _has_arisen(error, trace_id):
        span.set_attribute(SYNC_ERROR_PASSED, True)
        return False
    with contextlib.suppress(Exception):  # an exception may have no room for it
        error.__dict__[_RECORDED_IN] = here
    try:
        span.record_exception(error)
    except Exception:  # its str() or repr() raises
        span.add_event("exception", {EXCEPTION_TYPE: type(error).__qualname__})
    return True


def _recorded_in(error: BaseException) -> tuple[int, int] | None:
    where = getattr(error, "__dict__", {}).get(_RECORDED_IN)
    return where if isinstance(where, tuple) and len(where) == 2 else None


def _has_arisen(error: BaseException, trace_id: int, depth: int = 0) -> bool:
    """Return whether an exception was recorded in this trace, itself or as a group whose members all were."""
    where = _recorded_in(error)
    if where is not None:
        return where[0] == trace_id
    inside = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return bool(inside) and depth < _DEEPEST and all(_has_arisen(each, trace_id, depth + 1) for each in inside)
