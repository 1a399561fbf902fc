"""Errors of a run, by type and reason, each counted once: where it arose, not in every stage that it went through."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from otelsync.reports.figures import ErrorType, Occurrence
from otelsync.reports.values import OTHER, bounded
from otelsync.store.spans import StoredSpan
from otelsync.text.reasons import reason_of
from otelsync.vocabulary import ERROR_TYPE, INTERRUPTED

MOST_REASONS: Final = 100
"""Types and reasons that are told apart; beyond, types alone."""
MOST_TYPES: Final = 200
MOST_OCCURRENCES: Final = 10
"""Of each reason, those that are named."""
MOST_STAGES: Final = 20

_TYPE: Final = re.compile(r"([A-Za-z_][\w.]{0,99})(?::|$)", re.ASCII)
_IN_CATALOGUE: Final = '$."id"'

Key = tuple[str, str]
"""Type and reason."""


class Failures:
    """Takes in the errors of a run."""

    def __init__(self) -> None:
        self.count = 0
        self._messages: dict[Key, str] = {}
        self._stages: dict[Key, Counter[str]] = {}
        """Errors by type and reason, and by the span in which they arose."""
        self._occurrences: dict[Key, list[Occurrence]] = {}

    def add(self, span: StoredSpan, group: str, item: tuple[str, str]) -> None:
        """Take in an error. `group` and `item`: which ones it is about; an item by kind and key."""
        self.count += 1
        key = self._known(error_type(span), reason_of(bounded(span.status_message or "", 1_000)))
        self._messages.setdefault(key, bounded(span.status_message or ""))
        stages = self._stages.setdefault(key, Counter())
        name = bounded(span.name, 100)
        stages[name if name in stages or len(stages) < MOST_STAGES else OTHER] += 1
        occurrences = self._occurrences.setdefault(key, [])
        if len(occurrences) < MOST_OCCURRENCES:
            end_ns = span.start_ns if span.end_ns is None else span.end_ns
            occurrences.append(Occurrence(span.trace_id, span.span_id, name, group, *item, end_ns))

    def types(self, store: sqlite3.Connection, traces: Iterable[str]) -> tuple[ErrorType, ...]:
        """Return the reasons, the most frequent first, with the log records that tell of the errors."""
        wanted = {at.span_id: at for found in self._occurrences.values() for at in found}
        logged = dict(_logged(store, traces, wanted))
        return tuple(
            ErrorType(
                type=key[0],
                reason=key[1],
                count=stages.total(),
                message=self._messages[key],
                stages=dict(stages.most_common()),
                occurrences=tuple(logged.get(at.span_id, at) for at in self._occurrences[key]),
            )
            for key, stages in sorted(self._stages.items(), key=lambda found: (-found[1].total(), found[0]))
        )

    def _known(self, kind: str, reason: str) -> Key:
        for key, most in (((kind, reason), MOST_REASONS), ((kind, OTHER), MOST_TYPES)):
            if key in self._stages or len(self._stages) < most:
                return key
        return OTHER, OTHER


def error_type(span: StoredSpan) -> str:
    """Return ``error.type``, else the type that the message begins with, else what the outcome is called."""
    said = span.attributes.get(ERROR_TYPE)
    if said:
        return bounded(said, 100)
    if span.outcome == INTERRUPTED:
        return INTERRUPTED
    found = _TYPE.match(span.status_message or "")
    return found[1] if found else "error"


def _logged(
    store: sqlite3.Connection, traces: Iterable[str], wanted: dict[str, Occurrence]
) -> Iterator[tuple[str, Occurrence]]:
    """List the last error that was logged in each of these spans: the stage's own comes when it ends."""
    for trace_id in traces if wanted else ():
        for span_id, event, number, at_ns in store.execute(
            f"SELECT span_id, event, json_extract(attributes, '{_IN_CATALOGUE}'), time_ns"
            " FROM logs INDEXED BY logs_by_time WHERE trace_id = ? AND severity >= 17 AND json_valid(attributes)"
            " ORDER BY time_ns",
            (trace_id,),
        ):
            if span_id in wanted:
                called = f"{bounded(number, 40)} {bounded(event, 100)}" if number else bounded(event, 100)
                yield span_id, replace(wanted[span_id], log=called, logged_at_ns=at_ns)
