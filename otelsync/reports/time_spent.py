"""Categories of the time that was spent: the kind of work that a span stands for while none of its children runs.

| category | spans |
|---|---|
| ``waiting`` | ``sync.rate_limit.wait``, ``sync.retry.wait``, stages of kind ``waiting`` |
| ``llm`` | spans with ``gen_ai.*`` attributes, stages whose name begins with ``llm``, and the requests below them |
| ``database`` | spans with ``db.system.name`` or ``db.system`` |
| ``queue`` | sending to a broker (``messaging.system``, no consumer), and ``sync.queue.wait_seconds`` of a task |
| ``api`` | ``sync.api``, and other requests to somebody else (kind client) |
| ``own`` | all the rest: the code of pipelines, groups, items, batches, stages and tasks |

A stage's attribute ``sync.stage.kind`` (``otelsync.stage("score", kind="llm")``) with the name of a category decides
before any of these.
"""

from __future__ import annotations

from typing import Final

from otelsync import vocabulary
from otelsync.reports.sweep import CLIENT, Step

CATEGORIES: Final = ("api", "waiting", "database", "queue", "llm", "own")
TITLES: Final = {
    "api": "API",
    "waiting": "waiting",
    "database": "database",
    "queue": "queue",
    "llm": "LLM",
    "own": "own code",
}
"""Titles of the categories for people."""

_CONSUMER: Final = 5
_PASSED_ON: Final = ("llm", "database")
"""A request below one of these is part of it."""


def category(step: Step) -> str:
    """Return the one of `CATEGORIES` that the own time of a span belongs to."""
    by_itself = _by_itself(step)
    if by_itself != "api":
        return by_itself
    outer = step.parent
    for _ in range(2):  # an HTTP request stands in an API call, which stands in a stage
        if outer is None:
            break
        around = _by_itself(outer)
        if around in _PASSED_ON:
            return around
        outer = outer.parent
    return "api"


def _by_itself(step: Step) -> str:
    sort = step.sort
    if sort == vocabulary.ITEM:
        return "own"
    if step.is_wait:
        return "waiting"
    if sort == vocabulary.API:
        return "api"
    said = step.attributes.get(vocabulary.SYNC_STAGE_KIND)
    if isinstance(said, str) and said in CATEGORIES:
        return said
    if step.name.startswith("sync."):
        return "llm" if step.name.startswith(("sync.stage llm", "sync.llm")) else "own"
    return _by_convention(step)


def _by_convention(step: Step) -> str:
    """Of a span that an instrumentation has made, by OpenTelemetry's semantic conventions."""
    attributes = step.attributes
    if any(key.startswith("gen_ai.") for key in attributes):
        return "llm"
    if "db.system.name" in attributes or "db.system" in attributes:
        return "database"
    if vocabulary.MESSAGING_SYSTEM in attributes and step.kind != _CONSUMER:
        return "queue"
    return "api" if step.kind == CLIENT else "own"


def nanoseconds(seconds: object) -> int:
    """Return a span of time from outside; what cannot be one is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
        return 0
    return int(seconds * 1e9)
