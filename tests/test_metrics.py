"""Metrics made of records: spans in, points out; within bounds, each item once, also across a restart."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import celery
import pytest
import sync_spans
import trace_tree
from hypothesis import given
from hypothesis import strategies as st
from journal_files import field, resource, scope, span
from opentelemetry import trace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.trace import SpanKind
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from recorded import Recorded

import otelsync
from otelsync.journal.batch import Batch, Group
from otelsync.levels import INFO
from otelsync.logs.installed import emit
from otelsync.shipping import orphans
from otelsync.shipping.checkpoint import Checkpoint, OpenSeries
from otelsync.shipping.ledger import Account, Ledger
from otelsync.shipping.metrics import catalogue, prometheus_text
from otelsync.shipping.metrics.catalogue import CATALOGUE, Metric
from otelsync.shipping.metrics.counting import Metrics
from otelsync.shipping.metrics.durations import CLASSIC, MOST_BUCKETS, Durations, Exemplar
from otelsync.shipping.metrics.export import MOST_POINTS, encode
from otelsync.shipping.metrics.quick_items import alike
from otelsync.shipping.metrics.series import LONGEST, OTHER, BoundedLabel, Labels, MetricSeries
from otelsync.shipping.metrics.service import count_ledger

SECOND = 1_000_000_000


def counted(journal: Path, series: MetricSeries | None = None) -> MetricSeries:
    """What all records of a journal come to."""
    metrics = Metrics(series or MetricSeries(), "test")
    for batch in trace_tree.batches(journal):
        metrics.take(batch)
    return metrics.series


OF_KINDS = frozenset((catalogue.GROUP_KIND, catalogue.GROUP, catalogue.ITEM_KIND))
"""Labels that say nothing new of repos and pull requests."""


def values(series: MetricSeries, metric: Metric, leave_out: frozenset[str] = OF_KINDS) -> dict[Labels, Any]:
    """The series of one metric by the values of their labels, in the order of the catalogue."""
    if metric is catalogue.GROUP_SUCCESS:
        leave_out = frozenset()
    found = [
        (tuple(point.labels.get(name, "") for name in metric.labels if name not in leave_out), point.value)
        for family in series.families()
        if family.metric is metric
        for point in family.points
    ]
    return {
        labels: value if metric.kind == "histogram" else sum(held for other, held in found if other == labels)
        for labels, value in found
    }


def every(series: MetricSeries, metric: Metric) -> dict[Labels, Any]:
    """The same with all labels; of a histogram the number of durations."""
    found = values(series, metric, frozenset())
    return {labels: value.count for labels, value in found.items()} if metric.kind == "histogram" else found


def counts(series: MetricSeries, metric: Metric) -> dict[Labels, int]:
    """The same of a histogram: how many durations each series has."""
    return {labels: durations.count for labels, durations in values(series, metric).items()}


def batch(*groups: Group, journal: str = "1-1-0123abcd-000000.journal") -> Batch:
    return Batch(journal, 0, 0, list(groups))


# Stages and items


def test_every_stage_has_a_duration_by_pipeline_repo_and_outcome(recorded: Recorded) -> None:
    """Pipelines, repos, calls, pull requests and other stages are counted where they belong, failed ones apart."""
    with otelsync.pipeline("github"), otelsync.repo("acme/api"):
        with otelsync.api_call("list_pulls"), otelsync.pull_request(1) as pr:
            pr.set(action="created")
        with pytest.raises(ValueError, match="no"), otelsync.pull_request(2):
            raise ValueError("no")
        with otelsync.stage("llm.batch"):
            pass
        with otelsync.stage("repo"):
            pass
    assert counts(counted(recorded.journal), catalogue.STAGE_DURATION) == {
        ("pipeline", "github", "", "partial"): 1,
        ("repo", "github", "acme/api", "partial"): 1,
        ("api", "github", "acme/api", "success"): 1,
        ("pr", "github", "acme/api", "success"): 1,
        ("pr", "github", "acme/api", "failure"): 1,
        ("llm.batch", "github", "acme/api", "success"): 1,
        ("stage repo", "github", "acme/api", "success"): 1,
    }


def test_items_count_once_wherever_they_are_counted(recorded: Recorded) -> None:
    """Pull requests count one by one, other stages what was counted by hand on them, and sums above add nothing."""
    with otelsync.pipeline("github") as run, otelsync.repo("acme/api") as repo:
        with otelsync.api_call("list_pulls") as call:
            for number in range(3):
                with otelsync.pull_request(number) as pr:
                    pr.set(action="created")
                    pr.count(comments=2)
            call.count(updated=4, fetched=7)
        repo.count(created=2, labelled=1)
        run.count(skipped=5)
    assert values(counted(recorded.journal), catalogue.ITEMS) == {
        ("github", "acme/api", "created"): 5,
        ("github", "acme/api", "updated"): 4,
        ("github", "acme/api", "labelled"): 1,
        ("github", "acme/api", "comments"): 6,
        ("github", "", "skipped"): 5,
    }


def test_a_span_of_others_between_two_stages_hides_nothing(recorded: Recorded) -> None:
    """What was counted below a foreign span counts there, and the sum above it adds nothing."""
    tracer = trace.get_tracer("of.others")
    with otelsync.repo("acme/api"), tracer.start_as_current_span("a"), tracer.start_as_current_span("b"):
        with otelsync.pull_request(1) as pr:
            pr.set(action="created")
        with otelsync.api_call("list_pulls") as call:
            call.count(updated=2)
    assert values(counted(recorded.journal), catalogue.ITEMS) == {
        ("", "acme/api", "created"): 1,
        ("", "acme/api", "updated"): 2,
    }


def test_items_count_once_however_the_records_are_batched(recorded: Recorded) -> None:
    """Whether a stage comes in one batch with what is below it, or in others, does not matter."""
    with otelsync.repo("acme/api") as repo, otelsync.api_call("list_pulls"):
        for number in range(5):
            with otelsync.pull_request(number) as pr:
                pr.set(action="created", title=f"no two are alike: {number}")
        repo.count(updated=2)
    metrics = Metrics(MetricSeries(), "test")
    for whole in trace_tree.batches(recorded.journal):
        for group in whole.groups:
            for body in group.spans:
                metrics.take(batch(Group(group.resource, group.scope, spans=[body])))
    assert values(metrics.series, catalogue.ITEMS) == {
        ("", "acme/api", "created"): 5,
        ("", "acme/api", "updated"): 2,
    }


def test_a_restart_in_the_middle_of_a_stage_counts_nothing_twice(recorded: Recorded) -> None:
    """What a stage says of itself is what was counted by hand on it, whoever counted what was below."""
    with otelsync.repo("acme/api") as repo, otelsync.api_call("list_pulls"):
        for number in range(10):
            with otelsync.pull_request(number) as pr:
                pr.set(action="created")
        repo.count(updated=1)
    (whole,) = trace_tree.batches(recorded.journal)
    (group,) = [group for group in whole.groups if group.spans]
    pieces = [Group(group.resource, group.scope, spans=spans) for spans in (group.spans[:4], group.spans[4:])]
    checkpoint = Checkpoint()
    seen = []
    for piece in pieces:
        metrics = Metrics(MetricSeries(), "test")
        metrics.resume(checkpoint)
        metrics.take(batch(piece))
        seen.append(values(metrics.series, catalogue.ITEMS))
    assert seen == [
        {("", "acme/api", "created"): 4},
        {("", "acme/api", "created"): 6, ("", "acme/api", "updated"): 1},
    ]


def test_a_dispatched_pipeline_does_not_count_its_tasks_again(recorded: Recorded) -> None:
    """Its totals are those of its tasks, wherever these ran, and their stages count themselves."""
    otelsync.instrument("celery")
    with celery.Celery("t", set_as_current=False) as app:
        app.conf.update(broker_url="memory://", task_always_eager=True)

        @app.task(name="sync_repo", shared=False)
        def sync_repo(name: str) -> None:
            with otelsync.repo(name) as repo, otelsync.pull_request(1) as pr:
                pr.set(action="created")
                repo.count(updated=2)

        with otelsync.pipeline("github") as run:
            run.dispatch(celery.group([sync_repo.si("acme/a"), sync_repo.si("acme/b")], app=app))
    otelsync.uninstrument("celery")
    series = counted(recorded.journal)
    assert recorded.span("sync.pipeline github").attributes["sync.items.updated"] == 4
    assert values(series, catalogue.ITEMS) == {
        ("github", "acme/a", "created"): 1,
        ("github", "acme/a", "updated"): 2,
        ("github", "acme/b", "created"): 1,
        ("github", "acme/b", "updated"): 2,
    }
    assert values(series, catalogue.TASKS) == {("sync_repo", "success"): 2}
    assert counts(series, catalogue.TASK_DURATION) == {("sync_repo", "success"): 2}


# Groups, items and batches of any kind


def test_customers_and_orders_count_by_their_kind(recorded: Recorded) -> None:
    """Stages carry kind and name of the innermost group; items count by kind and action, also without one."""
    with otelsync.pipeline("orders"), otelsync.group("customer", "GREYSON"):
        with otelsync.batch("create_items", number=1, size=3):
            for key, action in ((1, "created"), (2, "created"), (3, "creatd"), (4, None)):
                with otelsync.item("order", key, title=f"no two are alike: {key}") as order:
                    if action:
                        order.set(action=action)
        with otelsync.group("board", "Orders") as board, otelsync.item("subitem", "4-1") as part:
            part.set(action="updated")
            board.count(created=2)
    series = counted(recorded.journal)
    customer, board_ = ("customer", "GREYSON"), ("board", "Orders")
    assert every(series, catalogue.STAGE_DURATION) == {
        ("pipeline", "orders", "", "", "", "success"): 1,
        ("customer", "orders", "", *customer, "success"): 1,
        ("batch", "orders", "", *customer, "success"): 1,
        ("order", "orders", "", *customer, "success"): 4,
        ("board", "orders", "", *board_, "success"): 1,
        ("subitem", "orders", "", *board_, "success"): 1,
    }
    assert every(series, catalogue.ITEMS) == {
        ("orders", "", *customer, "order", "created"): 2,
        ("orders", "", *customer, "order", "creatd"): 1,
        ("orders", "", *customer, "order", "none"): 1,
        ("orders", "", *board_, "subitem", "updated"): 1,
        ("orders", "", *board_, "", "created"): 2,
    }
    assert set(values(series, catalogue.GROUP_SUCCESS)) == {("orders", *customer), ("orders", *board_)}


@pytest.mark.parametrize("make", [otelsync.pull_request, partial(otelsync.item, "order")], ids=["pr", "order"])
def test_items_are_read_the_quick_way(recorded: Recorded, make: Callable[..., Any]) -> None:
    """As the recorder writes them, items of any kind are taken together, those alike in all but their ids."""
    with otelsync.pipeline("p"), otelsync.repo("acme/api"):
        for number in range(100, 120):
            with make(number) as item:
                item.set(action="created" if number % 2 else "updated")
    bodies = [body for whole in trace_tree.batches(recorded.journal) for group in whole.groups for body in group.spans]
    found, others = alike(bodies)
    assert sorted(len(items.durations) for items in found.values()) == [10, 10]
    assert len(others) == 2


def test_an_item_that_another_tracer_failed_counts_as_failed(recorded: Recorded) -> None:
    """The span's status says so, where its attributes do not."""
    with otelsync.pipeline("orders"), trace.get_tracer("of.others").start_as_current_span("sync.order") as span_:
        span_.set_status(trace.StatusCode.ERROR)
    series = counted(recorded.journal)
    assert values(series, catalogue.ITEMS) == {("orders", "", "failed"): 1}
    assert counts(series, catalogue.STAGE_DURATION)["order", "orders", "", "failure"] == 1


