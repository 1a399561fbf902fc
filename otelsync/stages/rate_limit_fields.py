"""Rate limits in a response, as checked values: GitHub's headers and GraphQL bodies, Retry-After, and the
IETF's RateLimit fields.

All functions here are pure. What a server sends is hostile until shown otherwise: what is negative, not finite,
absurdly large or no number at all counts for nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import mktime_tz, parsedate_tz
from typing import Final

from otelsync.hooks.host_errors import hand_back

_LARGEST: Final = 10**12
_DAY: Final = 86_400.0
_LONGEST: Final = 366 * _DAY
_EPOCH: Final = 10**9
"""A smaller figure cannot be a moment of these days, so it is seconds from now."""
_MILLISECONDS: Final = 10**11
_LONGEST_FIELD: Final = 2048
_MOST_ITEMS: Final = 8

_OTHERS: Final = frozenset(("retry-after", "x-github-request-id", "gh-limited-by"))
_RESOURCE: Final = re.compile(r"(?a)[\w.:/-]{1,64}")
_DURATION: Final = re.compile(r"(?a)(?:(\d{1,4})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?")
_PIECES: Final = {
    ",": re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+'),
    ";": re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^;"])+'),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """One limit: of `limit` calls or points in a window, `remaining` are left until `reset`, in epoch seconds."""

    resource: str = ""
    limit: int | None = None
    remaining: int | None = None
    used: int | None = None
    reset: float | None = None

    @property
    def left(self) -> float:
        """The part of the limit that remains, from 0 to 1; 1 where it is not known."""
        if self.remaining is None:
            return 1.0
        return min(1.0, self.remaining / self.limit) if self.limit else float(self.remaining > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Limits in one response. `retry_after` is in seconds; `refused` is ``primary``, ``secondary`` or empty."""

    limits: tuple[RateLimit, ...] = ()
    retry_after: float | None = None
    refused: str = ""

    @property
    def tightest(self) -> RateLimit | None:
        """The limit of which least is left."""
        return min(self.limits, key=lambda limit: limit.left, default=None)

    def __bool__(self) -> bool:
        return bool(self.limits or self.refused or self.retry_after is not None)


def read_response(status: int, headers: Mapping[str, str], now: float, body: bytes = b"") -> Observation:
    """Read the limits in a response of any HTTP API.

    Args:
        status: Its status code.
        headers: Its headers, in any case.
        now: The present, in epoch seconds.
        body: As much of its body as is at hand; it matters for 403 and 429 alone.
    """
    told = _told(headers)
    if not told and status not in (403, 429):
        return Observation()
    limits = tuple(_conventional(told, now)) or tuple(_ietf(told, now)) or tuple(_older_ietf(told, now))
    retry_after = seconds_to_wait(told.get("retry-after", ""), now)
    return Observation(
        limits=limits, retry_after=retry_after, refused=_refusal(status, told, limits, retry_after, body)
    )


