from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpcio has no stubs
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it has no stubs
from journal_files import JournalFile, log, resource, scope, span
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from otlp_server import Answer, OtlpServer, otlp_server

from otelsync.errors import ConfigurationError
from otelsync.journal.batch import Batch, Group
from otelsync.otlp.exporter import Most, OtlpSink
from otelsync.otlp.options import OtlpEndpoint, endpoints_from_environment
from otelsync.otlp.outcome import Outcome
from otelsync.otlp.request import Run, encode_request


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with otlp_server() as running:
        yield running


@contextmanager
def sink_to(url: str, **options: Any) -> Iterator[OtlpSink]:
    options.setdefault("signal", "traces")
    options.setdefault("timeout", 10.0)
    sink = OtlpSink(OtlpEndpoint(url=url, **options))
    try:
        yield sink
    finally:
        sink.close()


def spans(count: int, *, first: int = 1) -> list[Batch]:
    group = Group(resource(), scope(), spans=[span(number) for number in range(first, first + count)])
    return [Batch("test", 512, 1024, [group])]


def test_requests_decode_to_the_records_that_were_given() -> None:
    """Joined bytes are a valid request: one entry a resource, one a scope, records in their order."""
    items = [
        Run(resource("a"), scope("x"), [span(1)]),
        Run(resource("b"), scope("x"), [span(2)]),
        Run(resource("a"), scope("y"), [span(3)]),
        Run(resource("a"), scope("x"), [span(4, padding=300)]),
    ]
    request = ExportTraceServiceRequest.FromString(encode_request(items))
    shape = [
        (
            of_resource.resource.attributes[0].value.string_value,
            [(s.scope.name, [int.from_bytes(x.span_id, "big") for x in s.spans]) for s in of_resource.scope_spans],
        )
        for of_resource in request.resource_spans
    ]
    assert shape == [("a", [("x", [1, 4]), ("y", [3])]), ("b", [("x", [2])])]


def test_log_requests_decode_too() -> None:
    """The same joining makes a logs request, as the field numbers are the same."""
    request = ExportLogsServiceRequest.FromString(encode_request([Run(resource(), scope(), [log(7)])]))
    [of_resource] = request.resource_logs
    [of_scope] = of_resource.scope_logs
    assert of_scope.scope.name == "otelsync"
    assert of_scope.log_records[0].body.string_value == "sync.started"


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_spans_arrive(server: OtlpServer, compression: str) -> None:
    """Spans are posted with the headers of OTLP and the user's own, plain or compressed."""
    headers = {"authorization": "Bearer x", "content-type": "text/html", "content-length": "1"}
    with sink_to(f"{server.url}/v1/traces", compression=compression, headers=headers) as sink:
        assert sink.send(spans(3)) == Outcome(accepted=3)
    [request] = server.received
    assert server.numbers == [1, 2, 3]
    assert request.path == "/v1/traces"
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["authorization"] == "Bearer x"
    assert request.headers.get("content-encoding") == (None if compression == "none" else "gzip")


def test_one_connection_is_kept(server: OtlpServer) -> None:
    """Requests share a connection."""
    with sink_to(f"{server.url}/v1/traces") as sink:
        for number in range(3):
            sink.send(spans(1, first=number + 1))
    assert len({request.connection for request in server.received}) == 1


def test_a_connection_that_the_server_closed_is_opened_again(server: OtlpServer) -> None:
    """A stale kept connection costs no attempt and no record."""
    server.answers.append(Answer(close=True))
    with sink_to(f"{server.url}/v1/traces") as sink:
        assert sink.send(spans(1)).accepted == 1
        assert sink.send(spans(1, first=2)) == Outcome(accepted=1)
    assert server.numbers == [1, 2]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retryable_statuses_ask_for_a_retry(server: OtlpServer, status: int) -> None:
    """The statuses that the protocol calls retryable lose nothing."""
    server.answers.append(Answer(status))
    with sink_to(f"{server.url}/v1/traces") as sink:
        assert sink.send(spans(2)) == Outcome(retry=True, reason=f"HTTP {status}")
        assert sink.send(spans(2)) == Outcome(accepted=2)


