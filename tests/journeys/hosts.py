"""Host processes as the tests of the journeys see them: started, asked, ended, and what became of their records."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpc import GenericRpcHandler, unary_unary_rpc_method_handler  # type: ignore[import-untyped]
from grpc import server as grpc_server
from host_programs import BEGUN, ENTRY, SAID, SPAN
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_server import OtlpServer
from trace_tree import fields

from otelsync.shipping.ledger import Account, Ledger, read_ledger

PATIENCE = 120.0
"""Seconds that a host may take for anything. Only a host that hangs takes as long."""


class Host:
    """A process that does as it is told.

    Args:
        home: Where its journals and the store are.
        program: One of `host_programs`, with its `arguments`.
        options: Environment variables for it, ``OTELSYNC_`` left out of the names of our own.
    """

    def __init__(self, home: Path, program: str = "obey", /, *arguments: object, **options: object) -> None:
        home.mkdir(exist_ok=True)
        self.journal = home / "journals" / "host"
        self.store = home / "store.db"
        self.environment = environment(home, **options)
        self.recorded = 0
        """How many spans it was asked to record."""
        self._log = home / f"log-{len(list(home.glob('log-*')))}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("host_programs.py"), program, *map(str, arguments)],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        if program == "obey":
            assert self.answer() == "ready", self.log

    def ask(self, *words: object) -> str:
        """Have something done, and return the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def record(self, spans: int) -> int:
        """Have so many spans recorded, and return how many bytes of memory it has afterwards."""
        self.begin_recording(spans)
        return int(self.answer())

    def begin_recording(self, spans: int) -> None:
        """Have so many spans recorded; the answer has to be waited for."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"record {spans - 1}\n")
        self.process.stdin.flush()
        self.recorded += spans

    def answer(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the host ended with {self.process.wait(PATIENCE)}: {self.log}"
        return line.rstrip("\n")

    def end(self) -> int:
        """Let it come to its end, and return its exit code."""
        try:
            self.process.communicate(timeout=PATIENCE)
        finally:
            self.process.kill()
        return self.process.returncode

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.communicate()

    @property
    def log(self) -> str:
        """All that it has logged, and anything else on its standard error."""
        return self._log.read_text()

    def messages(self) -> Counter[str]:
        """How often it has logged what. That it wrote anything but log records is an error."""
        return Counter(json.loads(line)["event"] for line in self.log.splitlines())

    def warnings(self, part: str) -> int:
        """How many of the messages contain `part`."""
        return sum(count for message, count in self.messages().items() if part in message)


def environment(home: Path, **options: object) -> dict[str, str]:
    """The environment of a host, or of a command, with its data in `home`."""
    given = {name if name.startswith("OTEL_") else f"OTELSYNC_{name}": str(value) for name, value in options.items()}
    # What arrives is compared span by span with what was recorded.
    ours = {"OTELSYNC_HOME": str(home), "OTELSYNC_STORE": "on", "OTELSYNC_FOLD": "off"}
    return {**os.environ, **ours, **given}


@contextmanager
def host(home: Path, program: str = "obey", /, *arguments: object, **options: object) -> Iterator[Host]:
    """A running host, which is killed if it is still there at the end."""
    started = Host(home, program, *arguments, **options)
    try:
        yield started
    finally:
        started.kill()


def command(environment: dict[str, str], *arguments: str) -> str:
    """What an ``otelsync`` command prints; that it fails is an error."""
    run = [sys.executable, "-m", "otelsync.cli", *arguments]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=5 * PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def reconciled(directory: Path) -> Ledger:
    """The ledger of a journal directory; that it does not add up is an error."""
    ledger = read_ledger(directory)
    assert ledger.reconciles, str(ledger)
    return ledger


def account(directory: Path, sink: str, signal: str = "span") -> Account:
    """One account of the ledger, which must add up."""
    (found,) = [a for a in reconciled(directory).accounts if (a.sink, a.signal) == (sink, signal)]
    return found


@dataclass
class Tally:
    """What hosts have put down as begun and as finished."""

    begun: set[str] = field(default_factory=set)
    spans: set[str] = field(default_factory=set)
    logs: set[int] = field(default_factory=set)

    def read(self, path: Path) -> None:
        """Add what one host has put down."""
        with path.open("rb") as file:
            while what := (entry := file.read(ENTRY))[8]:
                number = entry[:8]
                if what == BEGUN:
                    self.begun.add(number.hex())
                elif what == SPAN:
                    self.spans.add(number.hex())
                else:
                    self.logs.add(int.from_bytes(number, "big"))


@dataclass
class Found:
    """What has come to a place, by span id and by the number of a log record."""

    spans: Counter[str] = field(default_factory=Counter)
    logs: Counter[int] = field(default_factory=Counter)
    interrupted: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    torn: list[str] = field(default_factory=list)
    """Spans and records that are not what was recorded."""

    def add_span(self, span_id: str, name: str, attributes: dict[str, Any], *, took: int | None) -> None:
        """Take note of a span; `took` is None while it is open."""
        self.spans[span_id] += 1
        if took is None:
            self.open.add(span_id)
        if attributes.get("sync.outcome") == "interrupted":
            self.interrupted.add(span_id)
        if "checked" in attributes and attributes["checked"] != 2 * int(attributes["vcs.change.id"]):
            self.torn.append(span_id)
        if not name.startswith("sync.") or (took or 0) < 0:
            self.torn.append(span_id)

    def add_log(self, attributes: dict[str, Any]) -> None:
        """Take note of a log record that is in a tally."""
        self.logs[attributes["number"]] += 1
        if attributes.get("checked", 2 * attributes["number"]) != 2 * attributes["number"]:
            self.torn.append(f"log {attributes['number']}")


def found_in_store(path: Path) -> Found:
    """What the local store holds."""
    found = Found()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        query = "SELECT span_id, name, attributes, end_ns - start_ns FROM spans"
        for span_id, name, attributes, took in connection.execute(query):
            found.add_span(span_id, name, json.loads(attributes), took=took)
        for (attributes,) in connection.execute("SELECT attributes FROM logs WHERE event = ?", (SAID,)):
            found.add_log(json.loads(attributes))
    return found


def spans_of(request: object) -> Iterable[Span]:
    """The spans of a request; none, if it is not about spans."""
    if isinstance(request, ExportTraceServiceRequest):
        for of_resource in request.resource_spans:
            for of_scope in of_resource.scope_spans:
                yield from of_scope.spans


def found_at_endpoint(server: OtlpServer) -> Found:
    """What an endpoint has accepted."""
    found = Found()
    for received in list(server.accepted):
        message = received.message
        for span in spans_of(message):
            took = span.end_time_unix_nano - span.start_time_unix_nano if span.end_time_unix_nano else None
            found.add_span(span.span_id.hex(), span.name, fields(span.attributes), took=took)
        if isinstance(message, ExportLogsServiceRequest):
            for of_resource in message.resource_logs:
                for of_scope in of_resource.scope_logs:
                    for record in of_scope.log_records:
                        if record.body.string_value == SAID:
                            found.add_log(fields(record.attributes))
    return found


class GrpcService(GenericRpcHandler):  # type: ignore[misc]  # grpcio has no stubs
    """An OTLP/grpc endpoint for spans and logs that keeps what it gets; metrics are not implemented."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest | ExportLogsServiceRequest] = []

    def service(self, handler_call_details: Any) -> Any:
        """How a call is to be answered."""
        if "Metrics" in handler_call_details.method:
            return None
        kind = ExportTraceServiceRequest if "Trace" in handler_call_details.method else ExportLogsServiceRequest
        return unary_unary_rpc_method_handler(self._keep, request_deserializer=kind.FromString)

    def _keep(self, request: ExportTraceServiceRequest | ExportLogsServiceRequest, _: object) -> bytes:
        self.requests.append(request)
        return b""


@contextmanager
def grpc_service(port: int) -> Iterator[GrpcService]:
    """A running OTLP/grpc endpoint."""
    service = GrpcService()
    server = grpc_server(ThreadPoolExecutor(4), handlers=[service])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield service
    finally:
        server.stop(0).wait()


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port on loopback where connections are refused, and that nobody else is given."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
