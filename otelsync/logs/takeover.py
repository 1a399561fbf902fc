"""Logging taken over: structlog and the standard library's root logger lead to the log path, and can be given back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack

from otelsync.logs.installed import active
from otelsync.logs.observation import observe_structlog
from otelsync.logs.path import LogPath
from otelsync.logs.root_logger import RootLogger

_watchers: list[Callable[[LogPath | None], None]] = []


def take_over(path: LogPath) -> Callable[[], None]:
    """Lead all records of structlog and of the standard library to `path`; what is returned undoes it."""
    ends = ExitStack()
    ends.callback(_take_structlog(path))
    root = RootLogger(path)
    ends.callback(root.give_back)
    path.level_changed = root.let_through
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
    from otelsync.logs.structlog_logger import (
        BoundLogger,
        NamedLogger,
        chain,
        end_of_chain,
        is_led_elsewhere,
        let_loggers_be_pickled,
    )

    structlog = sys.modules["structlog"]

    path.context_variables = getattr(structlog.contextvars, "_CONTEXT_VARS", {"unknown": True})
    before = structlog.get_config() if structlog.is_configured() else None
    let_loggers_be_pickled()
    chain[:] = [end_of_chain]
    structlog.configure(
        processors=chain, wrapper_class=BoundLogger, logger_factory=NamedLogger, cache_logger_on_first_use=True
    )

    unwatch = observe_structlog(path.journal, structlog, is_led_elsewhere)

    def give_back() -> None:
        unwatch()
        if structlog.get_config()["processors"] is not chain:  # the program has configured it since
            return
        if before is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**before)

    return give_back
