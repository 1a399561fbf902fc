"""A worker leaves logging to otelsync, where that has taken it over: no line is lost, and none comes twice.

Celery would throw our root handler away. It leaves logging alone where somebody listens to its ``setup_logging``
signal. ``--loglevel`` and ``--logfile``, where they were given, are obeyed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from logging.handlers import WatchedFileHandler
from typing import Any, Final

from celery import signals
from celery.app.log import Logging, TaskFormatter
from celery.utils.log import ColorFormatter, LoggingProxy, mlevel

from otelsync.logs.installed import active
from otelsync.logs.path import LogPath

_FORMATTERS: Final = (ColorFormatter, TaskFormatter)
_LOGGERS: Final = ("", "celery", "celery.task", "celery.redirected")

_give_back: Callable[[], None] | None = None


def follow(path: LogPath | None) -> None:
    """Have Celery leave logging alone if it was taken over for `path`; None: give it back."""
    global _give_back
    if _give_back is not None:
        _give_back()
        _give_back = None
    if path is None:
        signals.setup_logging.disconnect(_obey_options)
        return
    signals.setup_logging.connect(_obey_options, weak=False)
    if Logging._setup:  # type: ignore[attr-defined]  # celery-types does not know it
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


class LogFile:
    """A log file that is opened anew when somebody has moved it away, as logrotate does.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, name: str) -> None:
        self._handler = WatchedFileHandler(name, encoding="utf-8")

    def write(self, line: bytes) -> None:
        """Append a finished line."""
        handler = self._handler
        handler.acquire()
        try:
            handler.reopenIfNeeded()
            if handler.stream is not None:
                handler.stream.write(line.decode("utf-8", "replace"))
        finally:
            handler.release()

    def flush(self) -> None:
        """Let what was written reach the file."""
        self._handler.flush()

    def close(self) -> None:
        """Write no more."""
        self._handler.close()


def _take_from_celery(path: LogPath) -> Callable[[], None]:
    """Take the place of what Celery has already set up, as when configure() is called in a worker's child."""
    undo: list[Callable[[], None]] = []
    for name in _LOGGERS:
        undo += _take_handlers(logging.getLogger(name), path)
    undo.append(_take_tasks(path))
    undo += [_take_stream(name) for name in ("stdout", "stderr")]

    def give_back() -> None:
        while undo:
            undo.pop()()

    return give_back


def _take_handlers(logger: logging.Logger, path: LogPath) -> Iterator[Callable[[], None]]:
    """Remove Celery's handlers; where they write to a file, so shall we."""
    for handler in [*logger.handlers]:
        if type(handler.formatter) in _FORMATTERS:
            logger.removeHandler(handler)
            if isinstance(handler, logging.FileHandler) and logger is logging.root:
                path.write_to(LogFile(handler.baseFilename))
            yield partial(logger.addHandler, handler)


def _take_tasks(path: LogPath) -> Callable[[], None]:
    """Let the tasks' records come to the root logger, at our level unless the worker was given one."""
    tasks = logging.getLogger("celery.task")
    level, propagate = tasks.level, tasks.propagate
    if _was_given("loglevel"):
        _set_level(path, level)
    else:
        tasks.setLevel(logging.NOTSET)
    tasks.propagate = True

    def give_back() -> None:
        tasks.setLevel(level)
        tasks.propagate = propagate

    return give_back


def _take_stream(name: str) -> Callable[[], None]:
    """Undo Celery's redirection of a standard stream: what we write there would come back to us as a record."""
    redirected = getattr(sys, name)
    if isinstance(redirected, LoggingProxy):
        setattr(sys, name, getattr(sys, f"__{name}__"))
    return partial(setattr, sys, name, redirected)
