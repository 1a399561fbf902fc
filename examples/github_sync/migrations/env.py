"""The environment in which Alembic runs the migrations: the connection that the caller has opened."""

from __future__ import annotations

from typing import Literal

from alembic import context
from sqlalchemy import text

from examples.github_sync.tables import Moment, Table


def _plain(kind: str, item: object, _: object) -> str | Literal[False]:
    """Let a migration say what a column is in the database, and not which of our types made it."""
    return "sa.DateTime()" if kind == "type" and isinstance(item, Moment) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=Table.metadata, render_as_batch=True, compare_type=True, render_item=_plain
)
with context.begin_transaction():
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(7202611)"))
    context.run_migrations()
