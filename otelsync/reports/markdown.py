"""The Markdown of a report: the summary of the run, and one file for each group.

Text from outside goes through `text`: it reads as it stands, and never becomes markup, a link or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from otelsync.reports.comparison import MOST_GROUPS
from otelsync.reports.figures import Group, Summary
from otelsync.reports.items import Items
from otelsync.reports.page import templates
from otelsync.text.printable import printable
from otelsync.text.quantities import duration

if TYPE_CHECKING:
    from jinja2 import Environment

_MARKUP: Final = re.compile(r"[\\`*<>\[\]|~&$@]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""Characters that begin something within a line in CommonMark or in GitHub's dialect. Within a word ``_`` does not."""


def summary_markdown(summary: Summary) -> str:
    """``_SYNC_SUMMARY.md``."""
    return _rendered("summary.md.jinja", summary=summary)


def group_markdown(summary: Summary, group: Group) -> str:
    """The file of one group."""
    return _rendered("group.md.jinja", summary=summary, group=group)


def text(value: object, width: int = 200) -> str:
    """`value` in one line of Markdown, not at its beginning: in a cell, a heading, or behind other text.

    `width` is the most terminal cells, before what must be escaped is.
    """
    return _MARKUP.sub(r"\\\g<0>", printable(value, width)).strip()


def _rendered(template: str, **figures: Any) -> str:
    document = _environment().get_template(template).render(figures)
    return re.sub(r"\n{3,}", "\n\n", document).strip("\n") + "\n"  # sections that are empty leave blank lines


@cache
def _environment() -> Environment:
    environment = templates().overlay(autoescape=False)
    environment.filters = environment.filters | {
        "arrow": _arrow,
        "code": _code,
        "items_line": _items_line,
        "text": text,
    }
    environment.globals = environment.globals | {
        "duration": duration,
        "most_changed": MOST_GROUPS,
    }
    return environment


def _code(line: str) -> str:
    """Return a line of an indented block of code, in which nothing is markup."""
    return f"    {printable(line, 200)}"


def _items_line(items: Items) -> str:
    return text(items.line, 400)


def _arrow(before: object, now: object, written: Callable[[Any], str] = str) -> str:
    """``partial → success``; one word where nothing has changed."""
    then, here = ("none" if value is None else text(written(value)) or "none" for value in (before, now))
    return here if then == here else f"{then} → {here}"
