"""Nodes of a graph and the tools that they call: decorators that make a stage of each call and log its ends."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Final

from otelsync.hooks.harmless import harmless
from otelsync.levels import ERROR, INFO
from otelsync.logs.fields import ExcInfo
from otelsync.logs.installed import emit
from otelsync.stages import misuse
from otelsync.stages.kinds import stage, sync_context
from otelsync.stages.stage import P, R
from otelsync.text.presentable import text_of

_LOGGER: Final = "otelsync"


class _Call:
    """One call of a node or tool: its bound name, its stage, and as the innermost block its records."""

    FIELD: ClassVar[str]

    def __init__(self, name: str) -> None:
        self.bound = sync_context(**{self.FIELD: name})
        self.stage = stage(f"{self.FIELD.removesuffix('_name')} {name}")
        self._began = 0

    def __enter__(self) -> _Call:
        self._began = time.perf_counter_ns()
        self.log_start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self.log_failure((type(error), error, traceback))

    def elapsed(self) -> float:
        """Milliseconds since the call began."""
        return round((time.perf_counter_ns() - self._began) / 1e6, 2)

    def log_start(self) -> None:
        """Log that the call begins."""
        raise NotImplementedError

    def log_result(self, result: object) -> None:
        """Log that the call has returned."""
        raise NotImplementedError

    def log_failure(self, error: ExcInfo) -> None:
        """Log that the call has raised."""
        raise NotImplementedError


class _Node(_Call):
    FIELD = "node"

    @harmless
    def log_start(self) -> None:
        emit(INFO, _LOGGER, "node_start", {})

    @harmless
    def log_result(self, result: object) -> None:
        updates = [text_of(key) for key in result] if isinstance(result, Mapping) else []
        emit(INFO, _LOGGER, "node_complete", {"duration_ms": self.elapsed(), "state_updates": updates})

    @harmless
    def log_failure(self, error: ExcInfo) -> None:
        emit(ERROR, _LOGGER, "node_failed", {"duration_ms": self.elapsed()}, None, error)


class _Tool(_Call):
    FIELD = "tool_name"

    @harmless
    def log_start(self) -> None:
        emit(INFO, _LOGGER, "tool_execution_start", {})

    @harmless
    def log_result(self, result: object) -> None:
        told = {"duration_ms": self.elapsed(), "result_type": type(result).__name__}
        emit(INFO, _LOGGER, "tool_execution_complete", told)

    @harmless
    def log_failure(self, error: ExcInfo) -> None:
        emit(ERROR, _LOGGER, "tool_execution_failed", {"duration_ms": self.elapsed()}, None, error)


def node(name: str, /) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a node of a graph, a function or coroutine function: ``@otelsync.node("developer")``.

    Each call is a stage ``node <name>``, in which everything carries ``node``.
    """
    return functools.partial(_decorated, lambda: _Node(text_of(name)))


def tool(name: str, /) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a tool that nodes call, a function or coroutine function: ``@otelsync.tool("search")``.

    Each call is a stage ``tool <name>``, in which everything carries ``tool_name``. Arguments are not logged.
    """
    return functools.partial(_decorated, lambda: _Tool(text_of(name)))


def _decorated(begin: Callable[[], _Call], function: Callable[P, R]) -> Callable[P, R]:
    misuse.refuse_undecoratable(function)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def around_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            call = begin()
            with call.bound, call.stage, call:
                result = await function(*args, **kwargs)
                call.log_result(result)
                return result

        return around_coroutine  # type: ignore[return-value]  # a coroutine function for a coroutine function

    @functools.wraps(function)
    def around(*args: P.args, **kwargs: P.kwargs) -> R:
        call = begin()
        with call.bound, call.stage, call:
            result = function(*args, **kwargs)
            call.log_result(result)
            return result

    return around
