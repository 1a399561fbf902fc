"""A whole run of a sync: its id, its phases, and its end in another process where its body is dispatched."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.trace import Span

from otelsync import vocabulary
from otelsync.errors import DispatchError
from otelsync.hooks.own_messages import own_logger
from otelsync.levels import INFO
from otelsync.logs.installed import emit
from otelsync.recording.scope import SyncScope
from otelsync.stages import dispatchers, misuse, rate_limits
from otelsync.stages.collecting import WAITED
from otelsync.stages.stage import Milestone

if TYPE_CHECKING:
    from celery.canvas import Signature
    from celery.result import AsyncResult, GroupResult

_log = own_logger("otelsync")


class Pipeline(Milestone):
    """A whole run of a sync."""

    KIND = vocabulary.SYNC_PIPELINE
    EVENTS = vocabulary.SYNC_PIPELINE
    STARTED = "sync.pipeline.started"
    COMPLETED = "sync.pipeline.completed"
    FAILED = "sync.pipeline.failed"
    is_part_of_run = False
    EXAMPLE = '@otelsync.pipeline("name")'
    progress_pause = 0.0  # told at each percent: its items are repositories, and the next one may take an hour

    sync_id: str
    """The run's name everywhere, such as ``202508022027-SYNC-765151E9``; empty where nothing is recorded."""

    _handed_over: tuple[object, ...] | None = None
    _tasks: Mapping[str, int] | None = None
    """Numbers of the tasks of a run that was dispatched, by what became of them."""

    def dispatch(self, canvas: Signature[Any], **options: Any) -> AsyncResult[Any] | GroupResult:
        """Start a Celery signature, chain, group or chord as the body of the run, wherever its tasks will run.

        All its tasks nest under this pipeline. When the last of them has ended for good, the worker that ran it ends
        the pipeline, with the counts of all tasks and of this process up to now. The ``with`` block then ends nothing,
        and what is counted in it after this call is lost.

        Args:
            canvas: What to publish.
            options: Of its ``apply_async``.

        Returns:
            What ``apply_async`` returns.

        Raises:
            DispatchError: There is no Celery, the integration is not switched on, this is no canvas, the run has not
                begun, or it was dispatched already. Exceptions of ``apply_async`` pass unchanged.
        """
        if self._handed_over is not None:
            raise DispatchError(f"the pipeline {self._name!r} was dispatched already; begin another one")
        if self._token is None:
            raise DispatchError(
                f"the pipeline {self._name!r} does not run. Did you forget `with otelsync.pipeline(...) as run`?"
            )
        dispatch = dispatchers.dispatcher()
        return cast("AsyncResult[Any] | GroupResult", dispatch(self, canvas, options))

    @property
    def outcome(self) -> str:
        """As of any stage; ``running`` once it was dispatched, as others end it."""
        return vocabulary.RUNNING if self._handed_over is not None else super().outcome

    def hand_over(self) -> dict[str, int]:
        """Leave the end to whoever calls :meth:`finish_dispatched`; returns the figures up to now."""
        self._handed_over = self._counted()
        return self.figures() | {f"counted.{name}": number for name, number in self.counted.items()}

    def finish_dispatched(self, span: Span, figures: Mapping[str, int], start: int) -> None:
        """End a run that was handed over, as if all of it had run here.

        Args:
            span: The run's own, started again under its ids.
            figures: What all its processes have counted; ``tasks.succeeded``, ``tasks.failed`` and ``tasks.cancelled``
                among them.
            start: When it began, in nanoseconds since the epoch.
        """
        self.span = span
        self._clock = time.perf_counter_ns() - max(0, time.time_ns() - start)
        self.take_figures(figures)
        if figures.get(WAITED):
            span.set_attribute(vocabulary.SYNC_RATE_LIMIT_WAITED_SECONDS, figures[WAITED] / 1000)
        tasks = {kind: figures.get(f"tasks.{kind}", 0) for kind in ("succeeded", "failed", "cancelled")}
        if any(tasks.values()):
            span.set_attributes({f"{vocabulary.SYNC_TASKS_}{kind}": number for kind, number in tasks.items()})
        self._tasks = tasks
        self._end(None)

    def _may_be_shared(self) -> bool:
        return self._tasks is not None or super()._may_be_shared()

    def _say_that_all_failed(self) -> None:
        super()._say_that_all_failed()
        number = sum(self._tasks.values()) if self._tasks and not self._tasks["succeeded"] else 0
        if number:
            self._failure = f"none of {number} {'task' if number == 1 else 'tasks'} succeeded"

    def _begin(self) -> None:
        super()._begin()
        misuse.running.add(self)

    def _counted(self) -> tuple[object, ...]:
        return self.figures(), self._failure

    def _finish(self, error: BaseException | None) -> None:
        misuse.running.discard(self)
        if trace_id := self.span.get_span_context().trace_id:
            rate_limits.observed.tell_rest(trace_id)
        if self._handed_over is None:
            super()._finish(error)
            return
        self._leave()
        if self._counted() != self._handed_over:
            _log.warning("pipeline %r: what was counted after dispatch() is lost; count before it", self._name)
        if error is not None:
            _log.warning("pipeline %r goes on, though %s left its block", self._name, type(error).__name__)

    def phase(self, name: str) -> None:
        """Say that the run is now in another phase; it becomes ``sync.phase`` and an event."""
        self.span.set_attribute(vocabulary.SYNC_PHASE, name)
        self.span.add_event("sync.pipeline.phase_changed", {vocabulary.SYNC_PHASE: name})
        emit(INFO, "otelsync", "sync.pipeline.phase_changed", {"phase": name}, self.span)

    def _inner_scope(self, scope: SyncScope) -> SyncScope:
        trace_id = self.trace_id
        outer = scope.attributes.get(vocabulary.SYNC_ID)
        self.sync_id = str(outer) if outer else new_sync_id(trace_id) if trace_id else ""
        if not trace_id:
            return scope.with_stage(self)
        fields = {**scope.attributes, vocabulary.SYNC_ID: self.sync_id, vocabulary.SYNC_PIPELINE: self._name}
        return SyncScope(fields, self)

    def _start_fields(self) -> dict[str, Any]:
        return {"pipeline": self._name, **self._arguments}


def new_sync_id(trace_id: str, when: float | None = None) -> str:
    """Return the id of a run: the minute in UTC, then the first eight hex digits of its trace id.

    >>> new_sync_id("765151e9" + 24 * "0", 1754166420)
    '202508022027-SYNC-765151E9'
    """
    return time.strftime("%Y%m%d%H%M", time.gmtime(when)) + "-SYNC-" + trace_id[:8].upper()
