"""Decorate functions and coroutine functions, so that each call runs in a block of its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def decorated(function: Callable[P, R], block: Callable[[], AbstractContextManager[Any]]) -> Callable[P, R]:
    """Return `function` with a block of its own around each call.

    Args:
        function: A function or a coroutine function.
        block: Makes the block of one call.
    """
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def around_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            with block():
                return await function(*args, **kwargs)

        return around_coroutine  # type: ignore[return-value]  # a coroutine function for a coroutine function

    @functools.wraps(function)
    def around(*args: P.args, **kwargs: P.kwargs) -> R:
        with block():
            return function(*args, **kwargs)

    return around
