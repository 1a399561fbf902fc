"""Log records of a worker's main process that belong to a task's run, such as "Task ... received".

The main process writes them outside any span, with the task's id among the arguments or in ``extra``.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple, Protocol
from weakref import WeakValueDictionary

from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, SpanContext

from otelsync.integrations.celery.headers import SPAN_ID, TRACE_ID, from_traceparent
from otelsync.recording.scope import SyncScope

_LOGGERS: Final = "celery."
_LENGTH: Final = 36
"""Characters in the ids that Celery gives to tasks."""


class RecordIds(NamedTuple):
    """Ids that the records of one trace share, as `otelsync.recording.span_bytes.Trace` has them."""

    hex: str
    log_head: bytes


class RunSpan(NonRecordingSpan):
    """A run span, as the process that only knows its ids has it.

    Args:
        ids: Its ids, as a valid ``traceparent``.
        scope: What its records carry.
    """

    def __init__(self, ids: str, scope: SyncScope | None) -> None:
        super().__init__(INVALID_SPAN_CONTEXT)
        self._ids = ids
        trace_id, flags = ids[TRACE_ID], int(ids[53:], 16)
        self.trace = RecordIds(trace_id, b"\x45%c\0\0\0\x4a\x10%b\x52\x08" % (flags, bytes.fromhex(trace_id)))
        self.id_bytes = bytes.fromhex(ids[SPAN_ID])
        self.scope = scope

    def get_span_context(self) -> SpanContext:
        """Its ids."""
        return from_traceparent(self._ids, is_remote=False) or INVALID_SPAN_CONTEXT


class Known(Protocol):
    """Runs that a task's records can belong to."""

    @property
    def record_span(self) -> RunSpan | None:
        """The run span, if it is known."""


_runs: WeakValueDictionary[str, Known] = WeakValueDictionary()


def remember(task_id: str, known: Known) -> None:
    """Let records about a task belong to its run, as long as `known` lives."""
    _runs[task_id] = known


def span_about(record: logging.LogRecord) -> RunSpan | None:
    """The run that a record of Celery's is about; None if it is about none, or nobody knows it here."""
    if not _runs or not record.name.startswith(_LOGGERS):
        return None
    arguments = record.args
    if type(arguments) is dict:
        return _run_of(arguments.get("id")) or _run_of(_id_in(getattr(record, "data", None)))
    found = _run_of(_id_in(getattr(record, "data", None)))
    if found is None and isinstance(arguments, tuple):
        ids = (said for said in arguments if isinstance(said, str) and len(said) == _LENGTH)
        found = next((span for task_id in ids if (span := _run_of(task_id)) is not None), None)
    return found


def _run_of(task_id: object) -> RunSpan | None:
    known = _runs.get(task_id) if isinstance(task_id, str) else None
    return known.record_span if known is not None else None


def _id_in(data: object) -> object:
    return data.get("id") if isinstance(data, dict) else None
