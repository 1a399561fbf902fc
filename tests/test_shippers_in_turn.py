"""Two shippers of one directory, which somebody removes now and then: each record is stored and counted once.

Each of them may own the directory next, from whatever the other has left; a run is a random order of what they do.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from journal_files import resource, scope, span
from trace_tree import spans_in_store

from otelsync.journal.format import SPAN
from otelsync.journal.writer import Journal
from otelsync.shipping.ledger import read_ledger
from otelsync.shipping.shipper import Shipper
from otelsync.store.writing import StoreSink


class Directory:
    """A journal directory, its writer, and two shippers."""

    def __init__(self, home: Path) -> None:
        self.path = home / "journal"
        self.store = home / "store.db"
        self.journal = Journal(self.path)
        self._scope = self.journal.scope(self.journal.resource(resource()), scope())
        self.recorded = 0
        self.shippers = [self.make(), self.make()]

    def make(self) -> Shipper:
        """Return another shipper, which does not own the directory yet."""
        return Shipper(self.path, store=StoreSink(self.store), patience=0, max_batch_records=100)

    def record(self, spans: int) -> None:
        """Record so many spans."""
        for _ in range(spans):
            self.recorded += 1
            self.journal.append(SPAN, self._scope, span(self.recorded))

    def renew(self, which: int) -> None:
        """End a shipper, and begin another in its place."""
        self.shippers[which].close()
        self.shippers[which] = self.make()

    def remove(self) -> None:
        """Remove it, as somebody else does."""
        shutil.rmtree(self.path, ignore_errors=True)

    def end(self, last: int) -> None:
        """Ship what is left by one of the shippers, and end both."""
        self.journal.look()
        self.record(3)
        self.shippers[1 - last].close()
        with closing(self.shippers[last]) as shipper:
            assert shipper.drain(120)


def held(directory: Directory) -> None:
    """Hold that each record is in the store once, and the ledger true."""
    spans = spans_in_store(directory.store)
    assert len(spans) == len({each.span_id for each in spans}) == directory.recorded
    ledger = read_ledger(directory.path)
    assert ledger.reconciles, str(ledger)


def test_a_shipper_that_ends_at_once_leaves_the_account_alone(tmp_path: Path) -> None:
    """One that never owned the directory does not take it to end: it would forget how far each file is shipped."""
    directory = Directory(tmp_path)
    directory.record(10)
    directory.shippers[0].step()
    directory.renew(0)
    directory.renew(1)
    directory.end(0)
    held(directory)


@pytest.mark.parametrize("seed", range(20))
def test_shippers_in_any_order(tmp_path: Path, seed: int) -> None:
    """Whoever ships, begins, ends or removes: nothing is counted twice."""
    directory, draw = Directory(tmp_path), random.Random(seed)
    acts: list[Callable[[], object]] = [
        *(lambda which=which: directory.shippers[which].step() for which in (0, 1, 0, 1)),
        *(lambda which=which: directory.renew(which) for which in (0, 1)),
        lambda: directory.record(draw.choice((1, 30, 300))),
        directory.remove,
        directory.journal.look,
    ]
    directory.record(10)
    for _ in range(draw.randrange(5, 40)):
        draw.choice(acts)()
    directory.end(draw.randrange(2))
    held(directory)
