"""The short ways of reading a rate limit say what the long ones do."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import Recorded

from otelsync.stages.header_values import clock_of
from otelsync.stages.rate_limit_fields import read_response
from otelsync.stages.rate_limit_headers import limits_in, usual_limit
from otelsync.stages.rate_limits import RateLimits, attributes_of

NOW = 1_900_000_000.0
VALUES = [
    "5000",
    "4999",
    "0",
    "-1",
    str(int(NOW) + 3600),
    str(int(NOW) - 90_000),
    "60",
    "12, 20",
    "",
    "abc",
    "5000;w=3600",
]
VALUES += [f"{NOW + 3600.5}", "007", " 4999", "\u0663", "9" * 14, "core", "x" * 70, "\xe9"]
NAMES = ["limit", "remaining", "reset", "used", "resource", "limit-hour", "reset-after", "remaining-tokens"]
OTHERS = ["ratelimit", "ratelimit-policy", "retry-after", "x-github-request-id", "zendesk-ratelimit-x"]
OTHERS += ["x-shopify-shop-api-call-limit", "x-rate-limit-limit"]


@settings(max_examples=3_000, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([f"x-ratelimit-{name}" for name in NAMES] + OTHERS), st.sampled_from(VALUES), max_size=8
    )
)
def test_a_usual_limit_is_the_only_one(told: dict[str, str]) -> None:
    """Whatever the headers hold: where the short way sees a limit, the long one sees that, and no other."""
    clock = clock_of(NOW)
    found = usual_limit(told, clock)
    if found is not None:
        (limit,) = limits_in(told, clock)
        assert (limit, limit.window) == (found, found.window)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "one", "two"]),
            st.sampled_from(["core", "search"]),
            st.one_of(st.integers(-600, -1), st.just(0), st.integers(1, 900)),  # by how much what is left changes
            st.sampled_from([0.0, 1.0, 30.0, 61.0, -20.0, 4_000.0]),
            st.sampled_from([5_000, 30]),
        ),
        max_size=40,
    )
)
def test_windows_change_nothing_that_is_said(responses: list[tuple[str, str, int, float, int]]) -> None:
    """Attributes, warnings and standings are as if each response had been read as a whole."""
    short, long = RateLimits(0.1), RateLimits(0.1)
    now, left = NOW, 5_000
    for token, resource, change, step, size in responses:
        now, left = now + step, max(0, min(size, left + change))
        headers = {
            "X-RateLimit-Limit": str(size),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Used": str(size - left),
            "X-RateLimit-Reset": str(int(NOW) + 3_600 * (1 + int(now - NOW) // 3_600)),
            "X-RateLimit-Resource": resource,
        }
        assert _read_short(short, token, headers, now) == _read(long, token, headers, now)
        assert sorted(map(str, short.standings())) == sorted(map(str, long.standings()))


def _read(limits: RateLimits, token: str, headers: dict[str, str], now: float) -> tuple[dict[str, Any], int]:
    observation = read_response(200, headers, now)
    worse = limits.observe("api.example.com", observation, token=token, now=now)
    return attributes_of(observation, host="api.example.com", token=token), len(worse)


def _read_short(limits: RateLimits, token: str, headers: dict[str, str], now: float) -> tuple[dict[str, Any], int]:
    said = limits.unchanged("api.example.com", headers, token=token, now=now)
    if said is not None:
        return said, 0
    found = _read(limits, token, headers, now)
    (limit,) = read_response(200, headers, now).limits
    limits.open_window("api.example.com", headers, limit, token=token, now=now)
    return found


def test_events_are_the_same(recorded: Recorded) -> None:
    """A limit that goes down from full to nothing is told of as often by either way."""
    told: list[list[tuple[str, int]]] = []
    for read in (_read, _read_short):
        limits, before = RateLimits(0.1), len(recorded.lines)
        for left in range(1_000, -1, -1):
            headers = {
                "X-RateLimit-Limit": "1000",
                "X-RateLimit-Remaining": str(left),
                "X-RateLimit-Reset": str(int(NOW) + 3_600),
            }
            read(limits, "one", headers, NOW + (1_000 - left) / 10)
        lines = recorded.lines[before:]
        told.append([(line["event"], line["remaining"]) for line in lines if "rate_limit" in line["event"]])
    assert told[0] == told[1]
    assert len(told[0]) > 10
