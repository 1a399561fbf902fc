"""The database's schema, brought up to date by Alembic."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import make_url

from .database import engine_for

FOLDER = Path(__file__).parent / "migrations"


def upgrade(url: str, revision: str = "head") -> None:
    """Bring a database up to a revision; of several processes that come at once, one does it."""
    engine = engine_for(url)
    try:
        with _alone(url), engine.connect() as connection:
            config = _config(url)
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            connection.commit()
    finally:
        engine.dispose()


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """Hold a lock beside a SQLite file; a server has locks of its own, which the migration takes."""
    database = make_url(url).database
    if make_url(url).get_backend_name() != "sqlite" or not database:
        yield
        return
    path = Path(f"{database}.migrating")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
