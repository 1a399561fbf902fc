"""The page that Prometheus scrapes: what it answers, to whom, and how little it can be made to do."""

from __future__ import annotations

import gzip
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from otlp_server import eventually
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from otelsync.shipping.metrics import catalogue, starts
from otelsync.shipping.metrics import server as metrics_server
from otelsync.shipping.metrics.series import MetricSeries
from otelsync.shipping.metrics.server import MOST_REQUESTS, MetricsServer


@pytest.fixture
def series() -> MetricSeries:
    series = MetricSeries()
    series.add(catalogue.ITEMS, "test", ("github", "acme/api", "repo", "acme/api", "pr", "created"), 3)
    return series


@pytest.fixture
def server(series: MetricSeries) -> Iterator[MetricsServer]:
    server = MetricsServer(series, host="127.0.0.1", port=0)
    server.open()
    yield server
    server.close(5)


def get(url: str, **headers: str) -> tuple[dict[str, str], bytes]:
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    with urllib.request.urlopen(request, timeout=30) as response:
        return {name.lower(): value for name, value in response.getheaders()}, response.read()


def test_a_scrape_gets_the_text_format(server: MetricsServer) -> None:
    """Without a wish it is version 0.0.4, which everything reads."""
    headers, body = get(server.url)
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    _, items = text_families(body.decode())
    assert [sample.value for sample in items.samples] == [3]


def test_prometheus_gets_openmetrics(server: MetricsServer) -> None:
    """Whoever accepts OpenMetrics gets it, compressed if that is accepted too."""
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
    headers, body = get(server.url, Accept=accept, Accept_Encoding="gzip")
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    _, items = openmetrics_families(gzip.decompress(body).decode())  # type: ignore[no-untyped-call]
    assert items.name == "sync_items"


def test_each_scrape_has_what_was_counted_by_then(server: MetricsServer, series: MetricSeries) -> None:
    """An answer may serve others for a moment, and no longer."""
    series.add(catalogue.ITEMS, "test", ("github", "acme/api", "repo", "acme/api", "pr", "created"), 4)
    eventually(lambda: b"} 7\n" in get(server.url)[1])


@pytest.mark.parametrize("path", ["/", "/metrics/x", "/../metrics", "/etc/passwd"])
def test_nothing_else_is_served(server: MetricsServer, path: str) -> None:
    """Any other path is not found."""
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 404
    assert b"sync_items" not in response.read()
    connection.close()


def test_other_methods_are_refused(server: MetricsServer) -> None:
    """There is nothing to change."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(server.url, method="POST", data=b"x"), timeout=30)
    assert refused.value.code == 501
    refused.value.close()


def test_clients_that_say_nothing_do_not_keep_others_out(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only so many are answered at a time, and those that take too long are hung up on."""
    monkeypatch.setattr(metrics_server, "SECONDS", 0.2)
    address = urlsplit(server.url)
    silent = [socket.create_connection((address.hostname, address.port), timeout=30) for _ in range(MOST_REQUESTS * 2)]
    for client in silent:
        client.sendall(b"GET /metr")
    assert [client.recv(1) for client in silent] == [b""] * len(silent)
    eventually(lambda: served(server))
    for client in silent:
        client.close()


def served(server: MetricsServer) -> bool:
    try:
        return b"sync_items_total" in get(server.url)[1]
    except OSError:
        return False


