"""A worker's logging: left to otelsync where that has taken it over, else with the ids of spans in Celery's lines.

Celery would throw our root handler away. It leaves logging alone where somebody listens to its ``setup_logging``
signal: then no line is lost, and none comes twice. ``--loglevel`` and ``--logfile``, where they were given, are obeyed.

Where the program's logging is kept, Celery takes the root logger and ``celery.task`` for itself when a worker begins,
with handlers and formatters of its own. A line of theirs ends with ``trace_id=... span_id=...``, and ``sync_id=...`` if
there is one. A line outside spans is what it was.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from logging.handlers import WatchedFileHandler
from typing import Any, Final
from weakref import WeakSet

from celery import signals
from celery.app.log import TaskFormatter
from celery.utils.log import ColorFormatter, LoggingProxy, mlevel

from otelsync.hooks.host_errors import hand_back
from otelsync.integrations.celery import attempts
from otelsync.integrations.celery.celery_names import logging_is_set_up
from otelsync.logs import stdlib_records
from otelsync.logs import takeover as log_takeover
from otelsync.logs.installed import active
from otelsync.logs.journal_path import JournalPath
from otelsync.logs.path import LogPath

_FORMATTERS: Final = (ColorFormatter, TaskFormatter)
_LOGGERS: Final = ("", "celery", "celery.task", "celery.redirected")
_SIGNALS: Final = (signals.after_setup_logger, signals.after_setup_task_logger)
_NONE: Final = "0"

_appending: WeakSet[logging.Handler] = WeakSet()
_unwatch: Callable[[], None] | None = None
_give_back: Callable[[], None] | None = None


def connect() -> None:
    """Let Celery's lines carry ids from now on, and Celery leave logging alone where otelsync has taken it over."""
    global _unwatch
    if _unwatch is not None:
        return
    for signal in _SIGNALS:
        signal.connect(_append_ids, weak=False)
    if logging_is_set_up():
        for name in _LOGGERS:
            _append_ids(logging.getLogger(name))
    _unwatch = log_takeover.watch(_follow)
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


# Where otelsync has taken logging over


def _follow(path: LogPath | None) -> None:
    """Have Celery leave logging alone if it was taken over for `path`; None: give it back."""
    global _give_back
    if _give_back is not None:
        _give_back()
        _give_back = None
    if path is None:
        signals.setup_logging.disconnect(_obey_options)
        return
    signals.setup_logging.connect(_obey_options, weak=False)
    if logging_is_set_up():
        _give_back = _take_from_celery(path)


def _obey_options(loglevel: int | str | None = None, logfile: str | None = None, **_: Any) -> None:
    """Do what Celery's options ask of logging: the level, and the file to write to.

    Raises:
        OSError: The file cannot be opened; Celery itself would not begin either.
    """
    path = active()
    if path is None:
        return
    level = mlevel(loglevel) if loglevel else 0
    if level and _was_given("loglevel"):
        _set_level(path, level)
    if isinstance(logfile, str):
        path.write_to(LogFile(logfile))


def _set_level(path: LogPath, level: int) -> None:
    path.set_level(level)
    logging.getLogger().setLevel(path.level)


def _was_given(option: str) -> bool:
    """Return whether an option was given: the default of --loglevel, WARNING, would hide our milestones."""
    import click
    from click.core import ParameterSource

    context = click.get_current_context(silent=True)
    sources = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return context is not None and context.get_parameter_source(option) in sources


class LogFile(WatchedFileHandler):
    """A log file that is opened anew when somebody has moved it away, as logrotate does.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, encoding="utf-8")

    def write(self, line: bytes) -> None:
        """Append a finished line."""
        self.acquire()
        try:
            self.reopenIfNeeded()
            if self.stream is not None:
                self.stream.write(line.decode("utf-8", "replace"))
        finally:
            self.release()


def _take_from_celery(path: LogPath) -> Callable[[], None]:
    """Take the place of what Celery has already set up, as when configure() is called in a worker's child."""
    undo = ExitStack()
    for name in _LOGGERS:
        _take_handlers(logging.getLogger(name), path, undo)
    _take_tasks(path, undo)
    for name in ("stdout", "stderr"):
        _take_stream(name, undo)
    return undo.close


def _take_handlers(logger: logging.Logger, path: LogPath, undo: ExitStack) -> None:
    """Remove Celery's handlers; where they write to a file, so shall we."""
    for handler in [*logger.handlers]:
        if type(handler.formatter) in _FORMATTERS:
            logger.removeHandler(handler)
            if isinstance(handler, logging.FileHandler) and logger is logging.root:
                path.write_to(LogFile(handler.baseFilename))
            undo.callback(logger.addHandler, handler)


def _take_tasks(path: LogPath, undo: ExitStack) -> None:
    """Let the tasks' records come to the root logger, at our level unless the worker was given one."""
    tasks = logging.getLogger("celery.task")
    level = tasks.level
    undo.callback(setattr, tasks, "propagate", tasks.propagate)
    undo.callback(tasks.setLevel, level)
    if _was_given("loglevel"):
        _set_level(path, level)
    else:
        tasks.setLevel(logging.NOTSET)
    tasks.propagate = True


def _take_stream(name: str, undo: ExitStack) -> None:
    """Undo Celery's redirection of a standard stream: what we write there would come back to us as a record."""
    redirected = getattr(sys, name)
    undo.callback(setattr, sys, name, redirected)
    if isinstance(redirected, LoggingProxy):
        setattr(sys, name, getattr(sys, f"__{name}__"))


# Where it has not


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
        try:
            takes_ids = isinstance(active(), JournalPath) and _takes_ids(handler.formatter)
            return _with_ids(line, record) if takes_ids else line
        except Exception as error:
            hand_back(error)
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
