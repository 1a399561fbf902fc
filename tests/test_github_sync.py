"""The sync of the example, end to end against the double: rows, counts, and failures kept where they belong."""

from __future__ import annotations

import io
import json
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
from github import GithubException
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from examples.github_sync import recordings
from examples.github_sync.__main__ import main
from examples.github_sync.client import GithubClient
from examples.github_sync.database import (
    ChangedFile,
    Commit,
    PullRequest,
    Repository,
    Review,
    connect,
    replace_details,
    upsert,
)
from examples.github_sync.double.api import Api
from examples.github_sync.double.catalogue import Catalogue
from examples.github_sync.double.faults import Fault, FaultPlan
from examples.github_sync.double.generator import HOSTILE_TITLE, GeneratedRepository
from examples.github_sync.double.rate_limit import RateLimits
from examples.github_sync.double.server import GithubServer, serving
from examples.github_sync.patience import Patience, Wait
from examples.github_sync.progress import PlainDisplay, display
from examples.github_sync.sync import GithubSync, Summary, Tally
from examples.github_sync.tables import Table

ROOT = Path(__file__).parents[1]
ACME = "acme/billing-api"
HASTE = Patience(backoff=0.001, secondary_backoff=0.001, reset_margin=0.0)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with connect(tmp_path / "github.db") as engine:
        yield engine


@contextmanager
def double(*faults: str, size: int = 12, limits: RateLimits | None = None) -> Iterator[GithubServer]:
    """A running double with two small generated repositories."""
    repositories = [GeneratedRepository(ACME, 0, size), GeneratedRepository("acme/checkout-api", 1, 3)]
    plan = FaultPlan([Fault.parse(fault) for fault in faults])
    with serving(Api(Catalogue(repositories=repositories), limits=limits, faults=plan)) as server:
        yield server


def sync(server: GithubServer, engine: Engine, *names: str, waits: list[Wait] | None = None, **options: Any) -> Summary:
    """One run against the double."""
    on_wait = waits.append if waits is not None else None
    with closing(GithubClient(server.url, "a-token", patience=HASTE, on_wait=on_wait)) as client:
        shown = PlainDisplay(len(names), io.StringIO())
        return GithubSync(client, engine, shown, **options).run(names or [ACME])


def rows(engine: Engine, table: type[Table]) -> int:
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def figures(summary: Summary) -> dict[str, int]:
    """The counts of all repositories together, zeros left out."""
    names = ("fetched", "created", "updated", "unchanged", "skipped", "failed")
    sums = {name: sum(getattr(tally, name) for tally in summary.repositories) for name in names}
    return {name: figure for name, figure in sums.items() if figure}


