"""The local store: batches become rows of one SQLite file, each record exactly once, the oldest runs making room."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from otelsync.errors import StoreError
from otelsync.hooks.own_messages import own_logger
from otelsync.journal.batch import Batch
from otelsync.journal.segment import make_private
from otelsync.otlp.decoding import resource_attributes, scope_name
from otelsync.store import adopting, schema
from otelsync.store.account_reading import keep, traces_of_sync
from otelsync.store.connection import ELSEWHERE, DamagedError, connect, transaction, translated
from otelsync.store.histogram import sum_up
from otelsync.store.kinship import Kinship, Spans, known_of
from otelsync.store.retention import delete_run, outdated
from otelsync.store.rows import Decoder, Detailed, Plain, Records, to_json
from otelsync.store.run_summary import RunSummary, summarize
from otelsync.vocabulary import NAMED_PIPELINE, SERVICE_NAME

_log = own_logger("otelsync.store")

_LOOK_EVERY: Final = 16
"""Batches between two looks at size and age."""
_MOST_NUMBERS: Final = 1024
"""Resources and scopes whose numbers are remembered."""


class RunWatch(Protocol):
    """A watcher of runs, told of them once their records are in the store."""

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
        beside: The local store, of which this one holds what is still missing there (see `otelsync.store.adopting`).

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
        beside: Path | None = None,
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
        self._beside = beside
        self._has_store = False
        """True if that is there, and attached."""
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
        if len(self._resources) >= _MOST_NUMBERS or len(self._scopes) >= _MOST_NUMBERS:
            self._forget_numbers()  # never in the middle of a batch, whose runs need the names of services
        try:
            self._deliver(batch)
        except DamagedError as damage:
            self._start_afresh(damage)
            self._deliver(batch)
        self._delivered += 1
        if self._delivered % _LOOK_EVERY == 0:
            self._make_room()

    def position(self, journal: str) -> int:
        """The offset in bytes up to which the journal file of this name is stored; 0 if it is unknown."""
        try:
            with self._guarded() as connection:
                return self._position(connection, journal)
        except DamagedError as damage:
            self._start_afresh(damage)
            return 0

    def is_outdated(self, journals: Collection[str]) -> bool:
        """Return whether a store beside the local one must be made anew; `journals`: the files that are there."""
        with self._guarded() as connection:
            return adopting.is_outdated(connection, journals, has_store=self._has_store)

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
        with self._guarded() as connection, transaction(connection):
            position = self._position(connection, batch.journal)
            if batch.end <= position:
                return
            records = self._decode(connection, batch)
            may_know = batch.start < position
            if self._has_store:
                adopting.adopt(connection, records.traces)
                # Whoever ships may have got beyond this batch before its trace was copied.
                may_know = may_know or adopting.has_adopted(connection, records.traces)
            pipelines = _ended_pipelines(records)
            if may_know:
                _forget_known_logs(connection, records)
            if may_know or not self._store_spans(connection, records):
                _forget_known_spans(connection, records)
                self._store_spans(connection, records, expect_new=False)
            connection.executemany(schema.INSERT_OPEN, records.started)
            connection.executemany(schema.INSERT_LOG, records.logs)
            connection.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (batch.journal, batch.end))
            if self._has_store:
                adopting.adopt_runs(connection, self._recorded)
            ended = _ended_runs(connection, pipelines)
            _account_for(connection, records, ended)
        if self._watch is not None:
            self._watch.recorded(self._recorded)
            for run in ended:
                self._watch.ended(*run)
        if self._decoder.undecodable:
            _log.warning("%s records of %s could not be decoded", self._decoder.undecodable, batch.journal)
            self._decoder.undecodable = 0

    def _position(self, connection: sqlite3.Connection, journal: str) -> int:
        row = connection.execute("SELECT position FROM main.checkpoints WHERE journal = ?", (journal,)).fetchone()
        if row is None and self._has_store:
            return adopting.position(connection, journal)
        return 0 if row is None else int(row[0])

    def _decode(self, connection: sqlite3.Connection, batch: Batch) -> Records:
        records = Records()
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
                logger = scope_name(group.scope)[0]
                records.logs += self._decoder.logs(group.logs, resource, logger)
        return records

    def _store_spans(self, connection: sqlite3.Connection, records: Records, *, expect_new: bool = True) -> bool:
        """Store the finished spans and their sums; False, and nothing stored, if they are not all new as expected."""
        known = known_of(connection, {span[0] for spans in (records.plain, records.detailed) for span in spans})
        kinship = Kinship(records, known)
        sums = kinship.sums()
        connection.execute("SAVEPOINT spans")
        connection.executemany(
            schema.UPSERT_SIBLINGS,
            [
                (*key, *_summed(*spans), not kinship.is_here((key[0], key[1])), key[0], key[1])
                for key, spans in sums.items()
            ],
        )
        connection.executemany(
            "UPDATE siblings SET awaiting = 0 WHERE trace_id = ? AND parent_span_id = ?",
            [span for span in known.awaited if span in kinship.parents],
        )
        before = connection.total_changes
        stems = kinship.stems()
        for insert, spans in (
            (schema.INSERT_PLAIN, records.plain),
            (schema.INSERT_DETAILED, records.detailed),
        ):
            connection.executemany(insert[0], [span for span in spans if (span[0], span[1]) in stems])
            connection.executemany(insert[1], [span for span in spans if (span[0], span[1]) not in stems])
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

    def _resource(self, connection: sqlite3.Connection, body: bytes) -> int:
        if body not in self._resources:
            attributes = resource_attributes(body)
            number = self._resources[body] = _number(connection, "resources", attributes=to_json(attributes))
            self._services[number] = str(attributes.get(SERVICE_NAME, ""))
        return self._resources[body]

    def _scope(self, connection: sqlite3.Connection, body: bytes) -> int:
        if body not in self._scopes:
            name, version = scope_name(body)
            self._scopes[body] = _number(connection, "scopes", name=name, version=version)
        return self._scopes[body]

    def _forget_numbers(self) -> None:
        self._resources.clear()
        self._services.clear()
        self._scopes.clear()

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        """The connection, with SQLite's errors translated. What was numbered in a failed transaction is forgotten."""
        connection = self._connection
        try:
            if connection is None or _inode(self.path) != self._inode:
                connection = self._open()
            yield connection
        except sqlite3.Error as error:
            self._forget_numbers()
            fault = translated(error, self.path)
            if isinstance(fault, DamagedError) and self._has_store and adopting.is_damaged(connection):
                fault = StoreError(
                    f"the store {self._beside} is damaged ({error}); move it away and a new one is begun"
                )
            raise fault from error
        except OSError as error:
            raise StoreError(f"cannot open the store {self.path}: {error.strerror}; {ELSEWHERE}") from error

    def _open(self) -> sqlite3.Connection:
        self.close()
        self._forget_numbers()
        make_private(self.path.parent)
        try:
            self._connection = connect(self.path)
        except DamagedError as damage:
            self._move_aside(damage)
            self._connection = connect(self.path)
        self._inode = _inode(self.path)
        if self._beside is not None:
            self._has_store = adopting.attach(self._connection, self._beside)
        return self._connection

    def _start_afresh(self, damage: DamagedError) -> None:
        """Open a new file, after moving the damaged one aside, unless another process has done so already."""
        replaced = self._inode != _inode(self.path)
        self.close()
        if not replaced:
            self._move_aside(damage)

    def _move_aside(self, damage: DamagedError) -> None:
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
            raise StoreError(f"{damage}, and cannot be moved aside: {error.strerror}; {ELSEWHERE}") from error
        _log.warning("%s; it was moved to %s and a new store begun", damage, aside)

    def _make_room(self) -> None:
        """Delete the oldest runs as the bounds on age and size say. If that fails, it is tried again later."""
        if self.max_bytes is None and self.max_age is None:
            return
        try:
            with self._guarded() as connection:
                while (run := outdated(connection, max_bytes=self.max_bytes, max_age=self.max_age)) is not None:
                    delete_run(connection, *run)
                    connection.executescript("PRAGMA incremental_vacuum")  # execute() would free one page
        except StoreError as error:
            _log.warning("cannot delete old runs: %s", error)


