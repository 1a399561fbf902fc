"""Spans that the store sums up together: those of one name under one parent, and those in small subtrees.

A row of sums for each parent would be as much work as the spans themselves where every pull request has an API call
of its own below it. So a span with little below it, all of it in one batch and none of it failed, is *small*: what is
below it is counted with its siblings' children, under the nearest ancestor that is not small.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from otelsync.store.rows import Detailed, Plain, Records
from otelsync.store.schema import STATUS_ERROR, path
from otelsync.vocabulary import NAMED_PIPELINE

SMALL = 64
"""Up to so many spans below it, a span can be small. Viewers read them one by one when they show it alone."""
PRODUCER = 4
"""OTLP's kind of a span whose children come later, from elsewhere."""

SpanId = tuple[str, str]
"""Trace id and span id."""
FamilyKey = tuple[str, str, str]
"""Trace id, the parent's id, name."""
SumKey = tuple[str, str, str, str]
"""Trace id, id of the ancestor, names between it and the span (see `path`), name."""
Spans = Sequence[Plain | Detailed]


class Known(NamedTuple):
    """The store's knowledge of a batch's traces before it takes the batch."""

    awaited: frozenset[SpanId]
    """Spans that have not come, and have something below them."""
    running: Mapping[SpanId, str]
    """Spans that have begun, each with its parent's id."""


def known_of(connection: sqlite3.Connection, traces: Iterable[str]) -> Known:
    """Return what the store knows of these traces."""
    awaited: set[SpanId] = set()
    running: dict[SpanId, str] = {}
    for trace_id in traces:
        awaited.update(
            connection.execute(
                "SELECT trace_id, parent_span_id FROM siblings INDEXED BY siblings_awaiting"
                " WHERE awaiting = 1 AND trace_id = ?",
                (trace_id,),
            )
        )
        for span_id, parent in connection.execute(
            "SELECT span_id, parent_span_id FROM spans INDEXED BY spans_open WHERE end_ns IS NULL AND trace_id = ?",
            (trace_id,),
        ):
            running[trace_id, span_id] = parent
    return Known(frozenset(awaited), running)


class Kinship:
    """The finished spans of a batch and who is whose parent."""

    def __init__(self, records: Records, known: Known) -> None:
        self._families: defaultdict[FamilyKey, list[Plain | Detailed]] = defaultdict(list)
        finished: Iterable[Plain | Detailed] = chain(records.plain, records.detailed)
        for span in finished:
            self._families[span[0], span[2], span[3]].append(span)
        failed = (span for span in records.detailed if span.status == STATUS_ERROR)
        self._failed = Counter((span.trace_id, span.parent_span_id, span.name) for span in failed)
        self._below: defaultdict[SpanId, list[FamilyKey]] = defaultdict(list)
        for key in self._families:
            self._below[key[0], key[1]].append(key)
        running = dict(known.running)
        running |= {(begun.trace_id, begun.span_id): begun.parent_span_id for begun in records.started}
        self._begun = frozenset(running)
        expected = self._begun | known.awaited
        self.parents: dict[SpanId, Plain | Detailed] = {}
        """The spans of the batch that have something below them, here or in the store, or will have."""
        for (_, _, name), spans in self._families.items():
            # Told apart by its id alone, as two may claim to have ended it.
            is_pipeline = name.startswith(NAMED_PIPELINE)
            for span in spans:
                own = (span[0], span[1])
                if own in self._below or own in expected or is_pipeline or span[4] == PRODUCER:
                    self.parents[own] = span
                    running.pop(own, None)
        large = known.awaited | known.running.keys() | {(trace, parent) for (trace, _), parent in running.items()}
        self._small = self._find_small(large)

    def sums(self) -> dict[SumKey, tuple[Spans, int]]:
        """The spans to sum up together, each with how many of them failed."""
        places: dict[SpanId, tuple[str, str]] = {}
        direct: dict[SumKey, tuple[Spans, int]] = {}
        distant: dict[SumKey, list[Plain | Detailed]] = {}
        for (trace_id, parent, name), spans in self._families.items():
            ancestor, under = self._place((trace_id, parent), places)
            if under:  # none of them failed
                distant.setdefault((trace_id, ancestor, under, name), []).extend(spans)
            else:
                direct[trace_id, ancestor, "", name] = spans, self._failed.get((trace_id, parent, name), 0)
        return direct | {key: (spans, 0) for key, spans in distant.items()}

    def stems(self) -> frozenset[SpanId]:
        """The spans of the batch to be found by their id: there are sums of what is below them, or there may be."""
        return frozenset(self.parents.keys() - self._small)

    def is_here(self, span: SpanId) -> bool:
        """Return whether a span has come or begun by the end of this batch, if it has something below it."""
        return not span[1] or span in self.parents or span in self._begun

    def _find_small(self, large: Iterable[SpanId]) -> set[SpanId]:
        """The spans whose subtrees are small. One that holds a large one is none."""
        sizes: dict[SpanId, int] = {}
        small = {key for key in self.parents if self._size(key, sizes, 0) <= SMALL}
        for key in large:
            at: SpanId | None = key
            while at is not None and (at in small or at == key):
                small.discard(at)
                span = self.parents.get(at)
                at = None if span is None else (at[0], span[2])
        return small

    def _size(self, key: SpanId, sizes: dict[SpanId, int], depth: int) -> int:
        """Count the spans of the batch below one; more than `SMALL` if one of them failed or may get children."""
        if key in sizes:
            return sizes[key]
        sizes[key] = SMALL + 1  # also for what is its own ancestor
        size = 0
        for family in self._below.get(key, ()):
            spans = self._families[family]
            size += len(spans)
            if size > SMALL or depth > SMALL or family in self._failed or spans[0][4] == PRODUCER:
                return SMALL + 1
            for span in spans:
                below = (span[0], span[1])
                if below in self._below:
                    size += self._size(below, sizes, depth + 1)
        span = self.parents[key]
        if span[4] == PRODUCER or span[3].startswith(NAMED_PIPELINE):
            return SMALL + 1
        sizes[key] = size
        return size

    def _place(self, key: SpanId, places: dict[SpanId, tuple[str, str]]) -> tuple[str, str]:
        """The ancestor under which the children of a span are counted, and the names between."""
        if key not in self._small:
            return key[1], ""
        if key not in places:
            span = self.parents[key]
            ancestor, under = self._place((key[0], span[2]), places)
            places[key] = ancestor, path(under, span[3])
        return places[key]
