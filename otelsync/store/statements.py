"""The statements that put records into the store, for spans that are plain, detailed or open, their sums, and logs."""

from __future__ import annotations

from typing import Final

_COLUMNS: Final = (
    "trace_id, span_id, parent_span_id, name, kind, start_ns, end_ns, flags, attributes, resource, scope, status,"
    " status_message, events, links, trace_state, leaf"
)
# What has begun is replaced by what has ended, and what has ended by nothing.
_REPLACE: Final = (
    " ON CONFLICT DO UPDATE SET parent_span_id = excluded.parent_span_id, name = excluded.name, kind = excluded.kind,"
    " start_ns = excluded.start_ns, end_ns = excluded.end_ns, flags = excluded.flags, attributes = excluded.attributes,"
    " resource = excluded.resource, scope = excluded.scope, status = excluded.status,"
    " status_message = excluded.status_message, events = excluded.events, links = excluded.links,"
    " trace_state = excluded.trace_state WHERE spans.end_ns IS NULL"
)
_BARE: Final = "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11"
# None is bound three times as slowly as an empty string, so NULLs are made here.
_EXTRAS: Final = "nullif(?13, ''), nullif(?14, ''), nullif(?15, ''), nullif(?16, '')"
INSERT_PLAIN: Final = tuple(
    f"INSERT INTO spans ({_COLUMNS}) VALUES ({_BARE}, 0, NULL, NULL, NULL, NULL, {leaf})" + _REPLACE for leaf in (0, 1)
)
INSERT_DETAILED: Final = tuple(
    f"INSERT INTO spans ({_COLUMNS}) VALUES ({_BARE}, ?12, {_EXTRAS}, {leaf})" + _REPLACE for leaf in (0, 1)
)
INSERT_OPEN: Final = (
    f"INSERT INTO spans ({_COLUMNS}) VALUES ({_BARE.replace('?7', 'nullif(?7, ?7)')}, ?12, {_EXTRAS}, 0)"
    " ON CONFLICT DO NOTHING"
)
UPSERT_SIBLINGS: Final = """
INSERT INTO siblings VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,
  ?14 AND NOT EXISTS (SELECT 1 FROM spans WHERE leaf = 0 AND trace_id = ?1 AND span_id = ?2))
ON CONFLICT DO UPDATE SET
  count = count + excluded.count,
  failed = failed + excluded.failed,
  start_ns = min(start_ns, excluded.start_ns),
  end_ns = max(end_ns, excluded.end_ns),
  total_ns = min(total_ns + excluded.total_ns, 9223372036854775807),
  slowest_span_id = iif(excluded.slowest_ns > slowest_ns, excluded.slowest_span_id, slowest_span_id),
  slowest_start_ns = iif(excluded.slowest_ns > slowest_ns, excluded.slowest_start_ns, slowest_start_ns),
  slowest_ns = max(slowest_ns, excluded.slowest_ns),
  durations = otelsync_merge(durations, excluded.durations)
"""
INSERT_LOG: Final = (
    "INSERT INTO logs (trace_id, span_id, sync_id, time_ns, severity, level, logger, event, attributes, resource)"
    " VALUES (?1, ?2, nullif(?10, ''), ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
)
