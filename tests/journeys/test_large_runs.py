"""Large runs: recorded for real and folded by a shipper in a process of its own, they stay within the budget."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import connect

import pytest
from hosts import environment, reconciled, spans_of
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.trace import Status, StatusCode
from otlp_server import OtlpServer, eventually, otlp_server
from recorded import Recorded

import otelsync
from otelsync.shipping.ledger import Account
from otelsync.stages.stage import current_tracer

MS = 1_000_000
MAX_SPANS, MAX_BYTES = 5_000, 5_000_000


class Run:
    """A sync with 1 % of its pull requests failed and 1 % slow, by explicit times."""

    def __init__(self) -> None:
        self.count = 0
        self.must: set[str] = set()
        """The numbers of those that failed or were slow."""

    def repo(self, number: int, prs: int) -> None:
        """Record a repo with so many pull requests, a hundred to a page."""
        with otelsync.repo(f"acme/service-{number}"):
            for first in range(0, prs, 100):
                with otelsync.api_call("list_pull_requests", page=first // 100 + 1):
                    for _ in range(min(100, prs - first)):
                        self.pull_request()

    def pull_request(self) -> None:
        """Record one that ends now."""
        self.count += 1
        is_failed, is_slow = self.count % 100 == 33, self.count % 100 == 66
        now = time.time_ns()
        took = 5_000 if is_slow else 20 + self.count % 10
        attributes = {"vcs.change.id": str(self.count), "sync.action": "failed" if is_failed else "created"}
        span = current_tracer().start_span("sync.pr", start_time=now - took * MS, attributes=attributes)
        if is_failed:
            span.set_status(Status(StatusCode.ERROR, "no such branch"))
        if is_failed or is_slow:
            self.must.add(str(self.count))
        span.end(now)


@contextmanager
def shipping(home: Path, server: OtlpServer, *arguments: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """``otelsync ship`` in a process of its own, killed in the end."""
    variables = environment(home, OTEL_EXPORTER_OTLP_ENDPOINT=server.url, FOLD="on", **options)
    command = [sys.executable, "-m", "otelsync.cli", "ship", "--service", "test", "--timeout", "120", *arguments]
    with subprocess.Popen(command, env=variables, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def ship_once(home: Path, server: OtlpServer, **options: object) -> int:
    """Ship all that is there; returns the process's largest memory in bytes."""
    largest = 0
    with shipping(home, server, "--once", **options) as process:
        while process.poll() is None:
            largest = max(largest, _memory(process.pid))
            time.sleep(0.01)
        assert process.returncode == 0
    return largest


