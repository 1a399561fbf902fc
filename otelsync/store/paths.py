"""Names of what stands between an ancestor and the spans whose sums are kept under it."""

from __future__ import annotations

SEPARATOR = "\n"
"""Separator of the names of a path."""


def path(under: str, name: str) -> str:
    """Return the names from below the ancestor down to `name`, for those who stand below that. One per line."""
    name = name.replace(SEPARATOR, " ") or "?"
    return under + SEPARATOR + name if under else name
