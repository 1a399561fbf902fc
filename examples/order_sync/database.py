"""The database: a table of orders and one of their sub-items, each row with how its sync stands. It is the truth.

A row is PENDING until the board has it, then SYNCED; ERROR if the board has refused it, with the reason. `sync_id`
names the run that has last changed that. PENDING and ERROR are tried again by the next run.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

import otelsync

Kind = Literal["order", "subitem"]
Action = Literal["created", "updated", "skipped", "failed"]

catalogue = otelsync.Catalogue("db", source=__name__)
CREATED = catalogue.event(
    1, "orders.invented", level="info", fields=("path", "orders"), says="A demo database was made."
)
READ = catalogue.event(
    2, "orders.read", level="debug", fields=("customer", "orders"), says="The orders to sync are read."
)
log = otelsync.get_logger(__name__)

_SYNC: Final = """
    item_id TEXT, sync_state TEXT NOT NULL DEFAULT 'PENDING' CHECK (sync_state IN ('PENDING', 'SYNCED', 'ERROR')),
    sync_error TEXT, sync_id TEXT
"""
_TABLES: Final = f"""
CREATE TABLE fact_order_list (
    order_number TEXT PRIMARY KEY, customer TEXT NOT NULL, board_group TEXT NOT NULL, title TEXT NOT NULL,
    status TEXT NOT NULL, quantity INTEGER NOT NULL, {_SYNC}
);
CREATE TABLE fact_order_subitem (
    sku TEXT PRIMARY KEY, order_number TEXT NOT NULL REFERENCES fact_order_list, title TEXT NOT NULL,
    quantity INTEGER NOT NULL, {_SYNC}
);
CREATE INDEX orders_by_customer ON fact_order_list (customer, sync_state);
CREATE INDEX subitems_by_order ON fact_order_subitem (order_number);
"""
_RECORDS: Final[dict[Kind, str]] = {
    "order": "SELECT 'order', order_number, customer, board_group, title, status, quantity, item_id, sync_state,"
    " sync_error, sync_id FROM fact_order_list",
    "subitem": "SELECT 'subitem', sku, customer, order_number, s.title, status, s.quantity, s.item_id, s.sync_state,"
    " s.sync_error, s.sync_id FROM fact_order_subitem AS s JOIN fact_order_list AS o USING (order_number)",
}
_KEYS: Final[dict[Kind, tuple[str, str]]] = {
    "order": ("fact_order_list", "order_number"),
    "subitem": ("fact_order_subitem", "sku"),
}


@dataclass(frozen=True, slots=True)
class Record:
    """An order, or a sub-item of one; `parent` is its group on the board, or its order."""

    kind: Kind
    key: str
    customer: str
    parent: str
    title: str
    status: str
    quantity: int
    item_id: str | None
    state: str
    error: str | None
    sync_id: str | None


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a record; `error` is why the board refused it."""

    action: Action
    item_id: str | None = None
    error: str = ""


class Database:
    """The database at `path`, opened when it is first asked."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        connection = self.__dict__.pop("_connection", None)
        if connection is not None:
            connection.close()

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def to_sync(self, customer: str, limit: int | None, *, subitems: bool) -> list[Record]:
        """Orders that the board does not have yet, or not with all of their sub-items if these count."""
        unfinished = (
            " OR EXISTS (SELECT 1 FROM fact_order_subitem AS s WHERE s.sync_state <> 'SYNCED'"
            " AND s.order_number = fact_order_list.order_number)"
        )
        orders = self._records(
            "order",
            f"WHERE customer = ? AND (sync_state <> 'SYNCED'{unfinished if subitems else ''})"
            " ORDER BY board_group, order_number LIMIT ?",
            (customer, -1 if limit is None else limit),
        )
        log.debug(READ, customer=customer, orders=len(orders))
        return orders

    def subitems(self, orders: Iterable[str]) -> list[Record]:
        """Sub-items of these orders that the board does not have yet."""
        among = "order_number IN (SELECT value FROM json_each(?))"
        return self._records(
            "subitem", f"WHERE s.sync_state <> 'SYNCED' AND {among} ORDER BY sku", [json.dumps(list(orders))]
        )

    def store(self, record: Record, saved: Saved, sync_id: str) -> None:
        """Note what became of a record."""
        table, key = _KEYS[record.kind]
        state = "ERROR" if saved.action == "failed" else "SYNCED"
        self._connection.execute(
            f"UPDATE {table} SET sync_state = ?, item_id = coalesce(?, item_id), sync_error = ?, sync_id = ?"
            f" WHERE {key} = ?",
            (state, saved.item_id, saved.error or None, sync_id, record.key),
        )

    def states(self, customer: str, kind: Kind, sync_id: str | None = None) -> Counter[str]:
        """Number of a customer's records by state; with `sync_id`, of those that this run has changed last."""
        where, values = "WHERE customer = ?", [customer]
        if sync_id is not None:
            where, values = f"{where} AND {'s.' if kind == 'subitem' else ''}sync_id = ?", [customer, sync_id]
        return Counter(record.state for record in self._records(kind, where, values))

    def in_state(self, customer: str, kind: Kind, state: str, most: int) -> list[Record]:
        """The first of a customer's records in a state."""
        of = "s." if kind == "subitem" else ""
        where = f"WHERE customer = ? AND {of}sync_state = ? ORDER BY 2 LIMIT ?"
        return self._records(kind, where, (customer, state, most))

    def _records(self, kind: Kind, where: str, values: Iterable[str | int]) -> list[Record]:
        return [Record(*row) for row in self._connection.execute(f"{_RECORDS[kind]} {where}", tuple(values))]


@contextmanager
def _made(path: Path) -> Iterator[sqlite3.Connection]:
    """A new database, which is at `path` when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    connection = sqlite3.connect(unfinished)
    connection.executescript(_TABLES)
    with connection:
        yield connection
    connection.close()
    unfinished.rename(path)


def create(path: Path, orders: Iterable[Record], subitems: Iterable[Record]) -> None:
    """Make a database with these orders and sub-items, all of them pending."""
    rows = [(order.key, order.customer, order.parent, order.title, order.status, order.quantity) for order in orders]
    with _made(path) as connection:
        connection.executemany(
            "INSERT INTO fact_order_list (order_number, customer, board_group, title, status, quantity)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            rows,
        )
        connection.executemany(
            "INSERT INTO fact_order_subitem (sku, order_number, title, quantity) VALUES (?, ?, ?, ?)",
            [(each.key, each.parent, each.title, each.quantity) for each in subitems],
        )
    log.info(CREATED, path=str(path), orders=len(rows))
