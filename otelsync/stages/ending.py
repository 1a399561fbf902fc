"""The end of a stage, in steps of which each is done once, whatever is raised between them.

An exception of the host's (see :mod:`otelsync.hooks.host_errors`) may come between any two calls. Then the end begins
anew, finds what is done, does the rest, and hands the exception back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import Token
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from otelsync import vocabulary
from otelsync.hooks.host_errors import forgive, hand_back, has_entered
from otelsync.levels import ERROR, INFO
from otelsync.logs.installed import emit, enabled
from otelsync.recording.clock import elapsed_of, present_of
from otelsync.recording.exceptions import take_error
from otelsync.recording.runtime_context import leave, step_back
from otelsync.stages import lineage, misuse
from otelsync.stages.collecting import Collecting, PartKey, digest_of, item_around, nearest_open
from otelsync.stages.harmless_exceptions import outcome_without_failure
from otelsync.text.presentable import text_of

if TYPE_CHECKING:
    from otelsync.stages.progress import Tracker

_USUAL: Final = frozenset(("", *vocabulary.ACTIONS))


class Ending(Collecting):
    """A stage as far as its end is concerned."""

    COMPLETED: str | None = None
    """The log event of its end; None if it logs none of its own."""
    FAILED = ""
    """The same where it has failed."""
    LEVEL = INFO
    """The level of its events, where nothing failed."""
    is_part = True
    """True if its outcome matters to what encloses it."""

    _name: str
    _arguments: dict[str, Any]

    # How a stage stands that has just begun.
    _failure = _outcome = ""
    _token: Token[Any] | None = None
    """Undoes that it is current; None before and after."""
    _clock = 0
    _was_open = _is_noted = _is_logged = False
    """Steps of its end, done; the first says whether it was open in this process until then."""
    _arose: BaseException | None = None
    _forks = 0
    trackers: Sequence[Tracker[Any]] = ()
    """Those that count its items, and tell how far it came."""
    _ended_at: int | None = None
    item_elsewhere: Any = None
    """The item that it stands in, where the spans are another provider's."""
    inner: Collecting | None = None
    """Collector of the parts inside an item, made when one of them fails, where the item's span cannot hold it."""

    @property
    def outcome(self) -> str:
        """The outcome, as it stands or was."""
        raise NotImplementedError

    def _span_name(self) -> str:
        raise NotImplementedError

    def _finish(self, error: BaseException | None) -> None:
        """End it. Each step is done once, however often it is called."""
        self._leave()
        if error is not None and not self._is_noted:
            self._note(error)
            self._is_noted = True
        for tracker in tuple(self.trackers):
            tracker.finish()
        self._end(self._close())

    def finish_despite(self, problem: BaseException, error: BaseException | None) -> None:
        """Do what is left to do at the end, after something was raised in the middle of it; hand back the host's."""
        if has_entered(problem, self._log_end) and has_entered(problem, emit):
            self._is_logged = True  # the log path itself sees to it that the record is there
        try:
            if getattr(self.span, "end_time", None) is None:
                self._finish(error)
        except Exception as another:
            forgive(another, "%s did not end as it should", type(self).__name__)
            self.span.end()
        hand_back(problem)

    def _leave(self) -> None:
        """Make current again what was before."""
        if self._token is not None:
            leave(self._token, self.span)
            self._token = None
        else:
            step_back(self.span)

    def _close(self) -> int | None:
        """Close for parts below, and be a part of the nearest stage around that is open; returns the end's time."""
        with lineage.rolling_up:
            if self.open_in:
                self._was_open, self.open_in = self.open_in == lineage.generation, 0
            is_ours = self._was_open
            outcome = self._outcome = self.outcome
            target = nearest_open(self.around)
            if target is not None and is_ours and (totals := self.totals()):
                target.take_totals(totals, self)
            if self.is_part:
                if outcome == vocabulary.CANCELLED and self.outcome_of_parts() != vocabulary.SUCCESS:
                    outcome = vocabulary.PARTIAL  # what failed in it shows further out
                self._become_part_of(target if is_ours else None, outcome)
            return present_of(self.span) if hasattr(self.span, "trace") else None

    def _become_part_of(self, stage: Collecting | None, outcome: str, *, is_item: bool = False) -> None:
        """Count for the item around, or else for `stage`; in a forked child failures are remembered all the same."""
        item = item_around(self.span, self.item_elsewhere)
        if item is not None and item.inner is None and outcome in (vocabulary.FAILURE, vocabulary.PARTIAL):
            item.inner = Collecting()
            item.inner.begin_collecting()
        target = stage if item is None else item.inner
        memory = target if target is not None or item is not None else self.around
        if outcome == vocabulary.FAILURE:
            key = self._part_key()
            self.span.set_attribute(vocabulary.SYNC_PART_KEY, key[1])
            if self._arguments.get("required") is False:
                return
            if memory is not None:
                memory.remember_failure(self._name, key, self)
                if self.around is not None and self.around is not memory:
                    self.around.expect(self._name)
        elif outcome == vocabulary.SUCCESS and memory is not None and self._name in memory.failures:
            key = self._part_key()
            if number := memory.failures_of(self._name, key):
                self.span.set_attributes({vocabulary.SYNC_PART_KEY: key[1], vocabulary.SYNC_RECOVERED: number})
                memory.make_good(self._name, key, self)
        elif is_item and stage is not None and outcome in (vocabulary.CANCELLED, vocabulary.RETRY):
            stage.take_neutral_item(self)
        if target is not None:
            target.take_part(outcome, self, is_item=is_item)

    def _part_key(self) -> PartKey:
        """Return what it is a part of, and what tells it from other parts of that."""
        parent = getattr(self.span, "parent", None)
        kind = self._span_name().partition(" ")[0]
        digest = digest_of(kind, self._name, self._arguments)
        return trace.format_span_id(parent.span_id) if parent is not None else "", digest

    def _end(self, when: int | None) -> None:
        """End the span, and log it, with what has come of the stage."""
        outcome = self.outcome
        self._ended_at = when
        self._set_last_attributes(outcome)
        if outcome == vocabulary.FAILURE and not self._failure:
            self._say_that_all_failed()
        if self._failure:
            self.span.set_status(Status(StatusCode.ERROR, self._failure))
        if not self._is_logged:
            self._log_end(outcome)
            self._is_logged = True
        if self._may_be_shared() and hasattr(self.span, "end_for_now"):
            if outcome == vocabulary.PARTIAL:
                self.span.set_attribute(vocabulary.SYNC_PARTS, sum(self.tally()))
            self.span.end_for_now(when)
        else:
            self.span.end(when)

    def _may_be_shared(self) -> bool:
        """Return whether other processes may have recorded parts of it: this one has forked while it was open."""
        return self.LONG and lineage.forks != self._forks

    def _say_that_all_failed(self) -> None:
        """Say why a stage has failed that raised nothing, and that this is no error of its own."""
        number = self.failed
        self.span.set_attributes({vocabulary.SYNC_PARTS: number, vocabulary.SYNC_PARTS_FAILED: number})
        self._failure = f"all {number} parts failed" if number > 1 else "its only part failed"

    def _note(self, error: BaseException) -> None:
        """Take account of an exception that leaves the stage. Where it arises it is recorded, further out named."""
        if not isinstance(error, Exception):  # KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError
            self._outcome = self._outcome or vocabulary.CANCELLED
            return
        harmless = outcome_without_failure(error)
        if harmless is not None:
            self._outcome = self._outcome or harmless
            return
        self._outcome = vocabulary.FAILURE
        self._failure = text_of(error)
        if take_error(self.span, error):
            self._arose = error

    def _set_last_attributes(self, outcome: str) -> None:
        totals = self.totals()
        if totals:
            self.span.set_attributes({vocabulary.SYNC_ITEMS_ + name: number for name, number in totals.items()})
        if not self.items.keys() <= _USUAL:
            misuse.warn_of_actions(list(self.items))
        if self.counted:
            self.span.set_attributes(self.by_hand())
        self.span.set_attribute(vocabulary.SYNC_OUTCOME, outcome)

    def _end_fields(self) -> dict[str, Any]:
        """Return fields of the record of its end beside how it went."""
        return {}

    def _log_end(self, outcome: str) -> None:
        """Log how it went. The traceback stands in the record of the stage in which the exception arose alone."""
        if self.COMPLETED is None:
            return
        failed = outcome == "failure"
        level = ERROR if failed else self.LEVEL
        if not enabled(level):
            return
        fields = self._end_fields() | {"outcome": outcome, "duration_ms": self._elapsed_ms(), **self.totals()}
        if failed:
            fields["error"] = self._failure
        emit(level, "otelsync", self.FAILED if failed else self.COMPLETED, fields, self.span, self._arose)

    def _elapsed_ms(self) -> float:
        elapsed = elapsed_of(self.span, self._ended_at)
        return round((time.perf_counter_ns() - self._clock if elapsed is None else elapsed) / 1e6, 3)


def exit_despite(
    stage: Ending, problem: BaseException, _: object, error: BaseException | None, __: object = None
) -> None:
    """Leave a stage's block, out of which `problem` came as it was left."""
    stage.finish_despite(problem, error)
