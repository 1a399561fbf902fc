"""The catalogue's repositories and pull requests as GraphQL shows them: dictionaries, with functions where it pays.

A key is a field of the published schema. What has arguments, or costs something, is a function that GraphQL calls only
for a query that asks for it. A field without a key is one that the double does not have; it says so in an error.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from graphql import GraphQLError, GraphQLResolveInfo

from .catalogue import Catalogue, Repository
from .graph_details import actor, commit, label, review, shown_file, sized
from .outlines import Outline, ordered
from .rate_limit import Quota
from .search import MOST_RESULTS, Search, SearchError
from .shapes import JsonObject, node_id

Item = TypeVar("Item")

_OLD_ID = re.compile(r"0\d+:(?P<kind>[A-Za-z]+)(?P<number>\d{1,18})")
_ORDERS = {"CREATED_AT": "created_at", "UPDATED_AT": "updated_at"}
_PAGING = frozenset(("first", "after", "last", "before"))
_MOST_COMMITS = 250
_MOST_FILES = 3000


@dataclass(slots=True)
class Context:
    """What a query's resolvers share."""

    catalogue: Catalogue
    login: str
    quota: Quota
    cost: int
    nodes: int
    read: list[str] = field(default_factory=list)


Info = GraphQLResolveInfo[Context]


class NotServedError(GraphQLError):
    """A field of the schema that the double does not have."""


def resolve(source: Any, info: Info, **arguments: Any) -> object:
    """Resolve any field of the schema: from the dictionary that its parent is."""
    try:
        value = source[info.field_name]
    except KeyError:
        raise NotServedError(f"The double does not serve {info.parent_type.name}.{info.field_name}") from None
    return value(info, **arguments) if callable(value) else value


def root() -> JsonObject:
    """The fields of a query."""
    return {
        "rateLimit": _rate_limit,
        "viewer": lambda info: {"__typename": "User", "login": info.context.login},
        "repository": _repository,
        "search": _search,
        "node": _node,
    }


def problem(kind: str, message: str) -> GraphQLError:
    """An error of one of GitHub's types."""
    return GraphQLError(message, extensions={"type": kind})


def _rate_limit(info: Info, **_arguments: object) -> JsonObject:
    context: Context = info.context
    quota = context.quota
    return {
        "cost": context.cost,
        "limit": quota.limit,
        "remaining": quota.remaining,
        "used": quota.used,
        "resetAt": _moment(quota.reset),
        "nodeCount": context.nodes,
    }


def _repository(info: Info, owner: str, name: str, followRenames: bool = True) -> JsonObject:  # noqa: N803 (GitHub's)
    catalogue: Catalogue = info.context.catalogue
    full_name = f"{owner}/{name}"
    found = catalogue.repository(full_name) or (catalogue.moved(full_name) if followRenames else None)
    condition = catalogue.condition(found) if found is not None else "gone"
    if condition == "blocked":
        raise problem("FORBIDDEN", "Repository access blocked")
    if found is None or condition in ("gone", "hidden"):
        raise problem("NOT_FOUND", f"Could not resolve to a Repository with the name '{full_name}'.")
    return repository(catalogue, found)


def repository(catalogue: Catalogue, found: Repository) -> JsonObject:
    """A repository."""
    shown = found.repository()
    owner, _, name = found.full_name.partition("/")
    is_empty = catalogue.condition(found) == "empty"
    return {
        "__typename": "Repository",
        "id": node_id("Repository", found.identity),
        "databaseId": found.identity,
        "name": name,
        "nameWithOwner": found.full_name,
        "owner": {"__typename": "Organization", "login": owner},
        "description": shown.get("description"),
        "url": shown["html_url"],
        "createdAt": shown.get("created_at"),
        "updatedAt": shown.get("updated_at"),
        "pushedAt": shown.get("pushed_at"),
        "isArchived": bool(shown.get("archived")),
        "isDisabled": bool(shown.get("disabled")),
        "isPrivate": bool(shown.get("private")),
        "isFork": bool(shown.get("fork")),
        "isEmpty": is_empty,
        "defaultBranchRef": None if is_empty else {"name": shown.get("default_branch", "main")},
        "pullRequest": lambda info, number: _numbered(info, found, number),
        "pullRequests": lambda info, **arguments: _pull_requests(info, found, arguments),
    }


