"""The vocabulary of a sync: pipeline, repo, api call, pull request, and any other stage, each a span with an outcome.

Each is a context manager and a decorator. Stages need the OpenTelemetry API alone, so they work over any provider; over
ours they take a shorter way. Outside any configuration they do next to nothing.
"""

from __future__ import annotations

import functools
import inspect
import logging
import operator
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

import opentelemetry.context as context_api
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation import _SPAN_KEY

from otelsync import vocabulary
from otelsync.errors import DispatchError, message_of
from otelsync.logs import events
from otelsync.logs import path as logs
from otelsync.recording.runtime_context import CURRENT, current_scope, installed
from otelsync.recording.scope import SCOPE_KEY, SyncScope
from otelsync.version import __version__

if TYPE_CHECKING:
    from celery.canvas import Signature
    from celery.result import AsyncResult, GroupResult

    from otelsync.recording.span import RecordedSpan
    from otelsync.stages.progress import Tracker

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Self = TypeVar("Self", bound="Stage")

_log = logging.getLogger("otelsync")
_RECORDED_IN: Final = "__otelsync_recorded_in__"
"""What an exception that was recorded in a trace has in its ``__dict__``, with the trace's id."""

_INTERNAL: Final = SpanKind.INTERNAL

ACTIONS: Final = ("created", "updated", "unchanged", "skipped", "failed")
"""What can become of an item; what was fetched is their sum."""


