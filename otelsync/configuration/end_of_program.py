"""The end of a program: whether what it has started can outlive it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_FIRST_NAMESPACE: Final = "pid:[4026531836]"
"""The machine's own processes: PROC_PID_INIT_INO of Linux's ``include/linux/proc_ns.h``."""
_MARKS: Final = ("/.dockerenv", "/run/.containerenv")


def ends_with_program() -> bool:
    """Return whether the shipper may be ended together with the program, as in a container with its first process.

    True too where that cannot be known.
    """
    if os.getpid() == 1 or "KUBERNETES_SERVICE_HOST" in os.environ or any(Path(mark).exists() for mark in _MARKS):
        return True
    try:
        return os.readlink("/proc/self/ns/pid") != _FIRST_NAMESPACE  # noqa: PTH115  (a link to no path)
    except OSError:
        return True
