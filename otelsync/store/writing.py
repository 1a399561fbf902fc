"""The local store: batches become rows of one SQLite file, each record exactly once, the oldest runs making room."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import sub
from pathlib import Path
from typing import Final, Protocol

from otelsync.errors import StoreError
from otelsync.journal.batch import Batch
from otelsync.journal.segment import make_private
from otelsync.store import rows, schema
from otelsync.store.histogram import buckets
from otelsync.store.kinship import PIPELINE, Kinship, Known, SpanId, Spans, SumKey
from otelsync.store.rows import LARGEST, Decoder, Detailed, Log, Plain
from otelsync.store.run_summary import RunSummary, summarize
from otelsync.vocabulary import SERVICE_NAME

_log = logging.getLogger("otelsync.store")

_PATIENCE: Final = 5.0
"""Seconds to wait for another process that is writing."""
_LOOK_EVERY: Final = 16
"""Batches between two looks at size and age."""
_DELETED_AT_ONCE: Final = 20_000
_MOST_NUMBERS: Final = 1024
"""Resources and scopes whose numbers are remembered."""

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
_INSERT_PLAIN: Final = tuple(
    f"INSERT INTO spans ({_COLUMNS}) VALUES ({_BARE}, 0, NULL, NULL, NULL, NULL, {leaf})" + _REPLACE for leaf in (0, 1)
)
_INSERT_DETAILED: Final = tuple(
    f"INSERT INTO spans ({_COLUMNS}) VALUES ({_BARE}, ?12, {_EXTRAS}, {leaf})" + _REPLACE for leaf in (0, 1)
)
_INSERT_OPEN: Final = (
    f"INSERT INTO spans ({_COLUMNS}) VALUES ({_BARE.replace('?7', 'nullif(?7, ?7)')}, ?12, {_EXTRAS}, 0)"
    " ON CONFLICT DO NOTHING"
)
_UPSERT_SIBLINGS: Final = """
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
_INSERT_LOG: Final = (
    "INSERT INTO logs (trace_id, span_id, sync_id, time_ns, severity, level, logger, event, attributes, resource)"
    " VALUES (?1, ?2, nullif(?10, ''), ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
)


@dataclass(slots=True)
class _Records:
    """A batch, decoded."""

    plain: list[Plain] = field(default_factory=list)
    detailed: list[Detailed] = field(default_factory=list)
    started: list[Detailed] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)


class RunWatch(Protocol):
    """Who is told of runs, once what is told is in the store."""

    def ended(self, sync_id: str, trace_id: str) -> None:
        """A run has ended, or a further end of it has come."""

    def recorded(self, sync_ids: Collection[str]) -> None:
        """Further records of these runs have come."""


