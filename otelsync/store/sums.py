"""Sums of spans that stand together, as rows of the table `siblings`."""

from __future__ import annotations

import json
from collections import Counter
from operator import sub

from otelsync.store.histogram import buckets
from otelsync.store.kinship import Spans, SumKey
from otelsync.store.rows import LARGEST


def sum_up(key: SumKey, spans: Spans, failed: int) -> tuple[object, ...]:
    """Return a row of `siblings`."""
    starts = [span[5] for span in spans]
    ends = [span[6] for span in spans]
    durations = list(map(sub, ends, starts))
    slowest = max(durations)
    longest = durations.index(slowest)
    if min(durations) < 0:  # a clock was set back
        durations = [max(duration, 0) for duration in durations]
    return (
        *key,
        len(spans),
        failed,
        min(starts),
        max(ends),
        min(sum(durations), LARGEST),
        max(slowest, 0),
        spans[longest][1],
        starts[longest],
        json.dumps(Counter(buckets(durations)), separators=(",", ":")),
    )


def merge_histograms(first: str, second: str) -> str:
    """Add two histograms, as JSON."""
    return json.dumps(Counter(json.loads(first)) + Counter(json.loads(second)), separators=(",", ":"))
