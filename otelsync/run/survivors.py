"""The processes of a run that go on when its program has ended, such as the daemons of ``celery multi``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from otelsync.journal.names import list_segments

_PR_SET_CHILD_SUBREAPER: Final = 36
_PYTHON: Final = re.compile(r"python|pypy|uwsgi")


def adopt_orphans() -> None:
    """Become the parent of every process of the run that loses its own: prctl(2), PR_SET_CHILD_SUBREAPER."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return  # then daemons of this run are not noticed


def survivors(directory: Path, *, besides: Collection[int] = ()) -> list[int]:
    """Our own children that may still record: they run Python, or write a journal in the directory.

    `besides`: the processes of which it is known that they record nothing.
    """
    writing = {segment.pid for segments in list_segments(directory).values() for segment in segments}
    return [pid for pid in _children() if pid not in besides and (pid in writing or _runs_python(pid))]


def ship_detached(arguments: Sequence[str]) -> int:
    """Start an ``otelsync ship`` that is nobody's child and outlives us; returns its process id."""
    silence = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "otelsync.cli", "ship", *arguments],
        os.environ,
        file_actions=silence,
        setsid=True,
        setsigmask=[],
    )


def _children() -> Iterator[int]:
    ours = os.getpid()
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  (no Path for each process)
    except OSError:
        return
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            continue
        state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
        if int(parent) == ours and state not in (b"Z", b"X"):
            yield pid


def _runs_python(pid: int) -> bool:
    try:
        return _PYTHON.match(Path(f"/proc/{pid}/exe").readlink().name) is not None
    except OSError:
        return False
