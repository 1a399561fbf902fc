"""GitHub's search for issues and pulls, as far as a sync uses it: ``repo:acme/api is:pr created:>2026-01-01``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from .catalogue import Catalogue, Repository
from .outlines import Outline, Outlines

MOST_RESULTS = 1000

_TERM = re.compile(r'(?P<not>-)?(?P<name>[a-z]+):(?P<value>"[^"]*"|\S+)|(?P<word>\S+)')
_DATED = {"created": "created_at", "updated": "updated_at", "closed": "closed_at", "merged": "merged_at"}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:?\d{2})?)?")


class SearchError(ValueError):
    """A query that GitHub refuses, or that this double does not understand; the message says which part."""


@dataclass(frozen=True, slots=True)
class Range:
    """Times of one kind from `low` (with it) to `high` (without it), as text."""

    kind: str
    low: str
    high: str

    def holds(self, outline: Outline) -> bool:
        """Whether the outline's time lies in the range."""
        moment = getattr(outline, self.kind)
        return moment is not None and self.low <= moment < self.high


@dataclass(slots=True)
class Search:
    """A query in its parts."""

    repositories: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    states: set[str] = field(default_factory=set)
    ranges: list[Range] = field(default_factory=list)
    by: str = "created_at"
    descending: bool = True

    @classmethod
    def parse(cls, text: str) -> Search:
        """Read a query; raises SearchError."""
        search = cls()
        for term in _TERM.finditer(text):
            if term["word"] or term["not"]:
                raise SearchError(f"the double does not search for {term[0]!r}")
            search._take(term["name"], term["value"].strip('"'))
        return search

    def _take(self, name: str, value: str) -> None:
        if name == "repo":
            self.repositories.append(value)
        elif name in ("org", "user"):
            self.owners.append(value.lower())
        elif name in _DATED:
            self.ranges.append(_range(_DATED[name], value))
        elif name == "sort":
            by, _, direction = value.partition("-")
            self.by, self.descending = f"{by}_at", direction != "asc"
        elif name in ("is", "type", "state") and value in ("pr", "issue"):
            self.kinds.add(value)
        elif name in ("is", "state") and value in ("open", "closed", "merged", "unmerged"):
            self.states.add(value)
        elif not (name == "is" and value in ("public", "private")) and name != "archived":
            raise SearchError(f"the double does not search for {name}:{value}")

    def found(self, catalogue: Catalogue) -> list[tuple[Repository, Outline, bool]]:
        """The repository, the outline, and True for a pull request, of all that is found, in the query's order."""
        found = [hit for repository in self._where(catalogue) for hit in self._in(catalogue.outlines, repository)]
        by = self.by if self.by in ("created_at", "updated_at") else "created_at"
        return sorted(found, key=lambda hit: (getattr(hit[1], by), hit[1].number), reverse=self.descending)

    def _where(self, catalogue: Catalogue) -> Iterator[Repository]:
        if self.repositories:
            named = (catalogue.repository(name) or catalogue.moved(name) for name in self.repositories)
            candidates = [repository for repository in named if repository is not None]
        else:
            candidates = catalogue.repositories()
        for repository in candidates:
            owner = repository.full_name.partition("/")[0].lower()
            if (not self.owners or owner in self.owners) and catalogue.condition(repository) in ("well", "empty"):
                yield repository

    def _in(self, outlines: Outlines, repository: Repository) -> Iterator[tuple[Repository, Outline, bool]]:
        if self.kinds != {"issue"}:
            yield from ((repository, each, True) for each in outlines.of(repository) if self._matches(each))
        if self.kinds != {"pr"}:
            for each in plain_issues(repository):
                if self._matches(each):
                    yield repository, each, False

    def _matches(self, outline: Outline) -> bool:
        is_state = {
            "open": outline.state == "open",
            "closed": outline.state != "open",
            "merged": outline.state == "merged",
            "unmerged": outline.state != "merged",
        }
        return all(is_state[state] for state in self.states) and all(each.holds(outline) for each in self.ranges)


def plain_issues(repository: Repository) -> Iterator[Outline]:
    """The issues of a repository that are no pull requests, in outline."""
    for number in repository.issue_numbers():
        issue = repository.issue(number)
        if issue is not None:
            yield Outline(number, issue["created_at"], issue["updated_at"], issue["state"])


def _range(kind: str, value: str) -> Range:
    first, dots, last = value.partition("..")
    if dots:
        return Range(kind, "" if first == "*" else _start(first), "~" if last == "*" else _end(last))
    comparison = re.match(r">=|<=|>|<|", value)
    sign = comparison[0] if comparison else ""
    moment = value.removeprefix(sign)
    if sign == ">=":
        return Range(kind, _start(moment), "~")
    if sign == ">":
        return Range(kind, _end(moment), "~")
    if sign == "<":
        return Range(kind, "", _start(moment))
    return Range(kind, "" if sign == "<=" else _start(moment), _end(moment))


def _start(text: str) -> str:
    """The first moment of a day, or the moment itself, in UTC."""
    if not _MOMENT.fullmatch(text):
        raise SearchError(f"{text!r} is not a recognized date/time format")
    moment = datetime.fromisoformat(text)
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _end(text: str) -> str:
    """The first moment after a day or a second."""
    start = _start(text)
    if _DAY.fullmatch(text):
        return f"{date.fromisoformat(text) + timedelta(days=1)}T00:00:00Z"
    return f"{start}~"  # sorts after it, and before the next second
