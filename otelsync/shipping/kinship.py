"""Which spans the store sums up together: those of one name under one parent, and what small subtrees hold.

A row of sums for each parent would be as much work as the spans themselves where every pull request has an API call
of its own below it. So a span with little below it, all of it in one batch and none of it failed, is *small*: what is
below it is counted with its siblings' children, under the nearest ancestor that is not small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from otelsync.shipping.paths import path
from otelsync.shipping.rows import STATUS_ERROR, Detailed, Plain

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


class Kinship:
    """The finished spans of a batch and who is whose parent.

    Args:
        plain: Spans that did not fail.
        detailed: Spans that may have.
        started: Spans that have begun, and may have ended.
    """

    def __init__(self, plain: Iterable[Plain], detailed: Iterable[Detailed], started: Iterable[Detailed] = ()) -> None:
        self.families: dict[FamilyKey, list[Plain | Detailed]] = {}
        self.failed = Counter((s.trace_id, s.parent_span_id, s.name) for s in detailed if s.status == STATUS_ERROR)
        """How many of each family failed."""
        self._add(plain)
        self._add(detailed)
        self._below: dict[SpanId, list[FamilyKey]] = {}
        for key in self.families:
            self._below.setdefault((key[0], key[1]), []).append(key)
        begun = {(span.trace_id, span.span_id): span for span in started}
        self._parents: dict[SpanId, Plain | Detailed] = {}
        for spans in self.families.values():
            for span in spans:
                own = (span[0], span[1])
                if own in self._below and span[4] != PRODUCER:
                    self._parents[own] = span
                if begun:
                    begun.pop(own, None)
        self._expecting = {(span.trace_id, span.parent_span_id) for span in begun.values()}
        """Spans that have a running child."""

    def sums(self, known: Callable[[list[SpanId]], set[SpanId]]) -> dict[SumKey, tuple[Spans, int]]:
        """The spans to sum up together, each with how many of them failed.

        Args:
            known: Says which of many spans something is known of from earlier batches.
        """
        sizes: dict[SpanId, int] = {}
        small = {key for key in self._parents if self._size(key, sizes, 0) <= SMALL} - self._expecting
        if small:
            small -= known(list(small))
        places: dict[SpanId, tuple[str, str]] = {}
        direct: dict[SumKey, tuple[Spans, int]] = {}
        distant: dict[SumKey, list[Plain | Detailed]] = {}
        for (trace_id, parent, name), spans in self.families.items():
            ancestor, under = self._place((trace_id, parent), small, places)
            if under:  # none of them failed
                distant.setdefault((trace_id, ancestor, under, name), []).extend(spans)
            else:
                direct[trace_id, ancestor, "", name] = spans, self.failed.get((trace_id, parent, name), 0)
        return direct | {key: (spans, 0) for key, spans in distant.items()}

    def _add(self, spans: Iterable[Plain | Detailed]) -> None:
        families = self.families
        for span in spans:
            key = (span[0], span[2], span[3])
            if key in families:
                families[key].append(span)
            else:
                families[key] = [span]

    def _size(self, key: SpanId, sizes: dict[SpanId, int], depth: int) -> int:
        """How many spans of the batch are below one; more than `SMALL` if one of them failed or may get children."""
        if key in sizes:
            return sizes[key]
        sizes[key] = SMALL + 1  # also for what is its own ancestor
        size = 0
        for family in self._below.get(key, ()):
            spans = self.families[family]
            size += len(spans)
            if size > SMALL or depth > SMALL or family in self.failed or spans[0][4] == PRODUCER:
                return SMALL + 1
            size += sum(self._size((span[0], span[1]), sizes, depth + 1) for span in spans)
        sizes[key] = size
        return size

    def _place(self, key: SpanId, small: set[SpanId], places: dict[SpanId, tuple[str, str]]) -> tuple[str, str]:
        """The ancestor under which the children of a span are counted, and the names between."""
        if key not in small:
            return key[1], ""
        if key not in places:
            span = self._parents[key]
            ancestor, under = self._place((key[0], span[2]), small, places)
            places[key] = ancestor, path(under, span[3])
        return places[key]
