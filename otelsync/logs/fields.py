"""Fields of a record: the caller's and those of an exception, and all of them as JSON, whatever their values."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeAlias

import orjson

from otelsync.hooks.host_errors import hand_back, raise_sent
from otelsync.logs.claims import without_claims
from otelsync.recording.scope import SyncScope
from otelsync.text.presentable import message_of, presentable
from otelsync.text.tracebacks import traceback_of

ExcInfo: TypeAlias = (
    bool | BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def complete(fields: Mapping[str, Any], error: ExcInfo | None, event_id: str, scope: SyncScope) -> Mapping[str, Any]:
    """The fields, with what the exception says, and an underscore behind a name that the record has for itself."""
    error = fields.get("exc_info", error)
    if "exc_info" in fields or is_asked(error) or "stack_info" in fields:
        fields = _with_error(fields, error)
    return without_claims(fields, scope, event_id)


def is_asked(value: object) -> bool:
    """Return whether a value is true; one that raises when it is asked is."""
    try:
        return bool(value)
    except Exception as problem:
        hand_back(problem)
        return True


def error_of(record: logging.LogRecord) -> ExcInfo | None:
    """Return the exception that a record of the standard library is to show, if any."""
    return record.exc_info if is_asked(record.exc_info) else None


def _with_error(fields: Mapping[str, Any], error: ExcInfo | None) -> Mapping[str, Any]:
    complete = dict(fields)
    complete.pop("exc_info", None)
    if is_asked(complete.pop("stack_info", None)):
        complete["stack"] = "".join(traceback.format_stack(sys._getframe(5)))
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        complete.setdefault("error", message_of(error))
        complete.setdefault("error_type", type(error).__qualname__)
        complete["exception"] = traceback_of(error).rstrip()
    return complete


def dumped(fields: Mapping[str, Any]) -> bytes:
    """Return a line of JSON, whatever the values."""
    try:
        return orjson.dumps(fields, plain, orjson.OPT_APPEND_NEWLINE)
    except (TypeError, ValueError, RecursionError) as error:
        _hand_back_from_orjson(error)
    try:
        return orjson.dumps(fields, plain, orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError) as error:
        _hand_back_from_orjson(error)
        safe = {
            str(_safe(message_of(key))): value if _renders(value) else _safe(value) for key, value in fields.items()
        }
        return orjson.dumps(safe, plain, orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def _hand_back_from_orjson(error: Exception) -> None:
    """Hand back what is the host's, as hand_back() does.

    All that is raised in :func:`plain` has a traceback. What has none came before its first line, as somebody sent it;
    or it is of older versions of orjson, for text that is half a surrogate pair.
    """
    hand_back(error)
    cause = error.__cause__
    if cause is not None and cause.__traceback__ is None and not isinstance(cause, UnicodeError):
        raise_sent(cause, error)


def _renders(value: object) -> bool:
    try:
        orjson.dumps(value, plain, orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError) as error:
        _hand_back_from_orjson(error)
        return False
    return True


def as_rendered(value: object) -> object:
    """Return what a line of JSON shows of a value that OTLP has no form for."""
    shown = orjson.loads(dumped({"": value}))[""]
    return shown if not isinstance(shown, int) or -(2**63) <= shown < 2**63 else str(shown)


def plain(value: object) -> object:
    """Return what stands for a value that JSON has no form for."""
    try:
        if isinstance(value, (set, frozenset)):
            return list(value)
        if isinstance(value, Mapping):
            return dict(value)
        if isinstance(value, bytes):
            return value.decode("utf-8", "backslashreplace")
        return str(value)
    except BaseException:
        raise  # now it has its traceback, which orjson does not give to the cause of its own exception


def _safe(value: object) -> object:
    """A value that is sure to render: what is circular, too deep or half a surrogate becomes text."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    shown = presentable(value)
    text = shown if isinstance(shown, str) else repr(shown)
    return text.encode("utf-8", "backslashreplace").decode()
