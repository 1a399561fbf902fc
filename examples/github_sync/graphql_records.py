"""From the nodes of GraphQL to the rows of the database; all that GitHub sends is data, and may be of any shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .tables import ChangedFile, Commit, Label, PullRequest, Repository, Review

Node = Mapping[str, Any]


class MalformedError(ValueError):
    """A node that lacks what every one of its kind has."""


@dataclass(slots=True)
class Rows:
    """The rows of a pull request."""

    pull: PullRequest
    reviews: list[Review] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    files: list[ChangedFile] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)


def repository_row(node: Node) -> Repository:
    """Return the row of a repository."""
    return Repository(
        id=_required(node, "databaseId"),
        full_name=storable(_required(node, "nameWithOwner")),
        description=optional(node.get("description")),
        default_branch=optional(_inner(node, "defaultBranchRef", "name")),
        created_at=moment(node.get("createdAt")),
    )


def rows_of(node: Node, repository_id: int) -> Rows:
    """Return the rows of a pull request and its details; raises MalformedError."""
    try:
        pull = _pull(node, repository_id)
        identity = pull.id
        return Rows(
            pull,
            [review_row(each, identity) for each in nodes(node, "reviews")],
            [commit_row(each, identity) for each in nodes(node, "commits")],
            [file_row(each, identity) for each in nodes(node, "files")],
            [Label(pull_request_id=identity, name=storable(each["name"])) for each in nodes(node, "labels")],
        )
    except MalformedError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedError(f"a pull request of another shape: {type(error).__name__}: {error}") from error


def _pull(node: Node, repository_id: int) -> PullRequest:
    state = storable(_required(node, "state")).lower()
    return PullRequest(
        id=int(_required(node, "fullDatabaseId")),
        repository_id=repository_id,
        number=_required(node, "number"),
        title=storable(node.get("title")),
        # REST knows open and closed, and says by merged_at what became of it.
        state="closed" if state == "merged" else state,
        draft=bool(node.get("isDraft")),
        author=optional(_inner(node, "author", "login")),
        body=optional(node.get("body") or None),
        head_sha=optional(node.get("headRefOid")),
        base_ref=optional(node.get("baseRefName")),
        merge_commit_sha=optional(_inner(node, "mergeCommit", "oid")),
        created_at=moment(_required(node, "createdAt")),
        updated_at=moment(node.get("updatedAt")),
        closed_at=moment(node.get("closedAt")),
        merged_at=moment(node.get("mergedAt")),
    )


def review_row(node: Node, pull_request_id: int) -> Review:
    """Return the row of a review."""
    return Review(
        pull_request_id=pull_request_id,
        id=int(_required(node, "fullDatabaseId")),
        author=optional(_inner(node, "author", "login")),
        state=storable(_required(node, "state")),
        body=optional(node.get("body") or None),
        submitted_at=moment(node.get("submittedAt")),
    )


def commit_row(node: Node, pull_request_id: int) -> Commit:
    """Return the row of a commit."""
    commit = _required(node, "commit")
    return Commit(
        pull_request_id=pull_request_id,
        sha=storable(_required(commit, "oid")),
        author=optional(_inner(commit, "author", "name")),
        message=storable(commit.get("message")),
        authored_at=moment(commit.get("authoredDate")),
    )


def file_row(node: Node, pull_request_id: int) -> ChangedFile:
    """Return the row of a changed file."""
    return ChangedFile(
        pull_request_id=pull_request_id,
        path=storable(_required(node, "path")),
        status=storable(node.get("changeType")).lower(),
        additions=int(node.get("additions") or 0),
        deletions=int(node.get("deletions") or 0),
    )


def nodes(node: Node, connection: str) -> Iterator[Node]:
    """Return the nodes of a connection; those that could not be had are null, and left out."""
    for each in (node.get(connection) or {}).get("nodes") or ():
        if each is not None:
            yield each


def next_cursor(node: Node, connection: str) -> str | None:
    """Return the cursor of a connection's further page; None where there is none."""
    info = (node.get(connection) or {}).get("pageInfo") or {}
    return str(info["endCursor"]) if info.get("hasNextPage") and info.get("endCursor") else None


def moment(text: str | None) -> datetime | None:
    """Return an instant of ISO 8601."""
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))


def _required(node: Node, name: str) -> Any:
    value = node.get(name)
    if value is None:
        raise MalformedError(f"it has no {name}")
    return value


def _inner(node: Node, name: str, inner: str) -> str | None:
    found = node.get(name)
    return found.get(inner) if isinstance(found, Mapping) else None


def storable(text: str | None) -> str:
    """Return the text as a database can hold it: a lone surrogate, which JSON can spell and UTF-8 cannot, is ``?``."""
    return (text or "").encode("utf-8", "replace").decode()


def optional(text: str | None) -> str | None:
    """Return the same for what may be missing."""
    return None if text is None else storable(text)
