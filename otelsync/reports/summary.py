"""The figures of a run, from one pass over its spans in the store and a few questions about its log records."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import orjson

from otelsync.reports.failures import logged_events
from otelsync.reports.figures import Group, Items, Journal, Retries, Rows, Summary
from otelsync.reports.folder import file_names
from otelsync.reports.reading import MOST_GROUPS, Reading, group_name
from otelsync.reports.reconciliation import discrepancies
from otelsync.reports.sweep import steps
from otelsync.reports.tally import OTHER, bounded, items_of, operations
from otelsync.reports.time_spent import CATEGORIES
from otelsync.shipping.ledger import Ledger
from otelsync.store.runs import Run, traces_of
from otelsync.vocabulary import NAMED_PIPELINE, NAMED_REPO, SYNC_PHASE, SYNC_REPO

REPO: Final = "repo"
"""The attribute to group by unless told otherwise: ``sync.repo``."""
MOST_ATTRIBUTES: Final = 30
MOST_DISCREPANCIES: Final = 50
MOST_TRACES: Final = 1_000
"""Traces that are named, and of which the page shows spans; all are counted."""

_MOST_NAMES: Final = 300
_OURS: Final = ("sync.", "otelsync.", "error.", "exception.")
_PROGRESS: Final = ("sync.repo.progress", "sync.repo.completed", "sync.repo.failed")


def summarize(
    store: sqlite3.Connection,
    run: Run,
    *,
    group_by: str = REPO,
    ledgers: Mapping[str, Ledger] | None = None,
    in_short: bool = False,
) -> Summary:
    """The figures of a run.

    Args:
        store: From `otelsync.store.runs.open_store`.
        run: Which.
        group_by: ``repo``, or the name of an attribute such as ``customer``. A span belongs to the group that its own
            attribute names, else to that of the span around it, else to that of its repo.
        ledgers: Of journal directories, by name.
        in_short: Leave out pull requests that did not fail, which takes a fifth of the time: own times, and counts of
            repos that did not come to their end, are then too low. It is enough to compare with.
    """
    traces = traces_of(store, run)
    reading = Reading(SYNC_REPO if group_by == REPO else group_by, (run.trace_id, run.root_span_id or ""))
    for trace_id in traces:
        for step in steps(store, trace_id, run.last_ns, reading.begin, ordinary=not in_short):
            reading.add(step)
    return _Summing(store, run, traces, reading, group_by, ledgers or {}).summary()


@dataclass(frozen=True)
class _Summing:
    """Puts together what the spans, the log records and the store's own counts say."""

    store: sqlite3.Connection
    run: Run
    traces: list[str]
    reading: Reading
    group_by: str
    ledgers: Mapping[str, Ledger]

    def summary(self) -> Summary:
        run, reading = self.run, self.reading
        groups, outside = self._groups(), reading.outside.group("")
        everything = [*groups, outside]
        items, items_from = self._items(everything)
        summary = Summary(
            sync_id=bounded(run.sync_id or "", 60),
            trace_id=run.trace_id,
            pipeline=bounded(run.pipeline or (run.root_name or "").removeprefix(NAMED_PIPELINE)),
            service=bounded(run.service or ""),
            outcome="running" if run.running else bounded(run.outcome or "", 20),
            error=reading.error,
            phase=bounded(reading.pipeline.get(SYNC_PHASE, ""), 60),
            started_at_ns=run.start_ns,
            ended_at_ns=run.end_ns,
            last_seen_at_ns=run.last_ns,
            duration_ns=run.duration_ns,
            attributes=_own_attributes(reading.pipeline),
            items=items,
            items_from=items_from,
            api_calls=sum(group.api_calls for group in everything),
            waited_ns=sum(group.waited_ns for group in everything),
            group_by=bounded(self.group_by, 60),
            groups=groups,
            outside=outside,
            time_ns={kind: sum(group.time_ns[kind] for group in everything) for kind in CATEGORIES},
            operations=operations(_all_names(reading)),
            error_count=reading.failures.count,
            errors=reading.failures.types(self.store, self.traces),
            events=logged_events(self.store, self.traces),
            retries=self._retries(everything),
            waits=reading.rate_limits.waits(),
            rate_limits=reading.rate_limits.limits(),
            rows=self._rows(everything),
            journals=tuple(_journal(name, ledger) for name, ledger in self.ledgers.items()),
            discrepancies=(),
            traces=tuple(self.traces[:MOST_TRACES]),
        )
        return replace(summary, discrepancies=tuple(islice(discrepancies(summary, self.group_by), MOST_DISCREPANCIES)))

    def _groups(self) -> tuple[Group, ...]:
        tallies = self.reading.tallies
        progress = {} if all(tally.is_whole for tally in tallies.values()) else self._progress()
        files = file_names(tallies)
        return tuple(
            replace(tally.group(name, progress.get(name)), file=files[name]) for name, tally in sorted(tallies.items())
        )

    def _items(self, groups: Sequence[Group]) -> tuple[Items, str]:
        """Return the pipeline's counts, where it came to its end; else the sum over the groups."""
        said = items_of(self.reading.pipeline)
        if said and self.run.outcome != "interrupted" and not self.run.running:
            return said, "stages"
        return sum((group.items for group in groups), Items()), "groups"

    def _progress(self) -> dict[str, Items]:
        """The counts of the last record of progress of each group's repos."""
        last: dict[str, Items] = {}
        marks = ", ".join("?" * len(_PROGRESS))
        for trace_id in self.traces:
            for (text,) in self.store.execute(
                "SELECT attributes FROM logs INDEXED BY logs_by_time"
                f" WHERE trace_id = ? AND event IN ({marks}) ORDER BY time_ns",
                (trace_id, *_PROGRESS),
            ):
                attributes = orjson.loads(text)
                repo = attributes.get(SYNC_REPO)
                if isinstance(repo, str) and len(last) < MOST_GROUPS:
                    last[group_name(repo)] = items_of(attributes, "")
        groups: dict[str, Items] = {}
        for repo, items in last.items():
            group = self.reading.groups_of_repos.get(repo)
            if group is not None:
                groups[group] = groups.get(group, Items()) + items
        return groups

    def _rows(self, groups: Sequence[Group]) -> Rows:
        among, traces = "trace_id IN (SELECT value FROM json_each(?))", (json.dumps(self.traces),)
        counted = self.store.execute(f"SELECT total(spans), total(logs) FROM runs WHERE {among}", traces).fetchone()
        (logs,) = self.store.execute(
            f"SELECT count(*) FROM logs INDEXED BY logs_by_time WHERE {among}", traces
        ).fetchone()
        return Rows(
            spans=self.reading.rows,
            spans_counted=int(counted[0]),
            running=self.reading.running,
            logs=logs,
            logs_counted=int(counted[1]),
            pull_requests=sum(group.pull_requests for group in groups),
            traces=len(self.traces),
        )

    def _retries(self, groups: Sequence[Group]) -> Retries:
        reasons: Counter[str] = Counter()
        for trace_id in self.traces:
            for reason, count in self.store.execute(
                "SELECT coalesce(json_extract(attributes, '$.reason'), 'unknown'), count(*) FROM logs"
                " INDEXED BY logs_by_time WHERE trace_id = ? AND event = 'sync.api.retry' AND json_valid(attributes)"
                " GROUP BY 1 ORDER BY 2 DESC LIMIT 20",
                (trace_id,),
            ):
                reasons[bounded(reason, 60)] += count
        return Retries(
            resent=sum(group.resent for group in groups),
            by_reason=dict(reasons.most_common()),
            recovered=self.reading.failures.recovered,
            tasks=self.reading.put_back,
        )


