"""A run in flight as views show it: where it is in which process, how far, and what it waits for."""

from __future__ import annotations

from dataclasses import dataclass

from otelsync.views.process_now import Groups, LastItem, LimitLeft, Progress

RUNNING, WAITING, STUCK = "running", "waiting", "stuck"


@dataclass(frozen=True, slots=True)
class Remaining:
    """Duration of the rest, from now: seconds."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait that is going on."""

    kind: str
    """The kind of rate limit, the reason of a retry, or the name of a stage that waits."""
    since_ns: int
    until_ns: int | None
    """The planned end; None if nobody knows."""
    what: str = "rate_limit"
    """``rate_limit``, ``retry`` or ``stage``."""


@dataclass(frozen=True, slots=True)
class StageNow:
    """An open stage: the span's name, with what tells it from others, when it began, and how far it is."""

    name: str
    since_ns: int
    progress: Progress | None
    remaining: Remaining | None


@dataclass(frozen=True, slots=True)
class Place:
    """A process's work on a run: its open stages below the pipeline, the outermost first."""

    pid: int
    stages: tuple[StageNow, ...]
    task: str
    """The Celery task that it runs; empty for none."""
    groups: Groups
    """Kind and name of the groups that are open, the outermost first."""
    last_item: LastItem | None
    """The item that ended last in this process. The present one is not known before it ends."""
    wait: Wait | None
    parallel: int
    """Number of stages below the outermost that go on at the same time, in threads or coroutines."""
    last_record_ns: int
    state: str


@dataclass(frozen=True, slots=True)
class RunNow:
    """A run in flight. Times are unix nanoseconds."""

    sync_id: str
    pipeline: str
    service: str
    trace_id: str
    started_ns: int
    dispatched: bool
    """True if its body is in tasks, and whoever ends the last of them ends it."""
    pid: int | None
    """Of the process that holds the pipeline open; None where it is dispatched."""
    phase: str
    progress: Progress | None
    """The pipeline's own, or else the sum over its groups."""
    remaining: Remaining | None
    places: tuple[Place, ...]
    limits: tuple[LimitLeft, ...]
    last_record_ns: int
    state: str
    """``running``, ``waiting`` (everywhere) or ``stuck`` (no record for too long)."""
