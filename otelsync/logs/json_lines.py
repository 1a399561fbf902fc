"""JSON of a record's fields, whatever their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson


def dumped(fields: Mapping[str, Any]) -> bytes:
    """Return a line of JSON, whatever the values."""
    try:
        return orjson.dumps(fields, plain, orjson.OPT_APPEND_NEWLINE)
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return orjson.dumps(fields, plain, orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError):
        safe = {str(_safe(str(key))): value if _renders(value) else _safe(value) for key, value in fields.items()}
        return orjson.dumps(safe, plain, orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def _renders(value: object) -> bool:
    try:
        orjson.dumps(value, plain, orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def as_rendered(value: object) -> object:
    """Return what a line of JSON shows of a value that OTLP has no form for."""
    shown = orjson.loads(dumped({"": value}))[""]
    return shown if not isinstance(shown, int) or -(2**63) <= shown < 2**63 else str(shown)


def plain(value: object) -> object:
    """Return what stands for a value that JSON has no form for."""
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _safe(value: object) -> object:
    """A value that is sure to render: what is circular, too deep or half a surrogate becomes text."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose repr() raised {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()
