"""Messages of a shipper, which does the same again several times a second: each is logged once until it changes."""

from __future__ import annotations

import logging
import time
from typing import Final

AGAIN_AFTER: Final = 600.0
"""Seconds after which a message that still holds is logged again, with how often it would have been."""
_MOST: Final = 1000
"""Messages that are remembered."""


class Saying:
    """Logs warnings, and counts those that are the same.

    Args:
        log: Where they go.
        again_after: Seconds until one is logged again.
    """

    def __init__(self, log: logging.Logger, *, again_after: float = AGAIN_AFTER) -> None:
        self._log = log
        self._again_after = again_after
        self._said: dict[str, tuple[float, int]] = {}
        """By message: when it was logged last, and how often it has been said since."""

    def say(self, message: str, *, error: BaseException | None = None) -> None:
        """Log a message, unless that was done lately. `error`: what is logged with it, as an error."""
        now = time.monotonic()
        logged, count = self._said.pop(message, (None, 0))
        if logged is not None and now - logged < self._again_after:
            self._said[message] = (logged, count + 1)
            return
        again = "" if logged is None else f" (again, {count + 1:,} times in {(now - logged) / 60:.0f} minutes)"
        self._said[message] = (now, 0)
        while len(self._said) > _MOST:
            del self._said[next(iter(self._said))]
        if error is None:
            self._log.warning("%s%s", message, again)
        else:
            self._log.error("%s%s", message, again, exc_info=error)
