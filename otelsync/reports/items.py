"""Counts of items by what became of them, whatever the actions are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from otelsync.text.item_counts import items_line
from otelsync.text.printable import printable
from otelsync.vocabulary import ACTIONS


@dataclass(frozen=True, slots=True)
class Items:
    """Numbers of items: all, and by action; those without an action are among all of them alone."""

    fetched: int = 0
    actions: Mapping[str, int] = field(default_factory=dict)
    """By known and unknown actions, without those of which there are none."""

    @property
    def accounted_for(self) -> int:
        """Number of items with an action."""
        return sum(self.actions.values())

    @property
    def missing(self) -> int:
        """Number of items without an action; negative: more were accounted for than there are."""
        return self.fetched - self.accounted_for

    @property
    def failed(self) -> int:
        """Number of items whose action is ``failed``."""
        return self.actions.get("failed", 0)

    @property
    def line(self) -> str:
        """``12 fetched = 10 created + 2 failed``. Printable."""
        return items_line(self.fetched, {printable(name, 40): count for name, count in self.actions.items()})

    def by_name(self) -> dict[str, int]:
        """Return ``fetched``, every known action, and those unknown ones that there are."""
        return {"fetched": self.fetched, **dict.fromkeys(ACTIONS, 0), **self.actions}

    def __getitem__(self, name: str) -> int:
        return self.fetched if name == "fetched" else self.actions.get(name, 0)

    def __add__(self, other: Items) -> Items:
        return self._with(other, 1)

    def __sub__(self, other: Items) -> Items:
        return self._with(other, -1)

    def __bool__(self) -> bool:
        return bool(self.fetched or self.actions)

    def _with(self, other: Items, sign: int) -> Items:
        names = [*self.actions, *(name for name in other.actions if name not in self.actions)]
        sums = {name: self.actions.get(name, 0) + sign * other.actions.get(name, 0) for name in names}
        return Items(self.fetched + sign * other.fetched, {name: count for name, count in sums.items() if count})


NOTHING: Final = Items()