class TestSync:
    def test_every_recorded_pull_request_arrives(self, engine: Engine) -> None:
        """All 98 recorded pull requests and their reviews, files and commits are rows; a second run changes nothing."""
        catalogue = Catalogue(recordings.load())
        known = catalogue.repositories()
        names = [repository.full_name for repository in known]
        with serving(Api(catalogue)) as server:
            first = sync(server, engine, *names)
            again = sync(server, engine, *names, full=True)
        assert figures(first) == {"fetched": 98, "created": 98}
        assert figures(again) == {"fetched": 98, "unchanged": 98}
        assert (first.outcome, first.exit_code) == ("success", 0)
        with Session(engine) as session:
            stored = {(p.id, p.number, p.title, p.state) for p in session.scalars(select(PullRequest))}
        pulls = [p for r in known for n in r.numbers() if (p := r.pull_request(n)) is not None]
        assert stored == {(p["id"], p["number"], p["title"], p["state"]) for p in pulls}
        for table, kind in ((Review, "reviews"), (ChangedFile, "files"), (Commit, "commits")):
            assert rows(engine, table) == sum(len(getattr(r, kind)(n)) for r in known for n in r.numbers()), kind

    def test_more_than_a_page_is_walked_once(self, engine: Engine) -> None:
        """Two hundred pull requests are two pages and no third; each is asked for its details once."""
        with double(size=200) as server:
            assert figures(sync(server, engine)) == {"fetched": 200, "created": 200}
            lists = server.requests.count(f"GET /repos/{ACME}/pulls")
            details = [path for path in server.requests if path.endswith(("/reviews", "/files", "/commits"))]
        assert lists == 3  # one of them asks for the total
        assert len(details) == len(set(details)) == 600

    def test_an_unchanged_pull_request_costs_no_further_requests(self, engine: Engine) -> None:
        """The second run asks for the repository, the total and the list, and for nothing else."""
        with double() as server:
            sync(server, engine)
            before = len(server.requests)
            assert figures(sync(server, engine)) == {"fetched": 12, "unchanged": 12}
            assert len(server.requests) - before == 3

    def test_a_changed_pull_request_is_updated(self, engine: Engine) -> None:
        """One new title is one update; the row has it."""
        with double() as server:
            sync(server, engine)
            server.api.catalogue.change(ACME, 5, title="Another title", updated_at="2026-01-02T03:04:05Z")
            assert figures(sync(server, engine)) == {"fetched": 12, "updated": 1, "unchanged": 11}
        with Session(engine) as session:
            row = session.scalars(select(PullRequest).where(PullRequest.number == 5)).one()
            assert (row.title, row.updated_at) == ("Another title", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))

    def test_a_pull_request_before_the_date_is_skipped(self, engine: Engine) -> None:
        """What was last updated before `since` is counted as skipped and not stored."""
        with double() as server:
            pulls = [server.api.catalogue.pull_request(GeneratedRepository(ACME, 0, 12), n) for n in range(1, 13)]
            dates = sorted(pull["updated_at"] for pull in pulls if pull is not None)
            since = datetime.fromisoformat(dates[4])
            assert figures(sync(server, engine, since=since)) == {"fetched": 12, "created": 8, "skipped": 4}
        assert rows(engine, PullRequest) == 8


class TestFailures:
    def test_a_server_error_is_tried_again(self, engine: Engine) -> None:
        """Two 502 and a dropped connection are not the end of anything."""
        with double(f"502@/repos/{ACME}/pulls/4/files#2", f"drop@/repos/{ACME}/pulls/6/commits") as server:
            assert figures(sync(server, engine)) == {"fetched": 12, "created": 12}

    def test_a_pull_request_that_fails_for_good_fails_alone(self, engine: Engine) -> None:
        """The rest is stored, nothing of the failed one is; the next run makes good for it."""
        with double(f"502@/repos/{ACME}/pulls/4/files#4") as server:
            summary = sync(server, engine, ACME, "acme/checkout-api")
            assert figures(summary) == {"fetched": 15, "created": 14, "failed": 1}
            assert [tally.outcome for tally in summary.repositories] == ["partial", "success"]
            assert (summary.outcome, summary.exit_code) == ("partial", 0)
            with Session(engine) as session:
                assert 4 not in set(session.scalars(select(PullRequest.number)))
            assert figures(sync(server, engine)) == {"fetched": 12, "created": 1, "unchanged": 11}

    def test_a_repository_that_fails_does_not_stop_the_run(self, engine: Engine) -> None:
        """An unknown repository is a failure, the one after it is synced."""
        with double() as server:
            summary = sync(server, engine, "acme/unknown", ACME)
        assert [tally.outcome for tally in summary.repositories] == ["failure", "success"]
        assert "404" in str(summary.repositories[0])
        assert (summary.outcome, summary.exit_code) == ("partial", 0)

    def test_a_run_without_a_single_repository_is_a_failure(self, engine: Engine) -> None:
        """The exit code says so."""
        with double() as server:
            summary = sync(server, engine, "acme/unknown")
        assert (summary.outcome, summary.exit_code) == ("failure", 1)


class TestRateLimits:
    def test_a_used_up_limit_is_waited_for(self, engine: Engine) -> None:
        """The wait ends with the window, and nothing is missing."""
        waits: list[Wait] = []
        with double("primary=1@9") as server:
            assert figures(sync(server, engine, waits=waits)) == {"fetched": 12, "created": 12}
        assert waits
        assert {wait.reason for wait in waits} == {"primary"}

    @pytest.mark.parametrize("fault", ["secondary=0@9", "secondary@9", "secondary-429@9#3"])
    def test_a_secondary_limit_is_waited_for(self, engine: Engine, fault: str) -> None:
        """With and without Retry-After, as 403 and as 429."""
        waits: list[Wait] = []
        with double(fault) as server:
            assert figures(sync(server, engine, waits=waits)) == {"fetched": 12, "created": 12}
        assert {wait.reason for wait in waits} == {"secondary"}


