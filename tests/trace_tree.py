"""Draw what was recorded as an indented literal: the spans of a journal directory or of a local store.

sync.pipeline github.onboarding  [partial]
  sync.repo acme/api             [partial]
    sync.api list_pull_requests  [partial] page=1
      sync.pr                    x100 (2 failed)
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs
from opentelemetry.proto.trace.v1 import trace_pb2 as wire

from otelsync.shipping.batch import Batch
from otelsync.shipping.reader import JournalReader, list_segments

STATUSES = {0: "", 1: "OK", 2: "ERROR"}


@dataclass(frozen=True)
class Node:
    """A span as it was recorded."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    ended: bool = True
    kind: int = 1
    status: str = ""
    message: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[tuple[str, Mapping[str, Any]]] = ()
    links: Sequence[str] = ()
    """The ids of the spans that it points to."""
    scope: str = ""
    resource: Mapping[str, Any] = field(default_factory=dict)
    trace_state: str = ""
    flags: int = 0

    @property
    def failed(self) -> bool:
        return self.status == "ERROR"


@dataclass(frozen=True)
class Line:
    """A log record as it was recorded."""

    level: str
    logger: str
    event: str
    trace_id: str
    span_id: str
    time: int
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    wire: LogRecord


def plain(value: AnyValue) -> Any:
    """What an AnyValue stands for."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return fields(value.kvlist_value.values)
    return getattr(value, kind)


def fields(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes as a dictionary; that a key comes twice is an error."""
    found: dict[str, Any] = {}
    for pair in pairs:
        assert pair.key not in found, f"{pair.key} stands there twice"
        found[pair.key] = plain(pair.value)
    return found


def batches(directory: Path) -> Iterator[Batch]:
    """Everything that the journals in `directory` hold; that something is damaged is an error."""
    for segments in list_segments(directory).values():
        for segment in segments:
            reader = JournalReader(directory / segment.name)
            try:
                position = 0
                while batch := reader.read(position):
                    assert batch.corrupted_bytes == 0, f"{segment.name} is damaged at {batch.start}"
                    yield batch
                    position = batch.end
            finally:
                reader.close()


def dropped(directory: Path) -> dict[str, dict[str, int]]:
    """What the headers of the journals in `directory` say was dropped: signal, reason, records."""
    total: dict[str, dict[str, int]] = {"span": {}, "log": {}}
    for segments in list_segments(directory).values():
        for segment in segments:
            reader = JournalReader(directory / segment.name)
            reader.close()
            for signal, reasons in reader.header.dropped.items():
                for reason, count in reasons.items():
                    total[signal][reason] = total[signal].get(reason, 0) + count
    return total


def spans_in_journal(directory: Path) -> list[Node]:
    """The spans of all journals in a directory; one that has begun and not ended is there too, not `ended`."""
    ended: list[Node] = []
    begun: list[Node] = []
    for batch in batches(directory):
        for group in batch.groups:
            resource, scope = _resource(group.resource), _scope(group.scope)
            for bodies, into in ((group.spans, ended), (group.started, begun)):
                message = wire.ScopeSpans.FromString(b"".join(bodies))
                into += [_node(span, scope, resource) for span in message.spans]
    ids = {node.span_id for node in ended}
    assert len(ids) == len(ended), "a span was recorded twice"
    return ended + [node for node in begun if node.span_id not in ids]


def logs_in_journal(directory: Path) -> list[Line]:
    """The log records of all journals in a directory, by time."""
    lines = [
        _line(record, _scope(group.scope), _resource(group.resource))
        for batch in batches(directory)
        for group in batch.groups
        for record in ScopeLogs.FromString(b"".join(group.logs)).log_records
    ]
    return sorted(lines, key=lambda line: line.time)


