"""Celery's own log lines carry the ids of the span that they were written in.

Celery takes the root logger and ``celery.task`` for itself when a worker begins, with handlers and formatters of its
own. Where the program's logging is kept, a line of theirs ends with ``trace_id=... span_id=...``, and ``sync_id=...``
if there is one. A line outside spans is what it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet

from celery import signals
from celery.app.log import Logging, TaskFormatter
from celery.utils.log import ColorFormatter

from otelsync.integrations.celery import attempts, worker_logging
from otelsync.logs import stdlib_records
from otelsync.logs import takeover as log_takeover
from otelsync.logs.installed import active
from otelsync.logs.journal_path import JournalPath

_FORMATTERS: Final = (ColorFormatter, TaskFormatter)
_SIGNALS: Final = (signals.after_setup_logger, signals.after_setup_task_logger)
_LOGGERS: Final = ("", "celery", "celery.task", "celery.redirected")
_NONE: Final = "0"

_appending: WeakSet[logging.Handler] = WeakSet()
_unwatch: Callable[[], None] | None = None


def connect() -> None:
    """Let Celery's lines carry ids from now on, and Celery leave logging alone where otelsync has taken it over."""
    global _unwatch
    if _unwatch is not None:
        return
    for signal in _SIGNALS:
        signal.connect(_append_ids, weak=False)
    if Logging._setup:  # type: ignore[attr-defined]  # celery-types does not know it
        for name in _LOGGERS:
            _append_ids(logging.getLogger(name))
    _unwatch = log_takeover.watch(worker_logging.follow)
    stdlib_records.finders.append(attempts.span_about)


def disconnect() -> None:
    """Undo :func:`connect`."""
    global _unwatch
    if _unwatch is None:
        return
    for signal in _SIGNALS:
        signal.disconnect(_append_ids)
    for handler in list(_appending):
        vars(handler).pop("format", None)
    _appending.clear()
    _unwatch()
    _unwatch = None
    stdlib_records.finders.remove(attempts.span_about)


def _append_ids(logger: logging.Logger, **_: Any) -> None:
    """Have every handler of a logger append the ids, whatever formatter it will get."""
    for handler in logger.handlers:
        if handler not in _appending and "format" not in vars(handler):
            _appending.add(handler)
            handler.format = _appending_format(handler)  # type: ignore[method-assign, assignment]


def _appending_format(handler: logging.Handler) -> Callable[[logging.LogRecord], str]:
    original = handler.format

    def format_with_ids(record: logging.LogRecord) -> str:
        line = original(record)
        path = active()
        if isinstance(path, JournalPath) and _takes_ids(handler.formatter):
            return _with_ids(line, record)
        return line

    return format_with_ids


def _takes_ids(formatter: logging.Formatter | None) -> bool:
    """Return whether it is Celery's, and ends with the message: behind another end may stand JSON, or anything."""
    return type(formatter) in _FORMATTERS and (formatter._fmt or "").endswith("%(message)s")  # type: ignore[union-attr]


def _with_ids(line: str, record: logging.LogRecord) -> str:
    """The line with the ids behind its first line, so that a traceback stays as it is."""
    said = record.__dict__.get
    trace_id = said("otelTraceID", _NONE)
    if trace_id == _NONE:
        return line
    ids = f" trace_id={trace_id} span_id={said('otelSpanID', _NONE)}"
    sync_id = said("otelSyncID", _NONE)
    if sync_id != _NONE:
        ids += f" sync_id={sync_id}"
    first, newline, rest = line.partition("\n")
    return f"{first}{ids}{newline}{rest}"
