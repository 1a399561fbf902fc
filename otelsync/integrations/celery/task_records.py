"""Which run a record of a worker's main process is about: "Task ... received" and the like belong to the run's span.

The main process writes them outside any span, with the task's id among the arguments or in ``extra``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final
from weakref import WeakValueDictionary

from opentelemetry.trace import NonRecordingSpan, SpanContext

from otelsync.context import SyncScope

_LOGGERS: Final = "celery."
_LENGTH: Final = 36
"""Characters in the ids that Celery gives to tasks."""


class RunSpan(NonRecordingSpan):
    """A run span, as the process that only knows its ids has it.

    Args:
        context: Its ids.
        scope: What its records carry.
    """

    def __init__(self, context: SpanContext, scope: SyncScope | None) -> None:
        super().__init__(context)
        self.scope = scope


_runs: WeakValueDictionary[str, RunSpan] = WeakValueDictionary()


def remember(task_id: str, run: SpanContext | None, scope: SyncScope | None) -> RunSpan | None:
    """Let records about a task belong to its run, as long as what is returned lives."""
    if run is None:
        return None
    span = _runs[task_id] = RunSpan(run, scope)
    return span


def span_about(record: logging.LogRecord) -> RunSpan | None:
    """The run that a record of Celery's is about; None if it is about none, or nobody knows it here."""
    if not _runs or not record.name.startswith(_LOGGERS):
        return None
    return next((_runs[task_id] for task_id in _ids_in(record) if task_id in _runs), None)


def _ids_in(record: logging.LogRecord) -> Iterator[str]:
    data = getattr(record, "data", None)
    for said in (data, record.args):
        if isinstance(said, dict) and isinstance(said.get("id"), str):
            yield said["id"]
    if isinstance(record.args, tuple):
        yield from (said for said in record.args if isinstance(said, str) and len(said) == _LENGTH)
