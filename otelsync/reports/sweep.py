"""One pass over the spans of a trace: each with the span around it, and the time in which it did not wait for others.

Spans come in the order in which they began, so only those that are open at that moment are held in memory, however
many there are: the depth of the trace times what runs in parallel.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heappop, heappush
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import orjson

from otelsync.vocabulary import (
    STAGE,
    SUCCESS,
    SYNC_ACTION,
    SYNC_ATTEMPT,
    SYNC_OUTCOME,
    SYNC_RECOVERED,
    SYNC_STAGE_KIND,
    WAITING,
    part_of,
)

STATUS_ERROR: Final = 2
CLIENT: Final = 3
"""OTLP's kind of a span that stands for a request to somebody else."""

_ROWS: Final = (
    "SELECT span_id, parent_span_id, name, kind, start_ns, end_ns, status, status_message, attributes"
    " FROM spans INDEXED BY spans_by_time WHERE trace_id = ? {} ORDER BY start_ns, span_id"
)
_ORDINARY: Final = (
    "name GLOB 'sync.?*' AND instr(name, ' ') = 0 AND instr(substr(name, 6), '.') = 0 AND status <> 2"
    f" AND end_ns IS NOT NULL AND (instr(attributes, '\"{SYNC_OUTCOME}\"') = 0"
    f' OR instr(attributes, \'"{SYNC_OUTCOME}":"{SUCCESS}"\') > 0)'
    f" AND instr(attributes, '\"{SYNC_ATTEMPT}\"') = 0 AND instr(attributes, '\"{SYNC_RECOVERED}\"') = 0"
)
"""Items that went well, at the first attempt."""
_SUMMED: Final = (
    f"SELECT parent_span_id, json_extract(attributes, '$.\"{SYNC_ACTION}\"'), json_extract(attributes, ?), count(*)"
    f" FROM spans INDEXED BY spans_by_time WHERE trace_id = ? AND {_ORDINARY} GROUP BY 1, 2, 3"
)

Row = tuple[str, str, str, int, int, "int | None", int, "str | None", str]
"""A span as `_ROWS` selects it."""


class Step:
    """A span, and what is known of it once everything that it overlaps with has been seen."""

    __slots__ = (
        "_covered_until",
        "attributes",
        "covered_ns",
        "end_ns",
        "failed_below",
        "group",
        "group_from",
        "has_sends",
        "kind",
        "last_send",
        "name",
        "parent",
        "parent_id",
        "part_kind",
        "resent",
        "running",
        "sort",
        "span_id",
        "start_ns",
        "status",
        "status_message",
        "trace_id",
    )

    def __init__(self, trace_id: str, row: Row, until: int, parent: Step | None) -> None:
        self.span_id, self.parent_id, self.name, self.kind, start, end, self.status, message, text = row
        self.trace_id = trace_id
        self.sort, self.part_kind = part_of(self.name)
        """Sort and kind of the part of a sync that it is (see `otelsync.vocabulary`); two empty texts for none."""
        self.start_ns = self._covered_until = start
        self.running = end is None
        if end is None:
            end = until
        self.end_ns = end if end > start else start
        self.status_message = message or ""
        try:
            self.attributes: dict[str, Any] = orjson.loads(text)
        except orjson.JSONDecodeError:  # more than 1,024 levels deep
            self.attributes = {}
        self.parent = parent
        """The span around it, where that had begun before and had not ended; a task that comes later has none."""
        self.failed_below = False
        """True if a stage directly below failed."""
        self.group: str | None = None
        """For whoever counts by group: which one it belongs to, and the attribute's value that says so."""
        self.group_from: object = None
        self.resent = self.last_send = 0
        """For whoever counts sends: those beyond the first in it, and the ordinal of the last request in it."""
        self.has_sends = False
        """True if the sends of a request have spans of their own below it."""
        self.covered_ns = 0
        """Nanoseconds in which one of its children ran. Children that overlap count once."""

    @property
    def failed(self) -> bool:
        """True if its status is an error."""
        return self.status == STATUS_ERROR

    @property
    def is_wait(self) -> bool:
        """True if it is a wait, or a stage of kind ``waiting``."""
        return is_wait(self.sort, self.attributes)

    @property
    def outcome(self) -> str:
        """``sync.outcome``, else what the status says."""
        said = self.attributes.get(SYNC_OUTCOME)
        return said if isinstance(said, str) else ("failure" if self.failed else "")

    @property
    def duration_ns(self) -> int:
        """Nanoseconds from start to end, or to the run's last record while it runs."""
        return self.end_ns - self.start_ns

    @property
    def own_ns(self) -> int:
        """Nanoseconds in which none of its children ran."""
        return self.end_ns - self.start_ns - self.covered_ns

    def cover(self, child: Step) -> None:
        """Take account of a child. They come in the order in which they began."""
        start, end = child.start_ns, child.end_ns
        if start < self._covered_until:
            start = self._covered_until
        if end > self.end_ns:
            end = self.end_ns
        if end > start:
            self.covered_ns += end - start
            self._covered_until = end
        if child.status == STATUS_ERROR and child.kind != CLIENT:
            self.failed_below = True


