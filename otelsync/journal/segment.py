"""One mapped journal file: made, watched over, and cut to what it holds."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from struct import Struct
from typing import Final

from otelsync.journal.belonging import hand_over
from otelsync.journal.format import COMMITTED_AT, DROPPED_AT, HEADER, HEADER_SIZE, MAGIC, STATE_AT, VERSION
from otelsync.journal.process_identity import boot_id, start_ticks

_u64: Final = Struct("<Q")


def make_private(directory: Path) -> None:
    """Make a directory, and those above it that are missing, for this user alone.

    Raises:
        OSError: It cannot be made.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        hand_over(path)


def _reserve(fd: int, size: int) -> None:
    """Let the disk set aside `size` bytes, or say now that it cannot. Where there is no such call, write them."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    for start in range(0, size, 65536):
        os.pwrite(fd, bytes(min(65536, size - start)), start)


class Segment:
    """One mapped journal file.

    Args:
        path: A file that does not exist yet.
        sequence: Its place in the series.
        size: How many bytes to reserve: a hole would turn a full disk into SIGBUS.

    Raises:
        OSError: It could not be made; nothing is left behind.
    """

    def __init__(self, path: Path, sequence: int, size: int) -> None:
        self.path = path
        self.size = size
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            _reserve(self.fd, size)
            self.map = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            path.unlink(missing_ok=True)
            raise
        pid = os.getpid()
        self.map[: HEADER.size] = HEADER.pack(
            MAGIC, VERSION, HEADER_SIZE, pid, sequence, start_ticks(pid), boot_id(), time.time_ns()
        )
        self._view = memoryview(self.map)
        self.committed = self._view[COMMITTED_AT : COMMITTED_AT + 8].cast("Q")
        self.committed[0] = HEADER_SIZE

    def harm(self) -> str:
        """Return what somebody did to the file: "" (nothing), "removed" or "shortened"."""
        status = os.fstat(self.fd)
        if status.st_size < self.size:
            return "shortened"
        return "" if status.st_nlink else "removed"

    def add_dropped(self, index: int, count: int) -> None:
        """Add to a counter of dropped records; `index` is reason * 2 + signal."""
        at = DROPPED_AT + index * 8
        self.map[at : at + 8] = _u64.pack(_u64.unpack_from(self.map, at)[0] + count)

    def set_state(self, state: int) -> None:
        """Tell readers whether more will come: OPEN, SEALED or CLOSED."""
        self.map[STATE_AT : STATE_AT + 8] = _u64.pack(state)

    def release(self, shrink_to: int | None = None) -> None:
        """Unmap and close the file, cut to `shrink_to` bytes if given."""
        self.committed.release()
        self._view.release()
        self.map.close()
        try:
            if shrink_to is not None:
                os.ftruncate(self.fd, shrink_to)
        finally:
            os.close(self.fd)
