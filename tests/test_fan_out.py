from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_server import Answer, OtlpServer, otlp_server
from recorded import Recorded
from sync_spans import attributes_of, body

import otelsync
from otelsync.otlp.decoding import lean_spans
from otelsync.otlp.exporter import OtlpSink
from otelsync.otlp.options import OtlpEndpoint, Signal
from otelsync.shipping.folding.budget import Limits
from otelsync.shipping.folding.fan_out import MOST_TRACES, FanOuts, divided, moved
from otelsync.shipping.ledger import read_ledger
from otelsync.shipping.outlet import Backoff
from otelsync.shipping.shipper import Shipper

LIMITS = Limits(max_spans=100)
"""Enough for ten spans to stay whole; the trace is full with its ninetieth span."""


QUICK = Backoff(0.005, 0.02)


def sinks_to(traces: OtlpServer, logs: OtlpServer) -> list[OtlpSink]:
    ends: list[tuple[Signal, OtlpServer]] = [("traces", traces), ("logs", logs)]
    return [OtlpSink(OtlpEndpoint(signal, f"{server.url}/v1/{signal}", timeout=60)) for signal, server in ends]


def step_often(shipper: Shipper) -> None:
    for _ in range(5):
        shipper.step()


@dataclass
class Shipped:
    """A journal directory, an endpoint, and shippers from one to the other."""

    server: OtlpServer
    directory: Path
    limits: Limits = LIMITS

    def shipper(self, **options: Any) -> Shipper:
        sinks = sinks_to(self.server, self.server)
        return Shipper(self.directory, otlp=sinks, limits=self.limits, backoff=QUICK, **options)

    def drain(self) -> None:
        """Ship all that is there, with a shipper of its own."""
        shipper = self.shipper()
        assert shipper.drain(120)
        shipper.close()
        ledger = read_ledger(self.directory)
        assert ledger.reconciles, str(ledger)

    @property
    def traces(self) -> dict[str, list[Span]]:
        """The spans by trace."""
        found: dict[str, list[Span]] = {}
        for span in self.server.spans:
            found.setdefault(span.trace_id.hex(), []).append(span)
        return found

    @property
    def logs(self) -> list[tuple[str, str]]:
        """The trace ids and span ids of the log records."""
        return [
            (record.trace_id.hex(), record.span_id.hex())
            for request in list(self.server.accepted)
            if isinstance(request.message, ExportLogsServiceRequest) and request.path.endswith("logs")
            for of_resource in request.message.resource_logs
            for of_scope in of_resource.scope_logs
            for record in of_scope.log_records
        ]


@pytest.fixture
def shipped(recorded: Recorded) -> Iterator[Shipped]:
    with otlp_server() as server:
        yield Shipped(server, recorded.journal)


def work(calls: int) -> None:
    """Some API calls, each with a log record."""
    for number in range(calls):
        with otelsync.api_call("list_pull_requests", page=number):
            otelsync.get_logger("test").info("page.read")


def sync(repos: int, calls: int, *, after: Callable[[], None] = lambda: None) -> str:
    """A run; returns the trace id of its pipeline. `after`: called after each repo."""
    with otelsync.pipeline("nightly") as run:
        for number in range(repos):
            with otelsync.repo(f"acme/{number}"):
                work(calls)
            after()
    return run.trace_id


def names(spans: list[Span]) -> list[str]:
    return sorted(span.name for span in spans)


def test_repos_beyond_the_budget_get_traces_of_their_own(shipped: Shipped) -> None:
    """Repos that begin when the trace is full go out apart, and are linked both ways with the pipeline."""
    pipeline = sync(12, 9, after=shipped.drain)
    shipped.drain()
    traces = shipped.traces
    assert all(len(spans) <= 100 for spans in traces.values())
    of_pipeline = traces.pop(pipeline)
    assert len([span for span in of_pipeline if span.name.startswith("sync.repo")]) == 12
    assert len(traces) == 3
    (root_of_all,) = [span for span in of_pipeline if not span.parent_span_id]
    for trace_id, spans in traces.items():
        (root,) = [span for span in spans if not span.parent_span_id]
        assert names(spans) == ["sync.api list_pull_requests"] * 9 + [root.name]
        assert {span.parent_span_id for span in spans if span is not root} == {root.span_id}
        (to_pipeline,) = root.links
        assert (to_pipeline.trace_id.hex(), to_pipeline.span_id) == (pipeline, root_of_all.span_id)
        (stand_in,) = [span for span in of_pipeline if span.span_id == root.span_id]
        assert (stand_in.name, stand_in.parent_span_id) == (root.name, root_of_all.span_id)
        assert attributes_of(stand_in) == attributes_of(root)
        assert [link.trace_id.hex() for link in stand_in.links] == [trace_id]


def test_groups_of_any_kind_get_traces_of_their_own(shipped: Shipped) -> None:
    """Customers beyond the budget go out apart, each with its boards: only the outermost group is divided off."""
    with otelsync.pipeline("orders") as run, otelsync.sync_context(**{"sync.tenant": "eu"}):
        for number in range(12):
            with otelsync.group("customer", f"C{number}"), otelsync.group("board", "Orders"):
                work(8)
            shipped.drain()
    shipped.drain()
    traces = shipped.traces
    of_pipeline = traces.pop(run.trace_id)
    assert len([span for span in of_pipeline if span.name.startswith("sync.customer")]) == 12
    assert len(traces) == 3
    for trace_id, spans in traces.items():
        (root,) = [span for span in spans if not span.parent_span_id]
        assert names(spans) == ["sync.api list_pull_requests"] * 8 + ["sync.board Orders", root.name]
        (stand_in,) = [span for span in of_pipeline if span.span_id == root.span_id]
        assert [link.trace_id.hex() for link in stand_in.links] == [trace_id]
        assert [pair.value.string_value for pair in stand_in.links[0].attributes] == ["customer"]
    ids = {(trace_id, span.span_id.hex()) for trace_id, spans in shipped.traces.items() for span in spans}
    assert set(shipped.logs) <= ids


