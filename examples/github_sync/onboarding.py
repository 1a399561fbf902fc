"""The onboarding of a team: its repositories, the most active first, in two phases.

The first phase brings what a team wants to see at once: the last days, what a language model says of them, and the
figures. The second brings the rest of the history, and does the same once more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Engine, Select, select
from sqlalchemy.orm import Session

import otelsync

from . import queries
from .github_api import GithubApi
from .tables import Onboarding, TrackedRepository

ACTIVE_DAYS: Final = 182
"""Days whose pull requests say how active a repository is."""
_AT_ONCE: Final = 50
"""Repositories whose activity one query asks for."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")


def full_name(text: str) -> str:
    """Return a repository's name; raises ValueError where it cannot be one."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not OWNER/NAME, such as psf/requests")
    return text


def track(engine: Engine, team: str, names: Sequence[str]) -> list[int]:
    """Note that a team wants these repositories; returns the keys of their rows, in the order of the names."""
    with Session(engine) as session, session.begin():
        own = session.scalars(select(TrackedRepository).where(TrackedRepository.team == team))
        tracked = {row.full_name: row for row in own}
        rows = []
        for name in dict.fromkeys(full_name(name) for name in names):
            row = tracked.get(name)
            if row is None:
                row = TrackedRepository(team=team, full_name=name)
                session.add(row)
            row.is_active = True
            rows.append(row)
        session.flush()
        return [row.id for row in rows]


def measure_activity(engine: Engine, api: GithubApi, team: str, now: datetime) -> None:
    """Ask how many pull requests each repository of a team has had lately."""
    since = (now - timedelta(days=ACTIVE_DAYS)).date()
    with Session(engine) as session:
        names = list(session.scalars(_of(team).with_only_columns(TrackedRepository.full_name)))
    found: dict[str, int] = {}
    for begin in range(0, len(names), _AT_ONCE):
        part = names[begin : begin + _AT_ONCE]
        text, variables = queries.activity(part, since)
        with otelsync.api_call("Activity", kind="graphql", page=begin // _AT_ONCE + 1) as call:
            data = api.query(call, text, variables)
        for place, name in enumerate(part):
            found[name] = int((data.get(f"r{place}") or {}).get("issueCount") or 0)
    with Session(engine) as session, session.begin():
        for row in session.scalars(_of(team)):
            row.activity = found.get(row.full_name, row.activity)


def in_order(engine: Engine, team: str) -> list[tuple[int, str]]:
    """Return keys and names of a team's repositories, the most active first."""
    with Session(engine) as session:
        rows = session.scalars(_of(team).order_by(TrackedRepository.activity.desc(), TrackedRepository.full_name))
        return [(row.id, row.full_name) for row in rows]


def set_phase(engine: Engine, team: str, phase: str, sync_id: str | None = None) -> None:
    """Note the phase in which the onboarding of a team is; its first one begins it."""
    now = datetime.now(UTC)
    with Session(engine) as session, session.begin():
        row = session.get(Onboarding, team)
        if row is None:
            session.add(Onboarding(team=team, phase=phase, sync_id=sync_id, started_at=now, changed_at=now))
            return
        if sync_id is not None and sync_id != row.sync_id:
            row.sync_id = sync_id
            if phase == "syncing":
                row.started_at = now
        row.phase, row.changed_at = phase, now


def _of(team: str) -> Select[TrackedRepository]:
    return select(TrackedRepository).where(TrackedRepository.team == team, TrackedRepository.is_active)
