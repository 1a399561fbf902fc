"""Text from outside made fit for a terminal: nothing that moves a cursor, hides, reorders or floods gets through."""

from __future__ import annotations

import unicodedata

_MARK = "…"
"""Stands for what was cut off."""
_MOST_COMBINING = 2
"""Marks on one letter; more of them paint over the neighbouring lines."""


def printable(text: object, width: int | None = None) -> str:
    """`text` on one line, with everything that is not plainly visible as a Python escape such as ``\\x1b``.

    Control characters, terminal escapes, line breaks, bidirectional overrides, invisible characters, lone surrogates
    and unassigned code points are shown by their code.

    Args:
        text: Anything; what is not a string is shown as ``str`` does.
        width: The most terminal cells to use; what does not fit is replaced by ``…``. None: no bound.
    """
    text = text if isinstance(text, str) else str(text)
    if width is not None and len(text) > width + 1:
        text = text[: width + 1 + width * _MOST_COMBINING]  # no need to look at megabytes
    if not (text.isascii() and text.isprintable()):
        text = "".join(_visible(text))
    return text if width is None else cut(text, width)


def cut(text: str, width: int) -> str:
    """`text`, which is printable, in at most `width` terminal cells."""
    if text.isascii():
        if len(text) <= width:
            return text
        return text[: width - 1] + _MARK if width > 0 else ""
    if cells(text) <= width:
        return text
    taken = 0
    for index, character in enumerate(text):
        taken += _cells(character)
        if taken > width - 1:
            return text[:index] + _MARK if width > 0 else ""
    return text


def wrapped(text: str, width: int | None) -> list[str]:
    """`text`, which is printable, in pieces of at most `width` terminal cells, broken at spaces if there are some."""
    pieces = []
    while width is not None and cells(text) > width:
        fitting = cut(text, max(width, 2) + 1)[:-1] or text[0]
        space = fitting.rstrip().rfind(" ")
        if space > len(fitting) // 2 and not text[len(fitting)].isspace():
            fitting = fitting[: space + 1]
        pieces.append(fitting.rstrip())
        text = text[len(fitting) :]
    return [*pieces, text]


def pad(text: str, width: int) -> str:
    """`text`, which is printable, in exactly `width` terminal cells."""
    text = cut(text, width)
    return text + " " * (width - cells(text))


def cells(text: str) -> int:
    """Return the number of terminal cells that printable text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _visible(text: str) -> list[str]:
    out = []
    marks = _MOST_COMBINING  # a mark at the beginning would be put on what stands before the text
    for character in text:
        if not character.isprintable():
            marks = _MOST_COMBINING
        elif _cells(character) == 0:
            marks += 1
            if marks <= _MOST_COMBINING:
                out.append(character)
                continue
        else:
            marks = 0
            out.append(character)
            continue
        out.append(character.encode("unicode_escape").decode("ascii"))
    return out
