"""Headers and bodies of the APIs that syncs read from, as their documentation shows them, and what is read of each.

docs/rate-limits.md has the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelsync.stages.rate_limit import Observation, RateLimit
from otelsync.stages.rate_limit_fields import read_graphql, read_response
from otelsync.stages.rate_limit_graphql import SAYS_LIMITS

NOW: Final = 1_800_000_000.0
"""Fri, 15 Jan 2027 08:00:00 GMT."""
TABLE: Final = Path(__file__).parent.parent / "docs" / "rate-limits.md"


@dataclass(frozen=True)
class Row:
    """A response of an API, and what it says. `reset` of limits is in seconds from now."""

    api: str
    headers: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[RateLimit, ...] = ()
    status: int = 200
    refused: str = ""
    retry_after: float | None = None
    body: bytes | Mapping[str, Any] = b""
    """Of a GraphQL response: decoded."""


def left(resource: str, remaining: int | None, limit: int | None, reset: float | None = None, **more: Any) -> RateLimit:
    return RateLimit(
        resource=resource, remaining=remaining, limit=limit, reset=None if reset is None else NOW + reset, **more
    )


GITHUB: Final = {"X-RateLimit-Limit": "5000", "X-RateLimit-Used": "13", "X-RateLimit-Resource": "core"}
MONDAY: Final = {"complexity_budget_left": 3, "complexity_budget_limit": 1_000_000, "retry_in_seconds": 33}

ROWS: Final = (
    Row(
        "GitHub",
        GITHUB | {"X-RateLimit-Remaining": "4987", "X-RateLimit-Reset": "1800000060"},
        (left("core", 4987, 5000, 60, used=13),),
    ),
    Row(
        "GitHub, secondary",
        GITHUB | {"X-RateLimit-Remaining": "4000", "X-GitHub-Request-Id": "A:1", "Retry-After": "60"},
        (left("core", 4000, 5000, used=13),),
        403,
        "secondary",
        60.0,
        b'{"message":"You have exceeded a secondary rate limit."}',
    ),
    Row(
        "GitHub's GraphQL",
        limits=(left("graphql", 4999, 5000, 60, used=1),),
        body={"data": {"rateLimit": {"limit": 5000, "remaining": 4999, "used": 1, "resetAt": "2027-01-15T08:01:00Z"}}},
    ),
    Row(
        "GitLab",
        {
            "RateLimit-Limit": "60",
            "RateLimit-Name": "throttle_authenticated_web",
            "RateLimit-Observed": "67",
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": "1800000040",
            "RateLimit-ResetTime": "Fri, 15 Jan 2027 08:00:40 GMT",
            "Retry-After": "30",
        },
        (left("throttle_authenticated_web", 0, 60, 40, used=67),),
        429,
        "primary",
        30.0,
    ),
    Row(
        "Jira",
        {
            "X-RateLimit-Limit": "350",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": "2027-01-15T08:05Z",
            "X-RateLimit-NearLimit": "true",
            "RateLimit-Reason": "jira-burst-based",
            "Retry-After": "5",
        },
        (left("", 0, 350, 300),),
        429,
        "primary",
        5.0,
    ),
    Row(
        "Jira, points",
        {
            "Beta-RateLimit-Policy": '"global-app-quota";q=65000;w=3600',
            "Beta-RateLimit": '"global-app-quota";r=13000;t=600',
        },
        (left("global-app-quota", 13000, 65000, 600),),
    ),
    Row("Shopify", {"X-Shopify-Shop-Api-Call-Limit": "32/40"}, (left("bucket", 8, 40, used=32),)),
    Row("Shopify, spent", {"Retry-After": "2.0"}, (), 429, "primary", 2.0),
    Row(
        "Shopify's GraphQL",
        limits=(left("cost", 500, 2000, 15),),
        refused="primary",
        body={
            "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
            "extensions": {
                "cost": {
                    "requestedQueryCost": 701,
                    "throttleStatus": {"maximumAvailable": 2000.0, "currentlyAvailable": 500, "restoreRate": 100.0},
                }
            },
        },
    ),
    Row(
        "HubSpot",
        {
            "X-HubSpot-RateLimit-Daily": "500000",
            "X-HubSpot-RateLimit-Daily-Remaining": "499990",
            "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
            "X-HubSpot-RateLimit-Max": "190",
            "X-HubSpot-RateLimit-Remaining": "188",
            "X-HubSpot-RateLimit-Secondly": "19",
            "X-HubSpot-RateLimit-Secondly-Remaining": "18",
        },
        (left("daily", 499_990, 500_000), left("", 188, 190), left("secondly", 18, 19)),
    ),
    Row(
        "Linear",
        {
            "X-RateLimit-Requests-Limit": "1500",
            "X-RateLimit-Requests-Remaining": "1499",
            "X-RateLimit-Requests-Reset": "1800003600000",
            "X-Complexity": "7",
            "X-RateLimit-Complexity-Limit": "250000",
            "X-RateLimit-Complexity-Remaining": "249993",
            "X-RateLimit-Complexity-Reset": "1800003600000",
            "X-RateLimit-Endpoint-Name": "fileUpload",
            "X-RateLimit-Endpoint-Requests-Limit": "100",
            "X-RateLimit-Endpoint-Requests-Remaining": "99",
        },
        (
            left("requests", 1499, 1500, 3600),
            left("complexity", 249_993, 250_000, 3600),
            left("endpoint-requests", 99, 100),
        ),
    ),
    Row(
        "Linear, spent",
        limits=(left("graphql", 0, None),),
        refused="primary",
        body={"errors": [{"message": "Rate limit exceeded", "extensions": {"code": "RATELIMITED"}}]},
    ),
    Row("Slack", {"Retry-After": "30"}, (), 429, "primary", 30.0, b'{"ok":false,"error":"ratelimited"}'),
    Row("Stripe", {"Stripe-Rate-Limited-Reason": "global-concurrency"}, (), 429, "primary"),
    Row(
        "monday.com",
        limits=(left("complexity", 4_999_000, None, 42),),
        body={
            "data": {"complexity": {"before": 5_000_000, "query": 1000, "after": 4_999_000, "reset_in_x_seconds": 42}}
        },
    ),
    Row(
        "monday.com, spent",
        limits=(left("complexity", 3, 1_000_000, 33),),
        refused="primary",
        retry_after=33.0,
        body={"errors": [{"extensions": {"code": "COMPLEXITY_BUDGET_EXHAUSTED", "status_code": 429, **MONDAY}}]},
    ),
    Row(
        "Discord",
        {
            "X-RateLimit-Limit": "10",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": "1800000060.123",
            "X-RateLimit-Reset-After": "60.5",
            "X-RateLimit-Bucket": "abcd1234",
            "X-RateLimit-Scope": "user",
            "Retry-After": "61",
        },
        (left("abcd1234", 0, 10, 60.5),),
        429,
        "primary",
        61.0,
    ),
    Row(
        "Azure DevOps",
        {
            "X-RateLimit-Resource": "Service/Core Services",
            "X-RateLimit-Delay": "0.5",
            "X-RateLimit-Limit": "200",
            "X-RateLimit-Remaining": "150",
            "X-RateLimit-Reset": "1800000300",
            "Retry-After": "2",
        },
        (left("Service/Core Services", 150, 200, 300),),
        retry_after=2.0,
    ),
    Row(
        "Reddit",
        {"X-Ratelimit-Used": "4", "X-Ratelimit-Remaining": "596.0", "X-Ratelimit-Reset": "303"},
        (left("", 596, None, 303, used=4),),
    ),
    Row(
        "Zendesk",
        {
            "X-Rate-Limit": "700",
            "RateLimit-Limit": "700",
            "X-Rate-Limit-Remaining": "699",
            "RateLimit-Remaining": "699",
            "RateLimit-Reset": "41",
            "Zendesk-RateLimit-Tickets-Index": "total=100; remaining=99; resets=41",
        },
        (left("", 699, 700, 41), left("tickets-index", 99, 100, 41)),
    ),
    Row(
        "Okta",
        {"X-Rate-Limit-Limit": "600", "X-Rate-Limit-Remaining": "599", "X-Rate-Limit-Reset": "1800000060"},
        (left("", 599, 600, 60),),
    ),
    Row(
        "Kong",
        {
            "RateLimit-Limit": "10",
            "RateLimit-Remaining": "4",
            "RateLimit-Reset": "47",
            "X-RateLimit-Limit-Minute": "10",
            "X-RateLimit-Remaining-Minute": "4",
        },
        (left("minute", 4, 10), left("", 4, 10, 47)),
    ),
    Row(
        "Groq and OpenAI",
        {
            "x-ratelimit-limit-requests": "14400",
            "x-ratelimit-limit-tokens": "18000",
            "x-ratelimit-remaining-requests": "14370",
            "x-ratelimit-remaining-tokens": "17997",
            "x-ratelimit-reset-requests": "2m59.5s",
            "x-ratelimit-reset-tokens": "750ms",
        },
        (left("requests", 14370, 14400, 179.5), left("tokens", 17997, 18000, 0.75)),
    ),
    Row(
        "Anthropic",
        {
            "anthropic-ratelimit-requests-limit": "1000",
            "anthropic-ratelimit-requests-remaining": "999",
            "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:01Z",
        },
        (left("requests", 999, 1000, 1),),
    ),
    Row(
        "IETF, drafts to the 6th",
        {"RateLimit-Limit": "100, 100;w=60", "RateLimit-Remaining": "50", "RateLimit-Reset": "20"},
        (left("", 50, 100, 20),),
    ),
    Row("IETF, 7th draft", {"RateLimit": "limit=100, remaining=50, reset=5"}, (left("", 50, 100, 5),)),
    Row(
        "IETF, from the 8th draft on",
        {"RateLimit": '"burst";r=1;t=5, "daily";r=900', "RateLimit-Policy": '"burst";q=10;w=5,"daily";q=1000;w=86400'},
        (left("burst", 1, 10, 5), left("daily", 900, 1000)),
    ),
    Row(
        "two limits as lists",
        {"X-RateLimit-Limit": "1000, 1000", "X-RateLimit-Remaining": "991, 98", "X-RateLimit-Reset": "60, 3600"},
        (left("", 991, 1000, 60), left("limit 2", 98, 1000, 3600)),
    ),
    Row(
        "more than is left",
        {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "-3", "X-RateLimit-Reset": "P0DT1M"},
        (left("", 0, 100, 60),),
    ),
    Row("no limit at all", {"X-RateLimit-Limit": "-1", "X-RateLimit-Remaining": "-1"}),
    Row("others, an end in Retry-After", {"Retry-After": "1800000090"}, (), 429, "primary", 90.0),
    Row("A firewall", {"Server": "cloud"}, (), 403, "", None, b"<html>Forbidden</html>"),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.api)
def test_each_api_is_read_as_it_says(row: Row) -> None:
    """Limits, refusals and waits are those of the documentation."""
    if isinstance(row.body, Mapping):
        found = read_graphql(row.body, NOW)
        assert any(word in repr(row.body).replace("'", '"').encode() for word in SAYS_LIMITS)
    else:
        found = read_response(row.status, row.headers, NOW, row.body)
    assert found == Observation(limits=row.limits, refused=row.refused, retry_after=row.retry_after)


def test_the_documentation_has_each_of_them() -> None:
    """The table for users and this one have the same APIs."""
    table = TABLE.read_text().partition("## What is read")[2].partition("\n## ")[0]
    for row in ROWS:
        assert row.api.partition(",")[0].removesuffix("'s GraphQL") in table, row.api


@pytest.mark.parametrize("ahead", [-120.0, 0.0, 120.0])
@pytest.mark.parametrize(
    "reset", ["1800000600", "2027-01-15T08:10:00Z", "Fri, 15 Jan 2027 08:10:00 GMT", "600", "10m0s"]
)
def test_a_clock_that_is_wrong_is_told_by_the_servers(ahead: float, reset: str) -> None:
    """The same response says the same rest of the window to a client whose clock is ahead, or behind."""
    headers = {
        **GITHUB,
        "X-RateLimit-Remaining": "9",
        "X-RateLimit-Reset": reset,
        "Date": "Fri, 15 Jan 2027 08:00:00 GMT",
    }
    now = NOW + ahead
    (limit,) = read_response(200, headers, now).limits
    assert limit.reset == now + 600
    body = {"data": {"rateLimit": {"limit": 5000, "remaining": 9, "resetAt": "2027-01-15T08:10:00Z"}}}
    (limit,) = read_graphql(body, now, headers).limits
    assert limit.reset == now + 600
    refusal = {"Date": "Fri, 15 Jan 2027 08:00:00 GMT", "Retry-After": "Fri, 15 Jan 2027 08:00:30 GMT"}
    assert read_response(429, refusal, now).retry_after == 30.0


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 15 Jan 2007 08:00:00 GMT", "Fri, 99 Foo 2027 08:00:00 GMT"])
def test_a_date_that_cannot_be_counts_for_nothing(date: str) -> None:
    """Neither does one of another year: servers without a clock begin with 1970."""
    headers = {**GITHUB, "X-RateLimit-Remaining": "9", "X-RateLimit-Reset": "1800000600", "Date": date}
    (limit,) = read_response(200, headers, NOW).limits
    assert limit.reset == NOW + 600


def test_a_response_from_a_cache_is_as_old_as_it_says() -> None:
    """``Date`` is when the origin sent it; ``Age`` is how long it has lain since."""
    headers = {"X-RateLimit-Remaining": "9", "X-RateLimit-Reset": "1800000600", "Age": "300"}
    (limit,) = read_response(200, {**headers, "Date": "Fri, 15 Jan 2027 07:55:00 GMT"}, NOW).limits
    assert limit.reset == NOW + 600


NAMES = st.sampled_from(sorted({name for row in ROWS for name in row.headers} | {"Date", "Age"}))
VALUES = st.one_of(
    st.sampled_from(sorted({value for row in ROWS for value in row.headers.values()})),
    st.text(max_size=80),
    st.integers().map(str),
    st.floats().map(str),
    st.lists(st.integers().map(str)).map(", ".join),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                (
                    *("data", "rateLimit", "limit", "remaining", "resetAt", "errors", "extensions", "code", "type"),
                    *("cost", "throttleStatus", "maximumAvailable", "currentlyAvailable", "restoreRate"),
                    *("complexity", "after", "reset_in_x_seconds", "retry_in_seconds", "complexity_budget_left"),
                )
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@given(
    status=st.sampled_from((200, 403, 429)),
    headers=st.dictionaries(st.one_of(NAMES, st.text(max_size=40)), VALUES, max_size=12),
    body=st.binary(max_size=40),
)
def test_no_headers_raise_or_say_what_cannot_be(status: int, headers: dict[str, str], body: bytes) -> None:
    """Whatever a server sends, figures are sensible or missing."""
    _is_sensible(read_response(status, headers, NOW, body))


@given(JSON)
def test_no_body_raises_or_says_what_cannot_be(body: object) -> None:
    """The same of decoded JSON."""
    _is_sensible(read_graphql(body, NOW))


def _is_sensible(found: Observation) -> None:
    year = 367 * 86_400
    assert found.retry_after is None or 0 <= found.retry_after <= year
    assert len(found.limits) <= 64
    for limit in found.limits:
        assert len(limit.resource) <= 128
        assert 0.0 <= limit.left <= 1.0
        assert limit.reset is None or abs(limit.reset - NOW) <= year
        for count in (limit.limit, limit.remaining, limit.used):
            assert count is None or 0 <= count <= 10**12
