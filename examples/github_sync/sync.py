"""The sync: pull requests, reviews, files and commits of some repositories, from GitHub into the database.

A pull request is one transaction. One that fails is recorded as failed and the rest go on; so it is with a repository.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Literal

from github.PaginatedList import PaginatedList
from github.PullRequest import PullRequest as GithubPullRequest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

import otelsync
from otelsync.stages.stage import Stage

from .client import PER_PAGE, GithubClient
from .database import Action, ChangedFile, Commit, Review, replace_details, upsert
from .progress import Display
from .records import commit_record, file_record, pull_request_record, repository_record, review_record

Outcome = Literal["success", "partial", "failure"]


@dataclass
class Tally:
    """What became of the pull requests of one repository; `error` is why it could not be finished."""

    repository: str
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    error: str | None = None

    def add(self, action: str) -> None:
        """Count one pull request."""
        setattr(self, action, getattr(self, action) + 1)

    @property
    def fetched(self) -> int:
        """All pull requests that were looked at: the sum of the other figures."""
        return self.created + self.updated + self.unchanged + self.skipped + self.failed

    @property
    def outcome(self) -> Outcome:
        """Partial if some pull requests failed, failure if the repository itself did."""
        if self.error is not None:
            return "failure"
        return "partial" if self.failed else "success"

    def __str__(self) -> str:
        """``12 fetched: 10 created, 2 failed``."""
        figures = {name: getattr(self, name) for name in ("created", "updated", "unchanged", "skipped", "failed")}
        parts = ", ".join(f"{figure} {name}" for name, figure in figures.items() if figure) or "nothing to do"
        reason = f"; {self.error}" if self.error is not None else ""
        return f"{self.fetched} fetched: {parts}{reason}"


@dataclass
class Summary:
    """The result of a run."""

    sync_id: str
    trace_id: str
    repositories: list[Tally] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        """Failure only if no repository could be done at all."""
        outcomes = Counter(tally.outcome for tally in self.repositories)
        if outcomes["failure"] == len(self.repositories):
            return "failure"
        return "success" if outcomes["success"] == len(self.repositories) else "partial"

    @property
    def exit_code(self) -> int:
        """0 for success and partial, 1 for failure."""
        return 1 if self.outcome == "failure" else 0


@dataclass(frozen=True)
class GithubSync:
    """Syncs repositories one after the other.

    A pull request whose row is unchanged keeps its details unasked, for that costs three requests: GitHub moves
    `updated_at` with every review and push. With `full` they are asked for and compared all the same. With `since`,
    pull requests last updated before it are skipped.
    """

    client: GithubClient
    engine: Engine
    display: Display
    full: bool = False
    since: datetime | None = None

    def run(self, names: Sequence[str]) -> Summary:
        """Sync the repositories of these names (``owner/name``)."""
        with otelsync.pipeline("github.onboarding", repositories=len(names)) as run:
            summary = Summary(run.sync_id, run.trace_id)
            run.phase("syncing")
            for name in run.track(names):
                summary.repositories.append(self.repository(name))
            run.phase("finishing")
            if summary.outcome == "failure":
                run.fail("no repository could be synced")
        return summary

    def repository(self, name: str) -> Tally:
        """Sync one repository. What goes wrong with it is in the tally, and raises nothing."""
        tally = Tally(name)
        try:
            with otelsync.repo(name) as stage:
                self._pull_requests(stage, name, tally)
        except Exception as error:
            # The stage has recorded it; the other repositories are not to suffer.
            tally.error = _reason(error)
        self.display.repository_done(name, str(tally))
        return tally

    def _pull_requests(self, stage: Stage, name: str, tally: Tally) -> None:
        repository = self.client.repository(name)
        record = repository_record(repository)
        repository_id = record.id
        with Session(self.engine) as session, session.begin():
            upsert(session, record)
        # Oldest first: what is opened meanwhile comes at the end, and pages do not shift.
        listing = repository.get_pulls(state="all", sort="created", direction="asc")
        total = self.client.size("count_pull_requests", listing)
        self.display.repository(name, total)
        with closing(self._listed(listing, total)) as pulls:
            for pull in stage.track(pulls, total=total):
                self._pull_request(pull, repository_id, tally)
                self.display.advance()

    def _listed(
        self, listing: PaginatedList[GithubPullRequest], total: int
    ) -> Generator[GithubPullRequest, None, None]:
        """Page after page; what happens to a pull request belongs to the API call that has brought it."""
        for number in count():
            with self.client.page("list_pull_requests", listing, number) as page:
                yield from page
            if len(page) < PER_PAGE or (number + 1) * PER_PAGE >= total:
                return

    def _pull_request(self, pull: GithubPullRequest, repository_id: int, tally: Tally) -> None:
        number, state = _identity(pull)
        try:
            with otelsync.pull_request(number, state=state) as stage:
                tally.add(self._synced(stage, pull, repository_id))
        except Exception:
            # The stage has recorded it; the other pull requests are not to suffer.
            tally.add("failed")

    def _synced(self, stage: Stage, pull: GithubPullRequest, repository_id: int) -> str:
        if self.since is not None and pull.updated_at is not None and pull.updated_at < self.since:
            stage.skip("not updated since the date asked for")
            return "skipped"
        action = self._store(pull, repository_id)
        stage.set(action=action)
        return action

    def _store(self, pull: GithubPullRequest, repository_id: int) -> Action:
        with Session(self.engine) as session, session.begin():
            action = upsert(session, pull_request_record(pull, repository_id))
            if action == "unchanged" and not self.full:
                return action
            changed = self._details(session, pull)
        return "updated" if changed and action == "unchanged" else action

    def _details(self, session: Session, pull: GithubPullRequest) -> bool:
        reviews = self.client.all("list_reviews", pull.get_reviews())
        files = self.client.all("list_files", pull.get_files())
        commits = self.client.all("list_commits", pull.get_commits())
        changes = [
            replace_details(session, pull.id, Review, [review_record(review, pull.id) for review in reviews]),
            replace_details(session, pull.id, ChangedFile, [file_record(file, pull.id) for file in files]),
            replace_details(session, pull.id, Commit, [commit_record(commit, pull.id) for commit in commits]),
        ]
        return any(changes)


def _identity(pull: GithubPullRequest) -> tuple[int, str]:
    """Number and state; 0 where the answer is too broken to tell, so that it fails alone and not with its page."""
    try:
        return pull.number, pull.state
    except Exception:
        return 0, "unknown"


def _reason(error: Exception) -> str:
    status = getattr(error, "status", None)
    return f"{type(error).__qualname__}({status})" if status is not None else type(error).__qualname__
