"""Sums over one group of spans: items, API calls, batches, waits, time, and the items worth naming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappush, heappushpop
from typing import Final

from otelsync import vocabulary
from otelsync.reports.figures import Batches, Group, Item, Operation
from otelsync.reports.grouping import Grouping
from otelsync.reports.items import NOTHING
from otelsync.reports.resends import sent_again
from otelsync.reports.sweep import STATUS_ERROR, Step
from otelsync.reports.time_spent import CATEGORIES, category, nanoseconds
from otelsync.reports.values import OTHER, bounded, whole
from otelsync.store.spans import StoredSpan

MOST_FAILED: Final = 100
"""Failed items that are named, of each group."""
MOST_SLOW: Final = 10
MOST_NAMES: Final = 100
"""Names of spans that are told apart in a group."""
MOST_WITHIN: Final = 50
"""Groups within a group that are named."""
MOST_BATCHES: Final = 50
"""Names of batches that are told apart in a group."""

_WORST_FIRST: Final = ("interrupted", "running", "failure", "cancelled", "partial", "success")


class Tally:
    """Takes in the spans of a group, in the order in which they ended. `grouping`: how the run is divided."""

    def __init__(self, grouping: Grouping) -> None:
        self.items = NOTHING
        self.unexplained = NOTHING
        """Of these, what stages say that they counted, and nothing else tells of."""
        self.item_spans = self.without_action = self.resent = self.waited_ns = self.errors = self.failed_count = 0
        self.failed: list[Item] = []
        """The first failed items."""
        self.names: dict[str, list[int]] = {}
        """By name of its spans: how many there are, how many failed, total and own time, the slowest."""
        self.batches: dict[str, list[int]] = {}
        """By name: how many there are, succeeded and failed, what they hold, total time, the slowest."""
        self._grouping = grouping
        self._time = dict.fromkeys(CATEGORIES, 0)
        self._outcomes: dict[tuple[str, str, str], str] = {}
        """Of its spans of groups, by the id of what is around, the key of the part, and their own id."""
        self._within: dict[str, dict[str, None]] = {}
        self._groups_ns = 0
        self._first_ns, self._last_ns = 2**63 - 1, 0
        self._slowest: list[tuple[int, int, Item]] = []
        self._seen = 0

    def add(self, step: Step, outcome: str) -> None:
        """Take in a span. `outcome`: what follows from all that is recorded of it."""
        self._seen += 1
        own, took = step.own_ns, step.duration_ns
        self._time[category(step)] += own
        self._name(step, own, took)
        if step.start_ns < self._first_ns:
            self._first_ns = step.start_ns
        if step.end_ns > self._last_ns:
            self._last_ns = step.end_ns
        sort = step.sort
        if sort == vocabulary.ITEM:
            self._item(step, took)
        elif sort == vocabulary.GROUP:
            self._group(step, outcome, took)
        else:
            if sort == vocabulary.BATCH:
                self._batch(step, outcome, took)
            elif step.is_wait:
                self.waited_ns += took
            # Before a task began; no span covers it.
            self._time["queue"] += nanoseconds(step.attributes.get(vocabulary.SYNC_QUEUE_WAIT_SECONDS))
            self.resent += sent_again(step)

    def group(self, name: str) -> Group:
        """The figures."""
        calls = [figures for called, figures in self.names.items() if called.startswith(vocabulary.NAMED_API)]
        return Group(
            name=name,
            outcome=self._outcome(),
            items=self.items,
            unexplained=self.unexplained,
            item_spans=self.item_spans,
            items_without_action=self.without_action,
            errors=self.errors,
            api_calls=sum(figures[0] for figures in calls),
            api_failed=sum(figures[1] for figures in calls),
            resent=self.resent,
            duration_ns=self._groups_ns or max(self._last_ns - self._first_ns, 0),
            waited_ns=self.waited_ns,
            started_at_ns=min(self._first_ns, self._last_ns),
            time_ns=dict(self._time),
            operations=operations(self.names),
            batches=batches(self.batches),
            failed=tuple(self.failed),
            failed_count=self.failed_count,
            slowest=tuple(item for *_, item in sorted(self._slowest, reverse=True)),
            within={kind: tuple(names) for kind, names in self._within.items()},
        )

    def fail(self, span: StoredSpan) -> None:
        """Count an error that arose here."""
        self.errors += 1
        if vocabulary.part_of(span.name)[0] == vocabulary.ITEM:
            self.failed_count += 1
            if len(self.failed) < MOST_FAILED:
                self.failed.append(item_of(span, span.duration_ns(span.start_ns), self._grouping))

    def _name(self, step: Step, own: int, took: int) -> None:
        name = step.name
        figures = self.names.get(name)
        if figures is None:
            if len(self.names) >= MOST_NAMES:
                name = vocabulary.NAMED_API + OTHER if step.sort == vocabulary.API else OTHER
            figures = self.names.setdefault(name, [0, 0, 0, 0, 0])
        figures[0] += 1
        figures[1] += step.status == STATUS_ERROR
        figures[2] += took
        figures[3] += own
        if took > figures[4]:
            figures[4] = took

    def _item(self, step: Step, took: int) -> None:
        if not step.running:
            self.item_spans += 1
            self.without_action += not step.attributes.get(vocabulary.SYNC_ACTION)
        if len(self._slowest) < MOST_SLOW:
            heappush(self._slowest, (took, -self._seen, item_of(step, took, self._grouping)))
        elif took > self._slowest[0][0]:
            heappushpop(self._slowest, (took, -self._seen, item_of(step, took, self._grouping)))

    def _group(self, step: Step, outcome: str, took: int) -> None:
        kind, name = step.part_kind, bounded(step.name.partition(" ")[2])
        if self._grouping.attribute != f"sync.{kind}":
            self._note_within(kind, name)
        outer = step.parent
        while outer is not None and outer.sort != vocabulary.GROUP:
            outer = outer.parent
        if outer is not None and outer.group == step.group:
            return  # it is a part of the one around, whose outcome and time say it
        self._groups_ns += took
        place = step.parent_id, str(step.attributes.get(vocabulary.SYNC_PART_KEY, ""))
        if whole(step.attributes.get(vocabulary.SYNC_RECOVERED)):
            self._outcomes = {key: said for key, said in self._outcomes.items() if key[:2] != place}
        if outcome not in ("", "retry"):
            self._outcomes[*place, step.span_id] = outcome

    def _note_within(self, kind: str, name: str) -> None:
        names = self._within.setdefault(kind, {}) if len(self._within) < MOST_WITHIN else self._within.get(kind)
        if names is not None and len(names) < MOST_WITHIN:
            names[name] = None

    def _batch(self, step: Step, outcome: str, took: int) -> None:
        name = bounded(step.name.removeprefix(vocabulary.NAMED_BATCH), 100)
        known = self.batches.get(name)
        if known is None:
            name = name if len(self.batches) < MOST_BATCHES else OTHER
            known = self.batches.setdefault(name, [0] * 6)
        if step.running:
            return
        size = max(whole(step.attributes.get(vocabulary.SYNC_BATCH_SIZE)), 0)
        add_up(known, [1, outcome == "success", outcome == "failure", size, took, took])

    def _outcome(self) -> str:
        outcomes = set(self._outcomes.values()) or ({"success"} if self.items else set())
        if not outcomes:
            return "partial" if self.errors else ""
        worst = next((worst for worst in _WORST_FIRST if worst in outcomes), "") or bounded(min(outcomes), 20)
        if worst == "success":
            return "partial" if self.errors else worst
        return "partial" if worst in ("failure", "cancelled") and len(outcomes) > 1 else worst


def add_up(sums: list[int], figures: Sequence[int]) -> None:
    """Add figures to sums; the last one is the greatest."""
    sums[:] = *(a + b for a, b in zip(sums[:-1], figures[:-1], strict=True)), max(sums[-1], figures[-1])


def operations(names: Mapping[str, list[int]]) -> tuple[Operation, ...]:
    """Return the names of spans, that in which most time went first."""
    found = (Operation(bounded(name), *figures) for name, figures in names.items())
    return tuple(sorted(found, key=lambda operation: (-operation.own_ns, operation.name)))


def batches(names: Mapping[str, list[int]]) -> tuple[Batches, ...]:
    """Return the batches by name, in the order of their names."""
    return tuple(Batches(name, *names[name]) for name in sorted(names))


def item_of(span: Step | StoredSpan, took: int, grouping: Grouping) -> Item:
    """Return the facts about an item that took so many nanoseconds."""
    attributes = span.attributes
    kind, group = grouping.innermost(attributes)
    title = attributes.get(vocabulary.SYNC_ITEM_TITLE, attributes.get(vocabulary.VCS_CHANGE_TITLE, ""))
    return Item(
        kind=bounded(vocabulary.part_of(span.name)[1], 40),
        key=key_of(attributes),
        group=bounded(group),
        group_kind=kind,
        action=bounded(attributes.get(vocabulary.SYNC_ACTION, ""), 40),
        title=bounded(title),
        error=bounded(span.status_message or attributes.get(vocabulary.ERROR_TYPE, "") if span.failed else ""),
        duration_ns=took,
        started_at_ns=span.start_ns,
        trace_id=span.trace_id,
        span_id=span.span_id,
    )


def key_of(attributes: Mapping[str, object]) -> str:
    """Return which item of its kind a span is of."""
    return bounded(attributes.get(vocabulary.SYNC_ITEM_ID, attributes.get(vocabulary.VCS_CHANGE_ID, "")), 60)
