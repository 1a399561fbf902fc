"""How the store names what stands between an ancestor and the spans whose sums are kept under it."""

from __future__ import annotations

from typing import Final

SEPARATOR: Final = "\n"


def path(under: str, name: str) -> str:
    """The names from below the ancestor down to `name`, for those who stand below that. One a line."""
    name = name.replace(SEPARATOR, " ") or "?"
    return under + SEPARATOR + name if under else name
