"""GitHub's APIs as the sync asks them: one request at a time a token, each an API call in the trace.

The one place that decides whether a request is worth another try, and after how long. A wait that is longer than a
worker should sleep for is an exception, :class:`~.tokens.LimitError`: the task is put back, and waits in the broker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import requests
from github import Auth, Github

import otelsync

from . import events
from .answers import Answer, ServerTroubleError, UnauthorizedError, judge
from .handles import Handle
from .patience import Patience
from .tokens import LimitError, Token, TokenPool, Turn

TIMEOUT: Final = 60.0
"""Seconds that a request may take."""
USER_AGENT: Final = "otelsync-github-sync"


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a list; `items` is None where nothing has changed since the ETag that was sent."""

    items: list[dict[str, Any]] | None
    etag: str | None
    has_next: bool


class GithubApi:
    """Asks GitHub. Used by one thread.

    Args:
        url: Such as ``https://api.github.com``.
        pool: Whose turn it is.
        longest_wait: Seconds that are waited here for a limit.
        put_back: Is called inside the API call where the wait is longer, and raises: a task asks for its next attempt.
            By default LimitError is raised.
        patience: How often to try again.
    """

    def __init__(
        self,
        url: str,
        pool: TokenPool,
        *,
        longest_wait: float,
        put_back: Callable[[LimitError], NoReturn] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._url = url
        self._pool = pool
        self._longest_wait = longest_wait
        self._put_back = put_back or _raise
        self._patience = patience or Patience()
        self._session = requests.Session()
        self._session.headers["User-Agent"] = USER_AGENT
        self._rest: dict[str, Github] = {}

    def close(self) -> None:
        """Hang up."""
        self._session.close()
        for client in self._rest.values():
            client.close()

    def query(
        self, call: Handle, text: str, variables: Mapping[str, Any], *, may_shrink: bool = False
    ) -> dict[str, Any]:
        """Return the data of a GraphQL query, also where parts of it could not be had.

        `may_shrink`: the caller asks for less where the server says that it was too much, so that is not tried again.

        Raises LimitError, ServerTroubleError, UnauthorizedError, NotFoundError, GithubError.
        """
        answer = self._ask(call, "graphql", lambda turn: self._post(turn, text, variables), may_shrink=may_shrink)
        data = answer.data if isinstance(answer.data, dict) else {}
        found: dict[str, Any] = data["data"]
        if answer.problems:
            call.event(events.PARTIAL_DATA, problems=answer.problems[:10])
        limit = found.get("rateLimit") or {}
        if limit:
            call.set(**{"github.graphql.cost": limit.get("cost"), "github.graphql.nodes": limit.get("nodeCount")})
        return found

    def page(self, call: Handle, path: str, parameters: Mapping[str, Any], *, etag: str | None = None) -> Listed:
        """Return a page of a REST list by PyGithub; raises as :meth:`query` does."""
        headers = {"If-None-Match": etag} if etag else {}
        answer = self._ask(call, "core", lambda turn: self._get(turn, path, parameters, headers))
        found = answer.header("etag") or None
        if answer.status == 304:
            return Listed(None, found or etag, has_next=False)
        items = answer.data if isinstance(answer.data, list) else []
        return Listed(items, found, has_next='rel="next"' in answer.header("link"))

    def _ask(self, call: Handle, resource: str, send: Callable[[Turn], Answer], *, may_shrink: bool = False) -> Answer:
        attempt = 0
        while True:
            attempt += 1
            call.set(**{"sync.api.attempts": attempt})
            try:
                with self._pool.turn(resource) as turn:
                    return self._judged(turn, send(turn))
            except LimitError as limit:
                if limit.seconds > self._longest_wait:
                    self._put_back(limit)
                with otelsync.rate_limit_wait(limit.seconds, kind=limit.kind):
                    time.sleep(limit.seconds)
                attempt -= 1  # waiting as told is no failure
            except UnauthorizedError as refusal:
                if attempt > 1 or not refusal.token.refresh():
                    raise
            except (ServerTroubleError, requests.RequestException) as trouble:
                seconds = self._patience.pause(attempt)
                if seconds is None or (may_shrink and isinstance(trouble, ServerTroubleError) and trouble.is_size):
                    raise
                with otelsync.retry_wait(seconds, "server"):
                    time.sleep(seconds)

    def _judged(self, turn: Turn, answer: Answer) -> Answer:
        now = time.time()
        for limit in answer.limits():
            turn.standing.note(limit.resource or turn.resource, limit.remaining, limit.reset)
        refusal = judge(answer, turn.token, now, self._patience.unnamed(turn.standing.refusals))
        if isinstance(refusal, LimitError):
            resource = turn.resource if refusal.kind == "primary" else "*"
            turn.standing.refusals += refusal.kind == "secondary"
            turn.standing.block(resource, now + refusal.seconds, refusal.kind)
        if refusal is not None:
            raise refusal
        turn.standing.refusals = 0
        return answer

    def _post(self, turn: Turn, text: str, variables: Mapping[str, Any]) -> Answer:
        answer = self._session.post(
            f"{self._url}/graphql",
            json={"query": text, "variables": dict(variables)},
            headers={"Authorization": f"bearer {turn.token.text()}"},
            timeout=TIMEOUT,
        )
        return Answer.of(answer.status_code, answer.headers, answer.text)

    def _get(self, turn: Turn, path: str, parameters: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        client = self._client(turn.token)
        status, said, body = client.requester.requestJson("GET", path, dict(parameters), dict(headers))
        return Answer.of(status, said, body)

    def _client(self, token: Token) -> Github:
        """Return PyGithub with the token of this turn; no retries or pauses of its own, which nobody would see."""
        text = token.text()
        client = self._rest.get(text)
        if client is None:
            client = self._rest[text] = Github(
                base_url=self._url,
                auth=Auth.Token(text),
                user_agent=USER_AGENT,
                per_page=100,
                timeout=int(TIMEOUT),
                retry=None,
                seconds_between_requests=None,
                seconds_between_writes=None,
            )
        return client


def _raise(limit: LimitError) -> NoReturn:
    raise limit
