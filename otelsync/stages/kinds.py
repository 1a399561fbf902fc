"""The kinds of stages beside the pipeline: repo, api call, pull request, timed operation, and how to make each.

Beside them, fields that a caller binds to every span and record inside a block.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import opentelemetry.context as context_api
from opentelemetry.trace import SpanKind

from otelsync import vocabulary
from otelsync.hooks.decorating import decorated
from otelsync.levels import DEBUG, ERROR, INFO
from otelsync.logs.installed import emit, enabled
from otelsync.recording.runtime_context import CURRENT, current_scope, installed, leave
from otelsync.recording.scope import SCOPE_KEY, SyncScope
from otelsync.stages.pipeline import Pipeline
from otelsync.stages.stage import Milestone, OtherStage, P, R, Stage, add, current_tracer
from otelsync.text.presentable import text_of

if TYPE_CHECKING:
    from otelsync.recording.span import RecordedSpan

_INTERNAL = SpanKind.INTERNAL


class Repo(Milestone):
    """One repository's share of a run."""

    KIND = vocabulary.SYNC_REPO
    STARTED = "sync.repo.started"
    COMPLETED = "sync.repo.completed"
    FAILED = "sync.repo.failed"
    ALIASES = {  # noqa: RUF012
        "provider": vocabulary.VCS_PROVIDER_NAME,
        "url": vocabulary.VCS_REPOSITORY_URL_FULL,
        "branch": vocabulary.VCS_REF_HEAD_NAME,
    }

    def _initial(self) -> dict[str, Any]:
        owner, _, name = self._name.rpartition("/")
        attributes: dict[str, Any] = {vocabulary.VCS_PROVIDER_NAME: "github", vocabulary.VCS_REPOSITORY_NAME: name}
        if owner:
            attributes[vocabulary.VCS_OWNER_NAME] = owner
        return {**attributes, **super()._initial()}

    def _inner_scope(self, scope: SyncScope) -> SyncScope:
        return SyncScope({**scope.attributes, vocabulary.SYNC_REPO: self._name}, self)


class ApiCall(Stage):
    """One call of an API, with what it brought."""

    KIND = vocabulary.SYNC_API
    STARTED = "sync.api.request"
    COMPLETED = "sync.api.completed"
    FAILED = "sync.api.failed"
    ALIASES = {"kind": vocabulary.SYNC_API_KIND, "page": vocabulary.SYNC_API_PAGE, "attempt": vocabulary.SYNC_ATTEMPT}  # noqa: RUF012
    LEVEL = DEBUG

    def _start_fields(self) -> dict[str, Any]:
        return {"operation": self._name, **self._arguments}

    def _end_fields(self) -> dict[str, Any]:
        return {"operation": self._name}


class PullRequest(Stage):
    """One pull request on its way into the database."""

    KIND = vocabulary.SYNC_PR
    COMPLETED = "sync.pr.processed"
    FAILED = "sync.pr.failed"
    ALIASES = {  # noqa: RUF012
        "action": vocabulary.SYNC_ACTION,
        "state": vocabulary.VCS_CHANGE_STATE,
        "title": vocabulary.VCS_CHANGE_TITLE,
    }
    LEVEL = DEBUG
    LONG = False
    COLLECTS = False

    _action = ""

    # There are more of these than of all other stages, so what those do step by step is done here at one go.

    def __enter__(self) -> PullRequest:
        if "span" in self.__dict__:
            self._begin_afresh()
        span = self.span = current_tracer().start_span(vocabulary.SYNC_PR, None, _INTERNAL, self._initial())
        if hasattr(span, "announce") and installed():
            ours = cast("RecordedSpan", span)
            self.around = ours.scope.stage if ours.scope else None
            self._token = CURRENT.set(ours)
        else:
            scope = current_scope()
            self.around = scope.stage
            self._enter_elsewhere(scope)
        self._counts = {}
        self._clock = time.perf_counter_ns()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if error is not None or self._outcome or self._counts or enabled(self.LEVEL):
            return super().__exit__(exc_type, error, tb)
        leave(self._token)
        self.span.end()
        if self._action and self.around is not None:
            self._roll_up("success")
        return None

    def set(self, **attributes: Any) -> None:
        """Set attributes; ``action=`` says what became of it: one of created, updated, unchanged, skipped, failed."""
        set_attribute, aliases = self.span.set_attribute, self.ALIASES
        for key, value in attributes.items():
            if key == "action":
                self._action = value = value if type(value) is str else text_of(value)
            set_attribute(aliases.get(key, key), value)

    def skip(self, reason: str) -> None:
        """Say that it was left out, and why; it counts as skipped."""
        super().skip(reason)
        self.set(action="skipped")

    def _initial(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {vocabulary.VCS_CHANGE_ID: self._name}
        aliases = self.ALIASES
        for key, value in self._arguments.items():
            if value is not None:
                attributes[aliases.get(key, key)] = value
        return attributes

    def _set_last_attributes(self, outcome: str) -> None:
        if outcome == "failure":
            self.set(action="failed")
        elif outcome not in ("success", "partial"):
            self.span.set_attribute(vocabulary.SYNC_OUTCOME, outcome)

    def _roll_up(self, outcome: str) -> None:  # noqa: ARG002  # what counts is the action
        parent, action = self.around, self._action
        if parent is None or not action:
            return
        add(parent._counts, action, 1)
        if action == "failed":
            parent._items_failed += 1

    def _end_fields(self) -> dict[str, Any]:
        return {"number": self._name, "action": self._action} if self._action else {"number": self._name}


class TimedOperation(OtherStage):
    """A stage that logs how long it took, under its own name."""

    def _log_end(self, outcome: str) -> None:
        fields = {**self._arguments, "duration_ms": self._elapsed_ms(), "outcome": outcome}
        emit(ERROR if outcome == "failure" else INFO, "otelsync", self._name, fields, self.span, self._arose)


def pipeline(name: str, **attributes: Any) -> Pipeline:
    """A run of a sync: ``with pipeline("github.onboarding", team_id=7) as run``."""
    return Pipeline(name, attributes)


def repo(name: str, **attributes: Any) -> Repo:
    """One repository's share of a run: ``with repo("acme/api") as repo``."""
    return Repo(name, attributes)


def api_call(operation: str, **attributes: Any) -> ApiCall:
    """One call of an API: ``with api_call("list_pull_requests", kind="rest", page=1) as call``."""
    return ApiCall(operation, attributes)


def pull_request(number: int | str, **attributes: Any) -> PullRequest:
    """One pull request: ``with pull_request(4711, state="open") as pr``, then ``pr.set(action="created")``."""
    return PullRequest(str(number) if isinstance(number, int) else number, attributes)


def stage(name: str, **attributes: Any) -> Stage:
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
        return decorated(function, lambda: sync_context(**self._fields))
