"""Two promises of a good client, held against what it does: no request too early, and no two at once on one token.

The rules are those that GitHub gives its clients: wait as long as ``Retry-After`` says; else until the reset if nothing
remains; else, after a limit that names no time, at least a minute
(https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api).
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from .messages import Answer, Request
from .rate_limit import RESOURCES, Resource

_FREE = ("/rate_limit", "/_double/", "/openai/")
_MOST_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise; `kind` is ``early`` or ``parallel``, `early` in seconds."""

    kind: str
    account: str
    method: str
    path: str
    early: float = 0.0
    reason: str = ""


class Witness:
    """Watches requests and remembers broken promises; safe to use from many threads.

    `least_wait` (seconds) is asked for after a limit that names no time; GitHub says at least a minute.
    """

    def __init__(self, *, least_wait: float = 60.0, clock: Callable[[], float] = time.time) -> None:
        self._least_wait = least_wait
        self._clock = clock
        self._closed: dict[tuple[str, Resource], tuple[float, str]] = {}
        self._running: dict[str, dict[int, Callable[[], bool]]] = defaultdict(dict)
        self._violations: list[Violation] = []
        self._tickets = 0
        self._lock = threading.Lock()

    @property
    def violations(self) -> list[Violation]:
        """All broken promises so far, oldest first; only the first thousand are kept."""
        with self._lock:
            return list(self._violations)

    def told(self) -> list[dict[str, object]]:
        """The same as plain objects."""
        return [asdict(violation) for violation in self.violations]

    @contextmanager
    def watching(self, account: str, request: Request, gone: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Watch one request while it is answered; `gone` tells when its client has hung up, as a killed one does."""
        with self._lock:
            self._tickets += 1
            ticket = self._tickets
            running = self._running[account]
            if not request.path.startswith("/_double/"):
                for other in [other for other, left in running.items() if left()]:
                    del running[other]
                if running:
                    self._note(Violation("parallel", account, request.method, request.path))
                running[ticket] = gone
                self._check(account, request)
        try:
            yield
        finally:
            with self._lock:
                running.pop(ticket, None)

    def observe(self, account: str, request: Request, answer: Answer) -> None:
        """Remember when the answer allows the account's next request."""
        if request.path.startswith(_FREE):
            return
        until, scope, reason = self._allowed(request, answer)
        with self._lock:
            for resource in scope:
                self._closed[account, resource] = (until, reason)

    def _allowed(self, request: Request, answer: Answer) -> tuple[float, tuple[Resource, ...], str]:
        now, retry_after = self._clock(), answer.header("Retry-After")
        scope = RESOURCES if answer.limited == "secondary" else (request.resource,)
        if answer.limited and retry_after is not None:
            return now + float(retry_after), scope, f"Retry-After: {retry_after}"
        if answer.header("X-RateLimit-Remaining") == "0":
            reset = answer.header("X-RateLimit-Reset") or "0"
            return float(reset), scope, f"nothing remains until {reset}"
        if answer.limited:
            until = now + self._least_wait
            if answer.limited == "primary":
                until = min(until, float(answer.header("X-RateLimit-Reset") or until))
            return until, scope, f"a limit that names no time: at least {self._least_wait:g} seconds"
        return 0.0, (), ""

    def _check(self, account: str, request: Request) -> None:
        if request.path.startswith(_FREE):
            return
        until, reason = self._closed.get((account, request.resource), (0.0, ""))
        early = until - self._clock()
        if early > 0:
            self._note(Violation("early", account, request.method, request.path, round(early, 3), reason))

    def _note(self, violation: Violation) -> None:
        if len(self._violations) < _MOST_KEPT:
            self._violations.append(violation)
