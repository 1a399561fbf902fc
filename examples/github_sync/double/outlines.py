"""The few fields by which pull requests are ordered and found, kept for each repository: a page costs no more."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from .shapes import JsonObject


class Outlined(Protocol):
    """A repository whose pull requests can be told in outline."""

    @property
    def identity(self) -> int: ...
    def numbers(self) -> list[int]: ...
    def outline(self, number: int) -> JsonObject: ...


@dataclass(frozen=True, slots=True)
class Outline:
    """A pull request in brief; times as GitHub writes them, which sort as text. `state` is open, closed or merged."""

    number: int
    created_at: str
    updated_at: str
    state: str
    closed_at: str | None = None
    merged_at: str | None = None


class Outlines:
    """All outlines of all repositories, made when first asked for; safe to use from many threads."""

    def __init__(self) -> None:
        self._known: dict[int, dict[int, Outline]] = {}
        self._lock = threading.RLock()

    def of(self, repository: Outlined) -> list[Outline]:
        """The repository's outlines, by number."""
        with self._lock:
            return list(self._all(repository).values())

    def change(self, repository: Outlined, number: int, fields: JsonObject) -> None:
        """Let an outline follow a change of its pull request."""
        with self._lock:
            known = self._all(repository)
            if number in known:
                now = {**_fields(known[number]), **fields}
                known[number] = replace(_outline(now), number=number)

    def _all(self, repository: Outlined) -> dict[int, Outline]:
        known = self._known.get(repository.identity)
        if known is None:
            known = {number: _outline(repository.outline(number)) for number in repository.numbers()}
            self._known[repository.identity] = known
        return known


def ordered(outlines: Iterable[Outline], by: str, *, descending: bool) -> list[Outline]:
    """In the order of ``created_at`` or ``updated_at``; the number decides between equals."""
    return sorted(outlines, key=lambda outline: (getattr(outline, by), outline.number), reverse=descending)


def _outline(pull: JsonObject) -> Outline:
    merged_at = pull.get("merged_at")
    return Outline(
        pull["number"],
        pull["created_at"],
        pull["updated_at"],
        "merged" if merged_at else pull["state"],
        pull.get("closed_at"),
        merged_at,
    )


def _fields(outline: Outline) -> JsonObject:
    return {
        "number": outline.number,
        "created_at": outline.created_at,
        "updated_at": outline.updated_at,
        "state": "open" if outline.state == "open" else "closed",
        "closed_at": outline.closed_at,
        "merged_at": outline.merged_at,
    }
