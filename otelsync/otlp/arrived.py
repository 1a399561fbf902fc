"""Records that have arrived, though others that were sent with them have not, and all are to be given again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from otelsync.otlp.request import Run

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of the records that are remembered. Beyond that the oldest are forgotten, and may be sent twice."""

_Record = tuple[bytes, bytes, bytes]
"""Its resource, its scope and its body."""


class Arrived:
    """A memory of such records, until they are given again. Lost with the process, and then they are sent twice.

    Something else may be given in between, as the files of one process are not always the first in turn.
    """

    def __init__(self) -> None:
        self._records: Counter[_Record] = Counter()
        self._bytes = 0
        self._partial = 0
        """Number of those that the endpoint has rejected in an otherwise successful answer."""

    def note(self, runs: Iterable[Run], partial: int) -> None:
        """Remember records."""
        for run in runs:
            for body in run.bodies:
                self._records[run.resource, run.scope, body] += 1
                self._bytes += len(body)
        self._partial += partial
        while self._bytes > MOST_BYTES:
            self._forget(next(iter(self._records)))
        self._partial = min(self._partial, self._records.total())

    def take(self, runs: list[Run]) -> tuple[list[Run], list[Run], int]:
        """Return what is yet to be sent, what need not be, and how many of the latter were rejected."""
        if not self._records:
            return runs, [], 0
        ahead, behind = [], []
        for run in runs:
            left: list[bytes] = []
            sent: list[bytes] = []
            for body in run.bodies:
                (sent if self._has((run.resource, run.scope, body)) else left).append(body)
            ahead.append(Run(run.resource, run.scope, left))
            behind.append(Run(run.resource, run.scope, sent))
        behind = [run for run in behind if run.bodies]
        partial = min(self._partial, sum(len(run.bodies) for run in behind))
        self._partial = min(self._partial - partial, self._records.total())
        return [run for run in ahead if run.bodies], behind, partial

    def _has(self, record: _Record) -> bool:
        """Return whether a record is among them, and forget it."""
        if record not in self._records:
            return False
        self._forget(record)
        return True

    def _forget(self, record: _Record) -> None:
        self._bytes -= len(record[2])
        if self._records[record] > 1:
            self._records[record] -= 1
        else:
            del self._records[record]