class Stage:
    """A part of a sync: a span, what it carries, and how it went.

    Args:
        name: What the span's name adds to the kind of the stage.
        attributes: Attributes of the span, by full name or by the short one of `ALIASES`.
    """

    KIND = vocabulary.SYNC_STAGE
    """How the span's name begins."""
    STARTED: str | None = None
    """The log event of its start; None if that is not worth a record."""
    COMPLETED: str | None = None
    """The log event of its end; None if it logs none of its own."""
    FAILED = ""
    """The same where it has failed."""
    ALIASES: dict[str, str] = {"kind": vocabulary.SYNC_STAGE_KIND, "phase": vocabulary.SYNC_PHASE}  # noqa: RUF012  # read only
    """Short names of attributes."""
    LEVEL = logs.INFO
    """The level of its events, where nothing failed."""
    LONG = True
    """Whether its start is journalled, so that it can be closed should the process die."""
    COLLECTS = True
    """Whether counts from below stop here before they go on."""

    # How a stage stands that has just begun.
    _failure = _outcome = ""
    _arose: BaseException | None = None
    _parts = _parts_failed = _items_failed = _fetched_below = _actions_below = 0
    _waited = 0.0

    span: Span
    """The stage's span, while it runs and after."""

    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        self._name = name
        self._arguments = attributes

    # What callers use

    @property
    def trace_id(self) -> str:
        """32 lower-case hex digits; empty where nothing is recorded."""
        context = self.span.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else ""

    @property
    def span_id(self) -> str:
        """16 lower-case hex digits; empty where nothing is recorded."""
        context = self.span.get_span_context()
        return trace.format_span_id(context.span_id) if context.is_valid else ""

    @property
    def outcome(self) -> str:
        """``success``, ``partial``, ``failure``, ``cancelled`` or ``retry``; as it stands, while the stage runs."""
        if self._outcome:
            return self._outcome
        if self._parts and self._parts_failed == self._parts:
            return "failure"
        return "partial" if self._parts_failed or self._items_failed else "success"

    def set(self, **attributes: Any) -> None:
        """Set attributes of the span, by full or short name."""
        for key, value in attributes.items():
            self.span.set_attribute(self.ALIASES.get(key, key), value)

    def count(self, **items: int) -> None:
        """Count items: ``fetched``, ``created``, ``updated``, ``unchanged``, ``skipped``, ``failed``, or your own.

        They become ``sync.items.*`` here and in every stage around. What was fetched need not be counted: it is the
        sum of the rest.
        """
        for name, number in items.items():
            try:
                number = operator.index(number)
            except TypeError:
                _log.warning("count(%s=%r): not a whole number, so it is not counted", name, number)
                continue
            _add(self._counts, name, number)
            if name == "failed":
                self._items_failed += number

    def track(self, items: Iterable[T] | AsyncIterable[T] = (), total: int | None = None) -> Tracker[T]:
        """Count items as they are iterated over, and log progress now and then: ``for pull in repo.track(pulls)``.

        Args:
            items: What to iterate over, with ``for`` or ``async for``.
            total: How many there are; by default their ``len()``. It may be set later: ``tracker.total = 310``.
        """
        from otelsync.stages.progress import Tracker

        return Tracker(self, items, total=total)

    def event(self, name: str, /, **fields: Any) -> None:
        """Log a named event, and mark it in the span: at the level that the catalogue names for it, else at INFO."""
        known = events.known.get(name)
        level = logs.LEVELS[known.level] if known is not None else logs.INFO
        self.span.add_event(str(name), {key: value for key, value in fields.items() if value is not None})
        logs.emit(level, "otelsync", name, fields, self.span)

    def skip(self, reason: str) -> None:
        """Say that there was nothing to do, and why."""
        self.span.set_attribute(vocabulary.SYNC_SKIP_REASON, reason)

    def fail(self, reason: str) -> None:
        """Say that the stage has failed, though no exception leaves it."""
        self._failure = reason or "failed"
        self._outcome = "failure"

    # Entering and leaving

    def __enter__(self: Self) -> Self:
        self._begin_afresh()
        self._clock = time.perf_counter_ns()
        span = self.span = current_tracer().start_span(self._span_name(), None, SpanKind.INTERNAL, self._initial())
        scope = current_scope()
        self._parent = scope.stage
        inner = self._inner_scope(scope) if self.COLLECTS else scope
        if installed() and hasattr(span, "announce"):
            ours = cast("RecordedSpan", span)
            ours.scope = inner
            self._token: Token[Any] = CURRENT.set(ours)
            if self.LONG:
                ours.announce()
        else:
            self._enter_elsewhere(inner)
        if self.STARTED:
            self._log_start()
        return self

    def _begin_afresh(self) -> None:
        """Forget an earlier run of the same object."""
        for name in self.__dict__.keys() - {"_name", "_arguments"}:
            del self.__dict__[name]
        self._counts: dict[str, int] = {}

    def _enter_elsewhere(self, scope: SyncScope) -> None:
        """Become current under another provider, whose spans know nothing of scopes."""
        if scope.attributes:
            self.span.set_attributes(scope.attributes)
        context = context_api.set_value(_SPAN_KEY, self.span)
        self._token = context_api.attach(context_api.set_value(SCOPE_KEY, scope, context))

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        _leave(self._token)
        if error is not None:
            self._note(error)
        self._roll_up(self._end())

    def _end(self) -> str:
        """End the span, and log it, with what has come of the stage; returns the outcome."""
        outcome = self._outcome = self.outcome
        self._set_last_attributes(outcome)
        if outcome == "failure" and not self._failure:
            self._failure = f"all {self._parts} parts failed" if self._parts > 1 else "its only part failed"
        if self._failure:
            self.span.set_status(Status(StatusCode.ERROR, self._failure))
        self._log_end(outcome)
        self.span.end()
        return outcome

    def _note(self, error: BaseException) -> None:
        """Take account of an exception that leaves the stage. Where it arises it is recorded, further out named."""
        if not isinstance(error, Exception):  # KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError
            self._outcome = self._outcome or "cancelled"
            return
        harmless = _outcome_without_failure(error)
        if harmless is not None:
            self._outcome = self._outcome or harmless
            return
        self._outcome = "failure"
        self._failure = f"{type(error).__name__}: {message_of(error)}"
        self.span.set_attribute(vocabulary.ERROR_TYPE, type(error).__qualname__)
        trace_id = self.trace_id
        if error.__dict__.get(_RECORDED_IN) == trace_id:
            return
        self._arose = error
        error.__dict__[_RECORDED_IN] = trace_id
        try:
            self.span.record_exception(error)
        except Exception:  # its str() or repr() raises
            self.span.add_event("exception", {vocabulary.EXCEPTION_TYPE: type(error).__qualname__})

    def _totals(self) -> dict[str, int]:
        """The counts, with what was fetched: as the caller counted it, else the sum of what became of the items."""
        counts = self._counts
        if "fetched" in counts:
            return counts
        fetched = self._fetched_below + _sum_actions(counts) - self._actions_below
        return {"fetched": fetched, **counts} if fetched else counts

    def _set_last_attributes(self, outcome: str) -> None:
        if self._counts:
            self.span.set_attributes({f"sync.items.{name}": number for name, number in self._totals().items()})
        self.span.set_attribute(vocabulary.SYNC_OUTCOME, outcome)

    def _roll_up(self, outcome: str) -> None:
        """Add what was counted here to the stage around."""
        parent = self._parent
        if parent is None:
            return
        totals = self._totals()
        if totals:
            fetched, actions = totals.get("fetched", 0), _sum_actions(totals)
            parent._fetched_below += fetched
            parent._actions_below += actions
            parent.count(**{name: number for name, number in totals.items() if name != "fetched"})
        elif outcome == "partial":
            parent._items_failed += 1

    def _span_name(self) -> str:
        return f"{self.KIND} {self._name}"

    def _initial(self) -> dict[str, Any]:
        aliases = self.ALIASES
        return {aliases.get(key, key): value for key, value in self._arguments.items() if value is not None}

    def _inner_scope(self, scope: SyncScope) -> SyncScope:
        return scope.with_stage(self)

    def _log_start(self) -> None:
        if self.STARTED and logs.enabled(self.LEVEL):
            logs.emit(self.LEVEL, "otelsync", self.STARTED, self._start_fields(), self.span)

    def _start_fields(self) -> dict[str, Any]:
        return dict(self._arguments)

    def _end_fields(self) -> dict[str, Any]:
        """What the record of its end says beside how it went."""
        return {}

    def _log_end(self, outcome: str) -> None:
        """Log how it went. The traceback stands in the record of the stage in which the exception arose alone."""
        if self.COMPLETED is None:
            return
        failed = outcome == "failure"
        level = logs.ERROR if failed else self.LEVEL
        if not logs.enabled(level):
            return
        fields = self._end_fields() | {"outcome": outcome, "duration_ms": self._elapsed_ms(), **self._totals()}
        if failed:
            fields["error"] = self._failure
        logs.emit(level, "otelsync", self.FAILED if failed else self.COMPLETED, fields, self.span, self._arose)

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter_ns() - self._clock) / 1e6, 3)

    # As a decorator

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Run each call of a function, coroutine function or generator function as a stage of its own."""
        if inspect.isasyncgenfunction(function):
            return cast("Callable[P, R]", _around_async_generator(self, function))
        if inspect.isgeneratorfunction(function):
            return cast("Callable[P, R]", _around_generator(self, function))
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def around_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", around_coroutine)

        @functools.wraps(function)
        def around(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._again():
                return function(*args, **kwargs)

        return around

    def _again(self: Self) -> Self:
        """A fresh stage of the same kind, name and attributes."""
        stage = type(self).__new__(type(self))
        stage._name, stage._arguments = self._name, self._arguments
        return stage


class OtherStage(Stage):
    """Any other part of a sync. A name of the vocabulary (``sync.rate_limit.wait``) is the span's whole name."""

    def _span_name(self) -> str:
        return self._name if self._name.startswith("sync.") else super()._span_name()