def test_log_records_follow_their_spans(shipped: Shipped) -> None:
    """Each log record has the id of the trace in which its span went out; the sync id stays the same everywhere."""
    sync(12, 9, after=shipped.drain)
    shipped.drain()
    assert len(shipped.traces) == 4
    ids = {(trace_id, span.span_id.hex()) for trace_id, spans in shipped.traces.items() for span in spans}
    assert set(shipped.logs) <= ids
    assert len({trace_id for trace_id, _ in shipped.logs}) == 4
    assert len({attributes_of(span)["sync.id"] for span in shipped.server.spans}) == 1


def test_a_decision_outlives_its_shipper(shipped: Shipped) -> None:
    """A repo is in one trace, though each of its calls is shipped by another shipper."""
    with otelsync.pipeline("nightly") as run:
        with otelsync.repo("acme/large"):
            work(95)
        shipped.drain()
        with otelsync.repo("acme/apart"):
            for _ in range(3):
                work(1)
                shipped.drain()
    shipped.drain()
    traces = shipped.traces
    assert len(traces.pop(run.trace_id)) == 98
    (apart,) = traces.values()
    assert names(apart) == ["sync.api list_pull_requests"] * 3 + ["sync.repo acme/apart"]


def test_logs_and_traces_agree_while_an_endpoint_is_down(shipped: Shipped) -> None:
    """While the traces' endpoint is down the shipper looks ahead, so that log records that go out first have the ids
    that their spans will have, and the traces are cut as they would have been."""
    with otlp_server() as logs_only:
        shipped.server.always = Answer(503)
        shipper = Shipper(shipped.directory, otlp=sinks_to(shipped.server, logs_only), limits=LIMITS, backoff=QUICK)
        sync(12, 9, after=lambda: step_often(shipper))
        while len(logs_only.accepted) < 6:
            shipper.step()
        assert shipped.server.spans == []
        shipped.server.always = Answer()
        assert shipper.drain(120)
        shipper.close()
        logs = set(Shipped(logs_only, shipped.directory).logs) - {("", "")}
    assert len(shipped.traces) == 4
    assert logs <= {(trace_id, span.span_id.hex()) for trace_id, spans in shipped.traces.items() for span in spans}
    assert len({trace_id for trace_id, _ in logs}) == 4


def test_many_repos_are_reckoned_with_before_they_have_spans(shipped: Shipped) -> None:
    """Repos that begin all at once are given a share of the budget each, and those for whom there is none go apart."""
    shipped.limits = Limits(max_spans=100_000)
    pipeline = sync(250, 0)
    shipped.drain()
    assert len(shipped.traces) == 71
    assert len(shipped.traces[pipeline]) == 251


def test_a_repo_outside_any_pipeline_is_the_root_of_its_trace(shipped: Shipped) -> None:
    """Where there is nothing around a repo there is nothing to link it with."""
    with otelsync.repo("acme/alone") as repo:
        work(200)
    shipped.drain()
    assert list(shipped.traces) == [repo.trace_id]


@pytest.mark.parametrize("name", ["x" * 100_000, "\x00\n\tsync.repo\x12\x07", "../../etc/passwd", "\u202e\ud83d\ude00"])
def test_any_name_of_a_repo_will_do(shipped: Shipped, name: str) -> None:
    """Names that are long, or look like protobuf, are names; the checkpoint does not hold them."""
    with otelsync.pipeline("nightly") as run:
        with otelsync.repo("acme/large"):
            work(95)
        shipped.drain()
        with otelsync.repo(name):
            work(2)
    shipped.drain()
    assert len(shipped.traces) == 2
    assert len(shipped.traces[run.trace_id]) == 98
    assert (shipped.directory / "shipper.json").stat().st_size < 20_000


def test_a_span_moves_whatever_the_order_of_its_fields() -> None:
    """The trace id is replaced in a span as the recorder writes it, and in one that somebody else has encoded."""
    ours = body(7, "sync.pr", 3, sync__repo="acme/api")
    other = b"\x12" + bytes([len(inner := _reversed(ours))]) + inner
    for span in (ours, other, body(7, "x" * 40_000)):
        (before,), (after,) = lean_spans([span]), lean_spans([moved(span, b"\xaa" * 16)])
        assert before is not None
        assert after is not None
        assert after.trace_id == b"\xaa" * 16
        assert (after.span_id, after.name, after.end) == (before.span_id, before.name, before.end)


def _reversed(span: bytes) -> bytes:
    message = span[2:] if span[1] < 0x80 else span[3:]
    return message[18:] + message[:18]


def test_a_repo_that_cannot_be_read_moves_without_links() -> None:
    """A name that is not UTF-8 costs the links, and nothing else."""
    span = body(7, "sync.repo acme/api", 3).replace(b"acme", b"\xff\xfe\xfd\xfc")
    root, stand_in = divided(span, b"\xaa" * 16)
    assert stand_in == span
    assert b"\xaa" * 16 in root


def test_traces_are_forgotten_in_turn() -> None:
    """However many traces have repos, only so many are remembered."""
    fan_outs = FanOuts()
    for number in range(MOST_TRACES + 10):
        fan_outs.add(number.to_bytes(16, "big"), set(), is_full=True)
    assert len(fan_outs.traces) == len(fan_outs.full) == MOST_TRACES
