"""Retention: the oldest runs make room, by age and by size."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from otelsync.store.connection import transaction

_DELETED_AT_ONCE: Final = 20_000


def outdated(connection: sqlite3.Connection, *, max_bytes: int | None, max_age: float | None) -> tuple[str, int] | None:
    """Return trace id and time of the oldest run, if it has to go. The latest stays."""
    oldest = connection.execute("SELECT trace_id, start_ns, last_ns FROM runs ORDER BY start_ns LIMIT 2").fetchall()
    if len(oldest) < 2:
        return None
    trace_id, start_ns, last_ns = oldest[0]
    if max_age is not None and last_ns < time.time_ns() - max_age * 1e9:
        return trace_id, start_ns
    if max_bytes is not None and _size(connection) > max_bytes:
        return trace_id, start_ns
    return None


def delete_run(connection: sqlite3.Connection, trace_id: str, start_ns: int) -> None:
    """Delete one trace, and what was logged outside any trace before it began.

    A large one is deleted bit by bit, so that other writers get their turn, and its row in `runs` last, so that it is
    gone on with should it be interrupted.
    """
    for table in ("spans", "logs"):
        some = f"SELECT rowid FROM {table} WHERE trace_id = ? LIMIT {_DELETED_AT_ONCE}"
        while connection.execute(f"DELETE FROM {table} WHERE rowid IN ({some})", (trace_id,)).rowcount:
            pass
    with transaction(connection):
        connection.execute("DELETE FROM siblings WHERE trace_id = ?", (trace_id,))
        connection.execute("DELETE FROM accounts WHERE trace_id = ?", (trace_id,))
        connection.execute("DELETE FROM runs WHERE trace_id = ?", (trace_id,))
        connection.execute("DELETE FROM logs WHERE trace_id = '' AND time_ns < ?", (start_ns,))


def _size(connection: sqlite3.Connection) -> int:
    """Bytes in use."""
    (pages,), (free,), (page,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page)
