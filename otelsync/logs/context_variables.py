"""Fields that ``structlog.contextvars.bind_contextvars()`` has bound, for every record."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

registry: Mapping[str, object] = {}
"""structlog's own registry of context variables: empty as long as nobody binds any."""


def merge(variables: Mapping[str, object]) -> None:
    """Add structlog's context variables to every record, as long as its registry of them is not empty."""
    global registry
    registry = variables


def bound() -> Mapping[str, Any]:
    """Return what is bound now."""
    structlog_contextvars = sys.modules.get("structlog.contextvars")
    return structlog_contextvars.get_contextvars() if structlog_contextvars else {}
