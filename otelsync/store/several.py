"""Several stores looked at as one: the local store, and what journals hold beside it.

A run stands whole in each store that has anything of it, and what the first has goes before what the others have.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from otelsync.errors import RunNotFoundError
from otelsync.store.runs import Run, Wanted, find_run, open_store, recent_runs, recent_tasks, runs_called, the_run
from otelsync.store.sync_ids import known_ids


def latest_runs(
    paths: Sequence[Path], *, most: int, every_trace: bool = False, wanted: Wanted | None = None
) -> list[Run]:
    """Return the runs in several stores, latest first; where no pipeline was ever recorded, the traces of tasks.

    Raises:
        RunNotFoundError: There is no store yet.
        StoreError: One cannot be read.
    """
    runs = _gather(paths, lambda store: recent_runs(store, most=most, every_trace=every_trace, wanted=wanted))
    if not runs and (wanted is None or not _gather(paths, lambda store: recent_runs(store, most=1))):
        runs = _gather(paths, lambda store: recent_tasks(store, most=most, wanted=wanted))
    return sorted(runs, key=lambda run: -run.start_ns)[:most]


def store_of(paths: Sequence[Path], wanted: str | None) -> Path:
    """Return the store that has the run which is meant; `wanted` as `find_run` takes it. The last where none is.

    Raises:
        RunNotFoundError: No run, or more than one, is called so.
        StoreError: One cannot be read.
    """
    if len(paths) == 1:
        return paths[0]
    found: list[tuple[Run, Path]] = []
    known: list[str] = []
    for path in paths:
        with suppress(RunNotFoundError), open_store(path) as store:
            known += known_ids(store)
            runs = runs_called(store, wanted) if wanted is not None else [find_run(store)]
            found += [(run, path) for run in runs if all(run.trace_id != other.trace_id for other, _ in found)]
    if not found and wanted is not None and known:
        the_run([], wanted, known)
    if not found:
        return paths[-1]
    if wanted is None:
        return max(found, key=lambda each: (each[0].sync_id is not None, each[0].start_ns))[1]
    exact = [each for each in found if wanted.strip() in (each[0].sync_id, each[0].trace_id)]
    meant = the_run([run for run, _ in exact or found], wanted)
    return next(path for run, path in found if run is meant)


def _gather(paths: Sequence[Path], read: Callable[[sqlite3.Connection], list[Run]]) -> list[Run]:
    known: dict[str, Run] = {}
    missing: list[RunNotFoundError] = []
    for path in paths:
        try:
            with open_store(path) as store:
                for run in read(store):
                    known.setdefault(run.trace_id, run)
        except RunNotFoundError as nothing:
            missing.append(nothing)
    if len(missing) == len(paths):
        raise missing[-1]
    return [*known.values()]
