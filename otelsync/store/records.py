"""The log records of a run, in the order of time: as columns for people, as JSON lines for programs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from otelsync.store.runs import Run, traces_of
from otelsync.store.span_ids import spans_called, spans_logged, the_span
from otelsync.store.spans import json_line
from otelsync.text.paint import Line, Piece
from otelsync.text.printable import pad, printable
from otelsync.text.quantities import instant, timestamp
from otelsync.vocabulary import SYNC_ID, SYNC_PIPELINE

LEVELS: Final = {"trace": 1, "debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}
"""OTLP's least severity number of each level."""
_STYLES: Final = {"WARNING": "yellow", "WARN": "yellow", "ERROR": "bold red", "CRITICAL": "bold red", "DEBUG": "dim"}
_SAID_ELSEWHERE: Final = frozenset((SYNC_ID, "sync_id", SYNC_PIPELINE, "trace_id", "span_id"))
"""Fields that are the same in all records of a run, or stand in a column."""
_LONGEST_VALUE: Final = 200


@dataclass(frozen=True, slots=True)
class Record:
    """A row of the table `logs`, with the service that wrote it."""

    trace_id: str
    span_id: str
    sync_id: str | None
    time_ns: int
    severity: int
    level: str
    logger: str
    event: str
    attributes_json: str
    service: str | None


def records(
    store: sqlite3.Connection, run: Run, *, span: str | None = None, level: str | None = None, below: bool = True
) -> Iterator[Record]:
    """The records of a run, earliest first, read as they are needed.

    Args:
        store: From `open_store`.
        run: Whose.
        span: A span id or the beginning of one: only its records, and those of the spans below it.
        level: The least level, a key of `LEVELS`.
        below: Whether those of the spans below it count as its own.

    Raises:
        RunNotFoundError: No span of the run, or more than one, begins so.
    """
    parameters: dict[str, object] = {"severity": LEVELS[level] if level else 0}
    traces = traces_of(store, run)
    tree = among_spans = ""
    if span is not None:
        trace_id, parameters["span"] = _find_span(store, traces, span)
        traces = [trace_id]
        tree = (
            "WITH RECURSIVE below (id) AS (SELECT :span UNION SELECT spans.span_id FROM below"
            " JOIN spans INDEXED BY spans_by_parent ON spans.parent_span_id = below.id"
            " WHERE spans.trace_id = :trace0) "
        )
        among_spans = "logs.span_id IN (SELECT id FROM below) AND "
        if not below:
            tree, among_spans = "", "logs.span_id = :span AND "
    parameters |= {f"trace{number}": trace_id for number, trace_id in enumerate(traces)}
    among = ", ".join(f":trace{number}" for number in range(len(traces)))
    rows = store.execute(
        f"{tree}SELECT trace_id, span_id, sync_id, time_ns, severity, level, logger, event, logs.attributes,"
        " json_extract(resources.attributes, '$.\"service.name\"')"
        " FROM logs LEFT JOIN resources ON resources.id = logs.resource"
        f" WHERE {among_spans}logs.trace_id IN ({among}) AND severity >= :severity ORDER BY time_ns, logs.id",
        parameters,
    )
    return (Record(*row) for row in rows)


def line_of(record: Record) -> Line:
    """A record in columns: time (UTC), level, event, fields, span."""
    level = printable(record.level or "-", 8)
    attributes: dict[str, Any] = json.loads(record.attributes_json)
    fields = [
        f"{printable(key, 60)}={_value(value)}" for key, value in attributes.items() if key not in _SAID_ELSEWHERE
    ]
    return [
        Piece(f"{instant(record.time_ns):%H:%M:%S.%f}"[:-3] + "  ", "dim"),
        Piece(pad(level, 8) + "  ", _STYLES.get(level.upper(), "")),
        Piece(printable(record.event, _LONGEST_VALUE), "bold"),
        Piece("".join(f"  {field}" for field in fields)),
        Piece(f"  {record.span_id}" if record.span_id else "", "dim"),
    ]


def json_of(record: Record) -> str:
    """A record as one line of JSON; all but ASCII is escaped."""
    return json_line(
        {
            "timestamp": timestamp(record.time_ns),
            "level": record.level.lower(),
            "service": record.service,
            "logger": record.logger,
            "event": record.event,
            "trace_id": record.trace_id,
            "span_id": record.span_id,
            "sync_id": record.sync_id,
            "attributes": json.loads(record.attributes_json),
        }
    )


def _find_span(store: sqlite3.Connection, traces: list[str], wanted: str) -> tuple[str, str]:
    """Trace and id of the span that is meant; its records may be all that is known of it."""
    found = {(each.trace_id, each.span_id): each for each in spans_logged(store, wanted, traces)}
    found |= {(each.trace_id, each.span_id): each for each in spans_called(store, wanted, traces)}
    meant = the_span([found[key] for key in sorted(found)], wanted)
    return meant.trace_id, meant.span_id


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = printable(text, _LONGEST_VALUE)
    return f'"{text}"' if " " in text or not text else text
