"""Reading the local store: which runs there are, and which one somebody means."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from otelsync.errors import RunNotFoundError, StoreError
from otelsync.store import schema
from otelsync.store.account_reading import RunAccount, account_of, traces_of_sync
from otelsync.store.connection import ELSEWHERE, KEEP_IN_MEMORY, address, is_memory
from otelsync.store.schema import LARGEST
from otelsync.store.sync_ids import known_ids, proposal
from otelsync.store.task_traces import IS_TASK, is_task, outcome, task_of
from otelsync.text.printable import printable
from otelsync.vocabulary import NAMED_PIPELINE

_PATIENCE = 5.0
"""Seconds to wait for a lock."""
_MOST_CANDIDATES = 10


@dataclass(slots=True)
class Run:
    """A row of the table `runs`; see `otelsync.store.schema` for what each field means."""

    trace_id: str
    sync_id: str | None = None
    pipeline: str | None = None
    service: str | None = None
    root_span_id: str | None = None
    start_ns: int = 0
    end_ns: int | None = None
    outcome: str | None = None
    spans: int = 0
    errors: int = 0
    logs: int = 0
    first_ns: int = LARGEST
    last_ns: int = 0
    root_name: str | None = None
    account: RunAccount | None = None
    """Derived from its spans; None for the traces of tasks."""

    @property
    def corrected(self) -> Mapping[str, str]:
        """Outcomes by its account of stages that recorded another, by span id."""
        return self.account.corrected if self.account is not None else {}

    @property
    def name(self) -> str:
        """Its sync id, or else its trace id. Printable."""
        return printable(self.sync_id or self.trace_id, 60)

    @property
    def title(self) -> str:
        """Its pipeline, its task, or what its root is called. Printable."""
        root = (self.root_name or "a trace without a root").removeprefix(NAMED_PIPELINE)
        return printable(self.pipeline or task_of(root), 60)

    @property
    def running(self) -> bool:
        """True if its root has not ended, as far as is known."""
        return self.end_ns is None

    @property
    def duration_ns(self) -> int:
        """From its beginning to its end, or to its last sign of life. Nanoseconds."""
        return max((self.last_ns if self.end_ns is None else self.end_ns) - self.start_ns, 0)

    @property
    def state(self) -> str:
        """Its outcome, or ``running``. Printable."""
        return "running" if self.running else printable(self.outcome or "", 12)


@contextmanager
def open_store(path: Path | str) -> Iterator[sqlite3.Connection]:
    """Read the store at `path`, as it is at this moment.

    Raises:
        RunNotFoundError: There is no store yet.
        StoreError: It cannot be read.
    """
    path = Path(path)
    if not is_memory(path) and not path.exists():
        raise RunNotFoundError(nothing_yet(path))
    try:
        connection = sqlite3.connect(address(path, "ro"), uri=True, timeout=_PATIENCE)
    except sqlite3.Error as error:
        raise StoreError(f"the store {path} cannot be opened: {error}") from error
    try:
        connection.isolation_level = None
        connection.execute(KEEP_IN_MEMORY)
        connection.execute("BEGIN")
        _check(connection, path)
        yield connection
    except sqlite3.Error as error:
        fix = "if it is damaged, move it away and a new one is begun"
        raise StoreError(f"the store {path} cannot be read: {error}; {fix}") from error
    finally:
        connection.close()


def nothing_yet(path: Path) -> str:
    """Return a sentence on a store at `path` that is not there, with the directory that may be the wrong one."""
    where = printable(path.parent)
    return (
        f"nothing has been recorded yet in {where}; run a program that calls otelsync.configure(), or look at another "
        "--home"
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Conditions on runs in a list."""

    since_ns: int = 0
    """The earliest moment at which they began."""
    states: frozenset[str] = frozenset()
    """Outcomes, or ``running``; empty: any."""


def recent_runs(
    store: sqlite3.Connection, *, most: int | None = None, every_trace: bool = False, wanted: Wanted | None = None
) -> list[Run]:
    """The runs, latest first.

    Args:
        store: From `open_store`.
        most: How many; None for all.
        every_trace: Whether traces without a pipeline count as well.
        wanted: Which ones; None: any.
    """
    return _latest(store, "true" if every_trace else "sync_id IS NOT NULL", most, wanted or Wanted())


def recent_tasks(store: sqlite3.Connection, *, most: int | None = None, wanted: Wanted | None = None) -> list[Run]:
    """The traces of tasks outside any pipeline, latest first; arguments as of `recent_runs`."""
    return _latest(store, IS_TASK, most, wanted or Wanted())


