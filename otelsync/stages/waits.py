"""Waits as spans: what a rate limit or a retry asks for, planned and actual."""

from __future__ import annotations

import math
import threading
from contextlib import AbstractContextManager
from typing import Any

from otelsync import vocabulary
from otelsync.hooks.host_errors import hand_back
from otelsync.journal import forks
from otelsync.levels import DEBUG
from otelsync.stages import misuse
from otelsync.stages.collecting import Collecting
from otelsync.stages.stage import OtherStage, Stage
from otelsync.text.presentable import text_of

_sums = threading.RLock()
"""Reentrant: a signal handler may wait for a limit as well."""


class Wait(OtherStage):
    """A wait that a rate limit or a retry asks for; the block sleeps, and this measures."""

    STARTED = "sync.rate_limit.waiting"
    COLLECTS = is_part = False
    COUNTS = True
    """True if its seconds are summed on the stages around."""

    _not_told: Collecting | None
    """The innermost stage whose sum does not hold this wait yet."""

    def _begin(self) -> None:
        super()._begin()
        self._not_told = self.around

    def _start_fields(self) -> dict[str, Any]:
        return {name.rpartition(".")[2]: value for name, value in self._arguments.items()}

    def _set_last_attributes(self, outcome: str) -> None:
        super()._set_last_attributes(outcome)
        seconds = self._elapsed_ms() / 1000
        self.span.set_attribute(f"{self._name.rpartition('.')[0]}.actual_seconds", round(seconds, 3))
        while self.COUNTS and (stage := self._not_told) is not None:  # waits in parallel add up beyond the clock
            with _sums:
                waited = stage.waited + seconds
                if stage.span.is_recording():
                    stage.span.set_attribute(vocabulary.SYNC_RATE_LIMIT_WAITED_SECONDS, round(waited, 3))
                stage.waited, self._not_told = waited, stage.around  # in one step, whatever is raised


class RetryWait(Wait):
    """A wait before another try, which no rate limit asks for."""

    STARTED = "sync.retry.waiting"
    LEVEL = DEBUG
    COUNTS = False


def rate_limit_wait(seconds: float, kind: str = "primary") -> AbstractContextManager[Stage]:
    """Record a wait for a rate limit: ``with rate_limit_wait(30, kind="secondary"): time.sleep(30)``.

    The block waits; this makes a span ``sync.rate_limit.wait`` of it, logs ``sync.rate_limit.waiting``, and adds the
    seconds to ``sync.rate_limit.waited_seconds`` of the stages around. It never waits itself, so it serves asynchronous
    code as well.

    Args:
        seconds: How long the wait is meant to be.
        kind: Which limit asks for it: ``primary``, ``secondary``, or a word of your own.
    """
    misuse.refuse_function(seconds, "@otelsync.rate_limit_wait(seconds)")
    return Wait(
        vocabulary.SYNC_RATE_LIMIT_WAIT,
        {
            vocabulary.SYNC_RATE_LIMIT_KIND: text_of(kind)[:64],
            vocabulary.SYNC_RATE_LIMIT_PLANNED_SECONDS: _plain_seconds(seconds),
        },
    )


def retry_wait(seconds: float, reason: str) -> AbstractContextManager[Stage]:
    """Record a wait before another try as a span ``sync.retry.wait``: one that no rate limit has asked for.

    Args:
        seconds: How long the wait is meant to be.
        reason: ``server``, ``connection``, ``pacing``, ...
    """
    return RetryWait(
        vocabulary.SYNC_RETRY_WAIT,
        {
            vocabulary.SYNC_RETRY_REASON: text_of(reason)[:64],
            vocabulary.SYNC_RETRY_PLANNED_SECONDS: _plain_seconds(seconds),
        },
    )


def _plain_seconds(seconds: float) -> float:
    """Seconds for an attribute; what is no sensible figure is 0: telemetry does not judge the host's arguments."""
    try:
        return round(float(seconds), 3) if math.isfinite(seconds) and seconds > 0 else 0.0
    except Exception as error:  # of its __float__
        hand_back(error)
        return 0.0


def _begin_in_child() -> None:
    """After a fork: no thread of the parent's is here to release the lock."""
    global _sums
    _sums = threading.RLock()


forks.in_child(_begin_in_child)