class Milestone(Stage):
    """A stage of which the stage around can be made up of several."""

    def _roll_up(self, outcome: str) -> None:
        parent = self._parent
        if parent is not None and outcome != "retry":  # it will come again, and is a part then
            parent._parts += 1
            if outcome == "failure":
                parent._parts_failed += 1
            elif outcome == "partial":
                parent._items_failed += 1
        super()._roll_up(outcome)


class Pipeline(Milestone):
    """A whole run of a sync."""

    KIND = vocabulary.SYNC_PIPELINE
    STARTED = "sync.pipeline.started"
    COMPLETED = "sync.pipeline.completed"
    FAILED = "sync.pipeline.failed"

    sync_id: str
    """What names the run everywhere, such as ``202508022027-SYNC-765151E9``; empty where nothing is recorded."""

    _handed_over: tuple[object, ...] | None = None

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
        if "_token" not in self.__dict__:
            raise DispatchError(
                f"the pipeline {self._name!r} does not run. Did you forget `with otelsync.pipeline(...) as run`?"
            )
        try:
            from otelsync.integrations.celery.dispatch import dispatch
        except ModuleNotFoundError as error:
            raise DispatchError(f"{error}. Did you forget pip install 'otelsync[celery]'?") from error
        return dispatch(self, canvas, options)

    def hand_over(self) -> None:
        """Leave the end to somebody else. For :mod:`otelsync.integrations.celery.dispatch`."""
        self._handed_over = self._counted()

    def _counted(self) -> tuple[object, ...]:
        return dict(self._counts), self._fetched_below, self._parts, self._items_failed, self._failure

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._handed_over is None:
            super().__exit__(exc_type, error, tb)
            del self._token
            return
        _leave(self._token)
        del self._token
        if self._counted() != self._handed_over:
            _log.warning("pipeline %r: what was counted after dispatch() is lost; count before it", self._name)
        if error is not None:
            _log.warning("pipeline %r goes on, though %s left its block", self._name, type(error).__name__)

    def phase(self, name: str) -> None:
        """Say that the run is now in another phase; it becomes ``sync.phase`` and an event."""
        self.span.set_attribute(vocabulary.SYNC_PHASE, name)
        self.span.add_event("sync.pipeline.phase_changed", {vocabulary.SYNC_PHASE: name})
        logs.emit(logs.INFO, "otelsync", "sync.pipeline.phase_changed", {"phase": name}, self.span)

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


