"""Sums over one group of spans: items, API calls, waits, time, and the pull requests worth naming."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappush, heappushpop
from typing import Any, Final

from otelsync import vocabulary
from otelsync.reports.figures import Group, Item, Items, Operation
from otelsync.reports.sweep import CLIENT, STATUS_ERROR, Step
from otelsync.reports.time_spent import CATEGORIES, WAITS, category, nanoseconds
from otelsync.vocabulary import ACTIONS, NAMED_API, NAMED_REPO, SYNC_PR

MOST_FAILED: Final = 100
"""Failed pull requests that are named, of each group."""
MOST_SLOW: Final = 10
MOST_NAMES: Final = 100
"""Names of spans that are told apart in a group."""
MOST_REPOS: Final = 50
OTHER: Final = "(other)"

_WORST_FIRST: Final = ("interrupted", "running", "failure", "cancelled", "partial", "success")


class Tally:
    """Takes in the spans of a group, in the order in which they ended."""

    def __init__(self) -> None:
        self.actions = dict.fromkeys(ACTIONS, 0)
        """Pull requests by what became of them."""
        self.stages = Items()
        """Counts of its stages; see `own_items`."""
        self.resent = 0
        self.waited_ns = 0
        self.is_whole = True
        """True if all of its repos came to their end, so that their totals can be trusted."""
        self.names: dict[str, list[int]] = {}
        self._time = dict.fromkeys(CATEGORIES, 0)
        self._outcomes: dict[str, str] = {}
        self._repo_ns = 0
        self._first_ns, self._last_ns = 2**63 - 1, 0
        self._failed: list[Item] = []
        self._slowest: list[tuple[int, int, Item]] = []
        self._seen = 0

    def add(self, step: Step) -> None:
        """Take in a span."""
        self._seen += 1
        own, took = step.own_ns, step.duration_ns
        self._time[category(step)] += own
        self._name(step, own, took)
        if step.start_ns < self._first_ns:
            self._first_ns = step.start_ns
        if step.end_ns > self._last_ns:
            self._last_ns = step.end_ns
        name = step.name
        if name == SYNC_PR:
            self._pull_request(step, took)
        elif name in WAITS:
            self.waited_ns += took
        elif name.startswith(NAMED_API):
            self.resent += max(whole(step.attributes.get(vocabulary.SYNC_API_ATTEMPTS)) - 1, 0)
        elif name.startswith(NAMED_REPO):
            self._repo(step, took)
        else:
            # Before a task began; no span covers it.
            self._time["queue"] += nanoseconds(step.attributes.get(vocabulary.SYNC_QUEUE_WAIT_SECONDS))
            self.resent += _was_sent_again(step)

    def group(self, name: str, recorded: Items | None = None) -> Group:
        """The figures. `recorded`: what the last record of progress says."""
        calls = [figures for called, figures in self.names.items() if called.startswith(NAMED_API)]
        items, source = self._items(recorded or Items())
        return Group(
            name=name,
            outcome=self._outcome(items),
            items=items,
            items_from=source,
            pull_requests=sum(self.actions.values()),
            api_calls=sum(figures[0] for figures in calls),
            api_failed=sum(figures[1] for figures in calls),
            resent=self.resent,
            duration_ns=self._repo_ns or max(self._last_ns - self._first_ns, 0),
            waited_ns=self.waited_ns,
            started_at_ns=min(self._first_ns, self._last_ns),
            time_ns=dict(self._time),
            operations=operations(self.names),
            failed=tuple(sorted(self._failed, key=lambda item: (item.started_at_ns, item.span_id))),
            slowest=tuple(item for *_, item in sorted(self._slowest, reverse=True)),
            repos=tuple(self._outcomes),
        )

    def _name(self, step: Step, own: int, took: int) -> None:
        name = step.name
        figures = self.names.get(name)
        if figures is None:
            name = name if len(self.names) < MOST_NAMES else NAMED_API + OTHER if name.startswith(NAMED_API) else OTHER
            figures = self.names.setdefault(name, [0, 0, 0, 0, 0])
        figures[0] += 1
        figures[1] += step.status == STATUS_ERROR
        figures[2] += took
        figures[3] += own
        if took > figures[4]:
            figures[4] = took

    def _pull_request(self, step: Step, took: int) -> None:
        action = step.attributes.get(vocabulary.SYNC_ACTION)
        if isinstance(action, str) and action in self.actions:
            self.actions[action] += 1
        if step.status == STATUS_ERROR and len(self._failed) < MOST_FAILED:
            self._failed.append(item_of(step))
        if len(self._slowest) < MOST_SLOW:
            heappush(self._slowest, (took, -self._seen, item_of(step)))
        elif took > self._slowest[0][0]:
            heappushpop(self._slowest, (took, -self._seen, item_of(step)))

    def _repo(self, step: Step, took: int) -> None:
        name = bounded(step.name.removeprefix(NAMED_REPO))
        outcome = "running" if step.running else bounded(step.outcome, 20)
        if outcome in ("running", "interrupted"):
            self.is_whole = False
        if outcome != "retry" and (name in self._outcomes or len(self._outcomes) < MOST_REPOS):
            self._outcomes[name] = outcome  # a later attempt says how it went in the end
        self._repo_ns += took

    def _items(self, recorded: Items) -> tuple[Items, str]:
        """Totals of the stages; where one of them has not come to its end, whoever knows of most."""
        seen = Items(fetched=sum(self.actions.values()), **self.actions)
        if self.stages and self.is_whole:
            return self.stages, "stages"
        known = ((self.stages, "stages"), (seen, "spans"), (recorded, "records"))
        return max(known, key=lambda source: source[0].fetched)

    def _outcome(self, items: Items) -> str:
        outcomes = set(self._outcomes.values()) - {""}
        if not outcomes:
            return "partial" if items.failed else "success" if items else ""
        for worst in _WORST_FIRST:
            if worst in outcomes:
                return "partial" if worst in ("failure", "cancelled") and len(outcomes) > 1 else worst
        return min(outcomes)


def operations(names: Mapping[str, list[int]]) -> tuple[Operation, ...]:
    """The names of spans, that in which most time went first."""
    found = (Operation(bounded(name), *figures) for name, figures in names.items())
    return tuple(sorted(found, key=lambda operation: (-operation.own_ns, operation.name)))


def _was_sent_again(step: Step) -> bool:
    """Return whether a span is a request sent again, which the API call around it has not counted itself."""
    if step.kind != CLIENT or whole(step.attributes.get(vocabulary.HTTP_REQUEST_RESEND_COUNT)) < 1:
        return False
    return step.parent is None or vocabulary.SYNC_API_ATTEMPTS not in step.parent.attributes


def own_items(step: Step) -> Items:
    """Return what a stage has counted beyond the stages below it, so that the sum over all counts everything once."""
    items = items_of(step.attributes)
    outer = step.parent
    while outer is not None and not outer.has_counts:
        outer = outer.parent
    if outer is not None:
        outer.items_below += items
    return items - step.items_below


def items_of(attributes: Mapping[str, Any], prefix: str = vocabulary.SYNC_ITEMS_) -> Items:
    """The counts of a stage; what was fetched is the sum of the rest where it was not counted."""
    counts = {action: whole(attributes.get(prefix + action)) for action in ACTIONS}
    fetched = attributes.get(prefix + "fetched")
    return Items(fetched=whole(fetched) if fetched is not None else sum(counts.values()), **counts)


def item_of(step: Step) -> Item:
    """Return the facts about a pull request."""
    attributes = step.attributes
    return Item(
        change=bounded(attributes.get(vocabulary.VCS_CHANGE_ID, ""), 40),
        repo=bounded(attributes.get(vocabulary.SYNC_REPO, "")),
        action=bounded(attributes.get(vocabulary.SYNC_ACTION, ""), 40),
        title=bounded(attributes.get(vocabulary.VCS_CHANGE_TITLE, "")),
        error=bounded(step.status_message or attributes.get(vocabulary.ERROR_TYPE, "") if step.failed else ""),
        duration_ns=step.duration_ns,
        started_at_ns=step.start_ns,
        trace_id=step.trace_id,
        span_id=step.span_id,
    )


def whole(value: object) -> int:
    """A count from outside: what is not a whole number counts nothing."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**53:
        return 0
    return value


def bounded(value: object, most: int = 300) -> str:
    """Text of at most `most` characters; what was cut off is marked."""
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
