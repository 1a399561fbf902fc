"""What every span and record inside carries: the sync's id, its pipeline, the repo, and fields that a caller bound.

A scope is immutable and encoded when it is made, so that a span or a record that carries it copies bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import opentelemetry.context as context_api

from otelsync.recording.otlp import AttributeEncoder
from otelsync.recording.runtime_context import CURRENT

if TYPE_CHECKING:
    from otelsync.stages import Stage

SCOPE_KEY: Final = context_api.create_key("otelsync-scope")

SPAN_TAG: Final = 0x4A
LOG_TAG: Final = 0x32

RENDERED_NAMES: Final = {"sync.id": "sync_id", "sync.pipeline": "pipeline", "sync.repo": "repo"}
"""Attributes of a sync under the names that they have in a rendered log line."""


class SyncScope:
    """The fields that spans and records inside carry, and the stage that collects their counts.

    Args:
        attributes: Of spans and OTLP log records, by attribute name.
        stage: The innermost stage that counts roll up to.
    """

    __slots__ = ("attributes", "keys", "log_bytes", "rendered", "span_bytes", "stage")

    def __init__(self, attributes: Mapping[str, Any], stage: Stage | None = None) -> None:
        self.attributes = dict(attributes)
        self.stage = stage
        self.keys = frozenset(attributes)
        self.span_bytes = AttributeEncoder(SPAN_TAG).encode(self.attributes)
        self.log_bytes = AttributeEncoder(LOG_TAG).encode(self.attributes)
        self.rendered = {RENDERED_NAMES.get(key, key): value for key, value in self.attributes.items()}

    def with_fields(self, fields: Mapping[str, Any]) -> SyncScope:
        """This scope and further fields."""
        return SyncScope({**self.attributes, **fields}, self.stage)

    def with_stage(self, stage: Stage | None) -> SyncScope:
        """This scope, with another stage to roll counts up to."""
        scope = SyncScope.__new__(SyncScope)
        scope.attributes, scope.keys = self.attributes, self.keys
        scope.span_bytes, scope.log_bytes, scope.rendered = self.span_bytes, self.log_bytes, self.rendered
        scope.stage = stage
        return scope


EMPTY: Final = SyncScope({})


def current_scope() -> SyncScope:
    """The scope in force; an empty one outside any."""
    current = CURRENT.get()
    if current is not None and not isinstance(current, dict):
        return current.scope or EMPTY
    scope = context_api.get_value(SCOPE_KEY)
    return scope if isinstance(scope, SyncScope) else EMPTY
