"""Settings as text, for a process that goes by those of another one, whatever its own environment says."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from otelsync.settings.options import Settings


def to_text(settings: Settings) -> str:
    """Return settings as JSON. Paths are absolute in it, where the current directory is known."""
    return json.dumps({option.name: getattr(settings, option.name) for option in fields(Settings)}, default=_plain)


def from_text(text: str) -> Settings:
    """Return the settings that :func:`to_text` was given."""
    values: dict[str, Any] = json.loads(text)
    for option in fields(Settings):
        value = values[option.name]
        if value is not None and str(option.type).startswith("Path"):
            values[option.name] = Path(value)
        elif isinstance(value, list):
            values[option.name] = tuple(value)
    return Settings(**values)


def _plain(value: object) -> object:
    if isinstance(value, Path):
        try:
            return str(value.absolute())
        except OSError:  # the current directory is gone
            return str(value)
    return list(value) if isinstance(value, (tuple, set, frozenset)) else dict(value)  # type: ignore[call-overload]
