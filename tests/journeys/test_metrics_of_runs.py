"""Metrics of real runs: scraped from `otelsync ship` and `otelsync run`, sent by OTLP, and right across restarts."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import supervised
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from otlp_server import Answer, OtlpServer, eventually, otlp_server
from prometheus_client.parser import text_string_to_metric_families
from recorded import Recorded

import otelsync
from otelsync.shipping.checkpoint import load
from otelsync.shipping.ledger import read_ledger

Sample = tuple[str, frozenset[tuple[str, str]]]

PATIENCE = 180.0


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with otlp_server() as running:
        yield running


@contextmanager
def shipping(home: Path, *options: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`otelsync ship --metrics-port 0`, and where its metrics are; ended in good order if it has not ended."""
    process = subprocess.Popen(
        [*supervised.OTELSYNC, "ship", "--home", str(home), "--metrics-port", "0", *options],
        env=supervised.environment(home, **variables),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, where(process)
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE)


def where(process: subprocess.Popen[str]) -> str:
    """The address that a process says its metrics are at."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"otelsync: metrics on (http://\S+)", line):
            return found[1]
    raise AssertionError("it never said where")


def scrape(url: str) -> dict[Sample, float]:
    """All samples, read as Prometheus does."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        text = response.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: Mapping[Sample, float], name: str, **labels: str) -> float:
    """The sum of a metric over all series that have these labels."""
    wanted = set(labels.items())
    return sum(value for (sample, told), value in samples.items() if sample == name and wanted <= told)


def a_run(items: int) -> None:
    with otelsync.pipeline("nightly"), otelsync.repo("acme/api"), otelsync.api_call("list_pulls"):
        for number in range(items):
            with otelsync.pull_request(number) as pr:
                pr.set(action="created")


def exported(server: OtlpServer, name: str) -> list[int]:
    """The sum of a counter in each request that had it."""
    return [
        sum(point.as_int for point in metric.sum.data_points)
        for request in list(server.metrics)
        for of_resource in request.resource_metrics
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
        if metric.name == name
    ]


def test_what_is_recorded_is_scraped(record: Callable[..., Recorded]) -> None:
    """A daemon counts all services' records; a strict parser reads what it serves, ledger and freshness included."""
    recorded = record()
    with shipping(recorded.home) as (_, url):
        a_run(30)
        eventually(lambda: total(scrape(url), "otelsync_ledger_shipped_total", otelsync_signal="span") == 33)
        samples = scrape(url)
    assert total(samples, "sync_items_total", service_name="test", sync_repo="acme/api", sync_action="created") == 30
    assert total(samples, "sync_stage_duration_seconds_count", sync_stage="pr", sync_outcome="success") == 30
    assert total(samples, "sync_api_duration_seconds_count", sync_api_operation="list_pulls") == 1
    assert total(samples, "sync_repo_last_success_timestamp_seconds", sync_repo="acme/api") > 1.7e9
    assert total(samples, "otelsync_ledger_pending", otelsync_sink="store") == 0
    assert {account.sink for account in read_ledger(recorded.journal).accounts} == {"store"}


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_counts_no_record_again_and_misses_none(record: Callable[..., Recorded], end: signal.Signals) -> None:
    """Counters begin with 0, and count what came since, even if the shipper was killed; freshness is known at once."""
    recorded = record()
    with shipping(recorded.home) as (process, url):
        a_run(20)
        eventually(lambda: total(scrape(url), "sync_items_total") == 20)
        eventually(lambda: saved(recorded) == 23)
        process.send_signal(end)
        process.wait(PATIENCE)
    a_run(7)
    with shipping(recorded.home) as (_, url):
        eventually(lambda: total(scrape(url), "sync_items_total") == 7)
        eventually(lambda: saved(recorded) == 33)
        samples = scrape(url)
    assert total(samples, "sync_items_total") == 7
    assert total(samples, "sync_stage_duration_seconds_count", sync_stage="pr") == 7
    assert total(samples, "sync_repo_last_success_timestamp_seconds") > 1.7e9
    assert total(samples, "otelsync_ledger_shipped_total", otelsync_signal="span") == 10


