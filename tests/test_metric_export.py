"""Sending metrics: where the environment says, never longer than allowed, and not to those who take none."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc  # type: ignore[import-untyped]  # it has no stubs
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from otlp_server import Answer, OtlpServer, eventually, otlp_server

from otelsync.errors import ConfigurationError
from otelsync.otlp.options import OtlpEndpoint, metrics_from_environment
from otelsync.otlp.request import MOST_BYTES
from otelsync.shipping.metrics import catalogue
from otelsync.shipping.metrics.export import FEWEST_POINTS, MOST_POINTS, MetricExport, encode
from otelsync.shipping.metrics.series import MetricSeries
from otelsync.shipping.metrics.service import MetricsService

REQUEST = ExportMetricsServiceRequest().SerializeToString() + b"\x0a\x00"


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with otlp_server() as running:
        yield running


def export_to(url: str, *, interval: float = 60.0, **options: Any) -> MetricExport:
    return MetricExport(OtlpEndpoint("metrics", url, **options), lambda _: [REQUEST], interval=interval)


# Options


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/metrics"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, None),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m:1/x"}, "http://m:1/x"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "prometheus"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "prometheus, OTLP"}, "http://c:4318/v1/metrics"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http://c:4317"),
    ],
)  # fmt: skip
def test_metrics_go_where_the_environment_says(environment: dict[str, str], url: str | None) -> None:
    """They are on wherever they have an endpoint, unless another exporter, or none, is asked for."""
    found = metrics_from_environment(environment)
    assert (found[0].url if found else None) == url


def test_the_interval_is_in_milliseconds() -> None:
    """As OpenTelemetry specifies; a minute by default."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}
    found = [metrics_from_environment(environment | more) for more in ({}, {"OTEL_METRIC_EXPORT_INTERVAL": "1500"})]
    assert [each[1] for each in found if each] == [60.0, 1.5]


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "99999999999", "٣"])
def test_an_interval_that_cannot_be_is_named(value: str) -> None:
    """The error names the variable, the value and the fix."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRIC_EXPORT_INTERVAL": value}
    with pytest.raises(ConfigurationError, match=r"OTEL_METRIC_EXPORT_INTERVAL.*milliseconds"):
        metrics_from_environment(environment)


# Sending


def test_the_last_export_comes_at_the_end(server: OtlpServer) -> None:
    """However long the interval, closing sends once more; closing what was not begun sends nothing."""
    export_to(server.url + "/v1/metrics").close(5)
    assert server.metrics == []
    export = export_to(server.url + "/v1/metrics", compression="gzip", headers={"x-key": "1"})
    export.start()
    export.close(20)
    assert len(server.metrics) == 1


def test_closing_takes_no_longer_than_it_may(server: OtlpServer) -> None:
    """An endpoint that says nothing is left alone when time is up."""
    server.metrics_answer = Answer(hang=True)
    export = export_to(server.url + "/v1/metrics", timeout=3600)  # longer than a test may take
    export.start()
    export.close(0.2)
    assert not server.ended.is_set()
    assert len(server.metrics) <= 1


def test_points_that_are_rejected_are_said_once(server: OtlpServer, caplog: pytest.LogCaptureFixture) -> None:
    """With what the endpoint says of it, made safe to print."""
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = 3
    response.partial_success.error_message = "too \x1b[31mold"
    server.metrics_answer = Answer(body=response.SerializeToString())
    export = export_to(server.url + "/v1/metrics", interval=0.01)
    export.start()
    eventually(lambda: len(server.metrics) > 2)
    export.close(20)
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "some metrics were rejected (3 points: too \\x1b[31mold); the next ones say the same and more"
    ]


def test_an_endpoint_that_is_back_is_asked_again(server: OtlpServer, caplog: pytest.LogCaptureFixture) -> None:
    """A request that failed is not repeated; the next one comes at its time."""
    server.metrics_answer = Answer(503)
    export = export_to(server.url + "/v1/metrics", interval=0.01)
    export.start()
    eventually(lambda: caplog.messages)
    seen = len(server.metrics)
    server.metrics_answer = Answer()
    eventually(lambda: len(server.metrics) > seen + 2)
    export.close(20)
    assert len(caplog.messages) == 1


class _Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self) -> None:
        self.methods: list[str] = []

    def service(self, handler_call_details: Any) -> Any:
        self.methods.append(handler_call_details.method)
        return None


def test_a_grpc_endpoint_without_metrics_is_asked_seldom(caplog: pytest.LogCaptureFixture) -> None:
    """UNIMPLEMENTED is how a Collector without a metrics pipeline answers. One that gets such a pipeline is noticed."""
    caplog.set_level(logging.INFO, "otelsync.shipping")
    service = _Service()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        export = export_to(f"http://127.0.0.1:{port}", interval=0.001, protocol="grpc", insecure=True)
        export.start()
        eventually(lambda: len(service.methods) > 3)
        export.close(20)
    finally:
        server.stop(0).wait()
    assert set(service.methods) == {"/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"}
    [said] = caplog.messages
    assert "it takes none (UNIMPLEMENTED" in said


def test_an_endpoint_that_denies_metrics_gets_them_once_it_does_not(
    server: OtlpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What is wrong with address or credentials is said once, however it is worded; the pauses grow."""
    server.metrics_answer = Answer(401, body=b"request 1: no such key")
    export = export_to(server.url + "/v1/metrics", interval=0.001)
    export.start()
    eventually(lambda: len(server.metrics) > 2)
    server.metrics_answer = Answer(401, body=b"request 2: no such key")
    seen = len(server.metrics)
    eventually(lambda: len(server.metrics) > seen + 1)
    assert export._pause() > 0.003
    server.metrics_answer = Answer()
    seen = len(server.metrics)
    eventually(lambda: len(server.metrics) > seen + 10)
    export.close(20)
    [said] = caplog.messages
    assert "HTTP 401: request 1: no such key" in said