def test_repos_have_both_kinds_of_labels(recorded: Recorded) -> None:
    """What was there before there were other groups stays as it was."""
    with otelsync.pipeline("github"), otelsync.repo("acme/api"), otelsync.pull_request(1) as pr:
        pr.set(action="created")
    series = counted(recorded.journal)
    assert every(series, catalogue.ITEMS) == {("github", "acme/api", "repo", "acme/api", "pr", "created"): 1}
    assert set(values(series, catalogue.REPO_SUCCESS)) == {("github", "acme/api")}
    assert set(values(series, catalogue.GROUP_SUCCESS)) == {("github", "repo", "acme/api")}


def test_batches_count_by_name_and_outcome(recorded: Recorded) -> None:
    """The rate of success of batches can be made of them."""
    with otelsync.pipeline("orders"):
        for number in range(3):
            with otelsync.batch("create_items", number=number) as part:
                if number == 1:
                    part.fail("no")
    assert values(counted(recorded.journal), catalogue.BATCHES) == {
        ("orders", "create_items", "success"): 2,
        ("orders", "create_items", "failure"): 1,
    }


def test_a_batch_that_was_interrupted_counts_as_that() -> None:
    """What the shipper closes in place of a process that is gone has an outcome like any other."""
    ended = sync_spans.body(1, "sync.batch create_items", sync__outcome="interrupted", failed=True)
    series = MetricSeries()
    Metrics(series, "test").take(batch(Group(resource(), scope(), spans=[ended])))
    assert values(series, catalogue.BATCHES) == {("", "create_items", "interrupted"): 1}