def _all_names(reading: Reading) -> dict[str, list[int]]:
    """The figures of each name in the whole run; repos, which have a table of their own, are one."""
    names: dict[str, list[int]] = {}
    for tally in (*reading.tallies.values(), reading.outside):
        for name, figures in tally.names.items():
            name = SYNC_REPO if name.startswith(NAMED_REPO) else name
            known = names.setdefault(name if name in names or len(names) < _MOST_NAMES else OTHER, [0] * 5)
            known[:] = *(a + b for a, b in zip(known[:4], figures[:4], strict=True)), max(known[4], figures[4])
    return names


def _own_attributes(attributes: Mapping[str, Any]) -> dict[str, str]:
    own = [key for key in attributes if not key.startswith(_OURS)][:MOST_ATTRIBUTES]
    return {bounded(key, 60): bounded(attributes[key], 200) for key in own}


def _journal(name: str, ledger: Ledger) -> Journal:
    accounts = ledger.accounts
    dropped = sum(sum(account.dropped.values()) for account in accounts)
    pending = sum(account.pending for account in accounts)
    return Journal(
        name=bounded(name, 60),
        recorded=sum(account.recorded for account in accounts),
        accounted_for=sum(account.shipped + account.folded for account in accounts) + dropped + pending,
        dropped=dropped,
        pending=pending,
        lines=tuple(str(account) for account in accounts),
    )
