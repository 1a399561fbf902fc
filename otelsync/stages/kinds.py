"""The kinds of stages beside groups and items: API call, timed operation; and how to make each of all kinds.

Beside them, fields that a caller binds to every span and record inside a block.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from typing import Any, ClassVar

import opentelemetry.context as context_api

from otelsync import vocabulary
from otelsync.hooks.decorating import decorated
from otelsync.levels import DEBUG, ERROR, INFO
from otelsync.logs.installed import emit
from otelsync.recording.runtime_context import current_scope, leave
from otelsync.recording.scope import SCOPE_KEY
from otelsync.stages import misuse
from otelsync.stages.groups import Batch, Group, Repo
from otelsync.stages.items import Item, PullRequest
from otelsync.stages.pipeline import Pipeline
from otelsync.stages.stage import COMMON_ALIASES, OtherStage, P, R, Stage
from otelsync.text.presentable import text_of


class ApiCall(Stage):
    """One call of an API, with what it brought."""

    KIND = vocabulary.SYNC_API
    STARTED = "sync.api.request"
    COMPLETED = "sync.api.completed"
    FAILED = "sync.api.failed"
    EVENTS = vocabulary.SYNC_API
    ALIASES: ClassVar[dict[str, str]] = COMMON_ALIASES | {
        "kind": vocabulary.SYNC_API_KIND,
        "page": vocabulary.SYNC_API_PAGE,
    }
    LEVEL = DEBUG
    is_part_of_run = True
    EXAMPLE = '@otelsync.api_call("operation")'

    def _start_fields(self) -> dict[str, Any]:
        return {"operation": self._name, **self._arguments}

    def _end_fields(self) -> dict[str, Any]:
        return {"operation": self._name}


class TimedOperation(OtherStage):
    """A stage that logs how long it took, under its own name."""

    EXAMPLE = '@otelsync.timed_operation("sync.something")'

    def _log_end(self, outcome: str) -> None:
        fields = {**self._arguments, "duration_ms": self._elapsed_ms(), "outcome": outcome}
        emit(ERROR if outcome == "failure" else INFO, "otelsync", self._name, fields, self.span, self._arose)


def pipeline(name: str, **attributes: Any) -> Pipeline:
    """A run of a sync: ``with pipeline("github.onboarding", team_id=7) as run``."""
    return Pipeline(name, attributes)


def group(kind: str, name: str, /, **attributes: Any) -> Group:
    """One group's share of a run: ``with group("customer", "GREYSON") as customer``.

    Args:
        kind: The kind of group, in one lower-case word. Everything inside carries ``sync.<kind>`` with its name.
        name: Which of its kind.
        attributes: Attributes of the span. ``required=False``: it may fail.
    """
    return Group(kind, name, attributes)


def item(kind: str, key: int | str, /, **attributes: Any) -> Item:
    """One record on its way into the database: ``with item("order", 4711) as order``.

    Args:
        kind: The kind of item, in one lower-case word.
        key: The item's id.
        attributes: Attributes of the span, such as ``title`` and ``state``; ``action`` says what became of it.
    """
    return Item(kind, text_of(key) if isinstance(key, int) else key, attributes)


def batch(name: str, /, number: int | None = None, size: int | None = None, **attributes: Any) -> Batch:
    """Some items that are sent or worked on together: ``with batch("create_items", number=3, size=25)``.

    Args:
        name: The operation.
        number: Which one of its name, counted from 1.
        size: Number of items in it.
        attributes: Attributes of the span.
    """
    return Batch(name, {"number": number, "size": size, **attributes})


def repo(name: str, **attributes: Any) -> Repo:
    """One repository's share of a run: ``with repo("acme/api") as repo``. `provider` is ``github`` unless given."""
    return Repo(name, attributes)


def api_call(operation: str, **attributes: Any) -> ApiCall:
    """One call of an API: ``with api_call("list_pull_requests", kind="rest", page=1) as call``."""
    return ApiCall(operation, attributes)


def pull_request(number: int | str, **attributes: Any) -> PullRequest:
    """One pull request: ``with pull_request(4711, state="open") as pr``, then ``pr.set(action="created")``."""
    return PullRequest(text_of(number) if isinstance(number, int) else number, attributes)


def stage(name: str, /, **attributes: Any) -> Stage:
    """Any other part of a sync, such as a batch for a language model, or weekly metrics."""
    return OtherStage(name, attributes)


def timed_operation(name: str, /, **fields: Any) -> TimedOperation:
    """A stage whose end logs the event `name` with `fields` and ``duration_ms``."""
    return TimedOperation(name, fields)


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
        misuse.refuse_undecoratable(function)
        return decorated(function, lambda: sync_context(**self._fields))
