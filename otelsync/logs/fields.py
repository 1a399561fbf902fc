"""Fields of a record: the caller's, those of an exception, and those bound in structlog's context variables."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeAlias

from otelsync.errors import message_of
from otelsync.recording.scope import OWN_NAMES
from otelsync.vocabulary import EVENT_ID

ExcInfo: TypeAlias = (
    bool | BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def complete(fields: Mapping[str, Any], error: ExcInfo | None, event_id: str) -> Mapping[str, Any]:
    """The fields, with what the exception says, and an underscore behind a name that the record has for itself."""
    error = fields.get("exc_info", error)
    if error or "exc_info" in fields or "stack_info" in fields:
        fields = _with_error(fields, error)
    if OWN_NAMES.isdisjoint(fields) and not (event_id and EVENT_ID in fields):
        return fields
    own = OWN_NAMES | {EVENT_ID} if event_id else OWN_NAMES
    return {f"{key}_" if key in own else key: value for key, value in fields.items()}


def _with_error(fields: Mapping[str, Any], error: ExcInfo | None) -> Mapping[str, Any]:
    complete = dict(fields)
    complete.pop("exc_info", None)
    if complete.pop("stack_info", None):
        complete["stack"] = "".join(traceback.format_stack(sys._getframe(5)))
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        complete.setdefault("error", message_of(error))
        complete.setdefault("error_type", type(error).__qualname__)
        complete["exception"] = "".join(traceback.format_exception(error)).rstrip()
    return complete
