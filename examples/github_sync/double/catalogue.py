"""What the double knows: the recorded exchanges to replay, and the repositories and pull requests found in them.

Where the exact URL was recorded, it is replayed. The rest of what a sync asks for is put together from the recorded
objects, never invented: a pull request is the sum of all its recordings, newest last; its reviews are those recorded,
or those that its recorded review comments belong to; its commits are found by walking back from its head; its files
come from those commits. What no recording tells is empty. Fields that GitHub has added since a recording have the value
that GitHub gives them where nothing is set.
"""

from __future__ import annotations

import copy
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal, Protocol
from urllib.parse import parse_qsl, urlsplit

from ..recordings import Exchange
from .outlines import Outlines
from .shapes import API, DETAIL_ONLY, JsonObject

_FORM = re.compile(r"application/vnd\.github\.(?:[\w-]+\.)*(diff|patch|raw|html|sha|text-match)\b")
_REPOSITORY_PATH = re.compile(r"^/repos/[^/]+/[^/]+")
_NEWER_FIELDS: JsonObject = {
    "draft": False,
    "auto_merge": None,
    "active_lock_reason": None,
    "assignees": [],
    "requested_reviewers": [],
    "requested_teams": [],
    "labels": [],
    "mergeable": None,
    "rebaseable": None,
    "mergeable_state": "unknown",
    "merged_by": None,
    "comments": 0,
    "review_comments": 0,
    "maintainer_can_modify": False,
}
_MAX_COMMITS = 250
_DETAIL_LIST = re.compile(re.escape(API) + r"/repos/[^/]+/[^/]+/pulls/\d+/(files|commits)")

Condition = Literal["well", "hidden", "empty", "gone", "blocked"]
"""The state of a repository: as ever; 404; without a commit (409); deleted (410); closed by GitHub (451)."""

ReplayKey = tuple[str, str, tuple[tuple[str, str], ...], str]


class Repository(Protocol):
    """A repository and its pull requests, wherever they come from."""

    @property
    def full_name(self) -> str: ...
    @property
    def identity(self) -> int: ...
    def repository(self) -> JsonObject: ...
    def numbers(self) -> list[int]: ...
    def pull_request(self, number: int) -> JsonObject | None: ...
    def reviews(self, number: int) -> list[JsonObject]: ...
    def files(self, number: int) -> list[JsonObject]: ...
    def commits(self, number: int) -> list[JsonObject]: ...
    def outline(self, number: int) -> JsonObject: ...
    def issue_numbers(self) -> list[int]: ...
    def issue(self, number: int) -> JsonObject | None: ...
    def issue_identity(self, number: int) -> int: ...
    def number_of(self, identity: int) -> int | None: ...
    def renamed(self, full_name: str) -> Repository: ...


class Catalogue:
    """All repositories by name (in any case, as on GitHub) and by number, and the recordings by request."""

    def __init__(self, exchanges: Iterable[Exchange] = (), repositories: Iterable[Repository] = ()) -> None:
        found = list(exchanges)
        self._replays = _replays(found)
        self._repositories: dict[str, Repository] = {}
        for repository in [*_recorded_repositories(found), *repositories]:
            self._repositories[repository.full_name.lower()] = repository
        self._by_number = {repository.identity: repository for repository in self._repositories.values()}
        self._changes: dict[tuple[int, int], JsonObject] = defaultdict(dict)
        self._more_reviews: dict[tuple[int, int], list[JsonObject]] = defaultdict(list)
        self._former: dict[str, int] = {}
        self._conditions: dict[int, Condition] = {}
        self.outlines = Outlines()

    def repositories(self) -> list[Repository]:
        """Every repository with pull requests."""
        return list(self._repositories.values())

    def repository(self, name: str | int) -> Repository | None:
        """The repository of that full name or number."""
        if isinstance(name, int):
            return self._by_number.get(name)
        return self._repositories.get(name.lower())

    def replay(self, method: str, path: str, query: str, accept: str) -> Exchange | None:
        """The recorded answer to exactly this request; the newest one that was a success, if there are several."""
        return self._replays.get(_replay_key(method, path, query, accept))

    def rename(self, full_name: str, new_name: str) -> None:
        """Give a repository another name; the old one leads to it. Raises KeyError where there is none."""
        repository = self._repositories.pop(full_name.lower())
        again = repository.renamed(new_name)
        self._repositories[new_name.lower()] = self._by_number[again.identity] = again
        self._former[full_name.lower()] = again.identity

    def moved(self, name: str) -> Repository | None:
        """The repository that once had that name, or None."""
        identity = self._former.get(name.lower())
        return self._by_number[identity] if identity is not None else None

    def set_condition(self, full_name: str, condition: Condition) -> None:
        """Let a repository be in another state from now on. Raises KeyError where there is none."""
        self._conditions[self._repositories[full_name.lower()].identity] = condition

    def condition(self, repository: Repository) -> Condition:
        """The state that the repository is in."""
        return self._conditions.get(repository.identity, "well")

    def change(self, full_name: str, number: int, /, **fields: object) -> None:
        """Let the pull request have other values from now on, as if somebody had edited it."""
        repository = self._repositories[full_name.lower()]
        self._changes[repository.identity, number].update(fields)
        self.outlines.change(repository, number, fields)

    def review(self, full_name: str, number: int, review: JsonObject) -> None:
        """Let the pull request have one more review."""
        repository = self._repositories[full_name.lower()]
        self._more_reviews[repository.identity, number].append(review)

    def pull_request(self, repository: Repository, number: int) -> JsonObject | None:
        """A pull request with all its fields and what was changed since, or None."""
        pull = repository.pull_request(number)
        changes = self._changes.get((repository.identity, number))
        return {**pull, **changes} if pull is not None and changes else pull

    def reviews(self, repository: Repository, number: int) -> list[JsonObject]:
        """The reviews of a pull request in time order, with those that came since."""
        more = self._more_reviews.get((repository.identity, number))
        return [*repository.reviews(number), *more] if more else repository.reviews(number)

    def pull_request_of(self, identity: int) -> tuple[Repository, int] | None:
        """Where the pull request of that id is: its repository and number, or None."""
        for repository in self._by_number.values():
            number = repository.number_of(identity)
            if number is not None:
                return repository, number
        return None


