"""Groups and batches: the shares of a run that a stage around can be made up of.

A group is whatever the items of a sync belong to: a repository, a customer, a board. A batch is some items that are
sent or worked on together.
"""

from __future__ import annotations

from typing import Any, ClassVar

from otelsync import vocabulary
from otelsync.recording.scope import SyncScope, redactor
from otelsync.stages.stage import COMMON_ALIASES, Milestone
from otelsync.text.presentable import text_of


class Group(Milestone):
    """A group's share of a run.

    Args:
        kind: One lower-case word, such as ``customer``.
        name: Which of its kind.
        attributes: As of any stage.
    """

    EVENTS = "sync.group"
    STARTED = "sync.group.started"
    COMPLETED = "sync.group.completed"
    FAILED = "sync.group.failed"
    EXAMPLE = '@otelsync.group("customer", "name")'
    ALIASES: ClassVar[dict[str, str]] = COMMON_ALIASES

    def __init__(self, kind: str, name: str, attributes: dict[str, Any]) -> None:
        super().__init__(name, attributes)
        self._kind = vocabulary.kind_word(text_of(kind))

    def _span_name(self) -> str:
        return f"sync.{self._kind} {self._name}"

    def _initial(self) -> dict[str, Any]:
        named = {vocabulary.SYNC_GROUP_KIND: self._kind, vocabulary.SYNC_GROUP_NAME: self._name}
        return named | super()._initial()

    def _inner_scope(self, scope: SyncScope) -> SyncScope:
        return SyncScope({**scope.attributes, f"sync.{self._kind}": self._name}, self)

    def _start_fields(self) -> dict[str, Any]:
        return {"kind": self._kind, "name": self._name, **super()._start_fields()}

    def _end_fields(self) -> dict[str, Any]:
        return {"kind": self._kind, "name": self._name}


class Repo(Group):
    """One repository's share of a run."""

    EVENTS = vocabulary.SYNC_REPO
    STARTED = "sync.repo.started"
    COMPLETED = "sync.repo.completed"
    FAILED = "sync.repo.failed"
    EXAMPLE = '@otelsync.repo("owner/name")'
    ALIASES: ClassVar[dict[str, str]] = COMMON_ALIASES | {
        "provider": vocabulary.VCS_PROVIDER_NAME,
        "url": vocabulary.VCS_REPOSITORY_URL_FULL,
        "branch": vocabulary.VCS_REF_HEAD_NAME,
    }

    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        super().__init__("repo", name, attributes)

    def _initial(self) -> dict[str, Any]:
        owner, _, name = redactor().redact(self._name).rpartition("/")  # half a secret looks like none
        attributes: dict[str, Any] = {vocabulary.VCS_REPOSITORY_NAME: name}
        if "provider" not in self._arguments:
            attributes[vocabulary.VCS_PROVIDER_NAME] = "github"
        if owner:
            attributes[vocabulary.VCS_OWNER_NAME] = owner
        return {**attributes, **super()._initial()}

    def _start_fields(self) -> dict[str, Any]:
        return dict(self._arguments)

    def _end_fields(self) -> dict[str, Any]:
        return {}


class Batch(Milestone):
    """Some items that are sent or worked on together."""

    KIND = vocabulary.SYNC_BATCH
    EVENTS = vocabulary.SYNC_BATCH
    STARTED = "sync.batch.started"
    COMPLETED = "sync.batch.completed"
    FAILED = "sync.batch.failed"
    EXAMPLE = '@otelsync.batch("operation")'
    ALIASES: ClassVar[dict[str, str]] = COMMON_ALIASES | {
        "number": vocabulary.SYNC_BATCH_NUMBER,
        "size": vocabulary.SYNC_BATCH_SIZE,
    }

    def _start_fields(self) -> dict[str, Any]:
        return {"name": self._name, **super()._start_fields()}

    def _end_fields(self) -> dict[str, Any]:
        return {"name": self._name, **self._arguments}