class Repo(Milestone):
    """One repository's share of a run."""

    KIND = vocabulary.SYNC_REPO
    STARTED = "sync.repo.started"
    COMPLETED = "sync.repo.completed"
    FAILED = "sync.repo.failed"
    ALIASES = {  # noqa: RUF012
        "provider": vocabulary.VCS_PROVIDER_NAME,
        "url": vocabulary.VCS_REPOSITORY_URL_FULL,
        "branch": vocabulary.VCS_REF_HEAD_NAME,
    }

    def _initial(self) -> dict[str, Any]:
        owner, _, name = self._name.rpartition("/")
        attributes: dict[str, Any] = {vocabulary.VCS_PROVIDER_NAME: "github", vocabulary.VCS_REPOSITORY_NAME: name}
        if owner:
            attributes[vocabulary.VCS_OWNER_NAME] = owner
        return {**attributes, **super()._initial()}

    def _inner_scope(self, scope: SyncScope) -> SyncScope:
        return SyncScope({**scope.attributes, vocabulary.SYNC_REPO: self._name}, self)


class ApiCall(Stage):
    """One call of an API, with what it brought."""

    KIND = vocabulary.SYNC_API
    STARTED = "sync.api.request"
    COMPLETED = "sync.api.completed"
    FAILED = "sync.api.failed"
    ALIASES = {"kind": vocabulary.SYNC_API_KIND, "page": vocabulary.SYNC_API_PAGE, "attempt": vocabulary.SYNC_ATTEMPT}  # noqa: RUF012
    LEVEL = logs.DEBUG

    def _start_fields(self) -> dict[str, Any]:
        return {"operation": self._name, **self._arguments}

    def _end_fields(self) -> dict[str, Any]:
        return {"operation": self._name}


