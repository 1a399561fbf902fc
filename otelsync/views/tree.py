"""The tree of one run, siblings of a kind rolled up: read from the sums that the store keeps, not from every span.

What is read: the row of `siblings` of each parent and name, and the ids of the spans that have children. Spans that
have none are read only where a few of them are shown one by one.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from otelsync.shipping.histogram import percentile
from otelsync.views.runs import Run
from otelsync.views.spans import StoredSpan, read

FEW = 3
"""Up to so many siblings of a kind are shown one by one."""
MOST_FAILED = 10
"""Of the failed ones of a kind, so many are shown one by one."""
MOST_RUNNING = 3
"""The same for those that are running."""
DEEPEST = 60
"""Levels that are shown. A trace that goes deeper is a loop of calls, or made to do harm."""
MOST_NAMES = 60
"""Under one parent, of names with the same first word. Beyond, they count as one kind."""
MOST_KINDS = 8
"""The same in the summary of a whole run."""


@dataclass(slots=True)
class Family:
    """Spans of one kind: of one name, under one parent or under several that are rolled up themselves."""

    name: str
    parents: list[str] = field(default_factory=list)
    """Span ids; each once for each name below it."""
    names: list[str] = field(default_factory=list)
    """The name under each of the parents: one and the same, unless several were put together as one kind."""
    count: int = 0
    """How many have ended."""
    running: int = 0
    failed: int = 0
    failed_under: list[tuple[str, str]] = field(default_factory=list)
    """Parent and name of those that failed."""
    start_ns: int = 2**63 - 1
    end_ns: int = 0
    total_ns: int = 0
    slowest_ns: int = -1
    slowest: tuple[int, str] = (0, "")
    """Start and span id of the slowest one."""
    histograms: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Ended or not."""
        return self.count + self.running

    def percentiles(self, *fractions: float) -> list[int]:
        """For each fraction the nanoseconds that so many did not exceed, within the histogram's precision."""
        counts = _added(self.histograms)
        return [percentile(counts, fraction, longest=max(self.slowest_ns, 0)) for fraction in fractions]

    def add(self, parent: str, row: Sequence[Any]) -> None:
        """Take in a row of `siblings`, without its trace and parent."""
        name, count, failed, start_ns, end_ns, total_ns, slowest_ns, slowest_id, slowest_start_ns, histogram = row
        self.parents.append(parent)
        self.names.append(name)
        self.count += count
        if failed:
            self.failed += failed
            self.failed_under.append((parent, name))
        self.start_ns = min(self.start_ns, start_ns)
        self.end_ns = max(self.end_ns, end_ns)
        self.total_ns += total_ns
        if slowest_ns > self.slowest_ns:
            self.slowest_ns, self.slowest = slowest_ns, (slowest_start_ns, slowest_id)
        self.histograms.append(histogram)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The parents with the name under each, once."""
        return list(dict.fromkeys(zip(self.parents, self.names, strict=True)))

    def add_running(self, span: StoredSpan) -> None:
        """Take in a span that has not ended."""
        self.parents.append(span.parent_span_id)
        self.names.append(span.name)
        self.running += 1
        self.start_ns = min(self.start_ns, span.start_ns)


class RunTree:
    """The spans of one trace by parent. `store` must stay open."""

    def __init__(self, store: sqlite3.Connection, run: Run) -> None:
        self.run = run
        self._store = store
        self._sums: dict[str, list[Sequence[Any]]] = {}
        for parent, *row in store.execute(
            "SELECT parent_span_id, name, count, failed, start_ns, end_ns, total_ns, slowest_ns, slowest_span_id,"
            " slowest_start_ns, durations FROM siblings WHERE trace_id = ?",
            (run.trace_id,),
        ):
            self._sums.setdefault(parent, []).append(row)
        self._running: dict[str, list[StoredSpan]] = {}
        for span in read(store, "WHERE trace_id = ? AND end_ns IS NULL ORDER BY start_ns", (run.trace_id,)):
            self._running.setdefault(span.parent_span_id, []).append(span)
        self._with_children: dict[tuple[str, str], list[str]] = {}
        self._roots = ["", *self._find_parents()]

    def roots(self) -> list[Family]:
        """Spans without a parent, and those whose parent has not been recorded."""
        return self.families(self._roots)

    def families(self, parents: Iterable[str]) -> list[Family]:
        """The spans under `parents` by kind, earliest first."""
        found: dict[str, Family] = {}
        for parent in parents:
            for row in self._sums.get(parent, ()):
                name = row[0]
                if name not in found:
                    found[name] = Family(name)
                found[name].add(parent, row)
            for span in self._running.get(parent, ()):
                found.setdefault(span.name, Family(span.name)).add_running(span)
        return sorted(by_kind(found.values()), key=lambda family: (family.start_ns, family.name))

    def kinds(self) -> list[Family]:
        """All spans of the run by kind, those in which most time went first."""
        families = by_kind(self.families(self._sums.keys() | self._running.keys()), MOST_KINDS)
        return sorted(families, key=lambda family: (-family.total_ns, family.name))

    def below(self, family: Family) -> list[Family]:
        """The children of all spans of a family, by kind."""
        return self.families(parent for pair in family.pairs for parent in self._with_children.get(pair, ()))

    def members(self, family: Family) -> list[StoredSpan]:
        """Each span of a family; for small ones."""
        spans = [span for pair in family.pairs for span in self._read_family(*pair)]
        return sorted(spans, key=lambda span: (span.start_ns, span.span_id))

    def failed(self, family: Family, most: int = MOST_FAILED) -> list[StoredSpan]:
        """The first failed spans of a family."""
        spans: list[StoredSpan] = []
        for pair in family.failed_under:
            if len(spans) >= most:
                break
            spans += self._read_family(*pair, "AND status = 2", most - len(spans))
        return sorted(spans, key=lambda span: (span.start_ns, span.span_id))

    def running(self, family: Family, most: int = MOST_RUNNING) -> list[StoredSpan]:
        """The first spans of a family that have not ended."""
        spans = (s for parent, name in family.pairs for s in self._running.get(parent, ()) if s.name == name)
        return list(islice(spans, most))

    def slowest(self, family: Family) -> StoredSpan | None:
        """The slowest span of a family; None if none has ended."""
        if not family.count:
            return None
        return next(
            read(
                self._store,
                "WHERE trace_id = ? AND start_ns = ? AND span_id = ? LIMIT 1",
                (self.run.trace_id, *family.slowest),
            ),
            None,
        )

    def children(self, parents: Iterable[str]) -> Iterator[tuple[StoredSpan, bool]]:
        """The spans under `parents` one by one, earliest first, each with whether it has children."""
        for parent in parents:
            for span in read(
                self._store,
                "WHERE parent_span_id = ? AND trace_id = ? ORDER BY start_ns, span_id",
                (parent, self.run.trace_id),
            ):
                yield span, span.span_id in self._sums or span.span_id in self._running

    @property
    def root_ids(self) -> list[str]:
        """What the parents of the topmost spans are called: nothing, or an id that has not been recorded."""
        return self._roots

    def _read_family(self, parent: str, name: str, condition: str = "", most: int = -1) -> Iterator[StoredSpan]:
        return read(
            self._store,
            f"WHERE parent_span_id = ? AND name = ? AND trace_id = ? {condition} ORDER BY start_ns LIMIT ?",
            (parent, name, self.run.trace_id, most),
        )

    def _find_parents(self) -> list[str]:
        """Note which spans have children, by their own parent and name. Returns the parents that are not there."""
        missing = (self._sums.keys() | self._running.keys()) - {""}
        self._note_parents(missing, "spans_with_children", "leaf = 0")
        if missing:  # children may have come after their parent; rare, so there is no index for it
            self._note_parents(missing, "spans_by_time", "span_id IN (SELECT value FROM json_each(?))")
        return sorted(missing)

    def _note_parents(self, missing: set[str], index: str, condition: str) -> None:
        parameters = [self.run.trace_id] + ([json.dumps(list(missing))] if "?" in condition else [])
        for span_id, parent, name in self._store.execute(
            f"SELECT span_id, parent_span_id, name FROM spans INDEXED BY {index} WHERE trace_id = ? AND {condition}",
            parameters,
        ):
            if span_id in missing:
                missing.discard(span_id)
                self._with_children.setdefault((parent, name), []).append(span_id)


def by_kind(families: Iterable[Family], most: int = MOST_NAMES) -> list[Family]:
    """Families put together by the first word of their name where there are more than `most` of it."""
    families = list(families)
    words = Counter(_first_word(family.name) for family in families)
    if len(words) > MOST_NAMES:
        return [merged("*", families)]
    many = [word for word, count in words.items() if count > most]
    kept = [family for family in families if _first_word(family.name) not in many]
    return kept + [merged(f"{word} *", [f for f in families if _first_word(f.name) == word]) for word in many]


def merged(name: str, families: Iterable[Family]) -> Family:
    """One family of all."""
    whole = Family(name)
    for family in families:
        whole.parents += family.parents
        whole.names += family.names
        whole.count += family.count
        whole.running += family.running
        whole.failed += family.failed
        whole.failed_under += family.failed_under
        whole.start_ns = min(whole.start_ns, family.start_ns)
        whole.end_ns = max(whole.end_ns, family.end_ns)
        whole.total_ns += family.total_ns
        if family.slowest_ns > whole.slowest_ns:
            whole.slowest_ns, whole.slowest = family.slowest_ns, family.slowest
        whole.histograms += family.histograms
    return whole


def _first_word(name: str) -> str:
    return name.split(" ", 1)[0]


def _added(histograms: Iterable[str]) -> dict[int, int]:
    """The sum of histograms in JSON."""
    total: dict[str, int] = {}
    for text, times in Counter(histograms).items():
        for bucket, count in json.loads(text).items():
            total[bucket] = total.get(bucket, 0) + count * times
    return {int(bucket): count for bucket, count in total.items()}
