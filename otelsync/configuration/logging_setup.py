"""Logging as the settings ask for it: taken over, or kept and looked at."""

from __future__ import annotations

import sys
from typing import IO, Any

from otelsync.configuration.recorder import Recorder
from otelsync.levels import DEBUG
from otelsync.logs import installed, sdk_warnings
from otelsync.logs.output import Output
from otelsync.logs.path import LogPath
from otelsync.logs.verbosity import Levels
from otelsync.recording import scope
from otelsync.redaction import Redactor
from otelsync.settings import Settings
from otelsync.text.colors import wants_color


def install(settings: Settings, stream: IO[Any] | None, recorder: Recorder | None) -> None:
    """Put the log path in place that the settings ask for; its records are journalled where there is a recorder."""
    redactor = Redactor(settings.redact_keys, settings.redact_patterns)
    destination = recorder.log_records if recorder is not None and settings.journal_logs else None
    journal_level = DEBUG if destination is not None and settings.debug_logs != "off" else None
    service, levels = settings.service_name, Levels(settings.log_level, settings.log_levels)
    path: LogPath
    if settings.logging == "keep":
        from otelsync.logs.journal_path import JournalPath

        path = JournalPath(service, levels if journal_level is None else Levels(journal_level), redactor)
    else:
        output = _output(settings, stream)
        path = LogPath(service=service, level=levels, output=output, redactor=redactor, journal_level=journal_level)
    path.journal_to(destination)
    connect(path)
    if recorder is not None:
        recorder.watch(path)


def _output(settings: Settings, stream: IO[Any] | None) -> Output:
    form = settings.log_format
    shown_on = stream or sys.stdout
    try:
        is_terminal = shown_on is not None and shown_on.isatty()
    except (AttributeError, ValueError):  # no such method; closed
        is_terminal = False
    is_text = form == "console" or (form == "auto" and is_terminal)
    colors = wants_color(is_terminal=is_terminal)
    return Output(stream, text=is_text, colors=colors, trace_url=settings.trace_url)


def connect(path: LogPath) -> None:
    """Let records go through `path`: all of them if it renders, else what the program itself shows."""
    if path.renders:
        from otelsync.logs.takeover import take_over as lead
    else:
        from otelsync.logs.observation import observe as lead
    installed.install(path, lead)
    sdk_warnings.begin()
    scope.redact_with(path.redactor)


def uninstall() -> None:
    """Leave logging as :func:`install` found it."""
    installed.uninstall()
    sdk_warnings.end()
    scope.redact_with(None)
