"""Progress: items done and to do, and how long the rest takes, with the waits for rate limits that lie ahead.

A stage tracks what it iterates over. Every so often it logs an event, ``sync.repo.progress`` or after another stage's
kind, from which `otelsync ps`, `otelsync watch` and the metrics read how far it is.
"""

from __future__ import annotations

import math
import operator
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar, cast

from opentelemetry.trace import Span

from otelsync.hooks.harmless import harmless
from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.own_messages import own_logger
from otelsync.levels import INFO
from otelsync.logs.installed import emit
from otelsync.stages import rate_limits
from otelsync.stages.rate_limit import RateLimit
from otelsync.stages.rate_limits import SAME_WINDOW, Standing, forecast
from otelsync.text.presentable import presentable

T = TypeVar("T")

LONGEST: Final = 10.0
"""Seconds after which an event comes although progress has not grown by a percent."""
RECENT: Final = 128
"""Number of items that the pace is taken from."""
_BRIEF: Final = 0.001
STRIDE: Final = 8
"""So many items that take less than `_BRIEF` seconds are timed together, as the clock costs more than a count."""
_FEWEST: Final = 3
"""Items of which one has to know how long they took, to say anything of the rest."""

_log = own_logger("otelsync")


class Pace(NamedTuple):
    """Seconds that an item takes, at best and at worst as far as one can tell."""

    low: float
    high: float


class Spending(NamedTuple):
    """A rate limit, how many calls of it an item costs, and the longest time to its reset that was seen, in seconds."""

    host: str
    limit: RateLimit
    calls_per_item: float
    window: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Duration of the rest, in seconds from `now`; `waits` is the part of `low` that rate limits take."""

    low: float
    high: float
    waits: float = 0.0


def pace_of(durations: Sequence[float]) -> Pace | None:
    """The pace of items that took these seconds; None if they are too few.

    The median, and the ninth decile: a single item that took an hour changes neither. The mean lies between the two,
    or moves one of them, because it is what many items add up to.
    """
    if len(durations) < _FEWEST:
        return None
    ordered = sorted(durations)
    mean = math.fsum(ordered) / len(ordered)
    median, decile = ordered[(len(ordered) - 1) // 2], ordered[math.ceil(len(ordered) * 0.9) - 1]
    return Pace(min(median, mean), max(decile, mean))


def estimate(left: int, pace: Pace | None, spendings: Iterable[Spending] = (), *, now: float) -> Estimate | None:
    """Estimate how long `left` more items take at `pace`, with the waits ahead; None if too little is known.

    Of several tokens for one API the least wait counts at best and the longest at worst, of several APIs the longest.
    `now` is in epoch seconds.
    """
    if pace is None:
        return None
    if left <= 0:
        return Estimate(0.0, 0.0)
    best: dict[tuple[str, str], float] = {}
    worst = 0.0
    for spending in spendings:
        key = (spending.host, spending.limit.resource)
        best[key] = min(best.get(key, math.inf), wait_ahead(spending, left, pace.low, now=now))
        worst = max(worst, wait_ahead(spending, left, pace.high, now=now))
    waits = max(best.values(), default=0.0)
    low = left * pace.low + waits
    return Estimate(low, max(low, left * pace.high + worst), waits)


def wait_ahead(spending: Spending, left: int, seconds_per_item: float, *, now: float) -> float:
    """Seconds that `left` more items wait for a limit: to its next reset, and in further windows like this one."""
    limit, per_item = spending.limit, spending.calls_per_item
    if limit.remaining == 0 and limit.reset is not None and per_item <= 0:
        return max(0.0, limit.reset - now)
    if per_item <= 0:
        return 0.0
    per_second = per_item / seconds_per_item if seconds_per_item > 0 else math.inf
    ahead = forecast(limit, calls=math.ceil(left * per_item), per_second=per_second, now=now)
    if not ahead or not limit.limit or per_second <= 0:  # of a pace too small for a number
        return ahead.wait_seconds
    further_windows = max(0, ahead.calls_left - 1) // limit.limit
    return ahead.wait_seconds + further_windows * max(0.0, spending.window - limit.limit / per_second)


class _Seen:
    """Observations of one limit since tracking began."""

    def __init__(self, standing: Standing, done: int) -> None:
        self.limit = standing.limit
        self.done = done
        self.calls = self.items = 0
        self.window = 0.0

    def see(self, standing: Standing, done: int) -> None:
        """Take note of how the limit stands now that `done` items are done."""
        before, limit = self.limit, standing.limit
        if limit.reset is not None:
            self.window = max(self.window, limit.reset - standing.seen)
        if limit is before:
            return
        self.limit = limit
        if _same_window(before, limit) and before.remaining is not None and limit.remaining is not None:
            self.calls += max(0, before.remaining - limit.remaining)
            self.items += done - self.done
        self.done = done

    @property
    def calls_per_item(self) -> float:
        """As far as it is known; 0 if it is not."""
        return self.calls / self.items if self.items > 0 else 0.0


def _same_window(before: RateLimit, after: RateLimit) -> bool:
    if before.reset is None or after.reset is None:
        return before.reset is after.reset
    return abs(before.reset - after.reset) <= SAME_WINDOW


class Tracked(Protocol):
    """A stage whose items are tracked."""

    EVENTS: str
    """The beginning of its events' names."""
    is_milestone: bool
    """True if it is told at once how much there is to do."""
    progress_pause: float
    """Seconds that lie at least between two of its events."""
    span: Span
    waited: float
    trackers: Sequence[Tracker[Any]]
    """Those that it is to finish when it ends."""

    def totals(self) -> Mapping[str, int]:
        """Return its counts so far."""


