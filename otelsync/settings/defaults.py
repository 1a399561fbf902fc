"""Defaults that depend on the program and its user: the service's name, and a home for journals and the store."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from otelsync.errors import ConfigurationError
from otelsync.settings.program_name import service_of


def default_service() -> str:
    """Return the service's name where nobody gave one: what the program was started as."""
    is_named = bool(sys.argv) and sys.argv[0] not in ("", "-", "-c", "-m")
    return service_of(["python", *sys.argv]) if is_named else "unknown_service"


def default_home() -> Path:
    """Return otelsync's directory among those that programs keep their state in."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        # a relative one is to be ignored: XDG Base Directory Specification
        return (state if state.is_absolute() else Path.home() / ".local" / "state") / "otelsync"
    except RuntimeError:
        raise ConfigurationError("OTELSYNC_HOME", "", "this user has no home; set it to a directory") from None


def path_part(name: str) -> str:
    """Return a name as part of a path: never empty, hidden, above or outside.

    >>> path_part("../etc/passwd")
    'etc-passwd'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:80] or "unnamed"
