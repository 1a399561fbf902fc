"""The tables of the application.

What GitHub numbers keeps GitHub's number as its key: a name may change, the number does not.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, ForeignKey, Index, Integer, TypeDecorator, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


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

    type_annotation_map = {int: BigInteger().with_variant(Integer, "sqlite"), datetime: Moment}  # noqa: RUF012 (SQLAlchemy's declaration)


# What GitHub says


class Repository(Table):
    """A repository."""

    __tablename__ = "repositories"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    full_name: Mapped[str] = mapped_column(index=True)
    description: Mapped[str | None]
    default_branch: Mapped[str | None]
    created_at: Mapped[datetime | None]


class PullRequest(Table):
    """A pull request."""

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
    merged_at: Mapped[datetime | None] = mapped_column(index=True)


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


class Label(Table):
    """A label of a pull request."""

    __tablename__ = "labels"

    pull_request_id: Mapped[int] = mapped_column(ForeignKey("pull_requests.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)


# What the application keeps


class TrackedRepository(Table):
    """A repository that a team has asked for, and how far its sync is."""

    __tablename__ = "tracked_repositories"
    __table_args__ = (UniqueConstraint("team", "full_name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    team: Mapped[str] = mapped_column(index=True)
    full_name: Mapped[str]
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repositories.id"))
    is_active: Mapped[bool] = mapped_column(default=True)
    activity: Mapped[int] = mapped_column(default=0)
    """Pull requests of the last six months: the more, the earlier its turn."""
    sync_status: Mapped[str] = mapped_column(default="pending")
    """``pending``, ``syncing``, ``completed`` or ``failed``."""
    sync_progress: Mapped[int] = mapped_column(default=0)
    """Per cent."""
    sync_prs_total: Mapped[int | None]
    sync_prs_completed: Mapped[int] = mapped_column(default=0)
    sync_started_at: Mapped[datetime | None]
    sync_error: Mapped[str | None]
    last_synced_at: Mapped[datetime | None]
    seen_until: Mapped[datetime | None]
    """The latest change of a pull request that the incremental sync has seen."""
    list_etag: Mapped[str | None]
    """Of the list of what has changed since then."""


class Checkpoint(Table):
    """How far a phase of the history of a tracked repository is. It is written together with each page's rows."""

    __tablename__ = "checkpoints"

    tracked_id: Mapped[int] = mapped_column(ForeignKey("tracked_repositories.id"), primary_key=True)
    phase: Mapped[int] = mapped_column(primary_key=True)
    newest: Mapped[datetime]
    """Pull requests that were opened later belong to the phase before."""
    oldest: Mapped[datetime]
    """And those that were opened earlier to none."""
    cursor: Mapped[str | None]
    """Behind the last page that is stored; the next page begins here."""
    pages: Mapped[int] = mapped_column(default=0)
    completed: Mapped[int] = mapped_column(default=0)
    is_done: Mapped[bool] = mapped_column(default=False)


class DeadLetter(Table):
    """A pull request that could not be stored, and why."""

    __tablename__ = "dead_letters"

    tracked_id: Mapped[int] = mapped_column(ForeignKey("tracked_repositories.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    reason: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=1)
    failed_at: Mapped[datetime]


class Analysis(Table):
    """What is known of a pull request's making: by patterns at once, by a language model later."""

    __tablename__ = "analyses"

    pull_request_id: Mapped[int] = mapped_column(ForeignKey("pull_requests.id"), primary_key=True)
    is_ai_assisted: Mapped[bool]
    tools: Mapped[list[str]] = mapped_column(JSON)
    summary: Mapped[str | None]
    source: Mapped[str]
    """``patterns`` or ``model``."""
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("llm_batches.id"), index=True)


class LlmBatch(Table):
    """A batch of pull requests for the language model."""

    __tablename__ = "llm_batches"

    id: Mapped[int] = mapped_column(primary_key=True)
    team: Mapped[str] = mapped_column(index=True)
    number: Mapped[int]
    size: Mapped[int]
    remote_id: Mapped[str | None]
    """Groq's name of it; None as long as it could not be handed over."""
    status: Mapped[str] = mapped_column(default="queued")
    """``queued``, ``submitted``, ``completed`` or ``failed``."""
    error: Mapped[str | None]
    created_at: Mapped[datetime]
    input_tokens: Mapped[int] = mapped_column(default=0)
    output_tokens: Mapped[int] = mapped_column(default=0)


class Onboarding(Table):
    """The phase in which the onboarding of a team is."""

    __tablename__ = "onboardings"

    team: Mapped[str] = mapped_column(primary_key=True)
    phase: Mapped[str]
    sync_id: Mapped[str | None]
    started_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class WeeklyMetrics(Table):
    """Figures of a team and a repository for the week that begins on a Monday (UTC)."""

    __tablename__ = "weekly_metrics"
    __table_args__ = (Index("ix_weekly_metrics_team", "team", "week"),)

    tracked_id: Mapped[int] = mapped_column(ForeignKey("tracked_repositories.id"), primary_key=True)
    week: Mapped[date] = mapped_column(primary_key=True)
    team: Mapped[str]
    merged: Mapped[int]
    cycle_hours: Mapped[float | None]
    """Mean hours from a pull request's opening to its merge."""
    review_hours: Mapped[float | None]
    """Mean hours from its opening to the first review."""
    ai_share: Mapped[float]
    """Part of the merged ones that were made with AI tools, from 0 to 1."""
