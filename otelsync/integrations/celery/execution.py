"""A run of a task that is going on: its span is current until the end, which says how it went."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from time import perf_counter
from typing import Any, Final, cast

from celery.exceptions import Ignore, Reject, Retry
from opentelemetry.trace import Span

from otelsync.integrations.celery import attributes as of
from otelsync.integrations.celery import dispatched
from otelsync.integrations.celery.activation import note_error
from otelsync.integrations.celery.celery_names import was_told_to_end
from otelsync.integrations.celery.continuation import RUN, Run
from otelsync.integrations.celery.done_whole import done_whole
from otelsync.recording.clock import elapsed_of
from otelsync.recording.runtime_context import leave
from otelsync.recording.scope import SyncScope
from otelsync.recording.span import RecordedSpan
from otelsync.vocabulary import ERROR_TYPE, SYNC_OUTCOME, SYNC_REPLACED, SYNC_RUN_SECONDS

SUCCESS: Final = "SUCCESS"
_OUTCOMES: Final = {SUCCESS: "success", "RETRY": "retry", "IGNORED": "cancelled", "REJECTED": "cancelled"}
"""Outcomes by Celery's state; any other state is a failure."""
_STATES: Final = ((Retry, "RETRY"), (Ignore, "IGNORED"), (Reject, "REJECTED"), (Exception, "FAILURE"))
"""States by the exception that Celery lets through."""
_STOPPED: Final = frozenset(("GreenletExit", "CancelledError", "GeneratorExit"))
"""Exceptions, besides those of a dying process, by which somebody stops a task that runs in a thread or greenlet."""


class Execution:
    """A run that is going on; its span is current from now until its end.

    Args:
        record_seconds: Takes how long it ran, with labels.
        token: What undoes that the span is current.
        span: The run span.
        whole: What the span carries besides its attributes, if that is more than everything inside carries.
        collector: What counts for a dispatched pipeline, if it is a part of one.
    """

    __slots__ = (
        "_clock",
        "_collector",
        "_is_recorded",
        "_outer",
        "_record_seconds",
        "_span",
        "_task",
        "_token",
        "_whole",
        "run",
    )

    def __init__(
        self,
        record_seconds: Callable[[float, dict[str, Any]], None],
        task: Any,
        run: Run,
        token: Token[Any],
        span: Span,
        whole: SyncScope | None,
        collector: Any,
    ) -> None:
        self._record_seconds = record_seconds
        self._task = task
        self.run = run
        self._token = token
        self._span = span
        self._whole = whole
        self._collector = collector
        self._is_recorded = False
        self._clock = perf_counter()
        self._outer = RUN.get()
        RUN.set(run)

    @done_whole
    def end_returning(self, result: Any) -> None:
        """End it as Celery's result says: ``(retval, info, runtime, retstr)``, where info is None after a success."""
        info = result[1]
        if info is None and self._whole is not None and self._collector is None and not self.run.replaced:
            self._end_shortly()
        elif info is None:
            self._end(SUCCESS, None)
        else:
            self._end(info.state, info.retval)

    @done_whole
    def end_raising(self, error: BaseException) -> None:
        """End it by an exception that Celery lets through: eager tasks propagate theirs; or the process is to die."""
        self._end(next((state for kind, state in _STATES if isinstance(error, kind)), None), error)

    # What follows may be begun anew: each step is done once, or does no harm when it is done twice

    def _leave(self) -> float:
        """Make current again what was before; returns how long it has run."""
        seconds = self._seconds()
        RUN.set(self._outer)
        leave(self._token)
        return seconds

    def _end_shortly(self) -> None:
        """Do what :meth:`_end` does after a success, where nothing else has to be said."""
        seconds = self._leave()
        span = cast(RecordedSpan, self._span)
        if span.end_time is None:
            span.set_attributes({SYNC_OUTCOME: "success", SYNC_RUN_SECONDS: seconds, of.STATE: SUCCESS})
            span.scope = self._whole
            span.end()
        self._record(seconds)

    def _record(self, seconds: float) -> None:
        if not self._is_recorded:
            self._is_recorded = True
            self._record_seconds(seconds, {"task": self._task.name, "worker": self.run.request.get("hostname")})

    def _end(self, state: str | None, error: BaseException | None) -> None:
        seconds = self._leave()
        if was_told_to_end() and state != SUCCESS:
            return  # this pool process was told to end; whoever sent the signal has said why: see endings.py
        span, request = self._span, self.run.request
        outcome = self._outcome(state, error)
        if getattr(span, "end_time", None) is None:
            try:
                if span.is_recording():
                    self._describe(state, error, outcome, seconds)
            finally:
                if self._whole is not None:
                    cast(RecordedSpan, span).scope = self._whole
                span.end()
        self._record(seconds)
        if self._collector is not None and state is not None:
            key, task_id = cast(str, self.run.envelope.run), cast(str, self.run.task_id)
            if self._is_final(state, error):
                dispatched.ended(self._task.app, key, task_id, outcome, self._collector.as_part(outcome))
            else:
                attempt = f"{task_id}:{request.get('retries') or 0}"
                dispatched.put_back(self._task.app, key, attempt, self._collector.figures())

    def _seconds(self) -> float:
        """Return how long it has run: by its span's own clock, where that is ours."""
        elapsed = elapsed_of(self._span)
        return round(perf_counter() - self._clock, 6) if elapsed is None else of.seconds_of(elapsed)

    def _describe(self, state: str | None, error: BaseException | None, outcome: str, seconds: float) -> None:
        found: dict[str, Any] = {SYNC_OUTCOME: outcome, SYNC_RUN_SECONDS: seconds}
        if state is not None:
            found[of.STATE] = state
        if self.run.replaced:
            found[SYNC_REPLACED] = True
        self._span.set_attributes(found)
        if state == "RETRY":
            self._span.set_attribute(of.RETRY_REASON, str(error))
        elif error is not None and outcome == "failure" and not isinstance(error, self._task.throws or ()):
            note_error(self._span, error)
        elif error is not None and outcome in ("failure", "interrupted"):
            self._span.set_attribute(ERROR_TYPE, type(error).__qualname__)

    def _is_final(self, state: str | None, error: BaseException | None) -> bool:
        """Return whether nothing more will come of the task. Where Celery saw no end, the main process knows."""
        if state is None or state == "RETRY" or self.run.replaced:
            return False
        return not (isinstance(error, Reject) and vars(error).get("requeue"))

    def _outcome(self, state: str | None, error: BaseException | None) -> str:
        if self.run.replaced and state == "IGNORED":
            return "success"
        if state is not None:
            return _OUTCOMES.get(state, "failure")
        return "cancelled" if type(error).__name__ in _STOPPED else "interrupted"
