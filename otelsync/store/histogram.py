"""Histograms of durations: eight buckets for each power of two, so that percentiles of a million spans cost nothing.

A bucket is at most 1/8 as wide as its lower bound, so a percentile read from it is off by at most 6.25 % on average
and 12.5 % at worst. Histograms add up: that of a group is the sum of those of its parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

SHORTEST = 8
"""Nanoseconds; anything shorter is counted as this."""


def buckets(durations: Iterable[int]) -> list[int]:
    """The bucket of each duration, in nanoseconds: 8 x the number's bits, plus the three bits after the first."""
    return [((n := d.bit_length()) << 3) | (d >> (n - 4) & 7) if d >= SHORTEST else 32 for d in durations]


def bounds(bucket: int) -> tuple[int, int]:
    """The shortest duration of a bucket, and the shortest of the next, in nanoseconds."""
    exponent = max((bucket >> 3) - 4, 0)
    lower = (8 + (bucket & 7)) << exponent
    return lower, lower + (1 << exponent)


def percentile(counts: Mapping[int, int], fraction: float, *, longest: int) -> int:
    """The duration in nanoseconds that `fraction` of all do not exceed (nearest rank, evenly spread in its bucket).

    Args:
        counts: How many durations fell into each bucket.
        fraction: 0.5 for the median.
        longest: The longest duration, in nanoseconds, where it is known exactly: the result is never beyond it.
    """
    rank = max(math.ceil(fraction * sum(counts.values())), 1)
    for bucket in sorted(counts):
        if rank <= counts[bucket]:
            lower, upper = bounds(bucket)
            return min(lower + int((upper - lower) * (rank - 0.5) / counts[bucket]), longest)
        rank -= counts[bucket]
    return 0
