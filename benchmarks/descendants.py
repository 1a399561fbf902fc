"""The CPU of a process with all that came of it, detached ones such as otelsync's shipper included."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM, _REAPED_USER, _REAPED_SYSTEM = 11, 12, 13, 14
"""Fields of ``/proc/PID/stat`` after the name, in ticks of the clock; source: proc(5)."""


def adopt_descendants() -> None:
    """Become the parent of what a child leaves behind, as a shipper that has detached itself is.

    Raises:
        OSError: The system has no such call; only Linux has.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def cpu_seconds() -> float:
    """Return the CPU that this process and its descendants have taken, those that have been reaped included."""
    uses = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses) + sum(_taken_by(pid) for pid in _descendants(os.getpid()))


def wait_for_descendants() -> None:
    """Wait until all of them have ended. Those that were adopted are reaped here."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield int(child)
            yield from _descendants(int(child))


def _taken_by(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(fields[at]) for at in (_USER, _SYSTEM, _REAPED_USER, _REAPED_SYSTEM)) / _TICKS
