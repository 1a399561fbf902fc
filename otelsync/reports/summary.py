"""The figures of a run, from one pass over its spans in the store and a few questions about its log records."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from otelsync.reports.accounting import Accounting
from otelsync.reports.figures import Group, Journal, Retries, Rows, Summary
from otelsync.reports.folder import file_names
from otelsync.reports.grouping import Grouping
from otelsync.reports.items import NOTHING
from otelsync.reports.logged import logged_events, retry_reasons
from otelsync.reports.own_errors import OwnErrors
from otelsync.reports.reading import Reading
from otelsync.reports.reconciliation import discrepancies
from otelsync.reports.sweep import ordinary_items, steps
from otelsync.reports.tally import Tally, add_up, batches, operations
from otelsync.reports.time_spent import CATEGORIES
from otelsync.reports.values import OTHER, bounded
from otelsync.shipping.ledger import Ledger
from otelsync.store.account_reading import begin_account
from otelsync.store.accounts import Account
from otelsync.store.runs import Run, traces_of
from otelsync.vocabulary import GROUP, NAMED_PIPELINE, RUNNING, SYNC_PHASE, part_of

MOST_ATTRIBUTES: Final = 30
MOST_DISCREPANCIES: Final = 50
MOST_TRACES: Final = 1_000
"""Traces that are named, and of which the page shows spans; all are counted."""

_MOST_NAMES: Final = 300
_TOLD_EVERY: Final = 4_096
"""Spans."""
_OURS: Final = ("sync.", "otelsync.", "error.", "exception.")


def summarize(
    store: sqlite3.Connection,
    run: Run,
    grouping: Grouping,
    *,
    ledgers: Mapping[str, Ledger] | None = None,
    in_short: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """The figures of a run.

    Args:
        store: From `otelsync.store.runs.open_store`.
        run: Which.
        grouping: From `otelsync.reports.grouping`. A span belongs to the group that its own attribute names, else to
            that of the span around it, else to the one that the group it names is in.
        ledgers: Of journal directories, by name.
        in_short: Sum up items that went well, which takes a third of the time: own times are then too high. It is
            enough to compare with.
        progress: Called now and then with the number of spans that were read, and of all.
    """
    in_short = in_short and '"' not in grouping.attribute
    traces = traces_of(store, run)
    root_id = run.root_span_id or ""
    reading = Reading(grouping, (run.trace_id, root_id), Accounting(begin_account(store, traces, root_id), root_id))
    whole = 0 if progress is None else _spans_of(store, traces)
    for trace_id in traces:
        if in_short:
            reading.expect(ordinary_items(store, trace_id, grouping.attribute))
        for step in steps(store, trace_id, run.last_ns, reading.begin, ordinary=not in_short):
            reading.add(step)
            if progress is not None and reading.rows % _TOLD_EVERY == 0:
                progress(reading.rows, whole)
    account = reading.close()
    own_errors = reading.read_errors(store, traces, frozenset(account.errors))
    return _Summing(store, run, traces, reading, account, own_errors, ledgers or {}).summary()


def _spans_of(store: sqlite3.Connection, traces: Sequence[str]) -> int:
    among = "SELECT total(spans) FROM runs WHERE trace_id IN (SELECT value FROM json_each(?))"
    return int(store.execute(among, (json.dumps(traces),)).fetchone()[0])


@dataclass(frozen=True)
class _Summing:
    """Puts together what the spans, the log records and the store's own counts say."""

    store: sqlite3.Connection
    run: Run
    traces: list[str]
    reading: Reading
    account: Account
    own_errors: OwnErrors
    ledgers: Mapping[str, Ledger]

    def summary(self) -> Summary:
        run, reading = self.run, self.reading
        groups, outside = self._groups(), reading.outside.group("")
        everything = [*groups, outside]
        summary = Summary(
            sync_id=bounded(run.sync_id or "", 60),
            trace_id=run.trace_id,
            pipeline=bounded(run.pipeline or (run.root_name or "").removeprefix(NAMED_PIPELINE)),
            service=bounded(run.service or ""),
            outcome=RUNNING if run.running else bounded(run.outcome or "", 20),
            error=reading.error,
            phase=bounded(reading.pipeline.get(SYNC_PHASE, ""), 60),
            started_at_ns=run.start_ns,
            ended_at_ns=run.end_ns,
            last_seen_at_ns=run.last_ns,
            duration_ns=run.duration_ns,
            attributes=_own_attributes(reading.pipeline),
            items=sum((group.items for group in everything), NOTHING),
            api_calls=sum(group.api_calls for group in everything),
            waited_ns=sum(group.waited_ns for group in everything),
            group_by=bounded(reading.grouping.by, 60),
            group_attribute=bounded(reading.grouping.attribute, 60),
            groups=groups,
            outside=outside,
            time_ns={kind: sum(group.time_ns[kind] for group in everything) for kind in CATEGORIES},
            operations=operations(_merged(_by_kind(tally) for tally in self._tallies())),
            batches=batches(_merged(tally.batches for tally in self._tallies())),
            error_count=len(self.account.errors),
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
        found = discrepancies(summary, reading.pipeline, reading.late_items)
        return replace(summary, discrepancies=tuple(islice(found, MOST_DISCREPANCIES)))

    def _tallies(self) -> tuple[Tally, ...]:
        return (*self.reading.tallies.values(), self.reading.outside)

    def _groups(self) -> tuple[Group, ...]:
        tallies = self.reading.tallies
        files = file_names(tallies)
        return tuple(
            replace(tally.group(name), file=files[name], own_errors=self.own_errors.of(name))
            for name, tally in sorted(tallies.items())
        )

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
            item_spans=sum(group.item_spans for group in groups),
            traces=len(self.traces),
        )

    def _retries(self, groups: Sequence[Group]) -> Retries:
        account = self.account
        return Retries(
            parts=account.retries,
            recovered=account.recovered,
            tasks=account.put_back,
            resent=sum(group.resent for group in groups),
            by_reason=retry_reasons(self.store, self.traces),
            failed_requests=self.reading.failed_requests,
        )


def _by_kind(tally: Tally) -> dict[str, list[int]]:
    """Return the figures of each name, those of the groups of a kind, which have names of their own, as one."""
    names: dict[str, list[int]] = {}
    for name, figures in tally.names.items():
        sort, kind = part_of(name)
        add_up(names.setdefault(f"sync.{kind}" if sort == GROUP else name, [0] * len(figures)), figures)
    return names


def _merged(everything: Iterable[Mapping[str, list[int]]]) -> dict[str, list[int]]:
    """Return the sums of figures by name, over all groups."""
    merged: dict[str, list[int]] = {}
    for names in everything:
        for name, figures in names.items():
            known = name if name in merged or len(merged) < _MOST_NAMES else OTHER
            add_up(merged.setdefault(known, [0] * len(figures)), figures)
    return merged


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
