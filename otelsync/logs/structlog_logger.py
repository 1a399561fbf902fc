"""The structlog side of the log path: the bound logger, and the processor that ends the chain.

Kept apart because ``import structlog`` loads rich where that is installed, and ``import otelsync`` must stay light.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog

from otelsync.levels import INFO, METHODS
from otelsync.logs import installed


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

    log.__name__ = log.__qualname__ = name
    return log


def _interpolated(event: object, args: tuple[Any, ...]) -> str:
    try:
        return str(event) % args
    except (TypeError, ValueError):
        return f"{event} {args}"


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

    log.__name__ = log.__qualname__ = name
    return log


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


for _name, _level in METHODS.items():
    setattr(BoundLogger, _name, _method(_name, _level))
    setattr(Logger, _name, _direct_method(_name, _level))


def get_logger(name: str | None = None, **fields: Any) -> Any:
    """A structlog logger with a name, and fields that it carries from the start.

    The same as ``structlog.get_logger(name)``, but it reaches the log path without structlog's lazy proxy.
    """
    return Logger(name, fields)
