"""The benchmarks' sink counts what arrives, and a round proves that its records did. No test here asserts a time."""

from __future__ import annotations

import gzip
import json
import threading
from array import array
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.request import Request, urlopen

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks import celery_worker, msgpack, report
from benchmarks.celery_worker import Cpu, Round
from benchmarks.measurement import WARM_UP_PRS, Measurement, measure, missing, quantiles
from benchmarks.sink import Counts, Sink, SinkServer, sink_process
from benchmarks.variants import VARIANTS
from benchmarks.workload import PRS_PER_REPO, repositories


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A sink in this process."""
    with SinkServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Sink(server.url)
        server.shutdown()
        thread.join()


def _send(sink: Sink, path: str, body: bytes, **headers: str) -> None:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with urlopen(Request(sink.url + path, data=body, headers=names, method="POST"), timeout=60) as answer:
        answer.read()


def _traces(*names: str) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for name in names:
        scope.spans.add(name=name)
    return request.SerializeToString()


def test_otlp_spans_are_counted_by_name(sink: Sink) -> None:
    """Spans of an OTLP/HTTP request count under their names, over requests."""
    _send(sink, "/v1/traces", _traces("sync.pr", "sync.pr", "sync.repo"))
    _send(sink, "/v1/traces", _traces("sync.pr"))

    assert sink.counts() == Counts(spans=Counter({"sync.pr": 3, "sync.repo": 1}))


def test_compressed_requests_are_unpacked(sink: Sink) -> None:
    """A request with Content-Encoding gzip counts like a plain one."""
    _send(sink, "/v1/traces", gzip.compress(_traces("sync.pr")), Content_Encoding="gzip")

    assert sink.counts().spans == {"sync.pr": 1}


def test_chunked_requests_are_read_to_their_end(sink: Sink) -> None:
    """A body in chunks counts, and the connection serves the next request."""
    connection = HTTPConnection(sink.url.removeprefix("http://"), timeout=60)
    body = _traces("sync.pr", "sync.pr")
    for _ in range(2):
        connection.request("POST", "/v1/traces", body=iter([body[:5], body[5:]]), encode_chunked=True)
        connection.getresponse().read()
    connection.close()

    assert sink.counts().spans == {"sync.pr": 4}


def test_otlp_log_records_are_counted_by_event(sink: Sink) -> None:
    """Log records count under their body, which is the event's name."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.body.string_value = "sync.pr.synced"
    _send(sink, "/v1/logs", request.SerializeToString())

    assert sink.counts() == Counts(logs=Counter({"sync.pr.synced": 1}))


def test_datadog_v04_traces_are_counted(sink: Sink) -> None:
    """The spans of an agent's v0.4 payload count, those of several traces together."""
    span = b"\x82\xa4name\xa7sync.pr\xa8duration\xcd\x03\xe8"
    _send(sink, "/v0.4/traces", b"\x92\x92" + span + span + b"\x91" + span)

    assert sink.counts().spans == {"sync.pr": 3}


def test_datadog_v05_traces_are_counted(sink: Sink) -> None:
    """The spans of an agent's v0.5 payload count under the name that the string table holds."""
    span = b"\x9c\x00\x01\x00" + b"\xcf\x00\x00\x00\x00\x00\x00\x00\x07" * 5 + b"\x00\x80\x80\x00"
    _send(sink, "/v0.5/traces", b"\x92\x92\xa0\xa7sync.pr\x91\x92" + span + span)

    assert sink.counts().spans == {"sync.pr": 2}


def test_sentry_transactions_and_their_spans_are_counted(sink: Sink) -> None:
    """A transaction counts once, and each of its spans once, under their operations."""
    transaction = {
        "type": "transaction",
        "contexts": {"trace": {"op": "sync.repo"}},
        "spans": [{"op": "sync.pr"}, {"op": "sync.pr"}],
    }
    lines = [{"event_id": "1"}, {"type": "transaction", "length": 1}, transaction]
    envelope = "\n".join(json.dumps(line) for line in lines).encode()
    _send(sink, "/api/1/envelope/", envelope)

    assert sink.counts().spans == {"sync.repo": 1, "sync.pr": 2}


def test_a_reset_starts_over(sink: Sink) -> None:
    """After a reset nothing has arrived."""
    _send(sink, "/v1/traces", _traces("sync.pr"))
    sink.reset()

    assert sink.counts() == Counts()


def test_an_agent_tells_which_protocols_it_speaks(sink: Sink) -> None:
    """ddtrace asks an agent for its endpoints before it sends."""
    with urlopen(f"{sink.url}/info", timeout=60) as answer:
        assert "/v0.5/traces" in json.loads(answer.read())["endpoints"]


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        (b"\x7f", 127),
        (b"\xff", -1),
        (b"\xc0", None),
        (b"\xc3", True),
        (b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", 1.5),
        (b"\xd1\xff\x00", -256),
        (b"\xd9\x02\xc3\xa9", "é"),
        (b"\xc4\x01\x00", b"\x00"),
        (b"\xdc\x00\x02\x01\x02", [1, 2]),
        (b"\xde\x00\x01\xa1a\x91\x01", {"a": [1]}),
    ],
)
def test_messagepack_is_decoded(encoded: bytes, value: object) -> None:
    """Each kind of MessagePack value that an agent receives decodes to Python's own."""
    assert msgpack.decode(encoded) == value


