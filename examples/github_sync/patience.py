"""Whether a failed request is worth another try, and after how long: the only place where that is decided.

The order is GitHub's own (https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api): wait as long
as ``Retry-After`` says; else until the reset if nothing remains; else at least a minute, growing; then give up.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import requests
from github import GithubException

Reason = Literal["primary", "secondary", "server", "connection"]


@dataclass(frozen=True, slots=True)
class Wait:
    """Try again after `seconds`."""

    reason: Reason
    seconds: float

    @property
    def is_rate_limit(self) -> bool:
        """Whether GitHub asked for the wait, rather than stumbled."""
        return self.reason in ("primary", "secondary")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on; all figures in seconds or in attempts.

    `backoff` is the first wait after an error of the server or the connection, doubled each time, with jitter.
    `secondary_backoff` is the same for a secondary limit that names no time. `longest` is the longest wait worth
    beginning: just over the hour of a primary limit. `reset_margin` covers clocks that differ from GitHub's.
    """

    attempts: int = 4
    rate_limit_attempts: int = 6
    backoff: float = 0.25
    secondary_backoff: float = 60.0
    longest: float = 3700.0
    reset_margin: float = 1.0

    def after(self, error: Exception, attempt: int, clock: Callable[[], float] = time.time) -> Wait | None:
        """What to do after the `attempt`-th try (from 1) ended in `error`; None: give up."""
        wait = self._wanted(error, attempt, clock)
        if wait is None or wait.seconds > self.longest:
            return None
        return wait if attempt < (self.rate_limit_attempts if wait.is_rate_limit else self.attempts) else None

    def pause(self, attempt: int) -> float | None:
        """Return the seconds to wait after the `attempt`-th error of the server or the connection; None: give up."""
        return self._growing(self.backoff, attempt) if attempt < self.attempts else None

    def unnamed(self, refusals: int) -> float:
        """Return the seconds to wait for a secondary limit that names no time, after so many refusals in a row."""
        return min(float(self.secondary_backoff * 2.0 ** min(refusals, 16)), self.longest)

    def _wanted(self, error: Exception, attempt: int, clock: Callable[[], float]) -> Wait | None:
        if isinstance(error, GithubException):
            if error.status in (403, 429):
                return self._rate_limit(error, attempt, clock)
            return Wait("server", self._growing(self.backoff, attempt)) if error.status >= 500 else None
        if isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError):
            return Wait("connection", self._growing(self.backoff, attempt))
        return None

    def _rate_limit(self, error: GithubException, attempt: int, clock: Callable[[], float]) -> Wait | None:
        headers = {str(name).lower(): str(value) for name, value in (error.headers or {}).items()}
        spent = headers.get("x-ratelimit-remaining") == "0"
        retry_after, reset = _number(headers, "retry-after"), _number(headers, "x-ratelimit-reset")
        if retry_after is not None:
            return Wait("primary" if spent else "secondary", retry_after)
        if spent and reset is not None:
            return Wait("primary", max(0.0, reset - clock()) + self.reset_margin)
        if error.status == 429 or "rate limit" in _message(error):
            return Wait("secondary", self.secondary_backoff * 2 ** (attempt - 1))
        return None

    @staticmethod
    def _growing(first: float, attempt: int) -> float:
        return float(first * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25)


def _number(headers: Mapping[str, str], name: str) -> float | None:
    text = headers.get(name, "")
    # isdigit() alone is also true of characters that float() does not know.
    return float(text) if text.isascii() and text.isdigit() else None


def _message(error: GithubException) -> str:
    data: object = error.data
    return str(data.get("message", "")).lower() if isinstance(data, dict) else ""
