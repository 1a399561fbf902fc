"""Room in a journal directory: what the bounds leave for one more file, looked at without stopping the program."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic
from typing import Final

from otelsync.journal import disk_errors
from otelsync.journal.format import SUFFIX

_AT_ONCE: Final = 512
"""Files of others whose sizes are asked for at a time: a few milliseconds on a slow machine."""
_LIST_EVERY: Final = 1.0
"""Seconds between two looks at the names in the directory, at least; and a hundred times what one look takes."""


class Room:
    """The bounds on a journal directory, and what stands in it.

    Args:
        directory: The journal directory.
        most: Bytes that the files of one process may have.
        most_of_all: Bytes that all files may have.
    """

    def __init__(self, directory: Path, most: int, most_of_all: int) -> None:
        self._directory = str(directory)
        self._most = most
        self._most_of_all = most_of_all
        self._own: dict[str, str] = {}
        """Path by name: some may be in a spool."""
        self._sizes: dict[str, int] = {}
        self._others = 0
        self._to_see: list[str] = []
        self._next_list = 0.0

    def left(self) -> int:
        """Return the bytes that the bounds leave for one more file.

        The sizes of others' files are asked for a few hundred at a time; those that were not seen yet count as the mean
        of those that were.
        """
        own = [(name, size) for name, path in self._own.items() if (size := _size(path)) is not None]
        self._own = {name: self._own[name] for name, _ in own}
        self._look_at_others()
        others = sum(self._sizes.values())
        if self._sizes and self._others > len(self._sizes):
            others = others * self._others // len(self._sizes)
        mine = sum(size for _, size in own)
        return min(self._most - mine, self._most_of_all - mine - others)

    def made(self, path: Path) -> None:
        """Note a file of our own."""
        self._own[path.name] = str(path)

    def _look_at_others(self) -> None:
        began = monotonic()
        if not self._to_see and began >= self._next_list:
            self._list()
            self._next_list = began + max(_LIST_EVERY, 100 * (monotonic() - began))
        seen, self._to_see = self._to_see[:_AT_ONCE], self._to_see[_AT_ONCE:]
        for name in seen:
            size = _size(f"{self._directory}/{name}")
            if size is not None:
                self._sizes[name] = size

    def _list(self) -> None:
        try:
            names = os.listdir(self._directory)  # noqa: PTH208  (the innermost call is ours: see host_errors)
        except OSError as error:
            disk_errors.expect(error)
            names = []
        others = [name for name in names if name.endswith(SUFFIX) and name not in self._own]
        known = self._sizes
        self._sizes = {name: known[name] for name in others if name in known}
        self._to_see = [name for name in others if name not in known] + list(self._sizes)
        self._others = len(others)


def _size(path: str) -> int | None:
    try:
        return os.lstat(path).st_size
    except OSError as error:
        disk_errors.expect(error)
        return None
