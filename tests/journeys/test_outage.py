"""Outages: whatever an endpoint does, nothing is lost that it did not itself reject, and the host does not notice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hosts import account, command, environment, grpc_service, host, refusing_port, spans_of
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_server import Answer, Received, otlp_server, records_of

ANSWERS = {
    "hanging": Answer(hang=True),
    "429": Answer(429, headers={"retry-after": "1"}),
    "503": Answer(503, headers={"retry-after": "1"}),
    "400": Answer(400),
    "partial_success": Answer(rejects=3),
}
TAKING = (ANSWERS["400"], ANSWERS["partial_success"])
"""Those that settle the matter."""
SPANS = 100_000
FLAT = 24 * 1024 * 1024
"""Bytes that the host may grow by from 20,000 to 100,000 spans; the mapped file alone grows to 8 MiB meanwhile."""
MARGIN = 5.0
"""Seconds. Beyond its deadline a process may need them on a busy machine to end."""


class Outage:
    """An endpoint that fails, until it is told to be `back`."""

    def __init__(self, behaviour: str, protocol: str, stack: ExitStack) -> None:
        self.answer = ANSWERS.get(behaviour)
        self._stack = stack
        self._grpc = protocol == "grpc"
        self._refusal = ExitStack()
        if self.answer is None:
            self.port = stack.enter_context(self._refusal).enter_context(refusing_port())
        else:
            self.server = stack.enter_context(otlp_server())
            self.server.always = self.answer
            self.port = self.server.server_address[1]
        self.options = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc" if self._grpc else "http/protobuf",
            "OTEL_EXPORTER_OTLP_TIMEOUT": 2,
            "SHUTDOWN_TIMEOUT": 2,
        }

    def back(self) -> None:
        """Let the endpoint work from now on."""
        self._refusal.close()
        if self._grpc:
            self.service = self._stack.enter_context(grpc_service(self.port))
        elif self.answer is None:
            self.server = self._stack.enter_context(otlp_server(port=self.port))
        else:
            self.server.always = Answer()

    def distinct(self) -> int:
        """How many different spans were accepted or rejected."""
        if self._grpc:
            return len({span.span_id for request in self.service.requests for span in spans_of(request)})
        answered = [r for r in self.server.received if r.answer.status in (200, 400) and not r.answer.hang]
        return len({span.span_id for received in answered for span in spans_of(received.message)})

    def rejected(self) -> int:
        """How many spans the endpoint itself has rejected: those it has refused are sent again in halves."""
        if self._grpc:
            return 0
        refused = self._ids(400) - self._ids(200)
        return len(refused) + sum(map(_rejected, self.server.received))

    def _ids(self, status: int) -> set[bytes]:
        """The spans of the requests with this answer."""
        answered = [each for each in self.server.received if each.answer.status == status]
        return {span.span_id for each in answered for span in spans_of(each.message)}


def _rejected(received: Received) -> int:
    """How many spans an answer has rejected that has taken others."""
    if not isinstance(received.message, ExportTraceServiceRequest) or received.answer.status == 400:
        return 0
    return min(received.answer.rejects, records_of(received.message))


@pytest.fixture(
    params=["refusing-http", "refusing-grpc", *(f"{behaviour}-http" for behaviour in ANSWERS)],
)
def outage(request: pytest.FixtureRequest) -> Iterator[Outage]:
    behaviour, protocol = request.param.split("-")
    with ExitStack() as stack:
        yield Outage(behaviour, protocol, stack)


@pytest.mark.slow
def test_100000_spans_outlast_an_outage(tmp_path: Path, outage: Outage) -> None:
    """What is recorded while the endpoint fails arrives once it is back, but for what it has itself rejected; the
    ledger says exactly that, and the host's memory has not grown with the backlog."""
    with host(tmp_path / "home", **{**outage.options, "STORE": "off"}) as running:
        early = running.record(SPANS // 5)
        late = running.record(SPANS // 5 * 4)
        outage.back()
        assert running.ask("flush", 60) == "True", running.log
        assert running.end() == 0
    counted = account(running.journal, "traces")
    assert outage.distinct() == counted.recorded == SPANS
    assert sum(counted.dropped.values()) == outage.rejected()
    assert (counted.shipped, counted.pending) == (SPANS - outage.rejected(), 0)
    assert late - early < FLAT
    assert json.loads(command(running.environment, "ledger", "--json"))["host"]["signals"]["span"]["sinks"] == {
        "traces": {
            "recorded": SPANS,
            "shipped": counted.shipped,
            "folded": 0,
            "dropped": counted.dropped,
            "pending": 0,
        }
    }
    assert running.warnings("stay in the journal") + running.warnings("rejected for good") <= 2  # one a signal


@pytest.mark.slow
def test_a_process_ends_in_an_outage(tmp_path: Path, outage: Outage) -> None:
    """The end of a process waits no longer than its deadline; what it could not ship is in the journal, and goes out
    with ``otelsync ship --once`` when the endpoint is back."""
    with host(tmp_path / "home", **outage.options) as running:
        running.record(5000)
        started = time.monotonic()
        assert running.end() == 0
        assert time.monotonic() - started < float(str(outage.options["SHUTDOWN_TIMEOUT"])) + MARGIN
    left = account(running.journal, "traces")
    assert left.recorded == 5000
    assert (left.pending == 5000) == (outage.answer is None or outage.answer not in TAKING)
    outage.back()
    command(environment(tmp_path / "home", **outage.options), "ship", "--once", "--timeout", "300")
    counted = account(running.journal, "traces")
    assert outage.distinct() == counted.recorded == 5000
    assert (counted.shipped, counted.pending) == (5000 - outage.rejected(), 0)
    assert account(running.journal, "store").shipped == 5000
