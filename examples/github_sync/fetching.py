"""Fetching of pull requests by GraphQL, with a page size that the server can bear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from celery.exceptions import Retry

import otelsync

from . import queries
from .answers import NotFoundError, ServerTroubleError
from .github_api import GithubApi
from .graphql_records import Node, next_cursor, nodes
from .handles import Handle
from .tokens import LimitError

_KINDS: Final = ("reviews", "commits", "files")
GROWS_AFTER: Final = 5
"""Pages that came well, after which a page that was made smaller doubles again."""


class PageSize:
    """A number of items a page: halved where the server cannot bear it, and grown back when it can."""

    def __init__(self, most: int) -> None:
        self.size = self._most = most
        self._well = 0

    def shrink(self) -> bool:
        """Ask for half as many; False where it was one already."""
        self._well = 0
        if self.size == 1:
            return False
        self.size = max(1, self.size // 2)
        return True

    def went_well(self) -> None:
        """Take note of a page that came."""
        self._well += 1
        if self._well >= GROWS_AFTER and self.size < self._most:
            self.size, self._well = min(self.size * 2, self._most), 0


@dataclass(frozen=True, slots=True)
class Page:
    """A page of pull requests."""

    repository: Node
    pulls: list[Node]
    end_cursor: str | None
    """Behind it the next page begins; None: it is the last."""
    in_window: int
    """Pull requests of the repository that the search which came along has counted."""


class Fetcher:
    """Fetches the pull requests of one repository."""

    def __init__(self, api: GithubApi, full_name: str, size: PageSize) -> None:
        self._api = api
        self._owner, _, self._name = full_name.partition("/")
        self._size = size

    def page(self, number: int, after: str | None, window: str, take: Callable[[Page], None]) -> Page:
        """Fetch a page and give it to `take`, both inside its API call; a smaller one where it is too much."""
        attempt = 0
        while True:
            attempt += 1
            try:
                with otelsync.api_call("PullRequests", kind="graphql", page=number, attempt=attempt) as call:
                    page = self._asked(call, after, window)
                    take(page)
            except ServerTroubleError as trouble:
                if not trouble.is_size or not self._size.shrink():
                    raise
            else:
                self._size.went_well()
                return page

    def _asked(self, call: Handle, after: str | None, window: str) -> Page:
        size = self._size.size
        call.set(**{"sync.api.page_size": size})
        variables = {**self._names, "size": size, "after": after, "window": window}
        data = self._api.query(call, queries.PULL_REQUESTS, variables, may_shrink=size > 1)
        repository = self._found(data)
        listed = repository.get("pullRequests") or {}
        pulls = list(nodes(repository, "pullRequests"))
        call.set(**{"sync.api.items": len(pulls)})
        if missing := len(listed.get("nodes") or ()) - len(pulls):
            call.count(failed=missing)  # GitHub does not say which they are
        info = listed.get("pageInfo") or {}
        cursor = info.get("endCursor") if info.get("hasNextPage") else None
        return Page(repository, pulls, cursor, int((data.get("window") or {}).get("issueCount") or 0))

    def by_number(self, numbers: Sequence[int], take: Callable[[Node, list[Node]], None]) -> None:
        """Fetch some pull requests and give them to `take`, with the repository, inside the API call."""
        waiting = list(numbers)
        attempt = 0
        while waiting:
            asked = waiting[: self._size.size]
            attempt += 1
            try:
                with otelsync.api_call("ChangedPullRequests", kind="graphql", attempt=attempt) as call:
                    call.set(**{"sync.api.page_size": len(asked)})
                    data = self._api.query(call, queries.by_number(asked), self._names, may_shrink=len(asked) > 1)
                    repository = self._found(data)
                    pulls = [repository[f"pr{number}"] for number in asked if repository.get(f"pr{number}")]
                    call.set(**{"sync.api.items": len(pulls)})
                    take(repository, pulls)
            except ServerTroubleError as trouble:
                if not trouble.is_size or not self._size.shrink():
                    raise
            else:
                self._size.went_well()
                waiting, attempt = waiting[len(asked) :], 0

    def complete(self, pulls: Sequence[Node]) -> dict[int, Exception]:
        """Fetch the reviews, commits and files that did not come with pull requests, into their nodes.

        It is done before anything is stored, so that no transaction waits for GitHub. Returns what went wrong, by the
        place of the pull request. Raises LimitError, or what asks for the task's next attempt.
        """
        problems: dict[int, Exception] = {}
        for place, pull in enumerate(pulls):
            try:
                for kind in _KINDS:
                    self._complete(pull, kind)
            except (LimitError, Retry):
                raise
            except Exception as error:
                problems[place] = error
        return problems

    def _complete(self, pull: Node, kind: str) -> None:
        after, number = next_cursor(pull, kind), 1
        while after is not None:
            number += 1
            with otelsync.api_call("Details", kind="graphql", page=number, connection=kind, required=False) as call:
                variables = {**self._names, "number": pull.get("number"), "after": after}
                data = self._api.query(call, queries.details(kind), variables)
                further = self._found(data).get("pullRequest") or {}
                pull[kind]["nodes"] += list(nodes(further, kind))
                after = next_cursor(further, kind)

    @property
    def _names(self) -> dict[str, Any]:
        return {"owner": self._owner, "name": self._name}

    def _found(self, data: Node) -> Node:
        repository = data.get("repository")
        if not isinstance(repository, dict):
            raise NotFoundError(404, f"no repository {self._owner}/{self._name}, or not for this token")
        return repository
