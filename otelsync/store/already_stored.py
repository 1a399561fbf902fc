"""Records that the store has already, and its knowledge of a batch's traces."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from otelsync.store.kinship import Known, SpanId
from otelsync.store.rows import Detailed, Plain, Records
from otelsync.vocabulary import NAMED_PIPELINE


def known_of(connection: sqlite3.Connection, traces: Iterable[str]) -> Known:
    """Return what the store knows of these traces."""
    awaited: set[SpanId] = set()
    running: dict[SpanId, str] = {}
    for trace_id in traces:
        awaited.update(
            connection.execute(
                "SELECT trace_id, parent_span_id FROM siblings INDEXED BY siblings_awaiting"
                " WHERE awaiting = 1 AND trace_id = ?",
                (trace_id,),
            )
        )
        for span_id, parent in connection.execute(
            "SELECT span_id, parent_span_id FROM spans INDEXED BY spans_open WHERE end_ns IS NULL AND trace_id = ?",
            (trace_id,),
        ):
            running[trace_id, span_id] = parent
    return Known(frozenset(awaited), running)


def ended_pipelines(records: Records) -> set[str]:
    """Return the traces in which a pipeline has ended."""
    finished = (span for spans in (records.plain, records.detailed) for span in spans)
    return {span[0] for span in finished if span[3].startswith(NAMED_PIPELINE)}


def ended_runs(connection: sqlite3.Connection, traces: Iterable[str]) -> list[tuple[str, str]]:
    """Return those of the traces that are runs whose pipeline has ended: sync id and trace id of each."""
    found: list[tuple[str, str]] = []
    for trace_id in traces:
        found += connection.execute(
            "SELECT sync_id, trace_id FROM runs WHERE trace_id = ? AND sync_id IS NOT NULL AND end_ns IS NOT NULL"
            " AND substr(root_name, 1, ?) = ?",
            (trace_id, len(NAMED_PIPELINE), NAMED_PIPELINE),
        )
    return found


def forget_known_spans(connection: sqlite3.Connection, records: Records) -> None:
    """Leave out the finished spans that are stored already, and all but the first of those that come twice."""
    seen: set[tuple[str, str]] = set()

    def is_new(span: Plain | Detailed) -> bool:
        key = (span[0], span[1])
        known = connection.execute(
            "SELECT 1 FROM spans WHERE trace_id = ?1 AND span_id = ?2 AND (start_ns = ?3 OR leaf = 0)"
            " AND end_ns IS NOT NULL",
            (*key, span[5]),
        )
        if key in seen or known.fetchone() is not None:
            return False
        seen.add(key)
        return True

    records.plain = [span for span in records.plain if is_new(span)]
    records.detailed = [span for span in records.detailed if is_new(span)]


def forget_known_logs(connection: sqlite3.Connection, records: Records) -> None:
    """Leave out the log records that are stored already. Two that are the same to the nanosecond are one."""
    known = (
        "SELECT 1 FROM logs WHERE trace_id = ? AND time_ns = ? AND span_id = ? AND logger = ? AND event = ?"
        " AND attributes = ?"
    )
    records.logs = [
        log
        for log in records.logs
        if connection.execute(
            known, (log.trace_id, log.time_ns, log.span_id, log.logger, log.event, log.attributes)
        ).fetchone()
        is None
    ]
