"""Say which core the measured process runs on, and which the sink."""

from __future__ import annotations

import os


def pin_to_measured_core() -> None:
    """Bind this process to the last core that it may use, where the system can bind at all."""
    _pin(-1)


def pin_to_sink_core() -> None:
    """Bind this process to the first core that it may use: another than the measured one, where there are two."""
    _pin(0)


def _pin(which: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[which]})
