"""Stages over the spans of another provider, which know nothing of scopes and of items: the context holds these."""

from __future__ import annotations

from contextvars import Token
from typing import Any, Final, Protocol

import opentelemetry.context as context_api
from opentelemetry.context.context import Context
from opentelemetry.trace import Span

from otelsync.hooks.opentelemetry_api import SPAN_KEY
from otelsync.recording.scope import SCOPE_KEY, SyncScope, note_scope

_ITEM_KEY: Final = context_api.create_key("otelsync-item")


class Placed(Protocol):
    """A stage, as far as its place among others needs it."""

    LONG: Any
    span: Span


def enter(stage: Placed, scope: SyncScope, own: dict[str, Any]) -> Token[Context]:
    """Make the span of a stage current, with `scope` for everything inside; the token undoes it.

    The span gets what the scope carries, but for what the stage sets itself (`own`).
    """
    if scope.attributes:
        stage.span.set_attributes({key: value for key, value in scope.attributes.items() if key not in own})
        note_scope(stage.span, scope)
    context = context_api.set_value(SPAN_KEY, stage.span)
    if not stage.LONG:
        context = context_api.set_value(_ITEM_KEY, stage, context)
    elif _ITEM_KEY in context:  # what is inside belongs to this stage, and not to the item
        context = context_api.set_value(_ITEM_KEY, None, context)
    return context_api.attach(context_api.set_value(SCOPE_KEY, scope, context))


def item_here() -> Any:
    """Return the item that a stage stands in which begins here; None outside any."""
    return context_api.get_value(_ITEM_KEY)
