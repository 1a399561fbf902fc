"""Ends of child processes that come without `atexit`: those of `multiprocessing`, and of the pools of Celery."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from otelsync.hooks.when_imported import when_imported

_LAST: Final = -100
"""Priority of what comes after the program's own finalizers."""
_MAIN: Final = "MainProcess"


class Children:
    """Calls `end` at the end of each such child process, until it is called off."""

    def __init__(self, end: Callable[[], object]) -> None:
        self._end: Callable[[], object] | None = end
        self._signal: Any = None
        self._waiting = [
            when_imported("multiprocessing.util", self._watch_processes),
            when_imported("celery.signals", self._watch_pools),
        ]

    def call_off(self) -> None:
        """Call nobody any more."""
        self._end = None
        for call_off in self._waiting:
            call_off()
        if self._signal is not None:
            self._signal.disconnect(self._end_in_pool)

    def end(self) -> None:
        """Call `end`, unless it was called off."""
        if self._end is not None:
            self._end()

    def _watch_processes(self, util: ModuleType) -> None:
        """Leave a finalizer in each child: what the parent has left there, a child forgets."""
        module: Any = util

        def begin_in_child(children: Children) -> None:
            module.Finalize(None, children.end, exitpriority=_LAST)

        module.register_after_fork(self, begin_in_child)
        if import_module("multiprocessing").current_process().name != _MAIN:  # the child itself has called configure()
            begin_in_child(self)

    def _watch_pools(self, signals: ModuleType) -> None:
        """Wait for Celery's word: processes of its pool end by ``os._exit``."""
        self._signal = signals.__dict__["worker_process_shutdown"]
        self._signal.connect(self._end_in_pool, weak=False)

    def _end_in_pool(self, **_: object) -> None:
        self.end()