@pytest.mark.parametrize("status", [400, 422])
def test_statuses_about_the_records_are_final(server: OtlpServer, status: int) -> None:
    """The records are rejected, once each of them was refused."""
    server.always = Answer(status)
    with sink_to(f"{server.url}/v1/traces") as sink:
        assert sink.send(spans(2)) == Outcome(rejected=2, reason=f"HTTP {status}")
    assert len(server.received) == 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), (" 0 ", 0.0), ("999999999999", 300.0), ("-5", None), ("soon", None), ("", None), ("٣", None)],
)
def test_retry_after_in_seconds_is_heeded_within_reason(server: OtlpServer, value: str, seconds: float | None) -> None:
    """The endpoint's hint is passed on, bounded, and nonsense is no hint."""
    server.answers.append(Answer(503, headers={"retry-after": value.encode().decode("latin-1")}))
    with sink_to(f"{server.url}/v1/traces") as sink:
        assert sink.send(spans(1)).retry_after == seconds


def test_retry_after_may_be_a_date(server: OtlpServer) -> None:
    """An HTTP date is the time from now."""
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    server.answers.append(Answer(429, headers={"retry-after": format_datetime(when, usegmt=True)}))
    with sink_to(f"{server.url}/v1/traces") as sink:
        after = sink.send(spans(1)).retry_after
    assert after is not None
    assert 0 < after <= 60


def test_partial_success_is_counted(server: OtlpServer) -> None:
    """Records that a successful answer rejects are counted, and its message is made harmless."""
    server.answers.append(Answer(rejects=2))
    with sink_to(f"{server.url}/v1/traces") as sink:
        assert sink.send(spans(5)) == Outcome(accepted=3, partial=2, reason="no \\x1b[31mroom")


@pytest.mark.parametrize("rejects", [99, -4])
def test_partial_success_is_not_believed_beyond_the_records_sent(server: OtlpServer, rejects: int) -> None:
    """An endpoint cannot reject more than it was given, nor fewer than none."""
    server.answers.append(Answer(rejects=rejects))
    with sink_to(f"{server.url}/v1/traces") as sink:
        outcome = sink.send(spans(5))
    assert outcome.accepted + outcome.partial == 5
    assert outcome.partial in (0, 5)


def test_an_unreadable_answer_is_a_success(server: OtlpServer) -> None:
    """HTTP 200 with a body that is no response message means that the records were taken."""
    server.answers.append(Answer(body=b"\xff\xffthank you"))
    with sink_to(f"{server.url}/v1/traces") as sink:
        assert sink.send(spans(2)) == Outcome(accepted=2)


def test_an_endless_answer_is_not_read(server: OtlpServer) -> None:
    """No more than 64 KiB of an answer are read, and the next request goes through a fresh connection."""
    server.answers.append(Answer(400, body=b"x" * 5_000_000))
    with sink_to(f"{server.url}/v1/traces") as sink:
        assert sink.send(spans(1)).rejected == 1
        assert sink.send(spans(1, first=2)) == Outcome(accepted=1)
    assert len({request.connection for request in server.received}) == 2


def test_what_is_too_large_is_split(server: OtlpServer) -> None:
    """After a 413 halves are tried, in order, until they fit; later requests are small from the beginning."""
    server.too_large = 3
    with sink_to(f"{server.url}/v1/traces") as sink:
        assert sink.send(spans(10)) == Outcome(accepted=10)
        requests = len(server.received)
        assert sink.send(spans(10, first=11)) == Outcome(accepted=10)
    assert server.numbers == list(range(1, 21))
    assert len(server.received) - requests < requests


def test_a_single_record_that_is_too_large_is_rejected(server: OtlpServer) -> None:
    """What cannot be split is given up, alone."""
    server.too_large = 0
    with sink_to(f"{server.url}/v1/traces") as sink:
        assert sink.send(spans(3)) == Outcome(rejected=3, reason="HTTP 413")


