"""Metrics made of the journal's records: what each batch of them adds to the series of the catalogue.

Only what is needed is decoded, and items, of which there are most, are taken together by what they have in common.
Every item counts by its own span, and what a stage has counted by hand by that stage's, so nothing counts twice, in
whatever process it was recorded. Ids of items, runs and messages never become labels.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs

from otelsync import vocabulary
from otelsync.journal.batch import Batch, Group
from otelsync.otlp.decoding import LeanSpan, lean_spans, resource_attributes, value_of
from otelsync.shipping.checkpoint import Checkpoint, MetricMemory
from otelsync.shipping.metrics import catalogue
from otelsync.shipping.metrics.durations import Exemplar
from otelsync.shipping.metrics.quick_items import Alike, Likeness, alike, name_of
from otelsync.shipping.metrics.series import IDENTITY, MetricSeries
from otelsync.shipping.metrics.span_facts import Facts, read_facts
from otelsync.vocabulary import API, BATCH, GROUP, ITEM, PARTS, PIPELINE, STAGE, SUCCESS, WAITING, part_of

MOST_OPEN_CALLS: Final = 10_000
"""API calls that have begun, whose operation is remembered for the requests they make."""
_MOST_ALIKE: Final = 4_096
_LONGEST: Final = 512
"""Bytes of attributes that are worth remembering."""
MOST_SERVICES: Final = 100
"""Services of one directory of which something is known after a restart."""
MOST_SUCCESSES: Final = 1_000
"""Groups and pipelines whose last success outlives a restart."""
MOST_SENDS: Final = 1_024
"""Requests that have not ended, of whose single sends one has."""

_CLIENT, _CONSUMER = 3, 5
_STATUS_ERROR: Final = b"\x18\x02"
_METHODS: Final = re.compile(rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|QUERY|TRACE|CONNECT|HTTP)(?: |$)")
_PROGRESS: Final = (b"sync.repo.progress", b"sync.group.progress", b"sync.pipeline.progress")
_FIXED_STAGES: Final = frozenset(("pipeline", "repo", "api", "pr", "batch"))


class _Place(NamedTuple):
    """The process that recorded a span."""

    service: str
    calls: dict[str, str]
    """The operations of the API calls that are open, by span id."""
    is_ours: bool


class Metrics:
    """Counts the records of one journal directory in `series`, which several directories may share.

    `name`: the service's, as long as no record has said so.
    """

    def __init__(self, series: MetricSeries, name: str) -> None:
        self.series = series
        self.is_folding: Callable[[bytes], bool] = lambda _: False
        """Tells of a trace id whether ordinary items of the trace are folded on their way."""
        self.memory = MetricMemory(service=name)
        self._alike: dict[tuple[bytes, ...], Facts] = {}
        self._services: dict[bytes, str] = {}
        self._calls: dict[str, dict[str, str]] = {}
        """By journal series."""
        self._sent: OrderedDict[bytes, None] = OrderedDict()
        """The ids of requests with single sends below them, which have been counted."""

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint; it goes on being changed here."""
        checkpoint.metrics.service = checkpoint.metrics.service or self.memory.service
        self.memory = memory = checkpoint.metrics
        self._calls.clear()
        self._services.clear()
        for service, resource in memory.resources.items():
            self.series.describe(service, resource)
        for name, series in checkpoint.open.items():
            self._begin(name, series.bodies())
        for pipeline, groups in memory.last_success.items():
            for key, seconds in groups.items():
                self._put_success(pipeline, key, seconds)

    def forget(self, present: Iterable[str]) -> None:
        """Forget the journal series that are not among those present: nothing more comes of them."""
        for series in self._calls.keys() - set(present):
            del self._calls[series]

    def take(self, batch: Batch) -> None:
        """Count the records of a batch."""
        series = batch.journal.rpartition("-")[0]
        with self.series.lock:
            for group in batch.groups:
                self._begin(series, group.started)
            calls = self._calls.get(series, {})
            # Ours first: single sends are ours, and end before the request that they are sends of.
            for group in sorted(batch.groups, key=attrgetter("is_ours"), reverse=True):
                place = _Place(self._service(group.resource), calls, group.is_ours)
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
            self._describe(service, {key: str(attributes[key]) for key in sorted(IDENTITY & attributes.keys())})
        self.memory.service = service
        return service

    def _describe(self, service: str, resource: Mapping[str, str]) -> None:
        self.series.describe(service, resource)
        known = self.memory.resources
        known[service] = self.series.resource(service)
        while len(known) > MOST_SERVICES:
            del known[next(iter(known))]

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
        for likeness, items in groups.items():
            self._take_alike(likeness, items, place)
        for span in lean_spans(others):
            if span is None:
                self.series.add(catalogue.UNREADABLE, place.service, ("span",))
            else:
                self._take_span(span, place)

    def _take_alike(self, likeness: Likeness, items: Alike, place: _Place) -> None:
        facts = self._alike.get(likeness)
        if facts is None:
            (span,) = lean_spans(items.bodies[:1])
            if span is None:
                self.series.add(catalogue.UNREADABLE, place.service, ("span",), len(items.bodies))
                return
            facts = read_facts(span.attributes)
            if len(likeness[1]) + len(likeness[2]) <= _LONGEST:
                if len(self._alike) >= _MOST_ALIKE:
                    self._alike.clear()
                self._alike[likeness] = facts
        _, kind = part_of(_text(name_of(likeness)))
        self._take_items(kind, facts, items.durations, items.slowest(), place.service)

    def _take_items(self, kind: str, facts: Facts, durations: Sequence[int], slowest: Exemplar, service: str) -> None:
        """Count items of a kind that have these facts in common."""
        action, where = facts.text(vocabulary.SYNC_ACTION), _whereabouts(facts)
        outcome = facts.text(vocabulary.SYNC_OUTCOME) or ("failure" if action == "failed" else "success")
        if outcome == "success" and self.is_folding(slowest.trace_id):
            slowest = slowest.folded()
        self.series.observe(catalogue.STAGE_DURATION, service, (kind, *where, outcome), durations, slowest)
        self.series.add(catalogue.ITEMS, service, (*where, kind, action or catalogue.NONE), len(durations))
        self._take_counted(facts, where, service, len(durations))
        if again := facts.retries():
            self.series.add(catalogue.RETRIES, service, (where[0], kind, ""), again * len(durations))

    def _take_span(self, span: LeanSpan, place: _Place) -> None:
        name = span.name
        if name.startswith(b"sync."):
            facts = read_facts(span.attributes)
            sort, kind = part_of(_text(name))
            if sort == ITEM:
                took = span.end - span.start
                if _STATUS_ERROR in span.status:
                    facts = facts.of_a_failure()
                shown = _exemplar(span, took)._replace(parent_id=span.parent_span_id)
                self._take_items(kind, facts, [took], shown, place.service)
            else:
                self._take_stage(span, facts, sort, kind, place.service)
        elif span.kind == _CONSUMER and name.startswith(b"run/"):
            self._take_task(span, read_facts(span.attributes), place)
        elif span.kind == _CLIENT and _METHODS.match(name):
            self._take_request(span, read_facts(span.attributes), place)

    def _take_stage(self, span: LeanSpan, facts: Facts, sort: str, kind: str, service: str) -> None:
        label, name = _label_of(span.name, sort, kind)
        where = pipeline, *_ = _whereabouts(facts, sort, kind, name)
        outcome = facts.text(vocabulary.SYNC_OUTCOME) or ("failure" if _STATUS_ERROR in span.status else "success")
        took = span.end - span.start
        labels = (label, *where, outcome)
        self.series.observe(catalogue.STAGE_DURATION, service, labels, [took], _exemplar(span, took))
        self._take_counted(facts, where, service)
        if sort == API:
            self._take_call(span, facts, (pipeline, name, outcome), service)
        elif sort == BATCH:
            self.series.add(catalogue.BATCHES, service, (pipeline, name, outcome))
        elif sort in (GROUP, PIPELINE) and outcome == SUCCESS:
            self._note_success(pipeline, _success_key(kind, name) if sort == GROUP else "", span.end)
        waited_for = _waited_for(facts, sort, kind, name)
        if waited_for:
            self.series.add(catalogue.WAIT_TIME, service, (pipeline, *waited_for), max(took, 0) / 1e9)
        elif sort in PARTS and sort != API and (again := facts.retries()):
            self.series.add(catalogue.RETRIES, service, (pipeline, kind, name), again)

    def _take_counted(self, facts: Facts, where: tuple[str, str, str, str], service: str, spans: int = 1) -> None:
        """Add what was counted by hand on each of some spans."""
        for action, count in facts.counted().items():
            self.series.add(catalogue.ITEMS, service, (*where, "", action), count * spans)

    def _take_call(self, span: LeanSpan, facts: Facts, labels: tuple[str, str, str], service: str) -> None:
        took = span.end - span.start
        self.series.observe(catalogue.API_DURATION, service, labels, [took], _exemplar(span, took))
        again = max(facts.whole(vocabulary.SYNC_API_ATTEMPTS), 1) - 1
        for what, count in (("api", facts.retries()), ("http", again)):
            if count:
                self.series.add(catalogue.RETRIES, service, (labels[0], what, labels[1]), count)
        self._take_limits(facts, service, span.end)

    def _take_request(self, span: LeanSpan, facts: Facts, place: _Place) -> None:
        if not facts.has(vocabulary.HTTP_REQUEST_METHOD, "http.method"):
            return
        pipeline, operation = facts.text(vocabulary.SYNC_PIPELINE), place.calls.get(span.parent_span_id.hex(), "")
        is_again = bool(facts.whole(vocabulary.HTTP_REQUEST_RESEND_COUNT))
        if place.is_ours:  # one of several sends below the client's span
            operation = facts.text(vocabulary.SYNC_API_OPERATION) or operation
            self._sent[span.parent_span_id] = None
            if len(self._sent) > MOST_SENDS:
                self._sent.popitem(last=False)
        else:
            status = facts.text(vocabulary.HTTP_RESPONSE_STATUS_CODE, "http.status_code", vocabulary.ERROR_TYPE)
            self.series.add(catalogue.API_REQUESTS, place.service, (pipeline, operation, status))
            if self._sent and self._sent.pop(span.span_id, self) is None:
                is_again = False
        if is_again:
            self.series.add(catalogue.RETRIES, place.service, (pipeline, "http", operation))
        self._take_limits(facts, place.service, span.end)

    def _take_limits(self, facts: Facts, service: str, at: int) -> None:
        for limit in facts.limits():
            labels = (limit.resource, limit.host, limit.token)
            for metric, value in (
                (catalogue.RATE_LIMIT, limit.limit),
                (catalogue.RATE_REMAINING, limit.remaining),
                (catalogue.RATE_RESET, limit.reset),
            ):
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

    def _note_success(self, pipeline: str, key: str, end: int) -> None:
        """Take note of when a group, or with an empty key the pipeline, has succeeded."""
        now = time.time_ns()
        seconds = min(end, now) // 1_000_000_000
        groups = self.memory.last_success.setdefault(pipeline, {})
        if seconds < groups.get(key, 0) <= now // 1_000_000_000:  # not where the clock has been set back
            return
        groups.pop(key, None)
        groups[key] = seconds
        if sum(map(len, self.memory.last_success.values())) > MOST_SUCCESSES:
            self._forget_success()
        self._put_success(pipeline, key, seconds)

    def _forget_success(self) -> None:
        """Forget the group of which nothing was heard for longest."""
        held = self.memory.last_success
        pipeline, key = min(
            ((pipeline, key) for pipeline, groups in held.items() for key in groups), key=lambda at: held[at[0]][at[1]]
        )
        del held[pipeline][key]
        if not held[pipeline]:
            del held[pipeline]

    def _put_success(self, pipeline: str, key: str, seconds: int) -> None:
        at, service = seconds * 1_000_000_000, self.memory.service
        if not key:
            self.series.put(catalogue.PIPELINE_SUCCESS, service, (pipeline,), seconds, at)
            return
        kind, is_other, name = key.partition("\n")
        kind, name = (kind, name) if is_other else ("repo", key)
        self.series.put(catalogue.GROUP_SUCCESS, service, (pipeline, kind, name), seconds, at)
        if not is_other:
            self.series.put(catalogue.REPO_SUCCESS, service, (pipeline, name), seconds, at)

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
        labels = _whereabouts(told)
        for metric, name in ((catalogue.DONE, "done"), (catalogue.EXPECTED, "total")):
            value = told.number(name)
            if value is not None:
                self.series.put(metric, service, labels, value, record.time_unix_nano)


