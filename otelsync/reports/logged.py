"""Log records of a run that warn or tell of errors, and what they say of retries."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from otelsync.reports.figures import LoggedEvent
from otelsync.reports.values import bounded

MOST_EVENTS: Final = 50

_IN_CATALOGUE: Final = '$."id"'


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


def retry_reasons(store: sqlite3.Connection, traces: Iterable[str]) -> dict[str, int]:
    """Return the numbers of records ``sync.api.retry`` by their reasons, the most frequent first."""
    reasons: Counter[str] = Counter()
    for trace_id in traces:
        for reason, count in store.execute(
            "SELECT coalesce(json_extract(attributes, '$.reason'), 'unknown'), count(*) FROM logs"
            " INDEXED BY logs_by_time WHERE trace_id = ? AND event = 'sync.api.retry' AND json_valid(attributes)"
            " GROUP BY 1 ORDER BY 2 DESC LIMIT 20",
            (trace_id,),
        ):
            reasons[bounded(reason, 60)] += count
    return dict(reasons.most_common())
