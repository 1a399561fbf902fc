"""Mistakes in arguments and variables that keep nothing from starting, and would go unnoticed: each is warned of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from logging import getLevelName
from pathlib import Path
from typing import Any

from otelsync import in_force
from otelsync.errors import ConfigurationError
from otelsync.hooks.harmless import harmless
from otelsync.otlp.exporters import PREFIX, is_configured, without_effect
from otelsync.settings import Settings
from otelsync.settings.variables import unread


def in_environment(settings: Settings) -> Iterator[str]:
    """Yield what is odd about the variables of this process, and about where `settings` send to, each with its fix."""
    for variable in unread(os.environ):
        yield f"{variable.message}: {variable.fix}"
    for _, message, fix in without_effect(os.environ):
        yield f"{message}: {fix}"
    if settings.endpoint is None and not is_configured(os.environ):
        return
    from otelsync.otlp.options import ports_of_other_protocol  # of no use to most scripts

    given = {} if settings.endpoint is None else {f"{PREFIX}ENDPOINT": settings.endpoint}
    for message, fix in ports_of_other_protocol({**os.environ, **given}):
        yield f"{message}: {fix}"


@harmless
def warn_of_environment() -> None:
    """Warn of what is odd about the variables of this process, and the settings in force, once."""
    settings = in_force.settings()
    found = [] if settings is None else list(in_environment(settings))
    if found:
        from otelsync.stages.misuse import warn_once

        warn_once("environment", "%s", "; ".join(found))


@harmless
def warn_of_other_options(settings: Settings, options: Mapping[str, Any]) -> bool:
    """Warn that a second configure() with other options than those of the first changes nothing.

    Returns:
        Whether there are any.
    """
    from otelsync.redaction import Redactor
    from otelsync.stages.misuse import warn_once

    redact = Redactor(settings.redact_keys, settings.redact_patterns).redact
    others = [
        f"{name}={_text(name, given)} ({_text(name, held)} holds)" for name, given, held in _others(settings, options)
    ]
    if others:
        warn_once(
            "configured again",
            "otelsync.configure() was called again with other options, and changes nothing: %s. Call it once, or "
            "otelsync.shutdown() before",
            redact(", ".join(others)),
        )
    return bool(others)


def _others(settings: Settings, options: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    for name, given in options.items():
        if given is None:
            continue
        held = getattr(settings, name, None)
        try:
            asked = getattr(Settings.from_environment({}, **{name: given}), name)
        except ConfigurationError:
            asked = given
        if asked != held:
            yield name, asked, held


def _text(option: str, value: object) -> str:
    if option == "log_level" and isinstance(value, int):
        return getLevelName(value)
    return str(value) if isinstance(value, Path) else repr(value)
