"""Every run that has ended gets its report, from one child process at a time: shipping neither waits nor grows for it.

A report is begun once the end of its run is in the store and, for a moment, no more records of the run have come.
"""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otelsync.hooks.own_messages import own_logger
from otelsync.journal import forks

if TYPE_CHECKING:
    from otelsync.reports.process import ReportProcess

SETTLES: Final = 1.0
"""Seconds without a further record, after which a run that has ended is taken for complete."""
SETTLES_AT_MOST: Final = 30.0
"""Seconds after its end, when a run is reported even if records of it keep coming."""
MOST: Final = 100
"""Runs that can wait for their reports."""
_POLL: Final = 0.02
_PLAIN: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)

_log = own_logger("otelsync.shipping")


@dataclass(slots=True)
class _Due:
    """A run that waits for its report. Times are those of ``time.monotonic()``."""

    name: str
    """The run's name on a command line."""
    ended: float
    last_record: float

    def is_settled(self, now: float) -> bool:
        return now - self.last_record >= SETTLES or now - self.ended >= SETTLES_AT_MOST


class RunReports:
    """The reports that are due, and the process that makes them. For any thread; no method raises, only `close` waits.

    After ``fork()`` nothing is due in the child, and the process that makes reports is its parent's alone.

    Args:
        directory: Where the folders of the reports go.
        environment: All of the environment of the process that makes them.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        with suppress(OSError):  # the current directory is gone; the process that makes reports says so
            directory = directory.absolute()
        self._directory = directory
        self._environment = environment
        self._said: set[str] = set()
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._due: dict[str, _Due] = {}
        self._process: ReportProcess | None = None
        self._left: list[int] = []

    @property
    def pids(self) -> list[int]:
        """The processes that make reports, or did when they were left to themselves."""
        process = self._process
        return self._left if process is None else [*self._left, process.pid]

    def ended(self, sync_id: str, trace_id: str) -> None:
        """The end of a run is in the store, for the first time or again: its report is due."""
        now = time.monotonic()
        # A sync id may be any text; the trace id names the same run.
        due = _Due(sync_id if _PLAIN.fullmatch(sync_id) else trace_id, now, now)
        with self._lock:
            self._due.pop(sync_id, None)
            self._due[sync_id] = due
            is_too_much = len(self._due) > MOST
            if is_too_much:
                del self._due[next(iter(self._due))]
        if is_too_much and self._is_first("too much"):
            _log.warning("%d runs wait for their reports; of older ones none is made but by `otelsync report`", MOST)

    def recorded(self, sync_ids: Collection[str]) -> None:
        """Further records of these runs are in the store."""
        if not self._due:
            return
        now = time.monotonic()
        with self._lock:
            for sync_id in self._due.keys() & sync_ids:
                self._due[sync_id].last_record = now

    def look(self) -> None:
        """Begin what is due, unless something is being made. Called every now and then."""
        if self._due or self._process is not None:
            self._go_on()

    def close(self, deadline: float) -> None:
        """Make all that is due, and wait until `deadline` (``time.monotonic()``). What takes longer goes on alone."""
        self._go_on(at_once=True)
        while self._process is not None and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(_POLL, left))
            self._go_on(at_once=True)
        self._leave()
        self._go_on(at_once=True)  # what came due meanwhile, and would never be made
        self._leave()

    def _go_on(self, *, at_once: bool = False) -> None:
        with self._lock:
            failure = None if self._process is None else self._process.failure()
            if failure is not None:
                self._process = None
            now = time.monotonic()
            ripe = [sync_id for sync_id, due in self._due.items() if at_once or due.is_settled(now)]
            if ripe and self._process is None:
                failure = self._start([self._due.pop(sync_id).name for sync_id in ripe]) or failure
        if failure and self._is_first("failed"):
            _log.warning(
                "a report could not be made: %s; `otelsync report` makes it by hand, OTELSYNC_REPORTS_DIR names another"
                " place for all of them, and with OTELSYNC_REPORTS=off there are none",
                failure,
            )

    def _start(self, names: list[str]) -> str:
        """Begin their reports. Returns why that cannot be; empty if it can."""
        try:
            from otelsync.reports.process import ReportProcess

            self._process = ReportProcess(names, self._directory, self._environment)
        except Exception as error:
            return str(error) or type(error).__name__
        return ""

    def _leave(self) -> None:
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                self._left.append(process.pid)
                process.leave()

    def _is_first(self, what: str) -> bool:
        """Return whether something has not been said yet."""
        is_first = what not in self._said
        self._said.add(what)
        return is_first


_all: weakref.WeakSet[RunReports] = weakref.WeakSet()


def _begin_in_child() -> None:
    for reports in list(_all):
        reports._begin()


forks.in_child(_begin_in_child)
