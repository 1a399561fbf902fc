from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpcio has no stubs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from otlp_server import Answer, otlp_server
from plain_servers import certificate, closed_port, http, server_context, silent, speaking

from otelsync.doctor import answers
from otelsync.doctor.endpoint import Visit, visit
from otelsync.doctor.findings import Finding
from otelsync.otlp.options import endpoints_from_environment

PAGE = b"<!DOCTYPE html><html><head><title>Grafana \x1b[31m\n</title></head></html>"


def visited(url: str, **variables: str) -> Visit:
    """What comes of going to an endpoint, given as OTEL_EXPORTER_OTLP_ENDPOINT."""
    environment = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()}
    return visit(endpoints_from_environment(environment, endpoint=url))


def found(url: str, **variables: str) -> Finding:
    """What was found of traces."""
    return visited(url, **variables).findings[0]


def test_a_receiver_takes_an_empty_request() -> None:
    """Both signals are asked for with requests that hold no record, and both endpoints can be used."""
    with otlp_server() as server:
        made = visited(server.url)
        assert [finding.code for finding in made.findings] == ["answers", "answers"]
        assert [endpoint.signal for endpoint in made.usable] == ["traces", "logs"]
        assert [request.size for request in server.received] == [0, 0]


def test_nothing_listens() -> None:
    """A refused connection is said once for all signals of an endpoint, with what to look at."""
    made = visited(f"http://127.0.0.1:{closed_port()}")
    assert [finding.code for finding in made.findings] == ["refused", "refused"]
    assert made.findings[0].fix.startswith("start the receiver, or correct host and port")
    assert made.findings[1].message.endswith("the same")
    assert made.usable == []


def test_in_a_container_localhost_is_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing listens on localhost in a container, the fix says what localhost is there."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert "localhost is the container itself" in found(f"http://localhost:{closed_port()}").fix


def test_a_name_that_is_not_known() -> None:
    """A host that cannot be resolved is no connection problem."""
    assert found("http://no-such-host.invalid:4318").code in ("unknown_name", "name_timeout")


def test_an_endpoint_that_says_nothing() -> None:
    """A hanging endpoint is given up, and its second signal is not waited for."""
    with silent() as port:
        made = visited(f"http://127.0.0.1:{port}")
    assert [finding.code for finding in made.findings] == ["no_answer", "no_answer"]


def test_an_endpoint_that_never_ends_its_headers() -> None:
    """A server that sends a byte now and then for ever is given up as well."""
    with otlp_server() as server:
        server.always = Answer(trickle=True)
        assert found(server.url).code == "no_answer"


@pytest.mark.parametrize(
    ("answer", "code", "says", "fix"),
    [
        (http(401), "not_allowed", "HTTP 401; no header was set", "OTEL_EXPORTER_OTLP_HEADERS"),
        (http(403), "not_allowed", "HTTP 403", "OTEL_EXPORTER_OTLP_HEADERS"),
        (http(404), "wrong_path", "no receiver at this path", "/v1/traces"),
        (http(404, PAGE), "wrong_path", 'a web server (titled "Grafana \\x1b[31m")', "4318"),
        (http(405), "wrong_path", "HTTP 405", "/v1/traces"),
        (http(200, PAGE, Content_Type="text/html; charset=utf-8"), "web_page", 'titled "Grafana', "4318"),
        (
            http(302, Location="https://a:b@login.example/x?token=1"),
            "redirect",
            "to login.example/x (",
            "where it leads",
        ),
        (http(429), "throttled", "HTTP 429", "raise its limit"),
        (http(503), "unavailable", "HTTP 503", "start it"),
        (http(500), "refused_request", "HTTP 500", "own log"),
        (http(400, b"Client sent an HTTP request to an HTTPS server.\n"), "https_port", "wants TLS", "https://"),
        (b"", "closed", "closes the connection", "4318"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "https_port", "TLS", "https://"),
        (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", "grpc_port", "grpc port", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not_http", "does not speak HTTP", "4318"),
    ],
)
def test_what_an_answer_means(answer: bytes, code: str, says: str, fix: str) -> None:
    """Each wrong answer has a name, a cause and a fix, and nothing hostile in it gets through."""
    with speaking(answer) as port:
        finding = found(f"http://127.0.0.1:{port}")
    assert (finding.code, finding.status) == (code, "problem")
    assert says in finding.message
    assert fix in finding.fix


def test_a_receiver_that_takes_no_empty_request() -> None:
    """HTTP 400 for nothing is only a warning: the probe will tell."""
    with speaking(http(400)) as port:
        made = visited(f"http://127.0.0.1:{port}")
    assert (made.findings[0].code, made.findings[0].status) == ("bad_request", "warning")
    assert len(made.usable) == 2


def test_a_receiver_of_one_signal() -> None:
    """An endpoint that takes traces and has no path for logs takes no logs; traces still go there."""
    with otlp_server() as server:
        server.answers.extend([Answer(200), Answer(404)])
        made = visited(server.url)
    assert (made.findings[1].code, made.findings[1].status) == ("signal_not_accepted", "problem")
    assert "OTEL_LOGS_EXPORTER=none" in made.findings[1].fix
    assert [endpoint.signal for endpoint in made.usable] == ["traces"]


