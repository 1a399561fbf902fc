"""Lines of styled text, drawn by rich on a terminal and plainly anywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO, TYPE_CHECKING, NamedTuple

from otelsync.text.colors import is_forced
from otelsync.text.printable import cells, cut

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


class Piece(NamedTuple):
    """Printable text and the name of a rich style."""

    text: str
    style: str = ""


Line = Sequence[Piece]
Painter = Callable[[Line], None]


def painter(*, width: int, color: bool, file: IO[str] | None = None) -> Painter:
    """A function that draws one line of at most `width` cells to `file` (standard output)."""
    file = sys.stdout if file is None else file
    if color:
        console = console_on(file, width)
        return lambda line: console.print(styled(line, width), soft_wrap=True)
    encoding = getattr(file, "encoding", None) or "utf-8"

    def draw(line: Line) -> None:
        text = cut("".join(piece.text for piece in line).rstrip(), width)
        # A terminal or file that is not UTF-8 shows the code of what it does not have.
        file.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")

    return draw


def console_on(file: IO[str], width: int | None = None) -> Console:
    """Return rich's console for a terminal: it takes text as it stands, without markup or emoji."""
    from rich.console import Console

    make = partial(Console, file=file, width=width, force_terminal=True, highlight=False, markup=False, emoji=False)
    console = make()
    if console.color_system is None and is_forced(os.environ):  # rich has no colours for a dumb terminal
        return make(color_system="standard")
    return console


def styled(line: Line, width: int) -> Text:
    """Return a line as rich's text, cut to `width` cells."""
    from rich.text import Text

    left = width
    text = Text(no_wrap=True)
    for piece in line:
        fitting = cut(piece.text, left)
        left -= cells(fitting)
        text.append(fitting, piece.style or None)
    text.rstrip()
    return text
