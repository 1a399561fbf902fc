"""The application's sync of a repository, in one process against the double: rows, counts, and hostile answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from github_doubles import ACME
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from examples.github_sync import migrating, onboarding
from examples.github_sync.database import engine_for, replace_details, upsert
from examples.github_sync.double.api import Api
from examples.github_sync.double.catalogue import Catalogue
from examples.github_sync.double.generator import HOSTILE_TITLE, GeneratedRepository
from examples.github_sync.double.server import GithubServer, serving
from examples.github_sync.history import REST, HistorySync, Tally
from examples.github_sync.incremental import IncrementalSync
from examples.github_sync.settings import Settings
from examples.github_sync.tables import ChangedFile, Checkpoint, DeadLetter, PullRequest, Repository
from examples.github_sync.wiring import github_for

EVERYTHING = (datetime(9999, 1, 1, tzinfo=UTC), datetime(2008, 1, 1, tzinfo=UTC))
PAGE = 50


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation with a database."""
    made = Settings.from_environment({"GITHUB_SYNC_HOME": str(tmp_path), "GITHUB_TOKEN": "a-token"})
    migrating.upgrade(made.database_url)
    return made


@pytest.fixture
def engine(settings: Settings) -> Engine:
    """Its database."""
    return engine_for(settings.database_url)


@contextmanager
def double(size: int = 12) -> Iterator[GithubServer]:
    """A running double with one small repository."""
    with serving(Api(Catalogue(repositories=[GeneratedRepository(ACME, 0, size)]))) as server:
        yield server


def synced(server: GithubServer, settings: Settings, *, changes: bool = False) -> dict[str, int]:
    """Sync all of the repository, or what has changed in it; returns how many pull requests by their action."""
    engine, tally = engine_for(settings.database_url), Tally(ACME)
    (tracked,) = onboarding.track(engine, "red", [ACME])
    with closing(github_for(replace(settings, api_url=server.url))) as api:
        if changes:
            IncrementalSync(engine, api, tracked, PAGE).run(tally)
        else:
            with Session(engine) as session, session.begin():
                for checkpoint in session.scalars(select(Checkpoint)):
                    session.delete(checkpoint)
            HistorySync(engine, api, tracked, REST, EVERYTHING, PAGE).run(tally)
    return dict(tally.counts)


def stored(engine: Engine) -> dict[int, PullRequest]:
    """Return the stored pull requests by their numbers."""
    with Session(engine) as session:
        return {row.number: row for row in session.scalars(select(PullRequest))}


def test_more_than_a_page_is_walked_once(settings: Settings, engine: Engine) -> None:
    """A hundred pull requests are two pages of fifty and no third; a second walk changes nothing."""
    with double(size=100) as server:
        assert synced(server, settings) == {"created": 100}
        assert server.requests.count("POST /graphql") == 2
        assert synced(server, settings) == {"unchanged": 100}
    assert len(stored(engine)) == 100


def test_a_changed_pull_request_is_updated(settings: Settings, engine: Engine) -> None:
    """One new title is one update, by a list and a query; the row has it. Nothing changes, and the list is all."""
    with double() as server:
        synced(server, settings)
        server.api.catalogue.change(ACME, 5, title="Another title", updated_at="2027-01-02T03:04:05Z")
        before = len(server.requests)
        assert synced(server, settings, changes=True) == {"updated": 1}
        assert server.requests[before:] == [f"GET /repos/{ACME}/issues", "POST /graphql"]
        assert synced(server, settings, changes=True) == {}
        assert server.requests[before + 2 :] == [f"GET /repos/{ACME}/issues"]
    row = stored(engine)[5]
    assert (row.title, row.updated_at) == ("Another title", datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC))


def test_any_text_is_stored_as_it_is(settings: Settings, engine: Engine) -> None:
    """Terminal escapes, markup, zero bytes, a megabyte of text; only a lone surrogate cannot be kept."""
    titles = {1: HOSTILE_TITLE, 2: "a\x00b", 3: "x" * 1_000_000, 4: "'; DROP TABLE reviews; --", 5: "\ud800!"}
    with double() as server:
        for number, title in titles.items():
            server.api.catalogue.change(ACME, number, title=title)
        assert synced(server, settings) == {"created": 12}
    found = stored(engine)
    assert {number: found[number].title for number in titles} == {**titles, 5: "?!"}


@pytest.mark.parametrize("fields", [{"id": 2**70}, {"created_at": "yesterday"}, {"merged_at": "\x00"}], ids=repr)
def test_a_broken_pull_request_fails_alone(settings: Settings, engine: Engine, fields: dict[str, object]) -> None:
    """A field that cannot be stored costs that pull request and no other; it is a dead letter, with its number."""
    with double() as server:
        server.api.catalogue.change(ACME, 3, **fields)
        assert synced(server, settings) == {"created": 11, "failed": 1}
    with Session(engine) as session:
        assert [letter.number for letter in session.scalars(select(DeadLetter))] == [3]
    assert set(stored(engine)) == set(range(1, 13)) - {3}


def test_a_pull_request_of_a_deleted_account_has_no_author(settings: Settings, engine: Engine) -> None:
    """GitHub's null user is no error."""
    with double() as server:
        server.api.catalogue.change(ACME, 3, user=None)
        assert synced(server, settings) == {"created": 12}
    assert stored(engine)[3].author is None


def test_details_are_made_what_was_found(engine: Engine) -> None:
    """New ones come, changed ones change, missing ones go, and the same again is no change."""
    with Session(engine) as session, session.begin():
        upsert(session, Repository(id=1, full_name="a/b"))
        session.flush()
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
            assert {row.path: row.additions for row in session.scalars(select(ChangedFile))} == files


def test_moments_are_compared_as_moments(engine: Engine) -> None:
    """The same instant in another zone, or without one, is unchanged."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    same = [noon, noon.replace(tzinfo=None), noon.astimezone(timezone(timedelta(hours=5)))]
    actions = []
    for moment in same:
        with Session(engine) as session, session.begin():
            actions.append(upsert(session, Repository(id=1, full_name="a/b", created_at=moment)))
    assert actions == ["created", "unchanged", "unchanged"]
