"""The journal, interrupted at every point of its work: nothing is lost uncounted, and the next record is recorded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trace_tree
from interruptions import Interrupted, Places
from journal_files import resource, scope, span

from otelsync.journal import room, series, writer
from otelsync.journal.format import ENCODE_ERROR, SPAN
from otelsync.journal.names import list_segments
from otelsync.journal.writer import Journal

JOURNAL = Path(writer.__file__).parent
SMALL, LARGE = 100, 25_000
"""Bytes of a record: two large ones fit into the first file."""


class Written:
    """A journal, and what was asked of it."""

    def __init__(self, directory: Path, **bounds: Any) -> None:
        self.journal = Journal(directory, **bounds)
        self.journal.scope(self.journal.resource(resource()), scope())
        self.begun = self.ended = 0
        self.unrecordable = 0

    def write(self, size: int = SMALL) -> None:
        self.begun += 1
        self.journal.append(SPAN, 0, span(self.begun, padding=size))
        self.ended += 1

    def check(self, point: str, *, may_lose: int = 0) -> None:
        """What was recorded and what was dropped is all that was begun, but for a call that was not even entered."""
        directory = self.journal.directory
        found = [int(node.span_id, 16) for node in trace_tree.spans_in_journal(directory)]
        assert len(found) == len(set(found)), f"{point}: recorded twice: {found}"
        dropped = sum(spans for spans, _ in self.journal.dropped.values())
        entered = self.begun + self.unrecordable - (1 if "at the beginning of Journal." in point else 0)
        assert entered - may_lose <= len(found) + dropped <= self.begun + self.unrecordable, (
            f"{point}: {self.begun} begun, {len(found)} recorded, {self.journal.dropped} dropped"
        )
        shown = sum(trace_tree.dropped(directory)["span"].values())
        assert shown == dropped - self.journal.uncounted[0], f"{point}: {dropped} dropped, {shown} in the files"


def first_record(made: Written) -> None:
    """The directory and the first file are made."""
    made.write()


def rotation(made: Written) -> None:
    """The second file follows the first."""
    for _ in range(4):
        made.write(LARGE)


def late_scope(made: Written) -> None:
    """A scope is defined while a file is being written."""
    made.write()
    made.journal.scope(made.journal.resource(resource("late")), scope("late"))
    made.write()


def too_large(made: Written) -> None:
    """A record is too large, and one cannot be encoded."""
    made.write()
    made.write(5_000_000)
    made.unrecordable = 1
    made.journal.drop(ENCODE_ERROR, SPAN)


def removed(made: Written) -> None:
    """The directory is removed, and put back by the look that follows."""
    made.write()
    shutil.rmtree(made.journal.directory)
    made.journal.look()
    made.write()


def in_the_way(made: Written) -> None:
    """The directory cannot be made, until it can."""
    directory = made.journal.directory
    directory.write_text("in the way")
    made.write()
    made.write()
    directory.unlink()
    made.write()


def full(made: Written) -> None:
    """The bound is reached, until a file was shipped."""
    for _ in range(4):
        made.write(LARGE)


def end(made: Written) -> None:
    """The series ends, and goes on."""
    made.write()
    made.journal.close()
    made.write()
    made.journal.close()


SCENARIOS = [first_record, rotation, late_scope, too_large, removed, in_the_way, full, end]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again at once, and files are small, so that a run takes milliseconds."""
    monkeypatch.setattr(series, "FIRST_SEGMENT", 64 * 1024)
    monkeypatch.setattr(series, "RETRY_NS", 0)
    monkeypatch.setattr(room, "_LIST_EVERY", 0.0)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Callable[..., Written]]:
    """Makes one journal after another, each in a directory of its own; the one before is removed."""
    numbers = count()
    made: list[Written] = []

    def make(**bounds: int) -> Written:
        for old in made:
            old.journal.close()
            shutil.rmtree(old.journal.directory, ignore_errors=True)
        made[:] = [Written(tmp_path / str(next(numbers)), **bounds)]
        return made[0]

    yield make
    made[0].journal.close()


def interrupted(
    scenario: Callable[[Written], None],
    fresh: Callable[..., Written],
    do: Callable[[], object],
    during: list[Written],
) -> None:
    """Run a scenario with an interruption at each point; afterwards all is there, or counted, and recording goes on."""
    bounds = {"max_bytes": 80 * 1024} if scenario is full else {}

    def prepare() -> None:
        during[:] = [fresh(**bounds)]

    for point in Places(JOURNAL, do=do, ends=False).visit(lambda: scenario(during[0]), prepare):
        (made,) = during
        if made.journal.directory.is_file():
            made.journal.directory.unlink()
        if scenario is full and made.journal.path is not None:
            made.journal.path.unlink()  # as the shipper does
            made.journal.look()
        before = made.journal.dropped
        made.write()
        made.write()
        made.journal.close()
        assert made.journal.dropped == before or scenario is full, f"{point}: it records no more"
        made.check(point)
        assert all(len(segments) < 10 for segments in list_segments(made.journal.directory).values()), point


class TooLateError(TimeoutError, Interrupted):
    """An exception of the host's that is an OSError too, as a TimeoutError is."""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_exception_at_any_point(scenario: Callable[[Written], None], fresh: Callable[..., Written]) -> None:
    """A signal handler raises, even an OSError: it comes out, and what was recorded is there, or counted, once."""
    came = 0

    def interrupt() -> None:
        nonlocal came
        came += 1
        raise TooLateError

    interrupted(scenario, fresh, interrupt, [])
    assert came > 20


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("scenario", [rotation, removed, end])
def test_a_handler_that_records(
    scenario: Callable[[Written], None], raises: bool, fresh: Callable[..., Written]
) -> None:
    """A signal handler, or a finalizer, records in the middle of it; then it goes on, or raises."""
    during: list[Written] = []

    def handler() -> None:
        during[0].write()
        during[0].journal.look()
        if raises:
            raise Interrupted

    interrupted(scenario, fresh, handler, during)


def test_a_handler_that_ends_the_series(fresh: Callable[..., Written]) -> None:
    """A signal handler shuts down in the middle of an append: the file is closed, and holds that record too."""
    during: list[Written] = []
    interrupted(rotation, fresh, lambda: during[0].journal.close(), during)


def test_a_handler_that_forks(fresh: Callable[..., Written]) -> None:
    """A fork in the middle of it: the parent writes what it was about to, the child what comes then, both once."""
    during: list[Written] = []

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(0 if child(during[0]) else 1)
            finally:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0

    interrupted(rotation, fresh, fork, during)


def child(made: Written) -> bool:
    """Record in a child, which has nothing to do with what its parent was about; return whether that went well."""
    directory = made.journal.directory
    before = sorted(path.name for path in directory.iterdir()) if directory.exists() else []
    made.journal.append(SPAN, 0, span(999))
    path = made.journal.path
    made.journal.close()
    if path is None or path.name in before:
        return False
    spans = [int(node.span_id, 16) for node in trace_tree.spans_in_journal(directory)]
    path.unlink()
    return spans.count(999) == 1
