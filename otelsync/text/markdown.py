"""Text from outside made fit for Markdown: it reads as it stands, and never becomes markup, a link or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from otelsync.text.printable import printable

_MARKUP: Final = re.compile(r"[\\`*<>\[\]|~&$@]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""Characters that begin something within a line in CommonMark or in GitHub's dialect. Within a word ``_`` does not."""


def text(value: object, width: int | None = 200) -> str:
    """`value` in one line of Markdown, not at its beginning: in a cell, a heading, or behind other text.

    Args:
        value: Anything; what is not a string is shown as ``str`` does.
        width: The most terminal cells, before what must be escaped is. None: no bound.
    """
    return _MARKUP.sub(r"\\\g<0>", printable(value, width)).strip()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table. The cells are Markdown already; a heading that ends in ``:`` stands over numbers."""
    lines = [
        _line([name.removesuffix(":") for name in head]),
        _line(["---:" if name.endswith(":") else "---" for name in head]),
    ]
    return [*lines, *map(_line, rows), ""]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
