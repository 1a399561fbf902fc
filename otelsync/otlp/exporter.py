"""Sending batches to an OTLP endpoint: requests are put together from journalled bytes, outcomes are counted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from otelsync.journal.batch import Batch
from otelsync.otlp.encoding import varint
from otelsync.otlp.partial_success import parse_partial_success
from otelsync.otlp.reply import Reply

if TYPE_CHECKING:
    from otelsync.otlp.grpc import GrpcTransport
    from otelsync.otlp.http import HttpTransport
    from otelsync.otlp.options import OtlpEndpoint, Signal

USER_AGENT = "otelsync"
MOST_BYTES: Final = 3_000_000
"""Of a request before it is compressed: grpc receivers take 4 MiB unless told otherwise."""
FIRST_BYTES: Final = 128 * 1024
FEWEST_BYTES: Final = 4096
_TAGS: Final = 16
"""Bytes of the tags and lengths around a resource and its scope, at the most."""


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
    """The reason for a rejection or a retry, or else a warning of the endpoint's; safe to print."""


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
    """Sends one signal to one endpoint. Used by one thread; `abort` may come from another."""

    def __init__(self, endpoint: OtlpEndpoint) -> None:
        self.endpoint = endpoint
        self.name: Signal = endpoint.signal
        self._transport = transport_to(endpoint, USER_AGENT)
        self._pace = Pace(endpoint.timeout)
        self._most = MOST_BYTES
        """Bytes that the endpoint takes in one request, as far as it has said so."""
        self._aborted = False

    @property
    def room(self) -> int:
        """Bytes of records that are best sent together."""
        return min(self._most, self._pace.size)

    def send(self, batches: Sequence[Batch], *, deadline: float | None = None) -> Outcome:
        """Send the batches' records of this signal; no attempt goes on beyond `deadline` (``time.monotonic()``)."""
        outcome = Outcome()
        waiting = deque(_split(runs_of(batches, self.name), self.room))
        while waiting and not outcome.retry:
            runs = waiting.popleft()
            records = sum(len(run.bodies) for run in runs)
            reply = self._post(runs, deadline)
            if reply.status == "too_large" and records > 1:
                self._most = max(_size(runs) // 2, 1)
                waiting.extendleft(reversed(_split(runs, self._most)))
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
        request = encode_request(runs)
        began = time.monotonic()
        reply = self._transport.post(request, timeout)
        self._pace.note(reply, len(request), time.monotonic() - began)
        return reply

    def _count(self, reply: Reply, records: int, outcome: Outcome) -> None:
        if reply.status == "ok":
            partial, reason = parse_partial_success(reply.content)
            partial = min(max(partial, 0), records)
            outcome.partial += partial
            outcome.accepted += records - partial
            outcome.reason = reason or outcome.reason
            return
        outcome.reason = reply.reason
        if reply.status in ("retry", "timeout"):
            outcome.retry, outcome.retry_after = True, reply.after
        else:
            outcome.rejected += records


class Pace:
    """The size of requests that the way to an endpoint carries within the timeout.

    It begins small and doubles with every request that took no more than a quarter of the timeout, as the next one
    then takes about half; one that was not answered in time halves it.
    """

    def __init__(self, timeout: float) -> None:
        self.size = FIRST_BYTES
        self._timeout = timeout

    def note(self, reply: Reply, size: int, seconds: float) -> None:
        """Take note of how a request of so many bytes went."""
        if reply.status == "timeout" and seconds >= self._timeout / 2:
            self.size = max(min(self.size, size) // 2, FEWEST_BYTES)
        elif reply.status == "ok" and seconds <= self._timeout / 4 and size * 2 > self.size:
            self.size = min(self.size * 2, MOST_BYTES)


def runs_of(batches: Sequence[Batch], signal: Signal) -> list[Run]:
    """All records of one signal, in order."""
    runs = (
        Run(group.resource, group.scope, group.spans if signal == "traces" else group.logs)
        for batch in batches
        for group in batch.groups
    )
    return [run for run in runs if run.bodies]


def _size(runs: Iterable[Run]) -> int:
    """Bytes of all records, with what they are of."""
    return sum(_around(run) + sum(map(len, run.bodies)) for run in runs)


def _around(run: Run) -> int:
    return len(run.resource) + len(run.scope) + _TAGS


def _split(runs: Iterable[Run], bound: int) -> list[list[Run]]:
    """The records in requests of at most `bound` bytes each; a record that is longer is one alone."""
    pieces: list[list[Run]] = []
    room = -1
    for run in runs:
        part: Run | None = None
        for body in run.bodies:
            needed = len(body) + (_around(run) if part is None else 0)
            if needed > room:
                pieces.append([])
                room, part = bound, None
                needed = len(body) + _around(run)
            if part is None:
                part = Run(run.resource, run.scope, [])
                pieces[-1].append(part)
            part.bodies.append(body)
            room -= needed
    return pieces


def transport_to(endpoint: OtlpEndpoint, user_agent: str) -> HttpTransport | GrpcTransport:
    """Return what sends requests to an endpoint."""
    from otelsync.otlp.grpc import GrpcTransport  # what only some shippers need takes a while to load
    from otelsync.otlp.http import HttpTransport

    transport = GrpcTransport if endpoint.protocol == "grpc" else HttpTransport
    return transport(endpoint, user_agent=user_agent)
