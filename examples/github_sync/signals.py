"""Signals that other code can hook on: ``historical_sync_complete.connect(function)``.

They are Celery's own kind of signal: a receiver that raises is logged, and harms neither the sync nor other receivers.
They are sent in the worker process that got so far.
"""

from __future__ import annotations

from typing import Final

from celery.utils.dispatch import Signal

historical_sync_complete: Final = Signal(name="historical_sync_complete", providing_args=("team", "phase"))
"""Sent with ``team`` and ``phase`` (``phase1`` or ``phase2``): a phase of an onboarding is over."""
incremental_sync_complete: Final = Signal(
    name="incremental_sync_complete", providing_args=("team", "repository", "changed")
)
"""Sent with ``team``, ``repository`` and ``changed``, the number of its pull requests that were looked at."""