def test_a_port_that_is_taken_is_had_when_it_is_free(
    series: MetricSeries, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever ships goes on without, says so once, and serves as soon as the other has ended."""
    monkeypatch.setattr(metrics_server, "_AGAIN", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = MetricsServer(series, host="127.0.0.1", port=port)
        with pytest.raises(OSError, match="in use"):
            server.open()
        server.start()
        eventually(lambda: caplog.messages)
        assert server.url == ""
    try:
        eventually(lambda: server.url)
        assert b"sync_items_total" in get(server.url)[1]
    finally:
        server.close(5)
    assert [message for message in caplog.messages if "no metrics" in message] == [
        f"no metrics on 127.0.0.1:{port}: Address already in use; it is tried again"
    ]


def test_a_closed_server_leaves_the_port(series: MetricSeries) -> None:
    """Another can have it at once."""
    first = MetricsServer(series, host="127.0.0.1", port=0)
    first.open()
    port = urlsplit(first.url).port
    assert port is not None
    first.close(5)
    second = MetricsServer(series, host="127.0.0.1", port=port)
    second.open()
    second.close(5)


def test_a_forked_child_does_not_keep_the_port(server: MetricsServer, series: MetricSeries) -> None:
    """When the parent has closed it, somebody else can have it though the child lives on."""
    port = urlsplit(server.url).port
    assert port is not None
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        there.send(b"x")  # it has run as far as fork() returns
        there.recv(1)
        os._exit(0)
    try:
        here.recv(1)
        server.close(120)
        other = MetricsServer(series, host="127.0.0.1", port=port)
        other.open()
        other.close(120)
    finally:
        here.send(b"x")
        os.waitpid(child, 0)
        here.close()
        there.close()


# Starts

OPENMETRICS = "application/openmetrics-text"
CREATED = ("github", "acme/api", "repo", "acme/api", "pr", "created")


SAMPLE = re.compile(r'(\w+)\{.*?(?:le="(.*?)")?\} (\S+)(?: ([0-9.]+))?(?: #.*)?')


def samples(server: MetricsServer, agent: str = "Prometheus/2.42.0", path: str = "") -> dict[str, list[float]]:
    """Return the values of each sample, and of the last bucket, as they follow each other.

    Not by prometheus_client's parser, which takes one point of a histogram for a page.
    """
    found: dict[str, list[float]] = {}
    page = get(server.url + path, Accept=OPENMETRICS, User_Agent=agent)[1].decode()
    times: dict[str, list[float]] = {}
    for line in page.splitlines():
        sample = SAMPLE.fullmatch(line)
        assert sample or line.startswith("#")
        if sample and sample[2] in (None, "+Inf"):
            found.setdefault(sample[1], []).append(float(sample[3]))
            if sample[4]:
                times.setdefault(sample[1], []).append(float(sample[4]))
    for at in times.values():
        assert at == sorted(set(at))
        assert at[-1] <= time.time()
    return found


def test_counters_and_histograms_say_when_they_were_0(server: MetricsServer, series: MetricSeries) -> None:
    """In OpenMetrics, to everybody, and the same time in each page; gauges have no such time."""
    before = time.time()
    series.observe(catalogue.QUEUE_WAIT, "test", ("task",), [1, 2])
    series.put(catalogue.PENDING, "test", ("span", "traces"), 7, 1)
    first = samples(server, "curl/8")
    assert first["sync_items_total"] == [3]
    assert first["otelsync_ledger_pending"] == [7]
    ((created,), (waits,)) = first["sync_items_created"], first["sync_task_queue_wait_seconds_created"]
    assert created <= before <= waits + 0.002 <= time.time() + 0.002
    assert "otelsync_ledger_pending_created" not in first
    series.add(catalogue.ITEMS, "test", CREATED)
    assert samples(server, "curl/9")["sync_items_created"] == [created]


def test_prometheus_sees_a_new_series_at_0_and_as_it_is(server: MetricsServer, series: MetricSeries) -> None:
    """Once, with the times of both: what rises before the first scrape is an increase like any other."""
    series.observe(catalogue.QUEUE_WAIT, "test", ("task",), [1, 2])
    first = samples(server)
    assert first["sync_items_total"] == [0, 3]
    assert first["sync_task_queue_wait_seconds_count"] == [0, 2]
    assert first["sync_task_queue_wait_seconds_bucket"] == [0, 2]
    series.add(catalogue.ITEMS, "test", (*CREATED[:-1], "failed"))
    eventually(lambda: samples(server)["sync_items_total"] == [3, 0, 1])
    assert samples(server)["sync_items_total"] == [3, 1]


def test_who_may_not_understand_it_is_shown_each_series_once(server: MetricsServer) -> None:
    """Others than Prometheus itself, and a HEAD, do not take part; two of them on a machine can be told apart."""
    for agent in ("Prometheus/", "curl/8", "vm_promscrape", "OpenTelemetry Collector/0.161.0", ""):
        assert samples(server, agent)["sync_items_total"] == [3]
    for path in ("", "?for=b"):
        assert samples(server, path=path)["sync_items_total"] == [0, 3]
        assert samples(server, path=path)["sync_items_total"] == [3]


def test_a_page_that_was_not_taken_counts_as_not_seen(server: MetricsServer) -> None:
    """A request without an answer changes nothing."""
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.request("HEAD", "/metrics", headers={"Accept": OPENMETRICS, "User-Agent": "Prometheus/2.42.0"})
    connection.getresponse().read()
    connection.close()
    assert samples(server)["sync_items_total"] == [0, 3]


def test_a_start_of_long_ago_is_not_shown(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus takes no sample that is old: who comes late sees the series as it is."""
    monkeypatch.setattr(starts, "OLDEST", -1)
    assert samples(server)["sync_items_total"] == [3]
