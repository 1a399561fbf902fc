"""Verbosity: levels of records by logger and event, and a file by which they are changed while a program runs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import orjson

from otelsync.hooks.descriptors import read_above
from otelsync.hooks.harmless import harmless
from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.own_messages import own_logger
from otelsync.levels import EVERYTHING, level_name, parse

FILE: Final = "verbosity.json"
"""In a journal directory: what the processes that write there are to let through."""

_LOOK_EVERY: Final = 1.0
"""Seconds."""
_LARGEST: Final = 64 * 1024
_MOST: Final = 256

_log = own_logger("otelsync")


class Levels:
    """A least level, and others by the beginning of a logger's or an event's name.

    Args:
        least: What no other level is for.
        others: By whole parts of a name, up to a dot: ``sync.pr`` is for ``sync.pr.failed`` and not for ``sync.prx``.
            The longest counts.
    """

    __slots__ = ("least", "lowest", "others")

    def __init__(self, least: int, others: Mapping[str, int] | None = None) -> None:
        self.others = dict(others or {})
        self.least = self.others.pop(EVERYTHING, least)
        self.lowest = min((self.least, *self.others.values()))

    def of(self, logger: str, event: str) -> int:
        """The least level of records of this logger and event."""
        names = (f"{logger}.", f"{event}.")
        found = [name for name in self.others if any(each.startswith(f"{name}.") for each in names)]
        return self.others[max(found, key=len)] if found else self._of_its_own(logger)

    def _of_its_own(self, logger: str) -> int:
        """A logger of the standard library to which the program itself gave a lower level keeps that."""
        known = logging.Logger.manager.loggerDict
        least = self.least
        while logger:
            its_own = known.get(logger)
            if isinstance(its_own, logging.Logger) and its_own.level:
                return min(least, its_own.level)
            logger = logger.rpartition(".")[0]
        return least

    def changed(self, others: Mapping[str, int]) -> Levels:
        """These levels, with others that go before them."""
        return Levels(self.least, {**self.others, **others}) if others else self


# The file


def write(directory: Path, levels: Mapping[str, int], until: float | None = None) -> None:
    """Change what the processes of a journal directory let through; with no levels, as they were told before.

    Args:
        directory: The journal directory.
        levels: By the beginning of a name.
        until: In epoch seconds, when that ends; None: not by itself.

    Raises:
        OSError: The file cannot be written.
    """
    path = directory / FILE
    if not levels:
        path.unlink(missing_ok=True)
        return
    draft = directory / f"{FILE}.{os.getpid()}.tmp"
    text = orjson.dumps({"levels": {name: level_name(level) for name, level in levels.items()}, "until": until})
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(text)
    draft.replace(path)


def read(directory: Path) -> tuple[dict[str, int], float | None]:
    """Read the levels that were last written and have not ended yet, and when they end.

    Raises:
        ValueError: The file holds something else.
    """
    try:
        text = read_above(directory / FILE, _LARGEST + 1)
    except OSError as error:
        hand_back(error)
        return {}, None
    document = orjson.loads(text) if len(text) <= _LARGEST else None
    said = document.get("levels") if isinstance(document, dict) else None
    until = document.get("until") if isinstance(document, dict) else None
    if not isinstance(said, dict) or len(said) > _MOST or not isinstance(until, (int, float, type(None))):
        raise ValueError("it holds no levels")
    levels = parse(f"{name}={level}" for name, level in said.items())
    return ({}, None) if until is not None and until <= time.time() else (levels, until)


class Watch:
    """Notices changes of a journal directory's file, and when its time is over: `apply` is told the levels in force."""

    def __init__(self, directory: Path, apply: Callable[[Mapping[str, int]], None]) -> None:
        self._directory = directory
        self._path = str(directory / FILE)
        self._apply = apply
        self._next_look = 0.0
        self._seen: tuple[int, int, int] | None = None
        self._levels: dict[str, int] = {}
        self._until: float | None = None

    @harmless
    def look(self) -> None:
        """Look whether the file has changed, if the last look is a second ago."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY
        try:
            status = os.stat(self._path)  # noqa: PTH116  # a Path takes twice as long
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError as error:
            hand_back(error)
            seen = None
        if seen != self._seen or (self._until is not None and time.time() >= self._until):
            self._seen = seen
            try:
                levels, self._until = read(self._directory)
            except ValueError as error:
                _log.warning("%s is left alone: %s", self._path, error)
                return
            if levels != self._levels:
                self._levels = levels
                self._apply(levels)
