"""The tables of the local store, explained for whoever opens them with sqlite3 or Datasette, and what fills them.

The comments inside the statements are kept by SQLite: ``sqlite3 store.db .schema`` shows them.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x4F53594E
"""``OSYN``: tells an otelsync store from any other SQLite file (``PRAGMA application_id``)."""
VERSION: Final = 1
"""``PRAGMA user_version``."""
LARGEST: Final = 2**63 - 1
"""SQLite's largest integer; OTLP's times reach further, and are cut off here."""
STATUS_ERROR: Final = 2
"""OTLP's status code of a span that failed."""

# spans has no index on (trace_id, span_id) alone: ids are random, so each insert would dirty a page of its own
# (measured: 20 of 27 us a span). The unique key holds the start time, which grows, and tells a span recorded twice as
# well. Only spans that others stand below are looked up by id: they have the small index `spans_with_children`.
SCHEMA: Final = """
CREATE TABLE runs (  -- one row a trace; a sync run is a trace with a pipeline
  trace_id      TEXT PRIMARY KEY,  -- 32 hex digits, as in every table
  sync_id       TEXT,              -- like 202508022027-SYNC-765151E9; NULL: not a sync run
  pipeline      TEXT,              -- its name
  service       TEXT,              -- service.name of the process that recorded it
  root_span_id  TEXT,              -- the pipeline's span; without a pipeline the one that has no parent
  start_ns      INTEGER NOT NULL,  -- when the root began (unix nanoseconds); the first record's time until it is known
  end_ns        INTEGER,           -- when the root ended; NULL: still running
  outcome       TEXT,              -- success, partial, failure, cancelled, interrupted: as its parts say, see accounts
  spans         INTEGER NOT NULL,  -- finished ones
  errors        INTEGER NOT NULL,  -- of these, with status 2; a run's errors, each counted once, stand in accounts
  logs          INTEGER NOT NULL,
  first_ns      INTEGER NOT NULL,  -- the first and the last sign of life of the whole trace
  last_ns       INTEGER NOT NULL,
  root_name     TEXT               -- the root's name
);
CREATE INDEX runs_by_start ON runs (start_ns);
CREATE INDEX runs_of_pipelines ON runs (start_ns) WHERE sync_id IS NOT NULL;
CREATE INDEX runs_by_sync_id ON runs (sync_id) WHERE sync_id IS NOT NULL;

CREATE TABLE resources (  -- what recorded: service, host, SDK
  id          INTEGER PRIMARY KEY,
  attributes  TEXT NOT NULL UNIQUE  -- JSON object
);

CREATE TABLE scopes (  -- which instrumentation recorded
  id       INTEGER PRIMARY KEY,
  name     TEXT NOT NULL,
  version  TEXT NOT NULL,
  UNIQUE (name, version)
);

CREATE TABLE spans (
  trace_id        TEXT NOT NULL,
  span_id         TEXT NOT NULL,     -- 16 hex digits
  parent_span_id  TEXT NOT NULL,     -- '': none
  name            TEXT NOT NULL,
  kind            INTEGER NOT NULL,  -- OTLP: 1 internal, 2 server, 3 client, 4 producer, 5 consumer
  start_ns        INTEGER NOT NULL,  -- unix nanoseconds
  end_ns          INTEGER,           -- NULL: begun and not ended
  status          INTEGER NOT NULL,  -- OTLP: 0 unset, 1 ok, 2 error
  status_message  TEXT,
  resource        INTEGER NOT NULL REFERENCES resources,
  scope           INTEGER NOT NULL REFERENCES scopes,
  attributes      TEXT NOT NULL,     -- JSON object: SELECT json_extract(attributes, '$."vcs.change.id"')
  events          TEXT,              -- JSON array of {timeUnixNano, name, attributes}; NULL: none
  links           TEXT,              -- JSON array of {traceId, spanId, traceState, attributes}; NULL: none
  trace_state     TEXT,
  flags           INTEGER NOT NULL,
  leaf            INTEGER NOT NULL   -- 1: nothing stands below it, or so little that it is summed up further above
);
CREATE UNIQUE INDEX spans_by_time ON spans (trace_id, start_ns, span_id);
CREATE INDEX spans_by_parent ON spans (parent_span_id, name);
CREATE UNIQUE INDEX spans_with_children ON spans (trace_id, span_id) WHERE leaf = 0;
CREATE INDEX spans_open ON spans (trace_id, span_id) WHERE end_ns IS NULL;
CREATE INDEX spans_failed ON spans (parent_span_id, name, start_ns) WHERE status = 2;

CREATE TABLE siblings (  -- finished spans of one name in one place of the tree, summed up as they came in
  trace_id          TEXT NOT NULL,
  parent_span_id    TEXT NOT NULL,     -- or of an ancestor, of spans that stand further below:
  under             TEXT NOT NULL,     -- the names between it and them, one a line; '': its children
  name              TEXT NOT NULL,
  count             INTEGER NOT NULL,
  failed            INTEGER NOT NULL,
  start_ns          INTEGER NOT NULL,  -- the first start
  end_ns            INTEGER NOT NULL,  -- the last end
  total_ns          INTEGER NOT NULL,  -- all durations together
  slowest_ns        INTEGER NOT NULL,  -- the longest duration, and whose it is
  slowest_span_id   TEXT NOT NULL,
  slowest_start_ns  INTEGER NOT NULL,
  durations         TEXT NOT NULL,     -- JSON histogram {b: count}; bucket b begins at (8 + b % 8) << (b / 8 - 4) ns
  awaiting          INTEGER NOT NULL,  -- 1: the parent has not come yet
  PRIMARY KEY (trace_id, parent_span_id, under, name)
) WITHOUT ROWID;
CREATE INDEX siblings_awaiting ON siblings (trace_id, parent_span_id) WHERE awaiting = 1;

CREATE TABLE logs (
  id          INTEGER PRIMARY KEY,
  trace_id    TEXT NOT NULL,     -- '': outside any span, as is span_id
  span_id     TEXT NOT NULL,
  sync_id     TEXT,
  time_ns     INTEGER NOT NULL,  -- unix nanoseconds
  severity    INTEGER NOT NULL,  -- OTLP: 5 DEBUG, 9 INFO, 13 WARN, 17 ERROR, 21 FATAL
  level       TEXT NOT NULL,
  logger      TEXT NOT NULL,
  event       TEXT NOT NULL,
  attributes  TEXT NOT NULL,     -- JSON object
  resource    INTEGER NOT NULL REFERENCES resources
);
CREATE INDEX logs_by_time ON logs (trace_id, time_ns);

CREATE TABLE checkpoints (  -- how far each journal file has been stored, moved in the transaction that stores
  journal   TEXT PRIMARY KEY,
  position  INTEGER NOT NULL  -- bytes
) WITHOUT ROWID;
"""

