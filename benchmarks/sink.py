"""Count what arrives: one HTTP server that passes for a Collector, a Datadog agent and Sentry, and decodes all of it.

``python -m benchmarks.sink`` prints its port and serves until its standard input closes. ``GET /counts`` answers
``{"spans": {name: count}, "logs": {event: count}}``, ``POST /reset`` starts over.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any, Final, cast
from urllib.request import Request, urlopen

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks import msgpack
from benchmarks.placement import pin_to_sink_core

_AGENT_INFO: Final = {
    "version": "7.60.0",
    "endpoints": ["/v0.4/traces", "/v0.5/traces"],
    "client_drop_p0s": False,
    "config": {},
}
_SENTRY_ENVELOPE: Final = "/envelope/"


@dataclass
class Counts:
    """How many spans arrived under each name, and how many log records under each event."""

    spans: Counter[str] = field(default_factory=Counter)
    logs: Counter[str] = field(default_factory=Counter)

    @classmethod
    def from_json(cls, text: bytes) -> Counts:
        """The counts as ``GET /counts`` answers them."""
        parsed = json.loads(text)
        return cls(Counter(parsed["spans"]), Counter(parsed["logs"]))

    def to_json(self) -> bytes:
        """The counts as ``GET /counts`` answers them."""
        return json.dumps({"spans": self.spans, "logs": self.logs}).encode()

    def add(self, other: Counts) -> None:
        """Add another request's counts to these."""
        self.spans.update(other.spans)
        self.logs.update(other.logs)


def count_otlp_traces(body: bytes) -> Counts:
    """The spans of an OTLP/HTTP protobuf trace request."""
    request = ExportTraceServiceRequest.FromString(body)
    scopes = (scope for resource in request.resource_spans for scope in resource.scope_spans)
    return Counts(spans=Counter(span.name for scope in scopes for span in scope.spans))


def count_otlp_logs(body: bytes) -> Counts:
    """The records of an OTLP/HTTP protobuf log request, by their body."""
    request = ExportLogsServiceRequest.FromString(body)
    scopes = (scope for resource in request.resource_logs for scope in resource.scope_logs)
    return Counts(logs=Counter(record.body.string_value for scope in scopes for record in scope.log_records))


def count_datadog_v04(body: bytes) -> Counts:
    """The spans of a ``/v0.4/traces`` request: an array of traces, each an array of maps."""
    traces = cast(list[list[dict[str, str]]], msgpack.decode(body))
    return Counts(spans=Counter(span["name"] for trace in traces for span in trace))


def count_datadog_v05(body: bytes) -> Counts:
    """The spans of a ``/v0.5/traces`` request: a table of strings, and traces of 12-element arrays that refer to it."""
    strings, traces = cast(tuple[list[str], list[list[list[int]]]], msgpack.decode(body))
    return Counts(spans=Counter(strings[span[1]] for trace in traces for span in trace))


def count_sentry(body: bytes) -> Counts:
    """The spans of a Sentry envelope: a transaction's own, named by its operation, and those that it carries."""
    counts = Counts()
    for line in body.splitlines():
        item: dict[str, Any] = json.loads(line) if line.startswith(b"{") else {}
        if item.get("type") == "transaction" and "spans" in item:
            counts.spans[item["contexts"]["trace"]["op"]] += 1
            counts.spans.update(span["op"] for span in item["spans"])
    return counts


_DECODERS: Final[dict[str, Callable[[bytes], Counts]]] = {
    "/v1/traces": count_otlp_traces,
    "/v1/logs": count_otlp_logs,
    "/v0.4/traces": count_datadog_v04,
    "/v0.5/traces": count_datadog_v05,
}
_UNPACKERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


class SinkServer(ThreadingHTTPServer):
    """Serves on a free port of loopback and keeps one set of counts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._counts = Counts()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens, without a trailing slash."""
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, counts: Counts) -> None:
        """Add one request's counts."""
        with self._lock:
            self._counts.add(counts)

    def reset(self) -> None:
        """Start counting from nothing."""
        with self._lock:
            self._counts = Counts()

    def snapshot(self) -> bytes:
        """The counts so far, as JSON."""
        with self._lock:
            return self._counts.to_json()


class _Handler(BaseHTTPRequestHandler):
    """One connection; every answer leaves in one write, so that no peer waits for a delayed acknowledgement."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: SinkServer

    def do_GET(self) -> None:
        if self.path == "/counts":
            self._answer(self.server.snapshot())
        elif self.path == "/info":
            self._answer(json.dumps(_AGENT_INFO).encode())
        else:
            self._answer(b"{}")

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/reset":
            self.server.reset()
        decode = count_sentry if self.path.endswith(_SENTRY_ENVELOPE) else _DECODERS.get(self.path)
        if decode is not None:
            self.server.add(decode(body))
        self._answer(b"" if self.path.startswith("/v1/") else b"{}")

    do_PUT = do_POST  # noqa: N815  (http.server looks it up by this name)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            packed = b"".join(self._chunks())
        else:
            packed = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        return _UNPACKERS[self.headers.get("Content-Encoding", "").lower()](packed)

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        is_otlp = self.path.startswith("/v1/")
        self.send_header("Content-Type", "application/x-protobuf" if is_otlp else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing about requests that went well or badly: what counts is the count."""


@dataclass(frozen=True)
class Sink:
    """A sink that runs in a process of its own, as its user sees it."""

    url: str

    def counts(self) -> Counts:
        """What has arrived since the last reset."""
        with urlopen(f"{self.url}/counts", timeout=30) as answer:
            return Counts.from_json(answer.read())

    def reset(self) -> None:
        """Forget what has arrived."""
        with urlopen(Request(f"{self.url}/reset", data=b"", method="POST"), timeout=30) as answer:
            answer.read()


@contextmanager
def sink_process() -> Iterator[Sink]:
    """Run a sink in another process, on the core that the measured process does not use."""
    command = [sys.executable, "-m", "benchmarks.sink"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Sink(cast(IO[str], process.stdout).readline().strip())


def main() -> None:
    """Serve until standard input closes, which it also does when the benchmark is killed."""
    pin_to_sink_core()
    with SinkServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.url, flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
