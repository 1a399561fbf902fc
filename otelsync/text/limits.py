"""Rate limits as attributes of a span: written by whoever sees a response, read by every view."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from otelsync import vocabulary

_MOST: Final = 8
_LONGEST: Final = 120
_SPENT: Final = re.compile(r"(?a)(.{0,80}?) ?(\d{1,15})/(\d{1,15}|\?)(?: until (\d{1,12}))?")


class Limit(NamedTuple):
    """A limit as a span tells of it; `reset` in epoch seconds. What was not said is None, or empty."""

    host: str
    token: str
    resource: str
    limit: int | None
    remaining: int | None
    reset: float | None
    is_assumed: bool = False
    """True if nobody has told the time of the reset."""

    @property
    def name(self) -> str:
        """Name that tells it from others: resource, host and the fingerprint of the token.

        >>> Limit("api.github.com", "1f2e3d4c", "core", 5000, 12, None).name
        'core of api.github.com, token 1f2e3d4c'
        """
        where = f"{self.resource} of {self.host}" if self.resource and self.host else self.resource or self.host
        return f"{where}, token {self.token}" if self.token else where


def as_text(resource: str, limit: int | None, remaining: int, reset: float | None) -> str:
    """Return one of several limits of a response as text, which an attribute holds a list of.

    >>> as_text("tokens", 18000, 897, 1800000000.0)
    'tokens 897/18000 until 1800000000'
    """
    until = f" until {int(reset)}" if reset is not None else ""
    return f"{resource} {remaining}/{'?' if limit is None else limit}{until}".lstrip()


def limits_of(attributes: Mapping[str, object]) -> Iterator[Limit]:
    """Return the limits that a span tells of, the tightest first."""
    host, token = (_text(attributes.get(key)) for key in (vocabulary.SYNC_RATE_LIMIT_HOST, _TOKEN))
    limit, remaining = _whole(attributes.get(vocabulary.SYNC_RATE_LIMIT_LIMIT)), _whole(attributes.get(_REMAINING))
    if limit is not None or remaining is not None:
        yield Limit(
            host,
            token,
            _text(attributes.get(vocabulary.SYNC_RATE_LIMIT_RESOURCE)),
            limit,
            remaining,
            _moment(attributes.get(vocabulary.SYNC_RATE_LIMIT_RESET)),
            attributes.get(vocabulary.SYNC_RATE_LIMIT_ASSUMED) is True,
        )
    others = attributes.get(vocabulary.SYNC_RATE_LIMIT_OTHERS)
    if isinstance(others, Iterable) and not isinstance(others, (str, bytes, Mapping)):
        for _, text in zip(range(_MOST), others, strict=False):
            found = _SPENT.fullmatch(text) if isinstance(text, str) else None
            if found is not None:
                size = None if found[3] == "?" else int(found[3])
                yield Limit(host, token, found[1], size, int(found[2]), float(found[4]) if found[4] else None)


_TOKEN: Final = vocabulary.SYNC_RATE_LIMIT_TOKEN
_REMAINING: Final = vocabulary.SYNC_RATE_LIMIT_REMAINING


def _text(value: object) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _whole(value: object) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10**15
    return value if is_count and isinstance(value, int) else None


def _moment(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1 << 33:
        return None
    return float(value)