class PullRequest(Stage):
    """One pull request on its way into the database."""

    KIND = vocabulary.SYNC_PR
    COMPLETED = "sync.pr.processed"
    FAILED = "sync.pr.failed"
    ALIASES = {  # noqa: RUF012
        "action": vocabulary.SYNC_ACTION,
        "state": vocabulary.VCS_CHANGE_STATE,
        "title": vocabulary.VCS_CHANGE_TITLE,
    }
    LEVEL = logs.DEBUG
    LONG = False
    COLLECTS = False

    _action = ""

    # There are more of these than of all other stages, so what those do step by step is done here at one go.

    def __enter__(self) -> PullRequest:
        if "span" in self.__dict__:
            self._begin_afresh()
        span = self.span = current_tracer().start_span(vocabulary.SYNC_PR, None, _INTERNAL, self._initial())
        if hasattr(span, "announce") and installed():
            ours = cast("RecordedSpan", span)
            self._parent = ours.scope.stage if ours.scope else None
            self._token = CURRENT.set(ours)
        else:
            scope = current_scope()
            self._parent = scope.stage
            self._enter_elsewhere(scope)
        self._counts = {}
        self._clock = time.perf_counter_ns()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if error is not None or self._outcome or self._counts or logs.enabled(self.LEVEL):
            return super().__exit__(exc_type, error, tb)
        _leave(self._token)
        self.span.end()
        if self._action and self._parent is not None:
            self._roll_up("success")
        return None

    def set(self, **attributes: Any) -> None:
        """Set attributes; ``action=`` says what became of it: one of created, updated, unchanged, skipped, failed."""
        set_attribute, aliases = self.span.set_attribute, self.ALIASES
        for key, value in attributes.items():
            if key == "action":
                self._action = value = str(value)
            set_attribute(aliases.get(key, key), value)

    def skip(self, reason: str) -> None:
        """Say that it was left out, and why; it counts as skipped."""
        super().skip(reason)
        self.set(action="skipped")

    def _initial(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {vocabulary.VCS_CHANGE_ID: self._name}
        aliases = self.ALIASES
        for key, value in self._arguments.items():
            if value is not None:
                attributes[aliases.get(key, key)] = value
        return attributes

    def _set_last_attributes(self, outcome: str) -> None:
        if outcome == "failure":
            self.set(action="failed")
        elif outcome not in ("success", "partial"):
            self.span.set_attribute(vocabulary.SYNC_OUTCOME, outcome)

    def _roll_up(self, outcome: str) -> None:  # noqa: ARG002  # what counts is the action
        parent, action = self._parent, self._action
        if parent is None or not action:
            return
        _add(parent._counts, action, 1)
        if action == "failed":
            parent._items_failed += 1

    def _end_fields(self) -> dict[str, Any]:
        return {"number": self._name, "action": self._action} if self._action else {"number": self._name}


class TimedOperation(OtherStage):
    """A stage that logs how long it took, under its own name."""

    def _log_end(self, outcome: str) -> None:
        failed = outcome == "failure"
        fields = {**self._arguments, "duration_ms": self._elapsed_ms(), "outcome": outcome}
        level = logs.ERROR if failed else logs.INFO
        logs.emit(level, "otelsync", self._name, fields, self.span, self._arose)


def pipeline(name: str, **attributes: Any) -> Pipeline:
    """A run of a sync: ``with pipeline("github.onboarding", team_id=7) as run``."""
    return Pipeline(name, attributes)


def repo(name: str, **attributes: Any) -> Repo:
    """One repository's share of a run: ``with repo("acme/api") as repo``."""
    return Repo(name, attributes)


def api_call(operation: str, **attributes: Any) -> ApiCall:
    """One call of an API: ``with api_call("list_pull_requests", kind="rest", page=1) as call``."""
    return ApiCall(operation, attributes)


def pull_request(number: int | str, **attributes: Any) -> PullRequest:
    """One pull request: ``with pull_request(4711, state="open") as pr``, then ``pr.set(action="created")``."""
    return PullRequest(str(number), attributes)


def stage(name: str, **attributes: Any) -> Stage:
    """Any other part of a sync, such as a batch for a language model, or weekly metrics."""
    return OtherStage(name, attributes)


def timed_operation(name: str, /, **fields: Any) -> TimedOperation:
    """A stage whose end logs the event `name` with `fields` and ``duration_ms``."""
    return TimedOperation(name, fields)


class sync_context:  # noqa: N801  # a verb of the API, like structlog's bound_contextvars
    """Bind fields to every span and record inside: ``with sync_context(team_id=7, task_id="abc")``."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields
        self._tokens: list[Token[Any]] = []

    def __enter__(self) -> None:
        scope = current_scope().with_fields(self._fields)
        self._tokens.append(context_api.attach(context_api.set_value(SCOPE_KEY, scope)))

    def __exit__(self, *_: object) -> None:
        _leave(self._tokens.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Bind the fields during each call of a function or coroutine function."""
        fields = self._fields
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def around_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                with sync_context(**fields):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", around_coroutine)

        @functools.wraps(function)
        def around(*args: P.args, **kwargs: P.kwargs) -> R:
            with sync_context(**fields):
                return function(*args, **kwargs)

        return around


def new_sync_id(trace_id: str, when: float | None = None) -> str:
    """The id of a run: the minute in UTC, then the first eight hex digits of its trace id.

    >>> new_sync_id("765151e9" + 24 * "0", 1754166420)
    '202508022027-SYNC-765151E9'
    """
    return time.strftime("%Y%m%d%H%M", time.gmtime(when)) + "-SYNC-" + trace_id[:8].upper()


_harmless: dict[type[BaseException], str] = {}


def no_failure(exception_type: type[BaseException], outcome: str | None) -> None:
    """Say what an exception means that leaves a stage and is no failure, such as Celery's ``Retry``.

    Args:
        exception_type: It and its subclasses.
        outcome: Of the stages that it leaves, such as ``retry`` or ``cancelled``. None: it is a failure again.
    """
    if outcome is None:
        _harmless.pop(exception_type, None)
    else:
        _harmless[exception_type] = outcome


def _outcome_without_failure(error: BaseException) -> str | None:
    """The outcome that an exception stands for; None if it is a failure."""
    if not _harmless:
        return None
    return next((_harmless[kind] for kind in type(error).__mro__ if kind in _harmless), None)


_tracer: tuple[TracerProvider | None, Tracer] = (None, trace.NoOpTracer())


def current_tracer() -> Tracer:
    """The tracer of the provider that is set now."""
    global _tracer
    provider = trace.get_tracer_provider()
    if _tracer[0] is not provider:
        _tracer = (provider, provider.get_tracer("otelsync", __version__))
    return _tracer[1]


def _sum_actions(counts: dict[str, int]) -> int:
    return sum(counts.get(action, 0) for action in ACTIONS)


def _add(counts: dict[str, int], name: str, number: int) -> None:
    """Add to a count that other threads may be adding to.

    There is no call between reading and storing, so CPython cannot switch threads there (see ``Journal.append``).
    """
    try:
        counts[name] += number
    except KeyError:
        counts.setdefault(name, 0)
        counts[name] += number


def _leave(token: Token[Any]) -> None:
    """Undo an activation. In another `contextvars` context (a generator closed elsewhere) there is nothing to undo."""
    if token.var is not CURRENT:
        context_api.detach(token)
        return
    try:  # noqa: SIM105  # contextlib.suppress costs more than the whole of the rest
        CURRENT.reset(token)
    except (ValueError, RuntimeError):  # RuntimeError: one object was entered twice, and is left twice
        pass


def _around_generator(stage: Stage, function: Callable[..., Any]) -> Callable[..., Generator[Any, Any, Any]]:
    """The stage is current while the generator's own code runs, and not while its consumer's does."""

    @functools.wraps(function)
    def around(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with stage._again() as running:
            inner = function(*args, **kwargs)
            step: Callable[[], Any] = functools.partial(next, inner)
            while True:
                try:
                    item = step()
                except StopIteration as stop:
                    return stop.value
                context = _suspend(running)
                try:
                    sent = yield item
                    step = functools.partial(inner.send, sent)
                except GeneratorExit:
                    _resume(running, context)
                    inner.close()
                    raise
                except BaseException as thrown:
                    step = functools.partial(inner.throw, thrown)
                _resume(running, context)

    return around


def _around_async_generator(stage: Stage, function: Callable[..., Any]) -> Callable[..., AsyncGenerator[Any, Any]]:
    @functools.wraps(function)
    async def around(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with stage._again() as running:
            inner = function(*args, **kwargs)
            step = inner.__anext__
            while True:
                try:
                    item = await step()
                except StopAsyncIteration:
                    return
                context = _suspend(running)
                try:
                    sent = yield item
                    step = functools.partial(inner.asend, sent)
                except GeneratorExit:
                    _resume(running, context)
                    await inner.aclose()
                    raise
                except BaseException as thrown:
                    step = functools.partial(inner.athrow, thrown)
                _resume(running, context)

    return around


def _suspend(stage: Stage) -> context_api.Context:
    """Step out of the stage; returns the context in which its code goes on."""
    context = context_api.get_current()
    _leave(stage._token)
    return context


def _resume(stage: Stage, context: context_api.Context) -> None:
    stage._token = context_api.attach(context)
