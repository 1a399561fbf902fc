"""A stage of a sync: a span with an outcome and counts, as a context manager and a decorator.

Stages need the OpenTelemetry API alone, so they work over any provider; over
ours they take a shorter way. Outside any configuration they do next to nothing.
"""

from __future__ import annotations

import inspect
import logging
import operator
import time
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, ParamSpec, TypeVar, cast

import opentelemetry.context as context_api
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation import _SPAN_KEY

from otelsync import vocabulary
from otelsync.hooks.decorating import decorated
from otelsync.levels import ERROR, INFO, LEVELS
from otelsync.logs import events
from otelsync.logs.installed import emit, enabled
from otelsync.recording.clock import elapsed_of
from otelsync.recording.runtime_context import CURRENT, current_scope, installed, leave
from otelsync.recording.scope import SCOPE_KEY, SyncScope
from otelsync.stages.generators import around_async_generator, around_generator
from otelsync.stages.harmless_exceptions import outcome_without_failure
from otelsync.text.presentable import text_of
from otelsync.version import __version__

if TYPE_CHECKING:
    from otelsync.recording.span import RecordedSpan
    from otelsync.stages.progress import Tracker

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Self = TypeVar("Self", bound="Stage")

_log = logging.getLogger("otelsync")
_RECORDED_IN: Final = "__otelsync_recorded_in__"
"""The key in an exception's ``__dict__`` that holds the id of the trace in which it was recorded."""

_GIVEN: Final = frozenset(("_name", "_arguments", "_kind", "_operation"))
"""Names of the attributes that a stage was made with; all else is of one run of it."""

WAITED: Final = "waited_ms"
"""The figure with the milliseconds that rate limits have taken."""