def _number(connection: sqlite3.Connection, table: str, **columns: str) -> int:
    """The number under which something is stored once."""
    named = ", ".join(columns)
    marks = ", ".join(f":{column}" for column in columns)
    connection.execute(f"INSERT OR IGNORE INTO {table} ({named}) VALUES ({marks})", columns)
    (number,) = connection.execute(f"SELECT id FROM {table} WHERE ({named}) = ({marks})", columns).fetchone()
    return int(number)


def _summed(spans: Spans, failed: int) -> tuple[object, ...]:
    return sum_up([span[5] for span in spans], [span[6] for span in spans], [span[1] for span in spans], failed)


def _ended_pipelines(records: Records) -> set[str]:
    """Return the traces in which a pipeline has ended."""
    finished = (span for spans in (records.plain, records.detailed) for span in spans)
    return {span[0] for span in finished if span[3].startswith(NAMED_PIPELINE)}


def _ended_runs(connection: sqlite3.Connection, traces: Iterable[str]) -> list[tuple[str, str]]:
    """Return those of the traces that are runs whose pipeline has ended: sync id and trace id of each."""
    found: list[tuple[str, str]] = []
    for trace_id in traces:
        found += connection.execute(
            "SELECT sync_id, trace_id FROM runs WHERE trace_id = ? AND sync_id IS NOT NULL AND end_ns IS NOT NULL"
            " AND substr(root_name, 1, ?) = ?",
            (trace_id, len(NAMED_PIPELINE), NAMED_PIPELINE),
        )
    return found


def _account_for(connection: sqlite3.Connection, records: Records, ended: Iterable[tuple[str, str]]) -> None:
    """Keep the accounts of runs that have ended now; of those that have grown since they are made when needed."""
    grown = {span[0] for spans in (records.plain, records.detailed, records.started) for span in spans}
    connection.executemany("DELETE FROM accounts WHERE trace_id = ?", [(trace_id,) for trace_id in grown])
    for sync_id, trace_id in ended:
        (root_id,) = connection.execute("SELECT root_span_id FROM runs WHERE trace_id = ?", (trace_id,)).fetchone()
        account = keep(connection, traces_of_sync(connection, sync_id, trace_id), root_id)
        connection.execute("UPDATE runs SET outcome = ? WHERE trace_id = ?", (account.outcome, trace_id))


def _forget_known_spans(connection: sqlite3.Connection, records: Records) -> None:
    """Leave out the finished spans that are stored already, and all but the first of those that come twice."""
    seen: set[tuple[str, str]] = set()

    def is_new(span: Plain | Detailed) -> bool:
        key = (span[0], span[1])
        known = connection.execute(
            "SELECT 1 FROM spans WHERE trace_id = ? AND span_id = ? AND (start_ns = ? OR leaf = 0)"
            " AND end_ns IS NOT NULL",
            (*key, span[5]),
        )
        if key in seen or known.fetchone() is not None:
            return False
        seen.add(key)
        return True

    records.plain = [span for span in records.plain if is_new(span)]
    records.detailed = [span for span in records.detailed if is_new(span)]


def _forget_known_logs(connection: sqlite3.Connection, records: Records) -> None:
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


def _inode(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino
