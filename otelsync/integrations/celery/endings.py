"""Runs that cannot say how they ended: killed, timed out, revoked, expired or lost. The worker's main process says it.

It decides the ids of each run span when the message comes in, and passes them on with the request, so that it can say
of a span in another process how that ended: before a kill by a verdict, which counts when the process dies without
having ended the span; and of what never begins by the whole span. A process that dies unexpectedly leaves a span that
has begun, and the shipper closes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import wraps
from signal import Signals
from typing import Any, Final, cast

from billiard.common import TERM_SIGNAME
from celery import signals
from celery.exceptions import WorkerLostError
from celery.platforms import signals as platform_signals
from celery.worker.request import Request
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, SpanKind

from otelsync.integrations.celery import attributes as of
from otelsync.integrations.celery import pipeline_tasks, run_spans, task_records
from otelsync.integrations.celery.activation import Tracers, log, our_tracer, start, with_parent
from otelsync.integrations.celery.continuation import HIDDEN, RUN, Run
from otelsync.integrations.celery.headers import NOTHING, Envelope, from_traceparent, read
from otelsync.integrations.celery.publishing import system_of
from otelsync.integrations.celery.running import first_attributes
from otelsync.integrations.celery.task_records import RunSpan
from otelsync.recording.tracer import Tracer
from otelsync.vocabulary import SYNC_OUTCOME, SYNC_RUN_SECONDS

REVOKED_REASON: Final = "celery.revoked.reason"
TERMINATED_SIGNAL: Final = "celery.terminated.signal"
_PUT_BACK: Final = "cancelled by Celery"
"""Celery's own reason for a task that was put back; source: ``Request._announce_cancelled``."""
_ATTEMPT: Final = "_otelsync_attempt"

Method = Callable[..., Any]


class Attempt:
    """An attempt as the main process knows it from the message; most of it is read when first needed.

    Args:
        request: What goes to the process that runs the task.
        ids: Those of the run span, as `run_spans.decide` gave them; None if they are not ours to decide.
    """

    __slots__ = ("__weakref__", "_envelope", "_ids", "_record_span", "_request", "is_put_back", "is_written")

    def __init__(self, request: Mapping[str, Any], ids: str | None) -> None:
        self._request = request
        self._ids = ids
        self._envelope: Envelope | None = None
        self._record_span: RunSpan | None = None
        self.is_put_back = False
        """True if the task will be run again: the message goes back to the queue, or another was published."""
        self.is_written = False

    @property
    def envelope(self) -> Envelope:
        """Our header of the message."""
        if self._envelope is None:
            self._envelope = read(self._request) or NOTHING
        return self._envelope

    @property
    def parent(self) -> SpanContext | None:
        """The publish span."""
        return from_traceparent(self._request.get("traceparent"))

    @property
    def own(self) -> SpanContext | None:
        """The run span that was begun last."""
        own = from_traceparent(self._whole_ids(), is_remote=False)
        if own is None or run_spans.begun is None:
            return own
        return SpanContext(own.trace_id, run_spans.begun.last(own.span_id), False, own.trace_flags, own.trace_state)

    @property
    def record_span(self) -> RunSpan | None:
        """The run span, as records about the task belong to it."""
        if self._record_span is None and (ids := self._whole_ids()) is not None:
            self._record_span = RunSpan(ids, self.envelope.sync_scope)
        return self._record_span

    def _whole_ids(self) -> str | None:
        return run_spans.whole(self._ids, self._request.get("traceparent")) if self._ids is not None else None


