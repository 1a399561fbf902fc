"""The way in for ``opentelemetry-instrument``: a distro and a configurator, both named ``otelsync``.

They do their work where ``OTEL_PYTHON_DISTRO`` or ``OTEL_PYTHON_CONFIGURATOR`` names otelsync, or where nothing else is
installed. Otherwise OpenTelemetry may take whichever it meets first, so they hand over to the other: that otelsync is
installed changes nothing for a program that is not about it.
"""

from __future__ import annotations

import os
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined, unused-ignore]

from otelsync.run import bootstrap, installed

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

NAME: Final = "otelsync"
DISTRO: Final = "OTEL_PYTHON_DISTRO"
CONFIGURATOR: Final = "OTEL_PYTHON_CONFIGURATOR"


class Distro(BaseDistro):  # type: ignore[misc, unused-ignore]
    """Loads the instrumentations that ``opentelemetry-instrument`` finds."""

    def __init__(self) -> None:
        self._other = _other("opentelemetry_distro")

    def _configure(self, **kwargs: Any) -> None:
        if self._other is not None:
            self._other.configure(**kwargs)

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:  # type: ignore[override, unused-ignore]
        """Switch on one instrumentation; nothing for what otelsync does itself."""
        if self._other is not None:
            self._other.load_instrumentor(entry_point, **kwargs)
        else:
            installed.instrument_theirs(entry_point)


class Configurator:
    """Begins to record."""

    def configure(self, **kwargs: Any) -> None:
        """Record from now on, and instrument what is ours. Called by ``opentelemetry-instrument``."""
        other = _other("opentelemetry_configurator")
        if other is not None:
            other.configure(**kwargs)
        elif bootstrap.begin():
            from otelsync.configuration.lifecycle import say_which_way
            from otelsync.configuration.mistakes import warn_of_environment

            say_which_way()  # `otelsync run` has said so itself, this and the next
            warn_of_environment()
            installed.instrument_ours()


def _other(group: str) -> Any:
    """The distro or configurator that is meant if otelsync is not; None if it is."""
    if NAME in (os.environ.get(DISTRO), os.environ.get(CONFIGURATOR)):
        return None
    others = [entry_point for entry_point in metadata.entry_points(group=group) if entry_point.name != NAME]
    return others[0].load()() if others else None
