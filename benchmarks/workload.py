"""The workload: repositories of pull requests, each a child span, a JSON log record with the span's ids, and the end.

The unit is one pull request: four attributes at the span's start, two set later, an event in one of fifty, one INFO
record with five fields in a file, and the span's end.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from time import perf_counter_ns
from typing import Final, NamedTuple, Protocol

PR_SPAN: Final = "sync.pr"
REPO_SPAN: Final = "sync.repo"
PR_LOGGED: Final = "sync.pr.synced"
PR_EVENT: Final = "sync.pr.reviewed"
SERVICE: Final = "benchmark"
PRS_PER_REPO: Final = 500
EVENT_EVERY: Final = 50


class PullRequest(NamedTuple):
    """What a sync knows of one pull request."""

    number: int
    change_id: str
    state: str
    author: str
    title: str
    page: int
    action: str
    files: int
    has_event: bool


Repositories = Sequence[tuple[str, Sequence[PullRequest]]]


class Setting(NamedTuple):
    """Where a variant writes its log file, where it sends its telemetry, and how many pull requests will come."""

    log_file: Path
    sink_url: str
    directory: Path
    prs: int


class Variant(Protocol):
    """One way to trace and log a sync, set up by being made."""

    def repo(self, name: str) -> AbstractContextManager[object]:
        """Open the span that the pull requests of one repository hang under."""

    def pull_request(self, pr: PullRequest) -> None:
        """Do the unit of work: span, attributes, event, log record, end."""

    def flush(self) -> None:
        """Deliver everything so far."""

    def close(self) -> None:
        """Deliver everything, and stop."""


def repositories(prs: int) -> Repositories:
    """Make so many pull requests, each with a number and a title of its own, and cut them into repositories."""
    return [
        (
            f"acme/repo-{start // PRS_PER_REPO}",
            [_pull_request(number) for number in range(start, min(start + PRS_PER_REPO, prs))],
        )
        for start in range(0, prs, PRS_PER_REPO)
    ]


def _pull_request(number: int) -> PullRequest:
    return PullRequest(
        number=number,
        change_id=str(number),
        state="open" if number % 3 else "closed",
        author=f"contributor-{number % 40}",
        title=f"Fix leak {number} in the connection pool",
        page=1 + number % PRS_PER_REPO // 100,
        action="created" if number % 2 else "updated",
        files=number % 17,
        has_event=number % EVENT_EVERY == 0,
    )


def run(variant: Variant, repos: Repositories) -> None:
    """Sync all pull requests."""
    synchronise = variant.pull_request
    for name, prs in repos:
        with variant.repo(name):
            for pr in prs:
                synchronise(pr)


def run_timed(variant: Variant, repos: Repositories) -> array[int]:
    """Sync all pull requests, and return how long each took, in nanoseconds."""
    durations = array("Q", bytes(8 * sum(len(prs) for _, prs in repos)))
    synchronise, clock, done = variant.pull_request, perf_counter_ns, 0
    for name, prs in repos:
        with variant.repo(name):
            for pr in prs:
                start = clock()
                synchronise(pr)
                durations[done] = clock() - start
                done += 1
    return durations
