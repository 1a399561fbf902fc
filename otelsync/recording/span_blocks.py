"""Blocks and functions in which a new span is current."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Token
from types import TracebackType
from typing import Any, ParamSpec, TypeAlias, TypeVar

import opentelemetry.context as context_api
from opentelemetry.context.context import Context
from opentelemetry.trace import Link, Span, SpanKind
from opentelemetry.util import types

from otelsync.bounds import LONGEST_NAME
from otelsync.hooks.decorating import decorated
from otelsync.hooks.host_errors import hand_back, has_entered
from otelsync.journal.native import guarded_by
from otelsync.recording import ids
from otelsync.recording.clock import present
from otelsync.recording.runtime_context import CURRENT, context_of, installed, leave, step_back
from otelsync.recording.span import RecordedSpan
from otelsync.recording.span_state import Recorder

P = ParamSpec("P")
R = TypeVar("R")
_SpanArguments: TypeAlias = tuple[
    str, Context | None, SpanKind, types.Attributes, Sequence[Link] | None, int | None, bool, bool
]


class SpanBlock:
    """A block, or a function, in which a new span is current, with any of the options that there are.

    What it was called with is kept, since as a decorator it begins a span a call.
    """

    __slots__ = ("_arguments", "_end_on_exit", "_span", "_token", "_tracer")

    def __init__(self, tracer: Recorder, arguments: _SpanArguments, end_on_exit: bool) -> None:
        self._tracer = tracer
        self._arguments = arguments
        self._end_on_exit = end_on_exit

    def __enter__(self) -> Span:
        span = self._span = self._tracer.start_span(*self._arguments)
        if isinstance(span, RecordedSpan) and self._arguments[1] is None and installed():
            try:
                self._token = CURRENT.set(span)
            except BaseException:  # of the host's, right behind the call: the block does not begin
                step_back(span)
                raise
        else:
            self._token = context_api.attach(context_of(span))  # type: ignore[assignment]  # a token all the same
        return span

    def _exit_despite(self, problem: BaseException, *_: object) -> None:
        """Leave the block out of which `problem` came as it was left; hand back what is the host's."""
        leave(self._token)
        if self._end_on_exit and self._span.is_recording():
            self._span.end()
        hand_back(problem)

    @guarded_by(_exit_despite)
    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        span = self._span
        leave(self._token)
        if (
            exc_val is not None
            and isinstance(exc_val, Exception)  # GeneratorExit and the like are no errors; otel-python #4484
            and isinstance(span, RecordedSpan)
            and span.is_recording()
        ):
            span.note_exception(exc_val, span.records_exceptions, span.sets_status)
        if self._end_on_exit:
            span.end()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function or a coroutine function: each call has a span of its own."""
        return decorated(function, lambda: SpanBlock(self._tracer, self._arguments, self._end_on_exit))


class CurrentSpan(RecordedSpan):
    """A span that is its own block: entering begins it and makes it current, leaving ends it.

    It is what ``with tracer.start_as_current_span(name)`` nearly always comes to, and saves the block's own object.
    Where there is no span of ours around it, a :class:`SpanBlock` does the work.
    """

    _token: Token[Any] | None = None
    _block: SpanBlock | None = None

    def __init__(self, tracer: Recorder, name: str, kind: SpanKind, attributes: types.Attributes) -> None:
        self._tracer = tracer
        self._name = name if type(name) is str and len(name) <= LONGEST_NAME else tracer.name_of(name)
        self._kind = kind
        self._given = attributes

    def __enter__(self) -> Span:
        tracer = self._tracer
        parent: Any = CURRENT.get()
        trace = getattr(parent, "trace", None)
        if trace is None or not (tracer.is_simple and trace.flags & 1):
            arguments = (self._name, None, self._kind, self._given, (), None, True, True)
            self._block = SpanBlock(tracer, arguments, True)
            return self._block.__enter__()
        self.trace = trace
        self.id_bytes = ids.bits(64).to_bytes(8, "big")
        self._head = parent.children_prefix or parent.make_children_prefix()
        self._parent = parent
        self.scope = parent.scope
        self.base = parent.base
        self._attributes = {}
        if trace.tail:
            self.set_tail(trace.tail)
        if self._given:
            self.put_attributes(self._given)
        self._start_time = present(trace.offset, 0)
        try:
            self._token = CURRENT.set(self)
        except BaseException:  # of the host's, right behind the call: the block does not begin
            step_back(self)
            raise
        return self

    def _exit_despite(self, problem: BaseException, *left_with: Any) -> None:
        """Leave the block out of which `problem` came as it was left; hand back what is the host's."""
        if self._block is not None:
            if not has_entered(problem, type(self).__exit__):
                self._block.__exit__(*left_with)
        else:
            if self._token is not None:
                leave(self._token)
            if self._end_time is None:
                self.end()
        hand_back(problem)

    @guarded_by(_exit_despite)
    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if self._block is not None:
            return self._block.__exit__(exc_type, exc_val, exc_tb)
        if self._token is not None:
            try:  # noqa: SIM105  # contextlib.suppress costs more than the whole of the rest
                CURRENT.reset(self._token)
            except ValueError:
                pass  # closed in another context, as the generator that holds it was: there is nothing to undo
            self._token = None
        if exc_val is not None and isinstance(exc_val, Exception) and self._end_time is None:
            self.note_exception(exc_val, True, True)
        self.end()
        return None

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function or a coroutine function: each call has a span of its own."""
        return decorated(function, lambda: CurrentSpan(self._tracer, self._name, self._kind, self._given))
