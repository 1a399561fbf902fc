"""Visits to endpoints: an empty request for each signal, which leaves nothing behind, and its answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from otelsync.doctor import answers
from otelsync.doctor.findings import Finding, ok, problem, warning
from otelsync.doctor.reach import EndpointError, connect, left, secure, speaks_tls
from otelsync.otlp.exporter import USER_AGENT
from otelsync.otlp.options import OtlpEndpoint

_PATIENCE: Final = 3.0
"""Seconds for one endpoint, all in all."""
_LONGEST_ANSWER: Final = 64 * 1024
# RFC 9113, section 3.4: the preface, and an empty SETTINGS frame
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@dataclass
class Visit:
    """Results of going to all endpoints."""

    findings: list[Finding] = field(default_factory=list)
    usable: list[OtlpEndpoint] = field(default_factory=list)
    """Those that may take records."""


def visit(endpoints: Sequence[OtlpEndpoint]) -> Visit:
    """Go to each endpoint, for a few seconds at the most."""
    made = Visit()
    unreachable: dict[tuple[str, ...], str] = {}
    """The code of the finding, by place."""
    for endpoint in endpoints:
        place, name = _place(endpoint), f"{endpoint.signal} to {endpoint.place}"
        if place in unreachable:
            made.findings.append(problem(unreachable[place], f"{name}: the same", "see above"))
            continue
        try:
            error = _ask(endpoint, time.monotonic() + _PATIENCE, any(_place(other) == place for other in made.usable))
        except EndpointError as no_way:
            error = no_way
            unreachable[place] = error.code
        if error is None:
            made.findings.append(ok("answers", f"{name}: an OTLP receiver answers ({endpoint.protocol})"))
        else:
            make = problem if error.severe else warning
            made.findings.append(make(error.code, f"{name}: {error.message}", error.fix))
        if error is None or not error.severe:
            made.usable.append(endpoint)
    return made


def _place(endpoint: OtlpEndpoint) -> tuple[str, ...]:
    return (endpoint.protocol, *urlsplit(endpoint.url)[:2])


def _ask(endpoint: OtlpEndpoint, deadline: float, others_work: bool) -> EndpointError | None:
    """Return what is wrong with the answer. Raises EndpointError if there is none."""
    if endpoint.protocol == "grpc":
        return _ask_grpc(endpoint, deadline, others_work)
    raw = _exchange(endpoint, _request(endpoint), deadline)
    answer = answers.parse(raw)
    if answer is not None:
        return answers.diagnose(answer, endpoint, others_work=others_work)
    spoken = answers.language(raw)
    if spoken == "silence" and _language_after(_PREFACE, endpoint, deadline) == "http2":
        spoken = "http2"
    is_plain = endpoint.url.startswith("http:")
    return answers.other_language(spoken, tls_works=is_plain and speaks_tls(endpoint, deadline))


def _request(endpoint: OtlpEndpoint) -> bytes:
    """An ExportTraceServiceRequest, or one of logs, without any record: that is a body of no bytes."""
    parts = urlsplit(endpoint.url)
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    headers = {
        "host": parts.netloc.rpartition("@")[2],
        "user-agent": USER_AGENT,
        **endpoint.headers,
        "content-type": "application/x-protobuf",
        "content-length": "0",
        "connection": "close",
    }
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("ascii", "replace")


def _exchange(endpoint: OtlpEndpoint, request: bytes, deadline: float) -> bytes:
    """Send, and read what comes back. Raises EndpointError."""
    connection = connect(endpoint, deadline)
    try:
        if endpoint.url.startswith("https"):
            connection = secure(connection, endpoint, deadline)
        return _talk(connection, request, deadline)
    except TimeoutError:
        fix = "see the endpoint's own log, and its load; is it the right port?"
        raise EndpointError("no_answer", "the connection stands, and no answer comes", fix) from None
    finally:
        connection.close()


def _talk(connection: socket.socket, request: bytes, deadline: float) -> bytes:
    """Return a peer's answer: a whole HTTP answer, or the beginning of anything else. Raises TimeoutError."""
    received = b""
    try:
        connection.settimeout(left(deadline, _PATIENCE))
        connection.sendall(request)
        while len(received) < _LONGEST_ANSWER and not _is_whole(received):
            if time.monotonic() >= deadline:
                raise TimeoutError
            connection.settimeout(left(deadline, _PATIENCE))
            piece = connection.recv(16384)
            if not piece:
                break
            received += piece
    except TimeoutError:
        if b"\r\n\r\n" not in received:
            raise
    except OSError:
        pass  # it was closed on us; what came before says more
    return received


def _is_whole(received: bytes) -> bool:
    if received and not b"HTTP/1."[: len(received)].startswith(received[:7]):
        return len(received) >= 9  # no HTTP: the first frame says what it is
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return False
    answer = answers.parse(head)
    length = answer.headers.get("content-length", "") if answer else ""
    return length.isdecimal() and len(length) < 10 and len(body) >= int(length)


def _language_after(request: bytes, endpoint: OtlpEndpoint, deadline: float) -> answers.Language:
    try:
        return answers.language(_exchange(endpoint, request, deadline))
    except EndpointError:
        return "silence"


def _not_grpc(spoken: answers.Language, endpoint: OtlpEndpoint, deadline: float) -> EndpointError:
    """Diagnose a port that does not speak HTTP/2."""
    if spoken == "http" or _language_after(_request(endpoint), endpoint, deadline) == "http":
        fix = "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or use the receiver's grpc port (4317)"
        return EndpointError("http_port", "it is an HTTP port, and the protocol is grpc", fix)
    if endpoint.insecure and speaks_tls(endpoint, deadline):
        return EndpointError("https_port", "it is a port for TLS", "write https:// in the endpoint")
    fix = "correct the port: the Collector receives grpc on port 4317"
    return EndpointError("not_grpc", "it does not speak grpc", fix)


def _ask_grpc(endpoint: OtlpEndpoint, deadline: float, others_work: bool) -> EndpointError | None:
    spoken = answers.language(_exchange(endpoint, _PREFACE, deadline))
    if spoken != "http2":
        return _not_grpc(spoken, endpoint, deadline)
    from otelsync.otlp.grpc import GrpcTransport

    transport = GrpcTransport(replace(endpoint, compression="none"), user_agent=USER_AGENT)
    try:
        reply = transport.post(b"", left(deadline, _PATIENCE))
    finally:
        transport.close()
    return None if reply.status == "ok" else answers.grpc_refusal(reply.reason, endpoint, others_work=others_work)