def test_stages_of_kind_waiting_are_waits(recorded: Recorded) -> None:
    """Their seconds count under their name, and their duration as any stage's."""
    with otelsync.pipeline("orders"), otelsync.stage("lock", kind="waiting"):
        pass
    series = counted(recorded.journal)
    assert set(values(series, catalogue.WAIT_TIME)) == {("orders", "stage", "lock")}
    assert counts(series, catalogue.STAGE_DURATION)["lock", "orders", "", "success"] == 1


def test_retries_of_every_sort_of_part(recorded: Recorded) -> None:
    """A part that says that it is another attempt is a retry; else one that makes failures good is as many."""
    with otelsync.pipeline("orders"), otelsync.group("customer", "GREYSON", attempt=2) as customer:
        customer.set(**{"sync.attempt": 2, "sync.recovered": 1})
        with otelsync.batch("create_items", attempt=3):
            with otelsync.item("order", 1, attempt=2) as order:
                order.set(action="created")
            with otelsync.item("order", 2) as order:
                order.set(action="created", **{"sync.recovered": 2})
        with otelsync.stage("cleanup") as stage:
            stage.set(**{"sync.recovered": 1})
        with otelsync.api_call("list", page=1) as call:
            call.set(**{"sync.recovered": 2})
    assert values(counted(recorded.journal), catalogue.RETRIES) == {
        ("orders", "customer", "GREYSON"): 1,
        ("orders", "batch", "create_items"): 1,
        ("orders", "order", ""): 3,
        ("orders", "stage", "cleanup"): 1,
        ("orders", "api", "list"): 2,
    }


