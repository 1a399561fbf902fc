"""Spans that the page shows: milestones, the failed, the running and the slowest; sums stand for the rest.

Level by level, from the top: each level may take half of the lines that are left, shared out evenly among the parents
above it, unless all of it fits. So the page is bounded whatever the run's size, and no level starves the next.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from otelsync.store.runs import Run
from otelsync.store.spans import StoredSpan, read
from otelsync.store.tree import DEEPEST, RunTree
from otelsync.vocabulary import SYNC_API, SYNC_BATCH, SYNC_PIPELINE, SYNC_STAGE

BUDGET: Final = 5_000
"""Lines of the page, together with those that sum up."""
FEW: Final = 6
"""Up to so many siblings of a name are shown one by one."""
SLOWEST: Final = 10
"""Beyond, so many of the slowest are, if there is room."""
MOST_FAILED: Final = 1_000
"""Failed spans for which their ancestors are looked for."""

_MOST_NAMES: Final = 100
"""Names under one parent that are told apart."""
_HEAD: Final = "substr(name, 1, instr(name, ' ') - 1)"
_NO_GROUPS: Final = ", ".join(f"'{name}'" for name in (SYNC_PIPELINE, SYNC_API, SYNC_STAGE, SYNC_BATCH))
_IS_GROUP: Final = f"name GLOB 'sync.?* *' AND instr(substr({_HEAD}, 6), '.') = 0 AND {_HEAD} NOT IN ({_NO_GROUPS})"
_KIND: Final = f"iif({_IS_GROUP}, {_HEAD}, name)"
"""Groups of a kind are siblings of one kind, though each has a name of its own."""
_TOOK: Final = "max(coalesce(end_ns, start_ns) - start_ns, 0)"
_PLACE: Final = "FROM spans INDEXED BY spans_by_parent WHERE parent_span_id = ? AND trace_id = ?"
_SUMS: Final = (
    f"SELECT {_KIND}, count(*), sum(status = 2), min(start_ns),"
    f" max(coalesce(end_ns, start_ns)), total({_TOOK}) {_PLACE} GROUP BY 1 ORDER BY 4"
)
_MEMBERS: Final = (
    f"INDEXED BY spans_by_parent WHERE parent_span_id = ? AND trace_id = ? AND {_KIND} = ? ORDER BY status = 2 DESC,"
    f" span_id IN (SELECT value FROM json_each(?)) DESC, end_ns IS NULL DESC, {_TOOK} DESC, start_ns LIMIT ?"
)

Place = tuple["Node | None", str, str]
"""A line of the page, its span id and its trace: where lines can be added."""


@dataclass(slots=True)
class Sum:
    """Siblings of one kind: all of them, or those that are not shown one by one."""

    name: str
    count: int
    failed: int
    start_ns: int
    end_ns: int
    total_ns: float


@dataclass(slots=True)
class Node:
    """A line of the page, and what stands below it."""

    span: StoredSpan | None
    sum: Sum | None = None
    children: list[Node] = field(default_factory=list)
    is_cut: bool = False
    """True if there is more below, for which there was no room."""

    @property
    def start_ns(self) -> int:
        """Start, in unix nanoseconds."""
        if self.span is not None:
            return self.span.start_ns
        return self.sum.start_ns if self.sum is not None else 0


def select(store: sqlite3.Connection, run: Run, traces: Iterable[str], budget: int = BUDGET) -> list[Node]:
    """The lines of the page, about `budget` at most, as trees."""
    selection = _Selection(store, budget)
    places: list[Place] = []
    for trace_id in traces:
        tree = RunTree(store, replace(run, trace_id=trace_id))
        places += [(None, parent, trace_id) for parent in tree.root_ids]
        selection.look_for_failures(trace_id)
    for _ in range(DEEPEST):
        if not places:
            break
        places = selection.descend(places)
    for node, _, _ in places:
        if node is not None and node.span is not None:
            node.is_cut = not node.span.leaf
    return sorted(selection.roots, key=lambda node: node.start_ns)


class _Selection:
    def __init__(self, store: sqlite3.Connection, budget: int) -> None:
        self.roots: list[Node] = []
        self._store = store
        self._left = budget
        self._for_failures = budget // 3
        self._failures = 0
        self._on_the_way: dict[str, set[str]] = {}
        """By parent: children that must be shown, because something failed below them."""

    def look_for_failures(self, trace_id: str) -> None:
        """Note what leads to failed spans. The store keeps what has failed below it findable by its id."""
        parents = self._store.execute(
            "SELECT parent_span_id, sum(failed) FROM siblings WHERE trace_id = ? AND failed > 0"
            " GROUP BY 1 ORDER BY 2 DESC, min(start_ns)",
            (trace_id,),
        ).fetchall()
        self._failures += sum(failed for _, failed in parents)
        for parent, _ in parents[:MOST_FAILED]:
            self._lead_to(parent, trace_id)

    def descend(self, places: list[Place]) -> list[Place]:
        """Add what is shown below these places; returns the places below that."""
        families = [(place, family) for place in places for family in self._families(place)]
        allowance = self._left // 2
        if sum(family.count for _, family in families) <= allowance:
            share = self._left
        else:
            families.sort(key=lambda found: (-found[1].failed, -found[1].total_ns))
            dropped, families = families[max(allowance, 1) :], families[: max(allowance, 1)]
            for (node, _, _), _ in dropped:
                if node is not None:
                    node.is_cut = True
            share = min((allowance - len(families)) // len(families), SLOWEST)
        below: list[Place] = []
        for place, family in families:
            below += self._add(place, family, max(share, 0))
        return below

    def _families(self, place: Place) -> Iterator[Sum]:
        node, parent, trace_id = place
        for number, row in enumerate(self._store.execute(_SUMS, (parent, trace_id))):
            if number >= _MOST_NAMES:
                if node is not None:
                    node.is_cut = True
                return
            yield Sum(*row)

    def _add(self, place: Place, family: Sum, share: int) -> list[Place]:
        node, parent, trace_id = place
        must = self._on_the_way.get(parent, set())
        failed = min(family.failed, max(self._for_failures * family.failed // max(self._failures, 1), 1))
        most = min(share + failed + len(must), family.count)
        if family.count <= max(FEW, most) and family.count <= self._left:
            most = family.count
        spans = list(read(self._store, _MEMBERS, (parent, trace_id, family.name, json.dumps(sorted(must)), most)))
        children = [Node(span) for span in sorted(spans, key=lambda span: (span.start_ns, span.span_id))]
        if family.count > len(spans):
            children.append(Node(None, _rest(family, spans)))
        self._left -= len(children)
        siblings = self.roots if node is None else node.children
        siblings += children
        siblings.sort(key=lambda child: (child.sum is not None, child.start_ns))
        return [(child, child.span.span_id, trace_id) for child in children if child.span is not None]

    def _lead_to(self, span_id: str, trace_id: str) -> None:
        for _ in range(DEEPEST):
            row = self._store.execute(
                "SELECT parent_span_id FROM spans INDEXED BY spans_with_children"
                " WHERE trace_id = ? AND span_id = ? AND leaf = 0",
                (trace_id, span_id),
            ).fetchone()
            if row is None or span_id in self._on_the_way.get(row[0], ()):
                return
            self._on_the_way.setdefault(row[0], set()).add(span_id)
            span_id = row[0]


def _rest(family: Sum, shown: list[StoredSpan]) -> Sum:
    """Return what is left of a family."""
    return replace(
        family,
        count=family.count - len(shown),
        failed=family.failed - sum(span.failed for span in shown),
        total_ns=max(int(family.total_ns) - sum(span.duration_ns(span.start_ns) for span in shown), 0),
    )
