"""A second store beside the local one: what it needs of the runs that stand in both is copied from there first.

It holds what journals hold and the local store does not have yet, and whole copies of the runs that this is of, so
that each run can be read from one file alone. The local store is attached as `stored`, for reading.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from otelsync.store.connection import address, has_tables

_STAND: Final = "spans, logs, last_ns"
"""Columns of `runs` that change with every record of a trace."""
_BY_NUMBER: Final = (
    "FROM stored.{0} AS old JOIN stored.resources AS theirs ON theirs.id = old.resource"
    " JOIN resources AS ours ON ours.attributes = theirs.attributes"
)
_OF_TRACE: Final = " WHERE old.trace_id = ?"
_NUMBERED: Final = frozenset(("resource", "scope", "id"))


def attach(connection: sqlite3.Connection, path: Path) -> bool:
    """Attach the local store at `path` for reading; False if there is none, or nothing in it yet.

    Raises:
        StoreError: It is no store of this version.
    """
    connection.execute(f"CREATE TABLE IF NOT EXISTS adopted (trace_id TEXT PRIMARY KEY, {_STAND}) WITHOUT ROWID")
    if not path.exists():
        return False
    connection.execute("ATTACH ? AS stored", (address(path, "ro"),))
    return has_tables(connection, path, "stored")


def position(connection: sqlite3.Connection, journal: str) -> int:
    """Return how far the local store has come in a journal file."""
    row = connection.execute("SELECT position FROM stored.checkpoints WHERE journal = ?", (journal,)).fetchone()
    return 0 if row is None else int(row[0])


def adopt(connection: sqlite3.Connection, traces: Iterable[str]) -> None:
    """Copy those of the traces that only the local store has, with all of the runs that they are of."""
    for trace_id in traces:
        if trace_id and not _has(connection, "main", trace_id) and _has(connection, "stored", trace_id):
            (sync_id,) = connection.execute(
                "SELECT sync_id FROM stored.runs WHERE trace_id = ?", (trace_id,)
            ).fetchone()
            if sync_id is None:
                _copy(connection, trace_id)
            else:
                adopt_runs(connection, (sync_id,))


def has_adopted(connection: sqlite3.Connection, traces: Iterable[str]) -> bool:
    """Return whether anything of these traces was copied."""
    found = "SELECT 1 FROM adopted WHERE trace_id = ?"
    return any(connection.execute(found, (trace_id,)).fetchone() is not None for trace_id in traces)


def adopt_runs(connection: sqlite3.Connection, sync_ids: Collection[str]) -> None:
    """Copy the traces of these runs that only the local store has."""
    for sync_id in sync_ids:
        for (trace_id,) in connection.execute(
            "SELECT trace_id FROM stored.runs WHERE sync_id = ? AND trace_id NOT IN (SELECT trace_id FROM main.runs)",
            (sync_id,),
        ).fetchall():
            _copy(connection, trace_id)


def is_outdated(connection: sqlite3.Connection, journals: Collection[str], *, has_store: bool) -> bool:
    """Return whether the local store has got on with what was copied, or journals are gone that had been read.

    `journals`: the names of those that are there.
    """
    read = {name for (name,) in connection.execute("SELECT journal FROM main.checkpoints")}
    if not read <= set(journals):
        return True
    if not has_store:
        return connection.execute("SELECT 1 FROM adopted LIMIT 1").fetchone() is not None
    ours, theirs = (", ".join(f"{table}.{name.strip()}" for name in _STAND.split(",")) for table in ("adopted", "s"))
    changed = (
        "SELECT 1 FROM main.runs LEFT JOIN adopted USING (trace_id) LEFT JOIN stored.runs AS s USING (trace_id)"
        f" WHERE ({ours}) IS NOT ({theirs})"
        " UNION ALL SELECT 1 FROM stored.runs WHERE sync_id IN (SELECT sync_id FROM main.runs)"
        " AND trace_id NOT IN (SELECT trace_id FROM main.runs) LIMIT 1"
    )
    return connection.execute(changed).fetchone() is not None


def is_damaged(connection: sqlite3.Connection | None) -> bool:
    """Return whether it is the local store that is damaged, and not the one beside it."""
    try:
        return connection is not None and connection.execute("PRAGMA stored.quick_check(1)").fetchone() != ("ok",)
    except sqlite3.Error:
        return True


def _has(connection: sqlite3.Connection, schema: str, trace_id: str) -> bool:
    return connection.execute(f"SELECT 1 FROM {schema}.runs WHERE trace_id = ?", (trace_id,)).fetchone() is not None


def _copy(connection: sqlite3.Connection, trace_id: str) -> None:
    connection.execute("INSERT OR IGNORE INTO main.resources (attributes) SELECT attributes FROM stored.resources")
    connection.execute("INSERT OR IGNORE INTO main.scopes (name, version) SELECT name, version FROM stored.scopes")
    for table in ("runs", "siblings"):
        connection.execute(f"INSERT INTO main.{table} SELECT * FROM stored.{table} WHERE trace_id = ?", (trace_id,))
    columns = _columns(connection, "logs")
    connection.execute(
        f"INSERT INTO main.logs ({columns}, resource) SELECT {_of_old(columns)}, ours.id"
        f" {_BY_NUMBER.format('logs')}{_OF_TRACE}",
        (trace_id,),
    )
    columns = _columns(connection, "spans")
    connection.execute(
        f"INSERT INTO main.spans ({columns}, resource, scope) SELECT {_of_old(columns)}, ours.id, our_scopes.id"
        f" {_BY_NUMBER.format('spans')} JOIN stored.scopes AS their_scopes ON their_scopes.id = old.scope JOIN scopes"
        " AS our_scopes ON our_scopes.name = their_scopes.name AND our_scopes.version = their_scopes.version"
        f"{_OF_TRACE}",
        (trace_id,),
    )
    connection.execute(
        f"INSERT OR REPLACE INTO adopted SELECT trace_id, {_STAND} FROM stored.runs WHERE trace_id = ?", (trace_id,)
    )


def _columns(connection: sqlite3.Connection, table: str) -> str:
    names = [name for _, name, *_ in connection.execute(f"PRAGMA main.table_info({table})")]
    return ", ".join(name for name in names if name not in _NUMBERED)


def _of_old(columns: str) -> str:
    return ", ".join(f"old.{name}" for name in columns.split(", "))
