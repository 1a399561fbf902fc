"""Storing of pull requests: each with its details or not at all, and what cannot be stored in the dead-letter table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

import otelsync

from .database import Action, replace_details, upsert
from .graphql_records import Node, Rows, repository_row, rows_of
from .tables import ChangedFile, Commit, DeadLetter, Label, PullRequest, Review, Table, TrackedRepository

_LONGEST_REASON = 500
_DIGITS = 19
"""Numbers with fewer fit into a database's BIGINT. What is larger fails by itself, when it is stored."""


def store_repository(session: Session, tracked: TrackedRepository, node: Node) -> None:
    """Store the row of a tracked repository; GitHub answers for an old name with the new one."""
    row = repository_row(node)
    upsert(session, row)
    session.flush()
    tracked.repository_id = row.id


def known(session: Session, found: Sequence[Node]) -> set[int]:
    """Return which of the pull requests of a page are stored; they are loaded in one step."""
    told = [str(node.get("fullDatabaseId")) for node in found]
    ids = [int(text) for text in told if text.isascii() and text.isdigit() and len(text) < _DIGITS]
    return {pull.id for pull in session.scalars(select(PullRequest).where(PullRequest.id.in_(ids)))}


def store_pull(session: Session, rows: Rows, *, is_new: bool = False) -> Action:
    """Store a pull request and its details, in a transaction of their own inside the session's.

    `is_new`: nothing of it is stored, so nothing is compared.
    """
    with session.begin_nested():
        if is_new:
            session.add(rows.pull)
            session.flush()
            session.add_all(_each_once(rows))
            return "created"
        action = upsert(session, rows.pull)
        session.flush()
        identity = rows.pull.id
        changes = [
            replace_details(session, identity, Review, rows.reviews),
            replace_details(session, identity, ChangedFile, rows.files),
            replace_details(session, identity, Commit, rows.commits),
            replace_details(session, identity, Label, rows.labels),
        ]
    return "updated" if any(changes) and action == "unchanged" else action


def _each_once(rows: Rows) -> list[Table]:
    """Return the rows of the details; what a page that has drifted shows twice, once."""
    return [
        *{each.id: each for each in rows.reviews}.values(),
        *{each.path: each for each in rows.files}.values(),
        *{each.sha: each for each in rows.commits}.values(),
        *{each.name: each for each in rows.labels}.values(),
    ]


def store_pulls(
    session: Session, tracked: TrackedRepository, pulls: Sequence[Node], problems: Mapping[int, Exception]
) -> Counter[str]:
    """Store pull requests, each as an item of the trace; returns how many by their action.

    Those that fail are in the dead-letter table; one that is stored is no longer.

    Args:
        session: Of the database.
        tracked: Their repository, whose row is stored.
        pulls: Their nodes.
        problems: What went wrong with some before, by their place.
    """
    stored, counts, numbers = known(session, pulls), Counter[str](), list[int]()
    for place, pull in enumerate(pulls):
        action = _store_one(session, tracked, pull, stored, problems.get(place))
        counts[action or "failed"] += 1
        if action is not None:
            numbers.append(int(pull["number"]))
    exhume(session, tracked.id, numbers)
    return counts


def _store_one(
    session: Session, tracked: TrackedRepository, node: Node, stored: set[int], problem: Exception | None
) -> Action | None:
    """Store a node; None: it has failed."""
    number = node.get("number")
    number = number if isinstance(number, int) and len(str(number)) < _DIGITS else 0
    try:
        with otelsync.pull_request(number, state=str(node.get("state")).lower()) as item:
            if problem is not None:
                raise problem
            rows = rows_of(node, tracked.repository_id or 0)
            identity = rows.pull.id
            action = store_pull(session, rows, is_new=identity not in stored)
            stored.add(identity)
            item.set(action=action)
    except Exception as error:
        # The item has recorded it; the other pull requests are not to suffer.
        bury(session, tracked.id, number, error)
        return None
    return action


def exhume(session: Session, tracked_id: int, numbers: Sequence[int]) -> None:
    """Take pull requests that are stored by now out of the dead-letter table."""
    session.execute(delete(DeadLetter).where(DeadLetter.tracked_id == tracked_id, DeadLetter.number.in_(numbers)))


def bury(session: Session, tracked_id: int, number: int, error: Exception) -> None:
    """Write down that a pull request could not be stored, and why."""
    reason = f"{type(error).__name__}: {error}".encode("utf-8", "replace").decode()[:_LONGEST_REASON]
    now = datetime.now(UTC)
    letter = session.get(DeadLetter, (tracked_id, number))
    if letter is None:
        session.add(DeadLetter(tracked_id=tracked_id, number=number, reason=reason, failed_at=now))
    else:
        letter.reason, letter.failed_at, letter.attempts = reason, now, letter.attempts + 1


def letters(session: Session, tracked_id: int) -> Sequence[int]:
    """Return the numbers of the pull requests of a repository that could not be stored."""
    return session.scalars(select(DeadLetter.number).where(DeadLetter.tracked_id == tracked_id)).all()
