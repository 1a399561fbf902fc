"""Ends of child processes: those of `multiprocessing` and `billiard` end without `atexit`, and send nothing by then."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from otelsync.hooks.when_imported import when_imported

_LIBRARIES: Final = ("multiprocessing", "billiard")
_LAST: Final = -100
"""Priority of what comes after the program's own finalizers."""


class Children:
    """Calls `end` at the end of each child process of one of these libraries, until it is called off."""

    def __init__(self, end: Callable[[], object]) -> None:
        self._end: Callable[[], object] | None = end
        self._waiting = [when_imported(f"{name}.util", self._watch) for name in _LIBRARIES]

    def call_off(self) -> None:
        """Call nobody any more."""
        self._end = None
        for call_off in self._waiting:
            call_off()

    def _watch(self, util: ModuleType) -> None:
        module: Any = util

        def begin_in_child(children: Children) -> None:
            module.Finalize(None, children.end, exitpriority=_LAST)

        module.register_after_fork(self, begin_in_child)
        process = __import__(module.__package__, fromlist=["process"]).process
        if process.current_process().name != "MainProcess":  # the child itself has called configure()
            begin_in_child(self)

    def end(self) -> None:
        """Call `end`, unless it was called off."""
        if self._end is not None:
            self._end()