def _numbered(info: Info, found: Repository, number: int) -> JsonObject:
    pull = info.context.catalogue.pull_request(found, number)
    if pull is None:
        raise problem("NOT_FOUND", f"Could not resolve to a PullRequest with the number of {number}.")
    return pull_request(info.context.catalogue, found, pull)


def _pull_requests(info: Info, found: Repository, arguments: JsonObject) -> JsonObject:
    catalogue: Catalogue = info.context.catalogue
    info.context.read.append(found.full_name)
    outlines = catalogue.outlines.of(found)
    arguments = {"states": None, "orderBy": None, **arguments}
    if states := arguments.pop("states"):
        wanted = {state.lower() for state in states}
        outlines = [each for each in outlines if each.state in wanted]
    order = arguments.pop("orderBy") or {"field": "CREATED_AT", "direction": "ASC"}
    if order["field"] not in _ORDERS:
        raise NotServedError(f"The double does not serve the order {order['field']}")
    by = _ORDERS[order["field"]]
    chosen = ordered(outlines, by, descending=order["direction"] == "DESC")

    def show(outline: Outline) -> JsonObject:
        pull = catalogue.pull_request(found, outline.number)
        assert pull is not None
        return pull_request(catalogue, found, pull)

    def key(outline: Outline) -> tuple[str, int]:
        return getattr(outline, by), outline.number

    def start(cursor: str) -> int:
        # A cursor is a place in the order, not an item: what was edited since may come twice, or never.
        place, is_descending = _place(cursor), order["direction"] == "DESC"
        return sum(key(each) == place or (key(each) > place) == is_descending for each in chosen)

    return connection(chosen, arguments, show, start=start, cursor=lambda index: _cursor(*key(chosen[index])))


def connection(
    items: Sequence[Item],
    arguments: JsonObject,
    show: Callable[[Item], JsonObject],
    *,
    start: Callable[[str], int] | None = None,
    cursor: Callable[[int], str] | None = None,
) -> JsonObject:
    """The page of a list that `first`, `after`, `last` and `before` ask for; raises NotServedError for other arguments.

    `start` tells how many items a cursor leaves behind it, `cursor` is that of the item at an index.
    """
    others = [name for name, value in arguments.items() if name not in _PAGING and value is not None]
    if others:
        raise NotServedError(f"The double does not serve the argument {others[0]}")
    passed, write = start or (lambda text: _place(text)[1]), cursor or (lambda index: _cursor("", index + 1))
    low = passed(arguments["after"]) if arguments.get("after") else 0
    high = passed(arguments["before"]) - 1 if arguments.get("before") else len(items)
    if arguments.get("first") is not None:
        high = min(high, low + arguments["first"])
    elif arguments.get("last") is not None:
        low = max(low, high - arguments["last"])
    page = range(min(low, len(items)), max(low, min(high, len(items))))
    return {
        "totalCount": len(items),
        "nodes": lambda _info: [show(items[index]) for index in page],
        "edges": lambda _info: [{"cursor": write(index), "node": show(items[index])} for index in page],
        "pageInfo": lambda _info: {
            "hasNextPage": bool(page) and page[-1] + 1 < len(items),
            "hasPreviousPage": low > 0,
            "startCursor": write(page[0]) if page else None,
            "endCursor": write(page[-1]) if page else None,
        },
    }


def pull_request(catalogue: Catalogue, found: Repository, pull: JsonObject) -> JsonObject:
    """A pull request."""
    number = pull["number"]

    def reviews(_info: Info, **arguments: Any) -> JsonObject:
        every = catalogue.reviews(found, number)
        states = arguments.pop("states", None)
        return connection([each for each in every if not states or each["state"] in states], arguments, review)

    def commits(_info: Info, **arguments: Any) -> JsonObject:
        return connection(found.commits(number)[:_MOST_COMMITS], arguments, commit)

    def files(_info: Info, **arguments: Any) -> JsonObject:
        return connection(found.files(number)[:_MOST_FILES], arguments, shown_file)

    def labels(_info: Info, **arguments: Any) -> JsonObject:
        arguments.pop("orderBy", None)  # by creation is the only order of few labels
        return connection(pull.get("labels") or [], arguments, label)

    return {
        **_plain(pull),
        "repository": lambda _info: repository(catalogue, found),
        "reviews": reviews,
        "commits": commits,
        "files": files,
        "labels": labels,
    }


