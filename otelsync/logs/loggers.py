"""Loggers for applications."""

from __future__ import annotations

from typing import Any


def get_logger(name: str | None = None, **fields: Any) -> Any:
    """A structlog logger with a name, and fields that it carries from the start.

    The same as ``structlog.get_logger(name)``, but it reaches the log path without structlog's lazy proxy.
    """
    from otelsync.logs.structlog_logger import Logger

    return Logger(name, fields)
