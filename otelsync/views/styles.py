"""Colours of outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

STYLES: Final[Mapping[str, str]] = {
    "success": "green",
    "partial": "yellow",
    "failure": "bold red",
    "failed": "bold red",
    "interrupted": "bold red",
    "cancelled": "yellow",
    "retry": "yellow",
    "running": "cyan",
}
"""By outcome, names of rich's styles."""
