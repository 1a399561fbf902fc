"""Whether this machine's clock can be believed: against the endpoint's, and against itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from otelsync.doctor.findings import Finding, ok, problem, warning

_STEP: Final = "clock"
_NOTABLE: Final = 3.0
"""Seconds. An HTTP date is whole seconds, and an answer takes a while."""
_WRONG: Final = 30.0
_STEPPED: Final = 0.5


@dataclass(frozen=True)
class Reading:
    """What a server said the time was, and what it was here."""

    place: str
    date: str
    """An HTTP date."""
    asked_at: float
    """Unix seconds here, before the question and after the answer."""
    answered_at: float


@dataclass(frozen=True)
class Start:
    """The clocks at one moment."""

    wall: float = field(default_factory=time.time)
    monotonic: float = field(default_factory=time.monotonic)


def examine(readings: Iterable[Reading], start: Start) -> list[Finding]:
    """What there is to say of the clock."""
    skews = [(reading.place, skew) for reading in readings if (skew := skew_of(reading)) is not None]
    found = [_judge(place, skew) for place, skew in skews[:1]]
    if not found:
        found.append(ok(_STEP, "not_compared", "no endpoint has said what time it is, so the clock was not compared"))
    return [*found, *_steps(start, Start())]


def skew_of(reading: Reading) -> float | None:
    """Seconds by which the clock here is ahead of the server's (behind: negative), at the least; None: unreadable."""
    try:
        date = parsedate_to_datetime(reading.date[:64])
        theirs = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    # The date is cut to whole seconds: it was between `theirs` and a second later, at some time during the exchange.
    if reading.asked_at > theirs + 1:
        return reading.asked_at - theirs - 1
    return min(reading.answered_at - theirs, 0.0)


def _judge(place: str, skew: float) -> Finding:
    by = f"{abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} that of {place}"
    if abs(skew) < _NOTABLE:
        return ok(_STEP, "agrees", f"the clock agrees with that of {place}")
    mend = "set the clock of whichever is wrong by NTP (chrony, systemd-timesyncd)"
    if abs(skew) < _WRONG:
        return warning(_STEP, "skew", f"this clock is {by}: spans of both machines do not line up", mend)
    return problem(_STEP, "skew", f"this clock is {by}: spans are stored and looked for at the wrong time", mend)


def _steps(start: Start, end: Start) -> Iterator[Finding]:
    stepped = (end.wall - start.wall) - (end.monotonic - start.monotonic)
    if abs(stepped) > _STEPPED:
        message = f"the clock was set by {stepped:+.1f} s while the doctor ran: durations of spans are wrong by as much"
        yield problem(_STEP, "stepped", message, "let NTP slew the clock instead of stepping it")
    if hasattr(time, "CLOCK_BOOTTIME"):
        asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
        if asleep > 1:
            message = f"this machine has been suspended for {asleep:,.0f} s since it was started"
            yield ok(_STEP, "suspended", message, "a span that was open meanwhile is as much longer")
