"""One journal file that is being written: made, looked after, and cut to what it holds."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otelsync.journal import forks, mapped
from otelsync.journal.belonging import hand_over
from otelsync.journal.format import (
    CLOSED,
    DROPPED_AT,
    HEADER,
    HEADER_SIZE,
    LOG,
    MAGIC,
    SPAN,
    SPAN_END,
    STATE_AT,
    VERSION,
)
from otelsync.journal.native import native
from otelsync.journal.process_identity import boot_id, start_ticks

if TYPE_CHECKING:
    from otelsync.journal import _native

    Mapped = _native.Mapped
    _shorten = _native.shorten
else:
    Mapped, _shorten = (native.Mapped, native.shorten) if native else (mapped.Mapped, mapped.shorten)

COUNTERS: Final = 16
"""Of dropped records in a header: reason * 2 + signal."""


class Segment(Mapped):
    """A new journal file, empty and open.

    Args:
        path: Where; nobody else may give files such a name.
        sequence: Its place in the series.
        size: How many bytes to reserve.
        generation: The process that it belongs to.
        counted: The dropped records, by counter, that stand in earlier files of the series.

    Raises:
        OSError: It could not be made; nothing is left behind.
    """

    def __init__(self, path: Path, sequence: int, size: int, generation: int, counted: Sequence[int]) -> None:
        self.path = path
        self.counted = counted
        self.is_missing = False
        """True if somebody removed it, and it cannot be put back now."""
        self._shown = [0] * COUNTERS
        pid = os.getpid()
        header = HEADER.pack(MAGIC, VERSION, HEADER_SIZE, pid, sequence, start_ticks(pid), boot_id(), time.time_ns())
        try:
            super().__init__(str(path), size, header, generation)
        except FileExistsError:  # of our own, made before something interrupted us; nothing was written to it
            os.unlink(path)  # noqa: PTH108  (the innermost call is ours: see host_errors)
            super().__init__(str(path), size, header, generation)

    def harm(self) -> str:
        """Return what somebody did to the file: "" (nothing), "removed" or "shortened". Raises OSError."""
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            return "removed"
        except PermissionError:  # the process has become another user's; what is mapped stays
            return ""
        if (status.st_dev, status.st_ino) != (self.device, self.inode):
            return "removed"
        return "shortened" if status.st_size < self.size else ""

    def show_dropped(self, counts: Sequence[int]) -> None:
        """Let the header say what was dropped in all but is in no earlier file; to repeat it changes nothing."""
        for index, count in enumerate(counts):
            shown = count - self.counted[index]
            if shown != self._shown[index]:
                self.store(DROPPED_AT + index * 8, shown)
                self._shown[index] = shown

    def shows(self, counts: Sequence[int]) -> bool:
        """Return whether the header says of these counts all that earlier files do not."""
        return all(
            count == before + shown for count, before, shown in zip(counts, self.counted, self._shown, strict=True)
        )

    def counted_so_far(self) -> list[int]:
        """Return the dropped records, by counter, that stand in this file, if it is there, and in earlier ones."""
        if self.is_missing:
            return list(self.counted)
        return [before + shown for before, shown in zip(self.counted, self._shown, strict=True)]

    def lost(self, *, is_lost: bool = False) -> tuple[int, int]:
        """Return how many spans and log records are lost with the file, if it is missing or otherwise lost."""
        if not (is_lost or self.is_missing) or self.generation != forks.mark[0]:
            return 0, 0
        return self.recorded(SPAN) + self.recorded(SPAN_END), self.recorded(LOG)

    def finish(self, state: int | None) -> None:
        """Write no more: tell readers so, unmap the file, and cut a closed one. May be repeated. Raises OSError."""
        if state is not None:
            self.store(STATE_AT, state)
        self.release()
        if state == CLOSED:
            # All was shipped, and it was deleted; or the process has become another user's than the file.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                _shorten(str(self.path), self.device, self.inode, self.offset)


def make_private(directory: Path) -> None:
    """Make a directory, and those above it that are missing, for this user alone.

    Raises:
        OSError: It cannot be made.
    """
    missing = []
    for path in (directory, *directory.parents):
        try:
            os.stat(path)  # noqa: PTH116  (the innermost call is ours: see host_errors)
            break
        except FileNotFoundError:
            missing.append(path)
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.mkdir(path, 0o700)  # noqa: PTH102
            hand_over(path)
