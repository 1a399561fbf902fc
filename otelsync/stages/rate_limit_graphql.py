"""Rate limits in the body of a GraphQL response: of GitHub, Shopify, Linear and monday.com.

All functions here are pure. A body is hostile until shown otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from otelsync.stages.header_values import LONGEST, Clock, count, moment, number
from otelsync.stages.rate_limit import Observation, RateLimit

SAYS_LIMITS: Final = (
    *(b'"rateLimit"', b"RATE_LIMIT", b"graphql_rate_limit"),
    *(b'"throttleStatus"', b"THROTTLED", b"RATELIMITED"),
    *(b'"complexity"', b"COMPLEXITY", b"ComplexityException", b"DAILY_LIMIT", b"ConcurrencyExceeded"),
)
"""One of these stands in every body that says something of limits."""
_REFUSALS: Final = frozenset(
    (
        *("RATE_LIMITED", "RATE_LIMIT", "graphql_rate_limit"),  # GitHub
        "THROTTLED",  # Shopify
        "RATELIMITED",  # Linear
        # monday.com
        *("COMPLEXITY_BUDGET_EXHAUSTED", "ComplexityException", "RATE_LIMIT_EXCEEDED", "DAILY_LIMIT_EXCEEDED"),
        *("IP_RATE_LIMIT_EXCEEDED", "maxConcurrencyExceeded", "FIELD_LIMIT_EXCEEDED"),
    )
)
_MOST_ERRORS: Final = 100


def read_body(body: object, clock: Clock) -> Observation:
    """Read the decoded body of a GraphQL response."""
    if not isinstance(body, Mapping):
        return Observation()
    error = _refusal(body)
    limits = [*_limits(body, clock), *(_limits_of_error(error, clock) if error is not None else ())]
    refused = "primary" if error is not None else ""
    if refused and not limits:
        limits = [RateLimit(resource="graphql", remaining=0)]
    return Observation(limits=tuple(limits), refused=refused, retry_after=_retry_after(error))


def _limits(body: Mapping[str, Any], clock: Clock) -> Iterator[RateLimit]:
    github = _inside(body, "data", "rateLimit")
    if github:
        limit, left, used = (_count(github.get(name)) for name in ("limit", "remaining", "used"))
        reset = _moment(github.get("resetAt"), clock)
        yield RateLimit(resource="graphql", limit=limit, remaining=left, used=used, reset=reset)
    shopify = _inside(body, "extensions", "cost", "throttleStatus")
    if shopify:
        yield _bucket(shopify, clock)
    monday = _inside(body, "data", "complexity")
    if monday and (left := _count(monday.get("after"))) is not None:
        reset = _moment(monday.get("reset_in_x_seconds"), clock)
        yield RateLimit(resource="complexity", remaining=left, reset=reset)


def _bucket(told: Mapping[str, Any], clock: Clock) -> RateLimit:
    """Read Shopify's bucket, which is full again when what was taken has been restored."""
    limit, left = _count(told.get("maximumAvailable")), _count(told.get("currentlyAvailable"))
    rate = number(str(told.get("restoreRate", "")))
    full = clock.now + (limit - left) / rate if rate and limit is not None and left is not None else None
    return RateLimit(resource="cost", limit=limit, remaining=left, reset=full)


def _limits_of_error(error: Mapping[str, Any], clock: Clock) -> Iterator[RateLimit]:
    """monday.com tells in the error what is left of the budget."""
    extensions = _inside(error, "extensions") or error
    limit, left = (_count(extensions.get(f"complexity_budget_{name}")) for name in ("limit", "left"))
    if left is not None:
        reset = _moment(extensions.get("retry_in_seconds"), clock)
        yield RateLimit(resource="complexity", limit=limit, remaining=left, reset=reset)


def _refusal(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the error that says that a limit is spent; None if there is none."""
    errors = body.get("errors")
    # Older answers of monday.com are an error as a whole.
    for error in (*(errors[:_MOST_ERRORS] if isinstance(errors, list) else ()), body):
        if not isinstance(error, Mapping):
            continue
        codes = (error.get("type"), error.get("error_code"), _inside(error, "extensions").get("code"))
        if any(isinstance(code, str) and code in _REFUSALS for code in codes):
            return error
    return None


def _retry_after(error: Mapping[str, Any] | None) -> float | None:
    if error is None:
        return None
    seconds = number(str((_inside(error, "extensions") or error).get("retry_in_seconds", "")))
    return seconds if seconds is not None and seconds <= LONGEST else None


def _inside(value: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Return the object that stands there; an empty one if there is none."""
    for key in path:
        inner = value.get(key)
        if not isinstance(inner, Mapping):
            return {}
        value = inner
    return value


def _count(value: object) -> int | None:
    return count(str(value)) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None


def _moment(value: object, clock: Clock) -> float | None:
    is_plain = isinstance(value, (int, float, str)) and not isinstance(value, bool)
    return moment(str(value), clock) if is_plain and len(str(value)) <= 64 else None
