"""Siblings: the ordinary items below one call, of which the slowest are kept and the rest is summed up."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from otelsync.otlp.encoding import AttributeEncoder, field, text
from otelsync.store.histogram import buckets, percentile
from otelsync.text.quantities import counted
from otelsync.vocabulary import SYNC_ITEMS_FOLDED, SYNC_PR, SYNC_SPANS_FOLDED

Place = tuple[bytes, bytes]
"""Resource and scope, as a `Group` has them."""

_ATTRIBUTES: Final = AttributeEncoder(0x4A)


class Held(NamedTuple):
    """A span on its way out, or kept back for a while."""

    body: bytes
    """As the journal holds it."""
    place: Place
    trace_id: bytes
    """The trace in which it is to go out."""
    sum: int = 0
    """Number of spans that are summed up in its attributes."""


Item = tuple[Held, ...]
"""An item's span, after all those below it."""


@dataclass(slots=True)
class Siblings:
    """The ordinary items below one span, in a size that does not depend on their number."""

    trace_id: bytes
    place: Place
    series: str
    """The journal series in which the latest of them stood."""
    touched: float
    """Seconds of the monotonic clock: when that one was read."""
    name: str = SYNC_PR
    """The name of the first one's span."""
    items: int = 0
    """Items that are summed up."""
    spans: int = 0
    """The same, with the spans below them."""
    durations: dict[int, int] = dataclasses.field(default_factory=dict)
    """Bucket of the histogram to the number of those summed up."""
    longest: int = 0
    """Nanoseconds."""
    first_start: int = 0
    last_end: int = 0
    slowest: list[tuple[int, int, Item]] = dataclasses.field(default_factory=list)
    """A heap: duration in nanoseconds, a number of its own, and the spans."""
    keeps: int = 0
    """Number of those kept so far, for a while."""

    def pass_time(self, start: int, end: int) -> None:
        """Take note of when one of them was, in Unix nanoseconds."""
        if start < self.first_start or not self.first_start:
            self.first_start = start
        if end > self.last_end:
            self.last_end = end

    def is_among_slowest(self, took: int, most: int) -> bool:
        """Return whether one that took so long is among the `most` slowest so far."""
        return most > 0 and (len(self.slowest) < most or took > self.slowest[0][0])

    def keep(self, took: int, item: Item, most: int) -> None:
        """Keep one of the `most` slowest; the one that has to make room, if any, is summed up."""
        self.keeps += 1
        entry = (took, self.keeps, item)
        if len(self.slowest) < most:
            heapq.heappush(self.slowest, entry)
            return
        took, _, item = heapq.heapreplace(self.slowest, entry)
        self.sum_up(took, buckets((took,))[0], spans_in(item))

    def sum_up(self, took: int, bucket: int, spans: int) -> None:
        """Add one that is not kept: its duration, with its bucket, and for how many spans it stands."""
        self.items += 1
        self.spans += spans
        self.durations[bucket] = self.durations.get(bucket, 0) + 1
        if took > self.longest:
            self.longest = took

    def kept(self) -> list[Held]:
        """The spans of those that were kept, in their order."""
        return [held for _, _, item in sorted(self.slowest, key=lambda entry: entry[1]) for held in item]

    def attributes(self) -> bytes:
        """The sums as fields of a Span."""
        sums: dict[str, object] = {SYNC_ITEMS_FOLDED: self.items}
        for name, fraction in (("p50_ms", 0.5), ("p95_ms", 0.95)):
            took = percentile(self.durations, fraction, longest=self.longest)
            sums[f"{SYNC_ITEMS_FOLDED}.{name}"] = round(took / 1e6, 3)
        sums[f"{SYNC_ITEMS_FOLDED}.max_ms"] = round(self.longest / 1e6, 3)
        if self.spans > self.items:
            sums[SYNC_SPANS_FOLDED] = self.spans
        return _ATTRIBUTES.encode(sums)

    def status(self) -> bytes:
        """The same in words, as the status message of a Span that has none: waterfalls show it, and no error by it."""
        median = percentile(self.durations, 0.5, longest=self.longest) / 1e6
        items = counted(self.items, "item")
        words = f"{items} folded into this span: p50 {median:,.0f} ms, longest {self.longest / 1e6:,.0f} ms"
        return field(0x7A, text(0x12, words))


def spans_in(spans: Iterable[Held]) -> int:
    """Return the number of recorded spans that these stand for."""
    return sum(1 + held.sum for held in spans)