def test_a_request_sent_again_counts_once_a_send_under_its_operation(recorded: Recorded) -> None:
    """Sends below a request count one by one, and the request itself does not; without them it counts as one."""
    theirs, ours = trace.get_tracer("of.requests"), trace.get_tracer("otelsync")
    with otelsync.pipeline("github"), otelsync.api_call("list"):
        with theirs.start_as_current_span("GET", kind=SpanKind.CLIENT) as client:
            client.set_attributes({"http.request.method": "GET", "http.request.resend_count": 2})
            for number in range(3):
                with ours.start_as_current_span("GET", kind=SpanKind.CLIENT) as send:
                    said: dict[str, Any] = {"http.request.resend_count": number} if number else {}
                    said |= {"sync.api.operation": "list", "http.request.method": "GET"}
                    send.set_attributes(said)
        with theirs.start_as_current_span("GET", kind=SpanKind.CLIENT) as redirected:
            redirected.set_attributes({"http.request.method": "GET", "http.request.resend_count": 1})
    assert values(counted(recorded.journal), catalogue.RETRIES) == {("github", "http", "list"): 3}


# API calls, waits, limits


def test_requests_count_under_the_operation_of_their_call(recorded: Recorded) -> None:
    """A client span counts by status, with the operation of the call above it; ours, of single sends, as retries."""
    theirs, ours = trace.get_tracer("of.requests"), trace.get_tracer("otelsync")
    with otelsync.pipeline("github"), otelsync.api_call("list_pulls"):
        for status in (200, 200, 502):
            with theirs.start_as_current_span("GET", kind=SpanKind.CLIENT) as client:
                client.set_attributes({"http.request.method": "GET", "http.response.status_code": status})
        with ours.start_as_current_span("GET", kind=SpanKind.CLIENT) as send:
            send.set_attributes({"http.request.method": "GET", "http.request.resend_count": 1})
    with theirs.start_as_current_span("POST /chat", kind=SpanKind.CLIENT) as client:
        client.set_attributes({"http.request.method": "POST", "error.type": "ConnectTimeout"})
    with theirs.start_as_current_span("SELECT", kind=SpanKind.CLIENT):
        pass
    series = counted(recorded.journal)
    assert values(series, catalogue.API_REQUESTS) == {
        ("github", "list_pulls", "200"): 2,
        ("github", "list_pulls", "502"): 1,
        ("", "", "ConnectTimeout"): 1,
    }
    assert values(series, catalogue.RETRIES) == {("github", "http", "list_pulls"): 1}
    assert counts(series, catalogue.API_DURATION) == {("github", "list_pulls", "success"): 1}


def test_a_call_that_was_open_at_a_restart_keeps_its_operation(recorded: Recorded) -> None:
    """The checkpoint has the stages that are open; requests that come later find theirs there."""
    with otelsync.api_call("list_pulls"):
        with trace.get_tracer("of.requests").start_as_current_span("GET", kind=SpanKind.CLIENT) as client:
            client.set_attributes({"http.request.method": "GET", "http.response.status_code": 200})
        (whole,) = trace_tree.batches(recorded.journal)
    checkpoint = Checkpoint(open={"1-1-0123abcd": OpenSeries()})
    orphans.note(whole, checkpoint.open["1-1-0123abcd"])
    metrics = Metrics(MetricSeries(), "test")
    metrics.resume(checkpoint)
    metrics.take(batch(*[Group(group.resource, group.scope, spans=group.spans) for group in whole.groups]))
    assert values(metrics.series, catalogue.API_REQUESTS) == {("", "list_pulls", "200"): 1}


def test_retries_are_counted_by_what_is_retried(recorded: Recorded) -> None:
    """Further sends in one call, calls that are further attempts, and runs of a task that was put back."""
    with otelsync.pipeline("github"):
        with otelsync.api_call("get_repository") as call:
            call.set(**{"sync.api.attempts": 3})
        for attempt in (1, 2):
            with otelsync.api_call("list_pulls", attempt=attempt):
                pass
    with trace.get_tracer("celery").start_as_current_span("run/sync", kind=SpanKind.CONSUMER) as run:
        run.set_attributes({"celery.task_name": "sync", "sync.outcome": "retry"})
    assert values(counted(recorded.journal), catalogue.RETRIES) == {
        ("github", "http", "get_repository"): 2,
        ("github", "api", "list_pulls"): 1,
        ("", "task", "sync"): 1,
    }