class Endings:
    """Watches over the requests of a worker's main process.

    Args:
        tracers: Who records.
    """

    def __init__(self, tracers: Tracers) -> None:
        self._tracers = tracers
        self._originals: dict[str, Method] = {}

    def switch_on(self) -> None:
        """Watch from now on. A worker makes subclasses of ``Request``, which call the methods of their base."""
        wraps: dict[str, Callable[[Method], Method]] = {
            "__init__": self._around_init,
            "on_timeout": self._around_on_timeout,
            "terminate": self._around_terminate,
            "cancel": self._around_cancel,
            "on_failure": self._around_on_failure,
            "reject": self._around_reject,
            "_announce_revoked": self._around_announce_revoked,
            "_retry_worker_lost": self._around_retry_worker_lost,
        }
        for name, wrap in wraps.items():
            original = Request.__dict__.get(name)  # not every version has all of them
            if original is not None:
                self._originals[name] = original
                setattr(Request, name, wrap(original))
        signals.task_unknown.connect(self._on_unknown, weak=False)
        run_spans.watch_children()

    def switch_off(self) -> None:
        """Leave everything as it was."""
        for name, original in self._originals.items():
            setattr(Request, name, original)
        self._originals.clear()
        signals.task_unknown.disconnect(self._on_unknown)

    # Around the methods of a request. Each of ours may fail without harm to Celery's.

    def _around_init(self, init: Method) -> Method:
        @wraps(init)
        def initialise(request: Request, *args: Any, **options: Any) -> None:
            init(request, *args, **options)
            _safely(self._take, request)

        return initialise

    def _around_on_timeout(self, on_timeout: Method) -> Method:
        @wraps(on_timeout)
        def timed_out(request: Request, soft: bool, timeout: float) -> Any:
            if soft:  # the task is told by an exception, and may go on
                return on_timeout(request, soft, timeout)
            _safely(self._judge_timeout, request, timeout)
            try:
                return on_timeout(request, soft, timeout)
            finally:
                _safely(_tell, request, "failure")

        return timed_out

    def _around_terminate(self, terminate: Method) -> Method:
        @wraps(terminate)
        def terminated(request: Request, pool: Any, signal: Any = None) -> Any:
            if request.time_start:
                _safely(self._judge_terminated, request, signal)
            return terminate(request, pool, signal)

        return terminated

    def _around_cancel(self, cancel: Method) -> Method:
        """Celery cancels what it will be given again, as it has lost its connection to the broker."""

        @wraps(cancel)
        def cancelled(request: Request, pool: Any, *args: Any, **options: Any) -> Any:
            if request.time_start:
                _safely(self._judge_cancelled, request)
            return cancel(request, pool, *args, **options)

        return cancelled

    def _around_announce_revoked(self, announce_revoked: Method) -> Method:
        @wraps(announce_revoked)
        def announced(request: Request, reason: str, terminated: bool, signum: Any, expired: bool) -> Any:
            try:
                return announce_revoked(request, reason, terminated, signum, expired)
            finally:
                if not terminated:
                    _safely(self._write, request, reason)
                _safely(_tell, request, "cancelled")

        return announced

    def _around_on_failure(self, on_failure: Method) -> Method:
        @wraps(on_failure)
        def failed(request: Request, exc_info: Any, *args: Any, **options: Any) -> Any:
            try:
                return on_failure(request, exc_info, *args, **options)
            finally:
                _safely(_tell_if_lost, request, exc_info)

        return failed

    def _around_reject(self, reject: Method) -> Method:
        @wraps(reject)
        def rejected(request: Request, requeue: bool = False) -> Any:
            if requeue and not request.acknowledged:
                _safely(_put_back, request)
            return reject(request, requeue=requeue)

        return rejected

    def _around_retry_worker_lost(self, retry_worker_lost: Method) -> Method:
        """The next attempt is published here, by a process that does not run the task."""

        @wraps(retry_worker_lost)
        def retried(request: Request, *args: Any, **options: Any) -> Any:
            attempt = _attempt_of(request)
            run = Run(
                request.id,
                request.request_dict,
                envelope=attempt.envelope,
                own=attempt.own,
                parent=attempt.parent,
                continues=True,
            )
            token = RUN.set(run)
            try:
                is_retried = retry_worker_lost(request, *args, **options)
            finally:
                RUN.reset(token)
            if is_retried:
                attempt.is_put_back = True
            return is_retried

        return retried

    # What they come to

    def _take(self, request: Request) -> None:
        """Decide the ids of the run span. What a message says of them itself is nothing to go by."""
        said = request.request_dict
        tracer = self._tracers.current()
        ids = None
        if our_tracer(tracer, None) is not None and request.task.name not in HIDDEN:
            ids = run_spans.decide(said, cast(Tracer, tracer).id_generator)
        else:
            run_spans.forget(said)
        attempt = request.__dict__[_ATTEMPT] = Attempt(said, ids)
        if ids is not None:
            task_records.remember(request.id, attempt)

    def _judge_timeout(self, request: Request, seconds: float) -> None:
        message = f"TimeLimitExceeded: the task took longer than {seconds} s"
        self._judge(request, "failure", {of.STATE: "FAILURE"}, "TimeLimitExceeded", message)

    def _judge_terminated(self, request: Request, signal: Any) -> None:
        number = platform_signals.signum(signal or TERM_SIGNAME)
        said = {of.STATE: "REVOKED", REVOKED_REASON: "terminated", TERMINATED_SIGNAL: Signals(number).name}
        self._judge(request, "cancelled", said)

    def _judge_cancelled(self, request: Request) -> None:
        self._judge(request, "retry", {of.STATE: "RETRY", of.RETRY_REASON: _PUT_BACK})

    def _judge(
        self,
        request: Request,
        outcome: str,
        said: Mapping[str, object],
        error_type: str | None = None,
        message: str | None = None,
    ) -> None:
        """Give a verdict on the run span, which is open in another process."""
        attempt = _attempt_of(request)
        tracer = self._tracers.current()
        if attempt.own is None or not isinstance(tracer, Tracer):
            return
        found = {**_described(request, attempt, request.time_start), **said}
        if request.time_start:
            found[SYNC_RUN_SECONDS] = max(0.0, time.time() - request.time_start)
        tracer.provider.give_verdict(
            attempt.own, outcome=outcome, error_type=error_type, message=message, attributes=found
        )

    def _write(self, request: Request, reason: str) -> None:
        """Write the whole run span of a task that never began."""
        attempt = _attempt_of(request)
        if attempt.is_written or request.task.name in HIDDEN:
            return
        attempt.is_written = True
        name = f"run/{request.task.name}"
        scope = attempt.envelope.sync_scope
        found = {
            **first_attributes(request.task.name, request.id, request.request_dict),
            **_described(request, attempt, time.time()),
            of.STATE: "REVOKED",
            REVOKED_REASON: reason,
            SYNC_OUTCOME: "cancelled",
        }
        tracer = self._tracers.current()
        if attempt.own is not None and isinstance(tracer, Tracer):
            tracer.start_span_as(
                attempt.own, name, parent=attempt.parent, kind=SpanKind.CONSUMER, attributes=found, scope=scope
            ).end()
        else:
            start(tracer, name, SpanKind.CONSUMER, with_parent(attempt.parent, scope, Context()), found).end()

    def _on_unknown(self, sender: Any = None, message: Any = None, id: object = None, **_: Any) -> None:  # noqa: A002
        """A task that this worker does not know will never run; only its tally has to know."""
        envelope = read(message.headers) if message is not None else None
        if envelope is not None and envelope.run is not None and isinstance(id, str):
            pipeline_tasks.ended(sender.app, envelope.run, id, "failure")


