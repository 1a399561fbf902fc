"""The budget of a trace: how many spans and bytes of it go to OTLP, and which of its items are slow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otelsync.store.histogram import percentile

WHOLE: Final = 0.5
"""Up to this part of its budget a trace is left whole. The rest has room for the calls of 50 repos with 1,000 items."""
TIGHT: Final = 0.6
"""From this part on one ordinary item is kept of each call,"""
SHORT: Final = 0.8
"""and from this one on none."""
SPENT: Final = 0.9
"""From this part on nothing is added that could go to a trace of its own."""
SLOW_RATIO: Final = 5
"""An item that takes so many times the median is slow."""
SLOW_FLOOR: Final = 100_000_000
"""Nanoseconds. What takes less is not slow, whatever the median: a pause of the garbage collector is of no interest."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on a trace, on its way to OTLP."""

    max_spans: int = 5_000
    max_bytes: int = 5_000_000
    """Of encoded spans. Tempo's ``max_bytes_per_trace`` is 5,000,000 by default."""
    keep_slowest: int = 3
    """Number of ordinary items that are kept of each call, as long as there is room."""
    slow_seconds: float | None = None
    """An item that takes as long is slow; None: one that takes five times the median of its trace, and 0.1 s."""


class Budget:
    """The budget of one trace: how many spans, of how many bytes, have gone out so far, and how long its items
    take, as a histogram. `looked` is what `is_slow` knew of them when it last looked."""

    def __init__(
        self,
        limits: Limits,
        spans: int = 0,
        size: int = 0,
        durations: Mapping[int, int] | None = None,
        looked: tuple[int, int] = (0, 0),
    ) -> None:
        self.spans = spans
        self.bytes = size
        self.durations = dict(durations or {})
        self._limits = limits
        self._floor = SLOW_FLOOR if limits.slow_seconds is None else int(limits.slow_seconds * 1e9)
        self.looked = looked
        """At how many durations the median is looked up next, and five times the one that was found."""
        self._judge()

    @property
    def used(self) -> float:
        """The part of the budget that is used, from 0."""
        return max(self.spans / self._limits.max_spans, self.bytes / self._limits.max_bytes)

    def copy(self) -> Budget:
        """Another one that goes on from here."""
        return Budget(self._limits, self.spans, self.bytes, self.durations, self.looked)

    def spend(self, size: int, spans: int = 1) -> None:
        """Spans of so many bytes go out."""
        self.spans += spans
        self.bytes += size
        self._judge()

    def is_slow(self, took: int) -> bool:
        """Return whether an item that took so many nanoseconds is slow."""
        if took < self._floor:
            return False
        return self._limits.slow_seconds is not None or took >= self._threshold()

    def _judge(self) -> None:
        used = self.used
        self.is_whole = used < WHOLE
        """True if it is left whole."""
        most = self._limits.keep_slowest
        self.slowest = most if used < TIGHT else min(most, 1) if used < SHORT else 0
        """Number of ordinary items that are kept of each call."""

    def _threshold(self) -> int:
        """Five times the median. It is looked up anew whenever there are a tenth more durations."""
        known = sum(self.durations.values())
        if known >= self.looked[0]:
            median = percentile(self.durations, 0.5, longest=1 << 63)
            self.looked = known + known // 10 + 1, SLOW_RATIO * median
        return self.looked[1]
