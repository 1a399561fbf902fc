"""Logging taken over: structlog and the standard library's root logger lead to the log path, and can be given back."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from otelsync.logs.installed import active
from otelsync.logs.path import LogPath
from otelsync.logs.stdlib_records import event_of, fields_of, span_about

_watchers: list[Callable[[LogPath | None], None]] = []
_taking: LogPath | None = None


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
    give_back_structlog = _take_structlog(path)
    give_back_root = _take_root_logger(path.level)
    path.level_changed = logging.getLogger().setLevel
    _tell(path)

    def give_back() -> None:
        _tell(None)
        path.level_changed = None
        give_back_root()
        give_back_structlog()

    return give_back


def watch(watcher: Callable[[LogPath | None], None]) -> Callable[[], None]:
    """Call `watcher` now and at each change with the path that logging was taken over for, or None.

    For libraries that set up logging themselves. What is returned ends it.
    """
    _watchers.append(watcher)
    watcher(_taking)

    def unwatch() -> None:
        if watcher in _watchers:
            _watchers.remove(watcher)
            watcher(None)

    return unwatch


def _tell(path: LogPath | None) -> None:
    global _taking
    _taking = path
    for watcher in tuple(_watchers):
        watcher(path)


def _take_structlog(path: LogPath) -> Callable[[], None]:
    import structlog

    from otelsync.logs.structlog_logger import BoundLogger, NamedLogger, chain, end_of_chain

    path.context_variables = getattr(structlog.contextvars, "_CONTEXT_VARS", {"unknown": True})
    before = structlog.get_config() if structlog.is_configured() else None
    chain[:] = [end_of_chain]
    structlog.configure(
        processors=chain,
        wrapper_class=BoundLogger,
        logger_factory=NamedLogger,
        cache_logger_on_first_use=True,
    )

    def give_back() -> None:
        if before is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**before)

    return give_back


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
