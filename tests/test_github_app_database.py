"""The application's database: its schema by migrations, its weekly figures, and what it says of the progress."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from examples.github_sync import history, migrating, onboarding, status, tasks, weekly_metrics
from examples.github_sync.ai_patterns import tools_in
from examples.github_sync.database import engine_for
from examples.github_sync.settings import Settings, SettingsError
from examples.github_sync.signals import historical_sync_complete
from examples.github_sync.tables import (
    Analysis,
    PullRequest,
    Repository,
    Review,
    Table,
    TrackedRepository,
    WeeklyMetrics,
)
from examples.github_sync.tokens import Standing

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A database as the migrations make it."""
    url = f"sqlite:///{tmp_path / 'github.db'}"
    migrating.upgrade(url)
    return engine_for(url)


def test_the_migrations_make_what_the_tables_say(engine: Engine) -> None:
    """Nothing is missing, nothing is more; a second upgrade changes nothing."""
    migrating.upgrade(str(engine.url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Table.metadata) == []


@pytest.mark.parametrize(
    ("today", "months", "first"),
    [
        ("2025-12-25", 12, "2024-12-01"),
        ("2025-01-31", 12, "2024-01-01"),
        ("2024-02-29", 12, "2023-02-01"),
        ("2025-03-31", 1, "2025-02-01"),
        ("2025-03-01", 26, "2023-01-01"),
    ],
)
def test_the_history_begins_on_the_first_of_a_month(today: str, months: int, first: str) -> None:
    """So many months back, extended to the whole month, as note 002 has it."""
    day = datetime.fromisoformat(today).replace(tzinfo=UTC)
    assert history.first_day(months, day).date().isoformat() == first


def test_the_phases_meet() -> None:
    """What the first leaves out the second takes, and nothing twice."""
    recent = history.window(history.RECENT, NOW, recent_days=30, months=12)
    rest = history.window(history.REST, NOW, recent_days=30, months=12)
    assert recent[1] == rest[0] == datetime(2026, 10, 26, tzinfo=UTC)
    assert rest[1] == datetime(2025, 11, 1, tzinfo=UTC)


def fill(engine: Engine) -> None:
    """Store four pull requests of two weeks; two were made with AI tools, one is open."""
    monday = datetime(2026, 11, 16, 0, 0, tzinfo=UTC)
    merges = [monday, monday + timedelta(days=6, hours=23, minutes=59), monday + timedelta(days=7), None]
    with Session(engine) as session, session.begin():
        session.add(Repository(id=1, full_name="acme/api"))
        session.flush()
        session.add(TrackedRepository(team="red", full_name="acme/api", repository_id=1))
        for number, merged in enumerate(merges, 1):
            opened = (merged or monday) - timedelta(hours=10 * number)
            session.add(
                PullRequest(
                    id=number,
                    repository_id=1,
                    number=number,
                    title="t",
                    state="closed" if merged else "open",
                    draft=False,
                    created_at=opened,
                    merged_at=merged,
                )
            )
            session.flush()
            session.add(Analysis(pull_request_id=number, is_ai_assisted=number == 1, tools=[], source="patterns"))
            for later in (5, 2):
                when = opened + timedelta(hours=later)
                session.add(Review(pull_request_id=number, id=number * 10 + later, state="APPROVED", submitted_at=when))


def test_weekly_figures(engine: Engine) -> None:
    """Weeks begin on Mondays in UTC; what is open counts for none; computed twice they are the same."""
    fill(engine)
    assert weekly_metrics.compute(engine, "red") == weekly_metrics.compute(engine, "red") == 2
    with Session(engine) as session:
        rows = session.scalars(select(WeeklyMetrics).order_by(WeeklyMetrics.week)).all()
    figures = [(row.week, row.merged, row.cycle_hours, row.review_hours, row.ai_share) for row in rows]
    assert figures == [(date(2026, 11, 16), 2, 15.0, 2.0, 0.5), (date(2026, 11, 23), 1, 30.0, 2.0, 0.0)]


def test_a_repository_is_tracked_once(engine: Engine) -> None:
    """However often it is added, and each team has its own."""
    assert onboarding.track(engine, "red", ["acme/api", "acme/web", "acme/api"]) == [1, 2]
    assert onboarding.track(engine, "red", ["acme/web"]) == [2]
    assert onboarding.track(engine, "blue", ["acme/web"]) == [3]
    for name in ("acme", "acme/", "/api", "acme/..", "acme/a b", "acme/api/x", "-a/b", "acme/\x1b[2J"):
        with pytest.raises(ValueError, match="OWNER/NAME"):
            onboarding.track(engine, "red", [name])


def test_the_status_counts_the_wait_that_goes_on(engine: Engine) -> None:
    """The estimate is the rest at the pace so far, and the wait; the outcome is that of the repositories."""
    with Session(engine) as session, session.begin():
        for name, state, done in (("acme/a", "syncing", 50), ("acme/b", "completed", 10), ("acme/c", "failed", 0)):
            row = TrackedRepository(team="red", full_name=name, sync_status=state, sync_prs_completed=done)
            row.sync_prs_total, row.sync_started_at = 100, NOW - timedelta(seconds=100)
            session.add(row)
    standing = Standing()
    standing.note("graphql", 0, NOW.timestamp() + 59)
    found = status.read(engine, "red", {"0123456789": standing}, NOW)
    assert found.eta_seconds == 100 + 60
    assert [(each.full_name, each.badge) for each in found.repositories] == [
        ("acme/a", "Syncing"),
        ("acme/b", "Synced"),
        ("acme/c", "Error"),
    ]
    assert found.outcome == "running"
    assert (found.done, found.waiting_seconds) == ((2, 3), 60)
    assert [(limit.token, limit.resource, limit.remaining) for limit in found.limits] == [("01234567", "graphql", 0)]
    with Session(engine) as session, session.begin():
        session.add(TrackedRepository(team="red", full_name="acme/d"))
    # One that has not begun counts as large as the others are on average.
    assert status.read(engine, "red", {}, NOW).eta_seconds == 300
    with Session(engine) as session, session.begin():
        session.delete(session.scalars(select(TrackedRepository).where(TrackedRepository.full_name == "acme/d")).one())
        session.scalars(select(TrackedRepository)).first().sync_status = "completed"  # type: ignore[union-attr]
    assert status.read(engine, "red", {}, NOW).outcome == "partial"


def test_the_end_of_a_phase_is_a_signal(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hooks on is told, also behind a receiver that raises; phases in between are none of theirs."""
    monkeypatch.setattr(tasks, "_engine", engine)
    told: list[tuple[str, str]] = []

    def broken(**_: object) -> None:
        raise ValueError("mine")

    def told_of(team: str, phase: str, **_: object) -> None:
        told.append((team, phase))

    for receiver in (broken, told_of):
        historical_sync_complete.connect(receiver, weak=False)
    try:
        for phase in ("syncing", "phase1_complete", "syncing_rest", "completed"):
            tasks.enter_phase("red", phase)
    finally:
        for receiver in (broken, told_of):
            historical_sync_complete.disconnect(receiver)
    assert told == [("red", "phase1"), ("red", "phase2")]


@pytest.mark.parametrize(
    ("text", "tools"),
    [
        ("Co-Authored-By: Claude <noreply@anthropic.com>", ["claude"]),
        ("🤖 Generated with [Claude Code](https://claude.com)", ["claude"]),
        ("Co-authored-by: Copilot <1+Copilot@users.noreply.github.com>", ["copilot"]),
        ("written with Cursor, then ChatGPT", ["chatgpt", "cursor"]),
        ("Move the cursor to the end of the line", []),
        ("Claude Monet's paintings in the gallery", []),
        ("co-pilot seat, gemini constellation, devin booker", []),
        ("AI-generated boilerplate", ["other"]),
        (None, []),
    ],
)
def test_tools_leave_traces(text: str | None, tools: list[str]) -> None:
    """What looks like them is none."""
    assert tools_in(text) == tools


def test_settings_name_what_is_wrong(tmp_path: Path) -> None:
    """A number that is none is an error that names the variable; the rest has its defaults."""
    settings = Settings.from_environment({"GITHUB_SYNC_HOME": str(tmp_path), "GITHUB_TOKENS": " a, b,a ,"})
    assert settings.tokens == ("a", "b")
    assert settings.database_url == f"sqlite:///{tmp_path}/github.db"
    assert "a" not in repr(settings).partition("home=")[0]
    for text in ("x", "-1", "nan", "inf", "0"):
        with pytest.raises(SettingsError, match="SYNC_LLM_BATCH_SIZE"):
            Settings.from_environment({"SYNC_LLM_BATCH_SIZE": text})