def test_rate_limits_stand_as_they_were_last_seen(recorded: Recorded) -> None:
    """Of each resource, API and token the latest answer counts, in whatever order the records are read."""
    for remaining in (4999, 4998):
        with otelsync.api_call("list_pulls") as call:
            call.set(
                **{
                    "sync.rate_limit.resource": "core",
                    "sync.rate_limit.host": "api.github.com",
                    "sync.rate_limit.token_fingerprint": "0a1b2c3d",
                    "sync.rate_limit.others": ["search 29/30 until 1700000000"],
                    "sync.rate_limit.limit": 5000,
                    "sync.rate_limit.remaining": remaining,
                    "sync.rate_limit.reset": 1_800_000_000,
                }
            )
    (whole,) = trace_tree.batches(recorded.journal)
    whole.groups[0].spans.reverse()
    series = MetricSeries()
    Metrics(series, "test").take(whole)
    core, search = (("core", "api.github.com", "0a1b2c3d"), ("search", "api.github.com", "0a1b2c3d"))
    assert values(series, catalogue.RATE_REMAINING) == {core: 4998, search: 29}
    assert values(series, catalogue.RATE_LIMIT) == {core: 5000, search: 30}
    assert values(series, catalogue.RATE_RESET) == {core: 1_800_000_000, search: 1_700_000_000}


def test_waits_are_counted_in_seconds(recorded: Recorded) -> None:
    """Rate limits by their kind, retries by their reason; as long as the span, whatever was planned."""
    with otelsync.pipeline("github"):
        with otelsync.rate_limit_wait(30, kind="secondary"):
            pass
        with otelsync.stage("sync.retry.wait", **{"sync.retry.reason": "server"}):
            pass
    waited = values(counted(recorded.journal), catalogue.WAIT_TIME)
    assert set(waited) == {("github", "rate_limit", "secondary"), ("github", "retry", "server")}
    assert all(0 < seconds < 30 for seconds in waited.values())


# Progress, freshness, tasks


def test_progress_stands_as_it_was_last_said(recorded: Recorded) -> None:
    """The events of a group's or pipeline's progress make gauges; other events with such words in them do not."""
    with otelsync.pipeline("github"), otelsync.repo("acme/api"):
        for done in (10, 20):
            emit(INFO, "otelsync", "sync.repo.progress", {"done": done, "total": 50})
        emit(INFO, "otelsync", "app.said", {"text": "sync.repo.progress", "done": 1, "total": 2})
    with otelsync.pipeline("orders"), otelsync.group("customer", "GREYSON"):
        emit(INFO, "otelsync", "sync.group.progress", {"done": 1, "total": 2})
    series = counted(recorded.journal)
    assert every(series, catalogue.DONE) == {
        ("github", "acme/api", "repo", "acme/api"): 20,
        ("orders", "", "customer", "GREYSON"): 1,
    }
    assert values(series, catalogue.EXPECTED) == {("github", "acme/api"): 50, ("orders", ""): 2}


def test_the_last_success_is_known_and_outlives_a_restart(recorded: Recorded) -> None:
    """Of each repo and pipeline that ended well; one that did not leaves it as it was."""
    before = int(time.time())
    with otelsync.pipeline("github"), otelsync.repo("acme/api"), otelsync.group("customer", "GREYSON"):
        pass
    with pytest.raises(ValueError, match="no"), otelsync.pipeline("broken"), otelsync.repo("acme/web"):
        raise ValueError("no")
    checkpoint = Checkpoint()
    first, second = Metrics(MetricSeries(), "test"), Metrics(MetricSeries(), "test")
    first.resume(checkpoint)
    for whole in trace_tree.batches(recorded.journal):
        first.take(whole)
    second.resume(checkpoint)
    for metrics in (first, second):
        ((labels, at),) = values(metrics.series, catalogue.REPO_SUCCESS).items()
        assert labels == ("github", "acme/api")
        assert before <= at <= time.time()
        of_groups = {("github", "repo", "acme/api"), ("github", "customer", "GREYSON")}
        assert set(values(metrics.series, catalogue.GROUP_SUCCESS)) == of_groups
        assert set(values(metrics.series, catalogue.PIPELINE_SUCCESS)) == {("github",)}
    assert values(second.series, catalogue.ITEMS) == {}