def _label_of(span_name: bytes, sort: str, kind: str) -> tuple[str, str]:
    """Return the label of a kind of stages, and the stage's own name."""
    head, _, name = _text(span_name).removeprefix("sync.").partition(" ")
    if sort == STAGE and head == STAGE:
        return (f"stage {name}" if name in _FIXED_STAGES else name), name
    return (kind, name) if sort and sort != STAGE else (head, name or head)


def _whereabouts(facts: Facts, sort: str = "", kind: str = "", name: str = "") -> tuple[str, str, str, str]:
    """Return the labels of the pipeline, the repo, and the innermost group, that something of this sort belongs to."""
    pipeline = facts.text(vocabulary.SYNC_PIPELINE) or (name if sort == PIPELINE else "")
    group = facts.group()
    if sort == GROUP and not group[0]:
        group = kind, name
    repo = facts.text(vocabulary.SYNC_REPO) or (name if sort == GROUP and kind == "repo" else "")
    return pipeline, repo, *group


def _waited_for(facts: Facts, sort: str, kind: str, name: str) -> tuple[str, str] | None:
    """Return the labels of a wait; None for what is none."""
    if sort == WAITING:
        reason = facts.text(vocabulary.SYNC_RATE_LIMIT_KIND, vocabulary.SYNC_RETRY_REASON)
        return kind.partition(".")[0], reason
    return ("stage", name) if facts.text(vocabulary.SYNC_STAGE_KIND) == WAITING and sort == STAGE else None


def _success_key(kind: str, name: str) -> str:
    """Return a group's key in the memory; a repo's is its name, as it was when there were no other groups."""
    return name if kind == "repo" else f"{kind}\n{name}"


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _exemplar(span: LeanSpan, nanoseconds: int) -> Exemplar:
    return Exemplar(nanoseconds, span.end, span.trace_id, span.span_id)