def is_wait(sort: str, attributes: Mapping[str, Any]) -> bool:
    """Return whether a span of that sort waits."""
    return sort == WAITING or (sort == STAGE and attributes.get(SYNC_STAGE_KIND) == WAITING)


def steps(
    store: sqlite3.Connection, trace_id: str, until: int, begin: Callable[[Step], None], *, ordinary: bool = True
) -> Iterator[Step]:
    """The spans of a trace in the order in which they ended.

    Args:
        store: From `open_store`.
        trace_id: Which trace.
        until: The run's last sign of life, unix nanoseconds: taken for the end of what has not ended.
        begin: Called with each span when it begins, so after the span around it.
        ordinary: Whether items that went well are among them. Without, own times mean nothing; see `ordinary_items`.
    """
    query = _ROWS.format("" if ordinary else f"AND NOT ({_ORDINARY})")
    around: dict[str, Step] = {}
    ends: list[tuple[int, int, Step]] = []
    number = 0
    for row, next_start in _parents_first(store.execute(query, (trace_id,))):
        start = row[4]
        while ends and ends[0][0] < start:
            yield _close(heappop(ends)[2], around)
        parent = around.get(row[1])
        step = Step(trace_id, row, until, parent)
        if parent is not None:
            parent.cover(step)
        begin(step)
        if step.end_ns < next_start and (not ends or step.end_ns <= ends[0][0]):
            yield step  # nothing can stand below it
            continue
        around[step.span_id] = step
        number -= 1  # of those that end together, the inner ones, which came later, end first
        heappush(ends, (step.end_ns, number, step))
    while ends:
        yield _close(heappop(ends)[2], around)


def ordinary_items(store: sqlite3.Connection, trace_id: str, attribute: str) -> Iterator[tuple[str, str, Any, int]]:
    """List items that went well, summed up: the id around, action, the value of an attribute, how many there are."""
    for parent, action, said, number in store.execute(_SUMMED, (f'$."{attribute}"', trace_id)):
        yield parent, action if isinstance(action, str) else "", said, number


def _close(step: Step, around: dict[str, Step]) -> Step:
    if around.get(step.span_id) is step:  # an id from outside may come twice
        del around[step.span_id]
    return step


def _parents_first(rows: Iterable[Row]) -> Iterator[tuple[Row, int]]:
    """The same rows, each with the start of the next; of those that began together parents before children."""
    alone: Row | None = None
    for start, together in groupby(rows, itemgetter(4)):
        if alone is not None:
            yield alone, start
        alone, *others = together
        if others:
            yield from ((row, start) for row in _by_depth([alone, *others]))
            alone = None
    if alone is not None:
        yield alone, alone[4]


def _by_depth(rows: list[Row]) -> list[Row]:
    parents = {row[0]: row[1] for row in rows}
    return sorted(rows, key=lambda row: _depth(row[0], parents))


def _depth(span_id: str, parents: dict[str, str]) -> int:
    depth = 0
    while span_id in parents and depth < len(parents):  # a span that is its own ancestor ends this too
        span_id = parents[span_id]
        depth += 1
    return depth
