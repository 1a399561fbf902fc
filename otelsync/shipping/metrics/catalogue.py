"""The catalogue of metrics: each one's name, kind, unit and labels, and what it says.

``make docs`` makes the table of the documentation from it. Names and units are OpenTelemetry's way of writing them
(https://opentelemetry.io/docs/specs/semconv/general/metrics/); Prometheus' own are made from these by its rules
(https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from otelsync import vocabulary

Kind = Literal["counter", "gauge", "histogram"]

SERVICE: Final = vocabulary.SERVICE_NAME
"""Label that every metric has in addition: in OTLP on the resource, for Prometheus as a label."""
PIPELINE: Final = vocabulary.SYNC_PIPELINE
REPO: Final = vocabulary.SYNC_REPO
GROUP_KIND: Final = vocabulary.SYNC_GROUP_KIND
GROUP: Final = vocabulary.SYNC_GROUP_NAME
"""Labels of the innermost group, of whatever kind; repos have theirs beside these."""
ITEM_KIND: Final = vocabulary.SYNC_ITEM_KIND
BATCH: Final = vocabulary.SYNC_BATCH
NONE: Final = "none"
"""The label of an item's action that has none."""
OUTCOME: Final = vocabulary.SYNC_OUTCOME
STAGE: Final = vocabulary.SYNC_STAGE
ACTION: Final = vocabulary.SYNC_ACTION
OPERATION: Final = vocabulary.SYNC_API_OPERATION
STATUS: Final = vocabulary.HTTP_RESPONSE_STATUS_CODE
LIMITS: Final = (
    vocabulary.SYNC_RATE_LIMIT_RESOURCE,
    vocabulary.SYNC_RATE_LIMIT_HOST,
    vocabulary.SYNC_RATE_LIMIT_TOKEN,
)
"""Labels that tell rate limits apart: which one, of which API, and for whom."""
TASK: Final = vocabulary.CELERY_TASK_NAME
SIGNAL, SINK, REASON = "otelsync.signal", "otelsync.sink", "otelsync.drop.reason"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    kind: Kind
    unit: str
    """As UCUM writes it: ``s``, or what is counted, in braces."""
    labels: tuple[str, ...]
    says: str

    @property
    def prometheus_unit(self) -> str:
        """The unit in Prometheus' words; empty for a plain number."""
        return "seconds" if self.unit == "s" else ""

    @property
    def family(self) -> str:
        """The name for Prometheus, without the ``_total`` of a counter."""
        return "_".join(filter(None, (prometheus_name(self.name), self.prometheus_unit)))

    @property
    def sample(self) -> str:
        """The name that a query for Prometheus begins with."""
        suffixes = {"counter": "_total", "gauge": "", "histogram": "_bucket"}
        return self.family + suffixes[self.kind]


def prometheus_name(name: str) -> str:
    """A name of OpenTelemetry's as Prometheus takes it."""
    return name.replace(".", "_")


