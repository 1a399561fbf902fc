"""What goes over the wire: a client's request, and an answer in the form that GitHub gives its answers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl

from .rate_limit import ANONYMOUS, Quota, Resource

DOCS = "https://docs.github.com/rest"

_COMMON_HEADERS = (
    ("Vary", "Accept, Authorization, Cookie, X-GitHub-OTP"),
    ("Vary", "Accept-Encoding, Accept, X-Requested-With"),
    ("X-GitHub-Media-Type", "github.v3; format=json"),
    ("X-GitHub-Api-Version-Selected", "2022-11-28"),
    ("Access-Control-Expose-Headers", "ETag, Link, Location, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining"),
    ("Access-Control-Allow-Origin", "*"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubdomains; preload"),
    ("X-Frame-Options", "deny"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-XSS-Protection", "0"),
    ("Referrer-Policy", "origin-when-cross-origin, strict-origin-when-cross-origin"),
    ("Content-Security-Policy", "default-src 'none'"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked; header names in lower case."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def token(self) -> str:
        """The credentials without their scheme, or an empty string: ``token x`` and ``Bearer x`` are one token."""
        scheme, _, credentials = self.headers.get("authorization", ANONYMOUS).partition(" ")
        return credentials.strip() or scheme

    @property
    def resource(self) -> Resource:
        """The kind of quota that the request draws from."""
        if self.path == "/graphql":
            return "graphql"
        return "search" if self.path.startswith("/search/") else "core"

    def asked(self, name: str, default: str = "") -> str:
        """The last value of a query parameter."""
        return dict(parse_qsl(self.query)).get(name, default)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says. `delay` is in seconds; with `dropped` it hangs up instead, with `cut` in mid-body.

    `limited` names the limit that the answer reports, whatever its status; `facts` go into the access log.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay: float = 0.0
    dropped: bool = False
    cut: bool = False
    limited: Literal["primary", "secondary"] | None = None
    facts: dict[str, object] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def ok(content: object, request: Request, quota: Quota | None = None, status: int = 200) -> Answer:
    """An answer with JSON: with an entity tag, or with the quota's headers where it is given."""
    body = json.dumps(content, separators=(",", ":")).encode()
    scope = "private" if request.token else "public"
    headers = [
        ("Content-Type", "application/json; charset=utf-8"),
        ("Cache-Control", f"{scope}, max-age=60, s-maxage=60" if quota is None else "no-cache"),
        *_COMMON_HEADERS,
    ]
    if quota is None:
        headers.append(("ETag", f'W/"{hashlib.sha256(body).hexdigest()}"'))
    else:
        headers.extend(quota.headers())
    return Answer(status, tuple(headers), body)


def error(
    status: int,
    message: str,
    *headers: tuple[str, str],
    docs: str = DOCS,
    limited: Literal["primary", "secondary"] | None = None,
    **more: object,
) -> Answer:
    """An answer with GitHub's JSON for what went wrong."""
    body = json.dumps({"message": message, **more, "documentation_url": docs, "status": str(status)}).encode()
    common = (("Content-Type", "application/json; charset=utf-8"), *_COMMON_HEADERS, *headers)
    return Answer(status, common, body, limited=limited)
