"""The account of a run: outcomes, items, errors, retries and waits, derived from its recorded spans alone.

A live stage knows what ended below it in its own process while it was open. Its recorded span says so, and here the
rest is added: forked children, other processes, tasks, and what outlived the stage it began in. The rules are those of
`otelsync.stages.collecting`. Spans are given in the order of their ends, children before their parents; then "still
open" is the same as "has not come yet".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from otelsync import vocabulary
from otelsync.vocabulary import ACTIONS, CANCELLED, FAILED, FAILURE, INTERRUPTED, ITEM, PARTIAL, RETRY, SUCCESS

TASK: Final = "task"
"""The sort of a task's run, which is no stage, and a part of what it was dispatched by."""
COLLECTING: Final = frozenset(
    (vocabulary.PIPELINE, vocabulary.GROUP, vocabulary.BATCH, vocabulary.STAGE, vocabulary.API, TASK)
)
"""Sorts of spans that parts belong to."""
CLIENT: Final = 3
CONSUMER: Final = 5
"""OTLP's kinds of spans that call others, and that work on a message."""
_LOST: Final = "lost"
"""In the place of a parent: runs of tasks whose process was killed."""
_TASK_RUN: Final = "run/"
_DEEPEST: Final = 1_000
"""Spans above one that are looked through. A longer way is a circle, or made to do harm."""

_SAYS_MORE: Final = frozenset((vocabulary.SYNC_ATTEMPT, vocabulary.SYNC_RECOVERED, vocabulary.SYNC_REQUIRED))
MOST_FAILURES: Final = 10_000
"""Failures below one open stage that may each be made good."""

Counts = dict[str, int]


def says_more(attributes: Mapping[str, Any]) -> bool:
    """Return whether attributes of an item say more than its action does, and that it went well."""
    return not _SAYS_MORE.isdisjoint(attributes) or attributes.get(vocabulary.SYNC_OUTCOME, SUCCESS) != SUCCESS


class Ended(NamedTuple):
    """A span that has ended, as far as an account needs it."""

    span_id: str
    parent_id: str
    name: str
    kind: int
    has_failed: bool
    """True if its status is an error."""
    attributes: Mapping[str, Any]
    took_ns: int = 0
    end_ns: int = 0
    """Unix nanoseconds, where they matter; see `OpenAccounts`."""


class Place:
    """Place of a span that others stand below: where it stands itself, and what has ended in it."""

    __slots__ = (
        "again",
        "below",
        "collects",
        "counted_failed",
        "counts",
        "end_ns",
        "errors",
        "failed",
        "failures",
        "foreign",
        "good",
        "interrupted",
        "is_run",
        "items",
        "open",
        "parent_id",
        "partial",
    )

    def __init__(self, parent_id: str, sort: str) -> None:
        self.parent_id = parent_id
        self.counts = sort in COLLECTING
        """True if items that end below count for it."""
        self.collects = self.counts or sort == ITEM
        """True if parts that end below belong to it."""
        self.is_run = sort == vocabulary.PIPELINE
        self.open = True
        self.end_ns = 0
        """End of one that is not open any more, where that is known."""
        self.items: Counts = {}
        self.below: Counts = {}
        self.good = self.failed = self.partial = self.counted_failed = 0
        self.failures: dict[tuple[str, str], list[list[str]]] = {}
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.again: set[str] = set()
        """Tasks whose messages were delivered again, as a run of theirs was lost."""
        self.interrupted = False

    @property
    def parts(self) -> int:
        """Number of direct parts that have ended, but for those that count neither way."""
        return self.good + self.failed + self.partial

    def totals(self, counted: Mapping[str, int], recorded: Mapping[str, int]) -> Counts:
        """Return the counts of the stage: of what ended in it, by hand, and as it recorded them, if that is more."""
        totals = dict(self.below)
        fetched = totals.pop("fetched", 0) + sum(self.items.values())
        fetched += sum(counted.get(action, 0) for action in ACTIONS)
        for counts in (self.items, counted):
            for name, number in counts.items():
                if name and name != "fetched":
                    totals[name] = totals.get(name, 0) + number
        totals["fetched"] = counted.get("fetched", max(fetched, recorded.get("fetched", 0)))
        for name, number in recorded.items():
            if name != "fetched" and number > totals.get(name, 0):
                totals[name] = number
        return {name: number for name, number in totals.items() if number}

    def all_errors(self, *, foreign: bool) -> list[str]:
        """Return the errors in it that nothing has made good; with those of spans of others, or without."""
        failures = (each for lists in self.failures.values() for several in lists for each in several)
        return [*self.errors, *failures, *(self.foreign if foreign else ())]

    @property
    def is_empty(self) -> bool:
        """Return whether nothing has ended in it."""
        return not (self.items or self.below or self.parts)

    def dump(self) -> list[Any]:
        """Return what has ended in it, but for its errors, as JSON can hold it."""
        failures = [[*key, len(each)] for key, each in self.failures.items()]
        return [self.items, self.below, self.good, self.failed, self.partial, failures]

    def load(self, values: list[Any]) -> None:
        """Take up what :meth:`dump` returned."""
        self.items, self.below, self.good, self.failed, self.partial, failures = values
        self.failures = {(parent, key): [[] for _ in range(number)] for parent, key, number in failures}

    def outcome(self) -> str:
        """Return the outcome that follows from the parts."""
        if self.failed and not self.good and not self.partial:
            return FAILURE
        return PARTIAL if self.failed or self.partial or self.counted_failed else SUCCESS