def test_credentials_are_named_and_not_shown() -> None:
    """What is said of refused credentials names the headers that were sent, and none of their values."""
    with speaking(http(401)) as port:
        finding = found(f"http://127.0.0.1:{port}", HEADERS="authorization=Bearer%20s3cret-value")
    assert "the headers authorization were sent" in finding.message
    assert "s3cret" not in repr(finding)


@pytest.mark.parametrize(
    ("host", "days", "code", "fix"),
    [
        ("localhost", 1, "certificate_unknown", "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        ("localhost", -1, "certificate_expired", "renew"),
        ("elsewhere.example", 1, "certificate_name", "host name"),
    ],
)
def test_certificates(tmp_path: Path, host: str, days: int, code: str, fix: str) -> None:
    """An authority that is not known, an old certificate and one for another name are told apart."""
    pem = certificate(tmp_path, host=host, days=days)
    trusted = {} if code == "certificate_unknown" else {"CERTIFICATE": str(pem)}
    with otlp_server(server_context(pem)) as server:
        finding = found(server.url, **trusted)
    assert finding.code == code
    assert fix in finding.fix


def test_a_trusted_certificate(tmp_path: Path) -> None:
    """With its authority, a receiver behind TLS is one like any other."""
    pem = certificate(tmp_path)
    with otlp_server(server_context(pem)) as server:
        assert found(server.url, CERTIFICATE=str(pem)).code == "answers"


def test_a_client_certificate_is_missing(tmp_path: Path) -> None:
    """A server that wants a client certificate ends the connection."""
    pem = certificate(tmp_path)
    context = server_context(pem)
    context.load_verify_locations(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with otlp_server(context) as server:
        finding = found(server.url, CERTIFICATE=str(pem))
    assert finding.code == "tls_refused"
    assert "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" in finding.fix


def test_plain_http_to_a_tls_port(tmp_path: Path) -> None:
    """A port for TLS is recognised by a handshake, where it only closes on plain HTTP."""
    with otlp_server(server_context(certificate(tmp_path))) as server:
        finding = found(server.url.replace("https", "http"))
    assert (finding.code, finding.fix) == ("https_port", "write https:// in the endpoint")


@pytest.mark.parametrize(("protocol", "fix"), [("http/protobuf", "write http://"), ("grpc", "INSECURE=true")])
def test_tls_to_a_plain_port(protocol: str, fix: str) -> None:
    """A receiver without TLS is told from one with a bad certificate."""
    with otlp_server() as server:
        finding = found(server.url.replace("http", "https"), PROTOCOL=protocol)
    assert finding.code == "no_tls"
    assert fix in finding.fix


class _Traces(TraceServiceServicer):
    """A grpc receiver of traces alone."""

    def __init__(self, refuses: grpc.StatusCode | None) -> None:
        self._refuses = refuses

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: ARG002, N802
        if self._refuses is not None:
            context.abort(self._refuses, "no \x1b[31m")
        return ExportTraceServiceResponse()


@contextmanager
def grpc_receiver(refuses: grpc.StatusCode | None = None) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(_Traces(refuses), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_a_grpc_receiver_of_traces_alone() -> None:
    """grpc is asked by a real call; a service that is not there is a signal that is not accepted."""
    with grpc_receiver() as url:
        made = visited(url, PROTOCOL="grpc")
    assert [finding.code for finding in made.findings] == ["answers", "signal_not_accepted"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("UNAUTHENTICATED", "not_allowed"),
        ("PERMISSION_DENIED", "not_allowed"),
        ("RESOURCE_EXHAUSTED", "throttled"),
        ("UNIMPLEMENTED", "not_otlp"),
        ("INTERNAL", "refused_request"),
    ],
)
def test_what_a_grpc_status_means(status: str, code: str) -> None:
    """Each has a name, and the server's words are made harmless."""
    with grpc_receiver(grpc.StatusCode[status]) as url:
        finding = found(url, PROTOCOL="grpc")
    assert finding.code == code
    assert finding.message.isprintable()


def test_http_to_a_grpc_port() -> None:
    """A real grpc server is recognised as one, though all it does with HTTP/1.1 is to hang up."""
    with grpc_receiver() as url:
        finding = found(url)
    assert finding.code == "grpc_port"
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=grpc" in finding.fix


def test_grpc_to_an_http_port() -> None:
    """A receiver that answers the preface of HTTP/2 with HTTP/1.1 is an HTTP port."""
    with otlp_server() as server:
        finding = found(server.url, PROTOCOL="grpc")
    assert finding.code == "http_port"
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in finding.fix


def test_grpc_to_a_tls_port(tmp_path: Path) -> None:
    """A port for TLS that is spoken to plainly is named."""
    with otlp_server(server_context(certificate(tmp_path))) as server:
        finding = found(server.url.replace("https", "http"), PROTOCOL="grpc")
    assert (finding.code, finding.fix) == ("https_port", "write https:// in the endpoint")


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda raw: b"HTTP/1.1 200 OK\r\n" + raw))
def test_any_answer_is_diagnosed(raw: bytes) -> None:
    """Whatever bytes come back, there is a diagnosis that can be printed, or none."""
    (endpoint, _) = endpoints_from_environment({}, endpoint="http://localhost:1")
    answer = answers.parse(raw)
    if answer is None:
        diagnosis = answers.other_language(answers.language(raw), tls_works=False)
        assert diagnosis.message.isprintable()
    else:
        found_wrong = answers.diagnose(answer, endpoint)
        assert found_wrong is None or found_wrong.message.isprintable()
