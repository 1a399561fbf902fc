"""Fields that a caller binds to every span and record inside a block."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from typing import Any, ParamSpec, TypeVar

import opentelemetry.context as context_api

from otelsync.hooks.decorating import decorated
from otelsync.recording.runtime_context import current_scope, leave
from otelsync.recording.scope import SCOPE_KEY

P = ParamSpec("P")
R = TypeVar("R")


class sync_context:  # noqa: N801  # a verb of the API, like structlog's bound_contextvars
    """Bind fields to every span and record inside: ``with sync_context(team_id=7, task_id="abc")``."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields
        self._tokens: list[Token[Any]] = []

    def __enter__(self) -> None:
        scope = current_scope().with_fields(self._fields)
        self._tokens.append(context_api.attach(context_api.set_value(SCOPE_KEY, scope)))

    def __exit__(self, *_: object) -> None:
        leave(self._tokens.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Bind the fields during each call of a function or coroutine function."""
        return decorated(function, lambda: sync_context(**self._fields))
