"""Credentials of a request: they tell the rate limits of several tokens apart, and are never recorded themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_HEADERS: Final = (
    "Authorization",
    "PRIVATE-TOKEN",  # GitLab
    "JOB-TOKEN",
    "X-Shopify-Access-Token",
    "X-API-Key",
    "Api-Key",
    "X-API-Token",
    "X-Auth-Token",
    "X-Access-Token",
    "X-Figma-Token",
    "DD-API-KEY",
)
_OTHERS: Final = frozenset(name.lower() for name in _HEADERS)
_PARAMETER: Final = re.compile(
    r"[?&](?:private_token|access_token|api_?key|api_token|hapikey|token|key|auth)=([^&#]{1,512})", re.IGNORECASE
)


def credentials(headers: Mapping[str, Any] | None, url: str) -> str:
    """Return what is in a header of a request, or in a parameter of its address; empty for none."""
    if headers is not None:
        value = headers.get("Authorization")
        if not value and not _OTHERS.isdisjoint([str(name).lower() for name in headers]):
            value = next((found for name in _HEADERS if (found := headers.get(name))), None)
        if value:
            return value.decode("latin-1") if isinstance(value, bytes) else str(value)
    found = _PARAMETER.search(url[:8192]) if "=" in url else None
    return found[1] if found else ""
