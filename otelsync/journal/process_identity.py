"""The identity of a process: its start time and the boot, which tell it from later ones with the same number."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from otelsync.hooks.descriptors import read_above

_MOST: Final = 4096
"""Bytes of such a file, at most."""


class Writer(NamedTuple):
    """The process that writes a journal."""

    pid: int
    start_ticks: int
    """Field 22 of ``/proc/<pid>/stat``; 0 where there is no ``/proc``."""
    boot_id: bytes
    """16 bytes; zeros where unknown."""

    def alive(self) -> bool:
        """Return whether that very process still runs, and not another one with its number."""
        if any(self.boot_id) and self.boot_id != boot_id():
            return False
        if self.start_ticks and Path("/proc/self/stat").exists():
            return _ticks_if_running(self.pid) == self.start_ticks
        return _answers(self.pid)


def own_writer() -> Writer:
    """Return this process, as it would stand in a journal's header."""
    return Writer(os.getpid(), _ticks_if_running(os.getpid()) or 0, boot_id())


@cache
def start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 where there is no ``/proc``.

    Source: proc_pid_stat(5), field 22. The name in field 2 may hold anything, so fields count from its last bracket.
    """
    try:
        stat = read_above(f"/proc/{pid}/stat", _MOST)
    except OSError:
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


@cache
def boot_id() -> bytes:
    """Return the id of this boot of the kernel, 16 bytes; zeros where it cannot be had."""
    try:
        return bytes.fromhex(read_above("/proc/sys/kernel/random/boot_id", _MOST).decode().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


def _ticks_if_running(pid: int) -> int | None:
    """Return when process `pid` began, in clock ticks after boot; None if it does not run (any more)."""
    try:
        fields = read_above(f"/proc/{pid}/stat", _MOST).rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return pid > 0
