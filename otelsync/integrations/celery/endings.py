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
from typing import Any, Final

from billiard.common import TERM_SIGNAME
from billiard.exceptions import Terminated
from celery.exceptions import Ignore, InvalidTaskError, Reject, Retry, WorkerLostError
from celery.platforms import signals as platform_signals
from celery.worker.request import Request
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind

from otelsync.hooks.host_errors import forgive
from otelsync.integrations.celery import attempts, dispatched, run_spans
from otelsync.integrations.celery import attributes as of
from otelsync.integrations.celery.activation import Tracers, note_error, our_tracer, start, with_parent
from otelsync.integrations.celery.attempts import Attempt
from otelsync.integrations.celery.celery_names import LOST, REVOKED, is_over
from otelsync.integrations.celery.continuation import HIDDEN, RUN, Run
from otelsync.integrations.celery.refused import Refusals
from otelsync.integrations.celery.running import first_attributes, waits_of
from otelsync.recording.tracer import Tracer
from otelsync.vocabulary import SYNC_OUTCOME, SYNC_RUN_SECONDS

REVOKED_REASON: Final = "celery.revoked.reason"
TERMINATED_SIGNAL: Final = "celery.terminated.signal"
_PUT_BACK: Final = "cancelled by Celery"
"""Celery's own reason for a task that was put back; source: ``Request._announce_cancelled``."""
_ATTEMPT: Final = "_otelsync_attempt"
_LOST: Final = (WorkerLostError, SystemExit, KeyboardInterrupt)
"""Exceptions by which Celery learns that a process is gone."""
_NO_END: Final = (Ignore, Reject, Retry, Terminated)
"""Exceptions that say something else than that a task has failed."""

Method = Callable[..., Any]


class Endings:
    """Watches over the requests of a worker's main process."""

    def __init__(self, tracers: Tracers) -> None:
        self._tracers = tracers
        self._originals: dict[str, Method] = {}
        self._refusals = Refusals(tracers)

    def switch_on(self) -> None:
        """Watch from now on. A worker makes subclasses of ``Request``, which call the methods of their base."""
        wraps: dict[str, Callable[[Method], Method]] = {
            "__init__": _around(after=self._take),
            "on_timeout": _around(self._judge_timeout, after=_tell_timeout),
            "terminate": _around(self._judge_terminated),
            "cancel": _around(self._judge_cancelled),
            "on_failure": _around(self._end_unbegun, after=_tell_if_lost),
            "reject": _around(self._end_rejected),
            REVOKED: _around(after=self._end_revoked),
            LOST: _publishing_next_attempt,
        }
        for name, wrap in wraps.items():
            original = Request.__dict__.get(name)  # not every version has all of them
            if original is not None:
                self._originals[name] = original
                setattr(Request, name, wrap(original))
        self._refusals.switch_on()
        run_spans.watch_children()

    def switch_off(self) -> None:
        """Leave everything as it was."""
        for name, original in self._originals.items():
            setattr(Request, name, original)
        self._originals.clear()
        self._refusals.switch_off()

    # Each takes what the method of its request is called with

    def _take(self, request: Request, *_: object, **__: object) -> None:
        """Decide the ids of the run span. What a message says of them itself is nothing to go by."""
        said = request.request_dict
        ours = our_tracer(self._tracers.current(), None)
        ids = None
        if ours is not None and request.task.name not in HIDDEN:
            ids = run_spans.decide(said, ours.id_generator)
        else:
            run_spans.forget(said)
        attempt = request.__dict__[_ATTEMPT] = Attempt(said, ids)
        if ids is not None:
            attempts.remember(request.id, attempt)

    def _judge_timeout(self, request: Request, soft: bool, timeout: float) -> None:
        if not soft:  # else the task is told by an exception, and may go on
            name = "TimeLimitExceeded"
            message = f"{name}: the task took longer than {timeout} s"
            self._judge(request, "failure", {of.STATE: "FAILURE"}, error_type=name, message=message)

    def _judge_terminated(self, request: Request, pool: object, signal: Any = None) -> None:  # noqa: ARG002
        if request.time_start:
            number = platform_signals.signum(signal or TERM_SIGNAME)
            said = {of.STATE: "REVOKED", REVOKED_REASON: "terminated", TERMINATED_SIGNAL: Signals(number).name}
            self._judge(request, "cancelled", said)

    def _judge_cancelled(self, request: Request, *_: object, **__: object) -> None:
        """Celery cancels what it will be given again, as it has lost its connection to the broker."""
        if request.time_start:
            self._judge(request, "retry", {of.STATE: "RETRY", of.RETRY_REASON: _PUT_BACK})

    def _end_revoked(self, request: Request, reason: str, terminated: bool, *_: object, **__: object) -> None:
        if not terminated:
            _safely(self._write, request, "cancelled", {of.STATE: "REVOKED", REVOKED_REASON: reason})
        _tell(request, "cancelled")

    def _end_rejected(self, request: Request, requeue: bool = False) -> None:
        """End what Celery rejects before it begins, such as a task whose time to run is no moment."""
        if requeue and not request.acknowledged:
            _attempt_of(request).is_put_back = True
        elif not (request.acknowledged or request.time_start):
            error = InvalidTaskError("rejected by the worker before it began")
            self._write(request, "failure", {of.STATE: "FAILURE"}, error)
            _tell(request, "failure")

    def _end_unbegun(self, request: Request, exc_info: Any, *_: object, return_ok: bool = False, **__: object) -> None:
        """End what failed outside the function that Celery traces tasks with."""
        error = _error_of(exc_info)
        if return_ok or isinstance(error, _NO_END) or not _attempt_of(request).has_not_begun:
            return
        if isinstance(error, _LOST):
            self._write(request, "interrupted", {}, error)
        else:
            self._write(request, "failure", {of.STATE: "FAILURE"}, error)
            _tell(request, "failure")

    def _judge(self, request: Request, outcome: str, said: Mapping[str, object], **error: str) -> None:
        """Give a verdict on the run span, which is open in another process; `error` has its type and a message."""
        attempt = _attempt_of(request)
        tracer = self._tracers.current()
        if attempt.own is None or not isinstance(tracer, Tracer):
            return
        found = {**_described(request, attempt, request.time_start), **said}
        if request.time_start:
            found[SYNC_RUN_SECONDS] = max(0.0, time.time() - request.time_start)
        tracer.provider.give_verdict(attempt.own, outcome=outcome, attributes=found, **error)

    def _write(
        self, request: Request, outcome: str, said: Mapping[str, object], error: BaseException | None = None
    ) -> None:
        """Write the whole run span of a task that never began."""
        attempt = _attempt_of(request)
        if attempt.is_written or request.task.name in HIDDEN:
            return
        attempt.is_written = True
        name = f"run/{request.task.name}"
        scope = attempt.envelope.sync_scope
        found = {
            **first_attributes(request.task, request.id, request.request_dict),
            **_described(request, attempt, time.time()),
            **said,
            SYNC_OUTCOME: outcome,
        }
        tracer = self._tracers.current()
        if attempt.own is not None and isinstance(tracer, Tracer):
            span: Span = tracer.start_span_as(
                attempt.own, name, parent=attempt.parent, kind=SpanKind.CONSUMER, attributes=found, scope=scope
            )
        else:
            span = start(tracer, name, SpanKind.CONSUMER, with_parent(attempt.parent, scope, Context()), found)
        if error is not None:
            note_error(span, error)
        span.end()


