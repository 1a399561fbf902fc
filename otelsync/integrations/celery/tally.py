"""Tallies of what is outstanding of a dispatched pipeline: a set that becomes empty exactly once.

Its members are the ids of tasks that were published and have not ended for good, and a hold of the dispatcher. A
member is put in before its message goes out, and taken out after everything that follows from it was put in, so the
set is empty only when nothing is left. Sets and not counters, so that a message that is delivered twice does no harm;
figures are added only by a removal that removed something. Emptying a set and claiming its contents is one step.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from otelsync.journal.belonging import make_file
from otelsync.journal.segment import make_private

HOLD: Final = "hold"
"""The dispatcher's own member: nothing is empty before it has published everything."""
KEPT_SECONDS: Final = 7 * 24 * 3600
"""Seconds for which a tally is kept after its last change. One of which a message was lost would stay for ever."""
WAIT_SECONDS: Final = 2.0
"""Seconds that a store may take to answer."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Contents of a tally that has become empty. Nobody else is given them."""

    details: str
    """As it was opened with."""
    figures: dict[str, int] = field(default_factory=dict)
    """By name, the sums of what the removals brought."""


class Tally(Protocol):
    """A place for tallies. Every method raises what its store raises."""

    def open(self, run: str, details: str) -> None:
        """Begin the tally of `run`, with the hold in it."""

    def add(self, run: str, member: str) -> bool:
        """Put a member in; False if it is in already, or the tally is over."""

    def remove(self, run: str, member: str, figures: Mapping[str, int]) -> Claim | None:
        """Take a member out and add its figures; what the tally held, if it was the last one."""

    def discard(self, run: str) -> None:
        """Forget a tally."""


_OPEN: Final = """
redis.call('HSET', KEYS[1], 'details', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[1])
"""
_ADD: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('EXPIRE', KEYS[1], ARGV[1])
local added = redis.call('SADD', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[1])
return added
"""
_REMOVE: Final = """
if redis.call('SREM', KEYS[2], ARGV[2]) == 0 then return false end
for at = 3, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], '+' .. ARGV[at], ARGV[at + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('EXPIRE', KEYS[2], ARGV[1])
  return false
end
local all = redis.call('HGETALL', KEYS[1])
redis.call('DEL', KEYS[1])
return all
"""


class RedisClient(Protocol):
    """The part of ``redis.Redis`` that is needed."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a script, as one step."""

    def delete(self, *names: str) -> Any:
        """Delete keys."""

    @property
    def connection_pool(self) -> Any:
        """Its connections."""


class RedisTally(Tally):
    """Tallies in Redis: for workers on any number of hosts.

    Args:
        client: A connection of our own, which waits for nothing long.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    def open(self, run: str, details: str) -> None:
        self._run(_OPEN, run, details, HOLD)

    def add(self, run: str, member: str) -> bool:
        return bool(self._run(_ADD, run, member))

    def remove(self, run: str, member: str, figures: Mapping[str, int]) -> Claim | None:
        found = self._run(_REMOVE, run, member, *(part for pair in figures.items() for part in pair))
        if not found:
            return None
        texts = [part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in found]
        pairs = dict(zip(texts[0::2], texts[1::2], strict=False))
        sums = {name[1:]: int(number) for name, number in pairs.items() if name.startswith("+")}
        return Claim(pairs.get("details", ""), sums)

    def discard(self, run: str) -> None:
        self._client.delete(*_keys(run))

    def _run(self, script: str, run: str, *arguments: str | int) -> Any:
        return self._client.eval(script, 2, *_keys(run), KEPT_SECONDS, *arguments)


def _keys(run: str) -> tuple[str, str]:
    """Both in one slot of a cluster."""
    return f"otelsync:{{{run}}}:run", f"otelsync:{{{run}}}:outstanding"


_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, details TEXT NOT NULL, changed REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outstanding (
  run TEXT NOT NULL, member TEXT NOT NULL, PRIMARY KEY (run, member)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS figures (
  run TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (run, name)
) WITHOUT ROWID;
"""


class SqliteTally(Tally):
    """Tallies in a file: for workers that share a host and a home with the dispatcher.

    Each call has a connection of its own, so there is none that a fork could take along.

    Args:
        path: The file; made when it is first needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, run: str, details: str) -> None:
        """Begin the tally of `run`, with the hold in it, and forget those that nothing has come to for long."""
        now = time.time()
        make_private(self._path.parent)
        make_file(self._path)
        with closing(self._connect()) as connection:
            connection.executescript(_SCHEMA)
        with self._transaction() as connection:
            old = connection.execute("SELECT run FROM runs WHERE changed < ?", (now - KEPT_SECONDS,)).fetchall()
            for (other,) in old:
                _forget(connection, other)
            connection.execute("INSERT INTO runs VALUES (?, ?, ?)", (run, details, now))
            connection.execute("INSERT INTO outstanding VALUES (?, ?)", (run, HOLD))

    def add(self, run: str, member: str) -> bool:
        with self._transaction() as connection:
            if not connection.execute("UPDATE runs SET changed = ? WHERE run = ?", (time.time(), run)).rowcount:
                return False
            added = connection.execute("INSERT OR IGNORE INTO outstanding VALUES (?, ?)", (run, member)).rowcount
            return added > 0

    def remove(self, run: str, member: str, figures: Mapping[str, int]) -> Claim | None:
        with self._transaction() as connection:
            if not connection.execute("DELETE FROM outstanding WHERE run = ? AND member = ?", (run, member)).rowcount:
                return None
            connection.execute("UPDATE runs SET changed = ? WHERE run = ?", (time.time(), run))
            connection.executemany(
                "INSERT INTO figures VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET number = number + excluded.number",
                [(run, name, number) for name, number in figures.items()],
            )
            if connection.execute("SELECT 1 FROM outstanding WHERE run = ? LIMIT 1", (run,)).fetchone():
                return None
            (details,) = connection.execute("SELECT details FROM runs WHERE run = ?", (run,)).fetchone()
            sums = connection.execute("SELECT name, number FROM figures WHERE run = ?", (run,)).fetchall()
            _forget(connection, run)
            return Claim(details, dict(sums))

    def discard(self, run: str) -> None:
        with self._transaction() as connection:
            _forget(connection, run)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody else writes during."""
        with closing(self._connect()) as connection, connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def _connect(self) -> sqlite3.Connection:
        """A connection to the file, if it is there: a worker of another host must not make one of its own."""
        return sqlite3.connect(f"{self._path.as_uri()}?mode=rw", uri=True, timeout=WAIT_SECONDS, isolation_level=None)


def _forget(connection: sqlite3.Connection, run: str) -> None:
    for table in ("runs", "outstanding", "figures"):
        connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
