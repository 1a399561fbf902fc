"""Canvases as wholes: what one is made of stays in one trace, and a chord's body can find the spans of its headers."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags

from otelsync.hooks.host_errors import forgive
from otelsync.integrations.celery.activation import Tracers, our_tracer
from otelsync.integrations.celery.continuation import RUN, call_as_continuation
from otelsync.integrations.celery.headers import CHORD_HEADER, MOST_LINKS, Chord
from otelsync.integrations.celery.run_spans import new_root


class Canvas:
    """A group or a chord that is being published outside any span: its first publish span is the root of the others."""

    __slots__ = ("first", "origin")

    def __init__(self) -> None:
        self.origin: SpanContext | None = None
        """The first publish span, when there is one, or when its ids are decided."""
        self.first: SpanContext | None = None
        """The ids that the first publish span is to have."""


CANVAS: Final[ContextVar[Canvas | None]] = ContextVar("otelsync_celery_canvas", default=None)
"""The outermost canvas that is being published here, if nothing else says where it belongs."""


@contextmanager
def _one_canvas() -> Iterator[Canvas | None]:
    if CANVAS.get() is not None or RUN.get() is not None or trace.get_current_span().get_span_context().is_valid:
        yield None
        return
    canvas = Canvas()
    try:
        CANVAS.set(canvas)
        yield canvas
    finally:
        CANVAS.set(None)


def in_one_trace(publish: Callable[..., Any]) -> Callable[..., Any]:
    """Let everything that `publish` (``group.apply_async``) publishes be in one trace."""

    @wraps(publish)
    def published(*args: Any, **options: Any) -> Any:
        with _one_canvas():
            return call_as_continuation(options, publish, *args, **options)

    return published


def with_seed(tracers: Tracers) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let ``chord.run`` draw the ids of its headers' spans from a seed that travels in its body's signature."""

    def wrap(run: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(run)
        def seeded(chord: Any, header: Any, body: Any, /, *args: Any, **options: Any) -> Any:
            with _one_canvas() as canvas:
                try:
                    _prepare(tracers, canvas, chord, header, body, options)
                except Exception as error:
                    forgive(error, "a chord's headers will not be linked")
                return call_as_continuation(options, run, chord, header, body, *args, **options)

        return seeded

    return wrap


def _prepare(
    tracers: Tracers, canvas: Canvas | None, chord: Any, header: Any, body: Any, options: dict[str, Any]
) -> None:
    ours = our_tracer(tracers.current(), None)
    tasks = getattr(header, "tasks", None)
    count = _count(tasks)
    if ours is None or not count:
        return
    seeded = Chord(secrets.token_hex(8), count)
    seed = {CHORD_HEADER: seeded.to_text()}
    of_chord = options.get("headers") or chord.options.get("headers")
    if of_chord:  # from there ``chord.run`` takes the headers of its body, else from the body itself
        options["headers"] = {**of_chord, **seed}
    else:
        body.options["headers"] = {**(body.options.get("headers") or {}), **seed}
    if canvas is not None:  # decided now, since the first that is published may be ``chord_unlock``
        first = seeded.span_id(0) if _begins_plain(tasks) else None
        canvas.origin = canvas.first = new_root(ours.id_generator, first)


def _begins_plain(tasks: Any) -> bool:
    """Return whether the first task that is published is a header itself, and not the first step of one."""
    kind = tasks[0].get("subtask_type")
    if kind == "group":
        return _begins_plain(tasks[0]["kwargs"]["tasks"])
    return kind not in ("chain", "chord")


def _count(tasks: object) -> int | None:
    """Return the number of headers; None if it is not known before they are published."""
    if not isinstance(tasks, (list, tuple)):
        return None
    total = 0
    for task in tasks:
        inner = task["kwargs"].get("tasks", ())
        kind = task.get("subtask_type")
        within: int | None = 1
        if kind == "group":
            within = _count(inner)
        elif kind == "chain" and not inner:
            within = 0
        elif kind == "chain" and inner[-1].get("subtask_type") in ("group", "chain"):
            within = None
        if within is None:
            return None
        total += within
    return total


def chord_of_body(headers: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Chord | None:
    """The chord whose body is published with these headers; None if it is no body."""
    text = (headers or {}).get(CHORD_HEADER)
    if text is None or text == _seed_of(options.get("chord")):  # the latter is a header of that chord
        return None
    return Chord.of(text)


def decided_span_id(options: Mapping[str, Any]) -> int | None:
    """The id that the publish span of a chord's header is to have, if it is one.

    The first publish alone has it: not a retry, nor what a task puts in its place.
    """
    index = options.get("group_index")
    if not isinstance(index, int) or options.get("retries") or options.get("replaced_task_nesting"):
        return None
    chord = Chord.of(_seed_of(options.get("chord")))
    return chord.span_id(index) if chord is not None and 0 <= index < chord.count else None


def _seed_of(body: object) -> object:
    if not isinstance(body, dict):
        return None
    options = body.get("options")
    headers = options.get("headers") if isinstance(options, dict) else None
    return headers.get(CHORD_HEADER) if isinstance(headers, dict) else None


def links_to_headers(chord: Chord, trace_id: int) -> list[trace.Link]:
    """Links to the publish spans of a chord's headers, which are in the trace of its body."""
    flags = TraceFlags(TraceFlags.SAMPLED)
    return [
        trace.Link(SpanContext(trace_id, chord.span_id(index), True, flags))
        for index in range(min(chord.count, MOST_LINKS))
    ]
