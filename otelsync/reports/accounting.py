"""The account of a run while its spans are read: each one's outcome, and the items that it adds to the run's.

The sum over all spans is what the account says of the run, so groups, which are sums over some, add up to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from otelsync.reports.items import NOTHING, Items
from otelsync.reports.sweep import Step
from otelsync.reports.values import OTHER, bounded
from otelsync.store.accounts import Account, Accounts, Ended, Place, counts_of
from otelsync.vocabulary import (
    ACTIONS,
    FAILED,
    ITEM,
    PARTIAL,
    RUNNING,
    SUCCESS,
    SYNC_ACTION,
    SYNC_ATTEMPT,
    SYNC_COUNTED_,
    SYNC_OUTCOME,
    SYNC_RECOVERED,
)

MOST_NAMES: Final = 30
"""Unknown actions, and names of counts, that are told apart."""

_ACTIONS: Final = frozenset(ACTIONS)
_FETCHED: Final = "fetched"


class Share(NamedTuple):
    """Share of one span in a run."""

    outcome: str
    """Derived from all that was recorded of it."""
    items: Items = NOTHING
    unexplained: Items = NOTHING
    """Of these, what it recorded as its count, and neither an item's span nor a count by hand tells of."""


class Accounting:
    """Takes in the spans of a run, in the order in which they ended.

    Args:
        accounts: That know of every span with others below it.
        root_id: The span of the pipeline.
    """

    def __init__(self, accounts: Accounts, root_id: str) -> None:
        self.account: Account | None = None
        self._accounts = accounts
        self._root_id = root_id
        self._root: Ended | None = None
        self._names: dict[str, str] = {}
        self._kept: dict[str, Items] = {}

    def item(self, parent_id: str, action: str, number: int = 1) -> Items:
        """Take in items that went well and were retried by nobody; returns what they add."""
        self._accounts.item(parent_id, action, number)
        return self._of_action(action) if number == 1 else Items(number, {self._name(action): number} if action else {})

    def end(self, step: Step) -> Share:
        """Take in a span that has ended, or is the last that is known of one that runs."""
        if step.running:
            return Share(RUNNING)
        attributes, failed = step.attributes, step.failed
        if step.sort == ITEM:
            said = attributes.get(SYNC_ACTION)
            action = said if isinstance(said, str) else ""
            if not (failed or _is_notable(attributes) or step.span_id in self._accounts.places):
                return Share(SUCCESS, self.item(step.parent_id, action))
            self._accounts.end(_ended(step))
            if failed and attributes.get(SYNC_OUTCOME, SUCCESS) in (SUCCESS, PARTIAL):
                action = FAILED
            return Share(step.outcome or SUCCESS, self._of_action(action))
        ended = _ended(step)
        if step.span_id == self._root_id:
            self._root = ended
        place = self._accounts.places.get(step.span_id)
        inside = _inside(place)
        self._accounts.end(ended)
        settled = self._accounts.account.stages.get(step.span_id)
        if settled is None:
            return Share(step.outcome)
        return self._share(settled.outcome, settled.totals, inside, ended)

    def close(self) -> Share:
        """Settle the pipeline, and return what it adds itself."""
        inside = _inside(self._accounts.places.get(self._root_id))
        self.account = self._accounts.close(self._root)
        if self._root is None:
            return Share(RUNNING)
        return self._share(self.account.outcome, self.account.stages[self._root_id].totals, inside, self._root)

    def _share(self, outcome: str, totals: Mapping[str, int], inside: Mapping[str, int], ended: Ended) -> Share:
        names = [name for name in {**totals, **inside} if totals.get(name, 0) != inside.get(name, 0)]
        if not names:
            return Share(outcome)
        own = {name: totals.get(name, 0) - inside.get(name, 0) for name in names}
        by_hand = counts_of(ended.attributes, SYNC_COUNTED_)
        known = sum(by_hand.get(name, 0) for name in ACTIONS)
        by_hand[_FETCHED] = own.get(_FETCHED, 0) if _FETCHED in by_hand else known
        left = {name: number - by_hand.get(name, 0) for name, number in own.items() if number != by_hand.get(name, 0)}
        return Share(outcome, self._items(own), self._items(left) if left else NOTHING)

    def _items(self, counts: Mapping[str, int]) -> Items:
        actions = {name: number for name, number in counts.items() if name in _ACTIONS}
        others: dict[str, int] = {}
        for name, number in counts.items():
            if name not in _ACTIONS and name != _FETCHED:
                others[self._name(name)] = others.get(self._name(name), 0) + number
        return Items(counts.get(_FETCHED, 0), actions, others)

    def _of_action(self, action: str) -> Items:
        """Return one item; the same one for the same action."""
        found = self._kept.get(action)
        if found is None:
            found = Items(1, {self._name(action): 1} if action else {})
            if len(self._kept) < MOST_NAMES:
                self._kept[action] = found
        return found

    def _name(self, name: str) -> str:
        if name in _ACTIONS:
            return name
        known = self._names.get(name)
        if known is None:
            if len(self._names) >= MOST_NAMES:
                return OTHER
            known = self._names[name] = bounded("(fetched)" if name == _FETCHED else name, 40)
        return known


def _ended(step: Step) -> Ended:
    return Ended(
        step.span_id, step.parent_id, step.name, step.kind, step.failed, step.attributes, max(step.duration_ns, 0)
    )


def _is_notable(attributes: Mapping[str, object]) -> bool:
    went_well = attributes.get(SYNC_OUTCOME, SUCCESS) == SUCCESS
    return not went_well or SYNC_ATTEMPT in attributes or SYNC_RECOVERED in attributes


def _inside(place: Place | None) -> dict[str, int]:
    """Return the counts of what has ended in a span so far."""
    if place is None:
        return {}
    inside = dict(place.below)
    for name, number in place.items.items():
        inside[_FETCHED] = inside.get(_FETCHED, 0) + number
        if name and name != _FETCHED:
            inside[name] = inside.get(name, 0) + number
    return inside
