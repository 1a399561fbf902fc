"""Stand-in for `otelsync.store.accounts`."""

from __future__ import annotations

from otelsync.reports.items import NOTHING, Items
from otelsync.reports.sweep import CLIENT, Step
from otelsync.vocabulary import ACTIONS, ITEM, SYNC_ACTION, SYNC_ATTEMPT, SYNC_COUNTED_, SYNC_RECOVERED


class Accounts:
    def __init__(self) -> None:
        self.errors: set[str] = set()
        self.recovered = self.retries = 0
        self.outcome = ""

    def add(self, step: Step) -> str:
        if step.failed and not step.failed_below and not (step.kind == CLIENT and step.parent is not None):
            self.errors.add(step.span_id)
        n = step.attributes.get(SYNC_RECOVERED, 0)
        self.recovered += n
        self.retries += 1 if step.sort and step.attributes.get(SYNC_ATTEMPT, 1) > 1 else n
        return "running" if step.running else step.outcome

    def contribution(self, step: Step) -> Items:
        if step.running:
            return NOTHING
        if step.sort == ITEM:
            action = step.attributes.get(SYNC_ACTION)
            return Items(1, {action: 1} if isinstance(action, str) and action else {})
        counted = {k.removeprefix(SYNC_COUNTED_): v for k, v in step.attributes.items() if k.startswith(SYNC_COUNTED_)}
        if not counted:
            return NOTHING
        fetched = counted.pop("fetched", None)
        known = {k: v for k, v in counted.items() if k in ACTIONS}
        return Items(sum(known.values()) if fetched is None else fetched, known)
