"""Moments as a user writes them: a day, a time, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGO: Final = re.compile(r"(\d{1,9})\s*([smhdw])", re.ASCII)
FORMS: Final = "use 30m, 12h, 7d or 2w for so long ago, or a time in UTC such as 2026-01-31 or 2026-01-31T08:00"


def moment(text: str, now_ns: int) -> int:
    """Return the moment that is meant, in unix nanoseconds.

    Args:
        text: ``90s``, ``30m``, ``12h``, ``7d``, ``2w``: so long before `now_ns`. Else a date, or a date and a time, in
            the form of ISO 8601; in UTC unless it says another zone.
        now_ns: Now.

    Raises:
        ValueError: It is neither; the message says what can be.
    """
    ago = _AGO.fullmatch(text.strip().lower())
    if ago is not None:
        return max(now_ns - int(ago[1]) * _UNITS[ago[2]] * 1_000_000_000, 0)
    try:
        said = datetime.fromisoformat(text.strip())
        seconds = (said if said.tzinfo is not None else said.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(FORMS) from error
    return max(int(seconds * 1e6) * 1000, 0)
