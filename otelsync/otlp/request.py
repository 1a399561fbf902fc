"""Requests: records of journalled bytes put together to OTLP messages, and divided where they are too many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from otelsync.journal.batch import Batch
from otelsync.otlp.encoding import varint

if TYPE_CHECKING:
    from otelsync.otlp.options import Signal

MOST_BYTES: Final = 3_000_000
"""Of a request before it is compressed: grpc receivers take 4 MiB unless told otherwise."""
_TAGS: Final = 16
"""Bytes of the tags and lengths around a resource and its scope, at the most."""


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


def runs_of(batches: Sequence[Batch], signal: Signal) -> list[Run]:
    """All records of one signal, in order."""
    runs = (
        Run(group.resource, group.scope, group.spans if signal == "traces" else group.logs)
        for batch in batches
        for group in batch.groups
    )
    return [run for run in runs if run.bodies]


def records(runs: Iterable[Run]) -> int:
    """Number of records."""
    return sum(len(run.bodies) for run in runs)


def size(runs: Iterable[Run]) -> int:
    """Bytes of all records, with what they are of."""
    return sum(_around(run) + sum(map(len, run.bodies)) for run in runs)


def _around(run: Run) -> int:
    return len(run.resource) + len(run.scope) + _TAGS


def split(runs: Iterable[Run], bound: int) -> list[list[Run]]:
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
