"""Items: the records that a sync is about, such as pull requests and orders. Most spans are theirs."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from opentelemetry.trace import SpanKind

from otelsync import vocabulary
from otelsync.levels import DEBUG
from otelsync.logs.installed import enabled
from otelsync.recording.runtime_context import CURRENT, current_scope, installed, leave
from otelsync.recording.scope import EMPTY
from otelsync.stages import misuse
from otelsync.stages.stage import Stage, add, current_tracer
from otelsync.text.presentable import text_of
from otelsync.vocabulary import SYNC_PIPELINE

if TYPE_CHECKING:
    from otelsync.recording.span import RecordedSpan

AnyItem = TypeVar("AnyItem", bound="Item")

_INTERNAL = SpanKind.INTERNAL


class Item(Stage):
    """One record on its way into the database.

    Args:
        kind: One lower-case word, such as ``order``.
        key: The item's id.
        attributes: As of any stage.
    """

    EVENTS = "sync.item"
    COMPLETED = "sync.item.processed"
    FAILED = "sync.item.failed"
    ALIASES: ClassVar[dict[str, str]] = {
        "action": vocabulary.SYNC_ACTION,
        "state": vocabulary.SYNC_ITEM_STATE,
        "title": vocabulary.SYNC_ITEM_TITLE,
        "attempt": vocabulary.SYNC_ATTEMPT,
    }
    ID = vocabulary.SYNC_ITEM_ID
    """The attribute that holds its id."""
    LEVEL = DEBUG
    LONG = False
    COLLECTS = False
    is_part_of_run = True
    EXAMPLE = '@otelsync.item("order", 4711)'

    _action = ""
    _operation: str
    """The span's name."""

    def __init__(self, kind: str, key: str, attributes: dict[str, Any]) -> None:
        super().__init__(key, attributes)
        self._kind = kind = vocabulary.kind_word(text_of(kind))
        self._operation = f"sync.{kind}"

    # There are more of these than of all other stages, so what those do step by step is done here at one go.

    def __enter__(self: AnyItem) -> AnyItem:
        if "span" in self.__dict__:
            self._begin_afresh()
        span = self.span = current_tracer().start_span(self._operation, None, _INTERNAL, self._initial())
        if hasattr(span, "announce") and installed():
            ours = cast("RecordedSpan", span)
            scope = ours.scope or EMPTY
            self._token = CURRENT.set(ours)
        else:
            scope = current_scope()
            self._enter_elsewhere(scope)
        self.around = scope.stage
        if SYNC_PIPELINE not in scope.attributes and misuse.running:
            misuse.warn_of_adrift(self)
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
        attributes: dict[str, Any] = {vocabulary.SYNC_ITEM_KIND: self._kind, self.ID: self._name}
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
        said = {"action": self._action} if self._action else {}
        return {"kind": self._kind, "key": self._name, **said}


class PullRequest(Item):
    """One pull request on its way into the database."""

    EVENTS = vocabulary.SYNC_PR
    COMPLETED = "sync.pr.processed"
    FAILED = "sync.pr.failed"
    ALIASES: ClassVar[dict[str, str]] = {
        "action": vocabulary.SYNC_ACTION,
        "state": vocabulary.VCS_CHANGE_STATE,
        "title": vocabulary.VCS_CHANGE_TITLE,
        "attempt": vocabulary.SYNC_ATTEMPT,
    }
    ID = vocabulary.VCS_CHANGE_ID

    EXAMPLE = "@otelsync.pull_request(4711)"
    _kind = "pr"
    _operation = vocabulary.SYNC_PR

    def __init__(self, number: str, attributes: dict[str, Any]) -> None:
        Stage.__init__(self, number, attributes)

    def _initial(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {vocabulary.VCS_CHANGE_ID: self._name}
        aliases = self.ALIASES
        for key, value in self._arguments.items():
            if value is not None:
                attributes[aliases.get(key, key)] = value
        return attributes

    def _end_fields(self) -> dict[str, Any]:
        return {"number": self._name, "action": self._action} if self._action else {"number": self._name}
