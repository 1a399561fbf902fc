"""How often a request is tried again that no limit has refused, and what a limit that names no time is worth.

GitHub's advice (https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api) for a secondary limit
without ``Retry-After`` is at least a minute, growing. What the headers say is read in :mod:`~.answers`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on; all figures in seconds or in attempts.

    `backoff` is the first wait after an error of the server or the connection, doubled each time, with jitter.
    `secondary_backoff` is the first wait for a secondary limit that names no time; it doubles up to `longest`, which is
    just over the hour of a primary limit.
    """

    attempts: int = 4
    backoff: float = 0.25
    secondary_backoff: float = 60.0
    longest: float = 3700.0

    def pause(self, attempt: int) -> float | None:
        """Return the seconds to wait after the `attempt`-th error of the server or the connection; None: give up."""
        if attempt >= self.attempts:
            return None
        return float(self.backoff * 2.0 ** (attempt - 1)) * random.uniform(0.75, 1.25)

    def unnamed(self, refusals: int) -> float:
        """Return the seconds to wait for a secondary limit that names no time, after so many refusals in a row."""
        return min(float(self.secondary_backoff * 2.0 ** min(refusals, 16)), self.longest)