def test_nobody_listening_asks_for_a_retry() -> None:
    """A refused connection is no loss."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with sink_to(f"http://127.0.0.1:{port}/v1/traces") as sink:
        outcome = sink.send(spans(1))
    assert outcome == Outcome(retry=True, reason="Connection refused")


@pytest.mark.parametrize("answer", [Answer(hang=True), Answer(trickle=True)])
def test_a_hanging_or_trickling_server_ends_with_the_timeout(server: OtlpServer, answer: Answer) -> None:
    """The timeout bounds the whole attempt, not each byte of it."""
    server.always = answer
    with sink_to(f"{server.url}/v1/traces", timeout=0.2) as sink:
        assert sink.send(spans(1)) == Outcome(retry=True, reason="no answer within 0.2 s")


def test_a_dropped_connection_asks_for_a_retry(server: OtlpServer) -> None:
    """A server that goes away in the middle loses nothing."""
    server.answers.extend([Answer(drop=True), Answer(drop=True)])
    with sink_to(f"{server.url}/v1/traces") as sink:
        assert sink.send(spans(1)).retry
        assert sink.send(spans(1)).retry
        assert sink.send(spans(1)) == Outcome(accepted=1)


def test_a_deadline_cuts_the_timeout_short(server: OtlpServer) -> None:
    """With a deadline no attempt outlasts it, and behind it none is made."""
    server.always = Answer(hang=True)
    with sink_to(f"{server.url}/v1/traces", timeout=3600.0) as sink:
        assert sink.send(spans(1), deadline=time.monotonic() + 0.1).retry
        assert sink.send(spans(1), deadline=time.monotonic() - 1) == Outcome(
            retry=True, tried=False, reason="out of time"
        )
    assert len(server.received) == 1


def test_abort_ends_a_request_that_hangs(server: OtlpServer) -> None:
    """Another thread can end an attempt, and no further one is made."""
    server.always = Answer(hang=True)
    with sink_to(f"{server.url}/v1/traces", timeout=3600.0) as sink:
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(sink.send, spans(1))
            while not server.received:
                time.sleep(0.005)
            sink.abort()
            assert future.result(timeout=120).retry
        assert sink.send(spans(1)).retry
    assert len(server.received) == 1


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A self-signed certificate for localhost, as authority, server and client."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificates")
    paths = {"certificate": folder / "certificate.pem", "key": folder / "key.pem"}
    paths["certificate"].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths["key"].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@contextmanager
def tls_server(certificates: dict[str, Path]) -> Iterator[OtlpServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates["certificate"], certificates["key"])
    context.load_verify_locations(certificates["certificate"])
    context.verify_mode = ssl.CERT_REQUIRED
    with otlp_server(context) as server:
        yield server


def test_tls_with_client_certificate(certificates: dict[str, Path]) -> None:
    """The endpoint's certificate is checked against the given authority, and ours is shown."""
    certificate, key = str(certificates["certificate"]), str(certificates["key"])
    with tls_server(certificates) as server:
        own = {"client_certificate": certificate, "client_key": key}
        with sink_to(f"{server.url}/v1/traces", certificate=certificate, **own) as sink:
            assert sink.send(spans(2)) == Outcome(accepted=2)
            assert sink.send(spans(2, first=3)) == Outcome(accepted=2)
        assert server.numbers == [1, 2, 3, 4]


def test_an_unknown_authority_is_not_trusted(certificates: dict[str, Path]) -> None:
    """Without the authority nothing is sent."""
    with tls_server(certificates) as server:
        with sink_to(f"{server.url}/v1/traces") as sink:
            outcome = sink.send(spans(1))
        assert outcome.retry
        assert "certificate not accepted" in outcome.reason
        assert not server.received


