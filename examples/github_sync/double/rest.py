"""GitHub's REST API: a request in, an answer out, limits and faults apart.

The rules are GitHub's: pages of 30, at most 100; ``Link`` only where there is more than one page, with addresses of the
form ``/repositories/{id}/...``; 301 after a rename; 404 for all that is not known, and for every write.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

from ..recordings import Exchange
from .catalogue import Catalogue, Condition, Repository, listed
from .messages import DOCS, Answer, Request, error, ok
from .outlines import Outline, ordered
from .rate_limit import ANONYMOUS
from .search import MOST_RESULTS, Search, SearchError, plain_issues
from .shapes import API, REPOSITORY_ONLY, JsonObject, issue_of

Item = TypeVar("Item")

_NOT_REPLAYED = frozenset(
    ("connection", "content-encoding", "content-length", "date", "keep-alive", "server", "transfer-encoding")
)
_REPOSITORY = re.compile(
    r"/(?:repos/(?P<name>[^/]+/[^/]+)|repositories/(?P<identity>\d{1,18}))"
    r"(?P<list>(?:/pulls(?:/(?P<number>\d{1,18})(?:/(?P<detail>reviews|files|commits))?)?)|/issues|/commits)?"
)
_SERVED = frozenset(("state", "sort", "direction", "since", "per_page", "page"))
_NO_SUCH_PLACE = (
    "The listed users and repositories cannot be searched either because the resources do not exist or you do not have "
    "permission to view them."
)


def found(catalogue: Catalogue, request: Request) -> Answer:
    """The answer to a read, recorded or put together; what is not known is not found."""
    if request.method not in ("GET", "HEAD"):
        return error(404, "Not Found")
    if request.path == "/user" and request.token == ANONYMOUS:
        return error(401, "Requires authentication")
    accept = request.headers.get("accept", "*/*")
    recorded = catalogue.replay("GET", request.path, request.query, accept)
    if recorded is not None:
        return _replayed(recorded)
    if request.path == "/search/issues":
        return _searched(catalogue, request)
    return _built(catalogue, request)


def unavailable(condition: Condition, listing: str | None) -> Answer | None:
    """The answer of a repository that is not well, or None; `listing` is the part of it that was asked for."""
    if condition == "hidden":
        return error(404, "Not Found")
    if condition == "gone":
        return error(410, "Gone")
    if condition == "blocked":
        block = {"reason": "dmca", "created_at": "2026-01-12T21:02:03Z", "html_url": "https://github.com/github/dmca"}
        return error(451, "Repository access blocked", block=block)
    if condition == "empty" and listing == "/commits":
        return error(409, "Git Repository is empty.")
    return None


def _built(catalogue: Catalogue, request: Request) -> Answer:
    match = _REPOSITORY.fullmatch(unquote(request.path))
    if match is None:
        return error(404, "Not Found")
    repository = catalogue.repository(match["name"] or int(match["identity"]))
    if repository is None:
        former = catalogue.moved(match["name"]) if match["name"] else None
        return error(404, "Not Found") if former is None else _moved(former, match["list"] or "", request)
    refused = unavailable(catalogue.condition(repository), match["list"])
    if refused is not None:
        return refused
    others = [name for name, _ in parse_qsl(request.query) if name not in _SERVED]
    if others or request.asked("sort", "created") not in ("created", "updated"):
        return error(501, f"The double does not serve {request.path} with {' and '.join(others) or 'this order'}")
    if not match["list"]:
        return ok({**REPOSITORY_ONLY, **repository.repository()}, request)
    if match["list"] == "/issues":
        return _issues(catalogue, repository, request)
    if not match["number"]:
        return _pulls(catalogue, repository, request) if match["list"] == "/pulls" else error(404, "Not Found")
    return _pull(catalogue, repository, int(match["number"]), match["detail"], request)


def _moved(repository: Repository, rest: str, request: Request) -> Answer:
    address = f"{API}/repositories/{repository.identity}{rest}" + (f"?{request.query}" if request.query else "")
    docs = f"{DOCS}/guides/best-practices-for-using-the-rest-api#follow-redirects"
    return error(301, "Moved Permanently", ("Location", address), docs=docs, url=address)


def _pull(catalogue: Catalogue, repository: Repository, number: int, detail: str | None, request: Request) -> Answer:
    pull = catalogue.pull_request(repository, number)
    if pull is None:
        return error(404, "Not Found", docs=f"{DOCS}/pulls/pulls#get-a-pull-request")
    if not detail:
        return ok(pull, request)
    reviews: Callable[[int], list[JsonObject]] = partial(catalogue.reviews, repository)
    lists = {"reviews": reviews, "files": repository.files, "commits": repository.commits}
    details = lists[detail](number)
    return _page(details, lambda each: each, f"/pulls/{number}/{detail}", repository, request)


def _pulls(catalogue: Catalogue, repository: Repository, request: Request) -> Answer:
    """The list of pull requests: open ones, newest first, unless the query asks for others."""
    by = "updated" if request.asked("sort", "created") == "updated" else "created"
    descending = request.asked("direction", "desc" if by == "created" else "asc") == "desc"
    outlines = _in_state(catalogue.outlines.of(repository), request.asked("state", "open"))
    chosen = ordered(outlines, f"{by}_at", descending=descending)
    return _page(chosen, lambda each: listed(_known(catalogue, repository, each.number)), "/pulls", repository, request)


def _issues(catalogue: Catalogue, repository: Repository, request: Request) -> Answer:
    """Issues and pull requests in one list: open ones, newest first; `since` is about when they were updated."""
    outlines = [*catalogue.outlines.of(repository), *plain_issues(repository)]
    since = request.asked("since")
    if since:
        outlines = [each for each in outlines if each.updated_at >= since]
    by = "updated" if request.asked("sort", "created") == "updated" else "created"
    descending = request.asked("direction", "desc") == "desc"
    chosen = ordered(_in_state(outlines, request.asked("state", "open")), f"{by}_at", descending=descending)
    return _page(chosen, lambda each: _issue(catalogue, repository, each.number), "/issues", repository, request)


def _searched(catalogue: Catalogue, request: Request) -> Answer:
    try:
        search = Search.parse(request.asked("q"))
    except SearchError as wrong:
        return error(422, "Validation Failed", errors=[{"message": str(wrong), "resource": "Search", "field": "q"}])
    if request.asked("sort") in ("created", "updated"):
        search.by = f"{request.asked('sort')}_at"
    search.descending = request.asked("order", "desc") == "desc"
    if search.repositories and not any(catalogue.repository(name) for name in search.repositories):
        nowhere = {"message": _NO_SUCH_PLACE, "resource": "Search", "field": "q", "code": "invalid"}
        return error(422, "Validation Failed", errors=[nowhere])
    hits = search.found(catalogue)
    size, page = min(_number(request, "per_page", 30), 100), _number(request, "page", 1)
    items = [
        {**_issue(catalogue, repository, outline.number), "score": 1.0}
        for repository, outline, _is_pull in hits[:MOST_RESULTS][(page - 1) * size : page * size]
    ]
    content = {"total_count": len(hits), "incomplete_results": False, "items": items, "search_type": "lexical"}
    answer = ok(content, request)
    last = max(1, math.ceil(min(len(hits), MOST_RESULTS) / size))
    link = _link(f"{API}/search/issues", request.query, page, last)
    return Answer(answer.status, (*answer.headers, ("Link", link)), answer.body) if link else answer


def _issue(catalogue: Catalogue, repository: Repository, number: int) -> JsonObject:
    plain = repository.issue(number)
    if plain is not None:
        return plain
    return issue_of(_known(catalogue, repository, number), repository.issue_identity(number))


def _known(catalogue: Catalogue, repository: Repository, number: int) -> JsonObject:
    pull = catalogue.pull_request(repository, number)
    assert pull is not None
    return pull


def _in_state(outlines: list[Outline], state: str) -> list[Outline]:
    return [each for each in outlines if state == "all" or (each.state == "open") == (state == "open")]


def _page(
    items: Sequence[Item], show: Callable[[Item], JsonObject], path: str, repository: Repository, request: Request
) -> Answer:
    """The part of a list that the query asks for, with ``Link`` where there are others."""
    size, page = min(_number(request, "per_page", 30), 100), _number(request, "page", 1)
    last = max(1, math.ceil(len(items) / size))
    chosen = [show(item) for item in items[(page - 1) * size : page * size]]
    answer = ok(chosen, request)
    link = _link(f"{API}/repositories/{repository.identity}{path}", request.query, page, last)
    return Answer(answer.status, (*answer.headers, ("Link", link)), answer.body) if link else answer


def _number(request: Request, name: str, default: int) -> int:
    text = request.asked(name)
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


def _replayed(exchange: Exchange) -> Answer:
    headers = tuple(
        (name, value)
        for name, value in exchange.headers
        if name.lower() not in _NOT_REPLAYED and not name.lower().startswith("x-ratelimit-")
    )
    return Answer(exchange.status, headers, exchange.body)
