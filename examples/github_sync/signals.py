"""Signals that other code can hook on, as blinker gives them to Flask and others: ``connect`` and ``send``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

Receiver = Callable[..., object]

_log = logging.getLogger(__name__)


class Signal:
    """Something that happens. A receiver that raises is logged, and harms neither the sync nor other receivers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._receivers: list[Receiver] = []

    def connect(self, receiver: Receiver) -> Receiver:
        """Call a function with keyword arguments each time; also as a decorator."""
        if receiver not in self._receivers:
            self._receivers.append(receiver)
        return receiver

    def disconnect(self, receiver: Receiver) -> None:
        """Call it no more."""
        if receiver in self._receivers:
            self._receivers.remove(receiver)

    def send(self, **said: Any) -> None:
        """Call all receivers, in the process of the worker that got so far."""
        for receiver in tuple(self._receivers):
            try:
                receiver(**said)
            except Exception:
                _log.exception("a receiver of %s failed", self.name)


historical_sync_complete = Signal("historical_sync_complete")
"""``team``, ``phase`` (``phase1`` or ``phase2``), ``sync_id``: a phase of an onboarding is over."""
incremental_sync_complete = Signal("incremental_sync_complete")
"""``team``, ``repository``, ``changed``: the number of pull requests."""
