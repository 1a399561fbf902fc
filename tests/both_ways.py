"""One program, run in the journal's way and in the standard way, and what reached a real OTLP endpoint by each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_server import OtlpServer, otlp_server
from supervised import PATIENCE
from trace_tree import Line, Node, draw, fields

from otelsync.testing.reading import log_of, span_of

JOURNAL: Final = "on"
STANDARD: Final = "off"
WAYS: Final = (JOURNAL, STANDARD)


@dataclass(frozen=True)
class Taken:
    """What a program's records looked like when they had arrived."""

    spans: Sequence[Node]
    logs: Sequence[Line]
    stdout: str
    stderr: str
    returncode: int

    def tree(self, *shown: str, events: bool = False) -> str:
        """The spans, drawn; siblings in any order."""
        return draw(sorted(self.spans, key=lambda span: span.start), *shown, events=events)

    @property
    def said(self) -> list[tuple[str, str, str, str]]:
        """Level, logger, event and the name of its span of each log record, in order."""
        names = {span.span_id: span.name for span in self.spans}
        return [(log.level, log.logger, log.event, names.get(log.span_id, log.span_id)) for log in self.logs]


def spans_of(server: OtlpServer) -> list[Node]:
    """The spans that an endpoint has taken."""
    return [
        span_of(span, of_scope.scope.name, fields(of_resource.resource.attributes))
        for request in list(server.accepted)
        if isinstance(request.message, ExportTraceServiceRequest)
        for of_resource in request.message.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def logs_of(server: OtlpServer) -> list[Line]:
    """The log records that an endpoint has taken, by time."""
    lines = [
        Line(
            **vars(log_of(record, of_scope.scope.name, fields(of_resource.resource.attributes))),
            wire=record,
        )
        for request in list(server.accepted)
        if isinstance(request.message, ExportLogsServiceRequest)
        for of_resource in request.message.resource_logs
        for of_scope in of_resource.scope_logs
        for record in of_scope.log_records
    ]
    return sorted(lines, key=lambda line: line.time)


def environment(home: Path, way: str, server: OtlpServer | None, **variables: str) -> dict[str, str]:
    """The environment of a program in a way: nothing is folded or kept, and everything goes to the endpoint."""
    endpoint = {} if server is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url}
    ours = {"OTELSYNC_HOME": str(home), "OTELSYNC_JOURNAL": way, "OTELSYNC_FOLD": "off", "OTELSYNC_STORE": "off"}
    # its seconds are for the last records at the end of a process, on a machine that has much else to do
    patient = {"OTELSYNC_SHUTDOWN_TIMEOUT": "60", "OTEL_SERVICE_NAME": "sync", "OTELSYNC_REPORTS": "off"}
    return {**os.environ, **ours, **patient, **endpoint, **variables}


def run(home: Path, way: str, *command: str | Path, **variables: str) -> Taken:
    """Run a command to its end, with an endpoint of its own."""
    with otlp_server() as server:
        return run_at(server, home, way, *command, **variables)


def run_at(server: OtlpServer, home: Path, way: str, *command: str | Path, **variables: str) -> Taken:
    """Run a command to its end; what the endpoint has taken by then."""
    process = subprocess.Popen(
        [*map(str, command)],
        env=environment(home, way, server, **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    return Taken(spans_of(server), logs_of(server), stdout, stderr, process.returncode)


def program(code: str) -> tuple[str, str, str]:
    """The command that runs a Python program."""
    return sys.executable, "-c", code
