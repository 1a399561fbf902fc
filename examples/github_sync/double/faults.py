"""A plan of what goes wrong, and when: ``KIND[=SECONDS]@TARGET[#TIMES]``.

========================  ==========================================================================================
``primary=2@40``          at the 40th request the token's limit is used up; it resets after about 2 seconds
``secondary=1@60``        403 and the secondary limit's message, with ``Retry-After: 1`` (no ``=1``: no such header)
``secondary-429=1@60``    the same as 429
``502@/repos/o/r/pulls``  that answer's status (500, 502, 503 or 504) for this path; ``*`` matches anything
``slow=0.5@10``           an answer that takes half a second longer
``drop@10``               the connection is closed without an answer
``...#3``, ``...#*``      three times, or always, instead of once
========================  ==========================================================================================
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase

_KINDS = ("primary", "secondary", "secondary-429", "500", "502", "503", "504", "slow", "drop")
_FAULT = re.compile(r"(?P<kind>[a-z0-9-]+)(=(?P<seconds>\d+(\.\d+)?))?@(?P<target>\d+|/[^#\s]*)(#(?P<times>\d+|\*))?")


class FaultSyntaxError(ValueError):
    """A fault that is not written as ``KIND[=SECONDS]@TARGET[#TIMES]``."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong: at a request number (counted from 1) or for paths that match a pattern."""

    kind: str
    seconds: float | None
    target: int | str
    times: int | None

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read one fault; raises FaultSyntaxError."""
        match = _FAULT.fullmatch(text.strip())
        if match is None or match["kind"] not in _KINDS:
            raise FaultSyntaxError(
                f"fault {text!r} is not KIND[=SECONDS]@TARGET[#TIMES] with KIND one of {', '.join(_KINDS)}, and TARGET "
                "a request number or a path such as /repos/acme/api/pulls/7/files"
            )
        target = match["target"]
        return cls(
            kind=match["kind"],
            seconds=float(match["seconds"]) if match["seconds"] else None,
            target=int(target) if target.isdigit() else target,
            times=_times(match["times"]),
        )

    def meets(self, number: int, path: str) -> bool:
        """Whether this fault is meant for that request."""
        if isinstance(self.target, int):
            return number >= self.target
        return fnmatchcase(path, self.target)


class FaultPlan:
    """Counts requests and hands out each fault as often as it was planned; safe to use from many threads."""

    def __init__(self, faults: list[Fault] | None = None) -> None:
        self._faults = list(faults or [])
        self._given = [0] * len(self._faults)
        self._requests = 0
        self._lock = threading.Lock()

    def next(self, path: str) -> Fault | None:
        """Count a request to `path`; the fault it meets, if any."""
        with self._lock:
            self._requests += 1
            for index, fault in enumerate(self._faults):
                spent = fault.times is not None and self._given[index] >= fault.times
                if not spent and fault.meets(self._requests, path):
                    self._given[index] += 1
                    return fault
        return None


def _times(written: str | None) -> int | None:
    if written is None:
        return 1
    return None if written == "*" else int(written)
