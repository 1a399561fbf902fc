"""Headers of a response that belong together to one limit: found by their names, of whichever API.

Names are made of words: ``X-RateLimit-Remaining-Tokens`` has one for what it says (remaining) and which limit it
is about (tokens). The names of an API's responses are mostly the same, so what was found for them is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from otelsync.stages.header_values import Clock, count, is_negative, moment, number
from otelsync.stages.rate_limit import RateLimit

MOST_HEADERS: Final = 64
"""Headers of one response that are looked at."""
_LONGEST_NAME: Final = 96
_LONGEST_FIELD: Final = 2048
_LONGEST_COUNT: Final = 12
_EPOCH_DIGITS: Final = 10
_MOST_ITEMS: Final = 8

LIMIT, REMAINING, USED, RESET, AFTER, WINDOW, NAME = "limit", "remaining", "used", "reset", "after", "window", "name"

_FAMILY: Final = re.compile(r"(?:[a-z0-9]{1,32}-){0,2}rate-?limit(?:-|$)")
_ROLES: Final = {
    "limit": LIMIT,
    "max": LIMIT,
    "remaining": REMAINING,
    "used": USED,
    "observed": USED,
    "reset": RESET,
    "resettime": RESET,
    "after": AFTER,
    "name": NAME,
    "resource": NAME,
    "bucket": NAME,
}
_UNREAD: Final = frozenset(("policy", "reason", "delay", "nearlimit", "scope", "global", "retry", "cost"))
"""Words of headers that say something else."""
_WINDOWS: Final = {
    "second": 1.0,
    "secondly": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "hourly": 3600.0,
    "day": 86_400.0,
    "daily": 86_400.0,
    "month": 30 * 86_400.0,
    "year": 365 * 86_400.0,
}
_SHOPIFY: Final = "x-shopify-shop-api-call-limit"
_STRUCTURED: Final = (("ratelimit", "ratelimit-policy"), ("beta-ratelimit", "beta-ratelimit-policy"))
"""``RateLimit`` and ``RateLimit-Policy`` of the IETF; Jira sends them with ``Beta-`` before."""
_RESOURCE: Final = re.compile(r"(?a)[\w.:/ +-]{1,64}")
_PIECES: Final = {
    ",": re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+'),
    ";": re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^;"])+'),
}
_TOTALS: Final = re.compile(r"(?a)\s*(total|remaining|resets)\s*=\s*(\d{1,12})\s*")


class _Group(NamedTuple):
    """The headers of one limit: by what each says, its name; empty where there is none."""

    resource: str
    limit: str = ""
    remaining: str = ""
    used: str = ""
    reset: str = ""
    after: str = ""
    window: str = ""
    name: str = ""


def limits_in(told: Mapping[str, str], clock: Clock) -> Iterator[RateLimit]:
    """Return the limits that headers tell of.

    Args:
        told: Headers about limits, with names in lower case.
        clock: The present.
    """
    groups, totals = _groups(tuple(told))
    for group in groups:
        yield from _conventional(group, told, clock)
    for name, resource in totals:
        yield from _total(told[name], resource, clock)
    for limit, policy in _STRUCTURED:
        if limit in told:
            yield from _structured(told[limit], told.get(policy, ""), clock)
    if _SHOPIFY in told:
        yield from _used_of(told[_SHOPIFY])


def usual_limit(told: Mapping[str, str], clock: Clock) -> RateLimit | None:
    """Return what :func:`limits_in` returns where that is one limit as GitHub sends it; None: it is to be asked.

    Nearly all responses differ from the one before in what is left alone, so the rest is read once.
    """
    group = sole_group(tuple(told))
    if group is None or clock.skew or "retry-after" in told:
        return None
    left = told[group.remaining]
    size, reset, name = told[group.limit], told[group.reset], told.get(group.name, "")
    if len(left) > _LONGEST_COUNT or not (left.isascii() and left.isdecimal()) or len(size) + len(name) > _LONGEST_NAME:
        return None
    window = _window_of(group.resource, size, reset, name)
    if window is None or moment(reset, clock) is None:
        return None
    resource, limit, ends = window
    used = count(told[group.used]) if group.used else None
    return RateLimit(resource=resource, limit=limit, remaining=int(left), used=used, reset=ends)


@lru_cache(256)
def sole_group(names: tuple[str, ...]) -> _Group | None:
    """Return the only group that headers of these names make up, if all that tells of a limit is usual in it."""
    groups, totals = _groups(names)
    if len(groups) != 1 or totals or _SHOPIFY in names or any(name in names for name, _ in _STRUCTURED):
        return None
    (group,) = groups
    is_usual = group.limit and group.remaining and group.reset and not (group.after or group.window)
    return group if is_usual and group.resource not in _WINDOWS else None


@lru_cache(256)
def _window_of(resource: str, size: str, reset: str, name: str) -> tuple[str, int, float] | None:
    """Return of which limit headers tell, how large it is and when it is reset; None where that is not as usual."""
    is_plain = all(text.isascii() and text.isdecimal() for text in (size, reset))
    if not is_plain or len(reset) != _EPOCH_DIGITS or len(size) > _LONGEST_COUNT:
        return None
    return _resource(name) or resource, int(size), float(int(reset))


@lru_cache(256)
def _groups(names: tuple[str, ...]) -> tuple[list[_Group], list[tuple[str, str]]]:
    """Return the groups that headers of these names make up, and those that tell all of a limit in one."""
    groups: dict[str, dict[str, str]] = {}
    totals: list[tuple[str, str]] = []
    # Some send the same twice: what has an X before it comes first.
    for name in sorted(names[:MOST_HEADERS], key=lambda name: not name.startswith("x-ratelimit")):
        found = _FAMILY.match(name) if len(name) <= _LONGEST_NAME else None
        if found is None or name in {part for pair in _STRUCTURED for part in pair}:
            continue
        words = [word for word in name[found.end() :].split("-") if word]
        if name.startswith("zendesk-"):
            totals.append((name, "-".join(words)))
            continue
        role, resource = _role_of(words)
        if role:
            groups.setdefault(resource, {}).setdefault(role, name)
    return [_Group(resource, **names) for resource, names in groups.items()], totals


def _role_of(words: list[str]) -> tuple[str, str]:
    """Return what a header says, by the words of its name, and which limit it is about; empty: nothing that is read."""
    if not _UNREAD.isdisjoint(words):
        return "", ""
    if words[-2:] == ["interval", "milliseconds"]:
        return WINDOW, "-".join(words[:-2])
    if "reset" in words and words[-1] == "after":
        return AFTER, "-".join(word for word in words if word not in ("reset", "after"))
    for word in words:
        if word in _ROLES and word != "after":
            rest = "-".join(other for other in words if other is not word)
            return ("", "") if _ROLES[word] == NAME and rest else (_ROLES[word], rest)
    return LIMIT, "-".join(words)


def _conventional(group: _Group, told: Mapping[str, str], clock: Clock) -> Iterator[RateLimit]:
    """``X-RateLimit-Limit`` and its kin; several limits in one, as lists, too."""
    said = told.get
    left_text, limit_text = said(group.remaining, ""), said(group.limit, "")
    reset_text = said(group.after) or said(group.reset, "")
    resource = (_resource(said(group.name, "")) if group.name else "") or group.resource
    if "," in left_text or "," in limit_text:
        yield from _several(group, told, resource, clock)
        return
    limit, left = count(limit_text), _left(left_text, limit_text)
    if limit is not None or left is not None:
        yield RateLimit(
            resource=resource,
            limit=limit,
            remaining=left,
            used=count(said(group.used, "")),
            reset=moment(reset_text, clock),
            window=_WINDOWS.get(group.resource) or _seconds(said(group.window, "")),
        )


def _several(group: _Group, told: Mapping[str, str], resource: str, clock: Clock) -> Iterator[RateLimit]:
    """Several limits in one header, or one limit and its policies."""
    remaining = _listed(told.get(group.remaining, "")[:_LONGEST_FIELD])
    limits = _listed(told.get(group.limit, "")[:_LONGEST_FIELD])
    resets = _listed((told.get(group.after) or told.get(group.reset, ""))[:_LONGEST_FIELD], dates=True)
    used = _listed(told.get(group.used, "")[:_LONGEST_FIELD])
    for place in range(max(1, min(len(remaining), _MOST_ITEMS))):
        limit_text = _at(limits, place)
        limit = count(limit_text.partition(";")[0])
        left = _left(_at(remaining, place), limit_text)
        if limit is None and left is None:
            continue
        reset = _at(resets, place) if len(resets) == len(remaining) else _at(resets, 0)
        yield RateLimit(
            resource=resource if place == 0 else f"{resource or 'limit'} {place + 1}",
            limit=limit,
            remaining=left,
            used=count(_at(used, place)),
            reset=moment(reset, clock),
            window=_WINDOWS.get(group.resource) or _window_in(limits, place),
        )


def _left(text: str, limit: str) -> int | None:
    """Return what remains. Below 0 nothing does, unless the limit is below 0 as well, which says that there is none."""
    if text.startswith("-") and is_negative(text) and limit and not is_negative(limit):
        return 0
    return count(text)


def _seconds(milliseconds: str) -> float | None:
    length = number(milliseconds) if milliseconds else None
    return length / 1000 if length else None


def _window_in(limits: list[str], place: int) -> float | None:
    """Return the length of a window as the policy says it that an older draft tells with the limit."""
    limit = _at(limits, place).partition(";")[0].strip()
    for policy in limits[1:]:
        quota, _, parameters = policy.partition(";")
        if quota.strip() == limit and (found := re.search(r"(?a)\bw\s*=\s*(\d{1,9})", parameters)):
            return float(found[1])
    return None


def _listed(text: str, *, dates: bool = False) -> list[str]:
    """Split a list. A date of HTTP has a comma of its own."""
    if "," not in text or (dates and text[:3].isalpha()):
        return [text.strip()]
    return [part.strip() for part in text.split(",", _MOST_ITEMS)]


def _at(values: list[str], place: int) -> str:
    return values[place] if place < len(values) else ""


def _structured(text: str, policies: str, clock: Clock) -> Iterator[RateLimit]:
    """``RateLimit`` and ``RateLimit-Policy`` of draft-ietf-httpapi-ratelimit-headers, from its 8th version on; and the
    form that ``RateLimit`` had in the 7th, ``limit=100, remaining=50, reset=30``.
    """
    known = dict(_items(policies))
    older: dict[str, str] = {}
    for name, values in _items(text):
        key, is_older, value = name.partition("=")
        if is_older:
            older[key.strip()] = value.strip()
            continue
        policy = known.get(name) if name in known else next(iter(known.values()), {})
        yield RateLimit(
            resource=_resource(name),
            limit=count((policy or {}).get("q", "")),
            remaining=count(values.get("r", "")),
            reset=moment(values.get("t", ""), clock),
            window=number((policy or {}).get("w", "")),
        )
    if "remaining" in older:
        reset = moment(older.get("reset", ""), clock)
        yield RateLimit(limit=count(older.get("limit", "")), remaining=count(older["remaining"]), reset=reset)


def _items(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The items of a structured field (RFC 9651): names, and their parameters as they stand."""
    for item in _PIECES[","].findall(text[:_LONGEST_FIELD])[:_MOST_ITEMS]:
        name, *parameters = _PIECES[";"].findall(item)[:_MOST_ITEMS] or [""]
        pairs = (parameter.partition("=") for parameter in parameters)
        yield name.strip().strip('"'), {key.strip(): value.strip() for key, _, value in pairs}


def _total(text: str, resource: str, clock: Clock) -> Iterator[RateLimit]:
    """``Zendesk-RateLimit-Tickets-Index: total=100; remaining=99; resets=41``."""
    said = {found[1]: found[2] for part in text[:_LONGEST_FIELD].split(";") if (found := _TOTALS.fullmatch(part))}
    if "remaining" in said:
        reset = moment(said.get("resets", ""), clock)
        yield RateLimit(
            resource=resource, limit=count(said.get("total", "")), remaining=count(said["remaining"]), reset=reset
        )


def _used_of(text: str) -> Iterator[RateLimit]:
    """``X-Shopify-Shop-Api-Call-Limit: 32/40``, a bucket that leaks."""
    used, _, limit = map(count, text[:_LONGEST_NAME].partition("/"))
    if used is not None and limit is not None:
        yield RateLimit(resource="bucket", limit=limit, remaining=max(0, limit - used), used=used)


def _resource(text: str) -> str:
    text = text.strip()
    return text if _RESOURCE.fullmatch(text) else ""
