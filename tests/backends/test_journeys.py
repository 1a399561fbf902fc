"""The demo, and a sync without workers, through Collector, Jaeger, VictoriaLogs and Prometheus, by every way there is.

What the servers show is what the local store has: spans and their structure, attributes with their types, status, log
records, and metrics that are the store's counts. Jaeger has nothing to warn of.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import plain_run
import pytest
from stores import differences, eventually, handed_over, settings

from collector.addresses import log_records, series, trace
from collector.stack import ROOT, Stack
from otelsync.testing.reading import Span, logs_in, spans_in
from otelsync.vocabulary import groups_of

PATIENCE: Final = 300.0


@pytest.mark.parametrize(
    ("example", "protocol", "compression"),
    [
        ("demo", "http/protobuf", "gzip"),
        ("demo", "grpc", "none"),
        ("plain", "http/protobuf", "none"),
        ("plain", "grpc", "gzip"),
    ],
)
def test_an_example_arrives_as_it_was_recorded(
    stack: Stack, tmp_path: Path, example: str, protocol: str, compression: str
) -> None:
    """Neither more nor less nor something else, in three servers."""
    namespace = f"{example}-{protocol[:4]}-{compression}"
    environment = settings(
        tmp_path, stack.grpc_endpoint if protocol == "grpc" else stack.endpoint, protocol, compression
    )
    environment |= {"OTEL_RESOURCE_ATTRIBUTES": f"service.namespace={namespace}", "OTEL_METRICS_EXPORTER": "otlp"}
    environment["OTELSYNC_SPAN_NAMES"] = "items" if protocol == "grpc" else "kinds"  # else the Collector does it
    program = ["-m", "examples.github_sync", "demo", "--home"] if example == "demo" else [plain_run.__file__]
    done = subprocess.run(
        [sys.executable, *program, str(tmp_path)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    home = tmp_path / "otelsync" if example == "demo" else tmp_path
    spans = spans_in(home)
    assert len(spans) > 100
    assert all(span.ended for span in spans)
    eventually(lambda: handed_over(stack), True, *stack.servers)
    eventually(lambda: differences(stack, home), [], *stack.servers)
    assert_people_can_read_it(stack, spans)
    assert_records_lead_to_their_spans(stack, home, spans)
    eventually(lambda: items_counted(stack, namespace), items_of(spans), *stack.servers)
    eventually(lambda: calls_counted(stack, namespace), calls_of(spans), *stack.servers)


def assert_people_can_read_it(stack: Stack, spans: list[Span]) -> None:
    """A row of the waterfall says which item it is, and a call to the API which route it went."""
    shown = [span for trace_id in {span.trace_id for span in spans} for span in trace(stack.ports, trace_id)]
    names = Counter(span["operationName"] for span in shown)
    items = {span.span_id: span for span in spans if span.name == "sync.pr"}
    assert items
    for span in shown:
        if span["spanID"] in items:
            assert span["operationName"] == f"sync.pr #{items[span['spanID']].attributes['vcs.change.id']}"
    calls = {span.span_id for span in spans if span.name.startswith("sync.api ")}
    for request in (span for span in spans if "url.template" in span.attributes):
        route = f"{request.attributes['http.request.method']} {request.attributes['url.template']}"
        assert names[route] or request.parent_id in calls
    assert not [span for span in shown if span.get("warnings")]


def assert_records_lead_to_their_spans(stack: Stack, home: Path, spans: list[Span]) -> None:
    """Every record of a span is found by its ids, and no record leads nowhere."""
    known = {(span.trace_id, span.span_id) for span in spans}
    logs = [log for log in logs_in(home) if log.trace_id]
    assert logs
    for trace_id in {log.trace_id for log in logs}:
        found = log_records(stack.ports, f'trace_id:="{trace_id}"')
        assert Counter(record["span_id"] for record in found) == Counter(
            log.span_id for log in logs if log.trace_id == trace_id
        )
        assert {(record["trace_id"], record["span_id"]) for record in found} <= known


def items_of(spans: list[Span]) -> Counter[tuple[str, str]]:
    """How many items of each repository had which fate, by the store."""
    return Counter(
        (str(span.attributes["sync.repo"]), str(span.attributes["sync.action"]))
        for span in spans
        if span.name == "sync.pr"
    )


def items_counted(stack: Stack, namespace: str) -> Counter[tuple[str, str]]:
    """The same, by otelsync's own metrics."""
    query = f'sum by (sync_repo, sync_action) (sync_items_total{{service_namespace="{namespace}"}})'
    counted: Counter[tuple[str, str]] = Counter()
    for each in series(stack.ports, query):
        counted[each["metric"].get("sync_repo", ""), each["metric"]["sync_action"]] += int(float(each["value"][1]))
    return +counted


def calls_of(spans: list[Span]) -> Counter[tuple[str, str]]:
    """How many spans have which name and innermost group, groups of a kind having one name, by the store."""
    return Counter(
        (
            f"sync.{span.attributes['sync.group.kind']}" if "sync.group.name" in span.attributes else span.name,
            groups_of(span.attributes)[-1][1] if groups_of(span.attributes) else "",
        )
        for span in spans
    )


def calls_counted(stack: Stack, namespace: str) -> Counter[tuple[str, str]]:
    """The same, by the Collector's metrics of spans."""
    query = f'sum by (span_name, sync_group_name) (spans_calls_total{{service_namespace="{namespace}"}})'
    counted: Counter[tuple[str, str]] = Counter()
    for each in series(stack.ports, query):
        metric = each["metric"]
        counted[metric["span_name"], metric.get("sync_group_name", "")] += int(float(each["value"][1]))
    return counted
