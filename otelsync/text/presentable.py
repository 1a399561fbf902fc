"""Values of the host as text, whatever their ``str()`` and ``repr()`` do: a value that cannot be shown says so."""

from __future__ import annotations

from typing import Any


def presentable(value: object) -> Any:
    """Return `value`; in the place of one whose ``str()`` or ``repr()`` raises, a text that names the exception."""
    try:
        _ = str(value), repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose text raises {type(error).__name__}>"
    return value


def text_of(value: object) -> str:
    """Return the text of a value, an exception's with its type."""
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {presentable(value)}"
    return str(presentable(value))