class RecordedRepository:
    """One repository of which pull requests were recorded; satisfies Repository."""

    def __init__(self, full_name: str, pulls: dict[int, JsonObject], evidence: _Evidence) -> None:
        self._full_name = full_name
        self._pulls = pulls
        self._evidence = evidence
        self._repository = _newest(
            pull["base"]["repo"] for pull in pulls.values() if pull["base"].get("repo") is not None
        )

    @property
    def full_name(self) -> str:
        """``owner/name`` as the pull requests' addresses have it."""
        return self._full_name

    @property
    def identity(self) -> int:
        """The repository's number."""
        return int(self._repository["id"])

    def repository(self) -> JsonObject:
        """The repository as its newest recording shows it."""
        return self._repository

    def numbers(self) -> list[int]:
        """The recorded pull requests, oldest first."""
        return sorted(self._pulls)

    def outline(self, number: int) -> JsonObject:
        """The same as the pull request."""
        return self._pulls[number]

    def issue_numbers(self) -> list[int]:
        """None: of plain issues there are no recordings that matter."""
        return []

    def issue(self, _number: int) -> JsonObject | None:
        """None."""
        return None

    def issue_identity(self, number: int) -> int:
        """A number that no pull request has; the recordings do not tell GitHub's own."""
        return int(self._pulls[number]["id"]) + 3_000_000_000

    def number_of(self, identity: int) -> int | None:
        """The number of the pull request of that id, or None."""
        return next((number for number, pull in self._pulls.items() if pull["id"] == identity), None)

    def renamed(self, full_name: str) -> RecordedRepository:
        """The same repository under another name; its addresses stay those that were recorded."""
        again = copy.copy(self)
        again._full_name = full_name
        return again

    def pull_request(self, number: int) -> JsonObject | None:
        """The sum of the pull request's recordings, or None."""
        return self._pulls.get(number)

    def reviews(self, number: int) -> list[JsonObject]:
        """The recorded reviews in time order."""
        return self._evidence.reviews_of(self._pulls[number])

    def files(self, number: int) -> list[JsonObject]:
        """The recorded list; else the files of the recorded commits, if all of them were recorded with their files."""
        listed = self._evidence.list_of(self._pulls[number], "files")
        if listed is not None:
            return listed
        commits = self._evidence.commits_of(self._pulls[number])
        if not commits or not all("files" in commit for commit in commits):
            return []
        return list({file["filename"]: file for commit in commits for file in commit["files"]}.values())

    def commits(self, number: int) -> list[JsonObject]:
        """The recorded list; else the recorded commits, oldest first, without files and stats, as lists have them."""
        listed = self._evidence.list_of(self._pulls[number], "commits")
        if listed is not None:
            return listed
        commits = self._evidence.commits_of(self._pulls[number])
        return [{key: commit[key] for key in commit if key not in ("files", "stats")} for commit in commits]