def saved(recorded: Recorded) -> int:
    """How many spans have been counted as shipped, by what the next shipper goes by."""
    checkpoint = load(recorded.journal)
    return checkpoint.metrics.ledger.get("otelsync.ledger.shipped span store", 0) if checkpoint else 0


def test_a_stage_that_is_open_at_a_restart_counts_right(record: Callable[..., Recorded]) -> None:
    """The sums of a stage, written after the restart, add nothing to the items that were counted before."""
    recorded = record()
    with otelsync.pipeline("nightly") as run, otelsync.repo("acme/api"), otelsync.api_call("list_pulls") as call:
        with shipping(recorded.home) as (_, url):
            for number in range(10):
                with otelsync.pull_request(number) as pr:
                    pr.set(action="created")
            eventually(lambda: total(scrape(url), "sync_items_total") == 10)
        call.count(updated=3)
        run.phase("last")
    with shipping(recorded.home) as (_, url):
        eventually(lambda: total(scrape(url), "sync_stage_duration_seconds_count", sync_stage="pipeline") == 1)
        samples = scrape(url)
    assert total(samples, "sync_items_total", sync_action="created") == 0
    assert total(samples, "sync_items_total", sync_action="updated") == 3


def test_run_serves_metrics_while_its_program_runs(tmp_path: Path) -> None:
    """`otelsync run --metrics-port 0` says where, and has what has happened so far."""
    program = supervised.script(
        tmp_path,
        "import otelsync, sys\n"
        "with otelsync.pipeline('nightly') as run, otelsync.repo('acme/api'):\n"
        "    with otelsync.pull_request(1) as pr:\n"
        "        pr.set(action='created')\n"
        "    sys.stdout.write('.')\n"
        "    sys.stdout.flush()\n"
        "    import signal; signal.pause()\n",
    )
    with supervised.running(tmp_path, "--metrics-port", "0", sys.executable, program) as process:
        url = where(process)
        eventually(lambda: total(scrape(url), "sync_items_total", sync_action="created") == 1)
        process.terminate()
        process.wait(PATIENCE)


