"""The tasks: one repository a task, one request at a time a token, and phases that follow one another.

Nothing here knows of otelsync but its stages; publishes, runs, attempts and queue waits are recorded by `otelsync run`.
A task whose token has to wait is put back and waits in the broker. Its checkpoint says where it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn

import requests
from celery import Task, chain, chord
from celery.canvas import Signature
from celery.exceptions import Retry
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

import otelsync

from . import events, history, locks, onboarding, storing, weekly_metrics
from .analysis import Analyst
from .answers import GithubError, ServerTroubleError
from .celery_app import EXPIRES, app, settings
from .database import engine_for
from .github_api import GithubApi
from .groq_batches import GroqBatches
from .history import RECENT, REST, HistorySync, Tally
from .incremental import IncrementalSync
from .signals import historical_sync_complete, incremental_sync_complete
from .tables import Checkpoint, TrackedRepository
from .tokens import LimitError
from .wiring import github_for

MOST_RETRIES = 3
"""Attempts after the first, for errors. Waits for a rate limit are no errors, and are not counted."""
_BACKOFF = 2.0

log = otelsync.get_logger(__name__)

_engine: Engine | None = None


def database() -> Engine:
    """Return the engine of this process: a child that is forked begins with one of its own."""
    global _engine
    if _engine is None:
        _engine = engine_for(settings.database_url)
    return _engine


# The onboarding


def start_onboarding(team: str, names: list[str]) -> tuple[str, Any]:
    """Begin the onboarding of a team in the workers; returns the sync id, and the result of the first phase."""
    engine = database()
    onboarding.track(engine, team, names)
    with otelsync.pipeline("github.onboarding", team=team, repositories=len(names), phase_number=1) as run:
        onboarding.set_phase(engine, team, "syncing", run.sync_id)
        with closing(github_for(settings)) as api:
            onboarding.measure_activity(engine, api, team, datetime.now(UTC))
        return run.sync_id, run.dispatch(_phases(team, RECENT))


def _phases(team: str, phase: int) -> Signature[Any]:
    repositories = onboarding.in_order(database(), team)
    complete = "phase1_complete" if phase == RECENT else "completed"
    syncing = [sync_history.si(tracked_id, name, phase) for tracked_id, name in repositories]
    steps = [
        chord(syncing, enter_phase.si(team, "llm_processing")),
        analyse.si(team),
        enter_phase.si(team, "computing_metrics"),
        compute_metrics.si(team),
        enter_phase.si(team, complete),
        *([start_rest.si(team)] if phase == RECENT else []),
    ]
    return chain(*steps)


@app.task(name="github_sync.enter_phase")
def enter_phase(team: str, phase: str) -> str:
    """Note the phase in which an onboarding is; at the end of one, tell whoever hooks on."""
    onboarding.set_phase(database(), team, phase)
    log.info(events.PHASE, team=team, phase=phase)
    if phase in ("phase1_complete", "completed"):
        historical_sync_complete.send(
            sender=enter_phase.name, team=team, phase="phase1" if phase == "phase1_complete" else "phase2"
        )
    return phase


@app.task(name="github_sync.start_rest")
def start_rest(team: str) -> str:
    """Begin the second phase, as a run of its own."""
    with otelsync.pipeline("github.onboarding.rest", team=team, phase_number=2) as run:
        onboarding.set_phase(database(), team, "syncing_rest")
        run.dispatch(_phases(team, REST))
    return run.sync_id


@app.task(name="github_sync.analyse")
def analyse(team: str) -> dict[str, int]:
    """Analyse the pull requests that nobody has looked at."""
    return _analyst().run(team)


@app.task(name="github_sync.take_up_batches")
def take_up_batches() -> dict[str, int]:
    """Take up the batches that Groq did not take, or has not done within the deadline."""
    with otelsync.pipeline("github.llm_batches"):
        return _analyst().take_up()


@app.task(name="github_sync.compute_metrics")
def compute_metrics(team: str) -> int:
    """Compute the weekly figures of a team."""
    return weekly_metrics.compute(database(), team)


def _analyst() -> Analyst:
    groq = GroqBatches(settings.groq_url, settings.groq_key) if settings.groq_key else None
    return Analyst(database(), groq, size=settings.llm_batch_size, deadline=settings.groq_deadline)


# Repositories


@app.task(bind=True, name="github_sync.sync_history", max_retries=None)
def sync_history(self: Task[Any, Any], tracked_id: int, name: str, phase: int, failures: int = 0) -> dict[str, object]:
    """Sync one phase of the history of a repository. It never raises past its retries, so that the rest goes on."""
    tally = Tally(name)
    now = datetime.now(UTC)
    span = history.window(phase, now, recent_days=settings.recent_days, months=settings.history_months)

    def work(api: GithubApi) -> None:
        HistorySync(database(), api, tracked_id, phase, span, settings.page_size).run(tally)

    return _sync(self, tracked_id, tally, work, failures)


@app.task(bind=True, name="github_sync.sync_changes", max_retries=None)
def sync_changes(self: Task[Any, Any], tracked_id: int, name: str, failures: int = 0) -> dict[str, object]:
    """Sync what has changed in a repository; all of its history, if that was never synced."""
    with Session(database()) as session:
        team = session.get_one(TrackedRepository, tracked_id).team
        phases = [session.get(Checkpoint, (tracked_id, phase)) for phase in (RECENT, REST)]
    tally = Tally(name)

    def work(api: GithubApi) -> None:
        for phase, checkpoint in zip((RECENT, REST), phases, strict=True):
            if checkpoint is None or not checkpoint.is_done:
                span = history.window(
                    phase, datetime.now(UTC), recent_days=settings.recent_days, months=settings.history_months
                )
                HistorySync(database(), api, tracked_id, phase, span, settings.page_size).run(tally)
        IncrementalSync(database(), api, tracked_id, settings.page_size).run(tally)

    done = _sync(self, tracked_id, tally, work, failures)
    changed = sum(tally.counts.values())
    incremental_sync_complete.send(sender=sync_changes.name, team=team, repository=name, changed=changed)
    return done


@app.task(bind=True, name="github_sync.retry_failed", max_retries=None)
def retry_failed(self: Task[Any, Any], tracked_id: int, name: str, failures: int = 0) -> dict[str, object]:
    """Take up the pull requests of a repository that could not be stored."""
    tally = Tally(name)
    with Session(database()) as session:
        numbers = storing.letters(session, tracked_id)
    return _sync(
        self,
        tracked_id,
        tally,
        lambda api: IncrementalSync(database(), api, tracked_id, settings.page_size).these(tally, numbers),
        failures,
    )


def start_incremental(team: str | None = None) -> tuple[str, Any]:
    """Begin the sync of what has changed, in the workers; returns the sync id and the result."""
    return _start("github.incremental", sync_changes, team, spread=0.0)


def start_retry(team: str) -> tuple[str, Any]:
    """Begin another try of all pull requests of a team that could not be stored."""
    return _start("github.retry_failed", retry_failed, team, spread=0.0)


@app.task(name="github_sync.sync_all")
def sync_all() -> str:
    """Begin the daily sync; beat asks for it at 04:00 UTC."""
    return _start("github.incremental", sync_changes, None, spread=1.0)[0]


def _start(pipeline: str, task: Task[Any, Any], team: str | None, *, spread: float) -> tuple[str, Any]:
    """Dispatch one task a repository. `spread`: seconds between one and the next, so that they do not come at once."""
    with Session(database()) as session:
        own = [TrackedRepository.team == team] if team else []
        rows = session.scalars(
            select(TrackedRepository)
            .where(TrackedRepository.is_active, *own)
            .order_by(TrackedRepository.activity.desc(), TrackedRepository.full_name)
        ).all()
        found = [(row.id, row.full_name) for row in rows]
    with otelsync.pipeline(pipeline, team=team or "all", repositories=len(found)) as run:
        tasks = [
            task.si(tracked_id, name).set(expires=EXPIRES, countdown=place * spread)
            for place, (tracked_id, name) in enumerate(found)
        ]
        return run.sync_id, run.dispatch(chord(tasks, summarise.s())) if tasks else None


@app.task(name="github_sync.summarise")
def summarise(tallies: list[dict[str, Any]]) -> dict[str, int]:
    """Return what became of all repositories together."""
    sums: dict[str, int] = {}
    for tally in tallies:
        for name, number in tally.items():
            if isinstance(number, int):
                sums[name] = sums.get(name, 0) + number
    return sums | {"repositories": len(tallies), "errors": sum(tally.get("error") is not None for tally in tallies)}


# What the tasks of repositories have in common


def _sync(
    task: Task[Any, Any], tracked_id: int, tally: Tally, work: Callable[[GithubApi], None], failures: int
) -> dict[str, object]:
    """Do the work of a repository's task; returns its tally. Waits are asked for inside its stages.

    `failures`: attempts that have ended in an error; those that were put back for a limit are not among them.
    """
    put_back = partial(_put_back, task, tally.repository)
    try:
        with _alone(task, tracked_id, tally.repository), closing(github_for(settings, put_back)) as api:
            work(api)
    except Retry:
        raise
    except Exception as error:
        # The stage has recorded it; the other repositories are not to suffer.
        tally.error = f"{type(error).__name__}: {error}"[:500]
        if _is_worth_another(error) and failures < MOST_RETRIES:
            kwargs = {**(task.request.kwargs or {}), "failures": failures + 1}
            raise task.retry(exc=error, kwargs=kwargs, countdown=_BACKOFF * 2.0**failures) from error
        with Session(database()) as session, session.begin():
            tracked = session.get_one(TrackedRepository, tracked_id)
            tracked.sync_status, tracked.sync_error = "failed", tally.error
    return tally.as_dict()


def _put_back(task: Task[Any, Any], repository: str, limit: LimitError) -> NoReturn:
    """Let a task wait in the broker until the limit allows another request; that is no failed attempt."""
    seconds = limit.seconds + 0.1
    log.info(events.PUT_BACK, repository=repository, seconds=round(seconds, 1), reason=f"{limit.kind} rate limit")
    raise task.retry(countdown=seconds, exc=limit)


def _is_worth_another(error: Exception) -> bool:
    return isinstance(error, (ServerTroubleError, requests.RequestException)) or not isinstance(error, GithubError)


@contextmanager
def _alone(task: Task[Any, Any], tracked_id: int, name: str) -> Iterator[None]:
    """Hold the lock of a repository; a task that finds it taken is put back."""
    with locks.held(settings, f"repository-{tracked_id}") as is_held:
        if not is_held:
            log.info(events.BUSY, repository=name)
            raise task.retry(countdown=5.0)
        yield