class TestHostileAnswers:
    def test_any_text_is_stored_as_it_is(self, engine: Engine) -> None:
        """Terminal escapes, markup, zero bytes, a megabyte of text; only a lone surrogate cannot be kept."""
        titles = {1: HOSTILE_TITLE, 2: "a\x00b", 3: "x" * 1_000_000, 4: "'; DROP TABLE reviews; --", 5: "\ud800!"}
        with double() as server:
            for number, title in titles.items():
                server.api.catalogue.change(ACME, number, title=title)
            assert figures(sync(server, engine)) == {"fetched": 12, "created": 12}
        with Session(engine) as session:
            stored = {row.number: row.title for row in session.scalars(select(PullRequest))}
        assert {number: stored[number] for number in titles} == {**titles, 5: "?!"}

    @pytest.mark.parametrize(
        "fields",
        [
            {"title": ["a list"]},
            {"number": "seven"},
            {"number": None},
            {"id": 2**70},
            {"created_at": "yesterday"},
            {"user": "nobody"},
            {"state": 7},
            {"head": None},
        ],
        ids=repr,
    )
    def test_a_broken_pull_request_fails_alone(self, engine: Engine, fields: dict[str, object]) -> None:
        """A field of the wrong type or size costs that pull request and no other; the counts add up."""
        with double() as server:
            server.api.catalogue.change(ACME, 3, **fields)
            assert figures(sync(server, engine)) == {"fetched": 12, "created": 11, "failed": 1}

    def test_a_pull_request_of_a_deleted_account_has_no_author(self, engine: Engine) -> None:
        """GitHub's null user is no error."""
        with double() as server:
            server.api.catalogue.change(ACME, 3, user=None)
            assert figures(sync(server, engine)) == {"fetched": 12, "created": 12}


class TestPatience:
    """Patience.after(): GitHub's order of what to wait for."""

    @staticmethod
    def after(status: int, attempt: int = 1, message: str = "", **headers: str) -> Wait | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        error = GithubException(status, {"message": message}, named)
        return Patience(backoff=1, secondary_backoff=60).after(error, attempt, clock=lambda: 1000.0)

    def test_retry_after_comes_first(self) -> None:
        """Even when a reset is told."""
        wait = self.after(403, retry_after="7", x_ratelimit_remaining="0", x_ratelimit_reset="1100")
        assert wait == Wait("primary", 7.0)

    def test_then_the_reset_if_nothing_remains(self) -> None:
        """With a second for the clocks."""
        assert self.after(403, x_ratelimit_remaining="0", x_ratelimit_reset="1100") == Wait("primary", 101.0)

    def test_then_a_minute_growing(self) -> None:
        """A 429, or a 403 that speaks of a rate limit, doubles its wait."""
        assert self.after(429) == Wait("secondary", 60.0)
        message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        assert self.after(403, 3, message, x_ratelimit_remaining="4000") == Wait("secondary", 240.0)

    def test_it_gives_up_in_the_end(self) -> None:
        """After its attempts, and at once where the wait would be longer than is worth it."""
        assert self.after(429, attempt=6) is None
        assert self.after(403, retry_after="86400") is None
        assert self.after(502, attempt=4) is None

    def test_what_is_no_fault_of_the_moment_is_not_tried_again(self) -> None:
        """A plain 403, a 404, a 422 and an exception that has nothing to do with the network."""
        assert [self.after(403, message="Resource not accessible"), self.after(404), self.after(422)] == [None] * 3
        assert Patience().after(ValueError("x"), 1) is None

    def test_errors_of_the_server_and_the_connection_back_off(self) -> None:
        """Doubling, with jitter of a quarter."""
        for attempt in (1, 2, 3):
            wait = self.after(502, attempt)
            assert wait is not None
            assert 0.75 * 2 ** (attempt - 1) <= wait.seconds <= 1.25 * 2 ** (attempt - 1)
        wait = Patience().after(requests.ConnectionError(), 1)
        assert wait is not None
        assert wait.reason == "connection"

    @pytest.mark.parametrize("text", ["", "soon", "-1", "1e9", "٣", "Wed, 21 Oct 2026 07:28:00 GMT"])
    def test_a_header_that_is_no_number_counts_for_nothing(self, text: str) -> None:
        """Then the next rule holds."""
        assert self.after(429, retry_after=text, x_ratelimit_remaining="0", x_ratelimit_reset=text) == Wait(
            "secondary", 60
        )


