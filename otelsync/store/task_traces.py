"""Traces of Celery tasks outside any pipeline: what to call one, and how it went.

The root is the span of a publish, or of a run. A publish ends long before the work does, so its own end and status say
nothing of the trace.
"""

from __future__ import annotations

import sqlite3
from typing import Final

PUBLISH: Final = "apply_async/"
RUN: Final = "run/"
IS_TASK: Final = (
    f"sync_id IS NULL AND (substr(root_name, 1, {len(PUBLISH)}) = '{PUBLISH}'"
    f" OR substr(root_name, 1, {len(RUN)}) = '{RUN}')"
)
"""The condition on the table `runs`."""


def task_of(root_name: str) -> str:
    """The task's name, from the name of its span; other names stay as they are."""
    return root_name.removeprefix(PUBLISH).removeprefix(RUN)


def is_task(root_name: str | None) -> bool:
    """Return whether a span of that name is a publish or a run of a task."""
    return root_name is not None and root_name.startswith((PUBLISH, RUN))


def outcome(store: sqlite3.Connection, trace_id: str) -> str | None:
    """The outcome of a trace's tasks, in the words of ``sync.outcome``; ``published``: none has run; None: running.

    Attempts that were put back or lost and tried again count for nothing, once another one has come to an end.
    """
    is_run = f"trace_id = ? AND substr(name, 1, {len(RUN)}) = '{RUN}'"
    open_ones = f"SELECT EXISTS (SELECT 1 FROM spans INDEXED BY spans_open WHERE end_ns IS NULL AND {is_run})"
    if store.execute(open_ones, (trace_id,)).fetchone()[0]:
        return None
    said = (
        "SELECT DISTINCT ifnull(json_extract(attributes, '$.\"sync.outcome\"'), iif(status = 2, 'failure', 'success'))"
        f" FROM spans INDEXED BY spans_by_time WHERE {is_run}"
    )
    outcomes = {str(found) for (found,) in store.execute(said, (trace_id,))}
    if not outcomes:
        return "published"
    if "failure" in outcomes:
        return "partial" if outcomes & {"success", "partial"} else "failure"
    first = (each for each in ("partial", "success", "cancelled", "interrupted") if each in outcomes)
    return next(first, None)  # nothing but attempts that are to be tried again: the end is still to come
