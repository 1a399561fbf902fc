"""The database, and the comparison that tells a new record from a changed and an unchanged one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.orm import Session

from .tables import ChangedFile, Commit, Label, Review, Table

Action = Literal["created", "updated", "unchanged"]


Detail = TypeVar("Detail", Review, ChangedFile, Commit, Label)


def engine_for(url: str) -> Engine:
    """Return an engine for a URL of SQLAlchemy's; a directory that SQLite needs is made."""
    parsed = make_url(url)
    engine = create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
    return engine


def upsert(session: Session, record: Table) -> Action:
    """Store `record` under its primary key and say whether that made or changed anything."""
    return _store(session, record, session.get(type(record), _key(record)))


def replace_details(session: Session, pull_request_id: int, kind: type[Detail], found: Sequence[Detail]) -> bool:
    """Make the pull request's reviews, files or commits those that were `found`; True if anything was different."""
    left = {_key(row): row for row in session.scalars(select(kind).where(kind.pull_request_id == pull_request_id))}
    changed = False
    for key, record in {_key(record): record for record in found}.items():
        stored = left.pop(key, None)
        changed |= _store(session, record, stored) != "unchanged"
    for row in left.values():
        session.delete(row)
    return changed or bool(left)


def _store(session: Session, record: Table, stored: Table | None) -> Action:
    if stored is None:
        session.add(record)
        return "created"
    changed = {name: value for name, value in _columns(record).items() if not _same(getattr(stored, name), value)}
    for name, value in changed.items():
        setattr(stored, name, value)
    return "updated" if changed else "unchanged"


def _key(record: Table) -> tuple[object, ...]:
    return tuple(getattr(record, column.key) for column in type(record).__table__.primary_key)


def _columns(record: Table) -> Mapping[str, object]:
    return {column.key: getattr(record, column.key) for column in type(record).__table__.columns}


def _same(stored: object, value: object) -> bool:
    if isinstance(value, datetime) and value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return stored == value


def read_only(engine: Engine) -> Engine:
    """Return the engine for transactions that only read, which hold up nobody."""
    return engine.execution_options(sqlite_begin="DEFERRED")


def _begin(connection: Connection) -> None:
    """Begin as a writer: a reader that becomes one is refused at once if somebody has written meanwhile."""
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('sqlite_begin', 'IMMEDIATE')}")


def _prepare(connection: object, _record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # the driver begins no transactions of its own
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("busy_timeout=60000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