class TestDatabase:
    def test_details_are_made_what_was_found(self, engine: Engine) -> None:
        """New ones come, changed ones change, missing ones go, and the same again is no change."""
        with Session(engine) as session, session.begin():
            upsert(session, Repository(id=1, full_name="a/b"))
            upsert(session, PullRequest(id=2, repository_id=1, number=1, title="t", state="open", draft=False))
        steps: list[tuple[dict[str, int], bool]] = [
            ({"a": 1, "b": 1}, True),
            ({"a": 1, "b": 1}, False),
            ({"a": 2, "b": 1}, True),
            ({"b": 1, "c": 1}, True),
            ({}, True),
            ({}, False),
        ]
        for files, changed in steps:
            found = [
                ChangedFile(pull_request_id=2, path=path, status="added", additions=n, deletions=0)
                for path, n in files.items()
            ]
            with Session(engine) as session, session.begin():
                assert replace_details(session, 2, ChangedFile, found) is changed
            with Session(engine) as session:
                stored = {row.path: row.additions for row in session.scalars(select(ChangedFile))}
            assert stored == files

    def test_moments_are_compared_as_moments(self, engine: Engine) -> None:
        """The same instant in another zone, or without one, is unchanged."""
        noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        same = [noon, noon.replace(tzinfo=None), noon.astimezone(timezone(timedelta(hours=5)))]
        actions = []
        for moment in same:
            with Session(engine) as session, session.begin():
                actions.append(upsert(session, Repository(id=1, full_name="a/b", created_at=moment)))
        assert actions == ["created", "unchanged", "unchanged"]


class TestDisplay:
    def test_without_a_terminal_lines_come_now_and_then(self) -> None:
        """One line a repository, one every few seconds in between, and one for a wait."""
        out, now = io.StringIO(), 0.0
        shown = PlainDisplay(2, out, clock=lambda: now)
        shown.repository("a/b", 3)
        shown.advance()
        now = 6.0
        shown.advance()
        shown.waiting(Wait("primary", 30.2))
        shown.repository_done("a/b", "3 fetched")
        shown.repository_done("c/d", "0 fetched")
        assert out.getvalue().splitlines() == [
            "[1/2] a/b: 2 of 3",
            "waiting 30 s for the primary rate limit",
            "[1/2] a/b: 3 fetched",
            "[2/2] c/d: 0 fetched",
        ]

    def test_a_stream_that_is_no_terminal_gets_plain_text(self) -> None:
        """No control sequence is written."""
        out = io.StringIO()
        with display(1, out) as shown:
            shown.repository("a/b", 1)
            shown.repository_done("a/b", "1 fetched")
        assert out.getvalue() == "[1/1] a/b: 1 fetched\n"

    def test_a_tally_adds_up(self) -> None:
        """Fetched is the sum of what became of them, whatever came."""
        tally = Tally("a/b")
        actions = random.choices(["created", "updated", "unchanged", "skipped", "failed"], k=50)
        for action in actions:
            tally.add(action)
        assert tally.fetched == 50
        assert str(tally).startswith("50 fetched: ")