class _Evidence:
    """Every object in the recordings that tells something about a pull request."""

    def __init__(self) -> None:
        self.pulls: dict[tuple[str, int], list[JsonObject]] = defaultdict(list)
        self._lists: dict[str, list[JsonObject]] = {}
        self._commits: dict[str, JsonObject] = {}
        self._reviews: dict[str, dict[int, JsonObject]] = defaultdict(dict)
        self._comments: dict[str, dict[int, list[JsonObject]]] = defaultdict(lambda: defaultdict(list))

    def take(self, found: JsonObject) -> None:
        """Remember an object if it is of a kind that matters."""
        if "diff_url" in found and "head" in found and "base" in found:
            path = urlsplit(found["url"]).path.split("/")
            self.pulls[f"{path[2]}/{path[3]}", int(path[5])].append(found)
        elif "sha" in found and "parents" in found and isinstance(found.get("commit"), dict):
            known = self._commits.get(found["sha"], {})
            self._commits[found["sha"]] = {**known, **found}
        elif "submitted_at" in found and "pull_request_url" in found:
            self._reviews[found["pull_request_url"]][found["id"]] = found
        elif "diff_hunk" in found and found.get("pull_request_review_id") and "pull_request_url" in found:
            self._comments[found["pull_request_url"]][found["pull_request_review_id"]].append(found)

    def take_list(self, exchange: Exchange) -> None:
        """Remember a recorded list of one pull request's files or commits, where it is the whole list."""
        address, _, _ = exchange.url.partition("?")
        if _DETAIL_LIST.fullmatch(address) and exchange.status == 200 and exchange.header("Link") is None:
            self._lists[address] = json.loads(exchange.body)

    def list_of(self, pull: JsonObject, kind: str) -> list[JsonObject] | None:
        """The recorded list of the pull request's files or commits, or None."""
        return self._lists.get(f"{pull['url']}/{kind}")

    def reviews_of(self, pull: JsonObject) -> list[JsonObject]:
        """Recorded reviews, and one for each review that only its comments tell of."""
        reviews = dict(self._reviews.get(pull["url"], {}))
        for identity, comments in self._comments.get(pull["url"], {}).items():
            reviews.setdefault(identity, _review_of_comments(pull, identity, comments))
        return sorted(reviews.values(), key=lambda review: (review["submitted_at"], review["id"]))

    def commits_of(self, pull: JsonObject) -> list[JsonObject]:
        """The pull request's recorded commits, oldest first; only the head where its number of commits is unknown."""
        wanted = min(pull.get("commits") or 1, _MAX_COMMITS)
        commits: list[JsonObject] = []
        sha: str | None = pull["head"]["sha"]
        while sha in self._commits and len(commits) < wanted and sha != pull["base"]["sha"]:
            commit = self._commits[sha]
            commits.append(commit)
            sha = commit["parents"][0]["sha"] if commit["parents"] else None
        return commits[::-1]


def _recorded_repositories(exchanges: list[Exchange]) -> Iterator[RecordedRepository]:
    evidence = _Evidence()
    for exchange in sorted(exchanges, key=lambda exchange: exchange.recorded_at):
        evidence.take_list(exchange)
        for found in _objects(_json(exchange.body)):
            evidence.take(found)
    repositories: dict[str, dict[int, JsonObject]] = defaultdict(dict)
    for (full_name, number), versions in evidence.pulls.items():
        repositories[full_name][number] = _merged(versions)
    for full_name, pulls in repositories.items():
        yield RecordedRepository(full_name, pulls, evidence)


def _objects(value: object) -> Iterator[JsonObject]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def _json(body: bytes) -> object:
    try:
        return json.loads(body) if body[:1] in b"{[" else None
    except ValueError:
        return None


def _merged(versions: list[JsonObject]) -> JsonObject:
    """All recordings of one pull request as one: the newest value of each field, nothing that only ``full`` shows."""
    pull: JsonObject = {}
    for version in sorted(versions, key=lambda v: (v["updated_at"], len(v))):
        pull.update(version)
    for rendered in ("body_html", "body_text"):
        pull.pop(rendered, None)
    for name, value in _NEWER_FIELDS.items():
        pull.setdefault(name, value)
    pull.setdefault("merged", pull["merged_at"] is not None)
    return pull


def _newest(repositories: Iterable[JsonObject]) -> JsonObject:
    return max(repositories, key=lambda repository: (repository["updated_at"], len(repository)))


def _review_of_comments(pull: JsonObject, identity: int, comments: list[JsonObject]) -> JsonObject:
    last = max(comments, key=lambda comment: comment["created_at"])
    web = f"{pull['html_url']}#pullrequestreview-{identity}"
    return {
        "id": identity,
        "user": last["user"],
        "body": "",
        "state": "COMMENTED",
        "html_url": web,
        "pull_request_url": pull["url"],
        "author_association": last.get("author_association", "NONE"),
        "_links": {"html": {"href": web}, "pull_request": {"href": pull["url"]}},
        "submitted_at": last["created_at"],
        "commit_id": last["original_commit_id"],
    }


def listed(pull: JsonObject) -> JsonObject:
    """The pull request as a list shows it."""
    return {key: pull[key] for key in pull if key not in DETAIL_ONLY}


def _replays(exchanges: list[Exchange]) -> dict[ReplayKey, Exchange]:
    replays: dict[ReplayKey, Exchange] = {}
    for exchange in sorted(exchanges, key=lambda e: (200 <= e.status < 300, e.recorded_at)):
        if exchange.url.startswith(f"{API}/") and exchange.method == "GET" and exchange.status != 304:
            split = urlsplit(exchange.url)
            replays[_replay_key("GET", split.path, split.query, exchange.accept)] = exchange
    return replays


def _replay_key(method: str, path: str, query: str, accept: str) -> ReplayKey:
    form = _FORM.search(accept)
    path = _REPOSITORY_PATH.sub(lambda match: match[0].lower(), path)
    return method, path, tuple(sorted(parse_qsl(query))), form[1] if form else "json"
