"""Failures of groups themselves, with the end of the traceback that was recorded where the exception arose."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any, Final

from otelsync.reports.failures import error_type
from otelsync.reports.figures import OwnError
from otelsync.reports.grouping import Grouping
from otelsync.reports.values import bounded
from otelsync.store.spans import StoredSpan
from otelsync.vocabulary import (
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
    GROUP,
    SYNC_ERROR_PASSED,
    part_of,
)

MOST: Final = 5
"""Failures of one group that are told."""
MOST_LINES: Final = 12
"""Lines of a traceback, from its end."""
_LONGEST_LINE: Final = 300
_LONGEST_TRACEBACK: Final = 100_000


class OwnErrors:
    """Takes in the failed spans of a run, in the order in which they began: a group before what is in it."""

    def __init__(self, grouping: Grouping, errors: Collection[str]) -> None:
        self._grouping = grouping
        self._errors = errors
        self._found: dict[str, list[tuple[StoredSpan, OwnError]]] = {}

    def add(self, span: StoredSpan, group: str) -> None:
        """Take in a span that failed, of a group."""
        found = self._found.get(group, [])
        if self._is_own(span):
            if len(found) < MOST:
                self._found.setdefault(group, []).append((span, _own_error(span)))
            return
        for number, (outer, error) in enumerate(found):
            if not error.traceback and _passed_through(span, outer) and (traceback := _traceback(span)):
                told = OwnError(error.type, error.message, traceback, span.trace_id, span.span_id)
                found[number] = outer, told

    def of(self, group: str) -> tuple[OwnError, ...]:
        """Return the failures of a group."""
        return tuple(error for _, error in self._found.get(group, ()))

    def _is_own(self, span: StoredSpan) -> bool:
        sort, kind = part_of(span.name)
        if sort != GROUP or not (span.span_id in self._errors or span.attributes.get(SYNC_ERROR_PASSED) is True):
            return False
        by = self._grouping.attribute
        return by == f"sync.{kind}" or by.removeprefix("sync.") not in self._grouping.kinds


def _own_error(span: StoredSpan) -> OwnError:
    message = bounded(span.status_message or "", 1_000)
    return OwnError(error_type(span), message, _traceback(span), span.trace_id, span.span_id)


def _passed_through(span: StoredSpan, outer: StoredSpan) -> bool:
    """Return whether an exception that left a span may be the one that left a group around it."""
    same = span.status_message == outer.status_message and error_type(span) == error_type(outer)
    return same and outer.end_ns is not None and span.end_ns is not None and span.end_ns <= outer.end_ns


def _traceback(span: StoredSpan) -> tuple[str, ...]:
    """Return the last lines of a span's exception; without a traceback its type and message."""
    for attributes in _exceptions(span):
        text = attributes.get(EXCEPTION_STACKTRACE) or ""
        if not isinstance(text, str) or not text:
            text = ": ".join(str(attributes.get(name, "")) for name in (EXCEPTION_TYPE, EXCEPTION_MESSAGE))
        lines = text[-_LONGEST_TRACEBACK:].splitlines()
        while lines and not lines[-1].strip():
            lines.pop()
        return tuple(bounded(line, _LONGEST_LINE) for line in lines[-MOST_LINES:])
    return ()


def _exceptions(span: StoredSpan) -> Iterator[dict[str, Any]]:
    try:
        events = json.loads(span.events_json or "[]")
    except (ValueError, RecursionError):
        return
    for event in reversed(events):
        if event.get("name") == "exception":
            yield event.get("attributes") or {}
