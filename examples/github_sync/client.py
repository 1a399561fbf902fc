"""GitHub through PyGithub: one request at a time, each of them an API call in the trace, repeated as patience says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TypeVar
from urllib.parse import urlsplit

from github import Auth, Github
from github.GithubObject import GithubObject
from github.PaginatedList import PaginatedList
from github.Repository import Repository

import otelsync
from otelsync.stages.stage import Stage

from .patience import Patience, Wait

PER_PAGE = 100

Result = TypeVar("Result")
Item = TypeVar("Item", bound=GithubObject)


class GithubClient:
    """What a sync asks of GitHub. `on_wait` is told of each rate-limit wait (kind, seconds) before it begins."""

    def __init__(
        self,
        base_url: str,
        token: str | None,
        *,
        patience: Patience | None = None,
        on_wait: Callable[[Wait], None] | None = None,
    ) -> None:
        _reach_loopback_directly(base_url)
        self._patience = patience or Patience()
        self._on_wait = on_wait or (lambda _wait: None)
        # No retries and no pauses in PyGithub: they would sleep unseen inside a request.
        self._github = Github(
            base_url=base_url,
            auth=Auth.Token(token) if token else None,
            user_agent="otelsync-github-sync",
            per_page=PER_PAGE,
            retry=None,
            seconds_between_requests=None,
            seconds_between_writes=None,
        )

    def close(self) -> None:
        """Hang up."""
        self._github.close()

    def repository(self, full_name: str) -> Repository:
        """The repository of that name; PyGithub follows a rename."""
        with otelsync.api_call("get_repository", kind="rest") as call:
            return self._ask(call, lambda: self._github.get_repo(full_name))

    def size(self, operation: str, listing: PaginatedList[Item]) -> int:
        """How many items a list has; costs one request."""
        with otelsync.api_call(operation, kind="rest") as call:
            return self._ask(call, lambda: listing.totalCount)

    def all(self, operation: str, listing: PaginatedList[Item]) -> list[Item]:
        """All items of a short list, one API call a page."""
        items: list[Item] = []
        for number in count():
            with self.page(operation, listing, number) as page:
                items += page
            if len(page) < PER_PAGE:
                break
        return items

    @contextmanager
    def page(self, operation: str, listing: PaginatedList[Item], number: int) -> Iterator[list[Item]]:
        """Page `number` (from 0) of a list; what happens to its items inside the block belongs to its API call."""
        with otelsync.api_call(operation, kind="rest", page=number + 1) as call:
            page = self._ask(call, lambda: listing.get_page(number))
            call.set(**{"sync.api.page_size": PER_PAGE, "sync.api.items": len(page)})
            yield page

    def _ask(self, call: Stage, request: Callable[[], Result]) -> Result:
        attempt = 0
        while True:
            attempt += 1
            try:
                result = request()
            except Exception as error:
                wait = self._patience.after(error, attempt)
                call.set(**{"sync.api.attempts": attempt})
                if wait is None:
                    raise
                self._wait(call, wait, attempt, error)
            else:
                self._observe(call, attempt)
                return result

    def _observe(self, call: Stage, attempt: int) -> None:
        remaining, limit = self._github.requester.rate_limiting
        call.set(
            **{"sync.api.attempts": attempt, "sync.rate_limit.remaining": remaining, "sync.rate_limit.limit": limit}
        )

    def _wait(self, call: Stage, wait: Wait, attempt: int, error: Exception) -> None:
        status = getattr(error, "status", None)
        call.event(
            "sync.api.retry",
            reason=wait.reason,
            wait_seconds=round(wait.seconds, 3),
            attempt=attempt,
            status=status,
            error_type=type(error).__qualname__,
        )
        if not wait.is_rate_limit:
            time.sleep(wait.seconds)
            return
        self._on_wait(wait)
        with otelsync.rate_limit_wait(wait.seconds, kind=wait.reason):
            time.sleep(wait.seconds)


def _reach_loopback_directly(base_url: str) -> None:
    """Keep requests from sending loopback's traffic to a proxy of the environment; others it handles as ever."""
    host = urlsplit(base_url).hostname or ""
    if host in ("127.0.0.1", "localhost", "::1"):
        exceptions = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
        if host not in exceptions.split(","):
            os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{exceptions},{host}".strip(",")
