"""Attempts of tasks as a worker's main process knows them, and its log records that belong to their runs.

It writes records such as "Task ... received" outside any span, with the task's id among the arguments or in ``extra``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Final
from weakref import WeakValueDictionary

from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, SpanContext, TraceState

from otelsync.integrations.celery import run_spans
from otelsync.integrations.celery.headers import FLAGS, SPAN_ID, TRACE_ID, Envelope, from_traceparent, read, with_id
from otelsync.recording.scope import SyncScope
from otelsync.recording.span_bytes import Trace

_LOGGERS: Final = "celery."
_LENGTH: Final = 36
"""Characters in the ids that Celery gives to tasks."""


class RunSpan(NonRecordingSpan):
    """A run span, as the process that only knows its ids has it.

    Args:
        ids: Its ids, as a valid ``traceparent``.
        scope: What its records carry.
    """

    def __init__(self, ids: str, scope: SyncScope | None) -> None:
        super().__init__(INVALID_SPAN_CONTEXT)
        self._ids = ids
        self.trace = Trace(int(ids[TRACE_ID], 16), FLAGS[int(ids[53:], 16)], TraceState())
        self.id_bytes = bytes.fromhex(ids[SPAN_ID])
        self.scope = scope

    def get_span_context(self) -> SpanContext:
        """Its ids."""
        return from_traceparent(self._ids, is_remote=False) or INVALID_SPAN_CONTEXT


class Attempt:
    """An attempt as the main process knows it from the message; most of it is read when first needed.

    Args:
        request: What goes to the process that runs the task.
        ids: Those of the run span, as `run_spans.decide` gave them; None if they are not ours to decide.
    """

    def __init__(self, request: Mapping[str, object], ids: str | None) -> None:
        self._request = request
        self._ids = ids
        self.is_put_back = False
        """True if the task will be run again: the message goes back to the queue, or another was published."""
        self.is_written = False
        self._occupant = self._look()

    @property
    def has_not_begun(self) -> bool:
        """True if it is known that no process has begun the run."""
        return run_spans.begun is not None and self._ids is not None and self._look() == self._occupant

    def _look(self) -> int:
        """Return who stands where the process that begins the run leaves its mark."""
        own = from_traceparent(self._whole_ids()) if run_spans.begun is not None else None
        return run_spans.begun.occupant(own.span_id) if run_spans.begun is not None and own is not None else 0

    @cached_property
    def envelope(self) -> Envelope:
        """Our header of the message."""
        return read(self._request)

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
        return with_id(own, run_spans.begun.last(own.span_id))

    @cached_property
    def record_span(self) -> RunSpan | None:
        """The run span, as records about the task belong to it."""
        ids = self._whole_ids()
        return RunSpan(ids, self.envelope.sync_scope) if ids is not None else None

    def _whole_ids(self) -> str | None:
        return run_spans.whole(self._ids, self._request.get("traceparent")) if self._ids is not None else None


_attempts: WeakValueDictionary[str, Attempt] = WeakValueDictionary()


def remember(task_id: str, attempt: Attempt) -> None:
    """Let records about a task belong to its run, as long as `attempt` lives."""
    _attempts[task_id] = attempt


def span_about(record: logging.LogRecord) -> RunSpan | None:
    """The run that a record of Celery's is about; None if it is about none, or nobody knows it here."""
    if not _attempts or not record.name.startswith(_LOGGERS):
        return None
    arguments, data = record.args, getattr(record, "data", None)
    given = arguments if isinstance(arguments, tuple) else (arguments,)
    said = [each.get("id") for each in (*given, data) if isinstance(each, dict)]
    if isinstance(arguments, tuple):
        said += [each for each in arguments if isinstance(each, str) and len(each) == _LENGTH]
    for task_id in said:
        attempt = _attempts.get(task_id) if isinstance(task_id, str) else None
        if attempt is not None and attempt.record_span is not None:
            return attempt.record_span
    return None
