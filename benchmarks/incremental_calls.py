"""API calls of the GitHub sync: how many a history and an incremental sync take, and what each of them brings.

``python -m benchmarks.incremental_calls --repos 50 --pulls 1000 --share 0.01`` asks the double, in one process: what is
counted are requests, not seconds. The least possible is a list for each repository, since each may have changed, and as
many queries as it takes to bring what has, at the page size.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import requests
from sqlalchemy import Engine

from examples.github_sync import migrating, onboarding
from examples.github_sync.database import engine_for
from examples.github_sync.double import process
from examples.github_sync.github_api import GithubApi
from examples.github_sync.history import REST, HistorySync, Tally
from examples.github_sync.incremental import IncrementalSync
from examples.github_sync.settings import Settings
from examples.github_sync.wiring import github_for

TEAM: Final = "bench"
_ALL: Final = (datetime(9999, 1, 1, tzinfo=UTC), datetime(2008, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class Calls:
    """What a part of the sync took."""

    part: str
    lists: int
    """Requests of REST."""
    not_modified: int
    """Those of them that were answered by 304, which costs nothing of the limit."""
    queries: int
    """Of GraphQL."""
    pulls: int
    """Pull requests that they brought, new ones or changed ones."""
    least: int
    """The fewest calls by which these can be found and brought."""

    @property
    def calls(self) -> int:
        """All of them."""
        return self.lists + self.queries

    def __str__(self) -> str:
        """Return a row of the table."""
        return (
            f"| {self.part} | {self.lists:,} ({self.not_modified:,}) | {self.queries:,} | {self.calls:,} "
            f"| {self.least:,} | {self.pulls:,} | {self.pulls / self.calls:.1f} |"
        )


HEAD: Final = """\
| | lists (304) | queries | calls | least possible | pull requests | a call |
|---|---:|---:|---:|---:|---:|---:|"""


class Measurement:
    """A team's repositories at the double, and a database."""

    def __init__(self, url: str, repositories: dict[str, int], home: Path) -> None:
        self._settings = replace(
            Settings.from_environment({"GITHUB_SYNC_HOME": str(home), "GITHUB_TOKEN": "a-token"}), api_url=url
        )
        migrating.upgrade(self._settings.database_url)
        self._engine: Engine = engine_for(self._settings.database_url)
        onboarding.track(self._engine, TEAM, sorted(repositories))
        self._repositories = repositories
        self._page = self._settings.page_size

    def history(self) -> Calls:
        """Bring all pull requests there are."""
        return self._counted("history", self._history, self._repositories, lists=0)

    def incremental(self, part: str, changed: dict[str, int]) -> Calls:
        """Bring what has changed: so many pull requests of a repository."""
        return self._counted(part, self._incremental, changed, lists=len(self._repositories))

    def touch(self, share: float) -> dict[str, int]:
        """Change a share of all pull requests; returns how many of a repository."""
        answer = requests.post(f"{self._settings.api_url}/_double/touch", json={"share": share}, timeout=600)
        return {name: len(numbers) for name, numbers in answer.json()["touched"].items()}

    def _counted(
        self, part: str, sync: Callable[[GithubApi, int, Tally], None], changed: dict[str, int], *, lists: int
    ) -> Calls:
        before = self._counts()
        brought = 0
        with closing(github_for(self._settings)) as api:
            for tracked, name in onboarding.in_order(self._engine, TEAM):
                tally = Tally(name)
                sync(api, tracked, tally)
                brought += tally.counts.total() - tally.counts["unchanged"]
        now = self._counts()
        lists_made, free, queries = (now.get(name, 0) - before.get(name, 0) for name in ("core", "304", "graphql"))
        least = lists + sum(-(-number // self._page) for number in changed.values())
        return Calls(part, lists_made, free, queries, brought, least)

    def _history(self, api: GithubApi, tracked: int, tally: Tally) -> None:
        HistorySync(self._engine, api, tracked, REST, _ALL, self._page).run(tally)

    def _incremental(self, api: GithubApi, tracked: int, tally: Tally) -> None:
        IncrementalSync(self._engine, api, tracked, self._page).run(tally)

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = requests.get(f"{self._settings.api_url}/_double/counts", timeout=600).json()
        return counts


def measure(home: Path, *, repos: int, pulls: int, share: float) -> list[Calls]:
    """Return the history, the first incremental sync, one of a share of changes, and two of none."""
    # Long enough ago that the changes which the double makes now are the latest.
    until = (datetime.now(UTC) - timedelta(days=90)).date().isoformat()
    arguments = ["--no-recordings", "--asked-schema", "--limit", "1000000"]
    arguments += ["--repos", str(repos), "--pulls", str(pulls), "--until", until]
    with process.started(arguments) as double:
        made = Measurement(double.url, double.repositories, home)
        return [
            made.history(),
            made.incremental("incremental, the first", {}),
            made.incremental(f"incremental, {share:.0%} changed", made.touch(share)),
            made.incremental("incremental, nothing changed", {}),
            made.incremental("incremental, nothing again", {}),
        ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repos", type=int, default=50)
    parser.add_argument("--pulls", type=int, default=1000, help="of each repository")
    parser.add_argument("--share", type=float, default=0.01, help="of the pull requests that change, from 0 to 1")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        rows = measure(Path(home), repos=options.repos, pulls=options.pulls, share=options.share)
    print(HEAD, *rows, sep="\n")


if __name__ == "__main__":
    main()
