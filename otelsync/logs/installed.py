"""The log path that is installed, and otelsync's own records on their way there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.trace import Span

from otelsync.logs import events
from otelsync.logs.fields import ExcInfo
from otelsync.logs.path import LogPath

_active: LogPath | None = None
latest: LogPath | None = None
"""The path that is installed, or was last, if it renders: cached structlog loggers go on with it."""
_restore: Callable[[], None] | None = None


def _look_up_ids_anew() -> None:
    for path in (_active, latest):
        if path is not None:
            path.forget_events()


events.on_declaration(_look_up_ids_anew)


def install(path: LogPath, connect: Callable[[LogPath], Callable[[], None]]) -> None:
    """Make `path` the way of our own records, and of those that `connect` leads to it; that returns what undoes it."""
    global _active, latest, _restore
    uninstall()
    _active = path
    latest = path if path.renders else None
    _restore = connect(path)


def uninstall() -> None:
    """Leave everything as :func:`install` found it."""
    global _active, _restore
    restore, _restore = _restore, None
    if restore is not None:
        restore()
    _active = None


def active() -> LogPath | None:
    """Return the path that is installed."""
    return _active


def enabled(level: int) -> bool:
    """Return whether a record of this level would go anywhere."""
    return _active is not None and level >= _active.level


def emit(
    level: int,
    logger: str,
    event: str,
    fields: Mapping[str, Any],
    span: Span | None = None,
    error: ExcInfo | None = None,
    *,
    is_data: bool = False,
) -> None:
    """Log an event of otelsync's own, in `span` if given; outside any configuration it goes nowhere.

    One that is data is journalled at any level, and shown where that lets it.
    """
    path = _active
    if path is None:
        return
    if is_data:
        path.keep(level, logger, event, fields, span)
    elif level >= path.level:
        path.emit(level, logger, event, fields, span, error)
