"""Log records of folded spans: they lead to a span that is there, whatever is folded, restarted or refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.trace import get_tracer
from otlp_server import Answer, OtlpServer, otlp_server
from recorded import Recorded

import otelsync
from otelsync.otlp.exporter import OtlpSink
from otelsync.otlp.options import OtlpEndpoint
from otelsync.shipping.checkpoint import load, save
from otelsync.shipping.folding import log_links
from otelsync.shipping.folding.budget import Limits
from otelsync.shipping.ledger import read_ledger
from otelsync.shipping.metrics import prometheus_text
from otelsync.shipping.metrics.durations import Durations
from otelsync.shipping.metrics.export import encode
from otelsync.shipping.metrics.service import MetricsOutlet, MetricsService
from otelsync.shipping.outlet import Backoff
from otelsync.shipping.shipper import Shipper

LIMITS = Limits(max_spans=20)
"""Ten spans are left whole."""
PATIENCE = 600.0


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with otlp_server() as running:
        yield running


@pytest.fixture
def ship(server: OtlpServer) -> Iterator[Callable[..., Shipper]]:
    """Make shippers of both signals. They are closed in the end."""
    made: list[Shipper] = []

    def make(directory: Path, limits: Limits | None = LIMITS, **options: Any) -> Shipper:
        sinks = [
            OtlpSink(OtlpEndpoint(signal, f"{server.url}/v1/{signal}", timeout=60)) for signal in ("traces", "logs")
        ]
        made.append(Shipper(directory, otlp=sinks, limits=limits, backoff=Backoff(0.001, 0.002), **options))
        return made[-1]

    yield make
    for shipper in made:
        shipper.close()


def record(first: int = 0, items: int = 40) -> None:
    """Record a call with items, each with a record of its own and one of a request below; one of them fails."""
    log, http = otelsync.get_logger("app"), get_tracer("http")
    with otelsync.pipeline("nightly"), otelsync.repo("acme/api"), otelsync.api_call("list_pull_requests"):
        log.info("call.begun")
        for number in range(first, first + items):
            with otelsync.pull_request(number) as pr:
                log.info("pr.read", number=number)
                with otelsync.api_call("list_reviews"), http.start_as_current_span("GET"):
                    log.info("get.sent", number=number)
                if number % 10 == 7:
                    pr.fail("broken")


def came(server: OtlpServer) -> list[LogRecord]:
    """The log records that were accepted."""
    return [
        record
        for request in list(server.accepted)
        for of_resource in getattr(request.message, "resource_logs", ())
        for of_scope in of_resource.scope_logs
        for record in of_scope.log_records
    ]


def attributes_of(record: LogRecord) -> dict[str, Any]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in record.attributes}


def check(server: OtlpServer, recorded: Recorded) -> None:
    """Every record is there once, and names a span that is; its own is known."""
    there = {span.span_id for span in server.spans}
    records = came(server)
    own = {
        (each.event, each.attributes.get("number")): each.span_id
        for each in recorded_logs(recorded)
        if each.event in ("pr.read", "get.sent", "call.begun")
    }
    kept = [each for each in records if each.body.string_value in ("pr.read", "get.sent", "call.begun")]
    assert len(kept) == len(own)
    for each in kept:
        attributes = attributes_of(each)
        mine = own[each.body.string_value, attributes.get("number")]
        assert attributes.get("sync.span_id", each.span_id.hex()) == mine
        assert each.span_id in there
    (account,) = [each for each in read_ledger(recorded.journal).accounts if each.signal == "log"]
    assert account.reconciles
    assert (account.recorded, account.pending) == (account.shipped, 0)


LOGS: dict[Path, list[Any]] = {}
"""By journal: what was recorded."""


def recorded_logs(recorded: Recorded) -> list[Any]:
    """The records as they were recorded, which are gone once they are shipped."""
    return LOGS.setdefault(recorded.journal, recorded.logs)


@pytest.mark.parametrize("records", [3, 7, 50, 4096])
def test_records_of_folded_spans_name_one_that_is_there(
    recorded: Recorded, server: OtlpServer, ship: Callable[..., Shipper], records: int
) -> None:
    """However the journal is cut: those of the call itself and of what failed name their own span."""
    record()
    otelsync.shutdown(0)
    recorded_logs(recorded)
    assert ship(recorded.journal, max_batch_records=records).drain(PATIENCE)
    check(server, recorded)
    found = [each for each in came(server) if each.body.string_value == "pr.read"]
    renamed = [each for each in found if "sync.span_id" in attributes_of(each)]
    assert len(renamed) > 20
    failed = [each for each in found if attributes_of(each)["number"] % 10 == 7]
    assert not [each for each in failed if "sync.span_id" in attributes_of(each)]
    (call,) = {each.span_id for each in renamed}
    assert call in {span.span_id for span in server.spans if span.name == "sync.api list_pull_requests"}


def test_a_trace_that_goes_out_whole_keeps_its_records(
    recorded: Recorded, server: OtlpServer, ship: Callable[..., Shipper]
) -> None:
    """Nothing waits, and nothing is changed."""
    record(items=10)
    otelsync.shutdown(0)
    recorded_logs(recorded)
    assert ship(recorded.journal, Limits(max_spans=200), max_batch_records=5).drain(PATIENCE)
    check(server, recorded)
    assert not [each for each in came(server) if "sync.span_id" in attributes_of(each)]


@pytest.mark.parametrize("seed", range(3))
def test_refusals_and_restarts_change_nothing(
    recorded: Recorded, server: OtlpServer, ship: Callable[..., Shipper], seed: int
) -> None:
    """What waits is known to the next shipper, and what was not taken is decided again."""
    dice = random.Random(seed)
    record()
    otelsync.shutdown(0)
    recorded_logs(recorded)
    server.answers.extend(Answer(dice.choice((200, 200, 503))) for _ in range(60))
    for _ in range(8):
        shipper = ship(recorded.journal, max_batch_records=9)
        shipper.step()
        shipper.close()
    assert ship(recorded.journal, max_batch_records=9).drain(PATIENCE)
    check(server, recorded)


def an_item_stays_open() -> Iterator[None]:
    """Record one, in a trace that is folded, with a record of its own."""
    log = otelsync.get_logger("app")
    with otelsync.pipeline("nightly"), otelsync.repo("acme/api"), otelsync.api_call("list_pull_requests"):
        for number in range(30):
            with otelsync.pull_request(number):
                pass
        with otelsync.pull_request(99):
            log.info("pr.read", number=99)
            yield


def held(recorded: Recorded) -> int:
    checkpoint = load(recorded.journal)
    assert checkpoint is not None
    return checkpoint.held_links


def test_what_waits_is_pending_and_let_go_in_time(
    recorded: Recorded, server: OtlpServer, ship: Callable[..., Shipper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is pending in the ledger, goes out as it is after a while, and at once where folding is switched off."""
    going = an_item_stays_open()
    next(going)
    shipper = ship(recorded.journal)
    shipper.drain(PATIENCE)
    assert held(recorded) == 1
    (account,) = [each for each in read_ledger(recorded.journal).accounts if each.signal == "log"]
    assert (account.reconciles, account.pending) == (True, 1)
    shipper.close()
    monkeypatch.setattr(log_links, "PATIENCE", -1.0)
    ship(recorded.journal).drain(PATIENCE)
    assert held(recorded) == 0
    (each,) = [each for each in came(server) if each.body.string_value == "pr.read"]
    assert "sync.span_id" not in attributes_of(each)
    assert next(going, None) is None