ACCOUNTS: Final = """
CREATE TABLE IF NOT EXISTS accounts (  -- what became of runs that have ended, derived from all their spans
  trace_id  TEXT PRIMARY KEY,
  figures   TEXT NOT NULL  -- JSON object: outcome, totals, error_count, errors, recovered, retries, waits, ...
) WITHOUT ROWID
"""


def path(under: str, name: str) -> str:
    """The column `under` of spans that stand below `name`, which itself has `under` in that column."""
    name = name.replace("\n", " ") or "?"
    return f"{under}\n{name}" if under else name


# What follows puts records in: spans that are plain, detailed or open, their sums, and logs.
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
_BARE: Final = ", ".join("?" * 11)
_OPEN: Final = "?, ?, ?, ?, ?, ?, nullif(NULL, ?), ?, ?, ?, ?"  # it has no end, whatever is given
# None is bound three times as slowly as an empty string, so NULLs are made here.
_EXTRAS: Final = ", ".join(["nullif(?, '')"] * 4)
INSERT_PLAIN: Final = tuple(
    f"INSERT INTO spans ({_COLUMNS}) VALUES ({_BARE}, 0, NULL, NULL, NULL, NULL, {leaf})" + _REPLACE for leaf in (0, 1)
)
INSERT_DETAILED: Final = tuple(
    f"INSERT INTO spans ({_COLUMNS}) VALUES ({_BARE}, ?, {_EXTRAS}, {leaf})" + _REPLACE for leaf in (0, 1)
)
INSERT_OPEN: Final = f"INSERT INTO spans ({_COLUMNS}) VALUES ({_OPEN}, ?, {_EXTRAS}, 0) ON CONFLICT DO NOTHING"
UPSERT_SIBLINGS: Final = """
INSERT INTO siblings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
  ? AND NOT EXISTS (SELECT 1 FROM spans WHERE leaf = 0 AND trace_id = ? AND span_id = ?))
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
    "INSERT INTO logs (trace_id, span_id, time_ns, severity, level, logger, event, attributes, resource, sync_id)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, ''))"
)
