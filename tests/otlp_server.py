"""An OTLP/HTTP endpoint on loopback, which decodes what it gets and misbehaves on request."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Answer:
    """How the endpoint answers one request."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    rejects: int = 0
    """partial_success."""
    body: bytes = b""
    hang: bool = False
    """Say nothing until the server ends."""
    trickle: bool = False
    """Send a byte now and then, for ever."""
    close: bool = False
    """Close the connection after the answer, without having said so."""
    drop: bool = False
    """Close the connection without an answer."""


@dataclass
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    size: int
    connection: tuple[str, int]
    message: ExportTraceServiceRequest | ExportLogsServiceRequest
    answer: Answer
    """What it was answered with."""


class OtlpServer(ThreadingHTTPServer):
    """The endpoint. Answers are taken from `answers`, then `always` applies."""

    daemon_threads = False

    def __init__(self, context: ssl.SSLContext | None = None, *, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.answers: deque[Answer] = deque()
        self.always = Answer()
        self.too_large: int | None = None
        """Requests with more records than this are answered with 413."""
        self.poisoned: dict[int, int] = {}
        """By number of a span: the status that a request with it is answered with."""
        self.received: list[Received] = []
        self.accepted: list[Received] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        """Requests for metrics: not among those received, as they come when they come."""
        self.metrics_answer = Answer()
        """How all of them are answered."""
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.connections: list[socket.socket] = []
        self.scheme = "https" if context else "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server_address[1]}"

    def next_answer(self) -> Answer:
        with self.lock:
            return self.answers.popleft() if self.answers else self.always

    @property
    def spans(self) -> list[Span]:
        """All spans that were accepted, in the order of their coming."""
        return [
            span
            for request in list(self.accepted)
            if isinstance(request.message, ExportTraceServiceRequest)
            for of_resource in request.message.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    @property
    def numbers(self) -> list[int]:
        """The numbers of the spans of `journal_files.span` that were accepted."""
        return [int.from_bytes(span.span_id, "big") for span in self.spans]

    @property
    def logs(self) -> list[int]:
        """The numbers of the log records of `journal_files.log` that were accepted."""
        return [
            record.attributes[0].value.int_value
            for request in list(self.accepted)
            if isinstance(request.message, ExportLogsServiceRequest)
            for of_resource in request.message.resource_logs
            for of_scope in of_resource.scope_logs
            for record in of_scope.log_records
        ]

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what some tests are about."""

    def end(self) -> None:
        self.ended.set()
        for connection in self.connections:
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OtlpServer

    def do_POST(self) -> None:
        size = int(self.headers["content-length"])
        body = self.rfile.read(size)
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if "metrics" in self.path:
            self.server.metrics.append(ExportMetricsServiceRequest.FromString(body))
            self._answer(self.server.metrics_answer)
            return
        kind = ExportTraceServiceRequest if "trace" in self.path else ExportLogsServiceRequest
        headers = {name.lower(): value for name, value in self.headers.items()}
        message = kind.FromString(body)
        bad = [self.server.poisoned[number] for number in numbers_of(message) if number in self.server.poisoned]
        answer = Answer(bad[0]) if bad else self.server.next_answer()
        if self.server.too_large is not None and records_of(message) > self.server.too_large:
            answer = Answer(413)
        request = Received(self.path, headers, size, self.client_address, message, answer)
        with self.server.lock:
            self.server.received.append(request)
            if 200 <= answer.status < 300 and not (answer.hang or answer.trickle or answer.drop):
                self.server.accepted.append(request)
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        if answer.hang:
            self.server.ended.wait(300)
        if answer.trickle:
            self._trickle()
        if answer.hang or answer.trickle or answer.drop:
            self.close_connection = True
            return
        body = answer.body or _response(self.path, answer.rejects)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = answer.close

    def _trickle(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
        while not self.server.ended.wait(0.01):
            self.wfile.write(b"x")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name that the base class gave it)
        """Nothing."""


def numbers_of(message: ExportTraceServiceRequest | ExportLogsServiceRequest) -> list[int]:
    """The numbers of the spans in a request."""
    if isinstance(message, ExportLogsServiceRequest):
        return []
    return [int.from_bytes(x.span_id, "big") for r in message.resource_spans for s in r.scope_spans for x in s.spans]


def records_of(message: ExportTraceServiceRequest | ExportLogsServiceRequest) -> int:
    """How many spans or log records a request holds."""
    if isinstance(message, ExportTraceServiceRequest):
        return sum(len(s.spans) for r in message.resource_spans for s in r.scope_spans)
    return sum(len(s.log_records) for r in message.resource_logs for s in r.scope_logs)


def _response(path: str, rejects: int) -> bytes:
    if not rejects or "metrics" in path:
        return b""
    if "trace" in path:
        traces = ExportTraceServiceResponse()
        traces.partial_success.rejected_spans = rejects
        traces.partial_success.error_message = "no \x1b[31mroom"
        return traces.SerializeToString()
    logs = ExportLogsServiceResponse()
    logs.partial_success.rejected_log_records = rejects
    return logs.SerializeToString()


@contextmanager
def otlp_server(context: ssl.SSLContext | None = None, *, port: int = 0) -> Iterator[OtlpServer]:
    """A running endpoint."""
    server = OtlpServer(context, port=port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.end()
        thread.join()


def eventually(condition: Callable[[], object], timeout: float = 120.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
