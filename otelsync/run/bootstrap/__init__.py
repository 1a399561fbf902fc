"""A program is set up before its first line, and nothing in it has to change.

By ``otelsync run``, through :mod:`otelsync.run.bootstrap.sitecustomize`; or by ``opentelemetry-instrument``, through
:mod:`otelsync.run.distro`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.own_messages import own_logger

_log = own_logger("otelsync")

_started = False


def start() -> None:
    """Record, and instrument whatever is installed, once a process. Never raises: the program goes on as it is."""
    if not begin():
        return
    try:
        from otelsync.run.installed import instrument_everything

        instrument_everything()
    except Exception as error:
        hand_back(error)
        _log.warning("otelsync cannot instrument this program", exc_info=True)


def begin() -> bool:
    """Record from now on; False if that was begun before, or cannot be done."""
    global _started
    if _started or _is_our_own_command():
        return False
    _started = True
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    try:
        from otelsync.configuration.lifecycle import begin_under_run

        begin_under_run()
    except Exception as error:
        hand_back(error)
        _log.warning("otelsync records nothing of this program: %s", error)
        return False
    return True


def _is_our_own_command() -> bool:
    """``otelsync show`` and the like, called by a program that is recorded, have nothing to record."""
    arguments: list[str] = getattr(sys, "argv", [])  # an embedded Python may have none
    return bool(arguments) and Path(arguments[0]).name == "otelsync"
