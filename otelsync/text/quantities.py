"""Times and numbers as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND = 253_402_300_799
"""9999-12-31; a time from outside may be any 64-bit number."""


def duration(nanoseconds: int) -> str:
    """Three significant digits: ``812ns``, ``12.3ms``, ``1.20s``, ``2m05s``, ``1h02m``."""
    if nanoseconds < 1000:
        return f"{max(nanoseconds, 0)}ns"
    for size, unit in ((1_000, "us"), (1_000_000, "ms"), (1_000_000_000, "s")):
        number = f"{nanoseconds / size:#.3g}".rstrip(".")
        if "e" not in number and float(number) < (1000 if unit != "s" else 100):
            return number + unit
    seconds = round(nanoseconds / 1e9)
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    minutes = round(nanoseconds / 60e9)
    return f"{minutes // 60:,}h{minutes % 60:02}m"


def instant(nanoseconds: int) -> datetime:
    """A time in UTC, to the microsecond; what a calendar cannot hold becomes its last second."""
    return _EPOCH + timedelta(
        seconds=min(nanoseconds // 1_000_000_000, _LAST_SECOND), microseconds=nanoseconds // 1000 % 1_000_000
    )


def day_and_time(nanoseconds: int) -> str:
    """``2025-08-02 20:27:00``, in UTC."""
    return instant(nanoseconds).strftime("%Y-%m-%d %H:%M:%S")


def timestamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC, to the nanosecond."""
    return f"{instant(nanoseconds):%Y-%m-%dT%H:%M:%S}.{nanoseconds % 1_000_000_000:09}Z"


def counted(number: int, thing: str, things: str = "") -> str:
    """``1 span``, ``1,234 spans``; `things` where an s is not enough."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
