"""The rate limits of the APIs that a sync calls: what is left of each, and a warning before it runs out."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from opentelemetry.trace import Span, get_current_span

from otelsync import in_force, vocabulary
from otelsync.digests import blake2b
from otelsync.journal import forks
from otelsync.levels import INFO, WARNING
from otelsync.logs.installed import emit
from otelsync.recording.runtime_context import current_scope
from otelsync.stages.rate_limit import Observation, RateLimit
from otelsync.stages.rate_limit_windows import Window, Windows, attributes_in, names_in
from otelsync.text.limits import as_text

OK, LOW, EXHAUSTED = "ok", "low", "exhausted"
_LEVELS: Final = (OK, LOW, EXHAUSTED)
_EVENTS: Final = {LOW: "sync.rate_limit.low", EXHAUSTED: "sync.rate_limit.exhausted"}
_MATERIAL: Final = 0.1
"""Part of a limit that must be used up or have come back before it is logged again."""
SAME_WINDOW: Final = 5.0
"""Seconds by which servers differ in when they say that one and the same window ends."""
SECONDARY: Final = "secondary"
"""In place of a resource: GitHub's limits that count no requests."""
_USUAL_WAIT: Final = 60.0
"""Seconds after which a refusal that names no time is worth another warning; it is what GitHub advises to wait."""
_QUIET: Final = 60.0
"""Seconds between two events that say the same of one limit."""
_MOST_TOLD: Final = 8
"""Limits of one response that its span tells of."""
_MOST: Final = 256
_SHORT_SECRET: Final = 20
_salt = os.urandom(16)


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of one limit when it was last seen, at `seen` in epoch seconds; `token` is a fingerprint."""

    host: str
    token: str
    limit: RateLimit
    level: str
    seen: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """A forecast for work to come: does it exhaust a limit?

    `exhausted_at` is when, in epoch seconds; None if the limit suffices. `wait_seconds` is how long it then is until
    the reset, 0 where that is unknown. `calls_left` is what remains to be done then.
    """

    exhausted_at: float | None = None
    wait_seconds: float = 0.0
    calls_left: int = 0

    def __bool__(self) -> bool:
        return self.exhausted_at is not None


def forecast(limit: RateLimit, *, calls: int, per_second: float, now: float | None = None) -> Forecast:
    """Will `calls` more calls, at `per_second` of them, exhaust `limit` before its reset, and when?

    The rate is taken as even. A limit of which it is not known what remains suffices.
    """
    now = time.time() if now is None else now
    remaining = limit.remaining
    if remaining is None or calls <= remaining or (limit.reset is not None and limit.reset <= now):
        return Forecast()
    exhausted_at = now + (remaining / per_second if per_second > 0 and math.isfinite(per_second) else 0.0)
    if limit.reset is not None and exhausted_at >= limit.reset:
        return Forecast()
    wait = limit.reset - exhausted_at if limit.reset is not None else 0.0
    return Forecast(exhausted_at, wait, calls - remaining)


def fingerprint(credentials: str) -> str:
    """Return eight hex digits that tell credentials apart without revealing them; empty for none.

    The same in every process for a token of 20 characters or more. A shorter one could be found by trying, so its
    fingerprint holds in this process alone.
    """
    secret = credentials.strip().rpartition(" ")[2]
    if not secret:
        return ""
    key = b"" if len(secret) >= _SHORT_SECRET else _salt
    return blake2b(secret.encode("utf-8", "replace"), digest_size=4, key=key).hexdigest()


@dataclass(frozen=True, slots=True)
class _Said:
    """An event of one limit: when it was last said, and how many times it was so since, unsaid; and the latest of
    these."""

    at: float
    times: int
    level: int
    standing: Standing
    span: Span


class RateLimits:
    """The latest standing of each limit, by host, resource and token; safe to use from many threads.

    Args:
        low: At which part of a limit it is low; by default as the setting ``rate_limit_low`` says.
        most: How many limits are kept; the one that was not seen for longest goes first.
    """

    def __init__(self, low: float | None = None, *, most: int = _MOST) -> None:
        self._low = low
        self._most = most
        self._standings: OrderedDict[tuple[str, str, str], Standing] = OrderedDict()
        self._told: dict[tuple[str, str, str], RateLimit] = {}
        self._said: OrderedDict[tuple[str, str, str, str], _Said] = OrderedDict()
        """By event and limit."""
        self.windows = Windows()
        """Windows in which most responses say nothing new."""
        self._lock = threading.RLock()  # a signal handler may ask an API as well

    def completed(self, host: str, observation: Observation, *, token: str = "", now: float) -> Observation:
        """Return an observation with what else is known: a limit that refuses is spent, and until when.

        What was told before stands where the response does not say it. Where nobody has told the time, the usual wait
        is assumed, and marked so.
        """
        if not observation.refused:
            return observation
        tightest = (observation.tightest if observation.refused == "primary" else None) or RateLimit()
        limits = [limit for limit in observation.limits if limit is not tightest]
        if observation.refused == "secondary":
            tightest = RateLimit(resource=SECONDARY)
        limits.append(self._spent(host, token, tightest, observation.retry_after, now))
        return replace(observation, limits=tuple(limits))

    def _spent(self, host: str, token: str, limit: RateLimit, retry_after: float | None, now: float) -> RateLimit:
        known = self._with_what_is_known(host, token, limit, now)
        if limit.reset is not None and limit.reset > now:
            return replace(known, remaining=0)
        if retry_after is not None:
            return replace(known, remaining=0, reset=now + retry_after, assumed=False)
        if known.reset is not None and known.reset > now and not known.assumed:
            return replace(known, remaining=0)
        return replace(known, remaining=0, reset=now + _USUAL_WAIT, assumed=True)

    def _with_what_is_known(self, host: str, token: str, limit: RateLimit, now: float) -> RateLimit:
        """Return a limit with size and reset as they were last told, where it does not say them itself."""
        if limit.reset is not None and limit.limit is not None:
            return limit
        old = self._standings.get((limit.resource, host, token))
        if old is None or old.seen > now + SAME_WINDOW:  # the clock was put back
            return limit
        size = old.limit.limit if limit.limit is None else limit.limit
        if limit.reset is None and old.limit.reset is not None and old.limit.reset > now:
            return replace(limit, limit=size, reset=old.limit.reset, assumed=old.limit.assumed)
        return replace(limit, limit=size)

    def observe(
        self,
        host: str,
        observation: Observation,
        *,
        token: str = "",
        span: Span | None = None,
        now: float | None = None,
    ) -> list[Standing]:
        """Take note of what a response said, and log a warning where a limit has become low or exhausted.

        Where one has otherwise changed by a tenth since it was last told of, an event says how it stands. Of a
        window of less than a minute the same is said once a minute at most, with how many `times` it was so. `token` is
        the fingerprint of the credentials, `now` is in epoch seconds, and warnings are by default of the current span.

        Returns:
            The limits that have become low or exhausted with this response.
        """
        now = time.time() if now is None else now
        return self.take(host, self.completed(host, observation, token=token, now=now), token=token, span=span, now=now)

    def take(self, host: str, observation: Observation, *, token: str, span: Span | None, now: float) -> list[Standing]:
        """Do what :meth:`observe` does for what :meth:`completed` has returned."""
        worse: list[Standing] = []
        news: list[RateLimit] = []
        for said in observation.limits:
            limit = self._with_what_is_known(host, token, said, now)
            if (standing := self._judge(host, token, limit, now)) is not None:
                worse.append(standing)
            if limit.remaining is not None and self._is_news(host, token, limit):
                news.append(limit)
        for standing in worse:
            self._tell(WARNING, _EVENTS[standing.level], standing, span, now)
        for limit in news:
            self._tell(INFO, "sync.rate_limit.observed", Standing(host, token, limit, OK, now), span, now)
        return worse

    def _tell(self, level: int, event: str, standing: Standing, span: Span | None, now: float) -> None:
        if not _is_short(standing.limit, now):
            _tell(level, event, standing, span, now, 1)
            return
        key = (event, standing.limit.resource, standing.host, standing.token)
        span = get_current_span() if span is None else span
        with self._lock:
            said = self._said.get(key)
            is_quiet = said is not None and abs(now - said.at) < _QUIET
            times = 1 + (said.times if said is not None else 0)
            at, unsaid = (said.at, times) if is_quiet and said is not None else (now, 0)
            self._said[key] = _Said(at, unsaid, level, standing, span)
            while len(self._said) > len(_LEVELS) * self._most:
                self._said.popitem(last=False)
        if not is_quiet:
            _tell(level, event, standing, span, now, times)

    def tell_rest(self, trace_id: int | None = None) -> None:
        """Say what was so again, and not said for it had been said a moment before: the run has come to its end.

        Args:
            trace_id: The run's; None for all runs, as the process ends.
        """
        with self._lock:
            rest = [
                (key, said)
                for key, said in self._said.items()
                if said.times and trace_id in (None, said.span.get_span_context().trace_id)
            ]
            self._said.update((key, replace(said, times=0)) for key, said in rest)
        for (event, *_), said in rest:
            _tell(said.level, event, said.standing, said.span, said.standing.seen, said.times)

    def standings(self) -> list[Standing]:
        """All that is known, the latest last."""
        with self._lock:
            known = dict(self._standings)
        for host, token, window in self.windows.all():
            key = (window.limit.resource, host, token)
            if (old := known.get(key)) is not None and window.context[0] is old:
                left = replace(old.limit, remaining=window.remaining, used=window.used)
                known[key] = replace(old, limit=left, seen=window.seen)
        return sorted(known.values(), key=lambda standing: standing.seen)

    def unchanged(
        self, host: str, headers: Mapping[str, str], *, token: str, now: float | None = None
    ) -> dict[str, Any] | None:
        """Take note of a response, if it says nothing new but what is left, and that has changed by little.

        Returns:
            The attributes that its span is to have; None if nothing is noted, and it is to be read as a whole.
        """
        window = self.windows.find(host, token, headers)
        if window is None:
            return None
        standing, settings = window.context
        is_latest = standing is self._standings.get((window.limit.resource, host, token))
        if not is_latest or settings is not in_force.settings():
            return None
        is_within = window.takes(headers, time.time() if now is None else now)
        return attributes_in(window, host, token) if is_within else None

    def open_window(self, host: str, headers: Mapping[str, str], limit: RateLimit, *, token: str, now: float) -> None:
        """Let responses like this one, which has told of `limit` alone, be noted by :meth:`unchanged` from now on."""
        key = (limit.resource, host, token)
        standing, told, names = self._standings.get(key), self._told.get(key), names_in(headers)
        if names is None or standing is None or standing.level != OK or told is None or not limit.limit:
            return
        above, below = max(told.left - _MATERIAL, self._low_part(), 0.0), told.left + _MATERIAL
        window = Window(
            limit,
            names,
            above=above * limit.limit,
            below=below * limit.limit,
            now=now,
            context=(standing, in_force.settings()),
        )
        self.windows.begin(host, token, headers, window, names)

    def _low_part(self) -> float:
        if self._low is not None:
            return self._low
        return settings.rate_limit_low if (settings := in_force.settings()) is not None else 0.1

    def _judge(self, host: str, token: str, limit: RateLimit, now: float) -> Standing | None:
        """Note a limit; its standing, if that has become worse."""
        low = self._low_part()
        key = (limit.resource, host, token)
        level = _level(limit, low, now)
        with self._lock:
            old = self._standings.get(key)
            before = old.level if old is not None and not _is_better(old, limit, low, now) else OK
            standing = Standing(host, token, limit, max(before, level, key=_LEVELS.index), now)
            self._standings[key] = standing
            self._standings.move_to_end(key)
            while len(self._standings) > self._most:
                forgotten, _ = self._standings.popitem(last=False)
                self._told.pop(forgotten, None)
            if _LEVELS.index(level) <= _LEVELS.index(before):
                return None
            self._told[key] = limit
        return standing

    def _is_news(self, host: str, token: str, limit: RateLimit) -> bool:
        """Return whether a limit is worth an event: first seen, of another size, a tenth of it gone or back."""
        if limit.remaining is None:
            return False
        key = (limit.resource, host, token)
        with self._lock:
            told = self._told.get(key)
            is_news = told is None or told.limit != limit.limit or abs(told.left - limit.left) >= _MATERIAL
            if is_news and key in self._standings:
                self._told[key] = limit
        return is_news


def _is_short(limit: RateLimit, now: float) -> bool:
    """Return whether a limit is full again in less than a minute, so that each event may come sixty times in one."""
    length = limit.window if limit.window is not None else limit.reset - now if limit.reset is not None else _QUIET
    return length < _QUIET


def _level(limit: RateLimit, low: float, now: float) -> str:
    if limit.remaining is None or (limit.reset is not None and limit.reset <= now):
        return OK
    if limit.remaining == 0:
        return EXHAUSTED
    return LOW if limit.limit and limit.left <= low else OK


def _is_better(old: Standing, limit: RateLimit, low: float, now: float) -> bool:
    """Return whether a limit has recovered: in another window, or well above the threshold.

    Answers overtake each other, so that a little more than before is no recovery.
    """
    ended = old.limit.reset
    if (ended is not None and now >= ended) or old.seen > now + SAME_WINDOW:  # the clock was put back
        return True
    if not limit.remaining:
        return False
    if ended is not None and limit.reset is not None and limit.reset > ended + SAME_WINDOW:
        return True
    return not limit.limit or limit.left >= 2 * low


def _tell(level: int, event: str, standing: Standing, span: Span | None, now: float, times: int) -> None:
    limit = standing.limit
    fields = {
        "host": standing.host,
        "resource": limit.resource or None,
        "remaining": limit.remaining,
        "limit": limit.limit,
        "reset_seconds": round(max(0.0, limit.reset - now), 3) if limit.reset is not None else None,
        "assumed": limit.assumed or None,
        "token_fingerprint": standing.token or None,
        "times": times if times > 1 else None,
    }
    told = {name: value for name, value in fields.items() if value is not None}
    span = get_current_span() if span is None else span
    if level > INFO and span.is_recording():
        span.add_event(event, told)
    emit(level, "otelsync", event, told, span)


def attributes_of(observation: Observation, *, host: str = "", token: str = "") -> dict[str, Any]:
    """An observation as span attributes: the tightest limit, of which API and token, others, and ``Retry-After``."""
    counted = [limit for limit in observation.limits if limit.resource != SECONDARY]
    limit = min(counted, key=lambda limit: limit.left, default=None) or RateLimit()
    others = [
        as_text(other.resource, other.limit, other.remaining, other.reset)
        for other in counted
        if other is not limit and other.remaining is not None
    ][:_MOST_TOLD]
    after = observation.retry_after
    is_told = limit.limit is not None or limit.remaining is not None
    told = {
        vocabulary.SYNC_RATE_LIMIT_LIMIT: limit.limit,
        vocabulary.SYNC_RATE_LIMIT_REMAINING: limit.remaining,
        vocabulary.SYNC_RATE_LIMIT_USED: limit.used,
        vocabulary.SYNC_RATE_LIMIT_RESET: int(limit.reset) if limit.reset is not None else None,
        vocabulary.SYNC_RATE_LIMIT_RESOURCE: limit.resource or None,
        vocabulary.SYNC_RATE_LIMIT_HOST: host if is_told and host else None,
        vocabulary.SYNC_RATE_LIMIT_TOKEN: token if is_told and token else None,
        vocabulary.SYNC_RATE_LIMIT_OTHERS: others or None,
        vocabulary.SYNC_RATE_LIMIT_ASSUMED: limit.assumed or None,
        vocabulary.SYNC_RATE_LIMIT_RETRY_AFTER_SECONDS: None if after is None else round(after, 6),
    }
    return {name: value for name, value in told.items() if value is not None}


observed = RateLimits()
"""Limits that all calls of this process have shown."""


def note(
    observation: Observation,
    *,
    host: str,
    token: str = "",
    span: Span | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Put an observation on `span`, or on the API call around where that has ended, and take note of it.

    One call may make several sends, with several tokens: the span of each has what its own response told. `headers` are
    given where they were all that was read.
    """
    if not observation:
        return
    now = time.time()
    observation = observed.completed(host, observation, token=token, now=now)
    told = attributes_of(observation, host=host, token=token)
    if told:
        stage = current_scope().stage
        call_span = stage.span if stage is not None and stage.KIND == vocabulary.SYNC_API else None
        target = span if span is not None and span.is_recording() else call_span
        if target is not None and target.is_recording():
            target.set_attributes(told)
    observed.take(host, observation, token=token, span=span, now=now)
    if headers is not None and len(observation.limits) == 1 and not observation.refused:
        observed.open_window(host, headers, observation.limits[0], token=token, now=now)


def _begin_in_child() -> None:
    """After a fork: no thread of the parent's is here to release the lock."""
    observed._lock = threading.RLock()


forks.in_child(_begin_in_child)