class StoreSink:
    """Writes batches into the store at `path`, made if it is missing (directory 0700, file 0600).

    Args:
        path: The SQLite file.
        max_bytes: Above this size the oldest runs are deleted, whole, but never the latest one. None: no bound.
        max_age: Seconds after which a run without any further record is deleted. None: never.
        watch: Who is told of runs.

    Every method raises StoreError if the store cannot be read or written; then nothing of the batch is stored. A
    damaged file is moved aside, which is logged once, and a new one begun. For one thread at a time.
    """

    def __init__(
        self,
        path: Path | str,
        max_bytes: int | None = None,
        max_age: float | None = None,
        *,
        watch: RunWatch | None = None,
    ) -> None:
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.max_age = max_age
        self._connection: sqlite3.Connection | None = None
        self._inode = (0, 0)
        self._decoder = Decoder()
        self._resources: dict[bytes, int] = {}
        self._services: dict[int, str] = {}
        self._scopes: dict[bytes, int] = {}
        self._delivered = 0
        self._watch = watch
        self._recorded: set[str] = set()
        """The sync ids of a batch."""
        with self._guarded():
            pass
        self._make_room()

    def deliver(self, batch: Batch) -> None:
        """Store the records of `batch` and move its journal's checkpoint, both or neither.

        A batch that ends at or before the checkpoint is known already; of one that begins before it only what is new
        is stored.
        """
        try:
            self._deliver(batch)
        except _DamagedError as damage:
            self._start_afresh(damage)
            self._deliver(batch)
        self._delivered += 1
        if self._delivered % _LOOK_EVERY == 0:
            self._make_room()

    def position(self, journal: str) -> int:
        """The offset in bytes up to which the journal file of this name is stored; 0 if it is unknown."""
        try:
            with self._guarded() as connection:
                return _position(connection, journal)
        except _DamagedError as damage:
            self._start_afresh(damage)
            return 0

    def forget(self, journal: str) -> None:
        """Delete the checkpoint of a journal file that is gone for good."""
        with self._guarded() as connection:
            connection.execute("DELETE FROM checkpoints WHERE journal = ?", (journal,))

    def close(self) -> None:
        """Close the file. A later call of another method opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _deliver(self, batch: Batch) -> None:
        self._recorded.clear()
        with self._guarded() as connection, _transaction(connection):
            position = _position(connection, batch.journal)
            if batch.end <= position:
                return
            records = self._decode(connection, batch)
            pipelines = set() if self._watch is None else _pipelines(records)
            if batch.start < position:
                _forget_known_logs(connection, records)
            if batch.start < position or not self._store_spans(connection, records):
                _forget_known_spans(connection, records)
                self._store_spans(connection, records, expect_new=False)
            connection.executemany(_INSERT_OPEN, records.started)
            connection.executemany(_INSERT_LOG, records.logs)
            connection.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (batch.journal, batch.end))
            ended = _ended_runs(connection, pipelines)
        self._tell(ended)
        if self._decoder.undecodable:
            _log.warning("%s records of %s could not be decoded", self._decoder.undecodable, batch.journal)
            self._decoder.undecodable = 0

    def _decode(self, connection: sqlite3.Connection, batch: Batch) -> _Records:
        records = _Records()
        for group in batch.groups:
            resource = self._resource(connection, group.resource)
            scope = self._scope(connection, group.scope)
            plain, detailed = self._decoder.spans(group.spans, resource, scope)
            records.plain += plain
            records.detailed += detailed
            plain, detailed = self._decoder.spans(group.started, resource, scope)
            records.started += detailed
            records.started += map(Detailed.from_plain, plain)
            if group.logs:
                logger = rows.scope_name(group.scope)[0]
                records.logs += self._decoder.logs(group.logs, resource, logger)
        return records

    def _store_spans(self, connection: sqlite3.Connection, records: _Records, *, expect_new: bool = True) -> bool:
        """Store the finished spans and their sums; False, and nothing stored, if they are not all new as expected."""
        known = _known(connection, {span[0] for spans in (records.plain, records.detailed) for span in spans})
        kinship = Kinship(records.plain, records.detailed, records.started, known)
        sums = kinship.sums()
        connection.execute("SAVEPOINT spans")
        connection.executemany(
            _UPSERT_SIBLINGS,
            [(*_sum_up(key, *spans), 0 if kinship.is_here((key[0], key[1])) else 1) for key, spans in sums.items()],
        )
        connection.executemany(
            "UPDATE siblings SET awaiting = 0 WHERE trace_id = ? AND parent_span_id = ?",
            [span for span in known.awaited if span in kinship.parents],
        )
        before = connection.total_changes
        stems = kinship.stems()
        for statements, spans in ((_INSERT_PLAIN, records.plain), (_INSERT_DETAILED, records.detailed)):
            connection.executemany(statements[0], [span for span in spans if (span[0], span[1]) in stems])
            connection.executemany(statements[1], [span for span in spans if (span[0], span[1]) not in stems])
        stored = connection.total_changes - before
        if expect_new and stored < len(records.plain) + len(records.detailed):
            connection.execute("ROLLBACK TO spans")
            return False
        connection.execute("RELEASE spans")
        self._store_runs(connection, summarize(sums, records.started, records.logs, self._services))
        return True

    def _store_runs(self, connection: sqlite3.Connection, summaries: Iterable[RunSummary]) -> None:
        merged = []
        for summary in summaries:
            known = connection.execute("SELECT * FROM runs WHERE trace_id = ?", (summary.trace_id,)).fetchone()
            if known is not None:
                summary = RunSummary(*known).merged(summary)
            merged.append(summary.row())
            if summary.sync_id is not None:
                self._recorded.add(summary.sync_id)
        connection.executemany(f"INSERT OR REPLACE INTO runs VALUES ({', '.join('?' * 14)})", merged)

    def _tell(self, ended: Sequence[tuple[str, str]]) -> None:
        if self._watch is not None:
            self._watch.recorded(self._recorded)
            for sync_id, trace_id in ended:
                self._watch.ended(sync_id, trace_id)

    def _resource(self, connection: sqlite3.Connection, body: bytes) -> int:
        number = self._resources.get(body)
        if number is None:
            attributes = rows.resource_attributes(body)
            text = rows.to_json(attributes)
            number = _number(connection, "resources", ("attributes",), (text,))
            if len(self._resources) >= _MOST_NUMBERS:
                self._forget_numbers()
            self._resources[body] = number
            self._services[number] = str(attributes.get(SERVICE_NAME, ""))
        return number

    def _scope(self, connection: sqlite3.Connection, body: bytes) -> int:
        number = self._scopes.get(body)
        if number is None:
            number = _number(connection, "scopes", ("name", "version"), rows.scope_name(body))
            if len(self._scopes) >= _MOST_NUMBERS:
                self._scopes.clear()
            self._scopes[body] = number
        return number

    def _forget_numbers(self) -> None:
        self._resources.clear()
        self._services.clear()
        self._scopes.clear()

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        """The connection, with SQLite's errors translated. What was numbered in a failed transaction is forgotten."""
        try:
            connection = self._connection
            if connection is None or _inode(self.path) != self._inode:
                connection = self._open()
            yield connection
        except sqlite3.Error as error:
            self._forget_numbers()
            raise _translated(error, self.path) from error
        except OSError as error:
            raise StoreError(f"cannot open the store {self.path}: {error.strerror}; {_ELSEWHERE}") from error

    def _open(self) -> sqlite3.Connection:
        self.close()
        self._forget_numbers()
        make_private(self.path.parent)
        try:
            self._connection = _connect(self.path)
        except _DamagedError as damage:
            self._move_aside(damage)
            self._connection = _connect(self.path)
        self._inode = _inode(self.path)
        return self._connection

    def _start_afresh(self, damage: _DamagedError) -> None:
        """Open a new file, after moving the damaged one aside, unless another process has done so already."""
        replaced = self._inode != _inode(self.path)
        self.close()
        if not replaced:
            self._move_aside(damage)

    def _move_aside(self, damage: _DamagedError) -> None:
        aside = self.path.with_name(self.path.name + ".damaged")
        number = 1
        while aside.exists():
            number += 1
            aside = self.path.with_name(f"{self.path.name}.damaged-{number}")
        try:
            self.path.rename(aside)
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + suffix).rename(aside.with_name(aside.name + suffix))
        except OSError as error:
            raise StoreError(f"{damage}, and cannot be moved aside: {error.strerror}; {_ELSEWHERE}") from error
        _log.warning("%s; it was moved to %s and a new store begun", damage, aside)

    def _make_room(self) -> None:
        """Delete the oldest runs as the bounds on age and size say. If that fails, it is tried again later."""
        if self.max_bytes is None and self.max_age is None:
            return
        try:
            with self._guarded() as connection:
                while (run := self._outdated(connection)) is not None:
                    _delete_run(connection, *run)
                    connection.executescript("PRAGMA incremental_vacuum")  # execute() would free one page
        except StoreError as error:
            _log.warning("cannot delete old runs: %s", error)

    def _outdated(self, connection: sqlite3.Connection) -> tuple[str, int] | None:
        """Trace id and time of the oldest run, if it has to go. The latest stays."""
        oldest = connection.execute("SELECT trace_id, start_ns, last_ns FROM runs ORDER BY start_ns LIMIT 2").fetchall()
        if len(oldest) < 2:
            return None
        trace_id, start_ns, last_ns = oldest[0]
        if self.max_age is not None and last_ns < time.time_ns() - self.max_age * 1e9:
            return trace_id, start_ns
        if self.max_bytes is not None and _size(connection) > self.max_bytes:
            return trace_id, start_ns
        return None


