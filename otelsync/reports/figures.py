"""The figures of a report, as data: what `summary.json` holds, and the Markdown files and the page are written from.

Names that end in ``_ns`` are nanoseconds; those that end in ``_at_ns`` are instants, in nanoseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from otelsync.text.quantities import duration
from otelsync.vocabulary import ACTIONS


def took(nanoseconds: int) -> str:
    """A duration as people read it in a table: nothing is ``0``."""
    return duration(nanoseconds) if nanoseconds else "0"


@dataclass(frozen=True, slots=True)
class Items:
    """Counts of items by their fate."""

    fetched: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0

    @property
    def accounted_for(self) -> int:
        """Number of items with a known fate."""
        return self.created + self.updated + self.unchanged + self.skipped + self.failed

    @property
    def missing(self) -> int:
        """Number of items that were fetched and are not accounted for; negative: too many are."""
        return self.fetched - self.accounted_for

    def __add__(self, other: Items) -> Items:
        return Items(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    def __sub__(self, other: Items) -> Items:
        return Items(*(getattr(self, part.name) - getattr(other, part.name) for part in fields(self)))

    def __bool__(self) -> bool:
        return any(getattr(self, part.name) for part in fields(self))


NOTHING: Final = Items()


def items_line(items: Items) -> str:
    """``12 fetched = 10 created + 2 failed``, and what is missing."""
    parts = [f"{getattr(items, action):,} {action}" for action in ACTIONS if getattr(items, action)]
    off = f" ({items.missing:+,} unaccounted for)" if items.missing else ""
    return f"{items.fetched:,} fetched = {' + '.join(parts) or '0'}{off}"


@dataclass(frozen=True, slots=True)
class Item:
    """One pull request."""

    change: str
    repo: str
    action: str
    title: str
    error: str
    duration_ns: int
    started_at_ns: int
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Operation:
    """All spans of one name."""

    name: str
    count: int
    failed: int
    total_ns: int
    own_ns: int
    slowest_ns: int


@dataclass(frozen=True, slots=True)
class Group:
    """A repo, a customer, or by whatever attribute the report is grouped."""

    name: str
    outcome: str
    """``success``, ``partial``, ``failure``, ``cancelled``, ``interrupted`` or ``running``; empty: nobody said."""
    items: Items
    items_from: str
    """Source of `items`: ``stages`` (their totals), ``spans`` (of pull requests), ``records`` (of progress)."""
    pull_requests: int
    """Pull requests with an action in the store."""
    api_calls: int
    api_failed: int
    resent: int
    """Requests that were sent again within an API call."""
    duration_ns: int
    """Of its repos together; where there is none, from its first span to the end of its last."""
    waited_ns: int
    """Of this, for rate limits and before requests were sent again."""
    started_at_ns: int
    time_ns: Mapping[str, int]
    """Own time of its spans by category; see `otelsync.reports.time_spent`."""
    operations: tuple[Operation, ...]
    failed: tuple[Item, ...]
    """The first that failed."""
    slowest: tuple[Item, ...]
    repos: tuple[str, ...]
    """The first repos in it."""
    file: str = ""
    """Its Markdown file in the report's folder."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """The place where an error arose, and its log record."""

    trace_id: str
    span_id: str
    name: str
    repo: str
    change: str
    ended_at_ns: int
    log: str = ""
    """The record's id in the catalogue and its event; empty: none was found."""
    logged_at_ns: int = 0


@dataclass(frozen=True, slots=True)
class ErrorType:
    """Failures of one type, each counted once: where it arose, and not again in every stage around."""

    type: str
    count: int
    message: str
    """Of the first."""
    stages: Mapping[str, int]
    """Number of errors by the span in which they arose."""
    occurrences: tuple[Occurrence, ...]
    """The first."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """Log records of one event at WARNING or above."""

    id: str
    event: str
    level: str
    count: int
    first_at_ns: int
    last_at_ns: int


@dataclass(frozen=True, slots=True)
class Retries:
    """Attempts that were repeated."""

    resent: int = 0
    """Requests sent again (``sync.api.attempts`` of API calls, ``http.request.resend_count`` of requests)."""
    by_reason: Mapping[str, int] = field(default_factory=dict)
    """Log records ``sync.api.retry`` by what they give as their reason."""
    recovered: int = 0
    """Requests that failed, in a stage that did not."""
    tasks: int = 0
    """Attempts of tasks that were put back (outcome ``retry``)."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Waits of one kind: for a rate limit, or before a request was sent again."""

    kind: str
    count: int
    planned_ns: int
    actual_ns: int
    longest_ns: int


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A rate limit as it was last seen. What was not said is None."""

    resource: str
    limit: int | None
    remaining: int | None
    lowest: int | None
    """The least that remained in the run."""
    reset_at_ns: int | None
    seen_at_ns: int


@dataclass(frozen=True, slots=True)
class Rows:
    """The ledger of the run: rows in the store against what the store counted as they came in."""

    spans: int
    spans_counted: int
    running: int
    """Of the spans, those that have not ended; they are not counted yet."""
    logs: int
    logs_counted: int
    pull_requests: int
    """With an action."""
    traces: int


@dataclass(frozen=True, slots=True)
class Journal:
    """The fate of all records of a journal directory, of this run and of others."""

    name: str
    recorded: int
    accounted_for: int
    """Shipped, folded, dropped or pending; `recorded` is the same on a good day. Sums over signals and sinks."""
    dropped: int
    pending: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Two figures that ought to be the same and are not."""

    what: str
    expected: int
    found: int
    group: str | None = None
    """The group that it is about."""


@dataclass(frozen=True, slots=True)
class GroupChange:
    """A group, before and now; None where there was none."""

    name: str
    outcome_before: str | None
    outcome: str | None
    duration_before_ns: int | None
    duration_ns: int | None
    fetched_before: int | None
    fetched: int | None
    failed_before: int | None
    failed: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference from the previous run of the same pipeline."""

    sync_id: str
    started_at_ns: int
    outcome: str
    duration_ns: int
    items: Items
    api_calls: int
    waited_ns: int
    errors: int
    groups: tuple[GroupChange, ...]
    """Those that have changed most, failures first."""
    new_errors: tuple[str, ...]
    """Types of error that the previous run did not have."""
    new_failures: tuple[str, ...]
    """Pull requests, among those that the report names, that failed now and not before."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that a report says of a run."""

    sync_id: str
    trace_id: str
    pipeline: str
    service: str
    outcome: str
    error: str
    """The pipeline's error."""
    phase: str
    started_at_ns: int
    ended_at_ns: int | None
    last_seen_at_ns: int
    duration_ns: int
    attributes: Mapping[str, str]
    """The caller's own, of the pipeline."""
    items: Items
    items_from: str
    api_calls: int
    waited_ns: int
    group_by: str
    groups: tuple[Group, ...]
    outside: Group
    """Everything that belongs to no group."""
    time_ns: Mapping[str, int]
    operations: tuple[Operation, ...]
    error_count: int
    errors: tuple[ErrorType, ...]
    events: tuple[LoggedEvent, ...]
    retries: Retries
    waits: tuple[Wait, ...]
    rate_limits: tuple[RateLimit, ...]
    rows: Rows
    journals: tuple[Journal, ...]
    discrepancies: tuple[Discrepancy, ...]
    traces: tuple[str, ...]
    previous: Comparison | None = None

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.sync_id or self.trace_id

    @property
    def reconciles(self) -> bool:
        """True if all counts agree."""
        return not self.discrepancies
