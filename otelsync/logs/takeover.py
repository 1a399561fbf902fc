"""Logging taken over: structlog and the standard library's root logger lead to the log path, and can be given back."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack

from otelsync.logs.installed import active
from otelsync.logs.path import LogPath
from otelsync.logs.stdlib_records import event_of, fields_of, span_about

_watchers: list[Callable[[LogPath | None], None]] = []


class RecordHandler(logging.Handler):
    """The standard library's way into the log path."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; its message becomes the event, its extra attributes fields."""
        path = active()
        if path is not None:
            error = record.exc_info or None
            path.emit(record.levelno, record.name, event_of(record), fields_of(record), span_about(record), error)


def take_over(path: LogPath) -> Callable[[], None]:
    """Lead all records of structlog and of the standard library to `path`; what is returned undoes it."""
    ends = ExitStack()
    ends.callback(_take_structlog(path))
    ends.callback(_take_root_logger(path.level))
    path.level_changed = logging.getLogger().setLevel
    ends.callback(setattr, path, "level_changed", None)
    _tell(path)
    ends.callback(_tell, None)
    return ends.close


def watch(watcher: Callable[[LogPath | None], None]) -> Callable[[], None]:
    """Call `watcher` now and at each change with the path that logging was taken over for, or None.

    For libraries that set up logging themselves. What is returned ends it.
    """
    _watchers.append(watcher)
    path = active()
    watcher(path if path is not None and path.renders else None)

    def unwatch() -> None:
        if watcher in _watchers:
            _watchers.remove(watcher)
            watcher(None)

    return unwatch


def _tell(path: LogPath | None) -> None:
    for watcher in tuple(_watchers):
        watcher(path)


def _take_structlog(path: LogPath) -> Callable[[], None]:
    import structlog

    from otelsync.logs.structlog_logger import BoundLogger, NamedLogger, chain, end_of_chain

    path.context_variables = getattr(structlog.contextvars, "_CONTEXT_VARS", {"unknown": True})
    before = structlog.get_config() if structlog.is_configured() else None
    chain[:] = [end_of_chain]
    structlog.configure(
        processors=chain, wrapper_class=BoundLogger, logger_factory=NamedLogger, cache_logger_on_first_use=True
    )

    return structlog.reset_defaults if before is None else functools.partial(structlog.configure, **before)


def _take_root_logger(least: int) -> Callable[[], None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    ours = RecordHandler()
    for old in handlers:
        if type(old) is logging.StreamHandler and old.stream in (sys.stdout, sys.stderr):
            root.removeHandler(old)
    root.addHandler(ours)
    root.setLevel(least)

    def give_back() -> None:
        root.removeHandler(ours)
        for old in handlers:
            if old not in root.handlers:
                root.addHandler(old)
        root.setLevel(level)

    return give_back