def test_one_bad_point_takes_fewer_along(server: OtlpServer) -> None:
    """An endpoint that takes metrics, and refuses some, gets them in smaller pieces."""
    asked: list[int] = []

    def requests(most_points: int) -> list[bytes]:
        asked.append(most_points)
        server.metrics_answer = Answer() if len(asked) == 1 else Answer(400)
        return [REQUEST]

    export = MetricExport(OtlpEndpoint("metrics", server.url + "/v1/metrics"), requests, interval=0.001)
    export.start()
    eventually(lambda: len(asked) > 10)
    export.close(20)
    assert asked[:4] == [MOST_POINTS, MOST_POINTS, MOST_POINTS // 2, MOST_POINTS // 4]
    assert asked[-1] == FEWEST_POINTS


@pytest.mark.parametrize("answer", [Answer(413), Answer(408)])
def test_requests_that_do_not_fit_become_smaller(server: OtlpServer, answer: Answer) -> None:
    """What is too large, or takes too long, is said in smaller pieces the next time."""
    asked: list[int] = []
    server.metrics_answer = answer

    def requests(most_points: int) -> list[bytes]:
        asked.append(most_points)
        if len(asked) == 3:
            server.metrics_answer = Answer()
        return [REQUEST]

    export = MetricExport(OtlpEndpoint("metrics", server.url + "/v1/metrics"), requests, interval=0.001)
    export.start()
    eventually(lambda: len(asked) > 5)
    export.close(20)
    assert asked[:5] == [MOST_POINTS, MOST_POINTS // 2, *[MOST_POINTS // 4] * 3]


def test_a_warning_without_a_rejection_is_said_once(server: OtlpServer, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing was rejected, and the endpoint has something to say."""
    response = ExportMetricsServiceResponse()
    response.partial_success.error_message = "use delta"
    server.metrics_answer = Answer(body=response.SerializeToString())
    export = export_to(server.url + "/v1/metrics", interval=0.001)
    export.start()
    eventually(lambda: len(server.metrics) > 2)
    export.close(20)
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "it took everything and warns: use delta; the next ones say the same and more"
    ]


def test_many_large_resources_make_more_requests_and_no_larger_ones() -> None:
    """A request is bounded by its bytes too, and every point is in one of them."""
    series = MetricSeries()
    for number in range(60):
        series.describe(str(number), {"padding": "x" * 100_000})
        series.add(catalogue.ITEMS, str(number), ("p", "", "", "", "order", "created"))
    made = list(encode(series.families(), series.resource, now=1))
    assert len(made) > 1
    assert max(map(len, made)) <= MOST_BYTES
    points = [
        point
        for request in map(ExportMetricsServiceRequest.FromString, made)
        for of_resource in request.resource_metrics
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
        for point in metric.sum.data_points
    ]
    assert len(points) == 60


# Starts


def points_in(server: OtlpServer, name: str) -> list[list[tuple[int, int, int]]]:
    """Start, time and value of the points of a metric, by request."""
    return [
        [
            (point.start_time_unix_nano, point.time_unix_nano, point.as_int)
            for of_resource in request.resource_metrics
            for metric in of_resource.scope_metrics[0].metrics
            if metric.name == name
            for point in metric.sum.data_points
        ]
        for request in server.metrics
    ]


def test_a_new_series_is_sent_as_it_began_before_it_is_sent_as_it_is(server: OtlpServer) -> None:
    """Once, in a request of its own, with the times of both; a series that goes on has the same start."""
    endpoint = OtlpEndpoint("metrics", server.url + "/v1/metrics")
    service = MetricsService("/journals", otlp=(endpoint, 0.05))
    before = time.time_ns()
    service.series.add(catalogue.RECORDED, "shop", ("span",), 3)
    service.series.put(catalogue.PENDING, "shop", ("span", "traces"), 7, 1)
    service.start()
    eventually(lambda: len(server.metrics) > 2)
    service.series.add(catalogue.RECORDED, "shop", ("log",), 5)
    service.close(60)
    found = points_in(server, catalogue.RECORDED.name)
    start = found[0][0][0]
    assert before - 1_000_000 <= start <= time.time_ns()
    assert found[0] == [(start, start, 0)]
    assert {(point[0], point[2]) for points in found[1:] for point in points if point[0] == start} == {(start, 3)}
    assert [point[2] for points in found for point in points if point[0] != start][:2] == [0, 5]
    gauges = [m.name for r in server.metrics[:1] for each in r.resource_metrics for m in each.scope_metrics[0].metrics]
    assert catalogue.PENDING.name not in gauges


def test_a_start_that_was_not_taken_is_sent_again(server: OtlpServer) -> None:
    """As long as an endpoint is not there, nothing has been told to it."""
    server.metrics_answer = Answer(503)
    service = MetricsService("/journals", otlp=(OtlpEndpoint("metrics", server.url + "/v1/metrics"), 0.05))
    service.series.add(catalogue.RECORDED, "shop", ("span",), 3)
    service.start()
    eventually(lambda: len(server.metrics) > 1)
    assert {points[0][2] for points in points_in(server, catalogue.RECORDED.name)} == {0}
    server.metrics_answer = Answer()
    eventually(lambda: points_in(server, catalogue.RECORDED.name)[-1][0][2] == 3)
    service.close(60)