def test_a_port_that_is_taken_ends_ship_with_a_fix(tmp_path: Path) -> None:
    """Whoever starts a daemon by hand is told at once."""
    with shipping(tmp_path) as (_, url):
        port = url.rpartition(":")[2].partition("/")[0]
        second = subprocess.run(
            [*supervised.OTELSYNC, "ship", "--home", str(tmp_path / "other"), "--metrics-port", port],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert second.returncode != 0
    assert f"--metrics-port={port} cannot work: Address already in use; set another port" in second.stderr
    assert "Traceback" not in second.stderr


def test_metrics_are_sent_at_the_end_of_a_script(
    record: Callable[..., Recorded], server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where spans go by OTLP, metrics go too: a last time at the end, with all that was recorded."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    record(ship="thread")
    a_run(12)
    assert otelsync.shutdown(20)
    assert exported(server, "sync.items")[-1] == 12
    assert exported(server, "otelsync.ledger.shipped")[-1] >= 15
    (of_resource,) = server.metrics[-1].resource_metrics
    attributes = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
    assert attributes["service.name"] == "test"
    assert "process.pid" not in attributes


def test_metrics_are_sent_at_an_interval(record: Callable[..., Recorded], server: OtlpServer) -> None:
    """Each export says all that the earlier ones said, and when counting began."""
    recorded = record()
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url, "OTEL_METRIC_EXPORT_INTERVAL": "50"}
    with shipping(recorded.home, **variables):
        a_run(2)
        eventually(lambda: 2 in exported(server, "sync.items"))
        a_run(3)
        eventually(lambda: 5 in exported(server, "sync.items"))
    sums = exported(server, "sync.items")
    assert sums == sorted(sums)
    assert all(len(own) == 1 for own in starts(server.metrics).values())


def starts(requests: list[ExportMetricsServiceRequest]) -> dict[tuple[str, ...], set[int]]:
    """Return when each series began, as each request says it."""
    found: dict[tuple[str, ...], set[int]] = {}
    for request in requests:
        for metric in request.resource_metrics[0].scope_metrics[0].metrics:
            for point in metric.sum.data_points:
                labels = sorted(f"{pair.key}={pair.value.string_value}" for pair in point.attributes)
                found.setdefault((metric.name, *labels), set()).add(point.start_time_unix_nano)
    return found


def test_an_endpoint_without_metrics_is_asked_ever_less_often(
    record: Callable[..., Recorded],
    server: OtlpServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Jaeger answers 404: that is said once, and spans arrive as ever."""
    server.metrics_answer = Answer(404)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    recorded = record(ship="thread")
    a_run(5)
    eventually(lambda: server.metrics)
    a_run(5)
    eventually(lambda: len(server.spans) == 16)
    assert otelsync.shutdown(20)
    said = [line for line in recorded.lines if "it takes none (HTTP 404)" in line["event"]]
    assert [line["level"] for line in said] == ["info"]


@pytest.mark.parametrize("status", [503, 400])
def test_failing_metrics_do_not_hold_up_spans(
    record: Callable[..., Recorded], server: OtlpServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Whatever the endpoint says of metrics, what is shipped is shipped, and the trouble is said once."""
    server.metrics_answer = Answer(status)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    recorded = record(ship="thread")
    a_run(5)
    eventually(lambda: len(server.metrics) > 3)
    assert otelsync.shutdown(20)
    assert len(server.spans) == 8
    assert len([line for line in recorded.lines if f"HTTP {status}" in line["event"]]) == 1


def test_a_program_that_ships_itself_counts_only_when_told(
    record: Callable[..., Recorded], server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the endpoint of spans is known, its own thread spends no time on metrics."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
    record(ship="thread")
    a_run(3)
    assert otelsync.shutdown(20)
    assert len(server.spans) == 6
    assert server.metrics == []


@pytest.mark.parametrize("variables", [{}, {"OTEL_METRICS_EXPORTER": "none"}, {"OTEL_METRICS_EXPORTER": "prometheus"}])
def test_nothing_is_counted_that_nobody_reads(
    record: Callable[..., Recorded],
    server: OtlpServer,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
) -> None:
    """With the local store alone, or where metrics are switched off, there is no cursor of theirs, and no request."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    recorded = record(ship="thread", endpoint=server.url if variables else None)
    a_run(3)
    assert otelsync.shutdown(20)
    checkpoint = load(recorded.journal)
    assert checkpoint is not None
    assert "metrics" not in checkpoint.sinks
    assert server.metrics == []


def test_a_script_without_metrics_does_not_load_them(tmp_path: Path) -> None:
    """The modules cost nothing where nobody asks for them."""
    program = supervised.script(
        tmp_path,
        "import sys, otelsync\n"
        f"otelsync.configure(home={str(tmp_path)!r}, log_level='ERROR')\n"
        "with otelsync.pipeline('nightly'):\n"
        "    pass\n"
        "otelsync.shutdown()\n"
        "print([name for name in sys.modules if 'metric' in name and name.startswith('otelsync')])\n",
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_metrics_count_what_folding_sums_up(
    record: Callable[..., Recorded], server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 repos of 1,000 pull requests: a trace within its budget, and metrics of all 50,000 items."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    record(log_level="WARNING")
    with otelsync.pipeline("nightly"):
        for number in range(50):
            with otelsync.repo(f"acme/{number}"):
                for page in range(10):
                    with otelsync.api_call("list_pulls", page=page + 1):
                        for item in range(100):
                            with otelsync.pull_request(1000 * number + 100 * page + item) as pr:
                                pr.set(action="created" if item % 3 else "updated")
    home = record_home()
    otelsync.shutdown(5)
    done = subprocess.run(
        [*supervised.OTELSYNC, "ship", "--once", "--timeout", "120"],
        env=supervised.environment(home),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert exported(server, "sync.items")[-1] == 50_000
    assert sum(stage_counts(server)) == 50_000 + 500 + 50 + 1
    assert len(server.spans) <= 5_000


def record_home() -> Path:
    from otelsync.in_force import settings as configured

    settings = configured()
    assert settings is not None
    return settings.home


def stage_counts(server: OtlpServer) -> list[Any]:
    return [
        point.count
        for of_resource in server.metrics[-1].resource_metrics
        for metric in of_resource.scope_metrics[0].metrics
        if metric.name == "sync.stage.duration"
        for point in metric.exponential_histogram.data_points
    ]
