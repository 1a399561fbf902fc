"""A label whose values are told apart up to a bound, so that nothing that others name makes series without end."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"
"""Stands for every value beyond the bound."""
LONGEST: Final = 128
"""Characters of a value; a longer one is cut."""


class BoundedLabel:
    """Takes values as they come. The first `most` stay what they are; later ones become `OTHER`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value to use in place of `value`."""
        if value in self._values or not value:
            return value
        value = value[:LONGEST]
        if value in self._values or value == OTHER:
            return value
        if len(self._values) >= self._most:
            return OTHER
        self._values.add(value)
        return value
