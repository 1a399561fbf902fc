"""The tree of one run, siblings of a kind rolled up: read from the sums that the store keeps, not from every span.

What is read: the sums, and the ids of the spans that have more than a little below them. All others are read only where
a few of them are shown one by one.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from otelsync.store.histogram import added, percentile, sum_up
from otelsync.store.own_time import MOST_READ, OwnTimes, own_times
from otelsync.store.runs import Run
from otelsync.store.schema import path
from otelsync.store.spans import COLUMNS, StoredSpan, corrected, read
from otelsync.store.task_traces import is_task
from otelsync.vocabulary import ITEM, NAMED_BATCH, NAMED_STAGE, part_of

FEW = 3
"""Up to so many siblings of a kind are shown one by one."""
FEW_NOTABLE = 8
"""The same for tasks, stages and batches: what became of each attempt is worth a line, and what each was about."""
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


_MOST_ABOVE = 3
"""Spans above one that are looked at for an item."""
_MOST_READ = 20_000
"""Small spans whose children are read one by one. There are only as many as are shown."""
_PARENTS = "SELECT span_id, parent_span_id, name FROM spans"

Place = tuple[str, str]
"""Place of spans: the id of their parent and '', or of an ancestor and the names between, as in `siblings`."""


@dataclass(slots=True)
class Family:
    """Spans of one kind: of one name, under one parent or under several that are rolled up themselves."""

    name: str
    places: dict[tuple[Place, str], None] = field(default_factory=dict)
    """Their places, with the name they have there: one and the same, unless several are put together."""
    count: int = 0
    """Number of those that have ended."""
    running: int = 0
    failed: int = 0
    failed_under: list[tuple[str, str]] = field(default_factory=list)
    """Parent and name of those that failed."""
    start_ns: int = 2**63 - 1
    end_ns: int = 0
    total_ns: int = 0
    own_ns: int = 0
    """Nanoseconds in which none of its children ran, where that has been read."""
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
        counts = {int(bucket): count for bucket, count in added(self.histograms).items()}
        return [percentile(counts, fraction, longest=max(self.slowest_ns, 0)) for fraction in fractions]

    def add(self, place: Place, row: Sequence[Any]) -> None:
        """Take in the sums of spans in one place."""
        name, count, failed, start_ns, end_ns, total_ns, slowest_ns, slowest_id, slowest_start_ns, histogram = row
        self.places[place, name] = None
        self.count += count
        if failed:
            self.failed += failed
            self.failed_under.append((place[0], name))
        self.start_ns = min(self.start_ns, start_ns)
        self.end_ns = max(self.end_ns, end_ns)
        self.total_ns += total_ns
        if slowest_ns > self.slowest_ns:
            self.slowest_ns, self.slowest = slowest_ns, (slowest_start_ns, slowest_id)
        self.histograms.append(histogram)

    def add_running(self, span: StoredSpan) -> None:
        """Take in a span that has not ended."""
        self.places[(span.parent_span_id, ""), span.name] = None
        self.running += 1
        self.start_ns = min(self.start_ns, span.start_ns)

    @property
    def can_be_listed(self) -> bool:
        """True if these are a few spans, to be shown one by one, and the parents of all of them are known."""
        is_notable = is_task(self.name) or self.name.startswith((NAMED_STAGE, NAMED_BATCH))
        is_few = self.size <= (FEW_NOTABLE if is_notable else FEW)
        return is_few and not any(under for (_, under), _ in self.places)


class RunTree:
    """The spans of one trace by parent. `store` must stay open."""

    def __init__(self, store: sqlite3.Connection, run: Run) -> None:
        self.run = run
        self._store = store
        self._sums: dict[Place, list[Sequence[Any]]] = {}
        for _, parent, under, *row, _ in store.execute("SELECT * FROM siblings WHERE trace_id = ?", (run.trace_id,)):
            self._sums.setdefault((parent, under), []).append(row)
        self._running: dict[str, list[StoredSpan]] = {}
        is_open = "INDEXED BY spans_open WHERE trace_id = ? AND end_ns IS NULL ORDER BY start_ns"
        for span in read(store, is_open, (run.trace_id,)):
            self._running.setdefault(span.parent_span_id, []).append(span)
        self._read: dict[Place, list[Sequence[Any]]] = {}
        """The sums below small spans that are shown one by one."""
        self._with_children: dict[tuple[str, str], list[str]] = {}
        """By parent and name, the spans under which `siblings` has something, or this object has read something."""
        self.root_ids = ["", *self._find_parents()]
        """The parent ids of the topmost spans: nothing, or an id that has not been recorded."""

    def roots(self) -> list[Family]:
        """Spans without a parent, and those whose parent has not been recorded."""
        return self.families((parent, "") for parent in self.root_ids)

    def under(self, span: StoredSpan) -> list[Family]:
        """The children of one span."""
        if span.leaf:
            self._read_small(span.span_id)
        return self.families([(span.span_id, "")])

    def families(self, places: Iterable[Place]) -> list[Family]:
        """The spans in all these places by kind, earliest first."""
        found: dict[str, Family] = {}
        for place in places:
            rows = self._read[place] if place in self._read else self._sums.get(place, [])
            for row in rows:
                name = row[0]
                if name not in found:
                    found[name] = Family(name)
                found[name].add(place, row)
            for span in self._running.get(place[0], ()) if place[1] == "" else ():
                found.setdefault(span.name, Family(span.name)).add_running(span)
        return sorted(by_kind(found.values()), key=lambda family: (family.start_ns, family.name))

    def named(self, span_ids: Sequence[str]) -> list[StoredSpan]:
        """The spans of these ids, earliest first."""
        among = "INDEXED BY spans_by_time WHERE trace_id = ? AND span_id IN (SELECT value FROM json_each(?))"
        return sorted(self._read_spans(among, (self.run.trace_id, json.dumps(list(span_ids)))), key=_by_time)

    def items_around(self, spans: Sequence[StoredSpan]) -> dict[str, StoredSpan]:
        """The item that each of these spans stands in, by the id of the span, if it is not far above."""
        found: dict[str, StoredSpan] = {}
        above = {span.span_id: span.parent_span_id for span in spans if part_of(span.name)[0] != ITEM}
        for _ in range(_MOST_ABOVE):
            parents = {span.span_id: span for span in self.named([*set(above.values())])} if above else {}
            at = {key: parents[parent] for key, parent in above.items() if parent in parents}
            found |= {key: span for key, span in at.items() if part_of(span.name)[0] == ITEM}
            above = {key: span.parent_span_id for key, span in at.items() if key not in found}
        return found

    def kinds(self, own: Mapping[str, int] | None = None) -> list[Family]:
        """All spans of the run that have ended, by kind, those in which most time went first; without histograms.

        `own`: own times by name, which then decide.
        """
        # With max(), SQLite takes the bare columns from the row that holds the maximum.
        rows = self._store.execute(
            "SELECT name, sum(count), sum(failed), total(total_ns), max(slowest_ns), slowest_start_ns, slowest_span_id"
            " FROM siblings WHERE trace_id = ? GROUP BY name",
            (self.run.trace_id,),
        )
        families = [
            Family(name, count=count, failed=failed, total_ns=int(total), slowest_ns=slowest, slowest=tuple(whose))
            for name, count, failed, total, slowest, *whose in rows
        ]
        for family in families:
            family.own_ns = 0 if own is None else own.get(family.name, 0)
        return sorted(by_kind(families, MOST_KINDS), key=lambda family: (-family.own_ns, -family.total_ns, family.name))

    def own_times(self) -> OwnTimes | None:
        """Own times of the spans; None if there are so many that it takes too long for somebody who waits."""
        if self.run.spans > MOST_READ:
            return None
        return own_times(self._store, self.run.trace_id, self.run.last_ns)

    def below(self, family: Family) -> list[Family]:
        """The children of all spans of a family, by kind."""
        return self.families(self._places_below(family))

    def members(self, family: Family) -> list[StoredSpan]:
        """Each span of a family that can be listed."""
        spans = [span for (parent, _), name in family.places for span in self._read_family(parent, name)]
        return sorted(spans, key=_by_time)

    def failed(self, family: Family, most: int = MOST_FAILED) -> list[StoredSpan]:
        """The first failed spans of a family."""
        spans: list[StoredSpan] = []
        for parent, name in family.failed_under:
            if len(spans) >= most:
                break
            spans += self._read_family(parent, name, failed=True, most=most - len(spans))
        return sorted(spans, key=_by_time)

    def running(self, family: Family, most: int = MOST_RUNNING) -> list[StoredSpan]:
        """The first spans of a family that have not ended."""
        parents = {(place[0], name): None for place, name in family.places if place[1] == ""}
        spans = (s for parent, name in parents for s in self._running.get(parent, ()) if s.name == name)
        return list(islice(spans, most))

    def slowest(self, family: Family) -> StoredSpan | None:
        """The slowest span of a family; None if none has ended."""
        this_one = "INDEXED BY spans_by_time WHERE trace_id = ? AND start_ns = ? AND span_id = ? LIMIT 1"
        return next(self._read_spans(this_one, (self.run.trace_id, *family.slowest)), None)

    def children(self, parents: Iterable[str]) -> Iterator[tuple[StoredSpan, bool]]:
        """The spans under `parents` one by one, earliest first, each with whether it has children."""
        for parent in parents:
            for *row, has_children in self._store.execute(
                f"SELECT {COLUMNS}, EXISTS (SELECT 1 FROM spans AS below INDEXED BY spans_by_parent"
                " WHERE below.parent_span_id = spans.span_id AND below.trace_id = spans.trace_id)"
                " FROM spans INDEXED BY spans_by_parent WHERE parent_span_id = ? AND trace_id = ?"
                " ORDER BY start_ns, span_id",
                (parent, self.run.trace_id),
            ):
                yield corrected(StoredSpan(*row), self.run.corrected), bool(has_children)

    def _places_below(self, family: Family) -> Iterator[Place]:
        for (parent, under), name in family.places:
            yield parent, path(under, name)
            if not under:
                for span_id in self._with_children.get((parent, name), ()):
                    yield span_id, ""

    def _read_small(self, span_id: str) -> None:
        """Sum up what stands below a span and is summed up elsewhere together with others."""
        left = [span_id]
        while left and len(self._read) < _MOST_READ:
            parent = left.pop()
            if (parent, "") in self._read:
                continue
            rows: dict[str, list[StoredSpan]] = {}
            for span, has_children in self.children([parent]):
                if not span.running:
                    rows.setdefault(span.name, []).append(span)
                if has_children:
                    left.append(span.span_id)
                    if span.leaf:
                        self._with_children.setdefault((parent, span.name), []).append(span.span_id)
            self._read[parent, ""] = [_summed(name, spans) for name, spans in rows.items()]

    def _read_family(self, parent: str, name: str, *, failed: bool = False, most: int = -1) -> Iterator[StoredSpan]:
        index, condition = ("spans_failed", "AND status = 2") if failed else ("spans_by_parent", "")
        # Without the index being named, SQLite goes through the whole trace because that is in order already.
        return self._read_spans(
            f"INDEXED BY {index} WHERE parent_span_id = ? AND name = ? AND trace_id = ? {condition}"
            " ORDER BY start_ns LIMIT ?",
            (parent, name, self.run.trace_id, most),
        )

    def _read_spans(self, rest: str, parameters: Sequence[object]) -> Iterator[StoredSpan]:
        return (corrected(span, self.run.corrected) for span in read(self._store, rest, parameters))

    def _find_parents(self) -> list[str]:
        """Note which spans have children, by their own parent and name. Returns the parents that are not there."""
        missing = ({parent for parent, _ in self._sums} | self._running.keys()) - {""}
        reachable = {""}
        for span_id, parent, name in self._store.execute(
            f"{_PARENTS} INDEXED BY spans_with_children WHERE trace_id = ? AND leaf = 0", (self.run.trace_id,)
        ):
            reachable.add(span_id)
            if span_id in missing:
                missing.discard(span_id)
                self._with_children.setdefault((parent, name), []).append(span_id)
        if missing:  # children may have come after their parent: rare, so there is no index for it
            for span_id, parent, name in self._store.execute(
                f"{_PARENTS} INDEXED BY spans_by_time WHERE trace_id = ? AND span_id IN"
                " (SELECT value FROM json_each(?))",
                (self.run.trace_id, json.dumps(list(missing))),
            ):
                if parent in reachable:
                    missing.discard(span_id)
                    self._with_children.setdefault((parent, name), []).append(span_id)
        return sorted(missing)


def _summed(name: str, spans: Sequence[StoredSpan]) -> Sequence[Any]:
    """A row like those of `siblings`, of spans that have ended."""
    ends = [span.end_ns or 0 for span in spans]
    failed = sum(span.failed for span in spans)
    return name, *sum_up([span.start_ns for span in spans], ends, [span.span_id for span in spans], failed)


def _by_time(span: StoredSpan) -> tuple[int, str]:
    return span.start_ns, span.span_id


def by_kind(families: Iterable[Family], most: int = MOST_NAMES) -> list[Family]:
    """Families put together by the first word of their name where there are more than `most` of it."""
    families = list(families)
    by_word: dict[str, list[Family]] = defaultdict(list)
    for family in families:
        by_word[family.name.split(" ", 1)[0]].append(family)
    if len(by_word) > MOST_NAMES:
        return [merged("*", families)]
    kinds: list[Family] = []
    for word, alike in by_word.items():
        kinds += alike if len(alike) <= most else [merged(f"{word} *", alike)]
    return kinds


def merged(name: str, families: Iterable[Family]) -> Family:
    """One family of all."""
    whole = Family(name)
    for family in families:
        whole.places |= family.places
        whole.count += family.count
        whole.running += family.running
        whole.failed += family.failed
        whole.failed_under += family.failed_under
        whole.start_ns = min(whole.start_ns, family.start_ns)
        whole.end_ns = max(whole.end_ns, family.end_ns)
        whole.total_ns += family.total_ns
        whole.own_ns += family.own_ns
        if family.slowest_ns > whole.slowest_ns:
            whole.slowest_ns, whole.slowest = family.slowest_ns, family.slowest
        whole.histograms += family.histograms
    return whole