@pytest.mark.parametrize("way", ["off", "damaged"])
def test_what_waits_for_a_shipper_of_another_mind(recorded: Recorded, ship: Callable[..., Shipper], way: str) -> None:
    """One without folding lets it out; a state that cannot be read is counted."""
    going = an_item_stays_open()
    next(going)
    first = ship(recorded.journal)
    first.drain(PATIENCE)
    first.close()
    checkpoint = load(recorded.journal)
    assert checkpoint is not None
    assert checkpoint.held_links == 1
    if way == "damaged":
        checkpoint.log_links = '{"later": true}'
        save(recorded.journal, checkpoint)
    last = ship(recorded.journal, None if way == "off" else LIMITS)
    last.drain(PATIENCE)
    (account,) = [each for each in read_ledger(recorded.journal).accounts if each.signal == "log"]
    assert account.reconciles
    assert account.dropped == ({"vanished": 1} if way == "damaged" else {})
    assert account.pending == 0
    assert next(going, None) is None


def test_what_waits_is_bounded(
    recorded: Recorded, server: OtlpServer, ship: Callable[..., Shipper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond so many bytes the oldest go out as they are, and none is lost."""
    monkeypatch.setattr(log_links, "MOST_BYTES", 500)
    record()
    otelsync.shutdown(0)
    assert ship(recorded.journal, max_batch_records=3).drain(PATIENCE)
    assert len([each for each in came(server) if each.body.string_value == "pr.read"]) == 40


def test_an_exemplar_of_a_folded_item_names_a_span_that_is_there(
    recorded: Recorded, server: OtlpServer, ship: Callable[..., Shipper]
) -> None:
    """And keeps its own id; in both forms in which metrics are read."""
    record()
    otelsync.shutdown(0)
    service = MetricsService("here")
    assert ship(
        recorded.journal, Limits(max_spans=2), max_batch_records=20, metrics=MetricsOutlet(service, "test")
    ).drain(PATIENCE)
    there = {span.span_id for span in server.spans}
    shown = [
        point.value.exemplar
        for family in service.series.families()
        for point in family.points
        if isinstance(point.value, Durations) and point.value.exemplar
    ]
    folded = [each for each in shown if each.own_id]
    assert len(shown) > len(folded) > 0
    assert all(each.span_id in there for each in folded)
    text = prometheus_text.text(service.series.families(), service.series.resource, openmetrics=True)
    assert all(f'span_id="{each.span_id.hex()}",sync_span_id="{each.own_id.hex()}"' in text for each in folded)
    requests = encode(service.series.families(), service.series.resource, now=2)
    sent = [
        exemplar
        for request in requests
        for of_resource in ExportMetricsServiceRequest.FromString(request).resource_metrics
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
        for point in metric.exponential_histogram.data_points
        for exemplar in point.exemplars
        if exemplar.filtered_attributes
    ]
    assert {(each.span_id, each.filtered_attributes[0].value.string_value) for each in sent} == {
        (each.span_id, each.own_id.hex()) for each in folded
    }
