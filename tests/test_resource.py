"""One identity for all that a service records at a place: the same id in spans, log records and metrics."""

from __future__ import annotations

import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import both_ways
import orjson
import pytest
from both_ways import JOURNAL, WAYS, program
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_server import OtlpServer, otlp_server
from trace_tree import fields

from otelsync.logs.logger_version import version_of
from otelsync.recording.resource import renamed, resource_of
from otelsync.shipping.metrics import catalogue
from otelsync.shipping.metrics.series import MetricSeries
from otelsync.version import __version__

FORKS = """
import logging, multiprocessing, os
import otelsync
otelsync.configure(log_format="json")
def work(number):
    with otelsync.pipeline("p"), otelsync.pull_request(number) as pr:
        pr.set(action="created")
        logging.getLogger("app.part").warning("child %s", number)
    otelsync.shutdown(60)
if __name__ == "__main__":
    with otelsync.pipeline("p"):
        otelsync.get_logger("structlog").info("parent")
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(number,)) for number in range(3)]
    for child in children: child.start()
    for child in children: child.join()
    print(otelsync.shutdown(60))
"""
ASKED = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "1000"}


def resources(server: OtlpServer) -> Iterator[tuple[str, dict[str, object]]]:
    """Every resource that the endpoint was sent, by signal."""
    for request in server.accepted:
        if isinstance(request.message, ExportTraceServiceRequest):
            yield from (("span", fields(each.resource.attributes)) for each in request.message.resource_spans)
        elif isinstance(request.message, ExportLogsServiceRequest):
            yield from (("log", fields(each.resource.attributes)) for each in request.message.resource_logs)
    for metrics in server.metrics:
        yield from (("metric", fields(each.resource.attributes)) for each in metrics.resource_metrics)


def seen(home: Path, way: str, **variables: str) -> tuple[set[str], set[object], set[object]]:
    """The signals, ids and hosts that reached an endpoint from a program that forks."""
    with otlp_server() as server:
        taken = both_ways.run_at(server, home, way, *program(FORKS), **ASKED, **variables)
        assert taken.stdout.endswith("True\n"), taken.stderr
        assert len(taken.spans) == 7
        found = list(resources(server))
    ids = {attributes.get("service.instance.id") for _, attributes in found}
    return {signal for signal, _ in found}, ids, {attributes.get("host.name") for _, attributes in found}


@pytest.mark.parametrize("way", WAYS)
def test_all_signals_of_all_processes_have_one_id_and_host(tmp_path: Path, way: str) -> None:
    """Children that were forked, and the same program once more, have it too; another service and place have others."""
    signals = {"span", "log", "metric"} if way == JOURNAL else {"span", "log"}
    first = seen(tmp_path / "one", way)
    assert (first[0], len(first[1]), first[2]) == (signals, 1, {socket.gethostname()})
    assert seen(tmp_path / "one", way) == first
    assert first[1].isdisjoint(seen(tmp_path / "two", way)[1])
    assert first[1].isdisjoint(seen(tmp_path / "one", way, OTEL_SERVICE_NAME="other")[1])


@pytest.mark.parametrize("way", WAYS)
def test_what_the_user_says_wins(tmp_path: Path, way: str) -> None:
    """In every signal, and in children too, though the SDK draws an id for each."""
    said = "service.instance.id=worker-7,host.name=elsewhere"
    _, ids, hosts = seen(tmp_path, way, OTEL_RESOURCE_ATTRIBUTES=said)
    assert (ids, hosts) == ({"worker-7"}, {"elsewhere"})


def test_an_id_of_the_user_s_may_look_as_if_it_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it stands in the environment it stays."""
    own = "ab0f2bed-897e-43ff-9dc8-fb7253777dae"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"service.instance.id={own}")
    assert resource_of("/journals", "shop").attributes["service.instance.id"] == own


def test_another_name_makes_another_instance_unless_the_user_said_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the service had had that name from the start."""
    before, after = (resource_of("/journals", name).attributes for name in ("shop", "cafe"))
    assert renamed(before, "cafe", "/journals") == {
        key: after[key] for key in ("service.name", "service.instance.id") if after[key] != before[key]
    }
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=mine")
    assert renamed(resource_of("/journals", "shop").attributes, "cafe", "/journals") == {"service.name": "cafe"}


def test_services_that_share_a_shipper_have_an_id_each() -> None:
    """Metrics have that of the records, or the one that records will have; the first one that was seen stays."""
    series = MetricSeries(place="/journals")
    for name in ("shop", "cafe"):
        own = resource_of("/journals", name).attributes
        assert series.resource(name)["service.instance.id"] == own["service.instance.id"]
    series.describe("shop", {"service.instance.id": "a", "host.name": "h", "service.version": "1"})
    series.describe("shop", {"service.instance.id": "b", "host.name": "i", "service.version": "2"})
    assert series.resource("shop") == {
        "service.name": "shop",
        "service.instance.id": "a",
        "host.name": "h",
        "service.version": "2",
    }
    series.add(catalogue.RECORDED, "shop", ("span",))
    assert [point.service for family in series.families() for point in family.points] == ["shop"]


@pytest.mark.parametrize("way", WAYS)
def test_scopes_have_a_version_in_all_signals(tmp_path: Path, way: str) -> None:
    """A logger has that of its package, else the service's, else otelsync's."""
    code = """
import logging
import orjson, otelsync
otelsync.configure(log_format="json", log_level="INFO")
with otelsync.pipeline("p"):
    for name in ("app", "orjson.part", "otelsync"): logging.getLogger(name).warning("said")
print(otelsync.shutdown(60))
"""
    with otlp_server() as server:
        both_ways.run_at(server, tmp_path, way, *program(code), OTEL_RESOURCE_ATTRIBUTES="service.version=7", **ASKED)
        spans, logs = (
            {
                (each.scope.name, each.scope.version)
                for request in server.accepted
                for each in scopes(request.message, kind)
            }
            for kind in ("span", "log")
        )
        metrics = {
            each.scope.version
            for request in server.metrics
            for of_resource in request.resource_metrics
            for each in of_resource.scope_metrics
        }
    assert spans == {("otelsync", __version__)}
    assert metrics == ({__version__} if way == JOURNAL else set())
    assert {("app", "7"), ("orjson.part", orjson.__version__), ("otelsync", __version__)} <= logs
    assert all(version for _, version in logs)


def scopes(message: object, kind: str) -> Iterator[Any]:
    """Scopes of one signal."""
    if kind == "span" and isinstance(message, ExportTraceServiceRequest):
        yield from (scope for each in message.resource_spans for scope in each.scope_spans)
    if kind == "log" and isinstance(message, ExportLogsServiceRequest):
        yield from (scope for each in message.resource_logs for scope in each.scope_logs)


class Odd(types.ModuleType):
    """A module that warns, and worse, when it is asked for a name."""

    def __getattr__(self, name: str) -> str:
        raise AssertionError(name)


def test_a_package_s_version_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read where it stands: what is no text there, or anything else in the place of a module, has none."""
    odd = Odd("odd")
    monkeypatch.setitem(sys.modules, "odd", odd)
    assert version_of("odd.part", {}) == __version__
    vars(odd)["__version__"] = (1, 2)
    assert version_of("odd.part", {"service.version": "7"}) == "7"
    vars(odd)["__version__"] = "3"
    monkeypatch.setitem(sys.modules, "odd", odd)
    assert version_of("odd", {"service.version": "7"}) == "3"
    monkeypatch.setitem(sys.modules, "none", 7)
    assert version_of("none.at.all", {}) == __version__
