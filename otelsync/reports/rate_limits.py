"""Rate limits as a run saw them: what was left when it was last seen, and how long was waited."""

from __future__ import annotations

from typing import Final

from otelsync import vocabulary
from otelsync.reports.figures import RateLimit, Wait
from otelsync.reports.sweep import Step
from otelsync.reports.time_spent import nanoseconds
from otelsync.reports.values import OTHER, bounded
from otelsync.text.limits import limits_of

_MOST: Final = 50


class RateLimits:
    """Takes in the spans of a run, in the order in which they ended."""

    def __init__(self) -> None:
        self._seen: dict[str, RateLimit] = {}
        self._waits: dict[str, Wait] = {}

    def add(self, step: Step) -> None:
        """Take in a span."""
        if step.is_wait:
            self._wait(step)
        elif vocabulary.SYNC_RATE_LIMIT_REMAINING in step.attributes:
            self._observe(step)

    def limits(self) -> tuple[RateLimit, ...]:
        """By resource, API and token, in the order of their names."""
        return tuple(self._seen[key] for key in sorted(self._seen))

    def waits(self) -> tuple[Wait, ...]:
        """By kind, the longest together first."""
        return tuple(sorted(self._waits.values(), key=lambda wait: (-wait.actual_ns, wait.kind)))

    def _observe(self, step: Step) -> None:
        for limit in limits_of(step.attributes):
            name = bounded(limit.name, 100)
            key = name if name in self._seen or len(self._seen) < _MOST else OTHER
            known = self._seen.get(key)
            least = [number for number in (limit.remaining, known.lowest if known else None) if number is not None]
            self._seen[key] = RateLimit(
                resource=key,
                limit=limit.limit,
                remaining=limit.remaining,
                lowest=min(least, default=None),
                reset_at_ns=int(limit.reset * 1e9) if limit.reset is not None else None,
                seen_at_ns=step.end_ns,
                reset_is_assumed=limit.is_assumed,
            )

    def _wait(self, step: Step) -> None:
        attributes = step.attributes
        planned = 0
        if step.sort == vocabulary.STAGE:
            kind = bounded(step.name.removeprefix(vocabulary.NAMED_STAGE), 60)
        elif step.name == vocabulary.SYNC_RETRY_WAIT:
            kind = f"retry ({bounded(attributes.get(vocabulary.SYNC_RETRY_REASON, 'unknown'), 40)})"
            planned = nanoseconds(attributes.get(vocabulary.SYNC_RETRY_PLANNED_SECONDS))
        else:
            kind = bounded(attributes.get(vocabulary.SYNC_RATE_LIMIT_KIND, "unknown"), 40)
            planned = nanoseconds(attributes.get(vocabulary.SYNC_RATE_LIMIT_PLANNED_SECONDS))
        kind = kind if kind in self._waits or len(self._waits) < _MOST else OTHER
        took = step.duration_ns
        known = self._waits.get(kind, Wait(kind, 0, 0, 0, 0))
        self._waits[kind] = Wait(
            kind, known.count + 1, known.planned_ns + planned, known.actual_ns + took, max(known.longest_ns, took)
        )
