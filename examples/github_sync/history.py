"""The history of a repository: page after page, newest first, from a checkpoint that each page moves on.

A page's rows and the checkpoint are one transaction. Who is killed in the middle of a page asks for it again; who is
killed behind it does not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.orm import Session

import otelsync

from .fetching import Fetcher, Page, PageSize
from .github_api import GithubApi
from .graphql_records import Node, moment
from .storing import store_pulls, store_repository
from .tables import Checkpoint, TrackedRepository

RECENT, REST = 1, 2
"""The phases: the last days, and everything before them."""
_FAR: Final = datetime(9999, 1, 1, tzinfo=UTC)
_NEWEST: Final = datetime(9998, 1, 1, tzinfo=UTC)


@dataclass
class Tally:
    """What became of the pull requests of a repository; `error`: why it could not be finished."""

    repository: str
    counts: Counter[str] = field(default_factory=Counter)
    error: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return it as a task's result."""
        return {"repository": self.repository, **self.counts, "error": self.error}


def first_day(months: int, today: datetime) -> datetime:
    """Return the first day of the month that was so many months before `today`."""
    place = today.year * 12 + today.month - 1 - months
    return datetime(place // 12, place % 12 + 1, 1, tzinfo=UTC)


def window(phase: int, now: datetime, *, recent_days: int, months: int) -> tuple[datetime, datetime]:
    """Return the newest and the oldest moment at which pull requests of a phase were opened."""
    boundary = (now - timedelta(days=recent_days)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (_FAR, boundary) if phase == RECENT else (boundary, min(first_day(months, now), boundary))


class HistorySync:
    """Syncs one phase of the history of one tracked repository.

    Args:
        engine: The database.
        api: GitHub.
        tracked_id: Which repository.
        phase: RECENT or REST.
        span: The newest and the oldest moment, where the phase has not begun before.
        page_size: Pull requests a page, at most.
    """

    def __init__(
        self,
        engine: Engine,
        api: GithubApi,
        tracked_id: int,
        phase: int,
        span: tuple[datetime, datetime],
        page_size: int,
    ) -> None:
        self._engine = engine
        self._api = api
        self._key = (tracked_id, phase)
        self._span = span
        self._size = PageSize(page_size)
        self._total: int | None = None

    def run(self, tally: Tally) -> None:
        """Sync from the checkpoint to the end of the phase; what it has counted is in the tally, also if it raises."""
        with otelsync.repo(tally.repository, phase=self._key[1]) as stage:
            checkpoint = self._begin()
            fetcher = Fetcher(self._api, tally.repository, self._size)
            tracker: Any = stage.track()
            while not checkpoint.is_done:
                before = sum(tally.counts.values())
                checkpoint = self._page(fetcher, checkpoint, tally)
                tracker.total = self._total
                tracker.advance(sum(tally.counts.values()) - before)
            self._finish()

    def _page(self, fetcher: Fetcher, checkpoint: Checkpoint, tally: Tally) -> Checkpoint:
        """Sync the page behind the checkpoint; returns the checkpoint behind the page."""
        after = [checkpoint]

        def take(page: Page) -> None:
            wanted = [pull for pull in page.pulls if checkpoint.oldest <= _opened(pull) < checkpoint.newest]
            problems = fetcher.complete(wanted)
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                tracked, behind = self._rows(session)
                store_repository(session, tracked, page.repository)
                counts = store_pulls(session, tracked, wanted, problems)
                reached = any(_opened(pull) < behind.oldest for pull in page.pulls)
                self._move(tracked, behind, page, len(wanted), reached=reached)
            after.append(behind)
            tally.counts.update(counts)

        oldest, newest = checkpoint.oldest.date(), checkpoint.newest
        created = f"{oldest}..{newest.date()}" if newest < _FAR else f">={oldest}"
        fetcher.page(checkpoint.pages + 1, checkpoint.cursor, f"repo:{tally.repository} is:pr created:{created}", take)
        return after[-1]

    def _move(
        self, tracked: TrackedRepository, checkpoint: Checkpoint, page: Page, done: int, *, reached: bool
    ) -> None:
        """Move the checkpoint behind a page; where the phase ends in it, the next phase begins with it again."""
        checkpoint.pages += 1
        checkpoint.completed += done
        checkpoint.is_done = reached or page.end_cursor is None
        if not reached:
            checkpoint.cursor = page.end_cursor
        # The search counts by days, of which a phase may end within one.
        self._total = checkpoint.completed if checkpoint.is_done else max(page.in_window, checkpoint.completed)
        tracked.sync_prs_total = self._total
        tracked.sync_prs_completed = checkpoint.completed
        tracked.sync_progress = 100 if checkpoint.is_done else checkpoint.completed * 100 // max(self._total, 1)

    def _begin(self) -> Checkpoint:
        """Return the checkpoint to go on from; one that begins where the phase before has ended, or at the newest."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            tracked = session.get_one(TrackedRepository, self._key[0])
            tracked.sync_status, tracked.sync_error = "syncing", None
            checkpoint = session.get(Checkpoint, self._key)
            if checkpoint is None:
                before = session.get(Checkpoint, (self._key[0], self._key[1] - 1))
                newest, oldest = (before.oldest, self._span[1]) if before else self._span
                checkpoint = Checkpoint(tracked_id=self._key[0], phase=self._key[1], newest=newest, oldest=oldest)
                checkpoint.cursor = before.cursor if before is not None else None
                checkpoint.pages = checkpoint.completed = 0
                checkpoint.is_done = False
                tracked.sync_started_at = datetime.now(UTC)
                tracked.sync_progress = tracked.sync_prs_completed = 0
                session.add(checkpoint)
            return checkpoint

    def _finish(self) -> None:
        with Session(self._engine) as session, session.begin():
            tracked, checkpoint = self._rows(session)
            tracked.sync_status, tracked.sync_progress = "completed", 100
            tracked.sync_prs_completed = checkpoint.completed
            tracked.last_synced_at = datetime.now(UTC)

    def _rows(self, session: Session) -> tuple[TrackedRepository, Checkpoint]:
        return session.get_one(TrackedRepository, self._key[0]), session.get_one(Checkpoint, self._key)


def _opened(pull: Node) -> datetime:
    """Return when a pull request was opened; one that does not say counts as new."""
    try:
        return moment(pull.get("createdAt")) or _NEWEST
    except (ValueError, TypeError, AttributeError):
        return _NEWEST
