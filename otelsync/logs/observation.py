"""A program's own logging, left as it is: each record is journalled once, with the ids of the span that it is in.

What a logger of the standard library lets through passes ``Logger.callHandlers`` exactly once, whatever handlers there
are, whoever has replaced them, and whether or not it propagates. So that is where we look on.

Every bound logger of structlog, configured by whomever and whenever, runs its processors in
``BoundLoggerBase._process_event``. There a processor of ours stands before the last one, which renders: what the others
drop, mask or add counts.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from types import FunctionType, ModuleType
from typing import Any, Final, TypeAlias, cast

from otelsync.hooks.host_errors import forgive, hand_back
from otelsync.hooks.patching import Patch, as_part_of
from otelsync.hooks.when_imported import when_imported
from otelsync.levels import INFO, METHODS
from otelsync.logs.journal_path import JournalPath, Rendered, rendered
from otelsync.logs.path import LogPath
from otelsync.logs.record_bytes import ids_in
from otelsync.vocabulary import SYNC_ID

Journal: TypeAlias = Callable[[int, str, object, Mapping[str, Any]], object]

_SAID_BY_THE_RECORD: Final = frozenset(("level", "timestamp", "logger", "_record", "_from_structlog"))
"""Fields that processors of structlog add, and every record in the journal has anyway."""


def observe(path: LogPath) -> Callable[[], None]:
    """Journal what the program logs from now on; what is returned ends it, and leaves the original behind."""
    assert isinstance(path, JournalPath)
    ends = ExitStack()
    ends.callback(_observe_standard_library(path))

    def when_there(structlog: ModuleType) -> None:
        ends.callback(observe_structlog(path.emit, structlog, lambda _: True))

    ends.callback(when_imported("structlog", when_there))
    return ends.close


def _observe_standard_library(path: JournalPath) -> Callable[[], None]:
    patch = Patch(logging.Logger, "callHandlers")
    original = logging.Logger.callHandlers
    take = path.take

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        if patch.is_on:
            take(record)
        original(self, record)

    # Where logging reports an error, it shows the stack up to the first file that is not its own. Loguru's recipe for
    # handlers looks for the program's line in the same way.
    call_handlers.__code__ = call_handlers.__code__.replace(co_filename=logging.__file__)
    patch.put(functools.wraps(original)(as_part_of(logging, cast(FunctionType, call_handlers))))
    return patch.undo


def observe_structlog(journal: Journal, structlog: ModuleType, concerns: Callable[[Any], bool]) -> Callable[[], None]:
    """Journal what structlog's bound loggers log from now on; what is returned ends it.

    Args:
        journal: Is given the level, the logger, the event and the fields of each record.
        structlog: The module.
        concerns: Tells of a bound logger whether its records are to be journalled here.
    """
    patch = Patch(structlog.BoundLoggerBase, "_process_event")
    original = structlog.BoundLoggerBase._process_event

    def process_event(self: Any, method: str, event: Any, fields: dict[str, Any]) -> Any:
        observed, watch = _observed(self, journal) if patch.is_on and concerns(self) else (self, None)
        result = original(observed, method, event, fields)
        if watch is not None:
            watch.remember(result)
        return result

    patch.put(functools.wraps(original)(as_part_of(structlog, cast(FunctionType, process_event))))
    return patch.undo


def _observed(bound_logger: Any, journal: Journal) -> tuple[Any, _Watch | None]:
    """A bound logger like this one with our processor before the last; itself where that cannot be."""
    try:
        *processors, last = bound_logger._processors
        watch = _Watch(journal)
        observed = object.__new__(type(bound_logger))
        observed.__dict__.update(bound_logger.__dict__, _processors=[*processors, watch, last])
    except Exception as error:
        hand_back(error)
        return bound_logger, None
    return observed, watch


class _Watch:
    """The processor that journals one event, or notes it where the standard library will have it next."""

    __slots__ = ("_fields", "_is_journalled", "_journal")

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._fields: Mapping[str, Any] | None = None
        self._is_journalled = False

    def __call__(self, logger: Any, method: str, event_dict: Any) -> Any:
        try:
            self._look_at(logger, method, event_dict)
        except Exception as error:
            forgive(error, "an event of structlog could not be journalled")
        return event_dict

    def _look_at(self, logger: Any, method: str, event_dict: Any) -> None:
        if not isinstance(event_dict, MutableMapping):  # another processor has rendered it before the last
            event_dict = {"event": event_dict if isinstance(event_dict, str) else str(event_dict)}
        self._fields = {key: value for key, value in event_dict.items() if key not in _SAID_BY_THE_RECORD}
        if not isinstance(logger, (logging.Logger, logging.LoggerAdapter)):
            self._is_journalled = True
            fields = dict(self._fields)
            event = fields.pop("event", "")
            level = METHODS.get(method) or METHODS.get(str(event_dict.get("level")).lower(), INFO)
            name = event_dict.get("logger") or getattr(logger, "name", None)
            self._journal(level, name if isinstance(name, str) else "root", event, fields)
        _add_ids(event_dict)

    def remember(self, result: tuple[Sequence[Any], Mapping[str, Any]]) -> None:
        """Note what was rendered, if it can be told from every other text."""
        if self._fields is not None and result[0] and result[0][0] is not self._fields.get("event"):
            rendered.set(Rendered(result[0][0], self._fields, self._is_journalled))


def _add_ids(event_dict: MutableMapping[str, Any]) -> None:
    trace_id, span_id, _, scope = ids_in(None)
    if trace_id:
        event_dict.setdefault("trace_id", trace_id)
        event_dict.setdefault("span_id", span_id)
    if SYNC_ID in scope.attributes:
        event_dict.setdefault("sync_id", scope.attributes[SYNC_ID])
