"""Figures by week, team and repository: merged pull requests, cycle time, review time, the share made with AI tools.

The database counts; the few expressions that differ between SQLite and PostgreSQL stand here.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Engine, Float, Integer, Select, cast, delete, extract, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

import otelsync

from .tables import Analysis, PullRequest, Review, TrackedRepository, WeeklyMetrics


def compute(engine: Engine, team: str) -> int:
    """Compute all weeks of a team anew; returns their number."""
    with otelsync.stage("weekly_metrics") as stage, Session(engine) as session, session.begin():
        tracked = select(TrackedRepository.id).where(TrackedRepository.team == team)
        session.execute(delete(WeeklyMetrics).where(WeeklyMetrics.tracked_id.in_(tracked)))
        rows = [_row(team, found) for found in session.execute(_weeks(engine.dialect.name, team))]
        session.add_all(rows)
        stage.set(weeks=len(rows))
    return len(rows)


def _row(team: str, found: Any) -> WeeklyMetrics:
    return WeeklyMetrics(
        tracked_id=found.tracked_id,
        team=team,
        week=found.week if isinstance(found.week, date) else date.fromisoformat(str(found.week)[:10]),
        merged=found.merged,
        cycle_hours=_rounded(found.cycle_hours),
        review_hours=_rounded(found.review_hours),
        ai_share=round(float(found.ai or 0) / found.merged, 4),
    )


def _weeks(dialect: str, team: str) -> Select[Any]:
    first = (
        select(Review.pull_request_id, func.min(Review.submitted_at).label("at"))
        .group_by(Review.pull_request_id)
        .subquery()
    )
    week = _monday(dialect, PullRequest.merged_at)
    return (
        select(
            TrackedRepository.id.label("tracked_id"),
            week.label("week"),
            func.count(PullRequest.id).label("merged"),
            func.avg(_hours(dialect, PullRequest.created_at, PullRequest.merged_at)).label("cycle_hours"),
            func.avg(_hours(dialect, PullRequest.created_at, first.c.at)).label("review_hours"),
            func.sum(func.coalesce(cast(Analysis.is_ai_assisted, Integer), 0)).label("ai"),
        )
        .join(PullRequest, PullRequest.repository_id == TrackedRepository.repository_id)
        .outerjoin(first, first.c.pull_request_id == PullRequest.id)
        .outerjoin(Analysis, Analysis.pull_request_id == PullRequest.id)
        .where(TrackedRepository.team == team, PullRequest.merged_at.is_not(None))
        .group_by(TrackedRepository.id, week)
    )


def _monday(dialect: str, moment: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    if dialect == "sqlite":
        return func.date(moment, "-6 days", "weekday 1")
    return func.date_trunc("week", moment)


def _hours(dialect: str, begin: Any, end: Any) -> ColumnElement[Any]:
    if dialect == "sqlite":
        return (func.julianday(end) - func.julianday(begin)) * 24
    return cast(extract("epoch", end - begin), Float) / 3600


def _rounded(hours: object) -> float | None:
    return None if hours is None else round(float(str(hours)), 3)
