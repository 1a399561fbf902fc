"""The difference between a run and the one before it of the same pipeline."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from otelsync.errors import RunNotFoundError
from otelsync.reports.figures import Comparison, ErrorType, Group, GroupChange, OwnError, Summary, took
from otelsync.store.runs import Run, open_store
from otelsync.text.plurals import label
from otelsync.text.printable import printable

MOST_GROUPS: Final = 30
"""Groups whose change is told."""
MOST_FAILURES: Final = 50

_BAD: Final = ("failure", "interrupted")


def run_before(run: Run, paths: Iterable[Path]) -> list[tuple[Run, Path]]:
    """The latest run of the same pipeline that began earlier and has ended, and the store that has it; [] if none."""
    found: list[tuple[Run, Path]] = []
    for path in dict.fromkeys(paths):
        with suppress(RunNotFoundError), open_store(path) as store:
            before = _run_before(store, run)
            found += [(before, path)] if before is not None else []
    return [max(found, key=lambda each: each[0].start_ns)] if found else []


def _run_before(store: sqlite3.Connection, run: Run) -> Run | None:
    if run.pipeline is None:
        return None
    row = store.execute(
        "SELECT * FROM runs WHERE pipeline = ? AND sync_id IS NOT NULL AND sync_id IS NOT ? AND start_ns < ?"
        " AND end_ns IS NOT NULL AND root_name LIKE 'sync.pipeline %' ORDER BY start_ns DESC LIMIT 1",
        (run.pipeline, run.sync_id, run.start_ns),
    ).fetchone()
    return None if row is None else Run(*row)


def compare(now: Summary, before: Summary) -> Comparison:
    """Return the changes from `before` to `now`."""
    known = {(error.type, error.reason) for error in before.errors}
    return Comparison(
        sync_id=before.name,
        started_at_ns=before.started_at_ns,
        outcome=before.outcome,
        duration_ns=before.duration_ns,
        items=before.items,
        api_calls=before.api_calls,
        waited_ns=before.waited_ns,
        errors=before.error_count,
        groups=_changes(now, before),
        new_errors=tuple(error_line(error) for error in now.errors if (error.type, error.reason) not in known),
        new_failures=tuple(sorted(_failures(now) - _failures(before))[:MOST_FAILURES]),
    )


def differences(now: Summary, before: Comparison) -> Iterator[tuple[str, str, str, str]]:
    """List each figure's title, what it was and is, and the difference, in words; without those that are and were 0."""
    for title, then, here in (
        ("time", before.duration_ns, now.duration_ns),
        ("waited", before.waited_ns, now.waited_ns),
    ):
        sign = "" if here == then else "-" if here < then else "+"
        yield title, took(then), took(here), f"{sign}{took(abs(here - then))}"
    counts = [
        (printable(name, 40), before.items[name], now.items[name]) for name in (before.items + now.items).by_name()
    ]
    counts += [("API calls", before.api_calls, now.api_calls), ("errors", before.errors, now.error_count)]
    for title, then, here in counts:
        if then or here:
            yield title, f"{then:,}", f"{here:,}", f"{here - then:+,}"


def _changes(now: Summary, before: Summary) -> tuple[GroupChange, ...]:
    groups, earlier = ({group.name: group for group in summary.groups} for summary in (now, before))
    changes = [_change(name, earlier.get(name), groups.get(name)) for name in groups | earlier]
    told = [change for change in changes if _is_worth_telling(change)]
    return tuple(sorted(told, key=_rank)[:MOST_GROUPS])


def _change(name: str, before: Group | None, now: Group | None) -> GroupChange:
    return GroupChange(
        name=name,
        outcome_before=before.outcome if before else None,
        outcome=now.outcome if now else None,
        duration_before_ns=before.duration_ns if before else None,
        duration_ns=now.duration_ns if now else None,
        fetched_before=before.items.fetched if before else None,
        fetched=now.items.fetched if now else None,
        failed_before=before.items.failed if before else None,
        failed=now.items.failed if now else None,
    )


def _is_worth_telling(change: GroupChange) -> bool:
    """Return whether the outcome or a count is another, or the time is by a fifth and by more than a second."""
    if change.outcome != change.outcome_before or change.failed != change.failed_before:
        return True
    before, now = change.duration_before_ns or 0, change.duration_ns or 0
    return change.fetched != change.fetched_before or abs(now - before) > max(before / 5, 1e9)


def _rank(change: GroupChange) -> tuple[bool, int, int, str]:
    newly_bad = change.outcome in _BAD and change.outcome_before not in _BAD
    worse = (change.failed or 0) - (change.failed_before or 0)
    slower = (change.duration_ns or 0) - (change.duration_before_ns or 0)
    return not newly_bad, -worse, -abs(slower), change.name


def error_line(error: ErrorType | OwnError) -> str:
    """Return an error's type and message, the type once."""
    return error.message if error.message.startswith(error.type) else f"{error.type}: {error.message}".rstrip(": ")


def _failures(summary: Summary) -> set[str]:
    return {
        f"{item.group} {item_name(item.kind, item.key)}".strip()
        for group in (*summary.groups, summary.outside)
        for item in group.failed
        if item.key
    }


def item_name(kind: str, key: str) -> str:
    """Return what people call one item: ``#7`` for a pull request, else its kind and key."""
    return f"#{key}" if kind == "pr" else f"{label(kind)} {key}"
