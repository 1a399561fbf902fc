"""GitHub's answers, and what they mean: what was asked for, a limit, trouble of the server, or a refusal.

See https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api and
https://docs.github.com/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from .tokens import MARGIN, LimitError, Token

_LIMITED: Final = frozenset(("RATE_LIMITED", "RATE_LIMIT", "graphql_rate_limit"))
_TOO_LARGE: Final = frozenset(("RESOURCE_LIMITS_EXCEEDED", "MAX_NODE_LIMIT_EXCEEDED"))
_WENT_WRONG: Final = "something went wrong while executing your query"
_SECONDARY: Final = ("secondary rate limit", "abuse detection")


class GithubError(Exception):
    """GitHub has refused, for good."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status, self.message = status, message

    def __str__(self) -> str:
        return f"{self.status}: {self.message}"


class NotFoundError(GithubError):
    """The repository is not there, or not for this token: deleted, private, blocked."""


class UnauthorizedError(GithubError):
    """The token does not hold."""

    def __init__(self, message: str, token: Token) -> None:
        super().__init__(401, message)
        self.token = token


class ServerTroubleError(GithubError):
    """An error of the server's; `is_size`: a smaller page may do."""

    def __init__(self, status: int, message: str, *, is_size: bool = False) -> None:
        super().__init__(status, message)
        self.is_size = is_size


class Limit(NamedTuple):
    """What a response says of a limit; `reset` in epoch seconds."""

    resource: str
    remaining: int
    reset: float


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. `data` is None where the body is no JSON."""

    status: int
    headers: Mapping[str, str]
    data: Any
    problems: list[str] = field(default_factory=list)
    """Types or messages of what a GraphQL query could not have."""

    @classmethod
    def of(cls, status: int, headers: Mapping[str, Any], body: str | None) -> Answer:
        """Read an answer."""
        try:
            data = json.loads(body) if body else None
        except ValueError:
            data = None
        return cls(status, {str(name).lower(): str(value) for name, value in headers.items()}, data, _problems(data))

    def header(self, name: str) -> str:
        """Return a header's value, or an empty text."""
        return self.headers.get(name, "")

    def number(self, name: str) -> float | None:
        """Return what a header says as a number."""
        text = self.header(name)
        return float(text) if text.isascii() and text.isdigit() else None

    def limits(self) -> Iterator[Limit]:
        """Return what it says of limits: by its headers, and by the data of GraphQL."""
        remaining, reset = self.number("x-ratelimit-remaining"), self.number("x-ratelimit-reset")
        if remaining is not None and reset is not None:
            yield Limit(self.header("x-ratelimit-resource"), int(remaining), reset)
        data = self.data.get("data") if isinstance(self.data, dict) else None
        said = data.get("rateLimit") if isinstance(data, dict) else None
        if isinstance(said, dict) and isinstance(said.get("remaining"), int):
            yield Limit("graphql", said["remaining"], _epoch(said.get("resetAt")))

    @property
    def message(self) -> str:
        """The server's own words."""
        said = self.data.get("message") if isinstance(self.data, dict) else None
        return str(said or "; ".join(self.problems) or "no reason given")[:500]


def judge(answer: Answer, token: Token, now: float, unnamed: float) -> Exception | None:
    """Return what an answer comes to that is not what was asked for; None if it is.

    Args:
        answer: What came.
        token: What it was asked with.
        now: Epoch seconds.
        unnamed: Seconds to wait for a secondary limit that names no time.
    """
    limit = _limit(answer, now, unnamed)
    if limit is not None:
        return limit
    status = answer.status
    if status == 401:
        return UnauthorizedError(answer.message, token)
    if status in (404, 410, 451):
        return NotFoundError(status, answer.message)
    if status >= 500:
        return ServerTroubleError(status, answer.message, is_size=status in (502, 504))
    if status == 304:
        return None
    if status >= 400:
        return GithubError(status, answer.message)
    if answer.data is None:
        return ServerTroubleError(status, "the body is no JSON, or was cut")
    return _graphql(answer) if isinstance(answer.data, dict) and "errors" in answer.data else None


def _graphql(answer: Answer) -> Exception | None:
    data, kinds = answer.data.get("data"), set(answer.problems)
    if kinds & _TOO_LARGE or any(_WENT_WRONG in problem.lower() for problem in kinds):
        return ServerTroubleError(answer.status, answer.message, is_size=True)
    if isinstance(data, dict) and any(value for key, value in data.items() if key != "rateLimit"):
        return None  # a part of it: who asked decides
    if "NOT_FOUND" in kinds:
        return NotFoundError(404, answer.message)
    return GithubError(answer.status, answer.message)


def _limit(answer: Answer, now: float, unnamed: float) -> LimitError | None:
    """Return the limit that an answer refuses for, and for how long."""
    by_graphql = bool(_LIMITED & set(answer.problems))
    text = answer.message.lower()
    is_secondary = any(words in text for words in _SECONDARY)
    if not by_graphql and not (
        answer.status in (403, 429) and (answer.status == 429 or "rate limit" in text or is_secondary)
    ):
        return LimitError("secondary", unnamed) if is_secondary and answer.problems else None
    spent = any(limit.remaining <= 0 for limit in answer.limits())
    retry_after = answer.number("retry-after")
    if retry_after is not None:
        return LimitError("primary" if spent and not is_secondary else "secondary", retry_after)
    resets = [limit.reset for limit in answer.limits()]
    if (spent or by_graphql) and not is_secondary and resets:
        return LimitError("primary", max(0.0, max(resets) - now) + MARGIN)
    return LimitError("secondary", unnamed)


def _problems(data: object) -> list[str]:
    errors = data.get("errors") if isinstance(data, dict) else None
    if not isinstance(errors, list):
        return []
    found = []
    for error in errors[:100]:
        if isinstance(error, dict):
            extensions = error.get("extensions")
            code = extensions.get("code") if isinstance(extensions, dict) else None
            found += [str(each) for each in (error.get("type"), code) if each] or [str(error.get("message"))[:200]]
            if error.get("message") and _WENT_WRONG in str(error["message"]).lower():
                found.append(_WENT_WRONG)
    return found


def _epoch(moment: object) -> float:
    try:
        return datetime.fromisoformat(str(moment).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0