def _memory(pid: int) -> int:
    """The most that a process has had in memory so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def by_trace(server: OtlpServer) -> dict[bytes, list[Span]]:
    """The spans that came, by trace, each once."""
    found: dict[bytes, dict[bytes, Span]] = {}
    for request in list(server.accepted):
        for span in spans_of(request.message):
            found.setdefault(span.trace_id, {})[span.span_id] = span
    return {trace_id: list(spans.values()) for trace_id, spans in found.items()}


def within_budget(traces: dict[bytes, list[Span]]) -> bool:
    return all(
        len(spans) <= MAX_SPANS and sum(span.ByteSize() for span in spans) <= MAX_BYTES for spans in traces.values()
    )


def kept(traces: dict[bytes, list[Span]]) -> set[str]:
    """The numbers of the pull requests that came."""
    return {
        pair.value.string_value
        for spans in traces.values()
        for span in spans
        for pair in span.attributes
        if span.name == "sync.pr" and pair.key == "vcs.change.id"
    }


def said(traces: dict[bytes, list[Span]]) -> int:
    """How many pull requests the spans say are summed up in them."""
    pairs = (pair for spans in traces.values() for span in spans for pair in span.attributes)
    return sum(pair.value.int_value for pair in pairs if pair.key == "sync.items.folded")


def stored(home: Path) -> Counter[str]:
    """How many spans of which name the local store holds."""
    with closing(connect(home / "store.db")) as connection:
        return Counter(dict(connection.execute("SELECT name, count(*) FROM spans GROUP BY name")))


def accounts(recorded: Recorded) -> dict[str, Account]:
    return {f"{account.sink} {account.signal}": account for account in reconciled(recorded.journal).accounts}


@pytest.mark.slow
def test_fifty_repos_of_a_thousand_are_one_readable_trace(recorded: Recorded) -> None:
    """50 repos x 1,000 pull requests: one trace within 5,000 spans and 5 MB, with every failed and every slow one. The
    store has all, and the ledger adds up."""
    run = Run()
    with otlp_server() as server:
        with otelsync.pipeline("nightly"):
            for number in range(50):
                run.repo(number, 1_000)
        otelsync.shutdown(0)
        ship_once(recorded.home, server)
        traces = by_trace(server)
    assert len(traces) == 1
    assert within_budget(traces)
    assert len(run.must) == 1_000
    assert run.must <= kept(traces)
    assert stored(recorded.home)["sync.pr"] == run.count == 50_000
    account = accounts(recorded)["traces span"]
    assert account.folded == said(traces) == 50_000 - len(kept(traces))
    assert (account.recorded, account.pending, account.dropped) == (50_551, 0, {})


@pytest.mark.slow
def test_five_hundred_repos_are_linked_traces(recorded: Recorded) -> None:
    """500 repos x 100 pull requests: no trace is beyond the budget, each repo is in the pipeline's, and is linked both
    ways with its own where it has one; log records lead to the trace that their span is in."""
    run = Run()
    with otlp_server() as server:
        with otelsync.pipeline("nightly") as pipeline:
            for number in range(500):
                run.repo(number, 100)
        otelsync.shutdown(0)
        ship_once(recorded.home, server)
        traces = by_trace(server)
        logs = [
            (record.trace_id, record.span_id)
            for request in server.accepted
            if isinstance(request.message, ExportLogsServiceRequest) and request.path.endswith("logs")
            for of_resource in request.message.resource_logs
            for of_scope in of_resource.scope_logs
            for record in of_scope.log_records
        ]
    assert within_budget(traces)
    assert run.must <= kept(traces)
    of_pipeline = traces.pop(bytes.fromhex(pipeline.trace_id))
    repos = {span.span_id: span for span in of_pipeline if span.name.startswith("sync.repo ")}
    assert len(repos) == 500
    assert len(traces) > 100
    for trace_id, spans in traces.items():
        (root,) = [span for span in spans if not span.parent_span_id]
        assert [link.trace_id.hex() for link in root.links] == [pipeline.trace_id]
        assert [link.trace_id for link in repos[root.span_id].links] == [trace_id]
    present = {(trace_id, span.span_id) for trace_id, spans in traces.items() for span in spans}
    present |= {(span.trace_id, span.span_id) for span in of_pipeline}
    assert set(logs) <= present
    assert len({trace_id for trace_id, _ in logs}) == len(traces) + 1
    account = accounts(recorded)["traces span"]
    assert (account.recorded, account.pending, account.dropped) == (51_001, 0, {})
    assert account.folded == 50_000 - len(kept({**traces, b"": of_pipeline}))


@pytest.mark.slow
def test_the_shipper_may_be_killed_at_any_time(recorded: Recorded) -> None:
    """A shipper that is killed again and again while a run goes on loses nothing that is kept, and the ledger of the
    last one adds up."""
    run, dice = Run(), random.Random(4)
    with otlp_server() as server:
        with otelsync.pipeline("nightly"):
            for number in range(20):
                with shipping(recorded.home, server):
                    before = len(server.accepted)
                    run.repo(number, 500)
                    if number % 4:  # let it be killed before it has done anything, too
                        eventually(lambda before=before: len(server.accepted) > before)  # type: ignore[misc]
                    time.sleep(dice.uniform(0.0, 0.1))  # a random moment, not a condition
        otelsync.shutdown(0)
        ship_once(recorded.home, server)
        traces = by_trace(server)
    assert within_budget(traces)
    assert run.must <= kept(traces)
    assert stored(recorded.home)["sync.pr"] == run.count == 10_000
    found = accounts(recorded)
    assert (found["traces span"].pending, found["traces span"].dropped) == (0, {})
    assert found["store span"].shipped == found["traces span"].recorded == 10_121
    # What a killed shipper had sent and not put down came again, perhaps folded otherwise: more of it, not less.
    assert found["traces span"].folded > 0
    assert len(kept(traces)) + found["traces span"].folded >= 10_000


@pytest.mark.slow
def test_the_shippers_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    """Ten times the pull requests, below one call that ends last, take no more memory, give or take 8 MB."""
    memory: list[int] = []
    for prs in (10_000, 100_000):
        recorded, run = Recorded(tmp_path / str(prs)), Run()
        with otlp_server() as server:
            with otelsync.pipeline("nightly"), otelsync.repo("acme/api"), otelsync.api_call("list_pull_requests"):
                for _ in range(prs):
                    run.pull_request()
            otelsync.shutdown(0)
            # The store's cache is another matter: it grows until it is full.
            memory.append(ship_once(recorded.home, server, STORE="off"))
            assert run.must <= kept(by_trace(server))
    assert memory[1] - memory[0] < 8 * 1024 * 1024