STAGE_DURATION: Final = Metric(
    "sync.stage.duration",
    "histogram",
    "s",
    (STAGE, PIPELINE, REPO, GROUP_KIND, GROUP, OUTCOME),
    "How long stages took: `pipeline`, `api`, `batch`, `rate_limit.wait`, `retry.wait`, the kind of a group or item"
    " (`repo`, `customer`, `pr`, `order`), or another's own name.",
)
API_DURATION: Final = Metric(
    "sync.api.duration",
    "histogram",
    "s",
    (PIPELINE, OPERATION, OUTCOME),
    "How long API calls took, by operation, with all their repetitions and waits; the count is the number of calls.",
)
API_REQUESTS: Final = Metric(
    "sync.api.requests",
    "counter",
    "{request}",
    (PIPELINE, OPERATION, STATUS),
    "HTTP requests, by the API call they were part of and the status or type of error they ended with.",
)
ITEMS: Final = Metric(
    "sync.items",
    "counter",
    "{item}",
    (PIPELINE, REPO, GROUP_KIND, GROUP, ITEM_KIND, ACTION),
    "Items, by kind and by what became of them: created, updated, unchanged, skipped, failed, an action of your own, or"
    " `none`. What was counted by hand has no kind.",
)
BATCHES: Final = Metric(
    "sync.batches",
    "counter",
    "{batch}",
    (PIPELINE, BATCH, OUTCOME),
    "Batches that ended, by name and outcome.",
)
RETRIES: Final = Metric(
    "sync.retries",
    "counter",
    "{retry}",
    (PIPELINE, "sync.retry.of", "sync.retry.name"),
    "Further attempts: of an `api` call or `http` request (by operation), of a `task`, `stage`, `batch` or group (by"
    " its name), or of an item (by its kind).",
)
WAIT_TIME: Final = Metric(
    "sync.wait.time",
    "counter",
    "s",
    (PIPELINE, "sync.wait.for", "sync.wait.kind"),
    "Seconds waited: for a `rate_limit` (primary, secondary, ...), before a `retry` (server, connection, ...), or in a"
    " `stage` of kind `waiting` (its name).",
)
RATE_LIMIT: Final = Metric(
    vocabulary.SYNC_RATE_LIMIT_LIMIT,
    "gauge",
    "{request}",
    LIMITS,
    "How many requests the limit allows, as last seen.",
)
RATE_REMAINING: Final = Metric(
    vocabulary.SYNC_RATE_LIMIT_REMAINING, "gauge", "{request}", LIMITS, "How many of them were left, as last seen."
)
RATE_RESET: Final = Metric(
    "sync.rate_limit.reset.timestamp", "gauge", "s", LIMITS, "When the limit is reset, in Unix time."
)
DONE: Final = Metric(
    "sync.progress.done",
    "gauge",
    "{item}",
    (PIPELINE, REPO, GROUP_KIND, GROUP),
    "Items of the run that were done, as last said.",
)
EXPECTED: Final = Metric(
    "sync.progress.expected",
    "gauge",
    "{item}",
    (PIPELINE, REPO, GROUP_KIND, GROUP),
    "Items of the run that there are in all.",
)
REPO_SUCCESS: Final = Metric(
    "sync.repo.last_success.timestamp",
    "gauge",
    "s",
    (PIPELINE, REPO),
    "When the repo last ended with outcome `success`, in Unix time. It outlives a restart.",
)
GROUP_SUCCESS: Final = Metric(
    "sync.group.last_success.timestamp",
    "gauge",
    "s",
    (PIPELINE, GROUP_KIND, GROUP),
    "The same of groups of every kind, repos among them.",
)
PIPELINE_SUCCESS: Final = Metric(
    "sync.pipeline.last_success.timestamp",
    "gauge",
    "s",
    (PIPELINE,),
    "When the pipeline last ended with outcome `success`, in Unix time. It outlives a restart.",
)
TASKS: Final = Metric("sync.tasks", "counter", "{task}", (TASK, OUTCOME), "Celery tasks that ended, or were put back.")
TASK_DURATION: Final = Metric(
    "sync.task.duration", "histogram", "s", (TASK, OUTCOME), "How long runs of Celery tasks took (`sync.run_seconds`)."
)
QUEUE_WAIT: Final = Metric(
    "sync.task.queue.wait",
    "histogram",
    "s",
    (TASK,),
    "How long Celery tasks waited in their queue beyond a delay that was asked for (`sync.queue.wait_seconds`).",
)
RECORDED: Final = Metric(
    "otelsync.ledger.recorded", "counter", "{record}", (SIGNAL,), "Records (`span`, `log`) that were recorded."
)
SHIPPED: Final = Metric(
    "otelsync.ledger.shipped", "counter", "{record}", (SIGNAL, SINK), "Records that have arrived, by destination."
)
FOLDED: Final = Metric(
    "otelsync.ledger.folded", "counter", "{record}", (SIGNAL, SINK), "Records summed up in others, by destination."
)
DROPPED: Final = Metric(
    "otelsync.ledger.dropped", "counter", "{record}", (SIGNAL, SINK, REASON), "Records that were lost, and why."
)
PENDING: Final = Metric(
    "otelsync.ledger.pending", "gauge", "{record}", (SIGNAL, SINK), "Records that have been read and not yet arrived."
)
UNREADABLE: Final = Metric(
    "otelsync.metrics.unreadable", "counter", "{record}", (SIGNAL,), "Records that no metric could be made of."
)

CATALOGUE: Final = tuple(each for each in list(globals().values()) if isinstance(each, Metric))
"""All of these, in the order of the documentation."""


def markdown() -> str:
    """The table of all metrics, for the documentation."""
    lines = ["| metric | for Prometheus | kind | unit | labels | |", "|---|---|---|---|---|---|"]
    for metric in CATALOGUE:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(
            f"| `{metric.name}` | `{metric.sample}` | {metric.kind} | {metric.unit} | {labels} | {metric.says} |"
        )
    return "\n".join(lines)
