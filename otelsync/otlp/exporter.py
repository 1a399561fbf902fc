"""Sending batches to an OTLP endpoint: requests are put together from journalled bytes, outcomes are counted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from otelsync.journal.batch import Batch
from otelsync.otlp.encoding import varint
from otelsync.otlp.reply import LONGEST_REASON, Reply
from otelsync.text.printable import printable

if TYPE_CHECKING:
    from otelsync.otlp.grpc import GrpcTransport
    from otelsync.otlp.http import HttpTransport
    from otelsync.otlp.options import OtlpEndpoint, Signal

USER_AGENT = "otelsync"


@dataclass(slots=True)
class Outcome:
    """The fate of the records that were given to a sink at one time."""

    accepted: int = 0
    rejected: int = 0
    """Refused for good by the endpoint, with a status that must not be retried."""
    partial: int = 0
    """Rejected by the endpoint in an otherwise successful answer."""
    retry: bool = False
    """Nothing counts as done: all records must be given again. Some may have arrived (at-least-once)."""
    retry_after: float | None = None
    """Seconds that the endpoint asked to be left alone."""
    reason: str = ""
    """The reason for a rejection or a retry; safe to print."""


class Run(NamedTuple):
    """Records of one resource and one scope, all of it tagged and length-prefixed."""

    resource: bytes
    scope: bytes
    bodies: list[bytes]


def encode_request(runs: Iterable[Run]) -> bytes:
    """An ``ExportTraceServiceRequest`` of spans, or an ``ExportLogsServiceRequest`` of log records.

    Both have the same field numbers all the way down, so one function joins both. Records of one resource and one
    scope come together, in their order.
    """
    resources: dict[bytes, dict[bytes, list[bytes]]] = {}
    for resource, scope, bodies in runs:
        resources.setdefault(resource, {}).setdefault(scope, []).extend(bodies)
    parts: list[bytes] = []
    for resource, scopes in resources.items():
        lengths = {scope: len(scope) + sum(map(len, bodies)) for scope, bodies in scopes.items()}
        heads = {scope: b"\x12" + varint(length) for scope, length in lengths.items()}
        length = len(resource) + sum(map(len, heads.values())) + sum(lengths.values())
        parts += (b"\x0a" + varint(length), resource)
        for scope, bodies in scopes.items():
            parts += (heads[scope], scope)
            parts += bodies
    return b"".join(parts)


class OtlpSink:
    """Sends one signal to one endpoint. Used by one thread; `abort` may come from another.

    Raises OSError when the endpoint's certificate files cannot be used.
    """

    def __init__(self, endpoint: OtlpEndpoint) -> None:
        self.endpoint = endpoint
        self.name: Signal = endpoint.signal
        self._transport = transport_to(endpoint, USER_AGENT)
        self._bound: int | None = None
        self._aborted = False

    def send(self, batches: Sequence[Batch], *, deadline: float | None = None) -> Outcome:
        """Send the batches' records of this signal; no attempt goes on beyond `deadline` (``time.monotonic()``)."""
        outcome = Outcome()
        waiting = deque(self._pieces(runs_of(batches, self.name)))
        while waiting and not outcome.retry:
            runs = waiting.popleft()
            records = sum(len(run.bodies) for run in runs)
            reply = self._post(runs, deadline)
            if reply.status == "too_large" and records > 1:
                self._bound = max(_size(runs) // 2, 1)
                waiting.extendleft(reversed(_split(runs, self._bound)))
            else:
                self._count(reply, records, outcome)
        return outcome

    def abort(self) -> None:
        """Make a `send` in another thread return soon; this and every later one ask for a retry."""
        self._aborted = True
        self._transport.abort()

    def close(self) -> None:
        """Close the connection. A later `send` opens another."""
        self._transport.close()

    def _post(self, runs: list[Run], deadline: float | None) -> Reply:
        timeout = self.endpoint.timeout
        if deadline is not None:
            timeout = min(timeout, deadline - time.monotonic())
        if self._aborted or timeout <= 0:
            return Reply("retry", reason="out of time")
        return self._transport.post(encode_request(runs), timeout)

    def _pieces(self, runs: list[Run]) -> list[list[Run]]:
        """The records in as many requests as the endpoint's bound needs, as far as it is known."""
        if self._bound is None or _size(runs) <= self._bound:
            return [runs] if runs else []
        return _split(runs, self._bound)

    def _count(self, reply: Reply, records: int, outcome: Outcome) -> None:
        if reply.status == "ok":
            partial, reason = parse_partial_success(reply.content)
            partial = min(max(partial, 0), records)
            outcome.partial += partial
            outcome.accepted += records - partial
            outcome.reason = reason or outcome.reason
            return
        outcome.reason = reply.reason
        if reply.status == "retry":
            outcome.retry, outcome.retry_after = True, reply.after
        else:
            outcome.rejected += records


def runs_of(batches: Sequence[Batch], signal: Signal) -> list[Run]:
    """All records of one signal, in order."""
    runs = (
        Run(group.resource, group.scope, group.spans if signal == "traces" else group.logs)
        for batch in batches
        for group in batch.groups
    )
    return [run for run in runs if run.bodies]


def _size(runs: Iterable[Run]) -> int:
    """Bytes of all records."""
    return sum(sum(map(len, run.bodies)) for run in runs)


def _split(runs: Iterable[Run], bound: int) -> list[list[Run]]:
    """The records in several requests of at most `bound` bytes of records each; a longer record is one alone."""
    pieces: list[list[Run]] = []
    room = -1
    for resource, scope, bodies in runs:
        run: Run | None = None
        for body in bodies:
            if len(body) > room:
                pieces.append([])
                room, run = bound, None
            if run is None:
                run = Run(resource, scope, [])
                pieces[-1].append(run)
            run.bodies.append(body)
            room -= len(body)
    return pieces


def parse_partial_success(content: bytes) -> tuple[int, str]:
    """Return how many records a successful answer rejects, and why. One that cannot be read rejects none.

    The answers of all three signals have the same field numbers.
    """
    if not content:
        return 0, ""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        said = ExportTraceServiceResponse.FromString(content).partial_success
        return said.rejected_spans, printable(said.error_message, LONGEST_REASON)
    except DecodeError:
        return 0, ""


def transport_to(endpoint: OtlpEndpoint, user_agent: str) -> HttpTransport | GrpcTransport:
    """Return what sends requests to an endpoint. Raises OSError when its certificate files cannot be used."""
    from otelsync.otlp.grpc import GrpcTransport  # what only some shippers need takes a while to load
    from otelsync.otlp.http import HttpTransport

    transport = GrpcTransport if endpoint.protocol == "grpc" else HttpTransport
    return transport(endpoint, user_agent=user_agent)