def find_run(store: sqlite3.Connection, wanted: str | None = None) -> Run:
    """The run that is meant.

    Args:
        store: From `open_store`.
        wanted: A sync id, a prefix of one or of its hexadecimal part, or a prefix of a trace id. None: the latest run.

    Raises:
        RunNotFoundError: None, or more than one; then the message lists the candidates.
    """
    if wanted is None:
        latest = recent_runs(store, most=1) or recent_tasks(store, most=1)
        if not latest:
            raise RunNotFoundError("no sync run has been recorded yet; `otelsync list --all` shows other traces")
        return latest[0]
    candidates = runs_called(store, wanted)
    return the_run(candidates, wanted, () if candidates else known_ids(store))


def the_run(candidates: Sequence[Run], wanted: str, known: Iterable[str] = ()) -> Run:
    """Return the one run that these are, the first row of it; `known` are sync ids that may have been meant.

    Raises:
        RunNotFoundError: There is none, or several.
    """
    if not candidates:
        fix = proposal(known, wanted) or "; `otelsync list` shows what there is"
        raise RunNotFoundError(f"no run is called {printable(wanted, 60)!r}{fix}")
    names = {run.sync_id or run.trace_id for run in candidates}
    if len(names) > 1:
        listed = "".join(f"\n  {run.name}  {run.title}" for run in candidates)
        raise RunNotFoundError(f"{printable(wanted, 60)!r} may be any of these; give more of it:{listed}")
    return candidates[0]


def traces_of(store: sqlite3.Connection, run: Run) -> list[str]:
    """The trace ids of a run: its own, and others that carry its sync id."""
    return traces_of_sync(store, run.sync_id, run.trace_id)


def runs_called(store: sqlite3.Connection, wanted: str) -> list[Run]:
    """Those that `wanted` may mean: whose id it is, else whose id begins with it. With a pipeline of its own first."""
    wanted = wanted.strip()
    order = "ORDER BY root_name LIKE 'sync.pipeline %' DESC, start_ns"
    exact = store.execute(
        f"SELECT * FROM runs WHERE sync_id = :wanted OR trace_id = :wanted {order}", {"wanted": wanted}
    ).fetchall()
    if exact or not wanted:
        return [_run(store, row) for row in exact]
    rows = store.execute(
        "SELECT * FROM runs WHERE substr(sync_id, 1, length(:wanted)) = :wanted COLLATE NOCASE"
        " OR instr(upper(sync_id), '-SYNC-' || upper(:wanted)) > 0"
        " OR (trace_id >= lower(:wanted) AND substr(trace_id, 1, length(:wanted)) = lower(:wanted))"
        f" {order} LIMIT :most",
        {"wanted": wanted, "most": _MOST_CANDIDATES},
    )
    return [_run(store, row) for row in rows]


def _latest(store: sqlite3.Connection, condition: str, most: int | None, wanted: Wanted) -> list[Run]:
    limit = -1 if most is None or wanted.states else most  # an outcome is known only when the run has been read
    rows = store.execute(
        f"SELECT * FROM runs WHERE ({condition}) AND start_ns >= ? ORDER BY start_ns DESC LIMIT ?",
        (min(wanted.since_ns, LARGEST), limit),
    ).fetchall()
    runs = (run for run in (_run(store, row) for row in rows) if not wanted.states or run.state in wanted.states)
    return [*islice(runs, most)]


def _run(store: sqlite3.Connection, row: Sequence[Any]) -> Run:
    """A row of `runs`. The trace of a task lasts from its publish to the end of what it set off."""
    run = Run(*row)
    if run.sync_id is not None or not is_task(run.root_name):
        is_pipeline = (run.root_name or "").startswith(NAMED_PIPELINE)
        traces = traces_of(store, run) if is_pipeline else [run.trace_id]
        run.account = account_of(store, traces, run.root_span_id)
        run.errors = run.account.error_count
        if not run.running:
            run.outcome = run.account.outcome
        return run
    how = outcome(store, run.trace_id)
    return replace(run, outcome=how, end_ns=run.last_ns if how else None)


def _check(store: sqlite3.Connection, path: Path) -> None:
    (application,) = store.execute("PRAGMA application_id").fetchone()
    (version,) = store.execute("PRAGMA user_version").fetchone()
    if application == 0 and version == 0 and not store.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise RunNotFoundError(nothing_yet(path))
    if application != schema.APPLICATION_ID:
        raise StoreError(f"{path} is a SQLite file of another program; set OTELSYNC_STORE_PATH to another file")
    if version != schema.VERSION:
        raise StoreError(f"{path} was written by another version of otelsync (its tables: {version}); {ELSEWHERE}")
