"""Bounds of what one record can hold, in characters and items: no value holds its thread up, or crowds others out.

What is cut says so, and how much of it there was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from itertools import chain, islice
from typing import Final

LONGEST_TEXT: Final = 16_384
"""Characters of one value, message or traceback."""
MARGIN: Final = 2_048
"""Characters behind a cut that are looked at as well: a secret that begins before it is found if it ends in them."""
LONGEST_NAME: Final = 1_024
"""Characters of the name of a span, a stage or an item."""
LONGEST_KEY: Final = 256
"""Characters of the name of an attribute or a field."""
MOST_CHARACTERS: Final = 65_536
"""Characters of all attributes of a span, an event or a link, or all fields of a log record."""
MOST_BESIDE: Final = 131_072
"""Bytes of all events of a span, and of all its links: endpoints take 4 MiB with all that is around it."""
MOST_ITEMS: Final = 1_000
"""Attributes or fields; and items of all lists and mappings inside them."""
LITTLE: Final = 8_192
"""Characters of names and values together that need no such care; the C extension takes no more either."""
LONGEST_NUMBER: Final = 4_096
"""Bits of an integer that is shown by its digits: they take a time that is quadratic in their number."""


_SHORTEST_TEXT: Final = 64
"""Characters that each value may have whatever stands before it."""


class Allowance:
    """The rest of what one record can hold. `longest_text`: characters of one value."""

    __slots__ = ("characters", "items", "longest_text")

    def __init__(self, longest_text: int = LONGEST_TEXT) -> None:
        self.characters = MOST_CHARACTERS
        self.items = MOST_ITEMS
        self.longest_text = longest_text

    def longest(self) -> int:
        """Characters that the next value may have."""
        return max(_SHORTEST_TEXT, min(self.longest_text, self.characters))


def note_of(number: int | None, what: str) -> str:
    """Return the note that stands where something was cut; `number` is how much of it there was, if that is known.

    >>> note_of(16_000_000, "characters")
    '... (16,000,000 characters, cut)'
    """
    return f"... ({what}, cut)" if number is None else f"... ({number:,} {what}, cut)"


def digits_of(number: int) -> str:
    """Return an integer as text, by its size where it has too many digits."""
    bits = number.bit_length()
    return str(number) if bits <= LONGEST_NUMBER else f"<int of {bits:,} bits>"


def is_cut(text: object, longest: int) -> bool:
    """Return whether a text was cut to so many characters before, and ends with the note."""
    return isinstance(text, str) and len(text) <= longest + _LONGEST_NOTE and text.endswith(", cut)")


_LONGEST_NOTE: Final = 64

# Text of anything

_BUILT_IN: Final = (BaseException.__str__, KeyError.__str__, OSError.__str__)
_FEW: Final = 16
_MOST_OUTLINED: Final = 64


def is_light(value: object) -> bool:
    """Return whether the text of a value is made in no time, as far as it is not made by the program's own code."""
    return _left_after(value, LONGEST_TEXT, 0) >= 0


def shown(value: object) -> str:
    """Return ``str(value)``; of very long numbers, bytes and containers, and exceptions with such arguments, a part."""
    if isinstance(value, str):
        return str(value)
    return str(value) if is_light(value) else _Outline().of(value)


def first_words(text: str, longest: int) -> str:
    """Return the words that a text begins with, at most so many characters; a secret is not torn in two."""
    if len(text) <= longest:
        return text
    words = text[:longest]
    if not words[-1:].isspace():
        words = "" if len(parts := words.rsplit(None, 1)) < 2 else parts[0] + " "
    return words + note_of(len(text), "characters")


def _left_after(value: object, left: int, depth: int) -> int:
    """Return what is left of so many characters after a value; below 0 if there is nothing left."""
    if isinstance(value, (str, bytes, bytearray)):
        return left - len(value)
    if type(value) is int:
        return left if value.bit_length() <= LONGEST_NUMBER else -1
    if depth > _FEW:
        return -1
    inside: Iterable[object] = ()
    if type(value) in (list, tuple, set, frozenset, deque):
        inside = value  # type: ignore[assignment]  # the types above
    elif type(value) is dict:
        inside = chain.from_iterable(value.items())
    elif isinstance(value, BaseException) and type(value).__str__ in _BUILT_IN:
        inside = value.args
    for each in inside:
        left = _left_after(each, left - 16, depth + 1)
        if left < 0:
            break
    return left


class _Outline:
    """The beginning of what a container holds, and its size."""

    def __init__(self) -> None:
        self._left = _MOST_OUTLINED

    def of(self, value: object) -> str:
        """Return the outline of a value, whatever holds it."""
        self._left -= 1
        if self._left < 0:
            return "..."
        if isinstance(value, str):
            return repr(first_words(value, LONGEST_NAME))
        if isinstance(value, (bytes, bytearray)):
            return repr(first_words(value[: LONGEST_NAME + 1].decode("latin-1"), LONGEST_NAME))
        if type(value) is int:
            return digits_of(value)
        if isinstance(value, BaseException):
            single = value.args[0] if len(value.args) == 1 else value.args
            return single if type(single) is str else self.of(single)
        if type(value) is dict:
            pairs = islice(value.items(), _FEW)
            return self._container(value, [f"{self.of(key)}: {self.of(each)}" for key, each in pairs])
        if isinstance(value, Collection) and type(value) in (list, tuple, set, frozenset, deque):
            return self._container(value, [self.of(each) for each in islice(value, _FEW)])
        return repr(value)

    def _container(self, value: Collection[object], items: list[str]) -> str:
        rest = [note_of(len(value), "items")] if len(value) > len(items) else []
        return f"{type(value).__name__}({', '.join(items + rest)})"