class _Traces(TraceServiceServicer):
    """A real grpc service that fails as it is told."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.metadata: dict[str, str] = {}
        self.calls = 0
        self.failures: list[tuple[grpc.StatusCode, str, float | None]] = []
        self.too_large: int | None = None
        self.hang = threading.Event()
        self.hang.set()

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802
        self.calls += 1
        self.metadata = dict(context.invocation_metadata())
        self.hang.wait(120)
        if self.failures:
            self._fail(context, *self.failures.pop(0))
        found = [s for r in request.resource_spans for o in r.scope_spans for s in o.spans]
        if self.too_large is not None and len(found) > self.too_large:
            self._fail(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", None)
        self.numbers += [int.from_bytes(s.span_id, "big") for s in found]
        return ExportTraceServiceResponse()

    def _fail(self, context: Any, code: grpc.StatusCode, details: str, after: float | None) -> None:
        if after is not None:
            info = AnyMessage()
            delay = Duration()
            delay.FromMilliseconds(int(after * 1000))
            info.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
            status = status_pb2.Status(code=code.value[0], message=details, details=[info])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, details)


@contextmanager
def grpc_service() -> Iterator[tuple[str, _Traces]]:
    service = _Traces()
    server = grpc.server(ThreadPoolExecutor(4))
    add_TraceServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", service
    finally:
        service.hang.set()
        server.stop(0).wait()


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_spans_arrive_over_grpc(compression: str) -> None:
    """grpc carries the same bytes, with the headers as metadata."""
    with grpc_service() as (url, service):
        options = {"protocol": "grpc", "insecure": True, "headers": {"x-team": "seven"}}
        with sink_to(url, compression=compression, **options) as sink:
            assert sink.send(spans(3)) == Outcome(accepted=3)
        assert service.numbers == [1, 2, 3]
        assert service.metadata["x-team"] == "seven"


def test_grpc_statuses_are_sorted_as_the_protocol_says() -> None:
    """Retryable codes ask for a retry, with RetryInfo as the pause; only what is said of the records is final."""
    code = grpc.StatusCode
    with grpc_service() as (url, service), sink_to(url, protocol="grpc", insecure=True) as sink:
        service.failures += [
            (code.UNAVAILABLE, "later", 2.5),
            (code.DATA_LOSS, "", None),
            (code.RESOURCE_EXHAUSTED, "busy", 3.0),
            (code.RESOURCE_EXHAUSTED, "data refused due to high memory usage", None),
            (code.UNAUTHENTICATED, "who?", None),
            (code.INTERNAL, "oops", None),
            (code.INVALID_ARGUMENT, "bad", None),
        ]
        assert sink.send(spans(1)) == Outcome(retry=True, retry_after=2.5, reason="UNAVAILABLE: later")
        assert sink.send(spans(1)) == Outcome(retry=True, reason="DATA_LOSS")
        assert sink.send(spans(1)) == Outcome(retry=True, retry_after=3.0, reason="RESOURCE_EXHAUSTED: busy")
        refused = "RESOURCE_EXHAUSTED: data refused due to high memory usage"
        assert sink.send(spans(1)) == Outcome(retry=True, reason=refused)
        assert sink.send(spans(1)) == Outcome(retry=True, denied=True, reason="UNAUTHENTICATED: who?")
        assert sink.send(spans(1)) == Outcome(retry=True, denied=True, reason="INTERNAL: oops")
        assert sink.send(spans(1)) == Outcome(rejected=1, reason="INVALID_ARGUMENT: bad")
        assert sink.send(spans(1)) == Outcome(accepted=1)


def test_grpc_splits_what_is_too_large() -> None:
    """A size limit of the server is met with smaller requests."""
    with grpc_service() as (url, service), sink_to(url, protocol="grpc", insecure=True) as sink:
        service.too_large = 2
        assert sink.send(spans(7)) == Outcome(accepted=7)
        assert service.numbers == list(range(1, 8))


def test_grpc_ends_with_the_timeout_and_with_an_abort() -> None:
    """A hanging service is given up at the timeout, or when another thread says so."""
    with grpc_service() as (url, service):
        service.hang.clear()
        with sink_to(url, protocol="grpc", insecure=True, timeout=0.2) as sink:
            assert sink.send(spans(1)).retry
        with sink_to(url, protocol="grpc", insecure=True, timeout=3600.0) as sink, ThreadPoolExecutor(1) as pool:
            calls = service.calls
            future = pool.submit(sink.send, spans(1))
            while service.calls == calls:
                time.sleep(0.005)
            sink.abort()
            assert future.result(timeout=120).retry


def test_grpc_without_a_server_asks_for_a_retry() -> None:
    """Nobody listening is no loss."""
    with sink_to("http://127.0.0.1:1", protocol="grpc", insecure=True) as sink:
        assert sink.send(spans(1)).retry


OTLP = "OTEL_EXPORTER_OTLP_"


def endpoint(signal: str = "traces", **variables: str) -> OtlpEndpoint:
    found = endpoints_from_environment({OTLP + name: value for name, value in variables.items()})
    return next(e for e in found if e.signal == signal)


def test_without_an_endpoint_there_is_none() -> None:
    """Nothing is sent anywhere unless somebody said where."""
    assert endpoints_from_environment({}) == ()
    assert endpoints_from_environment({f"{OTLP}ENDPOINT": " ", f"{OTLP}HEADERS": "a=b"}) == ()


@pytest.mark.parametrize(
    ("base", "traces"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://host/otlp?tenant=1", "https://host/otlp/v1/traces?tenant=1"),
    ],
)
def test_the_base_endpoint_gets_a_path_per_signal(base: str, traces: str) -> None:
    """The path of the signal is appended to the endpoint for all signals."""
    assert endpoint(ENDPOINT=base).url == traces
    assert endpoint("logs", ENDPOINT=base).url == traces.replace("traces", "logs")


def test_a_signals_own_endpoint_is_used_as_it_is() -> None:
    """Its path is not touched, and it goes before the general one; without a path it is the root."""
    assert endpoint(TRACES_ENDPOINT="http://a/custom", ENDPOINT="http://b").url == "http://a/custom"
    assert endpoint(TRACES_ENDPOINT="http://a:4318").url == "http://a:4318/"
    assert [e.signal for e in endpoints_from_environment({f"{OTLP}LOGS_ENDPOINT": "http://a"})] == ["logs"]


@pytest.mark.parametrize(
    ("value", "insecure", "url", "plain"),
    [
        ("http://collector", "", "http://collector:4317", True),
        ("http://collector:9/", "false", "http://collector:9", True),
        ("https://collector:9", "true", "https://collector:9", False),
        ("collector:9", "", "https://collector:9", False),
        ("collector:9", "true", "http://collector:9", True),
        ("[::1]:9", "TRUE", "http://[::1]:9", True),
    ],
)
def test_grpc_endpoints(value: str, insecure: str, url: str, plain: bool) -> None:
    """A scheme says whether there is TLS; without one INSECURE does; the port defaults to 4317."""
    found = endpoint(ENDPOINT=value, PROTOCOL="grpc", INSECURE=insecure)
    assert (found.url, found.insecure, found.protocol) == (url, plain, "grpc")


def test_a_signals_own_variables_go_first(certificates: dict[str, Path]) -> None:
    """Each option may be set for all signals and overridden for one."""
    pem = str(certificates["certificate"])
    variables = {
        "ENDPOINT": "http://a",
        "HEADERS": "general=1",
        "TRACES_HEADERS": "X-Own=a%20b%2C, second = 2",
        "TIMEOUT": "3",
        "TRACES_TIMEOUT": "0.5",
        "TRACES_COMPRESSION": "gzip",
        "CERTIFICATE": pem,
        "TRACES_CLIENT_CERTIFICATE": pem,
        "TRACES_CLIENT_KEY": str(certificates["key"]),
    }
    traces, logs = endpoint(**variables), endpoint("logs", **variables)
    assert traces.headers == {"x-own": "a b,", "second": "2"}
    assert logs.headers == {"general": "1"}
    assert (traces.timeout, logs.timeout) == (0.5, 3.0)
    assert (traces.compression, logs.compression) == ("gzip", "none")
    assert (traces.certificate, traces.client_certificate) == (pem, pem)
    assert (logs.certificate, logs.client_certificate) == (pem, None)


def test_an_exporter_that_is_switched_off_has_no_endpoint() -> None:
    """OTEL_LOGS_EXPORTER=none leaves the traces alone."""
    found = endpoints_from_environment({"OTEL_LOGS_EXPORTER": "none"}, endpoint="http://a")
    assert [e.url for e in found] == ["http://a/v1/traces"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ENDPOINT", "collector:4318"),
        ("ENDPOINT", "ftp://collector"),
        ("ENDPOINT", "http://"),
        ("ENDPOINT", "http://collector:port"),
        ("ENDPOINT", "http://collector:0"),
        ("ENDPOINT", "http://collector/a b"),
        ("TRACES_ENDPOINT", "http://[::1"),
        ("PROTOCOL", "http/json"),
        ("TIMEOUT", "ten"),
        ("TIMEOUT", "0"),
        ("TIMEOUT", "nan"),
        ("TIMEOUT", "inf"),
        ("LOGS_TIMEOUT", "-1"),
        ("COMPRESSION", "zstd"),
        ("INSECURE", "maybe"),
        ("CERTIFICATE", "/none/such.pem"),
        ("CLIENT_KEY", __file__),
    ],
)
def test_wrong_options_are_named_with_value_and_fix(option: str, value: str) -> None:
    """The message names the option as it was set, its value, and what to do."""
    variables = {"ENDPOINT": "http://a"} | {option: value}
    with pytest.raises(ConfigurationError) as caught:
        endpoints_from_environment({OTLP + name: setting for name, setting in variables.items()})
    assert caught.value.option == OTLP + option
    assert value in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("HEADERS", "authorization"),
        ("HEADERS", "a=1,b d=hunter2"),
        ("HEADERS", "a=hunter2%0d%0ab: c"),
        ("HEADERS", "=hunter2"),
        ("ENDPOINT", "https://user:hunter2@collector"),
    ],
)
def test_secrets_are_not_in_messages(option: str, value: str) -> None:
    """A wrong header or a password in a URL is reported without being repeated."""
    variables = {f"{OTLP}ENDPOINT": "http://a"} | {OTLP + option: value}
    with pytest.raises(ConfigurationError) as caught:
        endpoints_from_environment(variables)
    assert "hunter2" not in str(caught.value)


def test_an_endpoint_shows_no_secrets() -> None:
    """Neither its representation nor its place repeats a header's value or a query."""
    found = endpoint(ENDPOINT="https://host/x?key=hunter2", HEADERS="authorization=hunter3")
    assert "hunter3" not in repr(found)
    assert found.place == "https://host/x/v1/traces"


