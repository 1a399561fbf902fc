"""A guard around our work inside another library's call: it may fail, and the call goes on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from otelsync.hooks.host_errors import forgive

P = ParamSpec("P")
R = TypeVar("R")


def harmless(function: Callable[P, R]) -> Callable[P, R | None]:
    """Decorate work of ours: an exception of ours is logged at DEBUG, and None comes back."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            forgive(error, "%s failed; the call that it was part of goes on", function.__qualname__)
            return None

    return guarded
