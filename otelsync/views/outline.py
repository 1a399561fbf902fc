"""Outline of a waterfall, line by line: single spans, rolled-up ones, and notes on what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from otelsync.store.spans import StoredSpan, otlp_json
from otelsync.store.tree import DEEPEST, Family, RunTree


@dataclass(frozen=True, slots=True)
class Entry:
    """One line."""

    depth: int
    span: StoredSpan | None = None
    """The span that is shown; of a rolled-up family the slowest one."""
    family: Family | None = None
    """The family that the line sums up; None for a single span."""
    note: str = ""
    """A remark in place of a span."""


def outline(tree: RunTree) -> Iterator[Entry]:
    """The run with siblings of a kind rolled up beyond a few, the failed and the running ones always shown."""
    return _families(tree, tree.roots(), 0)


def unrolled(tree: RunTree) -> Iterator[Entry]:
    """Every span of the run, as a tree. Memory does not grow with their number."""
    levels = [tree.children(tree.root_ids)]
    while levels:
        span, has_children = next(levels[-1], (None, False))
        if span is None:
            levels.pop()
            continue
        yield Entry(len(levels) - 1, span)
        if has_children and len(levels) >= DEEPEST:
            yield Entry(len(levels), note=_TOO_DEEP)
        elif has_children:
            levels.append(tree.children([span.span_id]))


def outline_json(tree: RunTree) -> Iterator[dict[str, Any]]:
    """The outline as spans with OTLP/JSON's names; one that stands for its siblings has a field ``rollup``."""
    seen: set[str] = set()
    for entry in outline(tree):
        if entry.span is None or (entry.family is None and entry.span.span_id in seen):
            continue
        seen.add(entry.span.span_id)
        fields = otlp_json(entry.span)
        if entry.family is not None:
            fields["rollup"] = _rollup(entry.family)
        yield fields


def _rollup(family: Family) -> dict[str, Any]:
    p50, p95 = family.percentiles(0.5, 0.95)
    rollup: dict[str, Any] = {
        "count": family.count,
        "failed": family.failed,
        "p50Ms": round(p50 / 1e6, 3),
        "p95Ms": round(p95 / 1e6, 3),
    }
    return rollup | ({"running": family.running} if family.running else {})


def _families(tree: RunTree, families: Iterable[Family], depth: int) -> Iterator[Entry]:
    for family in families:
        if depth >= DEEPEST:
            yield Entry(depth, note=_TOO_DEEP)
            return
        if family.can_be_listed:
            for span in tree.members(family):
                yield Entry(depth, span)
                yield from _families(tree, tree.under(span), depth + 1)
        else:
            yield from _rolled_up(tree, family, depth)


def _rolled_up(tree: RunTree, family: Family, depth: int) -> Iterator[Entry]:
    yield Entry(depth, tree.slowest(family) or next(iter(tree.running(family, 1)), None), family)
    for spans, total, what in (
        (tree.failed(family), family.failed, "failed"),
        (tree.running(family), family.running, "running"),
    ):
        for span in spans:
            yield Entry(depth + 1, span)
        if total > len(spans):
            yield Entry(depth + 1, note=f"and {total - len(spans):,} more {what}")
    yield from _families(tree, tree.below(family), depth + 1)


_TOO_DEEP = "what lies deeper is not shown; --json --all has it"
