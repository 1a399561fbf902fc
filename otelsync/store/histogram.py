"""Sums of spans, and histograms of their durations: percentiles of a million spans cost nothing.

A histogram has eight buckets for each power of two. One is at most 1/8 as wide as its lower bound, so a percentile read
from it is off by at most 6.25 % on average and 12.5 % at worst. Histograms add up: that of a group is the sum of
those of its parts.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import sub

from otelsync.store.schema import LARGEST

SHORTEST = 8
"""Nanoseconds; anything shorter is counted as this."""


def buckets(durations: Iterable[int]) -> list[int]:
    """The bucket of each duration, in nanoseconds: 8 x the number's bits, plus the three bits after the first."""
    return [((n := d.bit_length()) << 3) | (d >> (n - 4) & 7) if d >= SHORTEST else 32 for d in durations]


def bucket_of(duration: int) -> int:
    """The bucket of one duration."""
    return ((n := duration.bit_length()) << 3) | (duration >> (n - 4) & 7) if duration >= SHORTEST else 32


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


def added(histograms: Iterable[str]) -> dict[str, int]:
    """The sum of histograms in JSON. All are parsed at once, without making a dict of each: there may be 10,000."""
    pairs: list[tuple[str, int]] = []
    json.loads(f"[{','.join(histograms)}]", object_pairs_hook=pairs.extend)
    total: dict[str, int] = defaultdict(int)
    for bucket, count in pairs:
        total[bucket] += count
    return total


def merge_histograms(first: str, second: str) -> str:
    """Add two histograms, as JSON."""
    return json.dumps(added((first, second)), separators=(",", ":"))


def sum_up(starts: Sequence[int], ends: Sequence[int], ids: Sequence[str], failed: int) -> tuple[object, ...]:
    """Return a row of `siblings`, from `count` to `durations`, of spans that stand together."""
    durations = list(map(sub, ends, starts))
    slowest = max(durations)
    longest = durations.index(slowest)
    if min(durations) < 0:  # a clock was set back
        durations = [max(duration, 0) for duration in durations]
    return (
        len(durations),
        failed,
        min(starts),
        max(ends),
        min(sum(durations), LARGEST),
        max(slowest, 0),
        ids[longest],
        starts[longest],
        json.dumps(Counter(buckets(durations)), separators=(",", ":")),
    )
