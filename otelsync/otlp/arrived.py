"""Records that have arrived, though others that were sent with them have not, and all are to be given again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from otelsync.otlp.request import Run


class Arrived:
    """A memory of such records, until they are given again. Lost with the process, and then they are sent twice."""

    def __init__(self) -> None:
        self._bodies: Counter[bytes] = Counter()
        self._partial = 0
        """Number of those that the endpoint has rejected in an otherwise successful answer."""

    def note(self, runs: Iterable[Run], partial: int) -> None:
        """Remember records."""
        for run in runs:
            self._bodies.update(run.bodies)
        self._partial += partial

    def take(self, runs: list[Run]) -> tuple[list[Run], list[Run], int]:
        """Return what is yet to be sent, what need not be, and how many of the latter were rejected."""
        if not self._bodies:
            return runs, [], 0
        ahead, behind = [], []
        for run in runs:
            left: list[bytes] = []
            sent: list[bytes] = []
            for body in run.bodies:
                (sent if self._has(body) else left).append(body)
            ahead.append(Run(run.resource, run.scope, left))
            behind.append(Run(run.resource, run.scope, sent))
        behind = [run for run in behind if run.bodies]
        partial = min(self._partial, sum(len(run.bodies) for run in behind))
        self._partial -= partial
        if not behind or not self._bodies:  # what is given is something else altogether, or this was all
            self._bodies.clear()
            self._partial = 0
        return [run for run in ahead if run.bodies], behind, partial

    def _has(self, body: bytes) -> bool:
        """Return whether a record is among them, and forget it."""
        count = self._bodies[body]
        if count > 1:
            self._bodies[body] = count - 1
        else:
            del self._bodies[body]
        return count > 0
