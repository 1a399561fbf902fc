"""An OTLP/grpc endpoint on loopback that takes everything."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpcio has no stubs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import (
    LogsServiceServicer,
    add_LogsServiceServicer_to_server,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


@dataclass
class GrpcServer:
    """What came in."""

    url: str = ""
    names: list[str] = field(default_factory=list)
    """Names of spans, and bodies of log records."""
    metadata: list[dict[str, str]] = field(default_factory=list)
    """Of each request."""

    def note(self, names: list[str], context: Any) -> None:
        self.metadata.append({pair.key: pair.value for pair in context.invocation_metadata()})
        self.names += names


class _Traces(TraceServiceServicer):
    def __init__(self, server: GrpcServer) -> None:
        self._server = server

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802
        spans = [s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
        self._server.note([span.name for span in spans], context)
        return ExportTraceServiceResponse()


class _Logs(LogsServiceServicer):
    def __init__(self, server: GrpcServer) -> None:
        self._server = server

    def Export(self, request: ExportLogsServiceRequest, context: Any) -> ExportLogsServiceResponse:  # noqa: N802
        logs = [r for of in request.resource_logs for scope in of.scope_logs for r in scope.log_records]
        self._server.note([log.body.string_value for log in logs], context)
        return ExportLogsServiceResponse()


@contextmanager
def grpc_server() -> Iterator[GrpcServer]:
    """A running endpoint."""
    taken, server = GrpcServer(), grpc.server(ThreadPoolExecutor(4))
    for add, service in ((add_TraceServiceServicer_to_server, _Traces), (add_LogsServiceServicer_to_server, _Logs)):
        add(service(taken), server)  # type: ignore[no-untyped-call]
    taken.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield taken
    finally:
        server.stop(None).wait()
