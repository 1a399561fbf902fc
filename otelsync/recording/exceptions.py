"""Exceptions that end spans: recorded in the innermost stage or task that they leave, and passing the others."""

from __future__ import annotations

import weakref
from typing import Final

from opentelemetry.trace import Span

from otelsync.hooks.host_errors import hand_back
from otelsync.vocabulary import ERROR_TYPE, EXCEPTION_TYPE, SYNC_ERROR_PASSED

_MOST: Final = 256
"""Exceptions of which it is remembered where they were recorded."""
_MOST_TRACES: Final = 16
"""Traces of which that is remembered of one exception, which several threads or runs may raise."""
_DEEPEST: Final = 20
"""Levels of exception groups that are looked into."""


def take_error(span: Span, error: BaseException) -> bool:
    """Set what a span says of an exception that ends it; returns whether it arose there.

    Where it arose it is recorded as an event with its traceback. Further out it is named alone, and marked as passing.
    An exception group passes if each exception in it arose further inside.
    """
    span.set_attribute(ERROR_TYPE, type(error).__qualname__)
    context = span.get_span_context()
    trace_id = context.trace_id
    if _recorded.where(error, trace_id) == context.span_id:
        return True
    if _has_arisen(error, trace_id):
        span.set_attribute(SYNC_ERROR_PASSED, True)
        return False
    try:
        span.record_exception(error)
    except Exception as problem:  # its str() or repr() raises
        hand_back(problem)
        span.add_event("exception", {EXCEPTION_TYPE: type(error).__qualname__})
    _recorded.note(error, trace_id, context.span_id)
    return True


def _has_arisen(error: BaseException, trace_id: int, depth: int = 0) -> bool:
    """Return whether an exception was recorded in this trace, itself or as a group whose members all were."""
    if _recorded.where(error, trace_id) is not None:
        return True
    inside = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return bool(inside) and depth < _DEEPEST and all(_has_arisen(each, trace_id, depth + 1) for each in inside)


class _Recorded:
    """The spans in which exceptions were recorded, by trace, kept apart from them: they pass unchanged.

    An exception is known by a weak reference to it. The built-in ones cannot be referred to so: they are known by their
    ``__dict__``, which is kept, and so cannot be another exception's later. It holds what the program has set on them,
    next to always nothing, and neither a traceback nor arguments.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, dict[int, int]]] = {}

    def note(self, error: BaseException, trace_id: int, span_id: int) -> None:
        """Remember where in a trace an exception was recorded last; the oldest of too many is forgotten."""
        known = self._known
        places = self._places(error)
        if places is None or len(places) >= _MOST_TRACES:
            places = {}
        places[trace_id] = span_id
        known.pop(id(error), None)  # so that it moves to the end
        if len(known) >= _MOST:
            for oldest in tuple(known)[: _MOST // 4]:
                known.pop(oldest, None)
        known[id(error)] = (_mark_of(error), places)

    def where(self, error: BaseException, trace_id: int) -> int | None:
        """The id of the span of a trace in which an exception was recorded; None if it was not, or is forgotten."""
        places = self._places(error)
        return None if places is None else places.get(trace_id)

    def _places(self, error: BaseException) -> dict[int, int] | None:
        found = self._known.get(id(error))
        if found is None:
            return None
        mark, places = found
        is_same = mark() is error if isinstance(mark, weakref.ref) else mark is _dict_of(error)
        return places if is_same else None


_dict_of: Final = BaseException.__dict__["__dict__"].__get__
"""An exception's own ``__dict__``, whatever its class makes of that name."""


def _mark_of(error: BaseException) -> object:
    try:
        return weakref.ref(error)
    except TypeError:
        return _dict_of(error)


_recorded: Final = _Recorded()
