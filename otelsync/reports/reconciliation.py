"""Reconciliation of a run's counts: what was fetched, what became of it, and where it was counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Final

from otelsync.reports.figures import Discrepancy, Group, Items, Journal, Rows, Summary

_PARTS: Final = "= created + updated + unchanged + skipped + failed"


def discrepancies(summary: Summary, group_by: str) -> Iterator[Discrepancy]:
    """The figures that ought to be the same and are not. `group_by`: what its groups are, however long that is."""
    items = summary.items
    if items.missing:
        yield Discrepancy(f"pipeline: fetched {_PARTS}", items.fetched, items.accounted_for)
    for group in summary.groups:
        yield from _of_group(group)
    if summary.items_from == "stages" and summary.groups:  # a total of the pipeline's own, and no sum
        yield from _of_sum(items, [*summary.groups, summary.outside], group_by)
    yield from _of_store(summary.rows, summary.journals)


def _of_group(group: Group) -> Iterator[Discrepancy]:
    name = group.name if len(group.name) <= 80 else group.name[:79] + "…"
    accounted_for = group.items.accounted_for
    if group.items.missing:
        yield Discrepancy(f"{name}: fetched {_PARTS}", group.items.fetched, accounted_for, group.name)
    if group.pull_requests > accounted_for:
        what = f"{name}: pull requests in the store"
        yield Discrepancy(what, accounted_for, group.pull_requests, group.name)


def _of_sum(items: Items, parts: Sequence[Group], group_by: str) -> Iterator[Discrepancy]:
    total = sum((group.items for group in parts), Items())
    for part in fields(Items) if total else ():
        expected, found = getattr(items, part.name), getattr(total, part.name)
        if expected != found:
            yield Discrepancy(f"{part.name}: pipeline = sum by {group_by}", expected, found)


def _of_store(rows: Rows, journals: Iterable[Journal]) -> Iterator[Discrepancy]:
    if rows.spans - rows.running != rows.spans_counted:
        yield Discrepancy("spans in the store", rows.spans_counted, rows.spans - rows.running)
    if rows.logs != rows.logs_counted:
        yield Discrepancy("log records in the store", rows.logs_counted, rows.logs)
    for journal in journals:
        if journal.recorded != journal.accounted_for:
            what = f"journal {journal.name}: recorded = shipped + folded + dropped + pending"
            yield Discrepancy(what, journal.recorded, journal.accounted_for)
