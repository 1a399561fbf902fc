"""Metrics in a real Prometheus, scraped and by OTLP: what rises before the first scrape counts, and ids join."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import documents
import pytest

from collector.stack import Server, Stack, running, servers_folder
from otelsync.testing.reading import spans_in

PATIENCE: Final = 120.0
PROGRAM: Final = """
import sys
import otelsync
otelsync.configure(service_name="shop", log_level="INFO", log_format="json")
with otelsync.pipeline("p"):
    with otelsync.group("customer", "GREYSON"):
        for number in range(20):
            with otelsync.item("order", number) as order:
                order.fail("no address") if number % 4 == 0 else order.set(action="created")
print("recorded", flush=True)
sys.stdin.read()
print(otelsync.shutdown(60))
"""
FAILED: Final = 'sync_items_total{sync_action="failed"}'


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it does."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)


def answer(url: str, query: str) -> list[tuple[dict[str, str], float]]:
    """Return labels and value of each series of an answer."""
    with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=60) as said:
        found = json.load(said)["data"]["result"]
    return [(each["metric"], float(each["value"][1])) for each in found]


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begins the program; it has recorded when the call returns, and ends when its input does."""
    begun: list[subprocess.Popen[str]] = []

    def begin(**variables: str) -> subprocess.Popen[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))}
        own |= {"OTELSYNC_HOME": str(tmp_path / "home"), "OTELSYNC_STORE": "on", "OTELSYNC_FOLD": "off", **variables}
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=own, stdin=pipe, stdout=pipe, text=True)
        begun.append(process)
        assert process.stdout
        while "recorded" not in (line := process.stdout.readline()):
            assert line
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> None:
    assert process.communicate("", timeout=PATIENCE)[0].splitlines()[-1] == "True"


def prometheus_that_scrapes(state: Path, port: int) -> Server:
    """Return a Prometheus that reads a page of otelsync's every second."""
    config, own = state / "prometheus.yml", free_port()
    job = {"job_name": "otelsync", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
    return Server(
        "prometheus",
        [
            servers_folder() / "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={state / 'metrics'}",
            f"--web.listen-address=127.0.0.1:{own}",
        ],
        f"http://127.0.0.1:{own}/-/ready",
        state,
    )


def test_a_scrape_has_the_first_failures(tmp_path: Path, program: Callable[..., subprocess.Popen[str]]) -> None:
    """Items that failed before Prometheus had seen the series are an increase; it refuses no sample of the page.

    And it answers the queries of docs/metrics.md.
    """
    port = free_port()
    prometheus = prometheus_that_scrapes(tmp_path, port)
    url = prometheus.ready.removesuffix("/-/ready")
    prometheus.begin()
    try:
        process = program(OTELSYNC_METRICS_PORT=str(port))
        eventually(lambda: 5 <= sum(value for _, value in answer(url, f"increase({FAILED}[1h])")) < 5.5)
        took = 'increase(sync_stage_duration_seconds_count{sync_stage="order"}[1h])'
        assert 20 <= sum(value for _, value in answer(url, took)) < 22
        which = "host_name, service_instance_id"
        query = f"sum by ({which}) ({FAILED} * on (service_name) group_left ({which}) target_info)"
        spans = spans_in(tmp_path / "home")
        (own,) = {(span.resource["host.name"], span.resource["service.instance.id"]) for span in spans}
        assert answer(url, query) == [({"host_name": own[0], "service_instance_id": own[1]}, 5.0)]
        for block in documents.blocks(documents.METRICS, "promql"):
            for query in block.text.split("\n\n"):
                answer(url, query)  # an HTTPError says what is wrong with it
        assert answer(url, "max_over_time(scrape_samples_scraped[1h]) > 0")
        assert {value for _, value in answer(url, "min_over_time(up[5s])")} == {1.0}
        ended(process)
    finally:
        prometheus.end()
    assert "Error on ingesting" not in prometheus.log.read_text()


def test_otlp_has_the_first_failures(tmp_path: Path, program: Callable[..., subprocess.Popen[str]]) -> None:
    """By a Collector that writes to Prometheus; target_info joins by the instance that spans and log records name."""
    with running(tmp_path / "stack") as stack:
        process = program(
            OTEL_EXPORTER_OTLP_ENDPOINT=stack.endpoint,
            OTEL_METRICS_EXPORTER="otlp",
            OTEL_METRIC_EXPORT_INTERVAL="1000",
        )
        eventually(
            lambda: 5 <= sum(value for _, value in answer(stack.prometheus_url, f"increase({FAILED}[1h])")) < 5.5
        )
        ended(process)
        spans = spans_in(tmp_path / "home")
        url = stack.prometheus_url
        (own,) = {(span.resource["host.name"], span.resource["service.instance.id"]) for span in spans}
        query = f"sum by (host_name, instance) ({FAILED} * on (job, instance) group_left (host_name) target_info)"
        assert answer(url, query) == [({"host_name": own[0], "instance": own[1]}, 5.0)]
        eventually(lambda: bool(lines(stack)))
        assert {(line["host.name"], line["service.instance.id"]) for line in lines(stack)} == {own}
        assert "unknown" not in {line["scope.version"] for line in lines(stack)}
        assert len({line["_stream_id"] for line in lines(stack)}) == 1


def lines(stack: Stack) -> list[dict[str, Any]]:
    """Return the log records in VictoriaLogs."""
    form = urllib.parse.urlencode({"query": "*", "limit": "1000"}).encode()
    with urllib.request.urlopen(f"{stack.logs_url}/select/logsql/query", form, timeout=60) as said:
        return [json.loads(line) for line in said.read().decode().splitlines()]
