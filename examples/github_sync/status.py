"""How far a team's sync is, from the database: for the command line and for the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from .database import read_only
from .tables import DeadLetter, LlmBatch, Onboarding, TrackedRepository
from .tokens import Standing

BADGES = {"pending": "Waiting", "syncing": "Syncing", "completed": "Synced", "failed": "Error"}


@dataclass(frozen=True, slots=True)
class RepositoryStatus:
    """A repository's line."""

    full_name: str
    badge: str
    progress: int
    completed: int
    total: int | None
    error: str | None
    dead_letters: int
    last_synced_at: str | None


@dataclass(frozen=True, slots=True)
class Limit:
    """What is left of a resource for a token; moments in epoch seconds."""

    token: str
    resource: str
    remaining: int
    reset: float
    blocked_until: float


@dataclass(frozen=True, slots=True)
class TeamStatus:
    """A team's sync."""

    team: str
    phase: str
    sync_id: str | None
    started_at: str | None
    repositories: list[RepositoryStatus]
    batches: dict[str, int]
    limits: list[Limit]
    eta_seconds: float | None
    """Seconds that the rest of the pull requests will take, with the waits for limits; None: it cannot be said yet."""
    waiting_seconds: float
    """Seconds for which a limit still holds; 0: none does."""

    @property
    def outcome(self) -> str:
        """Return ``success``, ``partial``, ``failure``, or ``running``."""
        badges = [repository.badge for repository in self.repositories]
        if any(badge in ("Syncing", "Waiting") for badge in badges):
            return "running"
        failed = badges.count("Error")
        if failed and failed == len(badges):
            return "failure"
        return "partial" if failed or any(repository.dead_letters for repository in self.repositories) else "success"

    @property
    def done(self) -> tuple[int, int]:
        """Return how many of how many repositories are over."""
        over = sum(repository.badge in ("Synced", "Error") for repository in self.repositories)
        return over, len(self.repositories)

    @property
    def pulls(self) -> tuple[int, int]:
        """Return how many of how many pull requests are stored, as far as is known by now."""
        stored = sum(repository.completed for repository in self.repositories)
        return stored, max(stored, sum(repository.total or 0 for repository in self.repositories))

    @property
    def analysed(self) -> tuple[int, int]:
        """Return how many of how many batches for the language model are over."""
        over = sum(number for name, number in self.batches.items() if name in ("completed", "failed"))
        return over, sum(self.batches.values())

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"outcome": self.outcome}


def read(engine: Engine, team: str, standings: dict[str, Standing], now: datetime | None = None) -> TeamStatus:
    """Return how far a team's sync is; `standings`: what is known of the tokens, by key."""
    now = now or datetime.now(UTC)
    with Session(read_only(engine)) as session:
        row = session.get(Onboarding, team)
        letters = _by_key(session, select(DeadLetter.tracked_id, func.count()).group_by(DeadLetter.tracked_id))
        tracked = session.scalars(
            select(TrackedRepository)
            .where(TrackedRepository.team == team, TrackedRepository.is_active)
            .order_by(TrackedRepository.activity.desc(), TrackedRepository.full_name)
        ).all()
        own = select(LlmBatch.status, func.count()).where(LlmBatch.team == team)
        batches = _by_key(session, own.group_by(LlmBatch.status))
        limits = [limit for key, standing in sorted(standings.items()) for limit in _limits(key, standing, now)]
        return TeamStatus(
            team=team,
            phase=row.phase if row is not None else "",
            sync_id=row.sync_id if row is not None else None,
            started_at=_text(row.started_at if row is not None else None),
            repositories=[_line(each, letters.get(each.id, 0)) for each in tracked],
            batches=batches,
            limits=limits,
            eta_seconds=_eta(tracked, limits, now),
            waiting_seconds=_waiting(limits, now),
        )


def teams(engine: Engine) -> list[str]:
    """Return the names of all teams."""
    with Session(read_only(engine)) as session:
        return list(session.scalars(select(TrackedRepository.team).distinct().order_by(TrackedRepository.team)))


def _by_key(session: Session, pairs: Any) -> dict[Any, int]:
    return {row[0]: row[1] for row in session.execute(pairs)}


def _line(row: TrackedRepository, letters: int) -> RepositoryStatus:
    return RepositoryStatus(
        full_name=row.full_name,
        badge=BADGES.get(row.sync_status, row.sync_status),
        progress=row.sync_progress,
        completed=row.sync_prs_completed,
        total=row.sync_prs_total,
        error=row.sync_error,
        dead_letters=letters,
        last_synced_at=_text(row.last_synced_at),
    )


def _limits(key: str, standing: Standing, now: datetime) -> list[Limit]:
    found = []
    for resource in sorted({*standing.remaining, *standing.blocked}):
        blocked = standing.blocked.get(resource, 0.0)
        reset = standing.resets.get(resource, 0.0)
        if max(blocked, reset) > now.timestamp():
            remaining = standing.remaining.get(resource, 0)
            found.append(Limit(key[:8], resource, remaining, reset, blocked if blocked > now.timestamp() else 0.0))
    return found


def _eta(tracked: Any, limits: list[Limit], now: datetime) -> float | None:
    """Return the seconds that are left: at the pace so far, which has had its waits, and the wait that is going on.

    A repository that has not begun counts as large as the others are on average.
    """
    running = [row for row in tracked if row.sync_started_at is not None and row.sync_status == "syncing"]
    done = sum(row.sync_prs_completed for row in running)
    left = float(sum(max(0, (row.sync_prs_total or 0) - row.sync_prs_completed) for row in running))
    if not running or not done:
        return None
    totals = [row.sync_prs_total for row in tracked if row.sync_prs_total is not None]
    pending = [row for row in tracked if row.sync_status == "pending"]
    left += len(pending) * sum(totals) / max(len(totals), 1)  # of those that have not begun, as of the others
    began: datetime = min(row.sync_started_at for row in running)
    seconds: float = (now - began).total_seconds() / done * left
    return round(seconds + _waiting(limits, now), 1)


def _waiting(limits: list[Limit], now: datetime) -> float:
    """Return the seconds of the longest wait that is going on."""
    waits = [limit.blocked_until - now.timestamp() for limit in limits if limit.blocked_until]
    return round(max(waits, default=0.0), 1)


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``12s``, ``3m20s``, ``1h05m``."""
    whole = int(timedelta(seconds=round(max(0.0, seconds))).total_seconds())
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02}m"
