"""Any number of further pull requests in GitHub's shape, the same for the same seed, made when they are asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache

from . import shapes
from .shapes import JsonObject

_PRODUCTS = ("billing", "checkout", "search", "catalog", "identity", "ledger", "notify", "pricing", "shipping", "media")
_PARTS = ("api", "web", "worker", "sdk", "docs", "infra", "mobile", "schema", "cli", "etl")
_PEOPLE = ("amara", "bjorn", "chen-li", "dalia", "emeka", "farah", "goran", "hana", "ines", "jonas", "kofi", "lucia")
_VERBS = ("Add", "Fix", "Remove", "Speed up", "Document", "Refactor", "Retry", "Validate", "Cache", "Deprecate")
_THINGS = (
    "pagination of the orders endpoint",
    "a race in the token refresh",
    "the legacy CSV export",
    "currency rounding",
    "time zones in reports",
    "webhook signatures",
    "the health check",
    "the retry budget",
    "empty search results",
    "the nightly backfill",
)
_FILES = (
    "src/orders.py",
    "src/tokens.py",
    "src/export.py",
    "src/money.py",
    "tests/test_orders.py",
    "tests/test_money.py",
)
_MORE_FILES = ("README.md", "docs/operations.md", "pyproject.toml", "migrations/0042_add_index.sql", "CHANGELOG.md")
_LABELS = (("bug", "d73a4a"), ("enhancement", "a2eeef"), ("documentation", "0075ca"), ("dependencies", "0366d6"))
_STATES = ("APPROVED", "APPROVED", "APPROVED", "COMMENTED", "CHANGES_REQUESTED")

HOSTILE_EVERY = 97
"""Each 97th pull request, from number 13 on, has a title that would harm a careless terminal, page or log."""

HOSTILE_TITLE = (
    "\x1b[2J\x1b[31mPWNED\x1b[0m \x1b]8;;https://evil.example\x07click\x1b]8;;\x07 <script>alert(1)</script> "
    "[bold red]markup[/] \u202egnp.exe\u202c\r\nLOG level=info forged=true"
)

EPOCH = datetime(2023, 1, 2, 8, 0, tzinfo=UTC)
"""The time just before the first pull request, where none other is asked for."""

_AI_MARKS = (
    "Generated with [Claude Code](https://claude.ai/code)",
    "Co-authored-by: Copilot <copilot@github.com>",
    "Drafted in Cursor, reviewed by hand.",
    "ChatGPT helped with the regular expressions.",
)


def names(count: int) -> list[str]:
    """The full names of the first `count` generated repositories: ``acme/billing-api`` and so on."""
    places = len(_PRODUCTS) * len(_PARTS)
    plain = [f"acme/{product}-{part}" for part in _PARTS for product in _PRODUCTS]
    return [plain[n % places] + (f"-{n // places + 1}" if n >= places else "") for n in range(count)]


def person(login: str) -> JsonObject:
    """One of the generated authors."""
    return shapes.user(login, 80_000_000 + _PEOPLE.index(login))


@dataclass(frozen=True)
class GeneratedRepository:
    """`size` pull requests, numbered from 1, oldest first, one each `hours` from `epoch` on; then some plain issues.

    A repository that was renamed gives its `former_name`, so that its content stays. Satisfies catalogue.Repository.
    """

    full_name: str
    index: int
    size: int
    seed: int = 0
    epoch: datetime = EPOCH
    hours: int = 9
    former_name: str = ""

    @property
    def identity(self) -> int:
        """The repository's number."""
        return 900_000_000 + self.index

    @property
    def last(self) -> datetime:
        """About the time of the newest pull request or issue."""
        return self._created(self.size + self.size // 10)

    def renamed(self, full_name: str) -> GeneratedRepository:
        """The same repository under another name."""
        return replace(self, full_name=full_name, former_name=self.former_name or self.full_name)

    def repository(self) -> JsonObject:
        """The repository as the API shows it."""
        return self._shown

    @cached_property
    def _shown(self) -> JsonObject:
        owner, _, name = self.full_name.partition("/")
        return shapes.repository(
            shapes.user(owner, 70_000_000, "Organization"),
            name,
            self.identity,
            created_at=_text(self.epoch - timedelta(days=30)),
            pushed_at=_text(self._created(self.size)),
        )

    def numbers(self) -> list[int]:
        """All pull requests, oldest first."""
        return list(range(1, self.size + 1))

    def pull_request(self, number: int) -> JsonObject | None:
        """The pull request with all its fields, or None."""
        if not 1 <= number <= self.size:
            return None
        skeleton, files, commits = _parts(self, number)
        return dict(
            skeleton,
            **self._life(number),
            commits=len(commits),
            changed_files=len(files),
            additions=sum(file["additions"] for file in files),
            deletions=sum(file["deletions"] for file in files),
        )

    def parts(self, number: int) -> tuple[JsonObject, list[JsonObject], list[JsonObject]]:
        """A pull request without its life, its files and its commits."""
        pull = self._skeleton(number)
        return pull, self._files(pull, number), self._commits(pull, number)

    def outline(self, number: int) -> JsonObject:
        """A pull request's state and times, without the rest."""
        return {"number": number, "state": "open", **self._life(number)}

    def issue_numbers(self) -> list[int]:
        """The issues that are no pull requests, oldest first: one for ten pull requests, newer than all of them."""
        return list(range(self.size + 1, self.size + 1 + self.size // 10))

    def issue(self, number: int) -> JsonObject | None:
        """A plain issue, or None."""
        if not self.size < number <= self.size + self.size // 10:
            return None
        rng, created = self._random(number, "life"), _text(self._created(number))
        author = person(rng.choice(_PEOPLE))
        issue = shapes.issue(self.repository(), number, self.issue_identity(number), author, at=created)
        issue["title"] = f"{rng.choice(_VERBS)} {rng.choice(_THINGS)}"
        return issue

    def issue_identity(self, number: int) -> int:
        """The number that the issue, or the pull request as an issue, has among all issues."""
        return 1_000_000_000 + self.index * 1_000_000 + number

    def number_of(self, identity: int) -> int | None:
        """The number of the pull request of that id, or None."""
        number = identity - 2_000_000_000 - self.index * 1_000_000
        return number if 1 <= number <= self.size else None

    def _life(self, number: int) -> JsonObject:
        """Everything of a pull request that its people wrote, and when."""
        rng, created = self._random(number, "life"), self._created(number)
        life: JsonObject = {
            "title": self._title(number, rng),
            "body": f"{rng.choice(_VERBS)} {rng.choice(_THINGS)}.\r\n\r\nCloses #{rng.randrange(1, number + 1)}",
            "created_at": _text(created),
            "updated_at": _text(created),
            "draft": rng.random() < 0.03,
            "labels": [self._label(rng)] if rng.random() < 0.4 else [],
            "comments": rng.randrange(6),
        }
        self._end(life, number, rng, created)
        if rng.random() < 0.25:
            life["body"] += f"\r\n\r\n{rng.choice(_AI_MARKS)}"
        return life

    def reviews(self, number: int) -> list[JsonObject]:
        """The reviews of a pull request in time order."""
        pull, rng = _parts(self, number)[0], self._random(number, "reviews")
        start, reviews = self._created(number), []
        for n in range(min(9, int(rng.expovariate(0.7)))):
            start += timedelta(minutes=rng.randrange(5, 600))
            state = rng.choice(_STATES)
            body = "" if state == "APPROVED" else f"Could this cover {rng.choice(_THINGS)} too?"
            reviewer = person(rng.choice(_PEOPLE))
            reviews.append(shapes.review(pull, pull["id"] * 16 + n, reviewer, state=state, body=body, at=_text(start)))
        return reviews

    def files(self, number: int) -> list[JsonObject]:
        """The files that a pull request changes."""
        return _parts(self, number)[1]

    def commits(self, number: int) -> list[JsonObject]:
        """The commits of a pull request, oldest first."""
        return _parts(self, number)[2]

    def _random(self, number: int, purpose: str) -> random.Random:
        return random.Random(f"{self.seed}/{self.former_name or self.full_name}/{number}/{purpose}")

    def _created(self, number: int) -> datetime:
        # Moved by up to four ninths of what lies between two: the order of the numbers stays that of the dates.
        most = self.hours * 1600
        jitter = self._random(number, "date").randrange(-most, most)
        return self.epoch + timedelta(hours=self.hours * number, seconds=jitter)

    def _skeleton(self, number: int) -> JsonObject:
        rng = self._random(number, "who")
        author = person(rng.choice(_PEOPLE))
        head, base = f"{rng.getrandbits(160):040x}", f"{rng.getrandbits(160):040x}"
        identity = 2_000_000_000 + self.index * 1_000_000 + number
        branch = f"{author['login']}/change-{number}"
        return shapes.pull_request(self.repository(), number, identity, author, branch=branch, head=head, base=base)

    def _title(self, number: int, rng: random.Random) -> str:
        title = f"{rng.choice(_VERBS)} {rng.choice(_THINGS)}"
        return HOSTILE_TITLE if number % HOSTILE_EVERY == 13 else title

    @staticmethod
    def _label(rng: random.Random) -> JsonObject:
        name, color = rng.choice(_LABELS)
        number = 600_000 + len(name)
        return {
            "id": number,
            "node_id": shapes.node_id("Label", number),
            "url": f"{shapes.API}/repos/acme/labels/{name}",
            "name": name,
            "color": color,
            "default": True,
            "description": f"About {name}",
        }

    def _end(self, pull: JsonObject, number: int, rng: random.Random, created: datetime) -> None:
        """Merge most pull requests, close a few, leave one in twelve open."""
        fate = rng.random()
        if fate > 11 / 12:
            return
        end = _text(created + timedelta(minutes=rng.randrange(30, 6000)))
        pull.update(state="closed", closed_at=end, updated_at=end)
        if fate < 10 / 12:
            merger = person(rng.choice(_PEOPLE))
            sha = f"{self._random(number, 'merge').getrandbits(160):040x}"
            pull.update(merged=True, merged_at=end, merged_by=merger, merge_commit_sha=sha)

    def _files(self, pull: JsonObject, number: int) -> list[JsonObject]:
        rng = self._random(number, "files")
        pool = _FILES + _MORE_FILES
        paths = sorted(rng.sample(pool, min(len(pool), 1 + int(rng.expovariate(0.5)))))
        return [
            shapes.changed_file(
                pull,
                path,
                f"{rng.getrandbits(160):040x}",
                status=rng.choice(("modified", "modified", "modified", "added")),
                additions=rng.randrange(1, 60),
                deletions=rng.randrange(20),
            )
            for path in paths
        ]

    def _commits(self, pull: JsonObject, number: int) -> list[JsonObject]:
        rng, parent, commits = self._random(number, "commits"), pull["base"]["sha"], []
        count = min(12, 1 + int(rng.expovariate(0.6)))
        at = self._created(number) - timedelta(hours=count)
        for n in range(count):
            sha = pull["head"]["sha"] if n == count - 1 else f"{rng.getrandbits(160):040x}"
            message = f"{rng.choice(_VERBS)} {rng.choice(_THINGS)}"
            commits.append(
                shapes.commit(
                    pull["base"]["repo"], sha, parent, pull["user"], message=message, at=_text(at + timedelta(hours=n))
                )
            )
            parent = sha
        return commits


@lru_cache(maxsize=256)
def _parts(repository: GeneratedRepository, number: int) -> tuple[JsonObject, list[JsonObject], list[JsonObject]]:
    """The parts of a pull request, kept for a while: they are asked for one after the other."""
    return repository.parts(number)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