class Stage:
    """A part of a sync: a span, what it carries, and how it went.

    Args:
        name: What the span's name adds to the kind of the stage.
        attributes: Attributes of the span, by full name or by the short one of `ALIASES`.
    """

    KIND = vocabulary.SYNC_STAGE
    """The beginning of the span's name."""
    EVENTS = vocabulary.SYNC_STAGE
    """The beginning of the names of its log events."""
    STARTED: str | None = None
    """The log event of its start; None if that is not worth a record."""
    COMPLETED: str | None = None
    """The log event of its end; None if it logs none of its own."""
    FAILED = ""
    """The same where it has failed."""
    ALIASES: ClassVar[dict[str, str]] = {
        "kind": vocabulary.SYNC_STAGE_KIND,
        "phase": vocabulary.SYNC_PHASE,
        "attempt": vocabulary.SYNC_ATTEMPT,
    }
    """Short names of attributes."""
    LEVEL = INFO
    """The level of its events, where nothing failed."""
    LONG = True
    """True if its start is journalled, so that it can be closed should the process die."""
    is_milestone = False
    """True if the stage around can be made up of several, and progress is told from the start."""
    progress_pause = 1.0
    """Seconds that lie at least between two events of its progress, but for the last."""
    COLLECTS = True
    """True if counts from below stop here before they go on."""

    # How a stage stands that has just begun.
    _failure = _outcome = ""
    _arose: BaseException | None = None
    _parts = _parts_failed = _items_failed = _fetched_below = _actions_below = 0
    waited = 0.0
    """Seconds that rate limits have taken so far, here and below."""

    span: Span
    """The stage's span, while it runs and after."""
    trackers: Sequence[Tracker[Any]] = ()
    """Those that count its items, and tell how far it came."""
    around: Stage | None = None
    """The stage around; None outside any."""

    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        self._name = name if type(name) is str else text_of(name)
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

    @property
    def name(self) -> str:
        """The name that it was given."""
        return self._name

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
            add(self._counts, name, number)
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
        name = text_of(name)
        known = events.known.get(name)
        level = LEVELS[known.level] if known is not None else INFO
        self.span.add_event(name, {key: value for key, value in fields.items() if value is not None})
        emit(level, "otelsync", name, fields, self.span)

    def skip(self, reason: str) -> None:
        """Say that there was nothing to do, and why."""
        self.span.set_attribute(vocabulary.SYNC_SKIP_REASON, text_of(reason))

    def fail(self, reason: str | BaseException) -> None:
        """Say that the stage has failed, though no exception leaves it; an exception is a reason as well."""
        self._failure = text_of(reason) or "failed"
        self._outcome = "failure"

    # Entering and leaving

    def __enter__(self: Self) -> Self:
        self._begin_afresh()
        self._clock = time.perf_counter_ns()
        span = self.span = current_tracer().start_span(self._span_name(), None, SpanKind.INTERNAL, self._initial())
        scope = current_scope()
        self.around = scope.stage
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
        for name in self.__dict__.keys() - _GIVEN:
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
        leave(self._token)
        if error is not None:
            self._note(error)
        self._roll_up(self._end())

    def _end(self) -> str:
        """End the span, and log it, with what has come of the stage; returns the outcome."""
        for tracker in tuple(self.trackers):
            tracker.finish()
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
        harmless = outcome_without_failure(error)
        if harmless is not None:
            self._outcome = self._outcome or harmless
            return
        self._outcome = "failure"
        self._failure = text_of(error)
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

    def totals(self) -> dict[str, int]:
        """Return the counts, with ``fetched``: as the caller counted it, else the sum of what became of the items."""
        counts = self._counts
        if "fetched" in counts:
            return counts
        fetched = self._fetched_below + _sum_actions(counts) - self._actions_below
        return {"fetched": fetched, **counts} if fetched else counts

    def figures(self) -> dict[str, int]:
        """Return what was counted here, by name, for a pipeline that another process ends."""
        figures = {f"items.{name}": number for name, number in self.totals().items()}
        parts = {
            "parts": self._parts,
            "parts_failed": self._parts_failed,
            "items_failed": self._items_failed - self._counts.get("failed", 0),
            WAITED: round(self.waited * 1000),
        }
        return {name: number for name, number in (figures | parts).items() if number}

    def _set_last_attributes(self, outcome: str) -> None:
        if self._counts:
            self.span.set_attributes({vocabulary.SYNC_ITEMS_ + name: number for name, number in self.totals().items()})
        self.span.set_attribute(vocabulary.SYNC_OUTCOME, outcome)

    def _roll_up(self, outcome: str) -> None:
        """Add what was counted here to the stage around."""
        parent = self.around
        if parent is None:
            return
        totals = self.totals()
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
        if self.STARTED and enabled(self.LEVEL):
            emit(self.LEVEL, "otelsync", self.STARTED, self._start_fields(), self.span)

    def _start_fields(self) -> dict[str, Any]:
        return dict(self._arguments)

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
        elapsed = elapsed_of(self.span)
        return round((time.perf_counter_ns() - self._clock if elapsed is None else elapsed) / 1e6, 3)

    # As a decorator

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Run each call of a function, coroutine function or generator function as a stage of its own."""
        if inspect.isasyncgenfunction(function):
            return cast("Callable[P, R]", around_async_generator(self.again, function))
        if inspect.isgeneratorfunction(function):
            return cast("Callable[P, R]", around_generator(self.again, function))
        return decorated(function, self.again)

    def again(self: Self) -> Self:
        """Return a fresh stage of the same kind, name and attributes."""
        stage = type(self).__new__(type(self))
        stage.__dict__ |= {name: value for name, value in self.__dict__.items() if name in _GIVEN}
        return stage

    def suspend(self) -> context_api.Context:
        """Step out of the stage; returns the context in which its code goes on."""
        context = context_api.get_current()
        leave(self._token)
        return context

    def resume(self, context: context_api.Context) -> None:
        """Step back into the stage, in the context that :meth:`suspend` returned."""
        self._token = context_api.attach(context)


class OtherStage(Stage):
    """Any other part of a sync. A name like ``sync.rate_limit.wait`` is the span's whole name."""

    def _span_name(self) -> str:
        is_whole = self._name.startswith("sync.") and "." in self._name[5:]
        return self._name if is_whole else super()._span_name()


class Milestone(Stage):
    """A stage of which the stage around can be made up of several."""

    is_milestone = True

    def _roll_up(self, outcome: str) -> None:
        parent = self.around
        if parent is not None and outcome != "retry":  # it will come again, and is a part then
            parent._parts += 1
            if outcome == "failure":
                parent._parts_failed += 1
            elif outcome == "partial":
                parent._items_failed += 1
        super()._roll_up(outcome)


class Collector(Stage):
    """A stage without a span: takes the counts of a task that is a part of a dispatched pipeline."""

    span = trace.INVALID_SPAN

    def __init__(self) -> None:
        super().__init__("", {})
        self._counts = {}


_tracer: tuple[TracerProvider | None, Tracer] = (None, trace.NoOpTracer())


def current_tracer() -> Tracer:
    """The tracer of the provider that is set now."""
    global _tracer
    provider = trace.get_tracer_provider()
    if _tracer[0] is not provider:
        _tracer = (provider, provider.get_tracer("otelsync", __version__))
    return _tracer[1]


def _sum_actions(counts: dict[str, int]) -> int:
    return sum(counts.get(action, 0) for action in vocabulary.ACTIONS)


def add(counts: dict[str, int], name: str, number: int) -> None:
    """Add to a count that other threads may be adding to.

    There is no call between reading and storing, so CPython cannot switch threads there (see ``Journal.append``).
    """
    try:
        counts[name] += number
    except KeyError:
        counts.setdefault(name, 0)
        counts[name] += number
