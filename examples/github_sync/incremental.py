"""What has changed in a repository since the last time: found by the issues list, fetched by GraphQL.

The pulls list of REST knows no ``since``; the issues list does, and holds pull requests too. `since` is the latest
change that was seen, less a small overlap, and not the time of the last sync: so the address is the same as long as
nothing changes, and GitHub answers 304, which costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

import otelsync

from .fetching import Fetcher, PageSize
from .github_api import GithubApi, Listed
from .graphql_records import Node, moment
from .history import Tally
from .storing import store_pulls, store_repository
from .tables import PullRequest, TrackedRepository

OVERLAP: Final = timedelta(seconds=1)
"""GitHub's times are in whole seconds: what changed within the last one seen may have been shown in part."""
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class IncrementalSync:
    """Syncs the changes of one tracked repository whose history is there."""

    def __init__(self, engine: Engine, api: GithubApi, tracked_id: int, page_size: int) -> None:
        self._engine = engine
        self._api = api
        self._tracked_id = tracked_id
        self._page_size = page_size

    def run(self, tally: Tally) -> None:
        """Sync what has changed; raises what the history's sync raises."""
        with otelsync.repo(tally.repository) as stage:
            since, etag = self._begin()
            changed, latest, fresh = self._changed(tally.repository, since, etag)
            # Where GitHub said that a list has changed that was known, what it shows is asked for, whatever the times.
            numbers = list(changed) if etag else self._newer(changed)
            self._fetch(tally, numbers, stage.track(total=len(numbers)))
            self._finish(latest, fresh)

    def these(self, tally: Tally, numbers: Sequence[int]) -> None:
        """Sync the pull requests of these numbers."""
        with otelsync.repo(tally.repository) as stage:
            self._fetch(tally, numbers, stage.track(total=len(numbers)))

    def _fetch(self, tally: Tally, numbers: Sequence[int], tracker: Any) -> None:
        fetcher = Fetcher(self._api, tally.repository, PageSize(self._page_size))

        def take(repository: Node, pulls: list[Node]) -> None:
            tally.counts.update(self._store(repository, pulls, fetcher))
            tracker.advance(len(pulls))

        fetcher.by_number(numbers, take)

    def _changed(
        self, name: str, since: datetime, etag: str | None
    ) -> tuple[dict[int, datetime], datetime, str | None]:
        """Return when which pull requests have changed, the latest change, and the ETag of the first page."""
        path = f"/repos/{name}/issues"
        asked = {
            "state": "all",
            "sort": "updated",
            "direction": "asc",
            "since": since.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "per_page": 100,
        }
        latest, changed, first, page = since + OVERLAP, dict[int, datetime](), etag, 0
        while True:
            page += 1
            with otelsync.api_call("list_changed_issues", kind="rest", page=page) as call:
                listed = self._api.page(call, path, {**asked, "page": page}, etag=etag if page == 1 else None)
                call.set(**{"sync.api.items": len(listed.items or ())})
            first = listed.etag if page == 1 else first
            latest = max(latest, _take_page(listed, changed))
            if not listed.has_next:
                # An ETag is of an address; where the next one is another, it tells nothing.
                return changed, latest, first if latest - OVERLAP == since else None

    def _newer(self, changed: Mapping[int, datetime]) -> list[int]:
        """Return the numbers of those that the database does not know as they are now."""
        with Session(self._engine) as session:
            tracked = session.get_one(TrackedRepository, self._tracked_id)
            rows = select(PullRequest.number, PullRequest.updated_at).where(
                PullRequest.repository_id == tracked.repository_id, PullRequest.number.in_(changed)
            )
            stored = {row.number: row.updated_at for row in session.execute(rows)}
        return [number for number, when in changed.items() if (stored.get(number) or _EPOCH) < when]

    def _store(self, repository: Node, pulls: list[Node], fetcher: Fetcher) -> Counter[str]:
        problems = fetcher.complete(pulls)
        with Session(self._engine) as session, session.begin():
            tracked = session.get_one(TrackedRepository, self._tracked_id)
            store_repository(session, tracked, repository)
            return store_pulls(session, tracked, pulls, problems)

    def _begin(self) -> tuple[datetime, str | None]:
        """Return since when to ask, and the ETag of that list."""
        with Session(self._engine) as session, session.begin():
            tracked = session.get_one(TrackedRepository, self._tracked_id)
            tracked.sync_status, tracked.sync_error = "syncing", None
            tracked.sync_started_at = datetime.now(UTC)
            if tracked.seen_until is None:
                own = select(PullRequest.updated_at).where(PullRequest.repository_id == tracked.repository_id)
                latest = session.scalars(own.order_by(PullRequest.updated_at.desc()).limit(1)).first()
                tracked.seen_until = latest or datetime(2008, 1, 1, tzinfo=UTC)
            return tracked.seen_until - OVERLAP, tracked.list_etag

    def _finish(self, latest: datetime, etag: str | None) -> None:
        with Session(self._engine) as session, session.begin():
            tracked = session.get_one(TrackedRepository, self._tracked_id)
            tracked.seen_until, tracked.list_etag = latest, etag
            tracked.sync_status, tracked.sync_progress = "completed", 100
            tracked.last_synced_at = datetime.now(UTC)


def _take_page(listed: Listed, changed: dict[int, datetime]) -> datetime:
    """Add the pull requests of a page to those that have changed; returns its latest change."""
    latest = _EPOCH
    for issue in listed.items or ():
        when = moment(issue.get("updated_at")) or _EPOCH
        latest = max(latest, when)
        if issue.get("pull_request") and isinstance(issue.get("number"), int):
            changed[issue["number"]] = when
    return latest
