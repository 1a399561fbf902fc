"""Connections to the store's file: opened, checked, made where it is missing, and what SQLite's errors mean."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from otelsync.errors import StoreError
from otelsync.journal.belonging import hand_over
from otelsync.store import schema
from otelsync.store.histogram import merge_histograms

PATIENCE: Final = 5.0
"""Seconds to wait for another process that is writing."""


class DamagedError(StoreError):
    """The file is not a SQLite database any more."""


_MEMORY: Final = "otelsync-memory:"
KEEP_IN_MEMORY: Final = "PRAGMA temp_store = MEMORY"
"""A pragma: where nothing but the home can be written there is no place for temporary files."""
ELSEWHERE: Final = "set OTELSYNC_STORE_PATH to a file that can be written"


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, and make it and its tables if they are missing."""
    if not is_memory(path):
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600))
            hand_over(path)
        if path.is_symlink() and not path.exists():
            raise StoreError(
                f"the store {path} is a link that leads nowhere: remove it, make its target, or {ELSEWHERE}"
            )
    connection = sqlite3.connect(
        address(path, "rw"), uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute(KEEP_IN_MEMORY)
        connection.create_function("otelsync_merge", 2, merge_histograms, deterministic=True)
        has_tables(connection, path)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _switch_to_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        with transaction(connection):
            if not has_tables(connection, path):
                for statement in schema.SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {schema.VERSION}")
                connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(schema.ACCOUNTS)  # files of earlier versions have none
    except sqlite3.Error as error:
        connection.close()
        raise translated(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


_FILES: Final = "unix" if os.name == "posix" else "win32"
"""SQLite's way to files. Unless it is said, a file that is attached to a store in memory is taken for another such."""


def in_memory() -> Path:
    """Return what stands for a store in memory in place of a path; it is there for as long as somebody has it open."""
    return Path(f"{_MEMORY}{os.urandom(8).hex()}")


def is_memory(path: Path) -> bool:
    """Return whether a path stands for a store in memory."""
    return str(path).startswith(_MEMORY)


def address(path: Path, mode: str) -> str:
    """Return the URI of a store. `mode`: ``ro`` to read it alone, or ``rw``."""
    if is_memory(path):
        return f"file:/{quote(path.name)}?vfs=memdb&mode={mode}"
    return f"file:{quote(os.fsencode(path))}?vfs={_FILES}&mode={mode}"


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Let readers and one writer work at the same time. SQLite does not wait here for others that do the same."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def has_tables(connection: sqlite3.Connection, path: Path, of: str = "main") -> bool:
    """Return whether the file has our tables; False if it is empty. Raises StoreError for anything else."""
    (version,) = connection.execute(f"PRAGMA {of}.user_version").fetchone()
    (application,) = connection.execute(f"PRAGMA {of}.application_id").fetchone()
    (tables,) = connection.execute(f"SELECT count(*) FROM {of}.sqlite_master").fetchone()
    if tables == 0:
        return False
    if application != schema.APPLICATION_ID:
        raise StoreError(f"{path} is a SQLite file of another program; {ELSEWHERE}")
    if version != schema.VERSION:
        raise StoreError(f"{path} was written by another version of otelsync (its tables: {version}); {ELSEWHERE}")
    return True


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    """Return an error of ours for one of SQLite's, with the fix."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return DamagedError(f"the store {path} is damaged ({error})")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(f"the store {path} is busy: another process has been writing for {PATIENCE:g} s; try again")
    if name.startswith("SQLITE_FULL"):
        return StoreError(f"no space left for the store {path}; free some, or {ELSEWHERE}")
    return StoreError(f"the store {path} cannot be used ({error}); {ELSEWHERE}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Let everything inside happen, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
