"""Notice that this process is a forked child, whoever forked it: Python, or C code that calls none of its hooks.

A page of memory that the kernel wipes in every child (``MADV_WIPEONFORK``, Linux 4.14) holds the number of this process
in its line: a 0 there says that this is a child which has not noticed yet. To read it costs as much as an index into a
list, where asking for the process id is a system call. Where there is no such page, the process id is asked for.

uwsgi forks its workers from C, as do other servers that embed Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Protocol

from otelsync.hooks.host_errors import hand_back
from otelsync.journal.native import native

_WIPE_ON_FORK: Final = 18
"""``MADV_WIPEONFORK`` of ``asm-generic/mman-common.h``, the same on every architecture of Linux that runs Python."""


class Mark(Protocol):
    """The number of this process, as its item 0."""

    def __getitem__(self, index: int, /) -> int: ...


class _ProcessId:
    def __getitem__(self, index: int, /) -> int:
        return os.getpid()


def _page() -> memoryview | None:
    try:
        import mmap

        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (ImportError, AttributeError, OSError, ValueError) as error:  # another operating system, or an older kernel
        hand_back(error)
        return None
    return memoryview(page).cast("Q")


_wiped: Final = _page()
mark: Final[Mark] = _ProcessId() if _wiped is None else _wiped
"""Item 0 is :func:`generation`, and in a forked child something else until it has noticed."""

_renewals: list[Callable[[], object]] = []
_due: list[Callable[[], object]] = []
_noticed = 0


def generation() -> int:
    """Return a number that neither this process's forefathers nor its children have; what is due in a child is done."""
    number = mark[0]
    if number != _noticed or not number:
        number = _notice()
    while _due:
        _renew()
    return number


def in_child(renew: Callable[[], object]) -> None:
    """Call `renew` in every forked child, in order, before it uses otelsync. It must be quick, and may be repeated."""
    _renewals.append(renew)


def _notice() -> int:
    global _noticed, _due
    due = _renewals[::-1] if _noticed else []
    number = os.getpid() if _wiped is None else 0
    # One step for signal handlers and for other threads, as there is no call in it.
    if _wiped is None:
        if number != _noticed:
            _due, _noticed = due, number
    elif not _wiped[0]:
        _due, _noticed = due, _noticed + 1
        _wiped[0] = _noticed

    return _noticed


def _renew() -> None:
    try:
        renew = _due.pop()
    except IndexError:  # another thread was faster
        return
    is_done = False
    try:
        renew()
        is_done = True
    finally:
        if not is_done:  # the exception of a signal handler came between
            _due.append(renew)


generation()
if native is not None:
    native.watch_forks(_wiped, generation)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=generation)
