"""Errors grouped by type, each counted once: where it arose, not in every stage that it went through."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from otelsync.reports.figures import ErrorType, LoggedEvent, Occurrence
from otelsync.reports.sweep import CLIENT, Step
from otelsync.reports.tally import OTHER, bounded
from otelsync.vocabulary import ERROR_TYPE, SYNC_REPO, VCS_CHANGE_ID

MOST_TYPES: Final = 100
MOST_OCCURRENCES: Final = 10
"""Of each type, those that are named."""
MOST_STAGES: Final = 20
MOST_EVENTS: Final = 50

_TYPE: Final = re.compile(r"([A-Za-z_][\w.]{0,99})(?::|$)", re.ASCII)
_IN_CATALOGUE: Final = '$."id"'


class Failures:
    """Takes in the spans of a run, in the order in which they ended."""

    def __init__(self) -> None:
        self.count = 0
        self.recovered = 0
        """Requests that failed, in a stage that did not."""
        self._messages: dict[str, str] = {}
        self._stages: dict[str, Counter[str]] = {}
        """Errors by type, and by the span in which they arose."""
        self._occurrences: dict[str, list[Occurrence]] = {}

    def add(self, step: Step) -> None:
        """Take in a span that failed."""
        if step.kind == CLIENT and step.parent is not None:
            self.recovered += not step.parent.failed
            return
        if step.failed_below:
            return
        self.count += 1
        kind = error_type(step)
        if kind not in self._stages and len(self._stages) >= MOST_TYPES:
            kind = OTHER
        self._messages.setdefault(kind, bounded(step.status_message))
        stages = self._stages.setdefault(kind, Counter())
        name = bounded(step.name, 100)
        stages[name if name in stages or len(stages) < MOST_STAGES else OTHER] += 1
        occurrences = self._occurrences.setdefault(kind, [])
        if len(occurrences) < MOST_OCCURRENCES:
            occurrences.append(_occurrence(step, name))

    def types(self, store: sqlite3.Connection, traces: Iterable[str]) -> tuple[ErrorType, ...]:
        """The types, the most frequent first, with the log records that tell of the errors."""
        wanted = {at.span_id: at for found in self._occurrences.values() for at in found}
        logged = dict(_logged(store, traces, wanted))
        return tuple(
            ErrorType(
                type=kind,
                count=stages.total(),
                message=self._messages[kind],
                stages=dict(stages.most_common()),
                occurrences=tuple(logged.get(at.span_id, at) for at in self._occurrences[kind]),
            )
            for kind, stages in sorted(self._stages.items(), key=lambda item: (-item[1].total(), item[0]))
        )


def error_type(step: Step) -> str:
    """``error.type``, else the type that the message begins with, else what the outcome is called."""
    said = step.attributes.get(ERROR_TYPE)
    if said:
        return bounded(said, 100)
    if step.outcome == "interrupted":
        return "interrupted"
    found = _TYPE.match(step.status_message)
    return found[1] if found else "error"


def _occurrence(step: Step, name: str) -> Occurrence:
    attributes = step.attributes
    change = attributes.get(VCS_CHANGE_ID)
    if change is None and step.parent is not None:  # a request for a pull request's details
        change = step.parent.attributes.get(VCS_CHANGE_ID)
    repo = bounded(attributes.get(SYNC_REPO, ""))
    return Occurrence(step.trace_id, step.span_id, name, repo, bounded(change or "", 40), step.end_ns)


def _logged(
    store: sqlite3.Connection, traces: Iterable[str], wanted: dict[str, Occurrence]
) -> Iterator[tuple[str, Occurrence]]:
    """The last error that was logged in each of these spans: the stage's own comes when it ends."""
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


def logged_events(store: sqlite3.Connection, traces: Iterable[str]) -> tuple[LoggedEvent, ...]:
    """Return the records at WARNING or above, by event, the most severe and most frequent first."""
    found: list[tuple[int, LoggedEvent]] = []
    for trace_id in traces:
        rows = store.execute(
            f"SELECT severity, coalesce(json_extract(attributes, '{_IN_CATALOGUE}'), ''), substr(event, 1, 300), level,"
            " count(*), min(time_ns), max(time_ns) FROM logs INDEXED BY logs_by_time"
            " WHERE trace_id = ? AND severity >= 13 AND json_valid(attributes) GROUP BY 1, 2, 3, 4"
            " ORDER BY severity DESC, count(*) DESC LIMIT ?",
            (trace_id, MOST_EVENTS),
        )
        for severity, number, event, level, *figures in rows:
            found.append((severity, LoggedEvent(bounded(number, 40), bounded(event), bounded(level, 12), *figures)))
    found.sort(key=lambda entry: (-entry[0], -entry[1].count, entry[1].event))
    return tuple(_merged(event for _, event in found))[:MOST_EVENTS]


def _merged(events: Iterable[LoggedEvent]) -> list[LoggedEvent]:
    """The same event of several traces as one."""
    merged: dict[tuple[str, str, str], LoggedEvent] = {}
    for event in events:
        key = event.id, event.event, event.level
        known = merged.setdefault(key, event)
        if known is not event:
            first, last = min(known.first_at_ns, event.first_at_ns), max(known.last_at_ns, event.last_at_ns)
            merged[key] = replace(known, count=known.count + event.count, first_at_ns=first, last_at_ns=last)
    return [*merged.values()]
