"""What :mod:`otelsync.testing` reads and draws, in the words of these tests.

sync.pipeline github.onboarding  [partial]
  sync.repo acme/api             [partial]
    sync.api list_pull_requests  [partial] page=1
      sync.pr                    x100 (2 failed)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs

from otelsync.journal.names import list_segments
from otelsync.journal.reader import JournalReader
from otelsync.testing import Log, span_tree
from otelsync.testing import Span as Node
from otelsync.testing.reading import (
    STATUSES,
    batches,
    fields,
    log_of,
    plain,
    resource_of,
    scope_of,
    spans_in_journal,
    spans_in_store,
)

__all__ = [
    "STATUSES",
    "Line",
    "Node",
    "batches",
    "beginning_only",
    "draw",
    "dropped",
    "fields",
    "logs_in_journal",
    "plain",
    "spans_in_journal",
    "spans_in_store",
]


@dataclass(frozen=True)
class Line(Log):
    """A log record as it was recorded, with all that OTLP says of it."""

    wire: LogRecord


def logs_in_journal(directory: Path) -> list[Line]:
    """The log records of all journals in a directory, by time."""
    lines = [
        Line(**vars(log_of(record, scope_of(group.scope), resource_of(group.resource))), wire=record)
        for batch in batches(directory)
        for group in batch.groups
        for record in ScopeLogs.FromString(b"".join(group.logs)).log_records
    ]
    return sorted(lines, key=lambda line: line.time)


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


def draw(nodes: Iterable[Node], *shown: str, events: bool = False, roll: int = 3) -> str:
    """The spans as an indented tree, with the attributes named in `shown`; see :func:`otelsync.testing.span_tree`."""
    return span_tree(nodes, attributes=shown, events=events, roll=roll)


def beginning_only(node: Node, *names: str) -> Node:
    """The span without what it became, if it is named in `names`.

    A task gives its result before its run ends, so that the stage that waits for it may end before the run, or after.
    """
    if node.name not in names:
        return node
    attributes = {
        key: value for key, value in node.attributes.items() if not key.startswith(("sync.outcome", "sync.items"))
    }
    return replace(node, status="", attributes=attributes)