def _plain(pull: JsonObject) -> JsonObject:
    """The fields of a pull request that are at hand."""
    merged = bool(pull["merged_at"])
    sha = pull.get("merge_commit_sha")
    return {
        "__typename": "PullRequest",
        "id": pull.get("node_id") or node_id("PullRequest", pull["id"]),
        **sized(pull["id"]),
        "number": pull["number"],
        "title": pull["title"],
        "body": pull["body"] or "",
        "bodyText": pull["body"] or "",
        "state": "MERGED" if merged else pull["state"].upper(),
        "isDraft": pull["draft"],
        "closed": pull["state"] == "closed",
        "merged": merged,
        "locked": pull.get("locked", False),
        "url": pull["html_url"],
        "createdAt": pull["created_at"],
        "updatedAt": pull["updated_at"],
        "closedAt": pull["closed_at"],
        "mergedAt": pull["merged_at"],
        "headRefName": pull["head"]["ref"],
        "headRefOid": pull["head"]["sha"],
        "baseRefName": pull["base"]["ref"],
        "baseRefOid": pull["base"]["sha"],
        "additions": pull.get("additions", 0),
        "deletions": pull.get("deletions", 0),
        "changedFiles": pull.get("changed_files", 0),
        "author": actor(pull["user"]),
        "authorAssociation": pull.get("author_association", "NONE"),
        "mergedBy": actor(pull.get("merged_by")),
        "mergeCommit": {"__typename": "Commit", "oid": sha} if merged and sha else None,
        "comments": lambda _info, **_arguments: {"totalCount": pull.get("comments", 0)},
    }


def _search(info: Info, query: str, type: str, **arguments: Any) -> JsonObject:  # noqa: A002 (GitHub's)
    catalogue: Catalogue = info.context.catalogue
    if type not in ("ISSUE", "ISSUE_ADVANCED"):
        raise NotServedError(f"The double does not serve a search of the type {type}")
    try:
        hits = Search.parse(query).found(catalogue)
    except SearchError as wrong:
        raise problem("UNPROCESSABLE", str(wrong)) from None

    def show(hit: tuple[Repository, Outline, bool]) -> JsonObject:
        found, outline, is_pull = hit
        if not is_pull:
            return {"__typename": "Issue", "number": outline.number, "updatedAt": outline.updated_at}
        pull = catalogue.pull_request(found, outline.number)
        assert pull is not None
        return pull_request(catalogue, found, pull)

    return {**connection(hits[:MOST_RESULTS], arguments, show), "issueCount": len(hits)}


def _node(info: Info, id: str) -> JsonObject:  # noqa: A002 (GitHub's)
    catalogue: Catalogue = info.context.catalogue
    try:
        match = _OLD_ID.fullmatch(base64.b64decode(id, validate=True).decode())
    except (binascii.Error, UnicodeDecodeError):
        match = None
    place = catalogue.pull_request_of(int(match["number"])) if match and match["kind"] == "PullRequest" else None
    if place is not None:
        return _numbered(info, *place)
    found = catalogue.repository(int(match["number"])) if match and match["kind"] == "Repository" else None
    if found is None:
        raise problem("NOT_FOUND", f"Could not resolve to a node with the global id of '{id}'")
    return repository(catalogue, found)


def _cursor(moment: str, number: int) -> str:
    return base64.b64encode(f"cursor:v2:{moment}|{number}".encode()).decode()


def _place(cursor: str) -> tuple[str, int]:
    try:
        moment, _, number = base64.b64decode(cursor, validate=True).decode().removeprefix("cursor:v2:").partition("|")
        return moment, int(number)
    except (binascii.Error, ValueError):
        raise problem("INVALID_CURSOR_ARGUMENTS", f"`{cursor}` does not appear to be a valid cursor.") from None


def _moment(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
