"""A plan of what goes wrong, and when: ``KIND[=X]@TARGET[%EVERY][#TIMES]``.

============================  ======================================================================================
``primary=2@40``              at the 40th request the token's limit is used up; it resets after about 2 seconds.
                              REST: 403; GraphQL: 200 and ``RATE_LIMITED``
``primary-429=2@40``          the same, but REST says 429
``primary-code=2@/graphql``   the same, but GraphQL says ``RATE_LIMIT`` with the code ``graphql_rate_limit``
``primary-remaining@...``     one answer says so, while its headers tell that something remains
``secondary=1@60``            403 and the secondary limit's message, with ``Retry-After: 1`` (no ``=1``: no such header)
``secondary-429=1@60``        the same as 429 with ``GH-Limited-By``
``secondary-200@/graphql``    the same as 200 with GraphQL's errors (REST: 403)
``502@/repos/o/r/pulls``      that status for this path, with GitHub's words: 401, 404, 409, 410, 429, 451, 500, 502,
                              503 or 504; ``*`` matches anything
``too-large=25@/graphql#*``   502 for all pages of more than 25; smaller ones work
``resource-limits@/graphql``  half of the nodes are null, and ``RESOURCE_LIMITS_EXCEEDED``
``forbidden@/graphql``        one node is null, and ``FORBIDDEN``
``drift@/graphql#3``          after this page somebody edits the repository's least recently updated pull request
``malformed@10``              the JSON ends in the middle, although the answer is whole
``slow=0.5@10``               an answer that takes half a second longer
``drop@10``                   the connection is closed without an answer
``cut@10``                    the connection is closed in mid-body
``batch-failed@/openai/*``    a new Groq batch fails; so ``batch-expired``; ``batch-errors=3``: 3 of its requests do
``...%5``                     each fifth of the requests that match
``...#3``, ``...#*``          three times, or always, instead of once
============================  ======================================================================================

A GraphQL request is also found under ``/graphql/OWNER/NAME`` for each repository that it names.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

_PLAIN = ("401", "404", "409", "410", "429", "451", "500", "502", "503", "504")
_KINDS = (
    *("primary", "primary-429", "primary-code", "primary-remaining", "secondary", "secondary-429", "secondary-200"),
    *_PLAIN,
    *("too-large", "resource-limits", "forbidden", "drift", "malformed", "slow", "drop", "cut"),
    *("batch-failed", "batch-expired", "batch-errors"),
)
_FAULT = re.compile(
    r"(?P<kind>[a-z0-9-]+)(=(?P<amount>\d+(\.\d+)?))?@(?P<target>\d+|/[^#%\s]*)(%(?P<every>[1-9]\d*))?(#(?P<times>\d+|\*))?"
)


class FaultSyntaxError(ValueError):
    """A fault that is not written as ``KIND[=X]@TARGET[%EVERY][#TIMES]``."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong: from a request number on (counted from 1) or for paths that match a pattern.

    `amount` is in seconds, or the number that the kind asks for.
    """

    kind: str
    amount: float | None
    target: int | str
    times: int | None
    every: int = 1

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read one fault; raises FaultSyntaxError."""
        match = _FAULT.fullmatch(text.strip())
        if match is None or match["kind"] not in _KINDS:
            raise FaultSyntaxError(
                f"fault {text!r} is not KIND[=X]@TARGET[%EVERY][#TIMES] with KIND one of {', '.join(_KINDS)}, and "
                "TARGET a request number or a path such as /repos/acme/api/pulls/7/files"
            )
        target = match["target"]
        return cls(
            kind=match["kind"],
            amount=float(match["amount"]) if match["amount"] else None,
            target=int(target) if target.isdigit() else target,
            times=_times(match["times"]),
            every=int(match["every"] or 1),
        )

    @property
    def is_status(self) -> bool:
        """Whether the fault is an answer with that status."""
        return self.kind in _PLAIN

    def meets(self, number: int, paths: Iterable[str], size: int) -> bool:
        """Whether this fault is meant for that request, which asks for pages of `size` items."""
        if self.kind == "too-large" and size <= (self.amount or 0):
            return False
        if isinstance(self.target, int):
            return number >= self.target
        return any(fnmatchcase(path, self.target) for path in paths)


class FaultPlan:
    """Counts requests and hands out each fault as often as it was planned; safe to use from many threads."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = list(faults)
        self._met = [0] * len(self._faults)
        self._given = [0] * len(self._faults)
        self._requests = 0
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Plan another fault; a request number counts from the plan's first request."""
        with self._lock:
            self._faults.append(fault)
            self._met.append(0)
            self._given.append(0)

    def clear(self) -> None:
        """Plan nothing any more."""
        with self._lock:
            self._faults, self._met, self._given = [], [], []

    def next(self, *paths: str, size: int = 0) -> Fault | None:
        """Count a request to a path, known under all of `paths`; the fault it meets, if any."""
        with self._lock:
            self._requests += 1
            for index, fault in enumerate(self._faults):
                spent = fault.times is not None and self._given[index] >= fault.times
                if spent or not fault.meets(self._requests, paths, size):
                    continue
                self._met[index] += 1
                if self._met[index] % fault.every == 0:
                    self._given[index] += 1
                    return fault
        return None


def _times(written: str | None) -> int | None:
    if written is None:
        return 1
    return None if written == "*" else int(written)