class _DamagedError(StoreError):
    """The file is not a SQLite database any more."""


_ELSEWHERE: Final = "set OTELSYNC_STORE_PATH to a file that can be written"


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file, and make it and its tables if they are missing."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        connection.create_function("otelsync_merge", 2, _merge_histograms, deterministic=True)
        _check(connection, path)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _switch_to_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        with _transaction(connection):
            if not _check(connection, path):
                _make_tables(connection)
    except sqlite3.Error as error:
        connection.close()
        raise _translated(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Let readers and one writer work at the same time. SQLite does not wait here for others that do the same."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _check(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file has our tables; False if it is empty. Raises StoreError for anything else."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables == 0:
        return False
    if application != schema.APPLICATION_ID:
        raise StoreError(f"{path} is a SQLite file of another program; {_ELSEWHERE}")
    if version != schema.VERSION:
        raise StoreError(f"{path} was written by another version of otelsync (its tables: {version}); {_ELSEWHERE}")
    return True


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in schema.SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")


def _translated(error: sqlite3.Error, path: Path) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return _DamagedError(f"the store {path} is damaged ({error})")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(f"the store {path} is busy: another process has been writing for {_PATIENCE:g} s; try again")
    if name.startswith("SQLITE_FULL"):
        return StoreError(f"no space left for the store {path}; free some, or {_ELSEWHERE}")
    return StoreError(f"the store {path} cannot be used ({error}); {_ELSEWHERE}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _position(connection: sqlite3.Connection, journal: str) -> int:
    row = connection.execute("SELECT position FROM checkpoints WHERE journal = ?", (journal,)).fetchone()
    return 0 if row is None else int(row[0])


def _number(connection: sqlite3.Connection, table: str, columns: Sequence[str], values: Sequence[str]) -> int:
    """The number under which something is stored once."""
    marks = ", ".join("?" * len(columns))
    connection.execute(f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)
    same = " AND ".join(f"{column} = ?" for column in columns)
    (number,) = connection.execute(f"SELECT id FROM {table} WHERE {same}", values).fetchone()
    return int(number)


def _known(connection: sqlite3.Connection, traces: Iterable[str]) -> Known:
    """What the store knows of these traces."""
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


def _pipelines(records: _Records) -> set[str]:
    """The traces in which a pipeline has ended."""
    return {span[0] for spans in (records.plain, records.detailed) for span in spans if span[3].startswith(PIPELINE)}


def _ended_runs(connection: sqlite3.Connection, traces: Iterable[str]) -> list[tuple[str, str]]:
    """Those of the traces that are runs whose pipeline has ended: sync id and trace id of each."""
    found: list[tuple[str, str]] = []
    for trace_id in traces:
        found += connection.execute(
            "SELECT sync_id, trace_id FROM runs WHERE trace_id = ? AND sync_id IS NOT NULL AND end_ns IS NOT NULL"
            " AND substr(root_name, 1, ?) = ?",
            (trace_id, len(PIPELINE), PIPELINE),
        )
    return found


def _forget_known_spans(connection: sqlite3.Connection, records: _Records) -> None:
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


def _forget_known_logs(connection: sqlite3.Connection, records: _Records) -> None:
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


def _sum_up(key: SumKey, spans: Spans, failed: int) -> tuple[object, ...]:
    """A row of `siblings`."""
    starts = [span[5] for span in spans]
    ends = [span[6] for span in spans]
    durations = list(map(sub, ends, starts))
    slowest = max(durations)
    longest = durations.index(slowest)
    if min(durations) < 0:  # a clock was set back
        durations = [max(duration, 0) for duration in durations]
    return (
        *key,
        len(spans),
        failed,
        min(starts),
        max(ends),
        min(sum(durations), LARGEST),
        max(slowest, 0),
        spans[longest][1],
        starts[longest],
        json.dumps(Counter(buckets(durations)), separators=(",", ":")),
    )


def _merge_histograms(first: str, second: str) -> str:
    return json.dumps(Counter(json.loads(first)) + Counter(json.loads(second)), separators=(",", ":"))


def _delete_run(connection: sqlite3.Connection, trace_id: str, start_ns: int) -> None:
    """Delete one trace, and what was logged outside any trace before it began.

    A large one is deleted bit by bit, so that other writers get their turn, and its row in `runs` last, so that it is
    gone on with should it be interrupted.
    """
    for table in ("spans", "logs"):
        some = f"SELECT rowid FROM {table} WHERE trace_id = ? LIMIT {_DELETED_AT_ONCE}"
        while connection.execute(f"DELETE FROM {table} WHERE rowid IN ({some})", (trace_id,)).rowcount:
            pass
    with _transaction(connection):
        connection.execute("DELETE FROM siblings WHERE trace_id = ?", (trace_id,))
        connection.execute("DELETE FROM runs WHERE trace_id = ?", (trace_id,))
        connection.execute("DELETE FROM logs WHERE trace_id = '' AND time_ns < ?", (start_ns,))


def _size(connection: sqlite3.Connection) -> int:
    """Bytes in use."""
    (pages,), (free,), (page,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page)


def _inode(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino
