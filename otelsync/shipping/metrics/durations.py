"""Durations in an exponential histogram: eight buckets for each power of two, wherever the durations lie.

That is OTLP's scale 3 (https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram): a bucket is
9 % wide, so a percentile is off by 4.5 % at most. Its bounds hold all powers of two, from which Prometheus' classic
buckets are summed up exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

SCALE: Final = 3
MOST_BUCKETS: Final = 160
"""Buckets that a histogram goes out with, as in the SDK; a wider one is made coarser."""
FRESH_SECONDS: Final = 60.0
"""Seconds for which an exemplar stands against faster ones."""

_PER_OCTAVE: Final = 1 << SCALE
_ORIGIN: Final = math.log2(1e9) * _PER_OCTAVE
"""A second, in nanoseconds: where bucket 0 begins."""
_HAIR: Final = 1e-9
"""Allowance for rounding, so that a bound belongs to the bucket below it, as OTLP says."""

CLASSIC: Final = (-10, -8, -6, -4, -2, *range(16))
"""The bounds of Prometheus' classic buckets, as powers of two: from 1 ms in few steps to 9 hours."""


def a_moment_ago() -> int:
    """Return a time in Unix nanoseconds that is also in milliseconds before whatever happens now."""
    return time.time_ns() - 1_000_000


class Exemplar(NamedTuple):
    """One of the spans that were counted."""

    nanoseconds: int
    at: int
    """Unix nanoseconds."""
    trace_id: bytes
    span_id: bytes
    parent_id: bytes = b""
    """Of an item: the span that stands for it where it is folded."""
    own_id: bytes = b""
    """Its own id, where `span_id` is that one's."""

    def folded(self) -> Exemplar:
        """The same, by the span that stands for it."""
        return self._replace(span_id=self.parent_id, own_id=self.span_id) if self.parent_id else self


@dataclass(slots=True)
class Durations:
    """Counts of durations by bucket. All times are in nanoseconds."""

    count: int = 0
    total: int = 0
    shortest: int = 0
    longest: int = 0
    zeros: int = 0
    buckets: dict[int, int] = field(default_factory=dict)
    exemplar: Exemplar | None = None
    since: int = field(default_factory=a_moment_ago)
    """Unix nanoseconds: when it had counted nothing."""
    number: int = 0
    """Its place in the order in which series began."""

    def add(self, durations: Sequence[int]) -> None:
        """Count durations, at least one; a negative one counts as none at all."""
        buckets = self.buckets
        for index in [math.ceil(math.log2(d) * _PER_OCTAVE - _ORIGIN - _HAIR) - 1 for d in durations if d > 0]:
            buckets[index] = buckets.get(index, 0) + 1
        shortest, longest = max(min(durations), 0), max(0, *durations)
        self.zeros += sum(1 for d in durations if d <= 0) if shortest == 0 else 0
        self.shortest = min(self.shortest, shortest) if self.count else shortest
        self.longest = max(self.longest, longest)
        self.count += len(durations)
        self.total += sum(durations) if shortest else sum(d for d in durations if d > 0)

    def show(self, exemplar: Exemplar) -> None:
        """Take an exemplar, if it is slower than the one there is, or that has grown old."""
        held = self.exemplar
        if (
            held is None
            or exemplar.nanoseconds >= held.nanoseconds
            or exemplar.at - held.at > FRESH_SECONDS * 1_000_000_000
        ):
            self.exemplar = exemplar

    def copy(self) -> Durations:
        """The same, apart."""
        return replace(self, buckets=dict(self.buckets))

    def exponential(self) -> tuple[int, int, list[int]]:
        """Scale, offset and counts as OTLP has them, with at most `MOST_BUCKETS` of these."""
        buckets, scale = self.buckets, SCALE
        while buckets and max(buckets) - min(buckets) >= MOST_BUCKETS:
            coarser: dict[int, int] = {}
            for index, count in buckets.items():
                coarser[index >> 1] = coarser.get(index >> 1, 0) + count
            buckets, scale = coarser, scale - 1
        if not buckets:
            return scale, 0, []
        offset = min(buckets)
        return scale, offset, [buckets.get(index, 0) for index in range(offset, max(buckets) + 1)]

    def classic(self) -> list[tuple[float, int]]:
        """Return the number of durations that did not exceed each bound of `CLASSIC`, in seconds."""
        counted, at_most = self.zeros, []
        indexes = sorted(self.buckets)
        position = 0
        for power in CLASSIC:
            while position < len(indexes) and indexes[position] < power * _PER_OCTAVE:
                counted += self.buckets[indexes[position]]
                position += 1
            at_most.append((2.0**power, counted))
        return at_most
