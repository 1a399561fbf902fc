"""Groups of a run that a report is divided by: a kind of groups, or an attribute."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from otelsync.vocabulary import GROUP, SYNC_REPO, kind_word, part_of

REPO: Final = "repo"
"""The kind to divide by where a run has no groups."""
MOST_KINDS: Final = 20
"""Kinds of groups that are told apart."""

_GROUPS: Final = (
    "SELECT parent_span_id, under, name, count, start_ns FROM siblings WHERE trace_id = :id AND name GLOB 'sync.?* *'"
    " UNION ALL SELECT parent_span_id, '', name, 1, start_ns FROM spans INDEXED BY spans_open"
    " WHERE trace_id = :id AND end_ns IS NULL AND name GLOB 'sync.?* *'"
)
_AROUND: Final = (
    "SELECT parent_span_id, name FROM spans INDEXED BY spans_with_children"
    " WHERE trace_id = ? AND span_id = ? AND leaf = 0"
)


@dataclass(frozen=True)
class Grouping:
    """A way to divide a run.

    Args:
        by: What users call it: a kind of groups, or an attribute.
        attribute: Whose values name the groups.
        kinds: Kinds of groups in the run, outermost first.
    """

    by: str
    attribute: str
    kinds: tuple[str, ...] = ()

    def innermost(self, attributes: Mapping[str, Any]) -> tuple[str, str]:
        """Return kind and name of the innermost group that a span's attributes name; empty texts if there is none."""
        for kind in reversed(self.kinds or (REPO,)):
            name = attributes.get(f"sync.{kind}")
            if isinstance(name, str) and name:
                return kind, name
        return "", ""


def grouping(store: sqlite3.Connection, traces: Iterable[str], wanted: str | None = None) -> Grouping:
    """Return how to divide a run.

    Args:
        store: From `otelsync.store.runs.open_store`.
        traces: The run's.
        wanted: A kind of groups in the run, or an attribute. None: the outermost kind.
    """
    kinds = _kinds(store, traces)
    if wanted is None:
        wanted = kinds[0] if kinds else REPO
    kind = kind_word(wanted)
    if kind in kinds or wanted == REPO:
        return Grouping(kind, f"sync.{kind}" if kind != REPO else SYNC_REPO, kinds)
    return Grouping(wanted, wanted, kinds)


@dataclass
class _Kind:
    """Groups of one kind: how many groups there are around the outermost of them, how many stand there, the first."""

    depth: int
    count: int = 0
    start_ns: int = 2**63 - 1

    def add(self, depth: int, count: int, start_ns: int) -> None:
        if depth < self.depth:
            self.depth, self.count = depth, 0
        if depth == self.depth:
            self.count += count
        self.start_ns = min(self.start_ns, start_ns)


def _kinds(store: sqlite3.Connection, traces: Iterable[str]) -> tuple[str, ...]:
    """Kinds of groups, the outermost first; of several, that of which there are most."""
    found: dict[str, _Kind] = {}
    for trace_id in traces:
        above = _Above(store, trace_id)
        for parent, under, name, count, start_ns in store.execute(_GROUPS, {"id": trace_id}).fetchall():
            sort, kind = part_of(name)
            if sort == GROUP and (kind in found or len(found) < MOST_KINDS):
                depth = above.groups(parent) + sum(part_of(between)[0] == GROUP for between in under.split("\n"))
                found.setdefault(kind, _Kind(depth)).add(depth, count, start_ns)
    return tuple(sorted(found, key=lambda kind: (found[kind].depth, -found[kind].count, found[kind].start_ns, kind)))


@dataclass
class _Above:
    """Numbers of groups around spans of a trace."""

    store: sqlite3.Connection
    trace_id: str
    known: dict[str, int] = field(default_factory=dict)

    def groups(self, span_id: str) -> int:
        """Return how many groups there are from a span outwards, with itself."""
        way = list(self._way(span_id))
        groups = self.known.get(way[-1][0], 0) if way else 0
        for outer, is_group in reversed(way):
            groups = self.known.setdefault(outer, groups + is_group)
        return groups

    def _way(self, span_id: str) -> Iterator[tuple[str, bool]]:
        """Walk outwards, to what is known or has nothing around it."""
        seen: set[str] = set()
        while span_id and span_id not in seen:
            seen.add(span_id)
            if span_id in self.known:
                yield span_id, False
                return
            row = self.store.execute(_AROUND, (self.trace_id, span_id)).fetchone()
            if row is None:
                return
            yield span_id, part_of(row[1])[0] == GROUP
            span_id = row[0]
