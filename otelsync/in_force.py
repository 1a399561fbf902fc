"""The settings in force: written by `configure()` and `shutdown()`, read by everybody."""

from __future__ import annotations

from otelsync.settings import Settings

_settings: Settings | None = None


def settings() -> Settings | None:
    """Return the settings in force; None before `configure()` and after `shutdown()`."""
    return _settings


def put(settings: Settings | None) -> None:
    """Put settings in force; None: none are."""
    global _settings
    _settings = settings
