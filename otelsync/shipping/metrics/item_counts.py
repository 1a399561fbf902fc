"""Items that a stage has counted and nobody below it has: each item counts once, wherever it was counted.

A stage's ``sync.items.*`` hold what was counted in it and in all stages below. Pull requests count one by one as they
end, other stages what they have beyond these. What was counted below stages that are still open stands in the
checkpoint, so that a restart in the middle of a stage counts nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from otelsync.shipping.checkpoint import Counts

MOST_OPEN: Final = 1_024
"""Spans of one process with items below that are waited for. Some never end, as they are not recorded here."""
_DEEPEST: Final = 64
"""Spans of others that are looked through; also what ends a circle of them."""

Below = dict[str, dict[str, Counts]]
"""By journal series, and the id of a span that has not ended."""


class ItemCounts:
    """Counts below the open spans of one series, as counts do not roll up from one process to another.

    They are kept in `below`, which is changed.
    """

    def __init__(self, below: Below, series: str) -> None:
        self._below = below
        self._series = series
        self._moved: dict[str, str] = {}
        """Spans that are no stages and end in this batch, with their parents."""

    def pass_through(self, span: str, parent: str) -> None:
        """A span that is no stage has ended: what was counted below it belongs to its parent.

        No parent: nothing of this process is above it.
        """
        self._moved[span] = parent
        for action, count in self._pop(span).items():
            self.add(parent, action, count)

    def place(self, parent: str) -> str:
        """The span that what is counted below `parent` belongs to; empty if there is none."""
        for _ in range(_DEEPEST):
            if parent not in self._moved:
                break
            parent = self._moved[parent]
        return parent

    def add(self, parent: str, action: str, count: int) -> None:
        """So many items were counted below `parent`."""
        parent = self.place(parent)
        if not parent:
            return
        spans = self._below.setdefault(self._series, {})
        counts = spans.setdefault(parent, {})
        if len(spans) > MOST_OPEN:
            del spans[next(iter(spans))]
        counts[action] = counts.get(action, 0) + count

    def end(self, span: str, parent: str, totals: Mapping[str, int]) -> Counts:
        """A stage has ended, with these counts in all; returns what nobody below it has counted."""
        below = self._pop(span)
        own = {action: count - below.get(action, 0) for action, count in totals.items()}
        own = {action: count for action, count in own.items() if count > 0}
        for action in below.keys() | own.keys():
            self.add(parent, action, below.get(action, 0) + own.get(action, 0))
        return own

    def _pop(self, span: str) -> Counts:
        spans = self._below.get(self._series)
        if not spans:
            return {}
        counts = spans.pop(span, {})
        if not spans:
            del self._below[self._series]
        return counts
