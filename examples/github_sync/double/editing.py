"""Edits of pull requests while the double runs, for incremental syncs to find."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from . import shapes
from .catalogue import Catalogue, Repository
from .generator import person

KINDS = ("title", "reviews", "updated")
_REVIEWER = "lucia"


def touch(
    catalogue: Catalogue,
    names: Sequence[str] | None = None,
    *,
    share: float = 0.0,
    numbers: Sequence[int] = (),
    kinds: Sequence[str] = KINDS,
    at: str | None = None,
    seed: int = 0,
) -> dict[str, list[int]]:
    """Edit a share (0 to 1) of the pull requests of repositories, or those with the numbers; returns their numbers.

    Each gets a new ``updated_at`` (`at`, or now), and in turn a new title, another review, or nothing more. Without
    `names` all repositories are edited. Raises KeyError for a repository that is not there.
    """
    found = [catalogue.repository(name) for name in names] if names is not None else catalogue.repositories()
    if None in found:
        raise KeyError(", ".join(names or ()))
    moment = at or now()
    touched: dict[str, list[int]] = {}
    for repository in found:
        assert repository is not None
        every = repository.numbers()
        rng = random.Random(f"{seed}/{repository.full_name}")
        chosen = sorted(set(numbers) & set(every) if numbers else rng.sample(every, round(share * len(every))))
        for index, number in enumerate(chosen):
            _edit(catalogue, repository, number, kinds[index % len(kinds)], moment)
        if chosen:
            touched[repository.full_name] = chosen
    return touched


def drift(catalogue: Catalogue, full_name: str) -> None:
    """Edit the least recently updated pull request of a repository, as somebody may between two pages."""
    repository = catalogue.repository(full_name)
    outlines = catalogue.outlines.of(repository) if repository is not None else []
    if repository is not None and outlines:
        oldest = min(outlines, key=lambda outline: (outline.updated_at, outline.number))
        _edit(catalogue, repository, oldest.number, "title", now())


def now() -> str:
    """The time as GitHub writes it, in whole seconds."""
    return datetime.fromtimestamp(int(time.time()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _edit(catalogue: Catalogue, repository: Repository, number: int, kind: str, moment: str) -> None:
    pull = catalogue.pull_request(repository, number)
    assert pull is not None
    if kind == "title":
        catalogue.change(repository.full_name, number, title=f"{pull['title']} (edited)")
    elif kind == "reviews":
        # After the sixteenths of an id that generated reviews have.
        identity = pull["id"] * 16 + 9 + len(catalogue.reviews(repository, number))
        review = shapes.review(pull, identity, person(_REVIEWER), state="APPROVED", body="", at=moment)
        catalogue.review(repository.full_name, number, review)
    catalogue.change(repository.full_name, number, updated_at=moment)
