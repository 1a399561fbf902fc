"""Reconciliation of a run's counts: what was fetched, what became of it, what the pipeline says of it, what came in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from otelsync.reports.figures import Discrepancy, Group, Journal, Rows, Summary
from otelsync.reports.items import Items
from otelsync.reports.values import bounded, whole
from otelsync.text.printable import printable
from otelsync.vocabulary import INTERRUPTED, SYNC_ITEMS_

_PARTS: Final = "fetched = what became of the items"


def discrepancies(summary: Summary, pipeline: Mapping[str, Any], late: Items) -> Iterator[Discrepancy]:
    """List the figures that ought to be the same and are not.

    Args:
        summary: All figures.
        pipeline: The attributes of the pipeline's span.
        late: Of the items those that ended after the pipeline, which it cannot know.
    """
    for group in summary.groups:
        yield from _of_group(group, bounded(group.name, 80), group.name)
    yield from _of_group(summary.outside, f"outside of any {summary.group_label}", None)
    if summary.ended_at_ns is not None and summary.outcome != INTERRUPTED:
        yield from _of_pipeline(summary.items, pipeline, late)
    yield from _of_store(summary.rows, summary.journals)


def _of_group(group: Group, title: str, name: str | None) -> Iterator[Discrepancy]:
    """List counts of stages that nothing recorded tells of, and items fetched by hand that did not become anything."""
    for count in group.unexplained.by_name():
        said, found = group.items[count], group.items[count] - group.unexplained[count]
        if said != found:
            yield Discrepancy(
                f"{title}: {printable(count, 40)}: sum of its stages = items and counts by hand", said, found, name
            )
    found = group.items.accounted_for + group.items_without_action
    if found != group.items.fetched:
        yield Discrepancy(f"{title}: {_PARTS}", group.items.fetched, found, name)


def _of_pipeline(items: Items, pipeline: Mapping[str, Any], late: Items) -> Iterator[Discrepancy]:
    """List counts of the pipeline's own that are not the sum of all that was recorded."""
    said = {name: whole(pipeline.get(SYNC_ITEMS_ + name)) for name in items.by_name()}
    for name, count in said.items():
        if count not in (items[name], items[name] - late[name]):
            yield Discrepancy(f"{printable(name, 40)}: pipeline = sum of what was recorded", count, items[name])


def _of_store(rows: Rows, journals: Iterable[Journal]) -> Iterator[Discrepancy]:
    if rows.spans - rows.running != rows.spans_counted:
        yield Discrepancy("spans in the store", rows.spans_counted, rows.spans - rows.running)
    if rows.logs != rows.logs_counted:
        yield Discrepancy("log records in the store", rows.logs_counted, rows.logs)
    for journal in journals:
        if journal.recorded != journal.accounted_for:
            what = f"journal {journal.name}: recorded = shipped + folded + dropped + pending"
            yield Discrepancy(what, journal.recorded, journal.accounted_for)
