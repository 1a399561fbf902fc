"""Accounts of runs, from the spans in the store: made when a run has ended, and kept until more of it is stored.

Making one takes a few microseconds a span, so those of runs that have ended stand in the table `accounts`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from otelsync.store.accounts import Account, Accounts, Ended
from otelsync.store.schema import STATUS_ERROR
from otelsync.vocabulary import SUCCESS, SYNC_OUTCOME

MOST_KEPT: Final = 1_000
"""Errors, and stages that ended otherwise than they recorded, of which the spans are named; all errors are counted."""

_AMONG: Final = "trace_id IN (SELECT value FROM json_each(:traces))"
_PLACES: Final = (
    f"SELECT span_id, parent_span_id, name, kind FROM spans WHERE {_AMONG}"
    f" AND span_id IN (SELECT parent_span_id FROM spans WHERE {_AMONG})"
)
_ENDED: Final = (
    "SELECT span_id, parent_span_id, name, kind, status, attributes, end_ns - start_ns, end_ns FROM spans"
    f" WHERE {_AMONG} AND end_ns IS NOT NULL ORDER BY end_ns"
)


_Row = tuple[str, str, str, int, int, str, int, int]


@dataclass(slots=True)
class RunAccount:
    """The account of a run, as views show it."""

    outcome: str
    totals: dict[str, int] = field(default_factory=dict)
    """Items by action, with ``fetched``."""
    error_count: int = 0
    errors: list[str] = field(default_factory=list)
    """The first of the spans in which an error arose, by id."""
    recovered: int = 0
    retries: int = 0
    put_back: int = 0
    waits: int = 0
    waited_ns: int = 0
    corrected: dict[str, str] = field(default_factory=dict)
    """Outcomes of stages that recorded another, by span id."""


def read_account(store: sqlite3.Connection, traces: Sequence[str], root_id: str | None) -> tuple[Account, RunAccount]:
    """Make the account of a run from all its spans, and what is kept of it.

    Args:
        store: From `open_store`.
        traces: The run's.
        root_id: The span of its pipeline, or of whatever it begins with.
    """
    among = {"traces": json.dumps(list(traces))}
    accounts = begin_account(store, traces, root_id)
    root: Ended | None = None
    recorded: dict[str, Any] = {}
    for span_id, parent_id, name, kind, status, text, took, _ in _inner_first(store.execute(_ENDED, among), accounts):
        attributes, has_failed = attributes_of(text), status == STATUS_ERROR
        if not has_failed and accounts.take_item(span_id, parent_id, name, attributes):
            continue
        span = Ended(span_id, parent_id, name, kind, has_failed, attributes, took)
        accounts.end(span)
        if span_id == root_id:
            root = span
        if span_id in accounts.account.stages or span_id == root_id:
            recorded[span_id] = span.attributes.get(SYNC_OUTCOME)
    account = accounts.close(root)
    return account, _shortened(account, recorded)


def begin_account(store: sqlite3.Connection, traces: Sequence[str], root_id: str | None) -> Accounts:
    """Return accounts that know of every span with others below it, and of no end yet; arguments as above."""
    accounts = Accounts(root_id or "")
    for row in store.execute(_PLACES, {"traces": json.dumps(list(traces))}):
        accounts.begin(*row)
    if root_id:
        accounts.begin(root_id, "", "", 0)
    return accounts


def _inner_first(rows: Iterable[_Row], accounts: Accounts) -> Iterator[_Row]:
    """The same rows; of those that ended together the one that began last first, and the innermost."""
    together: list[_Row] = []
    for row in rows:
        if together and row[-1] == together[0][-1]:
            together.append(row)
            continue
        yield from _from_inside(together, accounts)
        together = [row]
    yield from _from_inside(together, accounts)


def _from_inside(together: list[_Row], accounts: Accounts) -> list[_Row]:
    if len(together) < 2:
        return together
    return sorted(together, key=lambda row: (row[6], -accounts.depth(row[1])))


def account_of(store: sqlite3.Connection, traces: Sequence[str], root_id: str | None) -> RunAccount:
    """Return what is kept of a run's account, or make it; arguments as of `read_account`."""
    return kept(store, traces[0]) or read_account(store, traces, root_id)[1]


def kept(store: sqlite3.Connection, trace_id: str) -> RunAccount | None:
    """Return what is kept of a run's account; None if it has none."""
    try:
        found = store.execute("SELECT figures FROM accounts WHERE trace_id = ?", (trace_id,)).fetchone()
    except sqlite3.OperationalError:  # the file was written before there were accounts
        return None
    try:
        return None if found is None else RunAccount(**orjson.loads(found[0]))
    except (TypeError, ValueError):  # another version has kept it
        return None


def keep(store: sqlite3.Connection, traces: Sequence[str], root_id: str) -> RunAccount:
    """Make the account of a run that has ended, and keep it."""
    _, account = read_account(store, traces, root_id)
    store.execute("INSERT OR REPLACE INTO accounts VALUES (?, ?)", (traces[0], orjson.dumps(account).decode()))
    return account


def traces_of_sync(store: sqlite3.Connection, sync_id: str | None, trace_id: str) -> list[str]:
    """Return the trace ids of a run: its own, and others that carry its sync id."""
    if sync_id is None:
        return [trace_id]
    others = store.execute("SELECT trace_id FROM runs WHERE sync_id = ? AND trace_id <> ?", (sync_id, trace_id))
    return [trace_id, *(other for (other,) in others)]


def attributes_of(text: str) -> dict[str, Any]:
    """Return the attributes of a span as the store holds them; none if they are nested too deep to be read."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _shortened(account: Account, recorded: Mapping[str, Any]) -> RunAccount:
    corrected = {
        key: stage.outcome for key, stage in account.stages.items() if stage.outcome != (recorded.get(key) or SUCCESS)
    }
    return RunAccount(
        outcome=account.outcome,
        totals=account.totals,
        error_count=len(account.errors),
        errors=account.errors[:MOST_KEPT],
        recovered=account.recovered,
        retries=account.retries,
        put_back=account.put_back,
        waits=account.waits,
        waited_ns=account.waited_ns,
        corrected=dict(list(corrected.items())[:MOST_KEPT]),
    )
