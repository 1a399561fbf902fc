"""Work of ours around a task or a publish that is done to its end, whatever comes in the middle of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from otelsync.hooks.host_errors import forgive
from otelsync.journal.native import guarded_by

F = TypeVar("F", bound=Callable[..., None])


def done_whole(function: F) -> F:
    """Decorate work that may be done twice: an exception that comes out of it begins it anew.

    The host's is handed back after that; a fault of ours is logged.

    Args:
        function: Takes one to three arguments, by position.
    """

    def again(first: Any, problem: BaseException, *rest: Any) -> None:
        try:
            function(first, *rest)
        except Exception as another:
            forgive(another, "%s failed anew", function.__qualname__)
        forgive(cast("Exception", problem), "%s failed, and was begun anew", function.__qualname__)

    return guarded_by(again)(function)
