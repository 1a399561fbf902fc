"""Real servers have what the local store has: spans, structure, types, records, metrics, every way they are sent."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from stores import PATIENCE, differences, eventually, handed_over, in_prometheus, ledger, logs_in_victorialogs, settings

from collector.stack import Stack
from otelsync.testing.reading import Span, spans_in
from otelsync.vocabulary import groups_of

PROGRAM: Final = """
import sys, otelsync
from opentelemetry import trace
otelsync.configure(service_name=sys.argv[1], log_level="DEBUG", log_format="json")
log = otelsync.get_logger("app")
tracer = trace.get_tracer("library", "1.2.3")
with otelsync.pipeline("every night", team=7, share=0.25, dry=False, tags=["a", "b"]) as run:
    run.phase("syncing")
    odd = {"n": 2**53 + 1, "x": 1e-9}
    with tracer.start_as_current_span("plain", kind=trace.SpanKind.PRODUCER, attributes=odd) as plain:
        plain.add_event("mark", {"at": "Zürich ☂", "n": 3})
    with tracer.start_as_current_span("linked", links=[trace.Link(plain.get_span_context())]):
        log.debug("linked.now", big=2**53 + 1, nothing="", flag=True)
    for name in ("acme/api", "acme/web"):
        with otelsync.repo(name), otelsync.api_call("list", page=1):
            for number in range(20):
                with otelsync.pull_request(number, state="open", title='<b>"π"</b>') as pr:
                    log.info("pr.read", number=number)
                    pr.fail("no author") if number == 7 else pr.set(action="created" if number % 2 else "updated")
    board = otelsync.group("board", "B 1")
    with otelsync.group("customer", "GREYSON"), board, otelsync.batch("create_items", number=1, size=2):
        with otelsync.item("order", "4711/b") as order:
            order.set(action="skipped")
        with otelsync.rate_limit_wait(0.001):
            pass
    try:
        with otelsync.stage("weekly"):
            raise ValueError("no week")
    except ValueError:
        log.exception("week.failed")
"""


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_what_is_recorded_is_what_is_shown(stack: Stack, tmp_path: Path, protocol: str, compression: str) -> None:
    """Jaeger, VictoriaLogs and Prometheus have neither more nor less nor something else."""
    service = f"equal-{protocol[:4]}-{compression}"
    environment = settings(
        tmp_path, stack.grpc_endpoint if protocol == "grpc" else stack.endpoint, protocol, compression
    )
    environment["OTEL_RESOURCE_ATTRIBUTES"] = "service.namespace=equal,deployment.environment.name=test"
    command = [sys.executable, "-m", "otelsync.cli", "run", sys.executable, "-c", PROGRAM, service]
    subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE, check=True)
    eventually(lambda: handed_over(stack), True, *stack.servers)
    eventually(lambda: differences(stack, tmp_path), [], *stack.servers)
    accounts = ledger(tmp_path)
    assert {account["sink"] for account in accounts} == {"logs", "store", "traces"}
    assert not [each for each in accounts if each["pending"] or each["dropped"] or each["folded"]]
    spans = spans_in(tmp_path)
    eventually(lambda: _items_in_prometheus(stack, service), _items(spans), *stack.servers)
    eventually(lambda: _calls_in_prometheus(stack, service), _calls(spans), *stack.servers)
    _no_label_is_of_an_item(stack, service)
    _one_stream_and_its_events(stack, service)


def _items(spans: list[Span]) -> dict[tuple[str, str], int]:
    """How many items there are, by kind and action."""
    kinds = {"sync.pr": "pr", "sync.order": "order"}
    return Counter((kinds[span.name], span.attributes["sync.action"]) for span in spans if span.name in kinds)


def _items_in_prometheus(stack: Stack, service: str) -> dict[tuple[str, str], int]:
    query = f'sum by (sync_item_kind, sync_action) (sync_items_total{{service_name="{service}"}})'
    found = {
        (series["metric"]["sync_item_kind"], series["metric"]["sync_action"]): int(series["value"][1])
        for series in in_prometheus(stack, query)
    }
    return {key: count for key, count in found.items() if count}


def _calls(spans: list[Span]) -> dict[tuple[str, str, str], int]:
    """How many spans there are by name and innermost group, those of all groups of a kind as one."""
    calls: Counter[tuple[str, str, str]] = Counter()
    for span in spans:
        kind, group = groups_of(span.attributes)[-1] if groups_of(span.attributes) else ("", "")
        is_group = "sync.group.name" in span.attributes
        calls[f"sync.{kind}" if is_group else span.name, kind, group] += 1
    return calls


def _calls_in_prometheus(stack: Stack, service: str) -> dict[tuple[str, str, str], int]:
    by = ("span_name", "sync_group_kind", "sync_group_name")
    found = in_prometheus(stack, f'sum by ({", ".join(by)}) (spans_calls_total{{service_name="{service}"}})')
    return {tuple(series["metric"].get(label, "") for label in by): int(series["value"][1]) for series in found}


def _no_label_is_of_an_item(stack: Stack, service: str) -> None:
    """Hold that neither otelsync's metrics nor the Collector's have a series for each item."""
    for series in in_prometheus(stack, f'{{service_name="{service}"}}'):
        assert not [name for name in series["metric"] if "item_id" in name or "change" in name]
        assert not [value for value in series["metric"].values() if "4711" in value or "#" in value]


def _one_stream_and_its_events(stack: Stack, service: str) -> None:
    """Hold that the log store has one stream of a service, whatever its processes and events, which are found there."""
    records = logs_in_victorialogs(stack, f'{{service.name="{service}"}}')
    assert {record["_stream"] for record in records} == {
        f'{{deployment.environment.name="test",service.name="{service}",service.namespace="equal"}}'
    }
    assert len({record["event_name"] for record in records}) > 5
    assert len(logs_in_victorialogs(stack, f'service.name:="{service}" event_name:="pr.read"')) == 40
