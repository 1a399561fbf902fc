"""The sync: customer by customer, group by group, batch by batch; what the board refuses is in the database, with why.

A record that is refused fails alone. A batch whose request fails leaves its records pending, and the next one goes on.
A customer whose board cannot be had fails alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import otelsync

from .board_client import BoardError, Boards, BoardUnreachableError, Contents
from .config import Customer
from .database import Database, Record

PIPELINE: Final = "orders.board"

catalogue = otelsync.Catalogue("se", source=__name__)
STARTED = catalogue.event(1, "orders.started", level="info", fields=("customers", "execute"), says="A sync begins.")
CUSTOMER_READ = catalogue.event(
    2, "orders.customer_read", level="info", fields=("customer", "orders"), says="So much is to be done for one."
)
CUSTOMER_FAILED = catalogue.event(
    3, "orders.customer_failed", level="error", fields=("customer", "reason"), says="One could not be finished."
)
BATCH_DONE = catalogue.event(
    4, "orders.batch_done", level="debug", fields=("kind", "number", "size", "failed"), says="A batch was answered."
)
BATCH_FAILED = catalogue.event(
    5, "orders.batch_failed", level="error", fields=("kind", "number", "size", "reason"), says="It stays pending."
)
log = otelsync.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """A run: its name, and how it went."""

    sync_id: str
    outcome: str


@dataclass(frozen=True)
class OrderSync:
    """Syncs the orders of customers to their boards.

    Args:
        boards: Where to; `NoBoards` for a dry run.
        database: Where from.
        environment: Its name, for the trace.
        batch_size: Records in one request.
        execute: False for a dry run: nothing is written to the database.
        limit: The most orders of each customer.
        subitems: False: orders alone.
    """

    boards: Boards
    database: Database
    environment: str
    batch_size: int
    execute: bool
    limit: int | None = None
    subitems: bool = True

    def run(self, customers: Sequence[Customer], called: str) -> Session:
        """Sync customers, one after the other; `called` is what the trace calls them: ``all``, or their names."""
        with otelsync.pipeline(PIPELINE, environment=self.environment, execute=self.execute, customers=called) as stage:
            log.info(STARTED, customers=called, execute=self.execute)
            for customer in stage.track(customers):
                self._customer(customer, stage.sync_id)
        return Session(stage.sync_id, stage.outcome)

    def _customer(self, customer: Customer, sync_id: str) -> None:
        try:
            with otelsync.group("customer", customer.name):
                orders = self.database.to_sync(customer.name, self.limit, subitems=self.subitems)
                log.info(CUSTOMER_READ, customer=customer.name, orders=len(orders))
                known = self.boards.contents(customer)
                for title, of_group in groupby(orders, lambda order: order.parent):
                    self._group(customer, title, list(of_group), known, sync_id)
        except Exception as error:  # the other customers are not to suffer
            log.error(CUSTOMER_FAILED, customer=customer.name, reason=str(error))

    def _group(self, customer: Customer, title: str, orders: list[Record], known: Contents, sync_id: str) -> None:
        with otelsync.group("board_group", title):
            if title not in known.groups:
                known.groups[title] = self.boards.create_group(customer, title)
            place = known.groups[title]
            waiting = [order for order in orders if order.state != "SYNCED"]
            refused = self._save(customer, place, waiting, known, sync_id)
            if self.subitems:
                ready = [order.key for order in orders if order.key not in refused]
                self._save(customer, place, self.database.subitems(ready), known, sync_id)

    def _save(
        self, customer: Customer, place: str, records: Sequence[Record], known: Contents, sync_id: str
    ) -> set[str]:
        """Bring records of one kind onto the board, in batches; returns the keys of those that did not get there."""
        left_out: set[str] = set()
        for number, batch in enumerate(_batches(records, self.batch_size), 1):
            kind = batch[0].kind
            try:
                with otelsync.batch(f"create_{kind}s", number=number, size=len(batch)):
                    failed = self._batch(customer, place, batch, known, sync_id)
            except BoardUnreachableError:
                raise
            except BoardError as error:
                log.error(BATCH_FAILED, kind=kind, number=number, size=len(batch), reason=str(error))
                failed = {record.key for record in batch}
            else:
                log.debug(BATCH_DONE, kind=kind, number=number, size=len(batch), failed=len(failed))
            left_out |= failed
        return left_out

    def _batch(
        self, customer: Customer, place: str, batch: Sequence[Record], known: Contents, sync_id: str
    ) -> set[str]:
        failed = set()
        for record, saved in zip(batch, self.boards.save(customer, place, batch, known), strict=True):
            with otelsync.item(record.kind, record.key, title=record.title, state=record.status) as stage:
                if self.execute:
                    self.database.store(record, saved, sync_id)
                stage.set(action=saved.action)
                if saved.error:
                    failed.add(record.key)
                    stage.fail(saved.error)
        return failed


def _batches(records: Sequence[Record], size: int) -> Iterator[Sequence[Record]]:
    for begin in range(0, len(records), size):
        yield records[begin : begin + size]
