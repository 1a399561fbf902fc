"""GitHub's REST API without the wire: a request in, an answer out.

The rules are GitHub's: pages of 30, at most 100; ``Link`` only where there is more than one page, with addresses of the
form ``/repositories/{id}/...``; ``If-None-Match`` answered by a 304 that costs nothing; ``/rate_limit`` free of charge;
404 for all that is not known, and for every write.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

from ..recordings import Exchange
from .catalogue import Catalogue, Repository, listed
from .faults import Fault, FaultPlan
from .rate_limit import ANONYMOUS, Quota, RateLimits
from .shapes import API, JsonObject

Item = TypeVar("Item")

_DOCS = "https://docs.github.com/rest"
_RATE_LIMIT_DOCS = f"{_DOCS}/using-the-rest-api/rate-limits-for-the-rest-api"
_SECONDARY_MESSAGE = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. "
    "If you reach out to GitHub Support for help, please include the request ID."
)
_NOT_REPLAYED = frozenset(
    ("connection", "content-encoding", "content-length", "date", "keep-alive", "server", "transfer-encoding")
)
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
_PULLS = re.compile(
    r"/(?:repos/(?P<name>[^/]+/[^/]+)|repositories/(?P<identity>\d{1,18}))"
    r"(?P<list>/pulls(?:/(?P<number>\d{1,18})(?:/(?P<detail>reviews|files|commits))?)?)?"
)


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked; header names in lower case."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """The credentials, or an empty string."""
        return self.headers.get("authorization", ANONYMOUS)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says. `delay` is in seconds; with `dropped` it hangs up instead."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay: float = 0.0
    dropped: bool = False

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Api:
    """Answers requests from a catalogue, within rate limits, as far as the fault plan lets it."""

    def __init__(
        self, catalogue: Catalogue, *, limits: RateLimits | None = None, faults: FaultPlan | None = None
    ) -> None:
        self.catalogue = catalogue
        self.limits = limits or RateLimits()
        self._faults = faults or FaultPlan()

    def answer(self, request: Request) -> Answer:
        """The answer to one request, with addresses of api.github.com still in it."""
        if not request.headers.get("user-agent"):
            return _error(403, "Request forbidden by administrative rules: it has no User-Agent header.")
        fault = self._faults.next(request.path)
        delay = 0.0
        if fault is not None:
            planned = self._planned(fault, request)
            if planned is not None:
                return planned
            delay = (fault.seconds or 0.0) if fault.kind == "slow" else 0.0
        answer = self._limited(request)
        return Answer(answer.status, answer.headers, answer.body, delay)

    def _planned(self, fault: Fault, request: Request) -> Answer | None:
        """The answer that a fault calls for; None where it only delays, or changes the limits."""
        if fault.kind == "drop":
            return Answer(0, dropped=True)
        if fault.kind == "primary":
            self.limits.exhaust(request.token, fault.seconds or 1.0)
            return None
        if fault.kind.startswith("secondary"):
            return self._secondary(fault, request)
        if fault.kind.isdigit():
            return _error(int(fault.kind), "Server Error", *self.limits.look(request.token).headers())
        return None

    def _secondary(self, fault: Fault, request: Request) -> Answer:
        headers = self.limits.look(request.token).headers()
        if fault.seconds is not None:
            headers.append(("Retry-After", str(math.ceil(fault.seconds))))
        status = 403
        if fault.kind.endswith("429"):
            status = 429
            headers.append(("GH-Limited-By", "secondary"))
        return _error(status, _SECONDARY_MESSAGE, *headers, docs=f"{_RATE_LIMIT_DOCS}#about-secondary-rate-limits")

    def _limited(self, request: Request) -> Answer:
        """Answer within the token's limit; a 304 and ``/rate_limit`` cost nothing."""
        quota = self.limits.look(request.token)
        if request.path == "/rate_limit":
            return _ok(_rate_limit(quota), request, quota)
        if quota.remaining == 0:
            return _primary(request, quota)
        answer = self._found(request)
        if _unchanged(request, answer):
            kept = [(name, value) for name, value in answer.headers if name.lower() != "content-type"]
            return Answer(304, (*kept, *quota.headers()))
        allowed, quota = self.limits.spend(request.token)
        if not allowed:
            return _primary(request, quota)
        return Answer(answer.status, (*answer.headers, *quota.headers()), answer.body)

    def _found(self, request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return _error(404, "Not Found")
        if request.path == "/user" and request.token == ANONYMOUS:
            return _error(401, "Requires authentication")
        accept = request.headers.get("accept", "*/*")
        recorded = self.catalogue.replay("GET", request.path, request.query, accept)
        if recorded is not None:
            return _replayed(recorded)
        return self._built(request)

    def _built(self, request: Request) -> Answer:
        match = _PULLS.fullmatch(unquote(request.path))
        name = match and (match["name"] or int(match["identity"]))
        repository = self.catalogue.repository(name) if name else None
        if match is None or repository is None:
            return _error(404, "Not Found")
        if not match["list"]:
            return _ok(repository.repository(), request)
        if not match["number"]:
            return self._list(repository, request)
        pull = self.catalogue.pull_request(repository, int(match["number"]))
        if pull is None:
            return _error(404, "Not Found", docs=f"{_DOCS}/pulls/pulls#get-a-pull-request")
        if not match["detail"]:
            return _ok(pull, request)
        details: list[JsonObject] = getattr(repository, match["detail"])(int(match["number"]))
        return _page(details, lambda detail: detail, match["list"], repository, request)

    def _list(self, repository: Repository, request: Request) -> Answer:
        """The list of pull requests: open ones, newest first, unless the query asks for others."""
        asked = dict(parse_qsl(request.query))
        numbers = self._sorted(repository, asked)
        state = asked.get("state", "open")
        if state != "all":
            numbers = [n for n in numbers if self._field(repository, n, "state") == state]

        def show(number: int) -> JsonObject:
            pull = self.catalogue.pull_request(repository, number)
            return listed(pull) if pull is not None else {}

        return _page(numbers, show, "/pulls", repository, request)

    def _sorted(self, repository: Repository, asked: dict[str, str]) -> list[int]:
        numbers = repository.numbers()
        order = asked.get("sort", "created")
        if order == "updated":
            numbers.sort(key=lambda n: (self._field(repository, n, "updated_at"), n))
        if asked.get("direction", "desc" if order == "created" else "asc") == "desc":
            numbers.reverse()
        return numbers

    def _field(self, repository: Repository, number: int, name: str) -> str:
        pull = self.catalogue.pull_request(repository, number)
        return str(pull[name]) if pull is not None else ""


def _page(
    items: Sequence[Item], show: Callable[[Item], JsonObject], path: str, repository: Repository, request: Request
) -> Answer:
    """The part of a list that the query asks for, with ``Link`` where there are others."""
    size = min(_number(request.query, "per_page", 30), 100)
    page = _number(request.query, "page", 1)
    last = max(1, math.ceil(len(items) / size))
    chosen = [show(item) for item in items[(page - 1) * size : page * size]]
    answer = _ok(chosen, request)
    link = _link(f"{API}/repositories/{repository.identity}{path}", request.query, page, last)
    return Answer(answer.status, (*answer.headers, ("Link", link)), answer.body) if link else answer


def _number(query: str, name: str, default: int) -> int:
    text = dict(parse_qsl(query)).get(name, "")
    return int(text) if re.fullmatch(r"[1-9]\d{0,8}", text) else default


def _link(address: str, query: str, page: int, last: int) -> str:
    others = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
    if page >= last:
        del others["next"], others["last"]
    if page <= 1:
        del others["prev"], others["first"]
    asked = [(name, value) for name, value in parse_qsl(query) if name != "page"]
    return ", ".join(
        f'<{address}?{urlencode([*asked, ("page", str(number))])}>; rel="{relation}"'
        for relation, number in others.items()
    )


def _ok(content: object, request: Request, quota: Quota | None = None) -> Answer:
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
    return Answer(200, tuple(headers), body)


def _error(status: int, message: str, *headers: tuple[str, str], docs: str = _DOCS) -> Answer:
    body = json.dumps({"message": message, "documentation_url": docs, "status": str(status)}).encode()
    return Answer(status, (("Content-Type", "application/json; charset=utf-8"), *_COMMON_HEADERS, *headers), body)


def _primary(request: Request, quota: Quota) -> Answer:
    if request.token == ANONYMOUS:
        message = (
            "API rate limit exceeded for 127.0.0.1. (But here's the good news: Authenticated requests get a higher "
            "rate limit. Check out the documentation for more details.)"
        )
    else:
        number = int.from_bytes(hashlib.sha256(request.token.encode()).digest()[:3])
        message = f"API rate limit exceeded for user ID {number}."
    return _error(403, message, *quota.headers(), docs=f"{_RATE_LIMIT_DOCS}#about-primary-rate-limits")


def _unchanged(request: Request, answer: Answer) -> bool:
    """Weak comparison of the entity tags, as RFC 9110, section 13.1.2 asks."""
    etag, known = answer.header("ETag"), request.headers.get("if-none-match", "")
    if etag is None or answer.status != 200:
        return False
    return etag.removeprefix("W/") in {one.strip().removeprefix("W/") for one in known.split(",")}


def _replayed(exchange: Exchange) -> Answer:
    headers = tuple(
        (name, value)
        for name, value in exchange.headers
        if name.lower() not in _NOT_REPLAYED and not name.lower().startswith("x-ratelimit-")
    )
    return Answer(exchange.status, headers, exchange.body)


def _rate_limit(quota: Quota) -> JsonObject:
    core = {"limit": quota.limit, "used": quota.used, "remaining": quota.remaining, "reset": quota.reset}
    search = {"limit": 30, "used": 0, "remaining": 30, "reset": quota.reset}
    graphql = {"limit": 5000, "used": 0, "remaining": 5000, "reset": quota.reset}
    return {"resources": {"core": core, "search": search, "graphql": graphql}, "rate": core}
