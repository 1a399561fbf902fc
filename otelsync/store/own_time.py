"""Own times: how long spans ran while none of their children did, and how long tasks stood in a queue.

One pass over the spans of a trace in the order in which they began. Only those that are open at that moment are held,
with those that have ended since the last clearing.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from otelsync.vocabulary import SYNC_QUEUE_WAIT_SECONDS

MOST_READ: Final = 100_000
"""Spans of a run, of which own times are read while somebody waits: half a second."""
_CLEARED: Final = 4_096
"""Spans that are held before those that have ended are let go."""
_LONGEST_WAIT: Final = 1e9
_CONSUMER: Final = 5
_ROWS: Final = (
    "SELECT span_id, parent_span_id, name, start_ns, coalesce(end_ns, ?),"
    f" CASE WHEN kind = {_CONSUMER} AND json_valid(attributes)"
    f" THEN json_extract(attributes, '$.\"{SYNC_QUEUE_WAIT_SECONDS}\"') END"
    " FROM spans INDEXED BY spans_by_time WHERE trace_id = ? ORDER BY start_ns, span_id"
)


@dataclass(slots=True)
class Queue:
    """Tasks of a run that stood in a queue. Times in nanoseconds."""

    tasks: int = 0
    waited_ns: int = 0
    longest_ns: int = -1
    longest: tuple[int, str] = (0, "")
    """Start and span id of the task that waited longest."""

    def add(self, seconds: object, start_ns: int, span_id: str) -> None:
        """Take in a task. A time from outside may be anything."""
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < _LONGEST_WAIT:
            return
        waited_ns = int(seconds * 1e9)
        self.tasks += 1
        self.waited_ns += waited_ns
        if waited_ns > self.longest_ns:
            self.longest_ns, self.longest = waited_ns, (start_ns, span_id)


@dataclass(slots=True)
class OwnTimes:
    """Own times of the spans of a trace."""

    by_name: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Nanoseconds. Children that overlap count once; spans beside each other count each."""
    queue: Queue = field(default_factory=Queue)


def own_times(store: sqlite3.Connection, trace_id: str, until: int) -> OwnTimes:
    """Read the own times of a trace; `until`: the end of what has not ended, unix nanoseconds."""
    found = OwnTimes()
    own, queue = found.by_name, found.queue
    around: dict[str, list[Any]] = {}  # by span id: name, end, and until when children have been counted
    early: dict[str, list[tuple[int, int]]] = {}
    begun = limit = 0
    for span_id, parent_id, name, start, end, waited in store.execute(_ROWS, (until, trace_id)):
        if waited is not None:
            queue.add(waited, start, span_id)
        if start != begun:
            begun = start
            early.clear()
            if len(around) > limit:
                around = {key: span for key, span in around.items() if span[1] >= start}
                limit = 2 * len(around) + _CLEARED
        end = max(end, start)
        own[name] += end - start
        parent = around.get(parent_id)
        if parent is not None:
            _cover(own, parent, start, end)
        elif parent_id and parent_id != span_id:
            early.setdefault(parent_id, []).append((start, end))
        mine = around[span_id] = [name, end, start]
        for child in early.pop(span_id, ()):  # those that began at the same moment come in any order
            _cover(own, mine, *child)
    return found


def _cover(own: dict[str, int], parent: list[Any], start: int, end: int) -> None:
    """Take the time of a child from its parent's own, as far as no other child has taken it."""
    name, last, counted = parent
    covered = min(end, last) - max(start, counted)
    if covered > 0:
        own[name] -= covered
        parent[2] = min(end, last)
