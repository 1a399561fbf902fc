"""Starts of series: that a counter was 0, told once to whoever reads, beside what it is now.

A counter that is first seen at 3 has risen by 3, and a query such as ``increase()`` knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from otelsync.shipping.metrics.durations import Durations
from otelsync.shipping.metrics.series import Family, Point

OLDEST: Final = 1_800
"""Seconds. Prometheus takes no sample that is an hour older than its others."""


class Starts(NamedTuple):
    """The starts of those series that a reader has not seen."""

    after: int
    """The number of the last series that it has seen."""
    now: int
    """Unix nanoseconds."""

    def of(self, family: Family, point: Point) -> Point | None:
        """Return a series as it was when it began; None if that is not told, as of gauges."""
        is_recent = self.now - OLDEST * 1_000_000_000 < point.since < self.now
        if family.metric.kind == "gauge" or point.number <= self.after or not is_recent:
            return None
        return point._replace(value=Durations() if isinstance(point.value, Durations) else 0, at=point.since)

    def families(self, families: Iterable[Family]) -> Iterator[Family]:
        """Return the starts of all series, by metric."""
        for family in families:
            points = [start for point in family.points if (start := self.of(family, point)) is not None]
            if points:
                yield Family(family.metric, points)


def last_of(families: Iterable[Family]) -> int:
    """Return the number of the last series; 0 if there is none."""
    return max((point.number for family in families for point in family.points), default=0)
