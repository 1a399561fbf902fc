"""The tables that a sync fills, and the comparison that tells a new record from a changed and an unchanged one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from sqlalchemy import (
    URL,
    BigInteger,
    DateTime,
    Dialect,
    Engine,
    ForeignKey,
    TypeDecorator,
    UniqueConstraint,
    create_engine,
    event,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

Action = Literal["created", "updated", "unchanged"]


class Moment(TypeDecorator[datetime]):
    """An instant: stored in UTC without an offset, read back with UTC attached."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """Store in UTC; a naive value counts as UTC, as GitHub's do."""
        if value is None:
            return None
        return value.replace(tzinfo=None) if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """Attach UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


class Table(DeclarativeBase):
    """What all tables have in common: nothing but the registry."""

    type_annotation_map = {int: BigInteger, datetime: Moment}  # noqa: RUF012 (SQLAlchemy's declaration)


class Repository(Table):
    """A repository, by GitHub's number: the name may change, the number does not."""

    __tablename__ = "repositories"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    full_name: Mapped[str] = mapped_column(index=True)
    description: Mapped[str | None]
    default_branch: Mapped[str | None]
    created_at: Mapped[datetime | None]


class PullRequest(Table):
    """A pull request as its repository's list shows it."""

    __tablename__ = "pull_requests"
    __table_args__ = (UniqueConstraint("repository_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id"))
    number: Mapped[int]
    title: Mapped[str]
    state: Mapped[str]
    draft: Mapped[bool]
    author: Mapped[str | None]
    body: Mapped[str | None]
    head_sha: Mapped[str | None]
    base_ref: Mapped[str | None]
    merge_commit_sha: Mapped[str | None]
    created_at: Mapped[datetime | None]
    updated_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    merged_at: Mapped[datetime | None]


class Review(Table):
    """A submitted review of a pull request."""

    __tablename__ = "reviews"

    pull_request_id: Mapped[int] = mapped_column(ForeignKey("pull_requests.id"), primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    author: Mapped[str | None]
    state: Mapped[str]
    body: Mapped[str | None]
    submitted_at: Mapped[datetime | None]


class ChangedFile(Table):
    """A file that a pull request changes."""

    __tablename__ = "files"

    pull_request_id: Mapped[int] = mapped_column(ForeignKey("pull_requests.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    additions: Mapped[int]
    deletions: Mapped[int]


class Commit(Table):
    """A commit of a pull request; the same commit may belong to several."""

    __tablename__ = "commits"

    pull_request_id: Mapped[int] = mapped_column(ForeignKey("pull_requests.id"), primary_key=True)
    sha: Mapped[str] = mapped_column(primary_key=True)
    author: Mapped[str | None]
    message: Mapped[str]
    authored_at: Mapped[datetime | None]


Detail = TypeVar("Detail", Review, ChangedFile, Commit)


@contextmanager
def connect(path: Path) -> Iterator[Engine]:
    """Open the SQLite database at `path`, made with its tables if it is not there, for the length of the block."""
    engine = create_engine(URL.create("sqlite", database=str(path)))
    event.listen(engine, "connect", _prepare)
    try:
        Table.metadata.create_all(engine)
        yield engine
    finally:
        engine.dispose()


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


def _prepare(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
