"""Values of the host as text, whatever their ``str()`` and ``repr()`` do: a value that cannot be shown says so."""

from __future__ import annotations

from typing import Any

from otelsync.bounds import LONGEST_NAME, LONGEST_TEXT, first_words, is_light, shown
from otelsync.hooks.host_errors import hand_back


def presentable(value: object) -> Any:
    """Return `value`; in the place of one whose ``str()`` or ``repr()`` raises, a text that names the exception."""
    try:
        if not is_light(value):
            return shown(value)
        _ = str(value), repr(value)
    except Exception as problem:
        hand_back(problem)
        return _excuse(value, problem)
    return value


def message_of(value: object) -> str:
    """Return the text of a value, such as the message of an exception."""
    try:
        return shown(value)
    except Exception as problem:
        hand_back(problem)
        return _excuse(value, problem)


def text_of(value: object) -> str:
    """Return the text of a value, an exception's with its type."""
    if not isinstance(value, BaseException):
        return message_of(value)
    return f"{type(value).__name__}: {first_words(message_of(value), LONGEST_TEXT - LONGEST_NAME)}"


def _excuse(value: object, problem: Exception) -> str:
    return f"<{type(value).__name__} whose text raises {type(problem).__name__}>"
