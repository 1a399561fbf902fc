"""The figures of a report, as data: what `summary.json` holds, and the Markdown files and the page are written from.

Names that end in ``_ns`` are nanoseconds; those that end in ``_at_ns`` are instants, in nanoseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from otelsync.reports.items import Items
from otelsync.text.plurals import label
from otelsync.text.quantities import duration


def took(nanoseconds: int) -> str:
    """A duration as people read it in a table: nothing is ``0``."""
    return duration(nanoseconds) if nanoseconds else "0"


@dataclass(frozen=True, slots=True)
class Item:
    """One item, such as a pull request or an order."""

    kind: str
    key: str
    group: str
    """The name of the innermost group that it belongs to."""
    group_kind: str
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
class Batches:
    """All batches of one name."""

    name: str
    count: int
    """Those that have ended."""
    succeeded: int
    failed: int
    items: int
    """Sum of their sizes (``sync.batch.size``)."""
    total_ns: int
    slowest_ns: int

    @property
    def success_rate(self) -> float:
        """Share of those that succeeded."""
        return self.succeeded / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True)
class OwnError:
    """The failure of a group itself."""

    type: str
    message: str
    traceback: tuple[str, ...]
    """The last lines of the traceback, where an exception was recorded."""
    trace_id: str
    span_id: str
    """Of the span in which the exception was recorded, else of the group."""


@dataclass(frozen=True, slots=True)
class Group:
    """A repo, a customer, or by whatever attribute the report is grouped."""

    name: str
    outcome: str
    """``success``, ``partial``, ``failure``, ``cancelled``, ``interrupted`` or ``running``; empty: nobody said."""
    items: Items
    unexplained: Items
    """Of these, what its stages recorded as counted, and neither items nor counts by hand tell of."""
    item_spans: int
    """Spans of items, whatever became of them."""
    items_without_action: int
    """Of these, those of which nobody said what became of them."""
    errors: int
    """Of the run's errors those that arose in it."""
    api_calls: int
    api_failed: int
    resent: int
    """Requests that were sent again."""
    duration_ns: int
    """Of its spans of groups together; where there is none, from its first span to the end of its last."""
    waited_ns: int
    """Of this, for rate limits, before requests were sent again, and in stages of kind ``waiting``."""
    started_at_ns: int
    time_ns: Mapping[str, int]
    """Own time of its spans by category; see `otelsync.reports.time_spent`."""
    operations: tuple[Operation, ...]
    batches: tuple[Batches, ...]
    failed: tuple[Item, ...]
    """The first that failed."""
    failed_count: int
    """Number of items that failed, and were not made good."""
    slowest: tuple[Item, ...]
    within: Mapping[str, tuple[str, ...]]
    """Groups of other kinds in it: the first names by kind."""
    own_errors: tuple[OwnError, ...] = ()
    file: str = ""
    """Its Markdown file in the report's folder."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """The place where an error arose, and its log record."""

    trace_id: str
    span_id: str
    name: str
    group: str
    """The name of the innermost group around it."""
    kind: str
    """Kind and key of the item that it is, or is about; empty texts: of none."""
    key: str
    ended_at_ns: int
    log: str = ""
    """The record's id in the catalogue and its event; empty: none was found."""
    logged_at_ns: int = 0


@dataclass(frozen=True, slots=True)
class ErrorType:
    """Errors of one type and reason, each counted once: where it arose, and not again in every stage around."""

    type: str
    reason: str
    """The message without numbers, ids, quoted values and what varies in URLs."""
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
    """Attempts that were repeated, each of these on its own."""

    parts: int = 0
    """Items, API calls and other parts that were done again."""
    recovered: int = 0
    """Failures that a later attempt made good. They are no errors."""
    tasks: int = 0
    """Attempts of tasks that were put back (outcome ``retry``)."""
    resent: int = 0
    """Requests that were sent again: physical sends beyond the first."""
    by_reason: Mapping[str, int] = field(default_factory=dict)
    """Log records ``sync.api.retry`` by what they give as their reason."""
    failed_requests: int = 0
    """Requests that failed, in a stage that did not."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Waits of one kind: for a rate limit, before a request was sent again, or a stage of kind ``waiting``."""

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
    reset_is_assumed: bool = False
    """True if nobody has told when it is reset."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The ledger of the run: rows in the store against what the store counted as they came in."""

    spans: int
    spans_counted: int
    running: int
    """Of the spans, those that have not ended; they are not counted yet."""
    logs: int
    logs_counted: int
    item_spans: int
    """Spans of items that have ended."""
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
    """Errors that the previous run did not have: type and message of the first of a reason."""
    new_failures: tuple[str, ...]
    """Items, among those that the report names, that failed now and not before."""


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
    api_calls: int
    waited_ns: int
    group_by: str
    """A kind of groups, or an attribute."""
    group_attribute: str
    """The attribute whose values name the groups."""
    groups: tuple[Group, ...]
    outside: Group
    """Everything that belongs to no group."""
    time_ns: Mapping[str, int]
    operations: tuple[Operation, ...]
    batches: tuple[Batches, ...]
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
    trace_url: str = ""
    """The address of its trace in a tracing backend; empty where nobody has said where that is."""

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.sync_id or self.trace_id

    @property
    def group_label(self) -> str:
        """Words for what the groups are."""
        return label(self.group_by) if self.group_attribute == f"sync.{self.group_by}" else self.group_by

    @property
    def counts(self) -> tuple[str, ...]:
        """Names of the counts of items: ``fetched``, and every action that is known or occurs."""
        return tuple(self.items.by_name())

    @property
    def reconciles(self) -> bool:
        """True if all counts agree."""
        return not self.discrepancies