def _safely(work: Callable[..., None], *args: Any, **options: Any) -> None:
    try:
        work(*args, **options)
    except Exception as error:
        forgive(error, "how a task ended was not recorded")


def _around(before: Callable[..., None] | None = None, *, after: Callable[..., None] | None = None) -> Any:
    """Do work of ours around a method of a request, with its arguments; ours may fail without harm to Celery's."""

    def wrap(method: Method) -> Method:
        @wraps(method)
        def watched(request: Request, *args: Any, **options: Any) -> Any:
            if before is not None:
                _safely(before, request, *args, **options)
            try:
                return method(request, *args, **options)
            finally:
                if after is not None:
                    _safely(after, request, *args, **options)

        return watched

    return wrap


def _publishing_next_attempt(retry_worker_lost: Method) -> Method:
    """The next attempt is published here, by a process that does not run the task."""

    @wraps(retry_worker_lost)
    def retried(request: Request, *args: Any, **options: Any) -> Any:
        attempt = _attempt_of(request)
        envelope, own, parent = attempt.envelope, attempt.own, attempt.parent
        run = Run(request.id, request.request_dict, envelope=envelope, own=own, parent=parent, continues=True)
        token = RUN.set(run)
        try:
            is_retried = retry_worker_lost(request, *args, **options)
        finally:
            RUN.reset(token)
        if is_retried:
            attempt.is_put_back = True
        return is_retried

    return retried


def _attempt_of(request: Request) -> Attempt:
    """Return the attempt of a request; one that was made before we watched is an attempt of nobody."""
    found = request.__dict__.get(_ATTEMPT)
    return found if isinstance(found, Attempt) else Attempt({}, None)


def _described(request: Request, attempt: Attempt, began: float | None) -> dict[str, Any]:
    """Return the last attributes of a run span, as far as they are known here; `began` in seconds since the epoch."""
    said = request.request_dict
    found = of.of_context(said)
    system = of.system_of(request.task.app)
    if system is not None:
        found[of.SYSTEM] = system
    if began:
        found.update(waits_of(request.task, said, attempt.envelope, int(began * 1e9)))
    return found


def _tell(request: Request, outcome: str) -> None:
    """Tell the tally of a dispatched pipeline that a task has ended for good, unless it will be run again."""
    attempt = _attempt_of(request)
    if attempt.envelope.run is not None and not attempt.is_put_back:
        dispatched.ended(request.task.app, attempt.envelope.run, request.id, outcome)


def _tell_timeout(request: Request, soft: bool, timeout: float) -> None:  # noqa: ARG001
    if not soft:
        _tell(request, "failure")


def _tell_if_lost(request: Request, exc_info: Any, *_: object, **__: object) -> None:
    """Only a process that is gone has not told the tally itself."""
    if isinstance(_error_of(exc_info), _LOST) and not is_over(request):
        _tell(request, "interrupted")


def _error_of(exc_info: Any) -> BaseException:
    error: BaseException = exc_info.exception
    return getattr(error, "exc", error)  # billiard may wrap it, to keep its traceback
