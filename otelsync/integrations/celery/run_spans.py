"""The ids of run spans, which a worker's main process decides when a message comes in, and who has begun which.

They go with the request to the process that runs the task, beside what the message says itself, and take the place of
whatever the message had there. Where that process is killed before the main process has heard that it began, Celery's
pool hands the request to another: the second finds in memory that both share that somebody has begun already.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from struct import Struct
from typing import Any, Final, TypeGuard

from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanContext, TraceFlags

from otelsync.hooks.opentelemetry_api import RANDOM_TRACE_ID
from otelsync.integrations.celery.headers import SPAN_ID, derived_id, from_traceparent, is_traceparent, to_traceparent
from otelsync.recording.sdk_tracers import draws_at_random

KEY: Final = "otelsync_run_span"
"""In a task's request: the span id, where the rest stands in the request's ``traceparent``; else a whole one."""

_LENGTH: Final = 16
"""Hex digits of a span id."""
_PLACES: Final = 4096
"""Runs that are told apart at a time; two on one place are as if neither had been seen before."""
_place: Final = Struct("<QQ")


def new_root(draw: IdGenerator, span_id: int | None = None) -> SpanContext:
    """The ids of a root span that is recorded, before there is one."""
    flags = TraceFlags.SAMPLED | (RANDOM_TRACE_ID if draws_at_random(draw)() else 0)
    return SpanContext(draw.generate_trace_id(), span_id or draw.generate_span_id(), False, TraceFlags(flags))


def decide(request: dict[str, Any], draw: IdGenerator) -> str | None:
    """Choose the ids of the run span of a request, below its ``traceparent`` if it has a valid one, else of a root.

    They are put into the request, and returned; None if the run is not to be recorded, as its parent is not.
    """
    parent = request.get("traceparent")
    if not isinstance(parent, str) or not is_traceparent(parent):
        request[KEY] = ids = to_traceparent(new_root(draw))
        return ids
    if not int(parent[53:], 16) & TraceFlags.SAMPLED:
        forget(request)
        return None
    request[KEY] = span_id = f"{draw.generate_span_id():016x}"
    return span_id


def whole(ids: object, parent: object) -> str | None:
    """Return the ids of :func:`decide`, as a whole ``traceparent`` below `parent`; None if they are not valid."""
    if isinstance(ids, str) and isinstance(parent, str) and len(ids) == _LENGTH:
        ids = f"{parent[: SPAN_ID.start]}{ids}{parent[SPAN_ID.stop :]}"
    return ids if isinstance(ids, str) and is_traceparent(ids) else None


def decided(request: Mapping[str, Any]) -> SpanContext | None:
    """The ids that were decided for a run."""
    ids = request.get(KEY)
    return from_traceparent(whole(ids, request.get("traceparent")), is_remote=False) if ids is not None else None


def forget(request: Mapping[str, Any]) -> None:
    """Take the ids out of a request: a message can say anything, and the task finds what is left among its headers."""
    if isinstance(request, dict):
        request.pop(KEY, None)


def is_child(ids: object) -> TypeGuard[str]:
    """Return whether what stands in a request was decided below its ``traceparent``."""
    return type(ids) is str and len(ids) == _LENGTH


class Begun:
    """Marks of the runs that have begun in processes forked from this one since this was made.

    Each place holds the id that was decided for a run and the one that it really has.
    """

    def __init__(self) -> None:
        import mmap

        self._memory = mmap.mmap(-1, _PLACES * _place.size)  # shared with whoever is forked

    def begin(self, span_id: int) -> int:
        """Begin a run; returns the span's id: the decided one, or another if that was begun before."""
        offset = span_id % _PLACES * _place.size
        wanted, last = _place.unpack_from(self._memory, offset)
        own = span_id if wanted != span_id else derived_id(last.to_bytes(8, "big"))
        _place.pack_into(self._memory, offset, span_id, own)
        return own

    def occupant(self, span_id: int) -> int:
        """The decided id that stands on the place of a run's; 0 if there is none."""
        return int(_place.unpack_from(self._memory, span_id % _PLACES * _place.size)[0])

    def last(self, span_id: int) -> int:
        """The id of the span that was begun last for a run; the decided one if none is known."""
        wanted, last = _place.unpack_from(self._memory, span_id % _PLACES * _place.size)
        return last if wanted == span_id else span_id


begun: Begun | None = None
"""None where runs of children are not watched over."""


def watch_children() -> None:
    """Let the processes that are forked from now on know of each other's runs."""
    global begun
    if hasattr(os, "fork"):
        begun = begun or Begun()