@dataclass(slots=True)
class Settled:
    """A stage as its account says."""

    outcome: str
    totals: Counts


@dataclass(slots=True)
class Account:
    """The account of a run."""

    outcome: str = SUCCESS
    totals: Counts = field(default_factory=dict)
    """Items by action, with ``fetched``."""
    errors: list[str] = field(default_factory=list)
    """Ids of the spans in which an error arose that nothing made good."""
    recovered: int = 0
    """Number of failures that were made good."""
    retries: int = 0
    """Number of parts that were tried again."""
    put_back: int = 0
    """Number of attempts of tasks that were put back."""
    waits: int = 0
    waited_ns: int = 0
    stages: dict[str, Settled] = field(default_factory=dict)
    """By the id of the span: pipelines, groups, batches, stages, API calls and tasks."""


class Accounts:
    """Takes in spans as they end, and keeps the accounts of those that are open.

    Args:
        root_id: The span that stays open to the last, whatever its own end says; parts of which nothing around is open
            belong to it. Empty: there is none.
        keeps: Whether errors and stages are kept, by the ids of their spans.
    """

    def __init__(self, root_id: str = "", *, keeps: bool = True) -> None:
        self._keeps = keeps
        self.account = Account()
        self.places: dict[str, Place] = {}
        self._root_id = root_id
        self._top = Place("", vocabulary.PIPELINE)
        """Place of what stands in no other."""

    def begin(self, span_id: str, parent_id: str, name: str, kind: int) -> None:
        """Take note of a span that others may stand below."""
        if span_id not in self.places:
            self.places[span_id] = Place(parent_id, _sort(name, kind))

    def item(self, parent_id: str, action: str, number: int = 1) -> None:
        """Take in items that went well and were retried by nobody."""
        around = self._around(parent_id, counting=True)
        around.items[action] = around.items.get(action, 0) + number
        around.good += number

    def take_item(self, span_id: str, parent_id: str, name: str, attributes: Mapping[str, Any]) -> bool:
        """Take in a span without an error, if it is an item with nothing below it that was retried by nobody.

        Most spans are, and to :meth:`end` them all takes three times as long. False: it is to be ended.
        """
        if span_id in self.places or vocabulary.part_of(name)[0] != ITEM or says_more(attributes):
            return False
        self.item(parent_id, _text(attributes.get(vocabulary.SYNC_ACTION)))
        return True

    def end(self, span: Ended) -> None:
        """Take in a span that has ended."""
        place = self.places.get(span.span_id)
        if place is not None and span.span_id != self._root_id:
            place.open = False
        sort = _sort(span.name, span.kind)
        if sort == vocabulary.WAITING or _is_waiting(sort, span):
            self._wait(span, place)
        elif sort == ITEM:
            self._end_item(span, place)
        elif sort in COLLECTING:
            if span.span_id != self._root_id:
                self._end_stage(sort, span, place or Place(span.parent_id, sort))
        else:
            self._end_foreign(span, place)

    def depth(self, span_id: str) -> int:
        """Return how many spans that others stand below there are from this one to the outermost."""
        depth = 0
        while (place := self.places.get(span_id)) is not None and depth < _DEEPEST:
            span_id = place.parent_id
            depth += 1
        return depth

    def close(self, root: Ended | None = None) -> Account:
        """Settle the root, with everything that came before and after its own end, and return the account.

        `root` is None where it has not ended, or there is none.
        """
        place = self.places.get(self._root_id) if self._root_id else None
        account, top = self.account, self._top
        if place is None:
            account.outcome, account.totals = top.outcome(), top.totals({}, {})
        else:
            ended = root or Ended(self._root_id, "", "", 0, False, {vocabulary.SYNC_OUTCOME: vocabulary.RUNNING})
            settled = self.settle(ended, place)
            account.stages[self._root_id] = settled
            account.outcome, account.totals = settled.outcome, settled.totals
            if root is not None and _is_error(settled.outcome, root, place):
                account.errors.append(root.span_id)
        failed = root is not None and root.has_failed
        account.errors += [*(place.all_errors(foreign=not failed) if place else ()), *top.all_errors(foreign=True)]
        for left in self.places.values():  # what has ended in stages that still run
            if left.open and left is not place:
                account.errors += left.all_errors(foreign=True)
                account.totals = added((account.totals, left.totals({}, {})))
        return account

    # One span

    def _wait(self, span: Ended, place: Place | None) -> None:
        self.account.waits += 1
        self.account.waited_ns += span.took_ns
        if place is not None:  # parts in it belong to what is around: it never collects
            place.collects = place.counts = False

    def _end_item(self, span: Ended, place: Place | None) -> None:
        around = self._around(span.parent_id, counting=True)
        said = span.attributes.get(vocabulary.SYNC_ACTION)
        action = said if isinstance(said, str) else ""
        outcome = _text(span.attributes.get(vocabulary.SYNC_OUTCOME)) or SUCCESS
        if span.has_failed and outcome in (SUCCESS, PARTIAL):
            outcome, action = FAILURE, FAILED
        elif outcome == SUCCESS and place is not None and place.outcome() != SUCCESS:
            outcome = PARTIAL  # its action says what became of it
        around.items[action] = around.items.get(action, 0) + 1
        around.good += outcome in (SUCCESS, PARTIAL)
        self._join(span, outcome, place, is_item=True)

    def _end_stage(self, sort: str, span: Ended, place: Place) -> None:
        settled = self.settle(span, place)
        if self._keeps:
            self.account.stages[span.span_id] = settled
        below = self._around(span.parent_id, counting=True).below
        for name, number in settled.totals.items():
            below[name] = below.get(name, 0) + number
        outcome = settled.outcome
        if sort == TASK:
            self.account.put_back += outcome == RETRY
            if outcome == RETRY or self._is_superseded(span, outcome):
                return
            outcome = FAILURE if outcome == CANCELLED else outcome
        elif outcome == CANCELLED and place.outcome() != SUCCESS:
            outcome = PARTIAL
        self._join(span, outcome, place)

    def _is_superseded(self, span: Ended, outcome: str) -> bool:
        """Return whether a run of a task was lost, and its message delivered again, in whatever order they come."""
        task_id = span.attributes.get(vocabulary.MESSAGING_MESSAGE_ID)
        if not isinstance(task_id, str):
            return False
        target = self._around(span.parent_id)
        if span.attributes.get(vocabulary.SYNC_REDELIVERED) is True:
            lost = target.failures.pop((_LOST, task_id), [])
            target.failed -= len(lost)
            if len(target.again) < MOST_FAILURES:
                target.again.add(task_id)
            self.account.put_back += len(lost)
            return False
        if outcome == INTERRUPTED and task_id in target.again:
            self.account.put_back += 1
            return True
        return False

    def settle(self, span: Ended, place: Place) -> Settled:
        """Return the outcome and the counts of a stage that ends with what is in its place now."""
        attributes = span.attributes
        counted = counts_of(attributes, vocabulary.SYNC_COUNTED_)
        place.counted_failed = max(counted.get(FAILED, 0), 0)
        recorded = _text(attributes.get(vocabulary.SYNC_OUTCOME)) or (FAILURE if span.has_failed else SUCCESS)
        # A stage knows of parts that were dropped. What the shipper wrote may hold what is another's by the times.
        is_by_shipper = recorded == INTERRUPTED or vocabulary.SYNC_COMPLETED in attributes
        is_trusted = span.span_id == self._root_id or not is_by_shipper
        totals = place.totals(counted, counts_of(attributes, vocabulary.SYNC_ITEMS_) if is_trusted else {})
        parts = attributes.get(vocabulary.SYNC_PARTS)
        if recorded not in (SUCCESS, PARTIAL) and not (recorded == FAILURE and isinstance(parts, int)):
            return Settled(recorded, totals)
        derived = place.outcome()
        if recorded == FAILURE and isinstance(parts, int) and place.parts < parts:
            derived = FAILURE  # some of its parts were not recorded
        elif recorded == PARTIAL and not (isinstance(parts, int) and place.parts >= parts and derived == FAILURE):
            derived = PARTIAL  # it knew of a part that failed, and of one that did not, as far as it knew
        elif derived == FAILURE and recorded != FAILURE and whole(attributes.get(vocabulary.SYNC_TASKS_SUCCEEDED)):
            derived = PARTIAL  # these may have run on another host
        return Settled(derived, totals)

    def _join(self, span: Ended, outcome: str, place: Place | None, *, is_item: bool = False) -> None:
        """Let a part count for what it belongs to, with its errors, retries and recoveries."""
        target = self._around(span.parent_id)
        if span.kind != CONSUMER:  # attempts of tasks are counted where they were put back
            self._count_retries(span, outcome, target)
        errors = [] if place is None or not self._keeps else place.all_errors(foreign=not span.has_failed)
        if self._keeps and _is_error(outcome, span, place):
            errors.append(span.span_id)
        if outcome == INTERRUPTED:
            target.interrupted = True
        if outcome in (FAILURE, INTERRUPTED):
            if span.attributes.get(vocabulary.SYNC_REQUIRED) is False:
                return
            target.failed += 1
            where, key = span.parent_id, span.attributes.get(vocabulary.SYNC_PART_KEY)
            if outcome == INTERRUPTED and span.kind == CONSUMER:
                where, key = _LOST, span.attributes.get(vocabulary.MESSAGING_MESSAGE_ID)
            if isinstance(key, str) and (self._keeps or target.failed <= MOST_FAILURES):
                target.failures.setdefault((where, key), []).append(errors)
                return
        elif outcome == SUCCESS and not is_item:
            target.good += 1
        elif outcome == PARTIAL:
            target.partial += 1
        target.errors += errors

    def _count_retries(self, span: Ended, outcome: str, target: Place) -> None:
        attempt = span.attributes.get(vocabulary.SYNC_ATTEMPT)
        number = whole(span.attributes.get(vocabulary.SYNC_RECOVERED)) if outcome == SUCCESS else 0
        if number:
            key = (span.parent_id, str(span.attributes.get(vocabulary.SYNC_PART_KEY)))
            good = target.failures.pop(key, [])
            target.failed -= len(good)
            self.account.recovered += len(good)
        self.account.retries += 1 if isinstance(attempt, int) and attempt > 1 else number

    def _end_foreign(self, span: Ended, place: Place | None) -> None:
        """Take in a span of somebody else: it counts as an error if nothing around it fails."""
        if not self._keeps:
            return
        inside = place.foreign if place is not None else []
        if span.has_failed:
            inside = [] if span.kind == CLIENT and span.parent_id else [span.span_id]
        above = self.places.get(span.parent_id)
        around = above if above is not None and above.open else self._around(span.parent_id)
        around.foreign += inside

    def _has_ended(self, span_id: str) -> bool:  # noqa: ARG002  # see OpenAccounts
        """Return whether a stage that stands open here has ended before what is taken in now."""
        return False

    def _around(self, parent_id: str, *, counting: bool = False) -> Place:
        """Return the nearest open place that parts belong to, or that items count for; the root's where none is."""
        for _ in range(_DEEPEST):
            place = self.places.get(parent_id)
            if place is None:
                break
            if place.open and (place.counts if counting else place.collects) and not self._has_ended(parent_id):
                return place
            parent_id = place.parent_id
        return self.places.get(self._root_id, self._top)


