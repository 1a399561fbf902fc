"""A pull request's reviews, commits, files and labels as GraphQL shows them, each from its REST object."""

from __future__ import annotations

from .shapes import JsonObject, node_id

_LARGEST_INT = 2**31 - 1
_CHANGES = {
    "added": "ADDED",
    "removed": "DELETED",
    "modified": "MODIFIED",
    "renamed": "RENAMED",
    "copied": "COPIED",
    "changed": "CHANGED",
}


def sized(number: int) -> JsonObject:
    """An id as GraphQL has it: its ``Int`` ends at 31 bits, so that a larger one is in ``fullDatabaseId`` alone."""
    return {"databaseId": number if number <= _LARGEST_INT else None, "fullDatabaseId": str(number)}


def actor(user: JsonObject | None) -> JsonObject | None:
    """Somebody who did something; None where the account is gone."""
    if user is None:
        return None
    kind = user.get("type", "User")
    return {
        "__typename": kind if kind in ("Bot", "Organization", "Mannequin") else "User",
        "login": user["login"],
        "id": user.get("node_id") or node_id(kind, user["id"]),
        "databaseId": user["id"],
        "url": user.get("html_url"),
        "avatarUrl": user.get("avatar_url"),
    }


def review(found: JsonObject) -> JsonObject:
    """A review."""
    return {
        "__typename": "PullRequestReview",
        "id": found.get("node_id") or node_id("PullRequestReview", found["id"]),
        **sized(found["id"]),
        "state": found["state"],
        "body": found.get("body") or "",
        "bodyText": found.get("body") or "",
        "author": actor(found["user"]),
        "authorAssociation": found.get("author_association", "NONE"),
        "submittedAt": found["submitted_at"],
        "createdAt": found["submitted_at"],
        "updatedAt": found["submitted_at"],
        "url": found["html_url"],
        "commit": {"__typename": "Commit", "oid": found["commit_id"]} if found.get("commit_id") else None,
    }


def commit(found: JsonObject) -> JsonObject:
    """A commit of a pull request."""
    written = found["commit"]
    message = written["message"]
    oid = found["sha"]
    inner = {
        "__typename": "Commit",
        "id": node_id("Commit", int(oid[:12], 16)),
        "oid": oid,
        "abbreviatedOid": oid[:7],
        "message": message,
        "messageHeadline": message.partition("\n")[0],
        "messageBody": message.partition("\n")[2].strip(),
        "authoredDate": written["author"]["date"],
        "committedDate": written["committer"]["date"],
        "author": _git_actor(written["author"], found.get("author")),
        "committer": _git_actor(written["committer"], found.get("committer")),
        "url": found["html_url"],
    }
    identity = node_id("PullRequestCommit", int(oid[:12], 16))
    return {"__typename": "PullRequestCommit", "id": identity, "url": found["html_url"], "commit": inner}


def shown_file(found: JsonObject) -> JsonObject:
    """A changed file."""
    return {
        "__typename": "PullRequestChangedFile",
        "path": found["filename"],
        "additions": found["additions"],
        "deletions": found["deletions"],
        "changeType": _CHANGES.get(found["status"], "CHANGED"),
        "viewerViewedState": "UNVIEWED",
    }


def label(found: JsonObject) -> JsonObject:
    """A label."""
    return {
        "__typename": "Label",
        "id": found.get("node_id") or node_id("Label", found.get("id", 0)),
        "name": found["name"],
        "color": found["color"],
        "description": found.get("description"),
        "isDefault": found.get("default", False),
        "url": found["url"],
    }


def _git_actor(person: JsonObject, user: JsonObject | None) -> JsonObject:
    return {"name": person.get("name"), "email": person.get("email"), "date": person.get("date"), "user": actor(user)}
