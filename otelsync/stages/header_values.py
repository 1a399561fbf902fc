"""Values in headers and bodies that say a number, a moment or a duration: one reader for all the forms that they have.

All functions here are pure. What a server sends is hostile until shown otherwise: what is not finite, absurdly large or
no such value counts for nothing.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import mktime_tz, parsedate_tz
from functools import lru_cache
from typing import Final, NamedTuple

from otelsync.hooks.host_errors import hand_back

_LARGEST: Final = 10**13
_DAY: Final = 86_400.0
LONGEST: Final = 366 * _DAY
"""Seconds. A moment that is farther away is none."""
_EPOCH: Final = 10**9
"""A smaller figure cannot be a moment of these days, so it is seconds from now."""
_MILLISECONDS: Final = 10**11
_LONGEST_VALUE: Final = 64
_SAME: Final = 5.0
"""Seconds by which two clocks differ that say the same: a header has whole seconds, and a response takes a while."""

_NUMBER: Final = re.compile(r"(?a)\d{1,20}(?:\.\d{1,20})?")
_DURATION: Final = re.compile(r"(?a)(?:(\d{1,4})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?")
_ISO_DURATION: Final = re.compile(
    r"(?a)P(?:(\d{1,4})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?"
)

_ISO_DATE: Final = re.compile(r"(?a)\d{4}-\d\d-\d\d")


class Clock(NamedTuple):
    """The present, in epoch seconds, and by how many seconds the server's clock is ahead of it."""

    now: float
    skew: float = 0.0

    def own(self, moment: float) -> float:
        """Return a moment of the server's clock on this one."""
        return moment - self.skew


def clock_of(now: float, date: str = "", age: str = "") -> Clock:
    """Return the clock of a server that has sent ``Date``, and of a cache that has sent ``Age`` (RFC 9110, RFC 9111).

    >>> clock_of(1445412330.0, "Wed, 21 Oct 2015 07:27:30 GMT")
    Clock(now=1445412330.0, skew=120.0)
    """
    sent = _http_date(date) if date else None
    if sent is None:
        return Clock(now)
    skew = sent + (number(age) or 0.0) - now
    return Clock(now, skew) if _SAME < abs(skew) <= LONGEST else Clock(now)


def number(text: str) -> float | None:
    """Read a number that is finite and not negative, with or without a fraction."""
    text = text.strip()
    if len(text) > _LONGEST_VALUE or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) and value <= _LARGEST else None


def count(text: str) -> int | None:
    """Read a whole number; of a fraction, what is whole.

    >>> count("599.0"), count("0.4"), count("-1"), count("1e3")
    (599, 0, None, None)
    """
    if len(text) <= 12 and text.isascii() and text.isdecimal():
        return int(text)
    value = number(text)
    return int(value) if value is not None and value < 10**12 else None


def is_negative(text: str) -> bool:
    """Return whether a value is a number below 0: of a limit that it is none, of the rest that nothing is left."""
    text = text.strip()
    return text.startswith("-") and number(text[1:]) is not None


def moment(text: str, clock: Clock) -> float | None:
    """Read when something ends, in epoch seconds of our clock.

    It may be told in epoch seconds or milliseconds, as a date of HTTP or ISO 8601, in seconds from now, or as a
    duration such as ``1m2.5s`` or ``PT62.5S``.
    """
    if not text:
        return None
    if len(text) == 10 and text.isascii() and text.isdecimal():  # epoch seconds, as most send it
        return _sensible(clock.own(int(text)), clock)
    text = text.strip()
    seconds = number(text)
    if seconds is None:
        seconds = _duration(text)
    if seconds is None:
        absolute = _date(text)
    elif seconds < _EPOCH:
        return _sensible(clock.now + seconds, clock)
    else:
        absolute = seconds / 1000 if seconds >= _MILLISECONDS else seconds
    return _sensible(clock.own(absolute), clock) if absolute is not None else None


def wait(text: str, clock: Clock) -> float | None:
    """Read how long to wait, in seconds: ``Retry-After`` is a number of them, or an HTTP date (RFC 9110, 10.2.3).

    Some send a moment in epoch seconds, or a duration.
    """
    seconds = number(text)
    if seconds is not None and seconds < _EPOCH:
        return seconds if seconds <= LONGEST else None
    if not text.strip():
        return None
    end = moment(text, clock)
    if end is None:
        past = _date(text.strip())
        return 0.0 if past is not None and past < clock.now else None
    return max(0.0, end - clock.now)


def _sensible(when: float, clock: Clock) -> float | None:
    return when if clock.now - _DAY <= when <= clock.now + LONGEST else None


def _duration(text: str) -> float | None:
    if not text or len(text) > _LONGEST_VALUE:
        return None
    found = _DURATION.fullmatch(text)
    if found is not None and any(found.groups()):
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    found = _ISO_DURATION.fullmatch(text)
    if found is not None and any(found.groups()):
        days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return days * _DAY + hours * 3600 + minutes * 60 + seconds
    return None


def _date(text: str) -> float | None:
    """Read a date of ISO 8601 or HTTP, in epoch seconds; one without a zone is in UTC."""
    if not 10 <= len(text) <= _LONGEST_VALUE:
        return None
    return _iso_date(text) if _ISO_DATE.match(text) else _http_date(text)


def _iso_date(text: str) -> float | None:
    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        hand_back(error)
        return None


@lru_cache(64)
def _http_date(text: str) -> float | None:
    """Read a date of HTTP. Many responses have the same one."""
    if len(text) > _LONGEST_VALUE:
        return None
    try:
        parts = parsedate_tz(text)
        return float(mktime_tz(parts)) if parts else None
    except (ValueError, OverflowError, TypeError, IndexError) as error:
        hand_back(error)
        return None
