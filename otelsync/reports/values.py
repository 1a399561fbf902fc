"""Values from outside in a report, bounded."""

from __future__ import annotations

from typing import Final

OTHER: Final = "(other)"
"""Stands for names beyond those that are told apart."""


def whole(value: object) -> int:
    """Return a count from outside: what is not a whole number counts nothing."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**53:
        return 0
    return value


def bounded(value: object, most: int = 300) -> str:
    """Return text of at most `most` characters; what was cut off is marked."""
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
