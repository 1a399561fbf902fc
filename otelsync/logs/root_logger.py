"""The root logger taken over by a handler of ours, and how recording goes on where logging is set up anew afterwards.

``logging.config.dictConfig()``, ``fileConfig()`` and ``basicConfig(force=True)`` throw all handlers out, ours too. Then
the handlers that the program has named show its records, and what they show is journalled. Where it has named none,
ours comes back. Loggers that do not propagate are journalled in the same way.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Final, cast
from weakref import WeakSet

from otelsync.hooks.harmless import harmless
from otelsync.hooks.host_errors import hand_back, has_entered
from otelsync.hooks.own_messages import own_logger
from otelsync.hooks.patching import Patch, as_part_of
from otelsync.logs.fields import error_of
from otelsync.logs.installed import active
from otelsync.logs.output import Stream
from otelsync.logs.path import LogPath
from otelsync.logs.stdlib_records import event_of, fields_of, logger_of, span_about

_log = own_logger("otelsync")

_journalled: Final[WeakSet[logging.LogRecord]] = WeakSet()
"""Records that were journalled on their way to other handlers, and may be handed to another logger by one of them."""


class RecordHandler(logging.Handler):
    """The standard library's way into the log path."""

    @property
    def stream(self) -> Stream | None:
        """The stream of rendered records, under the name that handlers of the standard library give it."""
        path = active()
        return path.output.stream if path is not None and path.renders else None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; its message becomes the event, its extra attributes fields."""
        path = active()
        if path is not None and not (_journalled and record in _journalled):
            _give(record, path.emit)


def _give(record: logging.LogRecord, take: Callable[..., None]) -> None:
    """Give a record to a method of the log path; as far as it can be read, and whatever is raised on the way."""
    level, name, error = record.levelno, logger_of(record), error_of(record)
    try:
        take(level, name, event_of(record), fields_of(record), span_about(record), error)
    except BaseException as problem:
        if not has_entered(problem, take):
            take(level, name, event_of(record), _fields_of(record) or {}, None, error)
        hand_back(problem)


@harmless
def _fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    return fields_of(record)


class RootLogger:
    """The root logger, with our handler in the place of those that write to the terminal.

    Args:
        path: Where its records go.
    """

    def __init__(self, path: LogPath) -> None:
        self._path = path
        self._root = root = logging.getLogger()
        self._before = list(root.handlers), root.level
        self._ours = RecordHandler()
        self._is_noticed = False
        for old in self._before[0]:
            if type(old) is logging.StreamHandler and old.stream in (sys.stdout, sys.stderr):
                root.removeHandler(old)
        root.addHandler(self._ours)
        root.setLevel(path.level)
        self._level = root.level
        self._patch = self._watch()

    def let_through(self, level: int) -> None:
        """Change its least level, unless the program has set one of its own since."""
        if self._root.level == self._level:
            self._root.setLevel(level)
            self._level = self._root.level

    def give_back(self) -> None:
        """Leave it as it was found; what the program has set up since stays."""
        self._patch.undo()
        root, (handlers, level) = self._root, self._before
        if self._ours in root.handlers:
            root.removeHandler(self._ours)
            for old in handlers:
                if old not in root.handlers:
                    root.addHandler(old)
        if root.level == self._level:
            root.setLevel(level)

    def _watch(self) -> Patch:
        """Look at each record that a logger lets through, before its handlers get it."""
        patch = Patch(logging.Logger, "callHandlers")
        original = logging.Logger.callHandlers
        look, comes_to_us = self._look, self._comes_to_us

        def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
            if patch.is_on and not comes_to_us(self):
                look(self, record)
            original(self, record)

        # Where logging reports an error, it shows the stack up to the first file that is not its own.
        call_handlers.__code__ = call_handlers.__code__.replace(co_filename=logging.__file__)
        patch.put(functools.wraps(original)(as_part_of(logging, cast(FunctionType, call_handlers))))
        return patch

    def _comes_to_us(self, logger: logging.Logger | None) -> bool:
        ours = self._ours
        while logger is not None:
            if ours in logger.handlers:
                return True
            if not logger.propagate:
                return False
            logger = logger.parent
        return False

    @harmless
    def _look(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """Journal a record that other handlers show, or let our handler come back if nobody would."""
        root = self._root
        is_gone = self._ours not in root.handlers
        if is_gone and not root.handlers:
            root.addHandler(self._ours)
        if is_gone:
            self._notice()
        if not self._comes_to_us(logger) and _is_shown(logger) and record not in _journalled:
            _journalled.add(record)
            _give(record, self._path.journal)

    def _notice(self) -> None:
        """Say once that logging was set up anew. By default that has switched our own loggers off."""
        if self._is_noticed:
            return
        self._is_noticed = True
        for name in [name for name in logging.Logger.manager.loggerDict if f"{name}.".startswith("otelsync.")]:
            logging.getLogger(name).disabled = False
        _log.info(
            "logging was set up anew after otelsync.configure(): records are journalled as its handlers show them"
        )


def _is_shown(logger: logging.Logger | None) -> bool:
    """Return whether handlers that are no NullHandler get what a logger lets through."""
    while logger is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False
