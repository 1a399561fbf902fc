"""One pass over the spans of a run, each counted in the group that it belongs to; then one over those that failed."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from otelsync.reports.accounting import Accounting, Share
from otelsync.reports.failures import Failures
from otelsync.reports.grouping import Grouping
from otelsync.reports.items import NOTHING, Items
from otelsync.reports.own_errors import OwnErrors
from otelsync.reports.rate_limits import RateLimits
from otelsync.reports.sweep import CLIENT, Step
from otelsync.reports.tally import Tally, key_of
from otelsync.reports.values import OTHER, bounded
from otelsync.store.accounts import Account
from otelsync.store.schema import STATUS_ERROR
from otelsync.store.spans import read
from otelsync.vocabulary import GROUP, ITEM

MOST_GROUPS: Final = 2_000
"""Groups that are told apart; all others are one."""
_LONGEST_NAME: Final = 500
_FAILED: Final = f"INDEXED BY spans_by_time WHERE trace_id = ? AND status = {STATUS_ERROR} ORDER BY start_ns"


@dataclass
class Reading:
    """Figures from the spans of a run.

    Args:
        grouping: How the run is divided.
        root: Trace and span id of the pipeline.
        accounting: Of the run; nothing has ended in it yet.
    """

    grouping: Grouping
    root: tuple[str, str]
    accounting: Accounting
    tallies: dict[str, Tally] = field(default_factory=dict)
    outside: Tally = field(init=False)
    failures: Failures = field(default_factory=Failures)
    rate_limits: RateLimits = field(default_factory=RateLimits)
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    """The pipeline's attributes."""
    error: str = ""
    """The pipeline's error."""
    rows: int = 0
    running: int = 0
    failed_requests: int = 0
    """Requests that failed, in a stage that did not."""
    late_items: Items = NOTHING
    """Those that ended after the pipeline."""
    _places: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Of each span that failed, the name of its group ('' for none), and kind and key of the item that it is about."""
    _summed: dict[str, list[tuple[str, Any, int]]] = field(default_factory=dict)
    """Items that are summed up, by the id of the span that they stand below."""
    _root_group: str | None = None
    _pipeline_end_ns: int = 2**63 - 1
    _inner: dict[tuple[str, str], str] = field(default_factory=dict)
    """By kind and name of groups that are no groups of the report: which one of the report they are in."""

    def __post_init__(self) -> None:
        self.outside = Tally(self.grouping)

    def begin(self, step: Step) -> None:
        """Find the group of a span."""
        said, outer = step.attributes.get(self.grouping.attribute), step.parent
        unsaid = said is None or said == ""
        if step.sort == GROUP and self.grouping.attribute == f"sync.{step.part_kind}":
            said, unsaid = step.name.partition(" ")[2], False
        if outer is not None and (unsaid or said == outer.group_from):
            step.group, step.group_from = outer.group, outer.group_from
        elif not unsaid:
            step.group, step.group_from = self._known(group_name(said)), said
        if step.group is None or step.sort == GROUP:
            self._know_inner(step)
        if self._summed:
            self._take_summed(self._summed.pop(step.span_id, ()), step)

    def expect(self, items: Iterable[tuple[str, str, Any, int]]) -> None:
        """Take in items that are summed up, as `ordinary_items` lists them, with the spans that they stand below."""
        for parent, *item in items:
            self._summed.setdefault(parent, []).append((item[0], item[1], item[2]))

    def add(self, step: Step) -> None:
        """Take in a span that has ended."""
        self.rows += 1
        tally = self.outside if step.group is None else self.tallies[step.group]
        share = self.accounting.end(step)
        self._take_items(tally, share)
        if share.items and step.end_ns > self._pipeline_end_ns:
            self.late_items += share.items
        tally.add(step, share.outcome)
        if step.running:
            self.running += 1
        if step.status == STATUS_ERROR:
            self._fail(step)
        elif step.sort == ITEM:
            return
        self.rate_limits.add(step)
        if (step.trace_id, step.span_id) == self.root:
            self.pipeline, self._root_group = step.attributes, step.group
            self._pipeline_end_ns = 2**63 - 1 if step.running else step.end_ns
            self.error = bounded(step.status_message) if step.failed else ""

    def _take_summed(self, items: Iterable[tuple[str, Any, int]], step: Step | None = None) -> None:
        for action, said, number in items:
            group = None if step is None else step.group
            if said not in (None, ""):
                group = self._known(group_name(said))
            tally = self.outside if group is None else self.tallies[group]
            tally.items += self.accounting.item("" if step is None else step.span_id, action, number)
            tally.item_spans += number
            tally.without_action += 0 if action else number

    def _take_items(self, tally: Tally, share: Share) -> None:
        if share.items:
            tally.items += share.items
        if share.unexplained:
            tally.unexplained += share.unexplained

    def close(self) -> Account:
        """Return the account of the run, when all its spans have been taken in."""
        for items in self._summed.values():
            self._take_summed(items)
        share = self.accounting.close()
        self._take_items(self.outside if self._root_group is None else self.tallies[self._root_group], share)
        assert self.accounting.account is not None
        return self.accounting.account

    def read_errors(self, store: sqlite3.Connection, traces: Iterable[str], errors: Collection[str]) -> OwnErrors:
        """Take in the errors, now that it is known which failures were none; returns those of groups themselves."""
        own = OwnErrors(self.grouping, errors)
        for trace_id in traces if self._places else ():
            for span in read(store, _FAILED, (trace_id,)):
                group, *item = self._places.get(span.span_id, ("", "", ""))
                own.add(span, group)
                if span.span_id in errors:
                    self.tallies.get(group, self.outside).fail(span)
                    self.failures.add(span, bounded(self.grouping.innermost(span.attributes)[1]), (item[0], item[1]))
        return own

    def _fail(self, step: Step) -> None:
        if step.kind == CLIENT and step.parent is not None:
            self.failed_requests += not step.parent.failed
        item: Step | None = step
        while item is not None and item.sort != ITEM:  # a request for an item's details is about that item
            item = item.parent
        kind, key = ("", "") if item is None else (bounded(item.part_kind, 40), key_of(item.attributes))
        self._places[step.span_id] = step.group or "", kind, key

    def _know_inner(self, step: Step) -> None:
        """Learn which group of the report another group is in, or take it over for what has nothing around it."""
        if step.group is not None:
            if step.sort == GROUP and len(self._inner) < MOST_GROUPS:
                self._inner.setdefault((step.part_kind, group_name(step.name.partition(" ")[2])), step.group)
            return
        for kind in reversed(self.grouping.kinds):
            name = step.attributes.get(f"sync.{kind}")
            if isinstance(name, str) and (kind, group_name(name)) in self._inner:
                step.group = self._inner[kind, group_name(name)]
                return

    def _known(self, name: str) -> str:
        if name not in self.tallies:
            if len(self.tallies) >= MOST_GROUPS:
                name = OTHER
            self.tallies.setdefault(name, Tally(self.grouping))
        return name


def group_name(value: object) -> str:
    """Return a group's name. Two that are the same for as long as anybody reads stay apart."""
    text = value if isinstance(value, str) else str(value)
    if len(text) <= _LONGEST_NAME:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    return f"{text[:_LONGEST_NAME]}…{digest}"