def test_tasks_count_by_name_and_outcome(recorded: Recorded) -> None:
    """Each run of a Celery task, how long it took, and how long it waited; one that never began took no time."""
    tracer = trace.get_tracer("opentelemetry.instrumentation.celery")
    runs: tuple[dict[str, str | float], ...] = (
        {"sync.outcome": "success", "sync.queue.wait_seconds": 2.0, "sync.run_seconds": 0.5},
        {"sync.outcome": "failure", "sync.queue.wait_seconds": 3.0, "sync.run_seconds": 1.5},
        {"sync.outcome": "cancelled"},
    )
    for told in runs:
        with tracer.start_as_current_span("run/app.sync_repo", kind=SpanKind.CONSUMER) as run:
            run.set_attributes({"celery.task_name": "app.sync_repo", **told})
    series = counted(recorded.journal)
    assert values(series, catalogue.TASKS) == {
        ("app.sync_repo", "success"): 1,
        ("app.sync_repo", "failure"): 1,
        ("app.sync_repo", "cancelled"): 1,
    }
    assert counts(series, catalogue.TASK_DURATION) == {("app.sync_repo", "success"): 1, ("app.sync_repo", "failure"): 1}
    waited = values(series, catalogue.QUEUE_WAIT)["app.sync_repo",]
    assert (waited.count, waited.total) == (2, 5 * SECOND)


# Hostile records


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e300, "many", True, [1, 2]], ids=repr)
def test_figures_that_cannot_be_are_left_out(recorded: Recorded, value: object) -> None:
    """What a program puts into its spans raises nothing, and makes no point that nobody can read."""
    with otelsync.api_call("list_pulls") as call:
        call.set(**{"sync.rate_limit.remaining": value, "sync.counted.created": value, "sync.api.attempts": value})
    series = counted(recorded.journal)
    assert values(series, catalogue.RATE_REMAINING) == {}
    assert values(series, catalogue.ITEMS) == {}
    assert values(series, catalogue.RETRIES) == {}


@given(bodies=st.lists(st.binary(max_size=200).map(lambda rest: field(0x12, rest)) | st.binary(max_size=120)))
def test_any_bytes_at_all_are_taken(bodies: list[bytes]) -> None:
    """Records that are no spans, or hardly, stop nothing, and count as unreadable at most once each."""
    series = MetricSeries()
    Metrics(series, "test").take(batch(Group(resource(), scope(), spans=[*bodies, span(1)], started=bodies)))
    assert counts(series, catalogue.STAGE_DURATION)["pr", "", "", "success"] >= 1
    assert sum(values(series, catalogue.UNREADABLE).values()) <= len(bodies)


def test_a_span_that_ends_before_it_begins_took_no_time() -> None:
    """A clock that was set back makes no negative duration."""
    durations = Durations()
    durations.add([-5, 0, 7])
    assert (durations.count, durations.zeros, durations.total, durations.shortest, durations.longest) == (3, 2, 7, 0, 7)


def test_pull_requests_and_ids_are_no_labels(recorded: Recorded) -> None:
    """However many pull requests and runs there are, the number of series stays."""
    sizes = []
    for _ in range(2):
        for number in range(50):
            with otelsync.pipeline("github") as run, otelsync.repo("acme/api"), otelsync.pull_request(number) as pr:
                pr.set(action="created")
        series = counted(recorded.journal)
        sizes.append(sum(len(family.points) for family in series.families()))
        text = prometheus_text.text(series.families(), series.resource)
        assert run.sync_id not in text
        assert run.trace_id not in text
    assert sizes[0] == sizes[1]


# Bounds


@given(most=st.integers(1, 5), told=st.lists(st.text(max_size=3) | st.text(min_size=LONGEST, max_size=LONGEST + 9)))
def test_a_label_has_no_more_values_than_it_may(most: int, told: Sequence[str]) -> None:
    """The first values stay what they are, up to their length; the rest is `other`, and each is always the same."""
    label = BoundedLabel(most)
    first = [label(value) for value in told]
    assert len(set(first) - {OTHER, ""}) <= most
    assert [label(value) for value in told] == first
    assert all(said in (value[:LONGEST], OTHER) for value, said in zip(told, first, strict=True))
    kept = list(dict.fromkeys(value[:LONGEST] for value in told if value and value != OTHER))[:most]
    assert set(kept) == set(first) - {OTHER, ""}


def test_repos_beyond_the_bound_are_others(recorded: Recorded) -> None:
    """Nothing is lost: what they have counted is there, under one name."""
    for number in range(5):
        with otelsync.repo(f"acme/{number}") as repo:
            repo.count(created=1)
    series = counted(recorded.journal, MetricSeries(most_values=2))
    assert values(series, catalogue.ITEMS) == {
        ("", "acme/0", "created"): 1,
        ("", "acme/1", "created"): 1,
        ("", OTHER, "created"): 3,
    }


