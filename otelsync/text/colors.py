"""``NO_COLOR`` and ``FORCE_COLOR``: the say of a user, over what a terminal would get.

Each counts where it is set to anything but an empty text, as https://no-color.org and https://force-color.org have it,
and the first goes before the second, as in Python's own tracebacks. ``FORCE_COLOR=0`` forces nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping


def wants_color(*, is_terminal: bool, environment: Mapping[str, str] | None = None) -> bool:
    """Return whether what is written gets colours."""
    variables = os.environ if environment is None else environment
    if variables.get("NO_COLOR"):
        return False
    return is_terminal or is_forced(variables)


def is_forced(variables: Mapping[str, str]) -> bool:
    """Return whether colours are asked for, though there be no terminal."""
    return variables.get("FORCE_COLOR", "").lower() not in ("", "0", "false")