def _told(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that matter here, with names in lower case."""
    told = {}
    for name, value in headers.items():
        name = name.lower()
        if "ratelimit" in name or name in _OTHERS:
            told[name] = value
    return told


def seconds_to_wait(text: str, now: float) -> float | None:
    """Read ``Retry-After``, in seconds: a whole number of them, or an HTTP date (RFC 9110, section 10.2.3).

    >>> seconds_to_wait("Wed, 21 Oct 2015 07:28:00 GMT", 1445412450)
    30.0
    """
    text = text.strip()
    seconds = _number(text)
    if seconds is None and 10 <= len(text) <= 64:
        try:
            parts = parsedate_tz(text)
            seconds = max(0.0, mktime_tz(parts) - now) if parts else None
        except (ValueError, OverflowError, TypeError, IndexError):
            seconds = None
    return seconds if seconds is not None and seconds <= _LONGEST else None


def _refusal(
    status: int, told: Mapping[str, str], limits: tuple[RateLimit, ...], retry_after: float | None, body: bytes
) -> str:
    """Return the kind of limit that a 403 or 429 is about. Secondary limits are GitHub's; others know one kind."""
    if status not in (403, 429):
        return ""
    text = body[:8192].lower()
    if b"secondary rate limit" in text or b"abuse detection" in text:
        return "secondary"
    if any(limit.remaining == 0 for limit in limits) or b"rate limit exceeded" in text:
        return "primary"
    is_github = "x-github-request-id" in told or "gh-limited-by" in told
    if status == 429 or retry_after is not None:
        return "secondary" if is_github else "primary"
    return ""


def _conventional(told: Mapping[str, str], now: float) -> Iterator[RateLimit]:
    """``X-RateLimit-*`` as GitHub sends it, and with the endings of Groq and OpenAI."""
    for ending in ("", "-requests", "-tokens"):
        if f"x-ratelimit-limit{ending}" not in told and f"x-ratelimit-remaining{ending}" not in told:
            continue
        counts = {name: _count(told.get(f"x-ratelimit-{name}{ending}", "")) for name in ("limit", "remaining", "used")}
        if counts["limit"] is not None or counts["remaining"] is not None:
            resource = _resource(told.get("x-ratelimit-resource", "") or ending[1:])
            yield RateLimit(resource=resource, **counts, reset=_moment(told.get(f"x-ratelimit-reset{ending}", ""), now))


def _ietf(told: Mapping[str, str], now: float) -> Iterator[RateLimit]:
    """``RateLimit`` and ``RateLimit-Policy`` of draft-ietf-httpapi-ratelimit-headers, from its 8th version on; and the
    form that ``RateLimit`` had in the 7th, ``limit=100, remaining=50, reset=30``.
    """
    quotas = {name: _count(values.get("q", "")) for name, values in _items(told.get("ratelimit-policy", ""))}
    older: dict[str, str] = {}
    for name, values in _items(told.get("ratelimit", "")):
        key, is_older, value = name.partition("=")
        if is_older:
            older[key.strip()] = value.strip()
            continue
        limit = quotas.get(name) if name in quotas else next(iter(quotas.values()), None)
        yield _limit_of(name, limit, values.get("r", ""), values.get("t", ""), now)
    if "remaining" in older:
        yield _limit_of("", _count(older.get("limit", "")), older["remaining"], older.get("reset", ""), now)


def _older_ietf(told: Mapping[str, str], now: float) -> Iterator[RateLimit]:
    """``RateLimit-Limit``, ``-Remaining`` and ``-Reset`` of the draft's versions up to the 6th."""
    remaining = told.get("ratelimit-remaining", "")
    if _count(remaining) is not None:
        limit = _count(re.split("[,;]", told.get("ratelimit-limit", ""), maxsplit=1)[0])
        yield _limit_of("", limit, remaining, told.get("ratelimit-reset", ""), now)


def _limit_of(name: str, limit: int | None, remaining: str, reset: str, now: float) -> RateLimit:
    return RateLimit(resource=_resource(name), limit=limit, remaining=_count(remaining), reset=_moment(reset, now))


def _items(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The items of a structured field (RFC 9651): names, and their parameters as they stand."""
    for item in _PIECES[","].findall(text[:_LONGEST_FIELD])[:_MOST_ITEMS]:
        name, *parameters = _PIECES[";"].findall(item)[:_MOST_ITEMS] or [""]
        pairs = (parameter.partition("=") for parameter in parameters)
        yield name.strip().strip('"'), {key.strip(): value.strip() for key, _, value in pairs}


def read_graphql(body: object, now: float) -> Observation:
    """Read the decoded body of a GraphQL response of GitHub: ``rateLimit {...}``, and errors of that type."""
    if not isinstance(body, Mapping):
        return Observation()
    data = body.get("data")
    told = data.get("rateLimit") if isinstance(data, Mapping) else None
    refused = "primary" if _is_refused(body.get("errors")) else ""
    if isinstance(told, Mapping):
        counts = {name: _count(str(told.get(name, ""))) for name in ("limit", "remaining", "used")}
        read = RateLimit(resource="graphql", **counts, reset=_date(told.get("resetAt"), now))
        return Observation(limits=(read,), refused=refused)
    return Observation(limits=(RateLimit(resource="graphql", remaining=0),) if refused else (), refused=refused)


def _is_refused(errors: object) -> bool:
    """Return whether an error is of type ``RATE_LIMITED``, or of the other kinds that have been seen."""
    if not isinstance(errors, list):
        return False
    for error in errors[:100]:
        if not isinstance(error, Mapping):
            continue
        extensions = error.get("extensions")
        code = extensions.get("code") if isinstance(extensions, Mapping) else None
        if error.get("type") in ("RATE_LIMITED", "RATE_LIMIT") or code == "graphql_rate_limit":
            return True
    return False


def _date(value: object, now: float) -> float | None:
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        moment = datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        hand_back(error)
        return None
    return moment if abs(moment - now) <= _LONGEST else None


def _count(text: str) -> int | None:
    text = text.strip()
    return int(text) if len(text) <= 12 and text.isascii() and text.isdecimal() else None


def _number(text: str) -> float | None:
    """A number that is finite and not negative, with or without a fraction."""
    if len(text) > 24 or not re.fullmatch(r"(?a)\d+(\.\d+)?", text):
        return None
    number = float(text)
    return number if math.isfinite(number) and number <= _LARGEST * 10 else None


def _moment(text: str, now: float) -> float | None:
    """Read the end of a window, in epoch seconds: told so, in milliseconds, in seconds from now, or as ``1m2.5s``."""
    text = text.strip()
    number = _number(text)
    if number is None:
        number = _duration(text)
    if number is None:
        return None
    if number < _EPOCH:
        number += now
    elif number >= _MILLISECONDS:
        number /= 1000
    return number if now - _DAY <= number <= now + _LONGEST else None


def _duration(text: str) -> float | None:
    found = _DURATION.fullmatch(text) if text else None
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _resource(text: str) -> str:
    return text if _RESOURCE.fullmatch(text) else ""