def test_series_of_one_metric_are_bounded_though_labels_multiply() -> None:
    """Beyond the bound all labels are `other`, of counters and histograms alike."""
    series = MetricSeries(most_series=4)
    for number in range(10):
        series.add(catalogue.ITEMS, "test", (str(number), str(number % 3), "repo", str(number % 3), "pr", "created"))
        series.observe(catalogue.API_DURATION, "test", (str(number), "", "success"), [SECOND])
    assert values(series, catalogue.ITEMS)[OTHER, OTHER, OTHER] == 6
    assert counts(series, catalogue.API_DURATION)[OTHER, "", OTHER] == 6
    assert len(values(series, catalogue.ITEMS)) == 5


# Histograms


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=50))
def test_a_histogram_has_each_duration_in_the_bucket_that_spans_it(durations: list[int]) -> None:
    """By OTLP's rule: bucket i is above base^i and up to base^(i+1), where base = 2^(2^-scale)."""
    histogram = Durations()
    histogram.add(durations)
    scale, offset, buckets = histogram.exponential()
    assert len(buckets) <= MOST_BUCKETS
    assert sum(buckets) + histogram.zeros == histogram.count == len(durations)
    expected: dict[int, int] = {}
    for duration in filter(None, durations):
        exact = math.log2(duration / 1e9) * 2.0**scale
        candidates = {math.ceil(exact + hair) - 1 for hair in (-2e-9, 2e-9)}
        index = max(candidates, key=lambda index: buckets[index - offset] if 0 <= index - offset < len(buckets) else 0)
        expected[index] = expected.get(index, 0) + 1
    assert expected == {offset + index: count for index, count in enumerate(buckets) if count}


@given(st.lists(st.integers(0, 2**46), min_size=1, max_size=50), st.sampled_from(CLASSIC))
def test_classic_buckets_are_exact_sums(durations: list[int], power: int) -> None:
    """As many durations are at most a bound as its bucket says; bounds themselves are inside."""
    bound = int(2.0**power * 1e9)
    histogram = Durations()
    histogram.add([*durations, bound])
    near = sum(1 for duration in durations if abs(duration - bound) <= bound * 1e-9)
    at_most = dict(histogram.classic())[2.0**power]
    assert abs(at_most - 1 - sum(1 for duration in durations if duration <= bound)) <= near


def test_an_exemplar_is_the_slowest_of_a_minute() -> None:
    """A faster one takes its place only once it has grown old."""
    histogram = Durations()
    for nanoseconds, at in ((5, 0), (9, 1), (7, 2), (3, 62)):
        histogram.show(Exemplar(nanoseconds, at * SECOND, b"trace", b"span"))
        shown = histogram.exemplar
        assert shown is not None
        assert shown.nanoseconds == {0: 5, 1: 9, 2: 9, 62: 3}[at]


# The ledger


def ledger(shipped: int, *, dropped: int = 0) -> Ledger:
    accounts = tuple(
        Account(sink, "span", 10, shipped, 0, {"disk": dropped, "rejected": 1}, 9 - shipped - dropped)
        for sink in ("traces", "store")
    )
    return Ledger({"span": 10, "log": 0}, accounts, 0)


def test_the_ledger_counts_on_from_what_was_told() -> None:
    """Counters grow by what has been added to the sums, across a restart too; a writer's drops count once."""
    checkpoint = Checkpoint()
    checkpoint.metrics.service = "test"
    series = MetricSeries()
    count_ledger(ledger(3), series, checkpoint.metrics)
    count_ledger(ledger(5, dropped=2), series, checkpoint.metrics)
    assert values(series, catalogue.SHIPPED) == {("span", "traces"): 5, ("span", "store"): 5}
    assert values(series, catalogue.DROPPED) == {
        ("span", "", "disk"): 2,
        ("span", "traces", "rejected"): 1,
        ("span", "store", "rejected"): 1,
    }
    assert values(series, catalogue.PENDING) == {("span", "traces"): 2, ("span", "store"): 2}
    later = MetricSeries()
    count_ledger(ledger(6, dropped=2), later, checkpoint.metrics)
    assert values(later, catalogue.SHIPPED) == {("span", "traces"): 1, ("span", "store"): 1}


# What goes out


@pytest.fixture
def full() -> MetricSeries:
    """Series of all metrics, with labels that need care."""
    series = MetricSeries()
    for metric in CATALOGUE:
        labels = tuple(f'{name} "\\\n\x1b[31m😀' for name in metric.labels)
        if metric.kind == "histogram":
            shown = Exemplar(2 * SECOND, SECOND, bytes(range(16)), bytes(range(8)))
            series.observe(metric, "test", labels, [1000, 2 * SECOND, 100_000 * SECOND], shown)
        elif metric.kind == "gauge":
            series.put(metric, "test", labels, 17, 0)
        else:
            series.add(metric, "test", labels, 1.5)
    return series


