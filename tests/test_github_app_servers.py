"""The application with servers: PostgreSQL for its rows, RabbitMQ and Redis for its messages; the same in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from brokers import RabbitServer, RedisServer
from databases import PostgresServer, postgres_server
from github_app import app
from sqlalchemy import inspect

from benchmarks import github_remains
from benchmarks.github_remains import Digest, violations
from benchmarks.github_sync import TEAM, Size, start, wait_for_end
from examples.github_sync import migrating
from examples.github_sync.database import engine_for
from examples.github_sync.tables import Table

pytestmark = pytest.mark.slow
SIZE = Size(3, 60)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests of this module."""
    with postgres_server() as server:
        yield server


def onboarded(home: Path, **variables: str) -> dict[str, Digest]:
    """Onboard a team in both phases; returns digests of the tables' rows."""
    with app(home, *SIZE.double, **github_remains.TOKENS, **variables) as installed:
        installed.run("add", TEAM, *SIZE.names)
        with installed.worker(processes=3) as worker:
            sync_id = start(installed)
            wait_for_end(installed, worker)
        assert installed.status(TEAM)["outcome"] == "success"
        assert installed.pulls() == dict.fromkeys(SIZE.names, SIZE.prs)
        assert violations(installed) == 0
        reported = github_remains.reported(installed, sync_id)
        assert reported.items["created"] == reported.items["fetched"] == SIZE.total
        return github_remains.rows(installed.engine)


@pytest.fixture(scope="module")
def without_servers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Digest]:
    """Rows that remain where SQLite and directories are all there is."""
    return onboarded(tmp_path_factory.mktemp("plain") / "home")


def test_postgresql_as_the_database(
    postgres: PostgresServer, without_servers: dict[str, Digest], tmp_path: Path
) -> None:
    """Its rows are those of SQLite, the weekly figures among them."""
    home = tmp_path / "home"
    assert onboarded(home, GITHUB_SYNC_DATABASE_URL=postgres.database()) == without_servers
    assert not (home / "github.db").exists()


def test_rabbitmq_as_the_broker(rabbitmq: RabbitServer, without_servers: dict[str, Digest], tmp_path: Path) -> None:
    """Results are files then."""
    assert onboarded(tmp_path / "home", CELERY_BROKER_URL=rabbitmq.broker().url) == without_servers


def test_redis_as_the_broker(redis: RedisServer, without_servers: dict[str, Digest], tmp_path: Path) -> None:
    """Locks and standings of tokens are there then, and results too."""
    home = tmp_path / "home"
    assert onboarded(home, CELERY_BROKER_URL=redis.broker().url) == without_servers
    assert not (home / "tokens").exists()
    assert not any((home / "results").iterdir())


def test_the_migrations_on_postgresql(postgres: PostgresServer) -> None:
    """They make what the tables say; a second upgrade changes nothing."""
    url = postgres.database()
    migrating.upgrade(url)
    migrating.upgrade(url)
    engine = engine_for(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
        assert set(Table.metadata.tables) < set(inspect(connection).get_table_names())
    engine.dispose()
