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
_PARAMETER: Final = re.compile(
    r"[?&](?:private_token|access_token|api_?key|api_token|hapikey|token|key|auth)=([^&#]{1,512})", re.IGNORECASE
)


def credentials(headers: Mapping[str, Any] | None, url: str) -> str:
    """Return what is in a header of a request, or in a parameter of its address; empty for none."""
    for name in _HEADERS if headers is not None else ():
        value = headers.get(name) if headers is not None else None
        if value:
            return value.decode("latin-1") if isinstance(value, bytes) else str(value)
    found = _PARAMETER.search(url[:8192]) if "=" in url else None
    return found[1] if found else ""