def _is_error(outcome: str, span: Ended, place: Place | None) -> bool:
    """Return whether an error arose in a part that ended so."""
    if span.attributes.get(vocabulary.SYNC_REQUIRED) is False:
        return False
    if outcome == INTERRUPTED:
        return place is None or not place.interrupted
    if outcome != FAILURE or not span.has_failed:
        return False
    passed = span.attributes.get(vocabulary.SYNC_ERROR_PASSED) is True
    return not passed and vocabulary.SYNC_PARTS_FAILED not in span.attributes


def _sort(name: str, kind: int) -> str:
    return TASK if kind == CONSUMER and name.startswith(_TASK_RUN) else vocabulary.part_of(name)[0]


def _is_waiting(sort: str, span: Ended) -> bool:
    return sort == vocabulary.STAGE and span.attributes.get(vocabulary.SYNC_STAGE_KIND) == vocabulary.WAITING


def counts_of(attributes: Mapping[str, Any], prefix: str) -> Counts:
    """Return the counts that a span carries, by name; what is no whole number counts nothing."""
    found = ((key, value) for key, value in attributes.items() if key.startswith(prefix))
    return {key[len(prefix) :]: number for key, value in found if (number := whole(value)) or value == 0}


def whole(value: object) -> int:
    """Return a count from outside: what is not a whole number counts nothing."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**53:
        return 0
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def added(totals: Iterable[Counts]) -> Counts:
    """Return the sums of counts by name."""
    sums: Counts = {}
    for counts in totals:
        for name, number in counts.items():
            sums[name] = sums.get(name, 0) + number
    return sums
