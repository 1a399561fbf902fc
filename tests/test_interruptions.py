"""The tool that interrupts code at every point: it misses none, and interrupts nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock

import pytest
from interruptions import Interrupted, Places

HERE = Path(__file__)


def test_each_call_is_interrupted_before_and_behind_it() -> None:
    """A list is filled by two calls: interrupted at each point, it holds what the calls so far have put there."""
    held: list[int] = []

    def work() -> None:
        held.clear()
        held.append(1)
        held.append(2)

    points = [(point.split(" ", 1)[1], len(held)) for point in Places(HERE).visit(work)]
    name = "test_each_call_is_interrupted_before_and_behind_it.<locals>.work"
    assert points[3:] == [
        ("before append, for the 1. time", 0),
        ("behind append, for the 1. time", 1),
        ("before append, for the 1. time", 1),
        ("behind append, for the 1. time", 2),
        (f"at the end of {name}, for the 1. time", 2),
    ]
    assert [point for point, _ in points[:3]] == [
        f"at the beginning of {name}, for the 1. time",
        "before clear, for the 1. time",
        "behind clear, for the 1. time",
    ]


def test_a_lock_is_never_left_held() -> None:
    """Nothing comes between the end of a ``with`` and the release of its lock: only behind that."""
    lock = Lock()

    def work() -> None:
        with lock:
            len(())

    for point in Places(HERE).visit(work):
        assert not lock.locked(), point


def test_something_else_than_an_exception(tmp_path: Path) -> None:
    """What comes in may also return, as a handler that records does; then the code goes on."""
    came = []

    def work() -> None:
        (tmp_path / "file").write_text("text")

    points = list(Places(HERE, do=lambda: came.append(1)).visit(work))
    assert len(came) == len(points) >= 3


@pytest.mark.parametrize("visits", [1, 2])
def test_the_first_and_the_last_visits_of_a_place(visits: int) -> None:
    """A loop is interrupted in its first turns and in its last one."""
    turns = []

    def work() -> None:
        done = 0
        try:
            for _ in range(5):
                abs(1)
                done += 1
        except Interrupted:
            turns.append(done)
            raise

    for _ in Places(HERE, visits=visits).visit(work):
        pass
    assert sorted(set(turns)) == [*range(visits), 4]


def test_code_elsewhere_is_left_alone(tmp_path: Path) -> None:
    """Where none of the code is inside, that is said."""
    work: Callable[[], object] = lambda: len(())  # noqa: E731
    with pytest.raises(AssertionError, match="0 points"):
        list(Places(tmp_path).visit(work))