def test_a_journal_goes_through_unchanged(server: OtlpServer, tmp_path: Path) -> None:
    """From a journal file to the endpoint, a log record's bytes stay what they were."""
    from otelsync.journal.reader import JournalReader

    file = JournalFile(tmp_path).logs(2).spans(1).write()
    reader = JournalReader(file.path)
    batch = reader.read(512)
    reader.close()
    assert batch is not None
    with sink_to(f"{server.url}/v1/logs", signal="logs") as sink:
        assert sink.send([batch]) == Outcome(accepted=2)
    assert server.logs == [1, 2]


def test_what_was_too_large_once_is_tried_again(server: OtlpServer) -> None:
    """Where the proxy that refused it has gone since, requests grow again."""
    batches = spans(64)
    with sink_to(f"{server.url}/v1/traces") as sink:
        before = sink.room
        server.too_large = 3
        assert sink.send(batches).accepted == 64
        smallest = sink.room
        assert smallest < before
        server.too_large = None
        for _ in range(40):
            assert sink.send(batches).accepted == 64
        assert sink.room > 8 * smallest
        asked = len(server.received)
        sink.send(batches)
        assert len(server.received) - asked == 1


def test_tries_of_more_than_is_taken_become_rare() -> None:
    """An endpoint that still refuses is asked again after twice as many requests each time."""
    most, waits, since = Most(), list[int](), 0
    most.refused(64_000)
    while len(waits) < 5:
        if most.size > 40_000:
            most.refused(64_000)
            waits.append(since)
            since = 0
        else:
            most.taken(most.size)
            since += 1
    assert waits == [16, 32, 64, 128, 256]
