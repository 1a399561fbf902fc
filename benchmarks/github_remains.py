"""Remains of a run of the GitHub sync: its rows, and the counts of its report and its metrics, to be compared.

Rows are compared without what no two runs have in common: moments at which something was done, and numbers that the
database gives out by turns.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.request import urlopen

from sqlalchemy import Engine, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from benchmarks.tests_parts import App
from examples.github_sync import tables

_OWN: Final = (
    tables.Repository,
    tables.PullRequest,
    tables.Review,
    tables.ChangedFile,
    tables.Commit,
    tables.Label,
    tables.Analysis,
    tables.WeeklyMetrics,
    tables.DeadLetter,
    tables.TrackedRepository,
    tables.Checkpoint,
)
_DIFFERENT: Final = frozenset(
    ("batch_id", "cursor", "failed_at", "last_synced_at", "newest", "oldest", "sync_started_at", "tracked_id")
)
_SAMPLE: Final = re.compile(r'^sync_items_total\{.*sync_action="(?P<action>\w+)".*\} (?P<count>[0-9.e+]+)', re.M)

TOKENS: Final = {"GITHUB_TOKENS": "token-1,token-2,token-3,token-4"}

Digest = tuple[int, str]
"""The number of a table's rows, and a digest of them all."""


def rows(engine: Engine) -> dict[str, Digest]:
    """Return a digest of each table; two databases with equal ones have the same rows."""
    with Session(engine) as session:
        return {table.__tablename__: _digest(session, table) for table in _OWN}


def _digest(session: Session, table: type[tables.Table]) -> Digest:
    columns: Sequence[InstrumentedAttribute[Any]] = [
        getattr(table, column.key)
        for column in table.__table__.columns
        if column.key not in _DIFFERENT and not (table is tables.TrackedRepository and column.key == "id")
    ]
    lines = sorted(repr(tuple(row)) for row in session.execute(select(*columns)))
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Reported:
    """Figures of a run's report."""

    items: dict[str, int]
    reconciles: bool
    outcomes: Counter[str]
    """Outcomes of the repositories."""
    interrupted: Counter[str]
    """Stages that were open when their process died, by the name of their span."""


def reported(installed: App, sync_id: str) -> Reported:
    """Make the report of a run, and return what it says."""
    said = json.loads(installed.otelsync("report", sync_id, "--json"))
    spans = json.loads(installed.otelsync("show", sync_id, "--json"))
    return Reported(
        items=said["items"],
        reconciles=said["reconciles"],
        outcomes=Counter(group["outcome"] for group in said["groups"]),
        interrupted=Counter(span["name"] for span in spans if span["attributes"].get("sync.outcome") == "interrupted"),
    )


def counted(port: int) -> Counter[str]:
    """Return how many items the metrics have counted, by action."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = Counter[str]()
    for sample in _SAMPLE.finditer(text):
        found[sample["action"]] += int(float(sample["count"]))
    return found


def violations(installed: App) -> int:
    """Return how many requests came too early, or while another was answered on the same token."""
    with urlopen(f"{installed.environment['GITHUB_API_URL']}/_double/violations", timeout=60) as answer:
        return len(json.load(answer)["violations"])
