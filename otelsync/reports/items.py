"""Counts of items by what became of them, whatever the actions are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from otelsync.text.item_counts import items_line
from otelsync.text.printable import printable
from otelsync.vocabulary import ACTIONS

_NONE: Final[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class Items:
    """Numbers of items: all, and by action; those without an action are among all of them alone."""

    fetched: int = 0
    actions: Mapping[str, int] = field(default_factory=dict)
    """By known and unknown actions, without those of which there are none."""
    others: Mapping[str, int] = field(default_factory=dict)
    """Counts that callers made beside, by their own names."""

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
        actions, others = (
            {printable(name, 40): count for name, count in counts.items()} for counts in (self.actions, self.others)
        )
        return items_line(self.fetched, actions, others)

    def by_name(self) -> dict[str, int]:
        """Return ``fetched``, every known action, and those unknown ones and other counts that there are."""
        return {"fetched": self.fetched, **dict.fromkeys(ACTIONS, 0), **self.others, **self.actions}

    def __getitem__(self, name: str) -> int:
        if name == "fetched":
            return self.fetched
        return self.actions.get(name, self.others.get(name, 0))

    def __add__(self, other: Items) -> Items:
        return self._with(other, 1)

    def __sub__(self, other: Items) -> Items:
        return self._with(other, -1)

    def __bool__(self) -> bool:
        return bool(self.fetched or self.actions or self.others)

    def _with(self, other: Items, sign: int) -> Items:
        return Items(
            self.fetched + sign * other.fetched,
            _sums(self.actions, other.actions, sign),
            _sums(self.others, other.others, sign) if self.others or other.others else _NONE,
        )


def _sums(counts: Mapping[str, int], others: Mapping[str, int], sign: int) -> dict[str, int]:
    sums = dict(counts)
    for name, number in others.items():
        sums[name] = sums.get(name, 0) + sign * number
        if not sums[name]:
            del sums[name]
    return sums


NOTHING: Final = Items()
