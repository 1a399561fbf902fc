"""Real servers take what otelsync sends: Collector, Jaeger, VictoriaLogs and Prometheus, as ``make stack`` starts them.

Built by ``collector/servers/build.sh``; left out where that has not been run (``make test-backends`` runs it).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from collector.stack import ROOT, Stack, servers_folder
from otelsync.testing.reading import spans_in

PATIENCE: Final = 120.0
PROGRAM: Final = """
import otelsync
otelsync.configure(service_name="stack", log_level="INFO", log_format="json")
log = otelsync.get_logger("app")
with otelsync.pipeline("p"):
    for name in ("acme/api", "acme/web"):
        with otelsync.repo(name), otelsync.api_call("list", page=1):
            for number in range(20):
                with otelsync.pull_request(number, state="open") as pr:
                    log.info("pr.read", number=number)
                    pr.fail("no author") if number == 7 else pr.set(action="created")
print(otelsync.shutdown(60))
"""


def asked(url: str, **form: str) -> Any:
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=60) as answer:
        return answer.read().decode()


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it does: servers show things a moment after they took them."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)


def recorded(home: Path, endpoint: str, protocol: str, compression: str) -> None:
    """Run the program, whose spans go there and to the local store."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELSYNC_"))}
    environment |= {
        "OTELSYNC_HOME": str(home),
        "OTELSYNC_STORE": "on",
        "OTELSYNC_FOLD": "off",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout.splitlines()[-1] == "True", done.stderr


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_what_is_recorded_is_in_every_store(stack: Stack, tmp_path: Path, protocol: str, compression: str) -> None:
    """Spans are in Jaeger once, where they belong, under names that say which item they are; records lead to them."""
    recorded(tmp_path, stack.grpc_endpoint if protocol == "grpc" else stack.endpoint, protocol, compression)
    spans = {span.span_id: span for span in spans_in(tmp_path)}
    (trace_id,) = {span.trace_id for span in spans.values()}

    def in_jaeger() -> list[dict[str, Any]]:
        try:
            found = json.loads(asked(f"{stack.jaeger_url}/api/traces/{trace_id}"))["data"]
        except OSError:
            return []
        return found[0]["spans"] if found else []

    eventually(lambda: len(in_jaeger()) >= len(spans))
    there = in_jaeger()
    assert Counter(span["spanID"] for span in there) == Counter(spans.keys())
    for span in there:
        own = spans[span["spanID"]]
        assert [each["spanID"] for each in span["references"]] == ([own.parent_id] if own.parent_id else [])
        assert span["operationName"].partition(" #")[0] == own.name
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        assert own.attributes.items() <= tags.items()
        assert tags.get("error", False) == (own.status == "ERROR")
    assert {span["operationName"] for span in there} >= {"sync.pr #7", "sync.repo acme/api", "sync.pipeline p"}

    def in_logs() -> list[dict[str, Any]]:
        lines = asked(f"{stack.logs_url}/select/logsql/query", query=f'trace_id:="{trace_id}"', limit="1000")
        return [json.loads(line) for line in lines.splitlines()]

    eventually(lambda: len([line for line in in_logs() if line["_msg"] == "pr.read"]) == 40)
    assert {line["span_id"] for line in in_logs()} <= spans.keys()


def test_metrics_of_spans_are_in_prometheus(stack: Stack, tmp_path: Path) -> None:
    """By the Collector's span_metrics: groups and outcomes are labels, and an item's id is in none."""
    recorded(tmp_path, stack.endpoint, "http/protobuf", "gzip")

    def found() -> list[dict[str, Any]]:
        said = asked(f"{stack.prometheus_url}/api/v1/query", query='spans_calls_total{span_name="sync.pr"}')
        return list(json.loads(said)["data"]["result"])

    eventually(lambda: len(found()) >= 2)
    assert {series["metric"]["sync_repo"] for series in found()} >= {"acme/api", "acme/web"}
    assert not [series for series in found() if "#" in json.dumps(series["metric"])]


@pytest.mark.parametrize("more", [(), ("collector/tail-sampling.yaml",)])
def test_configurations_are_valid(tmp_path: Path, more: tuple[str, ...]) -> None:
    """As the Collector itself says."""
    configs = [part for name in ("otel-collector.yaml", *more) for part in ("--config", str(ROOT / name))]
    done = subprocess.run(
        [servers_folder() / "otelcol", "validate", *configs],
        env={**os.environ, "COLLECTOR_STATE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_collector_that_is_killed_loses_nothing_it_took(stack: Stack, tmp_path: Path) -> None:
    """What it has acknowledged is in a queue on disk; what it has not stays in the journal."""
    homes = [tmp_path / str(number) for number in range(3)]
    for home in homes:
        recorded(home, stack.endpoint, "http/protobuf", "gzip")
        stack.collector.kill()
        stack.collector.begin()
    for home in homes:
        spans = {span.span_id: span for span in spans_in(home)}
        (trace_id,) = {span.trace_id for span in spans.values()}

        def there(trace_id: str = trace_id) -> Counter[str]:
            try:
                found = json.loads(asked(f"{stack.jaeger_url}/api/traces/{trace_id}"))["data"]
            except OSError:
                return Counter()
            return Counter(span["spanID"] for span in found[0]["spans"])

        eventually(lambda: there() == Counter(spans.keys()))  # noqa: B023  (it is called here)
