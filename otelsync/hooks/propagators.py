"""OpenTelemetry's propagators, also where ``OTEL_PROPAGATORS`` names one that cannot be loaded.

``opentelemetry.propagate`` raises at its import then, and with it everything that imports it: the program would not
start. What can be loaded is used, and one warning names the rest.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from opentelemetry.environment_variables import OTEL_PROPAGATORS

from otelsync.hooks.host_errors import hand_back
from otelsync.hooks.own_messages import own_logger

_DEFAULT = "tracecontext,baggage"


def _loaded() -> ModuleType:
    try:
        return import_module("opentelemetry.propagate")
    except Exception as error:
        hand_back(error)
        asked = os.environ.get(OTEL_PROPAGATORS, "")
    names = [name.strip() for name in asked.split(",")]
    usable = [name for name in names if _can_be_loaded(name)]
    os.environ[OTEL_PROPAGATORS] = ",".join(usable) or _DEFAULT
    try:
        return import_module("opentelemetry.propagate")
    finally:
        missing = ", ".join(name for name in names if name not in usable)
        own_logger("otelsync").warning(
            "OTEL_PROPAGATORS=%r names %s, which cannot be loaded; trace headers are those of %s. Install its package,"
            " such as opentelemetry-propagator-b3, or correct the name",
            *(asked, missing, os.environ[OTEL_PROPAGATORS]),
        )
        os.environ[OTEL_PROPAGATORS] = asked


def _can_be_loaded(name: str) -> bool:
    from importlib.metadata import entry_points  # 20 ms

    try:
        return any(each.load() for each in entry_points(group="opentelemetry_propagator", name=name))
    except Exception as error:
        hand_back(error)
        return False


if TYPE_CHECKING:
    from opentelemetry import propagate
else:

    def __getattr__(name: str) -> ModuleType:
        """Load `propagate` when it is first asked for: it looks through all installed packages, which takes 20 ms."""
        if name != "propagate":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = globals()["propagate"] = _loaded()
        return module


__all__ = ["propagate"]
