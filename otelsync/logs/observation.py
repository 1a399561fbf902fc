"""A program's own logging, left as it is: each record is journalled once, with the ids of the span that it is in.

What a logger of the standard library lets through passes ``Logger.callHandlers`` exactly once, whatever handlers there
are, whoever has replaced them, and whether or not it propagates. So that is where we look on.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from types import ModuleType

from otelsync.hooks.patching import Patch
from otelsync.hooks.when_imported import when_imported
from otelsync.logs import structlog_observation
from otelsync.logs.journal_path import JournalPath
from otelsync.logs.path import LogPath


def observe(path: LogPath) -> Callable[[], None]:
    """Journal what the program logs from now on; what is returned ends it, and leaves the original behind."""
    assert isinstance(path, JournalPath)
    ends = [_observe_standard_library(path)]

    def observe_structlog(structlog: ModuleType) -> None:
        ends.append(structlog_observation.observe(path, structlog))

    ends.append(when_imported("structlog", observe_structlog))

    def end() -> None:
        while ends:
            ends.pop()()

    return end


def _observe_standard_library(path: JournalPath) -> Callable[[], None]:
    patch = Patch(logging.Logger, "callHandlers")
    original = logging.Logger.callHandlers
    take = path.take

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        if patch.is_on:
            take(record)
        original(self, record)

    # Where logging reports an error, it shows the stack up to the first file that is not its own.
    call_handlers.__code__ = call_handlers.__code__.replace(co_filename=logging.__file__)
    patch.put(functools.wraps(original)(call_handlers))
    return patch.undo