@pytest.mark.parametrize(
    ("write", "read"),
    [(prometheus_text.text, text_families), (partial(prometheus_text.text, openmetrics=True), openmetrics_families)],
    ids=["text", "openmetrics"],
)
def test_prometheus_reads_what_is_served(
    full: MetricSeries, write: Callable[[Any, Any], str], read: Callable[[str], Any]
) -> None:
    """Prometheus' own parsers find every metric, with its kind, its labels as they were, and its buckets in order."""
    found = {family.name: family for family in read(write(full.families(), full.resource))}
    (target,) = (found.pop(name) for name in ("target", "target_info") if name in found)
    assert [sample.labels["service_name"] for sample in target.samples] == ["test"]
    assert set(found) == {metric.family for metric in CATALOGUE}
    for metric in CATALOGUE:
        family = found[metric.family]
        assert family.type == metric.kind
        for sample in family.samples:
            assert sample.labels["service_name"] == "test"
            told = {name: sample.labels[catalogue.prometheus_name(name)] for name in metric.labels}
            assert told == {name: f'{name} "\\\n\x1b[31m😀' for name in metric.labels}
    buckets = [s for s in found["sync_stage_duration_seconds"].samples if s.name.endswith("_bucket")]
    assert [sample.value for sample in buckets] == sorted(sample.value for sample in buckets)
    assert [(float(s.labels["le"]), s.value) for s in buckets][-2:] == [(2.0**15, 2), (math.inf, 3)]


def test_openmetrics_has_exemplars(full: MetricSeries) -> None:
    """The bucket of the slowest span names its trace."""
    text = prometheus_text.text(full.families(), full.resource, openmetrics=True)
    families = openmetrics_families(text)  # type: ignore[no-untyped-call]
    (stages,) = [family for family in families if family.name == "sync_stage_duration_seconds"]
    ((shown, le),) = [(s.exemplar, s.labels["le"]) for s in stages.samples if s.exemplar]
    assert le == "2.0"
    assert (shown.value, shown.labels["trace_id"]) == (2.0, bytes(range(16)).hex())


def test_otlp_has_the_same_as_cumulative_sums(full: MetricSeries) -> None:
    """Names, units and kinds are the catalogue's; the resource is the service, with an instance that stays the same."""
    full.describe("test", {"service.namespace": "acme"})
    now = time.time_ns()
    (body,) = encode(full.families(), full.resource, now=now)
    (of_resource,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    attributes = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
    assert attributes["service.name"] == "test"
    assert attributes["service.namespace"] == "acme"
    assert len(attributes["service.instance.id"]) == 36
    assert [body] == list(encode(full.families(), full.resource, now=now))
    kinds = {"counter": "sum", "gauge": "gauge", "histogram": "exponential_histogram"}
    metrics = of_resource.scope_metrics[0].metrics
    assert [(m.name, m.unit, m.WhichOneof("data")) for m in metrics] == [
        (metric.name, metric.unit, kinds[metric.kind]) for metric in CATALOGUE
    ]
    (stages,) = [metric for metric in metrics if metric.name == "sync.stage.duration"]
    (point,) = stages.exponential_histogram.data_points
    assert point.start_time_unix_nano <= point.time_unix_nano == now
    assert point.count == 3
    assert point.exemplars[0].trace_id == bytes(range(16))


def test_many_points_go_out_in_several_requests() -> None:
    """No request has more points than a receiver takes, and none is left out."""
    series = MetricSeries(most_values=10_000)
    for number in range(2 * MOST_POINTS + 1):
        series.add(catalogue.ITEMS, "test", ("github", f"acme/{number}", "repo", f"acme/{number}", "pr", "created"))
    sizes = [
        len(
            ExportMetricsServiceRequest.FromString(body).resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points
        )
        for body in encode(series.families(), series.resource, now=2)
    ]
    assert sizes == [MOST_POINTS, MOST_POINTS, 1]


def test_the_catalogue_is_consistent() -> None:
    """No name comes twice, for OTLP or Prometheus, and no label is one that grows without end."""
    assert len({metric.name for metric in CATALOGUE}) == len({metric.sample for metric in CATALOGUE}) == len(CATALOGUE)
    labels = {label for metric in CATALOGUE for label in metric.labels}
    assert labels.isdisjoint({"sync.id", "vcs.change.id", "trace_id", "messaging.message.id"})


def test_a_clock_that_was_set_back_does_not_stop_a_gauge(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was set by the clock as it was before has no last word until that time comes again."""
    series = MetricSeries()
    now = time.time_ns()
    series.put(catalogue.PENDING, "test", ("span", "traces"), 7, now)
    monkeypatch.setattr(time, "time_ns", lambda: now - 86_400_000_000_000)
    series.put(catalogue.PENDING, "test", ("span", "traces"), 3, time.time_ns())
    assert values(series, catalogue.PENDING) == {("span", "traces"): 3}
