"""Exceptions with their tracebacks, as Python shows them, and in a time that is bounded: the outermost and the last."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from itertools import islice
from types import TracebackType
from typing import Final

from otelsync.bounds import LONGEST_TEXT, first_words, is_light, note_of
from otelsync.text.presentable import message_of

_MOST_FRAMES: Final = 100
"""Frames of an exception and all its causes that are shown by Python's own means: each takes up to 0.1 ms."""
_LONGEST_MESSAGE: Final = 4_096
"""Characters of a message in a traceback; it is recorded by itself as well."""
_ROOM_FOR_NOTE: Final = 64
_MOST_ERRORS: Final = 16
_SHOWN_FRAMES: Final = 20
"""Frames of each end of one traceback, where there are too many."""
_SHOWN_ERRORS: Final = 4
_FARTHEST: Final = 100_000
"""Frames that are looked at for the last ones."""


def traceback_of(error: BaseException) -> str:
    """Return an exception and its causes with their tracebacks, as Python shows them; of very long ones a part."""
    if _is_short(error):
        return _fitting(traceback.format_exception(error))
    chain = list(islice(_chain(error), _MOST_ERRORS + 1))
    parts: list[str] = []
    for each in reversed(chain[:_SHOWN_ERRORS]):
        if parts:
            parts.append("\nwhich led to the following exception:\n\n")
        elif len(chain) > _SHOWN_ERRORS:
            parts.append(note_of(None, "exceptions before") + "\n\n")
        parts += _one(each)
    return _fitting(parts)


def _fitting(parts: list[str]) -> str:
    """Join the parts of a text; of one that would be cut behind, the first and, above all, the last are left."""
    left = LONGEST_TEXT - sum(map(len, parts))
    if left >= 0:
        return "".join(parts)
    first, number = 0, 0
    while number < len(parts) and first + len(parts[number]) <= LONGEST_TEXT // 4:
        first += len(parts[number])
        number += 1
    last, from_there = 0, len(parts)
    while from_there > number and first + last + len(parts[from_there - 1]) <= LONGEST_TEXT - _ROOM_FOR_NOTE:
        from_there -= 1
        last += len(parts[from_there])
    note = note_of(LONGEST_TEXT - left, "characters in all") + "\n"
    return "".join([*parts[:number], note, *parts[from_there:]])


def _is_short(error: BaseException) -> bool:
    frames = 0
    for number, each in enumerate(islice(_chain(error), _MOST_ERRORS + 1)):
        frames += sum(1 for _ in islice(traceback.walk_tb(each.__traceback__), _MOST_FRAMES + 1))
        if frames > _MOST_FRAMES or number == _MOST_ERRORS or not is_light(each):
            return False
        if len(message_of(each)) > _LONGEST_MESSAGE:
            return False
        if len(getattr(each, "__notes__", ())) > _MOST_ERRORS or not is_light(getattr(each, "__notes__", None)):
            return False
    return True


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, those in it, its cause, and so on; each once."""
    waiting, seen = [error], {id(error)}
    while waiting:
        current = waiting.pop(0)
        yield current
        inside = current.exceptions[:_MOST_ERRORS] if isinstance(current, BaseExceptionGroup) else ()
        before = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        for each in (*inside, before):
            if isinstance(each, BaseException) and id(each) not in seen:
                seen.add(id(each))
                waiting.append(each)


def _one(error: BaseException) -> Iterator[str]:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):\n"
        yield from _frames(error.__traceback__)
    yield f"{name}: {first_words(message_of(error), _LONGEST_MESSAGE)}\n"


def _frames(last: TracebackType) -> Iterator[str]:
    first: list[TracebackType] = []
    latest: list[TracebackType] = []
    number = 0
    place: TracebackType | None = last
    while place is not None and number < _FARTHEST:
        if number < _SHOWN_FRAMES:
            first.append(place)
        elif len(latest) < 4 * _SHOWN_FRAMES:
            latest.append(place)
        else:
            latest = [*latest[-_SHOWN_FRAMES + 1 :], place]
        number, place = number + 1, place.tb_next
    yield from _drawn(first)
    latest = latest[-_SHOWN_FRAMES:]
    if number > len(first) + len(latest):
        yield f"  {note_of(number - len(first) - len(latest), 'frames')}\n"
    yield from _drawn(latest)


def _drawn(places: list[TracebackType]) -> list[str]:
    summary = traceback.StackSummary.extract((place.tb_frame, place.tb_lineno) for place in places)
    return summary.format()