class TestCommandLine:
    def test_it_syncs_from_where_the_environment_says(self, tmp_path: Path) -> None:
        """GITHUB_API_URL and GITHUB_TOKEN are all it needs; a repository that is not there makes it partial, exit 0."""
        with double(limits=RateLimits(limit=100)) as server:
            environment = {"GITHUB_API_URL": server.url, "GITHUB_TOKEN": "a-token", "OTELSYNC_HOME": str(tmp_path)}
            command = [sys.executable, "-m", "examples.github_sync", "sync", ACME, "acme/unknown"]
            command += ["--database", str(tmp_path / "g.db"), "--log", str(tmp_path / "sync.log")]
            finished = subprocess.run(
                command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, check=False
            )
            assert server.api.limits.look("a-token").used > 0
        assert (finished.returncode, finished.stderr) == (0, "")
        assert f"[1/2] {ACME}: 12 fetched: 12 created" in finished.stdout
        assert ": partial; " in finished.stdout
        log = (tmp_path / "sync.log").read_text()
        assert "a-token" not in log
        assert "sync.repo.failed" in log
        assert "GET /repos/{owner}/{repo}/pulls" in {
            name for name, _ in _spans(tmp_path)
        }  # the sends below the API calls

    @pytest.mark.parametrize("name", ["billing-api", "a/b/c", "../x", "a/b\x1b[2J", "a/..", "https://a/b", ""])
    def test_a_name_that_is_none_is_refused(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        """The usage error shows the form, with nothing that would harm the terminal."""
        with pytest.raises(SystemExit) as caught:
            main(["sync", name])
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert "OWNER/NAME" in error
        assert "\x1b" not in error


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One run of the demo, as `make demo` runs it: its home and its output."""
    home = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "examples.github_sync", "demo", "--home", str(home)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "LOG_"))}
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""
    return home, finished.stdout


class TestDemo:
    def test_it_ends_with_what_one_wants_to_know(self, demo: tuple[Path, str]) -> None:
        """The waterfall with wait and failed part, the ledger, where report and logs are; nothing moves a cursor."""
        home, out = demo
        assert "sync.rate_limit.wait" in out
        assert "acme/billing-api #23 " in out.partition("where the time went")[2]
        assert out.partition("ledger\n")[2].count("0 dropped + 0 pending") == 2
        assert str(home / "github-sync.log") in out
        (report,) = (home / "reports" / "sync").iterdir()
        assert f"\nreport\n  {report}/_SYNC_SUMMARY.md\n  {report}/waterfall.html\n" in out
        assert not [line for line in out.splitlines() if not line.isprintable()]

    def test_the_trace_has_every_pull_request_and_its_counts_reconcile(self, demo: tuple[Path, str]) -> None:
        """111 pull requests, one failed; in each stage that counts, fetched is the sum of the rest."""
        spans = _spans(demo[0])
        pulls = [attributes for name, attributes in spans if name == "sync.pr"]
        assert Counter(pull["sync.action"] for pull in pulls) == {"created": 110, "failed": 1}
        stages = [a for name, a in spans if name.startswith(("sync.pipeline", "sync.repo", "sync.api list_pull"))]
        assert len(stages) == 1 + 6 + 6
        for stage in stages:
            items = {key.rpartition(".")[2]: value for key, value in stage.items() if key.startswith("sync.items.")}
            assert items.pop("fetched") == sum(items.values())
        outcomes = {a["sync.repo"]: a["sync.outcome"] for n, a in spans if n.startswith("sync.repo ")}
        assert [name for name, outcome in outcomes.items() if outcome != "success"] == ["acme/billing-api"]
        assert next(a["sync.outcome"] for n, a in spans if n.startswith("sync.pipeline")) == "partial"

    def test_its_logs_are_json_and_say_what_failed(self, demo: tuple[Path, str]) -> None:
        """Each line is an object with the run's id; the failed pull request is an error."""
        lines = [json.loads(line) for line in (demo[0] / "github-sync.log").read_text().splitlines()]
        errors = [line for line in lines if line["level"] == "error"]
        assert any(line["event"] == "sync.pr.failed" for line in errors)
        assert len({line["sync_id"] for line in errors}) == 1


def _spans(home: Path) -> list[tuple[str, dict[str, Any]]]:
    with closing(sqlite3.connect(home / "store.db")) as store:
        return [(name, json.loads(text)) for name, text in store.execute("SELECT name, attributes FROM spans")]
