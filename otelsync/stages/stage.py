"""A stage of a sync: a span with an outcome and counts, as a context manager and a decorator.

Stages need the OpenTelemetry API alone, so they work over any provider; over
ours they take a shorter way. Outside any configuration they do next to nothing.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, ParamSpec, TypeVar, cast

import opentelemetry.context as context_api
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Tracer, TracerProvider

from otelsync import vocabulary
from otelsync.bounds import LONGEST_NAME
from otelsync.hooks.decorating import decorated
from otelsync.hooks.host_errors import forgive, hand_back
from otelsync.hooks.own_messages import own_logger
from otelsync.journal.native import guarded_by
from otelsync.levels import INFO, LEVELS
from otelsync.logs import events
from otelsync.logs.installed import emit, enabled
from otelsync.recording.exceptions import take_error
from otelsync.recording.runtime_context import CURRENT, current_scope, installed, step_out, strays
from otelsync.recording.scope import SyncScope, redactor
from otelsync.stages import elsewhere, lineage, misuse
from otelsync.stages.ending import Ending, exit_despite
from otelsync.stages.generators import around_async_generator, around_generator
from otelsync.text.presentable import text_of
from otelsync.version import __version__

if TYPE_CHECKING:
    from otelsync.recording.span import RecordedSpan
    from otelsync.stages.progress import Tracker

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Self = TypeVar("Self", bound="Stage")

_log = own_logger("otelsync")
COMMON_ALIASES: Final = {"attempt": vocabulary.SYNC_ATTEMPT, "required": vocabulary.SYNC_REQUIRED}
"""Short names of attributes that every stage has."""
_GIVEN: Final = frozenset(("_name", "_arguments", "_kind", "_operation", "is_part", "COLLECTS"))
"""Names of the attributes that a stage was made with; all else is of one run of it."""


class Stage(Ending):
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
    ALIASES: ClassVar[dict[str, str]] = COMMON_ALIASES | {
        "kind": vocabulary.SYNC_STAGE_KIND,
        "phase": vocabulary.SYNC_PHASE,
    }
    """Short names of attributes."""
    is_milestone = False
    """True if the stage around can be made up of several, and progress is told from the start."""
    progress_pause = 1.0
    """Seconds that lie at least between two events of its progress, but for the last."""
    COLLECTS = True
    """True if parts that end below belong to it."""
    is_part_of_run = False
    """True if it makes no sense outside a pipeline, where one runs."""
    EXAMPLE = '@otelsync.stage("name")'
    """Such a stage as a decorator."""

    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        if type(name) is not str:
            misuse.refuse_function(name, self.EXAMPLE)
            name = text_of(name)
        self._name = name if len(name) <= LONGEST_NAME else redactor().shorten(name, LONGEST_NAME)
        self._arguments = attributes
        if attributes and attributes.get("kind") == vocabulary.WAITING:
            self.is_part = self.COLLECTS = False

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
        return self._outcome or ("" if self.span is misuse.NOT_BEGUN else self.outcome_of_parts())

    @property
    def name(self) -> str:
        """The name that it was given."""
        return self._name

    def set(self, **attributes: Any) -> None:
        """Set attributes of the span, by full or short name."""
        for key, value in attributes.items():
            self.span.set_attribute(self.ALIASES.get(key, key), value)

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
        if self.span is misuse.NOT_BEGUN:
            return
        self._failure = text_of(reason) or "failed"
        self._outcome = vocabulary.FAILURE
        if isinstance(reason, BaseException) and take_error(self.span, reason):
            self._arose = reason

    # Entering and leaving

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Return what a stage has only once it has begun, and warn."""
            return misuse.before_with(self, name)

    def __enter__(self: Self) -> Self:
        try:
            self._begin()
        except BaseException as error:
            self._begin_despite(error)
        return self

    def _begin(self) -> None:
        self._begin_afresh()
        if strays.seen:
            step_out()
        self._clock = time.perf_counter_ns()
        span = self.span = current_tracer().start_span(self._span_name(), None, SpanKind.INTERNAL, self._initial())
        scope = current_scope()
        self.around = scope.stage
        inner = self._inner_scope(scope) if self.COLLECTS else scope
        self.open_in = lineage.generation
        self._forks = lineage.forks
        if installed() and hasattr(span, "announce"):
            ours = cast("RecordedSpan", span)
            ours.scope = inner
            self._token = CURRENT.set(ours)
            if self.LONG:
                ours.announce()
        else:
            self._enter_elsewhere(inner)
        if vocabulary.SYNC_PIPELINE not in scope.attributes and misuse.running:
            misuse.warn_of_adrift(self)
        if self.STARTED:
            self._log_start()

    def _begin_despite(self, error: BaseException) -> None:
        """Begin it in spite of a fault of ours; what the host raises in the middle of it leaves it as a block would."""
        try:
            hand_back(error)
        except BaseException:
            if self._token is not None or CURRENT.get() is self.__dict__.get("span", self):
                self.__exit__(type(error), error, error.__traceback__)
            raise
        if "span" not in self.__dict__:
            self.span = trace.INVALID_SPAN
        forgive(cast("Exception", error), "%s did not begin as it should", type(self).__name__)

    def _begin_afresh(self) -> None:
        """Forget an earlier run of the same object."""
        for name in self.__dict__.keys() - _GIVEN:
            del self.__dict__[name]
        self.begin_collecting()

    def _enter_elsewhere(self, scope: SyncScope) -> None:
        """Become current under another provider, whose spans know nothing of scopes."""
        misuse.note_unrecorded(self.span)
        self.item_elsewhere = elsewhere.item_here()
        self._token = elsewhere.enter(self, scope, self._initial())

    @guarded_by(exit_despite)
    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._finish(error)

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

    # As a decorator

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Run each call of a function, coroutine function or generator function as a stage of its own."""
        misuse.refuse_undecoratable(function)
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
        self._leave()
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
    """A stage whose progress is told from the start."""

    is_milestone = is_part_of_run = True


class Collector(Stage):
    """A stage without a span: takes what ends in a task that is a part of a dispatched pipeline."""

    span = trace.INVALID_SPAN

    def __init__(self) -> None:
        super().__init__("", {})
        self.begin_collecting()
        self.open_in = lineage.generation

    def as_part(self, outcome: str) -> dict[str, int]:
        """Return the figures of a task that ended so, in which it is one part itself."""
        figures = {name: number for name, number in self.figures().items() if not name.startswith("parts.")}
        if outcome == vocabulary.SUCCESS:
            outcome = self.outcome_of_parts()
        how = {vocabulary.SUCCESS: "good", vocabulary.PARTIAL: "partial"}.get(outcome, "failed")
        return {**figures, f"parts.{how}": 1}


_tracer: tuple[TracerProvider | None, Tracer] = (None, trace.NoOpTracer())


def current_tracer() -> Tracer:
    """The tracer of the provider that is set now."""
    global _tracer
    provider = trace.get_tracer_provider()
    if _tracer[0] is not provider:
        _tracer = (provider, provider.get_tracer("otelsync", __version__))
    return _tracer[1]
