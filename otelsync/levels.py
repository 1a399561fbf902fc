"""Log levels: their numbers and names, and levels for loggers and events whose names begin alike."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50
LEVELS: Final = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL}
EVERYTHING: Final = "*"
"""In place of the beginning of a name: the least level itself."""

_BY_NAME: Final = {**LEVELS, "warn": WARNING, "fatal": CRITICAL}
METHODS: Final = {**_BY_NAME, "exception": ERROR}
"""Methods of loggers, and the levels they log at."""
_NAMES: Final = {number: name.upper() for name, number in LEVELS.items()}
_NAME: Final = re.compile(r"\*|[^\s=,*]{1,200}")


def level_of(text: str) -> int:
    """Return the number of a level.

    Raises:
        ValueError: There is no level of this name.
    """
    number = _BY_NAME.get(text.strip().lower())
    if number is None:
        raise ValueError("use DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return number


def level_name(level: int) -> str:
    """Return ``DEBUG`` for 10."""
    return _NAMES.get(level, str(level))


def parse(pairs: Iterable[str]) -> dict[str, int]:
    """Read levels such as ``sync.pr=WARNING``. A level alone is for everything.

    Raises:
        ValueError: A pair names no logger or event, or no level.

    >>> parse(["sync.pr=WARNING", "DEBUG"])
    {'sync.pr': 30, '*': 10}
    """
    levels = {}
    for pair in pairs:
        name, given, level = pair.rpartition("=")
        name = name.strip() if given else EVERYTHING
        if not _NAME.fullmatch(name):
            raise ValueError(f"{pair!r} names no logger or event; write it as sync.pr=WARNING")
        try:
            levels[name] = level_of(level)
        except ValueError as error:
            raise ValueError(f"{level!r} is no level; {error}") from None
    return levels
