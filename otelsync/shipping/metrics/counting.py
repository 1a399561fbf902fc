"""Metrics made of the journal's records: what each batch of them adds to the series of the catalogue.

Only what is needed is decoded, and pull requests, of which there are most, are taken together by what they have in
common. Pull request numbers, ids of runs and messages never become labels.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs

from otelsync import vocabulary
from otelsync.journal.batch import Batch, Group
from otelsync.otlp.decoding import LeanSpan, lean_spans, resource_attributes, value_of
from otelsync.shipping.checkpoint import Checkpoint, MetricMemory
from otelsync.shipping.metrics import catalogue
from otelsync.shipping.metrics.durations import Exemplar
from otelsync.shipping.metrics.item_counts import ItemCounts
from otelsync.shipping.metrics.quick_items import Alike, Likeness, alike
from otelsync.shipping.metrics.series import MetricSeries
from otelsync.shipping.metrics.span_facts import Facts, read_facts

MOST_OPEN_CALLS: Final = 10_000
"""API calls that have begun, whose operation is remembered for the requests they make."""
_MOST_ALIKE: Final = 4_096
_LONGEST: Final = 512
"""Bytes of attributes that are worth remembering."""
MOST_REPOS: Final = 1_000
"""Repos and pipelines whose last success outlives a restart."""

_CLIENT, _CONSUMER = 3, 5
_METHODS: Final = re.compile(rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|QUERY|TRACE|CONNECT|HTTP)(?: |$)")
_PROGRESS: Final = (b"sync.repo.progress", b"sync.pipeline.progress")
_OURS: Final = b"\x0a\x08otelsync"
"""The name of our own scope, in its message."""
_FIXED_STAGES: Final = frozenset(("pipeline", "repo", "api", "pr"))
_IDENTITY: Final = frozenset(
    (
        vocabulary.SERVICE_NAME,
        vocabulary.SERVICE_NAMESPACE,
        "service.version",
        "deployment.environment",
        "deployment.environment.name",
        vocabulary.HOST_NAME,
    )
)
"""Attributes of a resource that are about a service, and not about one of its processes."""


class _Place(NamedTuple):
    """The process that recorded a span."""

    service: str
    counts: ItemCounts
    calls: dict[str, str]
    """The operations of the API calls that are open, by span id."""
    is_ours: bool


class Metrics:
    """Counts the records of one journal directory in `series`, which several directories may share.

    `name`: the service's, as long as no record has said so.
    """

    def __init__(self, series: MetricSeries, name: str) -> None:
        self.series = series
        self.memory = MetricMemory(service=name)
        self._alike: dict[tuple[bytes, ...], Facts] = {}
        self._services: dict[bytes, str] = {}
        self._calls: dict[str, dict[str, str]] = {}
        """By journal series."""

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint; it goes on being changed here."""
        checkpoint.metrics.service = checkpoint.metrics.service or self.memory.service
        self.memory = memory = checkpoint.metrics
        self._calls.clear()
        for name, series in checkpoint.open.items():
            self._begin(name, series.bodies())
        for pipeline, repos in memory.last_success.items():
            for repo, seconds in repos.items():
                self._put_success(pipeline, repo, seconds)

    def forget(self, present: Iterable[str]) -> None:
        """Forget the journal series that are not among those present: nothing more comes of them."""
        gone = (self._calls.keys() | self.memory.below.keys()) - set(present)
        for series in gone:
            self._calls.pop(series, None)
            self.memory.below.pop(series, None)

    def take(self, batch: Batch) -> None:
        """Count the records of a batch."""
        series = batch.journal.rpartition("-")[0]
        counts = ItemCounts(self.memory.below, series)
        with self.series.lock:
            for group in batch.groups:
                self._begin(series, group.started)
            calls = self._calls.get(series, {})
            # Ours last: what was counted below a span of others then has its place before the stage above ends.
            for group in sorted(batch.groups, key=_is_ours):
                place = _Place(self._service(group.resource), counts, calls, _is_ours(group))
                self._take_spans(group.spans, place)
                self._take_logs(group.logs, place.service)
            for group in batch.groups if calls else ():
                self._end_calls(group, calls)

    def _service(self, resource: bytes) -> str:
        service = self._services.get(resource)
        if service is None:
            attributes = resource_attributes(resource)
            service = str(attributes.get(vocabulary.SERVICE_NAME) or self.memory.service)
            if len(self._services) >= 1_000:
                self._services.clear()
            self._services[resource] = service
            self.series.describe(service, {key: attributes[key] for key in sorted(_IDENTITY & attributes.keys())})
        self.memory.service = service
        return service

    # API calls that are open

    def _begin(self, series: str, started: Sequence[bytes]) -> None:
        for span in lean_spans(started) if started else ():
            if span is not None and span.name.startswith(vocabulary.NAMED_API_BYTES):
                calls = self._calls.setdefault(series, {})
                if len(calls) < MOST_OPEN_CALLS:
                    calls[span.span_id.hex()] = _text(span.name[len(vocabulary.NAMED_API_BYTES) :])

    def _end_calls(self, group: Group, calls: dict[str, str]) -> None:
        for span in lean_spans(group.closed):
            if span is not None:
                calls.pop(span.span_id.hex(), None)

    # Spans

    def _take_spans(self, bodies: Sequence[bytes], place: _Place) -> None:
        groups, others = alike(bodies)
        waiting: dict[str, list[tuple[Likeness, Alike]]] = {}
        """Pull requests that have not been counted, by the stage they belong to."""
        for likeness, items in groups.items():
            waiting.setdefault(place.counts.place(likeness[0].hex()), []).append((likeness, items))
        for span in lean_spans(others):
            if span is None:
                self.series.add(catalogue.UNREADABLE, place.service, ("span",))
                continue
            for likeness, items in waiting.pop(span.span_id.hex(), ()):  # before the span above them
                self._take_alike(likeness, items, place)
            self._take_span(span, place)
        for left in waiting.values():
            for likeness, items in left:
                self._take_alike(likeness, items, place)

    def _take_alike(self, likeness: Likeness, items: Alike, place: _Place) -> None:
        facts = self._alike.get(likeness[1:])
        if facts is None:
            (span,) = lean_spans(items.bodies[:1])
            if span is None:
                self.series.add(catalogue.UNREADABLE, place.service, ("span",), len(items.bodies))
                return
            facts = read_facts(span.attributes)
            if len(likeness[1]) + len(likeness[2]) <= _LONGEST:
                if len(self._alike) >= _MOST_ALIKE:
                    self._alike.clear()
                self._alike[likeness[1:]] = facts
        self._take_items(likeness[0], facts, items.durations, items.slowest(), place)

    def _take_items(
        self, parent: bytes, facts: Facts, durations: Sequence[int], slowest: Exemplar, place: _Place
    ) -> None:
        """Count pull requests below one parent that have these facts in common."""
        names = (vocabulary.SYNC_PIPELINE, vocabulary.SYNC_REPO, vocabulary.SYNC_ACTION)
        pipeline, repo, action = map(facts.text, names)
        outcome = facts.text(vocabulary.SYNC_OUTCOME) or ("failure" if action == "failed" else "success")
        labels = ("pr", pipeline, repo, outcome)
        self.series.observe(catalogue.STAGE_DURATION, place.service, labels, durations, slowest)
        if action:
            self.series.add(catalogue.ITEMS, place.service, (pipeline, repo, action), len(durations))
            place.counts.add(parent.hex(), action, len(durations))

    def _take_span(self, span: LeanSpan, place: _Place) -> None:
        name = span.name
        if name == vocabulary.SYNC_PR_BYTES:
            took = span.end - span.start
            facts = read_facts(span.attributes)
            self._take_items(span.parent_span_id, facts, [took], _exemplar(span, took), place)
            return
        if name.startswith(b"sync."):
            self._take_stage(span, read_facts(span.attributes), place)
            return
        if span.kind == _CONSUMER:
            place.counts.pass_through(span.span_id.hex(), "")
            if name.startswith(b"run/"):
                self._take_task(span, read_facts(span.attributes), place)
            return
        place.counts.pass_through(span.span_id.hex(), span.parent_span_id.hex())
        if span.kind == _CLIENT and _METHODS.match(name):
            self._take_request(span, read_facts(span.attributes), place)

    def _take_stage(self, span: LeanSpan, facts: Facts, place: _Place) -> None:
        kind, name = _stage_of(span.name)
        pipeline = facts.text(vocabulary.SYNC_PIPELINE) or (name if kind == "pipeline" else "")
        repo = facts.text(vocabulary.SYNC_REPO) or (name if kind == "repo" else "")
        outcome = facts.text(vocabulary.SYNC_OUTCOME) or ("failure" if b"\x18\x02" in span.status else "success")
        took, labels = span.end - span.start, (kind, pipeline, repo, outcome)
        self.series.observe(catalogue.STAGE_DURATION, place.service, labels, [took], _exemplar(span, took))
        self._take_totals(span, facts, (pipeline, repo), place)
        if kind == "api":
            self._take_call(span, facts, (pipeline, name, outcome), place.service)
        elif kind in ("repo", "pipeline"):
            if outcome == "success":
                self._note_success(pipeline, repo if kind == "repo" else "", span.end)
        elif kind in ("rate_limit.wait", "retry.wait"):
            what = kind.partition(".")[0]
            waited_for = (pipeline, what, facts.text(vocabulary.SYNC_RATE_LIMIT_KIND, vocabulary.SYNC_RETRY_REASON))
            self.series.add(catalogue.WAIT_TIME, place.service, waited_for, max(took, 0) / 1e9)

    def _take_totals(self, span: LeanSpan, facts: Facts, labels: tuple[str, str], place: _Place) -> None:
        """Count the items that a stage has counted itself."""
        own = place.counts.end(span.span_id.hex(), span.parent_span_id.hex(), facts.items())
        if facts.has(vocabulary.SYNC_TASKS_SUCCEEDED, vocabulary.SYNC_TASKS_FAILED, vocabulary.SYNC_TASKS_CANCELLED):
            return  # a dispatched pipeline: its totals are those of its tasks, which have been counted there
        for action, count in own.items():
            self.series.add(catalogue.ITEMS, place.service, (*labels, action), count)

    def _take_call(self, span: LeanSpan, facts: Facts, labels: tuple[str, str, str], service: str) -> None:
        took = span.end - span.start
        self.series.observe(catalogue.API_DURATION, service, labels, [took], _exemplar(span, took))
        again = max(facts.whole(vocabulary.SYNC_API_ATTEMPTS), 1) - 1 or (facts.whole(vocabulary.SYNC_ATTEMPT) > 1)
        if again:
            self.series.add(catalogue.RETRIES, service, (labels[0], "api", labels[1]), int(again))
        self._take_limits(facts, service, span.end)

    def _take_request(self, span: LeanSpan, facts: Facts, place: _Place) -> None:
        if not facts.has(vocabulary.HTTP_REQUEST_METHOD, "http.method"):
            return
        pipeline, operation = facts.text(vocabulary.SYNC_PIPELINE), place.calls.get(span.parent_span_id.hex(), "")
        if not place.is_ours:
            status = facts.text(vocabulary.HTTP_RESPONSE_STATUS_CODE, "http.status_code", vocabulary.ERROR_TYPE)
            self.series.add(catalogue.API_REQUESTS, place.service, (pipeline, operation, status))
        elif facts.whole(vocabulary.HTTP_REQUEST_RESEND_COUNT):  # of several sends below the client's span, not ours
            self.series.add(catalogue.RETRIES, place.service, (pipeline, "http", operation))
        self._take_limits(facts, place.service, span.end)

    def _take_limits(self, facts: Facts, service: str, at: int) -> None:
        labels = (facts.text(vocabulary.SYNC_RATE_LIMIT_RESOURCE),)
        for metric, name in (
            (catalogue.RATE_LIMIT, vocabulary.SYNC_RATE_LIMIT_LIMIT),
            (catalogue.RATE_REMAINING, vocabulary.SYNC_RATE_LIMIT_REMAINING),
            (catalogue.RATE_RESET, vocabulary.SYNC_RATE_LIMIT_RESET),
        ):
            value = facts.number(name)
            if value is not None:
                self.series.put(metric, service, labels, value, at)

    def _take_task(self, span: LeanSpan, facts: Facts, place: _Place) -> None:
        task = facts.text(vocabulary.CELERY_TASK_NAME) or _text(span.name[len(b"run/") :])
        outcome = facts.text(vocabulary.SYNC_OUTCOME) or "success"
        self.series.add(catalogue.TASKS, place.service, (task, outcome))
        if outcome == "retry":
            self.series.add(catalogue.RETRIES, place.service, (facts.text(vocabulary.SYNC_PIPELINE), "task", task))
        for metric, labels, name in (
            (catalogue.TASK_DURATION, (task, outcome), vocabulary.SYNC_RUN_SECONDS),
            (catalogue.QUEUE_WAIT, (task,), vocabulary.SYNC_QUEUE_WAIT_SECONDS),
        ):
            seconds = facts.number(name)
            if seconds is not None:
                took = int(seconds * 1e9)
                self.series.observe(metric, place.service, labels, [took], _exemplar(span, took))

    # What outlives a restart

    def _note_success(self, pipeline: str, repo: str, end: int) -> None:
        seconds = min(end, time.time_ns()) // 1_000_000_000
        repos = self.memory.last_success.setdefault(pipeline, {})
        if seconds < repos.get(repo, 0):
            return
        repos.pop(repo, None)
        repos[repo] = seconds
        if sum(map(len, self.memory.last_success.values())) > MOST_REPOS:
            self._forget_success()
        self._put_success(pipeline, repo, seconds)

    def _forget_success(self) -> None:
        """Forget the repo of which nothing was heard for longest."""
        held = self.memory.last_success
        pipeline, repo = min(
            ((pipeline, repo) for pipeline, repos in held.items() for repo in repos), key=lambda at: held[at[0]][at[1]]
        )
        del held[pipeline][repo]
        if not held[pipeline]:
            del held[pipeline]

    def _put_success(self, pipeline: str, repo: str, seconds: int) -> None:
        at = seconds * 1_000_000_000
        if repo:
            self.series.put(catalogue.REPO_SUCCESS, self.memory.service, (pipeline, repo), seconds, at)
        else:
            self.series.put(catalogue.PIPELINE_SUCCESS, self.memory.service, (pipeline,), seconds, at)

    # Log records

    def _take_logs(self, bodies: Sequence[bytes], service: str) -> None:
        for body in bodies:
            if b".progress" in body and any(event in body for event in _PROGRESS):
                self._take_progress(body, service)

    def _take_progress(self, body: bytes, service: str) -> None:
        try:
            (record,) = ScopeLogs.FromString(body).log_records
        except (DecodeError, ValueError):
            self.series.add(catalogue.UNREADABLE, service, ("log",))
            return
        if record.body.string_value.encode() not in _PROGRESS:
            return
        told = Facts({pair.key: value_of(pair.value) for pair in record.attributes})
        labels = (told.text(vocabulary.SYNC_PIPELINE), told.text(vocabulary.SYNC_REPO))
        for metric, name in ((catalogue.DONE, "done"), (catalogue.EXPECTED, "total")):
            value = told.number(name)
            if value is not None:
                self.series.put(metric, service, labels, value, record.time_unix_nano)


def _is_ours(group: Group) -> bool:
    return _OURS in group.scope


def _stage_of(name: bytes) -> tuple[str, str]:
    """Return the kind of stage that a span is, as the label has it, and its name."""
    kind, _, rest = _text(name).removeprefix("sync.").partition(" ")
    if kind != "stage":
        return kind, rest
    return (f"stage {rest}" if rest in _FIXED_STAGES else rest), rest


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _exemplar(span: LeanSpan, nanoseconds: int) -> Exemplar:
    return Exemplar(nanoseconds, span.end, span.trace_id, span.span_id)
