"""Values of the host as text, whatever their ``str()`` and ``repr()`` do: a value that cannot be shown says so."""

from __future__ import annotations

from typing import Any

from otelsync.hooks.host_errors import hand_back


def presentable(value: object) -> Any:
    """Return `value`; in the place of one whose ``str()`` or ``repr()`` raises, a text that names the exception."""
    try:
        _ = str(value), repr(value)
    except Exception as problem:
        hand_back(problem)
        return _excuse(value, problem)
    return value


def message_of(value: object) -> str:
    """Return the text of a value, such as the message of an exception."""
    try:
        return str(value)
    except Exception as problem:
        hand_back(problem)
        return _excuse(value, problem)


def text_of(value: object) -> str:
    """Return the text of a value, an exception's with its type."""
    return f"{type(value).__name__}: {message_of(value)}" if isinstance(value, BaseException) else message_of(value)


def _excuse(value: object, problem: Exception) -> str:
    return f"<{type(value).__name__} whose text raises {type(problem).__name__}>"