def spans_in_store(path: Path) -> list[Node]:
    """The spans of a local store."""
    query = (
        "SELECT name, trace_id, span_id, parent_span_id, start_ns, end_ns, kind, status, status_message, attributes,"
        " events, links, trace_state, flags FROM spans ORDER BY rowid"
    )
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return [
            Node(
                name=row[0],
                trace_id=row[1],
                span_id=row[2],
                parent_id=row[3] or "",
                start=row[4],
                ended=row[5] is not None,
                kind=row[6],
                status=STATUSES[row[7]],
                message=row[8] or "",
                attributes=json.loads(row[9]),
                events=[(event["name"], event.get("attributes", {})) for event in json.loads(row[10] or "[]")],
                links=[link["spanId"] for link in json.loads(row[11] or "[]")],
                trace_state=row[12] or "",
                flags=row[13],
            )
            for row in connection.execute(query)
        ]


def draw(nodes: Iterable[Node], *shown: str, events: bool = False, roll: int = 3) -> str:
    """The spans as an indented tree.

    Behind each name stand its outcome in brackets, or else its status; that it is still open; the span that is its
    parent and was not recorded (``<-``); the spans that it is linked to (``->``); and its attributes.

    Args:
        nodes: The spans, of any number of traces.
        shown: Names of attributes to show; what lies before the last dot is left out.
        events: Show events, each on a line of its own with a ``*``.
        roll: From this many on, siblings of one name that have no children are summed up.
    """
    spans = sorted(nodes, key=lambda node: node.start)
    names = {node.span_id: node.name for node in spans}
    children: dict[str, list[Node]] = {}
    for node in spans:
        children.setdefault(node.parent_id if node.parent_id in names else "", []).append(node)
    rows: list[tuple[str, str]] = []

    def walk(parent: str, depth: int) -> None:
        siblings = children.get(parent, [])
        rolled: set[str] = set()
        for node in siblings:
            kin = [other for other in siblings if other.name == node.name]
            if len(kin) >= roll and not any(other.span_id in children for other in kin):
                if node.name not in rolled:
                    rolled.add(node.name)
                    rows.append(("  " * depth + node.name, _summary(kin)))
                continue
            rows.append(("  " * depth + node.name, _about(node, names, shown)))
            if events:
                rows.extend(("  " * (depth + 1) + f"* {name}", _said(about, shown)) for name, about in node.events)
            walk(node.span_id, depth + 1)

    walk("", 0)
    width = max((len(name) for name, _ in rows), default=0) + 2
    return "\n".join(f"{name:{width}}{about}".rstrip() for name, about in rows)


def _about(node: Node, names: Mapping[str, str], shown: Sequence[str]) -> str:
    outcome = node.attributes.get("sync.outcome")
    parts = [f"[{outcome}]" if outcome else node.status]
    if not node.ended:
        parts.append("open")
    if node.parent_id and node.parent_id not in names:
        parts.append(f"<- {node.parent_id}")
    parts += [f"-> {names.get(link, link)}" for link in node.links]
    parts.append(_said(node.attributes, shown))
    return " ".join(filter(None, parts))


def _said(attributes: Mapping[str, Any], shown: Sequence[str]) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={attributes[key]}" for key in shown if key in attributes)


def _summary(kin: Sequence[Node]) -> str:
    failed = sum(node.failed for node in kin)
    return f"x{len(kin)} ({failed} failed)" if failed else f"x{len(kin)}"


def _node(span: wire.Span, scope: str, resource: Mapping[str, Any]) -> Node:
    return Node(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        ended=span.end_time_unix_nano != 0,
        kind=span.kind,
        status=STATUSES[span.status.code],
        message=span.status.message,
        attributes=fields(span.attributes),
        events=[(event.name, fields(event.attributes)) for event in span.events],
        links=[link.span_id.hex() for link in span.links],
        scope=scope,
        resource=resource,
        trace_state=span.trace_state,
        flags=span.flags,
    )


def _line(record: LogRecord, scope: str, resource: Mapping[str, Any]) -> Line:
    return Line(
        level=record.severity_text,
        logger=scope,
        event=record.body.string_value,
        trace_id=record.trace_id.hex(),
        span_id=record.span_id.hex(),
        time=record.time_unix_nano,
        attributes=fields(record.attributes),
        resource=resource,
        wire=record,
    )


def _resource(body: bytes) -> dict[str, Any]:
    return fields(wire.ResourceSpans.FromString(body).resource.attributes)


def _scope(body: bytes) -> str:
    return wire.ScopeSpans.FromString(body).scope.name
