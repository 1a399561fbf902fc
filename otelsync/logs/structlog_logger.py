"""The structlog side of the log path: the bound logger, and the processor that ends the chain.

Kept apart because ``import structlog`` loads rich where that is installed, and ``import otelsync`` must stay light.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Final, cast

from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.patching import as_part_of
from otelsync.hooks.untouched import random_untouched
from otelsync.levels import INFO, METHODS
from otelsync.logs import installed
from otelsync.logs.stdlib_records import are_light, formatted, with_light
from otelsync.text.presentable import text_of

with random_untouched():
    import structlog


class NamedLogger:
    """The object that structlog binds fields to: a name, and methods that the standard library's users expect."""

    __slots__ = ("name",)

    def __init__(self, name: str | None = None, *_: object) -> None:
        self.name = name or "root"

    def _drop(self, *_: object, **__: object) -> None:
        """Reached only where other processors render; there is nothing to write to."""

    debug = info = warning = error = critical = exception = log = msg = _drop


def end_of_chain(logger: Any, method: str, event_dict: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The last structlog processor: hands the record to the log path that is installed, or was last.

    Raises:
        structlog.DropEvent: Always; there is nothing left to do.
    """
    fields = dict(event_dict)
    event = fields.pop("event", "")
    path = installed.latest
    if path is not None:
        name = str(getattr(logger, "name", None) or "root")
        path.emit(METHODS.get(method, INFO), name, event, fields)
    raise structlog.DropEvent


chain: Final[list[Any]] = []
"""structlog's processors, while a log path is installed. structlog.testing.capture_logs() changes them in place."""

_Base: Final = structlog.make_filtering_bound_logger(0)


def _method(name: str, level: int) -> Callable[..., Any]:
    """A method of a bound logger that skips structlog's chain where nothing but our own end of it is in it."""
    generic = getattr(_Base, name)
    is_exception = name == "exception"

    def log(self: Any, event: object = None, *args: Any, **fields: Any) -> Any:
        path = installed.latest
        if path is None or self._processors[0] is not end_of_chain:
            return generic(self, event, *args, **fields) if path is None or level >= path.level else None
        if level < path.level:
            return None
        if is_exception:
            fields.setdefault("exc_info", True)
        context = self._context
        path.emit(
            level,
            self._logger.name,
            _interpolated(event, args) if args else event,
            {**context, **fields} if context else fields,
        )
        return None

    return _named(log, name)


def _named(log: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A method with its name, in whose caller structlog looks for the line of the program."""
    log.__name__ = log.__qualname__ = name
    return as_part_of(structlog, cast(FunctionType, log))


def _interpolated(event: object, args: tuple[Any, ...]) -> str:
    """The message with its arguments; a single mapping gives values by name, as in the standard library's logging.

    Where they do not fit, both as far as they can be shown. Never raises.
    """
    values: Any = args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args
    try:
        return str(str(event) % (values if are_light(values) else with_light(values)))
    except Exception as error:
        hand_back(error)
        return formatted(text_of(event), args)


class BoundLogger(_Base):  # type: ignore[misc, valid-type]  # structlog makes its class at run time
    """structlog's filtering bound logger, whose level is that of the installed log path at each moment."""

    def is_enabled_for(self, level: int) -> bool:
        """Return whether a record of this level is let through."""
        path = installed.latest
        return path is None or level >= path.level

    def get_effective_level(self) -> int:
        """The least level that is let through."""
        path = installed.latest
        return path.level if path else 0

    isEnabledFor = is_enabled_for  # noqa: N815  # the standard library's names, which structlog.stdlib has as well
    getEffectiveLevel = get_effective_level  # noqa: N815

    def setLevel(self, level: int | str) -> None:  # noqa: N802
        """Show records of this logger, and of those whose names begin so, from this level on."""
        named = logging.getLogger(self._logger.name)
        named.setLevel(level)
        if installed.latest is not None:
            installed.latest.set_level_of(self._logger.name, named.level)


_OF_STANDARD_LIBRARY: Final = (
    *("addHandler", "callHandlers", "disabled", "findCaller", "getChild", "handle", "handlers", "hasHandlers"),
    *("level", "makeRecord", "name", "parent", "propagate", "removeHandler"),
)
"""The rest of :class:`structlog.stdlib.BoundLogger`, for programs that were written for it."""


def _of_standard_library(name: str) -> property:
    def get(self: Any) -> Any:
        return getattr(logging.getLogger(self._logger.name), name)

    return property(get, doc=f"``{name}`` of the standard library's logger of this name.")


def is_led_elsewhere(bound_logger: Any) -> bool:
    """Return whether the program has configured structlog after us, so that its records do not come to the log path.

    Those that go on to the standard library's logging do.
    """
    behind = getattr(bound_logger, "_logger", None)
    return bound_logger._processors is not chain and not isinstance(behind, (logging.Logger, logging.LoggerAdapter))


def let_loggers_be_pickled() -> None:
    """Let loggers of ``structlog.get_logger()`` be pickled after their first use, as they can be where none is cached.

    The cache is a closure in the logger's state. This stays when logging is given back, as such loggers do.
    """
    proxy: Any = type(structlog.get_logger())
    original = proxy.__getstate__

    def __getstate__(self: Any) -> dict[str, Any]:  # noqa: N807
        return {name: value for name, value in original(self).items() if name != "bind"}

    if not hasattr(original, "__wrapped__"):
        proxy.__getstate__ = functools.wraps(original)(__getstate__)


def _direct_method(name: str, level: int) -> Callable[..., Any]:
    """A method of :class:`Logger` that goes to the log path, or to structlog where there is none."""
    is_exception = name == "exception"

    def log(self: Logger, event: object = None, *args: Any, **fields: Any) -> Any:
        path = installed.latest
        if path is None or not chain or chain[0] is not end_of_chain:
            return getattr(self.bind(), name)(event, *args, **fields)
        if level < path.level:
            return None
        if is_exception:
            fields.setdefault("exc_info", True)
        context = self._fields
        path.emit(
            level,
            self._name,
            _interpolated(event, args) if args else event,
            {**context, **fields} if context else fields,
        )
        return None

    return _named(log, name)


class Logger:
    """The logger of ``otelsync.get_logger()``: structlog's, without its lazy proxy in between.

    Everything that is not logging itself (`bind`, `new`, `unbind`, the asynchronous methods) is structlog's.
    """

    __slots__ = ("_fields", "_name")

    def __init__(self, name: str | None, fields: dict[str, Any]) -> None:
        self._name = name or "root"
        self._fields = fields

    def bind(self, **fields: Any) -> Any:
        """Return structlog's bound logger, with further fields."""
        return structlog.get_logger(self._name, **self._fields).bind(**fields)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.bind(), name)


for _name in _OF_STANDARD_LIBRARY:
    setattr(BoundLogger, _name, _of_standard_library(_name))
for _name, _level in METHODS.items():
    setattr(BoundLogger, _name, _method(_name, _level))
    setattr(Logger, _name, _direct_method(_name, _level))


def get_logger(name: str | None = None, **fields: Any) -> Any:
    """A structlog logger with a name, and fields that it carries from the start.

    The same as ``structlog.get_logger(name)``, but it reaches the log path without structlog's lazy proxy.
    """
    return Logger(name, fields)
