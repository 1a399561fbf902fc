"""What a planned fault does to an answer, with GitHub's exact words."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from dataclasses import replace
from datetime import UTC, datetime

from .faults import Fault
from .messages import DOCS, Answer, Request, error, ok
from .rate_limit import ANONYMOUS, Quota
from .shapes import JsonObject

_RATE_LIMIT_DOCS = f"{DOCS}/using-the-rest-api/rate-limits-for-the-rest-api"
_SECONDARY_MESSAGE = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. "
    "If you reach out to GitHub Support for help, please include the request ID."
)
_ANONYMOUS_MESSAGE = (
    "API rate limit exceeded for 127.0.0.1. (But here's the good news: Authenticated requests get a higher "
    "rate limit. Check out the documentation for more details.)"
)
_MESSAGES = {
    "401": "Bad credentials",
    "404": "Not Found",
    "409": "Git Repository is empty.",
    "410": "Gone",
    "451": "Repository access blocked",
}


def instead(fault: Fault, request: Request, account: str, quota: Quota) -> Answer | None:
    """The answer that a fault gives in place of the real one; None where it only changes that one, or the limits."""
    if fault.kind == "drop":
        return Answer(0, dropped=True)
    if fault.kind.startswith("secondary") or fault.kind == "429":
        return _secondary(fault, request, quota)
    if fault.kind == "primary-remaining":
        answer = primary(request, account, quota, fault.kind)
        return replace(answer, headers=(*answer.headers, *_retry_after(fault)))
    if fault.kind == "too-large":
        return _failed(502, request, quota)
    if fault.is_status:
        status = int(fault.kind)
        if status >= 500:
            return _failed(status, request, quota)
        return error(status, _MESSAGES[fault.kind], *quota.headers())
    return None


def afterwards(fault: Fault, answer: Answer) -> Answer:
    """The answer as a fault leaves it."""
    if fault.kind == "slow":
        return replace(answer, delay=fault.amount or 0.0)
    if fault.kind == "malformed":
        return replace(answer, body=answer.body[: len(answer.body) // 2])
    return replace(answer, cut=True) if fault.kind == "cut" else answer


def primary(request: Request, account: str, quota: Quota, kind: str) -> Answer:
    """The answer to a request for which nothing remains, in the shape of that kind of fault."""
    number = int.from_bytes(hashlib.sha256(account.encode()).digest()[:3])
    installation = account.removeprefix("installation ")
    whom = f"user ID {number}" if installation == account else f"installation ID {installation}"
    if request.resource == "graphql":
        problem = {"type": "RATE_LIMITED", "message": f"API rate limit exceeded for {whom}."}
        if kind == "primary-code":
            already = f"API rate limit already exceeded for {whom}."
            problem = {"type": "RATE_LIMIT", "code": "graphql_rate_limit", "message": already}
        return replace(ok({"errors": [problem]}, request, quota), limited="primary")
    message = _ANONYMOUS_MESSAGE if account == ANONYMOUS else f"API rate limit exceeded for {whom}."
    docs = f"{_RATE_LIMIT_DOCS}#about-primary-rate-limits"
    return error(429 if kind == "primary-429" else 403, message, *quota.headers(), docs=docs, limited="primary")


def partial(fault: Fault, content: JsonObject) -> JsonObject:
    """The content of a GraphQL answer with some of its nodes null, and an error that says why."""
    place = _nodes(content.get("data"), [])
    if place is None:
        return content
    holder, path = place
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    wanted = keys[len(keys) // 2 :] if fault.kind == "resource-limits" else keys[:1]
    for key in wanted:
        holder[key] = None  # type: ignore[index]
    if fault.kind == "resource-limits":
        problem: JsonObject = {"type": "RESOURCE_LIMITS_EXCEEDED", "path": [*path, wanted[0]]}
        problem["message"] = "Resource limits for this query exceeded."
    else:
        problem = {"type": "FORBIDDEN", "path": [*path, wanted[0]], "extensions": {"saml_failure": False}}
        problem |= {"locations": [{"line": 1, "column": 1}], "message": "Resource not accessible by integration"}
    return {**content, "errors": [*content.get("errors", []), problem]}


def _nodes(value: object, path: list[str | int]) -> tuple[list[object] | JsonObject, list[str | int]] | None:
    """The outermost list of nodes, or else the object that holds aliased pull requests, and the way to it."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("nodes"), list) and value["nodes"]:
        return value["nodes"], [*path, "nodes"]
    for name, inner in value.items():
        found = _nodes(inner, [*path, name])
        if found is not None:
            return found
    aliased = bool(path) and bool(value) and all(isinstance(each, dict | None) for each in value.values())
    return (value, path) if aliased else None


def _secondary(fault: Fault, request: Request, quota: Quota) -> Answer:
    headers = [*quota.headers(), *_retry_after(fault)]
    if fault.kind == "secondary-200" and request.resource == "graphql":
        answer = ok({"data": None, "errors": [{"message": _SECONDARY_MESSAGE}]}, request, quota)
        return replace(answer, headers=(*answer.headers, *_retry_after(fault)), limited="secondary")
    if fault.kind == "secondary-429":
        headers.append(("GH-Limited-By", "secondary"))
    docs = f"{_RATE_LIMIT_DOCS}#about-secondary-rate-limits"
    status = 429 if fault.kind.endswith("429") else 403
    return error(status, _SECONDARY_MESSAGE, *headers, docs=docs, limited="secondary")


def _retry_after(fault: Fault) -> list[tuple[str, str]]:
    return [("Retry-After", str(math.ceil(fault.amount)))] if fault.amount is not None else []


def _failed(status: int, request: Request, quota: Quota) -> Answer:
    if request.resource != "graphql":
        return error(status, "Server Error", *quota.headers())
    message = (
        f"Something went wrong while executing your query on {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}. This may be the "
        "result of a timeout, or it could be a GitHub bug. Please include "
        f"`{secrets.token_hex(2).upper()}:{secrets.token_hex(10).upper()}` when reporting this issue."
    )
    answer = error(status, message, *quota.headers())
    return replace(answer, body=json.dumps({"data": None, "errors": [{"message": message}]}).encode())
