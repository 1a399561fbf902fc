"""Items: the records that a sync is about, such as pull requests and orders. Most spans are theirs."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from opentelemetry.trace import SpanKind

from otelsync import vocabulary
from otelsync.hooks.forking import when_forked
from otelsync.hooks.harmless import harmless
from otelsync.hooks.host_errors import hand_back, has_entered
from otelsync.journal.native import guarded_by
from otelsync.levels import DEBUG
from otelsync.logs.installed import enabled
from otelsync.recording.clock import present_of
from otelsync.recording.runtime_context import CURRENT, current_scope, installed, leave, step_out, strays
from otelsync.recording.scope import EMPTY, SyncScope
from otelsync.stages import lineage, misuse
from otelsync.stages.collecting import nearest_open
from otelsync.stages.ending import exit_despite
from otelsync.stages.stage import COMMON_ALIASES, Stage, current_tracer
from otelsync.text.presentable import text_of
from otelsync.vocabulary import SYNC_PIPELINE

if TYPE_CHECKING:
    from otelsync.recording.span import RecordedSpan

AnyItem = TypeVar("AnyItem", bound="Item")

_INTERNAL = SpanKind.INTERNAL


@harmless
def _announce_items() -> None:
    """Announce the items around before a fork, so that what the child records in them has its place."""
    span: Any = CURRENT.get()
    while hasattr(span, "announce"):
        if not span.is_announced and vocabulary.part_of(span.name)[0] == vocabulary.ITEM and span.is_recording():
            span.announce()
        span = span.above


when_forked(before=_announce_items)


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
    ALIASES: ClassVar[dict[str, str]] = COMMON_ALIASES | {
        "action": vocabulary.SYNC_ACTION,
        "state": vocabulary.SYNC_ITEM_STATE,
        "title": vocabulary.SYNC_ITEM_TITLE,
    }
    ID = vocabulary.SYNC_ITEM_ID
    """The attribute that holds its id."""
    SAYS_KIND = True
    """True if an attribute says of what kind it is, besides its span's name."""
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
        try:
            if "span" in self.__dict__:
                self._begin_afresh()
            if strays.seen:
                step_out()
            span = self.span = current_tracer().start_span(self._operation, None, _INTERNAL, self._initial())
            if hasattr(span, "announce") and installed():
                ours = cast("RecordedSpan", span)
                scope = ours.scope or EMPTY
                self.around = scope.stage
                self._token = CURRENT.set(ours)
            else:
                scope = current_scope()
                self.around = scope.stage
                self._enter_elsewhere(scope)
            if SYNC_PIPELINE not in scope.attributes and misuse.running:
                misuse.warn_of_adrift(self)
            self._clock = time.perf_counter_ns()
        except BaseException as error:
            self._begin_despite(error)
        return self

    @guarded_by(exit_despite)
    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        around = self.around
        if (
            error is not None
            or self._outcome
            or self._action == vocabulary.FAILED
            or (around is not None and self._name in around.failures)
            or enabled(self.LEVEL)
            or getattr(self.span, "inner", self.inner) is not None
        ):
            self._finish(error)
            return
        token = self._token
        if token is not None:
            leave(token)
            span: Any = self.span
            scope = getattr(span, "scope", None)
            if type(scope) is SyncScope:  # its bytes hold the outcome: that costs less than an attribute
                span.scope = scope.succeeded or scope.succeed()
            else:
                span.set_attribute(vocabulary.SYNC_OUTCOME, vocabulary.SUCCESS)
            with lineage.rolling_up:  # so that nothing around ends between the two
                target = nearest_open(around)
                if target is None:
                    self._token = None
                else:
                    items = target.items
                    items[self._action], self._token = items.get(self._action, 0) + 1, None  # in one step
                self.span.end()
            if type(scope) is SyncScope:
                span.scope = scope  # of what may still begin in it

    def finish_despite(self, problem: BaseException, error: BaseException | None) -> None:
        if self._token is None and not has_entered(problem, self._finish):  # it has left the short way, and is counted
            if self.span.is_recording():
                self.span.end()
            hand_back(problem)
        else:
            super().finish_despite(problem, error)

    def _close(self) -> int | None:
        """Be a part of the nearest stage around that is open."""
        if self._action == vocabulary.FAILED and not self._outcome:
            self.fail(vocabulary.FAILED)
        outcome = self.outcome
        if outcome == vocabulary.FAILURE:
            self.set(action=vocabulary.FAILED)
        with lineage.rolling_up:
            target = nearest_open(self.around)
            self._become_part_of(target, outcome, is_item=True)
            if target is not None:
                target.take_action(self._action, self)
            return present_of(self.span) if hasattr(self.span, "trace") else None

    def set(self, **attributes: Any) -> None:
        """Set attributes; ``action=`` says what became of it: one of created, updated, unchanged, skipped, failed."""
        set_attribute, aliases = self.span.set_attribute, self.ALIASES
        for key, value in attributes.items():
            if key == "action":
                self._action = value = value if type(value) is str else text_of(value)
            set_attribute(aliases.get(key, key), value)

    @property
    def outcome(self) -> str:
        """``success``, ``failure``, ``cancelled`` or ``retry``; as it stands, while the item is worked on."""
        if self._outcome:
            return self._outcome
        if self.span is misuse.NOT_BEGUN:
            return ""
        inner = getattr(self.span, "inner", self.inner)
        return vocabulary.SUCCESS if inner is None or inner.tally()[1:] == (0, 0) else vocabulary.PARTIAL

    def totals(self) -> dict[str, int]:
        """Return nothing: what is counted by hand here counts for the stage around."""
        return {}

    def skip(self, reason: str) -> None:
        """Say that it was left out, and why; it counts as skipped."""
        super().skip(reason)
        self.set(action="skipped")

    def _initial(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {self.ID: self._name}
        if self.SAYS_KIND:
            attributes[vocabulary.SYNC_ITEM_KIND] = self._kind
        aliases = self.ALIASES
        for key, value in self._arguments.items():
            if value is not None:
                if key == "action":
                    self._action = value = value if type(value) is str else text_of(value)
                attributes[aliases.get(key, key)] = value
        return attributes

    def _set_last_attributes(self, outcome: str) -> None:
        self.span.set_attribute(vocabulary.SYNC_OUTCOME, outcome)

    def _end_fields(self) -> dict[str, Any]:
        said = {"action": self._action} if self._action else {}
        return {"kind": self._kind, "key": self._name, **said}


class PullRequest(Item):
    """One pull request on its way into the database."""

    EVENTS = vocabulary.SYNC_PR
    COMPLETED = "sync.pr.processed"
    FAILED = "sync.pr.failed"
    ALIASES: ClassVar[dict[str, str]] = COMMON_ALIASES | {
        "action": vocabulary.SYNC_ACTION,
        "state": vocabulary.VCS_CHANGE_STATE,
        "title": vocabulary.VCS_CHANGE_TITLE,
    }
    ID = vocabulary.VCS_CHANGE_ID
    SAYS_KIND = False
    EXAMPLE = "@otelsync.pull_request(4711)"
    _kind = "pr"
    _operation = vocabulary.SYNC_PR

    def __init__(self, number: str, attributes: dict[str, Any]) -> None:
        Stage.__init__(self, number, attributes)

    def _end_fields(self) -> dict[str, Any]:
        return {"number": self._name, "action": self._action} if self._action else {"number": self._name}
