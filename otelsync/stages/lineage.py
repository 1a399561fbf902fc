"""Generations of processes: stages that were open at a fork belong to the parent, and not to the child."""

from __future__ import annotations

import threading

from otelsync.hooks.forking import when_forked
from otelsync.journal import forks as fork_notices

generation = 1
"""Number of this process among its ancestors; a forked child has the next one."""
forks = 0
"""Number of times that this process let others go on with its stages: forks, and publishes of tasks."""
rolling_up = threading.RLock()
"""Held while a stage closes or takes the figures of another. Reentrant: a signal or the collector may end a stage."""


def share() -> None:
    """Note that other processes may record parts of the stages that are open here."""
    global forks
    forks += 1


def _begin_in_child() -> None:
    global generation, forks, rolling_up
    generation += 1
    forks = 0
    rolling_up = threading.RLock()  # no thread of the parent's is here to release its own


fork_notices.in_child(_begin_in_child)
when_forked(after_in_parent=share)
