from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from stored import SYNC_ID, TRACE, batch, span, store

from otelsync.reports.selection import Node, select
from otelsync.store.runs import find_run, open_store

PIPELINE = "sync.pipeline nightly"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def selected(path: Path, budget: int = 5000, *traces: str) -> list[Node]:
    with open_store(path) as opened:
        return select(opened, find_run(opened, SYNC_ID), traces or (TRACE,), budget)


def lines(nodes: Sequence[Node], depth: int = 0) -> Iterator[str]:
    for node in nodes:
        if node.sum is not None:
            text = f"and {node.sum.count} more {node.sum.name} ({node.sum.failed} failed)"
        else:
            assert node.span is not None
            text = node.span.name + (" failed" if node.span.failed else "") + (" cut" if node.is_cut else "")
        yield "  " * depth + text
        yield from lines(node.children, depth + 1)


def run_of(repos: int, calls: int, prs: int, *, failing: frozenset[int] = frozenset()) -> Iterator[bytes]:
    """A run; `failing`: numbers of pull requests, through all repos and calls."""
    number, at = 0, 0.0
    for repo in range(repos):
        for call in range(calls):
            own = 0x10000 + repo * 1000 + call
            began = at
            for _ in range(prs):
                error = "ValueError: no" if number in failing else None
                yield span("sync.pr", 0x1000000 + number, own, at, at + 1 + number % 7 / 10, error=error)
                number, at = number + 1, at + 2
            yield span("sync.api list", own, 0x1000 + repo, began, at, sync__api__page=call)
        yield span(f"sync.repo a/{repo:03}", 0x1000 + repo, 1, 0, at, sync__outcome="success")
    yield span(PIPELINE, 1, 0, 0, at, sync__outcome="success")


def test_a_small_run_is_shown_as_a_whole(path: Path) -> None:
    """Every span, earliest first."""
    store(path, batch(*run_of(2, 1, 2)))
    assert "\n".join(lines(selected(path))) == (
        """\
sync.pipeline nightly
  sync.repo a/000
    sync.api list
      sync.pr
      sync.pr
  sync.repo a/001
    sync.api list
      sync.pr
      sync.pr"""
    )


def test_a_large_run_is_bounded(path: Path) -> None:
    """The page has no more lines than its budget, and every repo is among them."""
    store(path, batch(*run_of(20, 5, 30)))
    found = [*lines(selected(path, 300))]
    assert len(found) <= 300
    assert len([line for line in found if "sync.repo" in line]) == 20
    assert any("more sync.pr" in line for line in found)


def test_what_failed_is_shown_wherever_it_is(path: Path) -> None:
    """A few failures among thousands are there, with all that stands above them."""
    failing = frozenset((17, 1034, 2999))
    store(path, batch(*run_of(20, 5, 30, failing=failing)))
    found = [*lines(selected(path, 400))]
    assert len([line for line in found if "sync.pr failed" in line]) == 3
    assert len(found) <= 400


def test_many_failures_are_bounded_too(path: Path) -> None:
    """Where everything failed, sums say how much is not shown."""
    store(path, batch(*run_of(20, 5, 30, failing=frozenset(range(3000)))))
    nodes = selected(path, 300)
    found = [*lines(nodes)]
    assert len(found) <= 450
    left = [node.sum.failed for node in _all(nodes) if node.sum is not None and node.sum.name == "sync.pr"]
    assert sum(left) > 0


def test_more_repos_than_lines(path: Path) -> None:
    """The slowest are shown, and a sum for the rest."""
    spans = [span(f"sync.repo a/{n:04}", 0x1000 + n, 1, n, n + 1 + n / 10) for n in range(500)]
    store(path, batch(*spans, span(PIPELINE, 1, 0, 0, 600, sync__outcome="success")))
    found = [*lines(selected(path, 100))]
    assert len(found) <= 100
    assert "  sync.repo a/0499" in found
    assert any(line.startswith("  and 4") and "more sync.repo" in line for line in found)


def test_spans_whose_parent_is_missing_are_shown(path: Path) -> None:
    """They stand on their own."""
    store(path, batch(span("sync.repo a/b", 2, 77, 3, 5), span(PIPELINE, 1, 0, 0, 9, sync__outcome="success")))
    assert [*lines(selected(path))] == [PIPELINE, "sync.repo a/b"]


def test_a_deep_trace_is_cut(path: Path) -> None:
    """What is too deep is marked."""
    store(path, batch(*(span("down", n, n - 1, n, 200, sync__pipeline="p") for n in range(1, 120))))
    found = [*lines(selected(path))]
    assert len(found) == 60


def _all(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _all(node.children)