def _safely(work: Callable[..., None], *args: Any) -> None:
    try:
        work(*args)
    except Exception:
        log.debug("how a task ended was not recorded", exc_info=True)


def _attempt_of(request: Request) -> Attempt:
    """Return the attempt of a request; one that was made before we watched is an attempt of nobody."""
    found = request.__dict__.get(_ATTEMPT)
    return found if isinstance(found, Attempt) else Attempt({}, None)


def _described(request: Request, attempt: Attempt, began: float | None) -> dict[str, Any]:
    """Return the last attributes of a run span, as far as they are known here; `began` in seconds since the epoch."""
    said = request.request_dict
    found = of.of_context(said)
    system = system_of(request.task.app)
    if system is not None:
        found[of.SYSTEM] = system
    if began:
        eta = said.get("eta")
        due = of.planned(eta, request.task.app.timezone) if eta else 0
        found.update(of.waits(attempt.envelope.published, due, int(began * 1e9)))
    return found


def _put_back(request: Request) -> None:
    _attempt_of(request).is_put_back = True


def _tell(request: Request, outcome: str) -> None:
    """Tell the tally of a dispatched pipeline that a task has ended for good, unless it will be run again."""
    attempt = _attempt_of(request)
    if attempt.envelope.run is not None and not attempt.is_put_back:
        pipeline_tasks.ended(request.task.app, attempt.envelope.run, request.id, outcome)


def _tell_if_lost(request: Request, exc_info: Any) -> None:
    """Only a process that is gone has not told the tally itself."""
    error = exc_info.exception
    error = getattr(error, "exc", error)  # billiard may wrap it, to keep its traceback
    is_lost = isinstance(error, (WorkerLostError, SystemExit, KeyboardInterrupt))
    if is_lost and not (vars(request).get("_already_revoked") or vars(request).get("_already_cancelled")):
        _tell(request, "interrupted")