@pytest.mark.parametrize("broken", [b"", b"\xda\x00", b"\x92\x01", b"\xc7\x00\x00"])
def test_broken_messagepack_is_refused(broken: bytes) -> None:
    """Bytes that end early, and extension types, are a ValueError."""
    with pytest.raises(ValueError, match="MessagePack"):
        msgpack.decode(broken)


def test_repositories_hold_every_pull_request_once() -> None:
    """Cutting into repositories loses no pull request, whatever the remainder."""
    prs = 2 * PRS_PER_REPO + 7

    assert [len(members) for _, members in repositories(prs)] == [PRS_PER_REPO, PRS_PER_REPO, 7]


def test_quantiles_are_of_the_sorted_durations() -> None:
    """The quantiles of 0..1000 us are their own share, in microseconds."""
    durations = array("Q", [1000 * number for number in reversed(range(1001))])

    assert quantiles(durations) == {"p50": 500.0, "p99": 990.0, "p99.9": 999.0, "max": 1000.0}


def test_the_table_gives_medians_and_ratios() -> None:
    """A variant's line has the median, the range, and its ratio to each peer of the run."""
    cpu = {"otel": [80.0, 90.0, 100.0], "ddtrace": [20.0, 30.0, 40.0], "empty": [0.5, 0.6, 9.0]}
    results = {name: [Measurement(value) for value in values] for name, values in cpu.items()}
    lines = report.cpu_table(results).splitlines()

    assert lines[2].endswith("90.00  (80.00 - 100.00)              1.0x             3.0x")
    assert lines[4].split()[-2:] == ["1/150.0", "1/50.0"]


@pytest.mark.parametrize(
    ("variant", "spans", "logs", "lines", "said"),
    [
        ("otel", 9, 0, 9, ""),
        ("otel", 7, 0, 9, "7 of 9 spans"),
        ("otel", 10, 0, 9, "10 of 9 spans"),
        ("otel", 9, 9, 9, "9 of 0 OTLP log records"),
        ("otel-logs", 9, 8, 0, "8 of 9 OTLP log records, 0 of 9 log lines"),
        ("empty", 0, 0, 0, ""),
    ],
)
def test_too_few_and_too_many_are_both_found_out(variant: str, spans: int, logs: int, lines: int, said: str) -> None:
    """What should arrive follows from the variant; any other number is named with the right one."""
    counts = Counts(Counter({"sync.pr": spans}), Counter({"sync.pr.synced": logs}))

    assert missing(VARIANTS[variant], 9, counts, lines) == said


def test_what_is_missing_is_named_with_both_numbers() -> None:
    """A round whose records did not all arrive is reported as invalid."""
    results = {"otel": [Measurement(1.0), Measurement(1.0, missing="7 of 9 spans")]}

    assert report.invalid(results) == "INVALID otel, round 2: 7 of 9 spans"


@pytest.mark.parametrize("variant", ["empty", "otelsync-api", "otelsync-api-logs", "otelsync", "otelsync-logs"])
def test_a_round_proves_that_its_records_arrived(variant: str) -> None:
    """One round in a fresh process: everything that was recorded is counted at the sink and in the log file."""
    with sink_process() as sink:
        measurement = measure(variant, 300, sink, timed=variant == "otelsync")
        spans = sink.counts().spans["sync.pr"]

    assert measurement.missing == ""
    assert spans == (0 if variant == "empty" else 300 + WARM_UP_PRS)
    assert set(measurement.latency_us) == ({"p50", "p99", "p99.9", "max"} if variant == "otelsync" else set())


@pytest.mark.slow
def test_a_round_of_a_worker_proves_that_its_spans_arrived() -> None:
    """A bare worker and a traced one do the same tasks; each has its CPU counted, and the spans of the one are all
    there."""
    results = celery_worker.interleaved(["bare", "otelsync"], rounds=1, tasks=100)

    assert celery_worker.invalid(results) == ""
    (bare,), (traced,) = results["bare"], results["otelsync"]
    assert min(bare.start.worker, bare.tasks.worker, traced.tasks.worker, traced.start.supervisor) > 0
    assert bare.tasks.supervisor == 0


def test_the_table_of_workers_gives_what_is_added() -> None:
    """A way's line has what it adds to the bare worker, a task, and the ratio of that to what the peer adds."""
    seconds = {"bare": Cpu(1.0), "otel": Cpu(1.6), "otelsync": Cpu(1.1, 0.2), "otel-logs": Cpu(2.0)}
    results = {name: [Round(Cpu(0.5), cpu)] for name, cpu in seconds.items()}
    lines = celery_worker.table(results, tasks=1000).splitlines()

    assert lines[4].split() == ["otelsync", "run", "1100.0", "100.0", "200.0", "300.0", "0.17", "0.50", "0.0"]
    assert lines[3].split()[1:] == ["1600.0", "600.0", "0.0", "600.0", "0.0"]


def test_a_round_that_lost_spans_is_invalid() -> None:
    """Spans of a worker that did not arrive are named."""
    results = {"otel": [Round(Cpu(1.0), Cpu(1.0)), Round(Cpu(1.0), Cpu(1.0), missing="9 of 10 spans")]}

    assert celery_worker.invalid(results) == "INVALID otel, round 2: 9 of 10 spans"
