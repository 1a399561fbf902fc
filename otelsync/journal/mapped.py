"""A mapped journal file without the C extension: the same methods, and no descriptor is kept here either."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from struct import Struct
from time import monotonic_ns
from typing import Any, Final
from zlib import crc32

from otelsync.hooks.descriptors import open_above
from otelsync.hooks.host_errors import hand_back
from otelsync.journal import forks
from otelsync.journal.format import COMMITTED_AT, FRAME, HEADER, HEADER_SIZE, LARGEST_RECORD, STATE_AT
from otelsync.journal.native import HAS_GIL

with contextlib.suppress(ImportError):  # a system without it has no journals, and imports this all the same
    import mmap

Record = tuple[int, int, bytes]
"""Kind, ref and body."""

_u64: Final = Struct("<Q")
_pack_frame: Final = FRAME.pack
_mark: Final = forks.mark
_KINDS: Final = 16


class Mapped:
    """A new file of so many bytes, reserved and mapped: a hole would turn a full disk into SIGBUS.

    Args:
        path: A file that does not exist yet.
        size: How many bytes.
        header: The fixed part of its header.
        generation: The process that it belongs to; see :mod:`otelsync.journal.forks`.

    Raises:
        OSError: It could not be made; nothing is left behind.
    """

    def __init__(self, path: str, size: int, header: bytes, generation: int) -> None:
        self.size = size
        self.offset = HEADER_SIZE
        self.known_scopes = 0
        self.next_look = 0
        self.defined = 0
        self.generation = generation
        self._records = [0] * _KINDS
        # Read-only until the header is there: so readers know one whose process was killed meanwhile.
        fd = open_above(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o400)
        try:
            try:
                _reserve(fd, size)
                status = os.fstat(fd)
                self._view, self._unmap = _map(fd, size)
                self._view[: len(header)] = header
                self._committed = self._view[COMMITTED_AT : COMMITTED_AT + 8].cast("Q")
                self._committed[0] = HEADER_SIZE
                os.fchmod(fd, 0o600)
            finally:
                os.close(fd)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108  (the innermost call is ours: see host_errors)
            raise
        self.device, self.inode = status.st_dev, status.st_ino

    def append(self, kind: int, ref: int, body: bytes) -> bool:
        """Append a record; False where its scope is not known here, a look at the file is due, or it does not fit."""
        return monotonic_ns() < self.next_look and self._put(kind, ref, body, ref, None)

    def define(self, kind: int, ref: int, body: bytes) -> bool:
        """Append a definition; False where it does not fit."""
        if not self._put(kind, ref, body, -1, None):
            return False
        self.defined += 1
        return True

    def take(self, records: list[Record]) -> bool:
        """Move the first of `records` into the file; False where it does not fit."""
        kind, ref, body = records[0]
        return self._put(kind, ref, body, -1, records)

    def _put(self, kind: int, ref: int, body: bytes, scope: int, records: list[Record] | None) -> bool:
        """Put a record into the file, in one step for threads, signal handlers and finalizers.

        From the look at the offset to the commit there is no call, so CPython can neither switch threads nor run a
        signal handler: both happen only behind calls, at function entry and on backward jumps. And no object is made
        there that garbage collection follows, as a slice is: 3.11 collects while it makes one. (A test holds the byte
        code to that.) This spares a lock, the dearest part of an append.
        """
        frame = _pack_frame(len(body), crc32(body, kind | ref << 8), kind, 0, ref) + body
        length = len(frame)
        if length > LARGEST_RECORD:
            return False
        while True:
            at = self.offset
            end = at + length
            place = slice(at, end)
            if _mark[0] != self.generation:
                return False
            # One step: there is no call in it.
            if end > self.size or scope >= self.known_scopes:
                return False
            if self.offset == at:
                self._view[place] = frame
                self.offset = end
                self._committed[0] = end
                self._records[kind] += 1
                if records is not None:
                    del records[0]
                return True

    def holds(self, kind: int, ref: int, body: bytes) -> bool:
        """Return whether such a record stands in the file."""
        frame = _pack_frame(len(body), crc32(body, kind | ref << 8), kind, 0, ref) + body
        return self.size > 0 and frame in bytes(self._view[HEADER_SIZE : self.offset])

    def store(self, at: int, number: int) -> None:
        """Put a number into the header."""
        if self.size and _mark[0] == self.generation:
            self._view[at : at + 8] = _u64.pack(number)

    def continue_from(self, other: Any) -> None:
        """Hold all that another file holds, and go on from there."""
        for start, end in ((HEADER_SIZE, other.offset), (HEADER.size, COMMITTED_AT), (STATE_AT, HEADER_SIZE)):
            self._view[start:end] = other._view[start:end]
        self._records = list(other._records)
        self.defined = other.defined
        self.offset = other.offset
        self._committed[0] = self.offset

    def recorded(self, kind: int) -> int:
        """Return how many records of a kind were put into the file."""
        return self._records[kind]

    def release(self) -> None:
        """Unmap the file; nothing is written any more."""
        if self.size:
            self.size = 0
            self._committed.release()
            self._view.release()
            self._unmap()


if not HAS_GIL:
    Mapped.append = lambda *_: False  # type: ignore[method-assign]  # all take the lock


def shorten(path: str, device: int, inode: int, size: int) -> None:
    """Cut a file, unless another one has its name. Raises OSError."""
    fd = open_above(path, os.O_WRONLY)
    try:
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) == (device, inode):
            os.ftruncate(fd, size)
    finally:
        os.close(fd)


def _reserve(fd: int, size: int) -> None:
    """Let the disk set aside `size` bytes, or say now that it cannot. Where there is no such call, write them."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    for start in range(0, size, 65536):
        os.pwrite(fd, bytes(min(65536, size - start)), start)


def _map(fd: int, size: int) -> tuple[memoryview, Callable[[], object]]:
    """Map a file, and say how to unmap it.

    Python's own ``mmap`` keeps a duplicate of the descriptor before 3.13, and closes it by its number.
    """
    mapping: Any
    if sys.version_info >= (3, 13):
        mapping = mmap.mmap(fd, size, trackfd=False)
        return memoryview(mapping), mapping.close
    mapped = _map_through_libc(fd, size)
    if mapped is not None:
        return mapped
    mapping = mmap.mmap(fd, size)
    return memoryview(mapping), mapping.close


def _map_through_libc(fd: int, size: int) -> tuple[memoryview, Callable[[], object]] | None:
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        number = ctypes.c_int
        libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, number, number, number, ctypes.c_long)
        libc.mmap.restype = ctypes.c_void_p
        libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    except (ImportError, AttributeError, OSError) as error:  # no ctypes, or no POSIX
        hand_back(error)
        return None
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    view = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
    return view, lambda: libc.munmap(address, size)