class Tracker(Generic[T]):
    """Items that are counted as they are done: ``for pull in repo.track(pulls)``, or ``async for``.

    An item is done when the next one is asked for. The one at which a loop is left early is not counted. Without items
    it counts by hand, from the moment when it is made.

    Args:
        stage: Whose items they are.
        items: What to iterate over. What it raises passes unchanged.
        total: How many there are; by default ``len(items)``, where there is such a thing. It may be set later.
        clock: Seconds, for durations.
        present: Epoch seconds, for rate limits.
    """

    done = 0
    """Number of items that are done."""
    _last = _waited = _next_look = 0.0
    _stride = 1
    _is_open = False
    """True if the stage knows of it, and finishes it if nobody else does."""

    def __init__(
        self,
        stage: Tracked,
        items: Iterable[T] | AsyncIterable[T] = (),
        *,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        present: Callable[[], float] = time.time,
    ) -> None:
        self._stage = stage
        self._items = items
        self._is_by_hand = type(items) is tuple and not items
        self._total = _whole(total) if total is not None else None if self._is_by_hand else _length(items)
        self._clock = clock
        self._present = present
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._limits: dict[tuple[str, str, str], _Seen] = {}
        self._reset()
        if self._is_by_hand and self._total is not None:
            self._open()

    @property
    def total(self) -> int | None:
        """Number of items, as far as it is known; it may be set at any time."""
        return self._total

    @total.setter
    def total(self, number: int | None) -> None:
        self._total = _whole(number) if number is not None else None

    @property
    def percent(self) -> float | None:
        """Progress from 0 to 100, with one decimal; None while the total is not known."""
        if self._total is None:
            return None
        return min(100.0, math.floor(1000 * self.done / self._total) / 10) if self._total else 100.0

    @property
    def eta(self) -> Estimate | None:
        """Estimate of the rest; None if too little is known, or there are more items than the total said."""
        if self._total is None or self.done > self._total:
            return None
        spendings = [
            Spending(key[0], seen.limit, seen.calls_per_item, seen.window) for key, seen in self._limits.items()
        ]
        return estimate(self._total - self.done, pace_of(tuple(self._durations)), spendings, now=self._present())

    def advance(self, items: int = 1) -> None:
        """Count items as done that are not iterated over here: a page of them, or what other threads have done."""
        number = items if type(items) is int else _whole(items, "advance(%r)")
        if number is not None and number > 0:
            if not self._is_open:
                self._open()
            self.done += number
            self._time(number)

    def __iter__(self) -> Iterator[T]:
        self._begin()
        left = 1
        try:
            for item in cast("Iterable[T]", self._items):
                yield item
                self.done += 1
                left -= 1
                if not left:
                    left = self._time(self._stride)
        finally:
            self._close()

    async def __aiter__(self) -> AsyncIterator[T]:
        self._begin()
        left = 1
        try:
            async for item in cast("AsyncIterable[T]", self._items):
                yield item
                self.done += 1
                left -= 1
                if not left:
                    left = self._time(self._stride)
        finally:
            self._close()

    def _time(self, items: int) -> int:
        """Take note of how long the last `items` took; returns after how many more to do so again."""
        now = self._clock()
        took, self._last = now - self._last, now
        waited = self._stage.waited
        if waited != self._waited:  # a wait for a rate limit is no work, and is foreseen by itself
            took, self._waited = max(0.0, took - (waited - self._waited)), waited
        self._durations.append(took / items)
        if now >= self._next_look:
            self._look(now)
        self._stride = stride = min(2 * items, STRIDE) if took < _BRIEF else 1
        return stride

    def _begin(self) -> None:
        """Begin to iterate."""
        if self._is_by_hand and self._total is None:
            self._total = 0  # an empty tuple is iterated over, so nothing is to be done
        self._reset()
        self._open()

    def _open(self) -> None:
        """Have the stage finish it; of a repository or a pipeline one wants to know at once how much there is to do."""
        stage = self._stage
        if not hasattr(stage, "span"):
            return
        self._is_open = True
        trackers: list[Tracker[Any]] = vars(stage).setdefault("trackers", [])
        if self not in trackers:
            trackers.append(self)
        if self._total is not None and stage.is_milestone and self._told[0] < 0:
            self._look(self._last)

    def _close(self) -> None:
        """Tell how far it came, as nothing more comes: the stage need not know of it any more."""
        self.finish()
        trackers = vars(self._stage).get("trackers", [])
        if self._is_open and self in trackers:
            trackers.remove(self)
        self._is_open = False

    def _reset(self) -> None:
        self.done = 0
        self._stride = 1
        self._durations.clear()
        self._last = now = self._clock()
        self._waited = self._stage.waited
        self._next_look = now + self._stage.progress_pause
        self._told_at = -math.inf
        self._told = (-1, -1.0)
        self._look_at_limits()

    def _look_at_limits(self) -> None:
        """Take note of how the limits that this process sees stand now that so many items are done."""
        for standing in rate_limits.observed.standings():
            key = (standing.host, standing.limit.resource, standing.token)
            seen = self._limits.get(key)
            if seen is None:
                seen = self._limits[key] = _Seen(standing, self.done)
            seen.see(standing, self.done)

    @harmless
    def _look(self, now: float) -> None:
        """Tell how far it is, if that is worth an event. Never raises."""
        self._next_look = now + self._stage.progress_pause
        self._look_at_limits()
        grown = (self.percent or 0.0) - self._told[1] >= 1.0
        if grown or now - self._told_at >= LONGEST:
            self._tell(now)

    @harmless
    def finish(self) -> None:
        """Tell how far it came, unless that is known, or the stage has ended meanwhile. Never raises."""
        span = getattr(self._stage, "span", None)
        if span is not None and span.is_recording() and self.done != self._told[0]:
            self._look_at_limits()
            self._tell(self._clock())

    def _tell(self, now: float) -> None:
        stage = self._stage
        self._told_at, self._told = now, (self.done, self.percent or 0.0)
        emit(INFO, "otelsync", f"{stage.EVENTS}.progress", self._fields(), stage.span, is_data=True)

    def _fields(self) -> dict[str, Any]:
        eta = self.eta
        said = {
            "done": self.done,
            "total": self._total,
            "percent": self.percent,
            "eta_low_seconds": round(eta.low, 1) if eta else None,
            "eta_high_seconds": round(eta.high, 1) if eta else None,
            "waits_ahead_seconds": round(eta.waits, 1) if eta and eta.waits else None,
        }
        return {**self._stage.totals(), **{name: value for name, value in said.items() if value is not None}}


def _whole(number: object, given: str = "total=%r") -> int | None:
    """A number of items; what is none is not known: telemetry does not judge the host's arguments."""
    try:
        whole = operator.index(number)  # type: ignore[arg-type]
    except Exception as error:  # of its __index__
        hand_back(error)
        _log.warning(f"{given}: not a whole number, so it counts as not known", presentable(number))
        return None
    return whole if whole >= 0 else None


def _length(items: object) -> int | None:
    try:
        return len(items) if hasattr(type(items), "__len__") else None  # type: ignore[arg-type]
    except Exception as error:
        hand_back(error)
        return None
