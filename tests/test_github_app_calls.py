"""Calls to GitHub's API: no more than it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.incremental_calls import measure


@pytest.mark.slow
def test_an_incremental_sync_asks_for_what_has_changed(tmp_path: Path) -> None:
    """Of 50 repositories with 1 % of changes: within 10 % of the least possible; a history comes by whole pages."""
    history, first, changed, unchanged = measure(tmp_path, repos=50, pulls=100, share=0.01)
    assert (history.pulls, history.calls) == (5000, 100)
    assert (changed.pulls, unchanged.pulls) == (50, 0)
    assert first.pulls == 0
    for part in (history, first, changed, unchanged):
        assert part.least <= part.calls <= part.least * 1.1, part


@pytest.mark.slow
def test_a_list_in_which_nothing_has_changed_costs_nothing_of_the_limit(tmp_path: Path) -> None:
    """The same address is asked for as before, and GitHub answers 304."""
    *_, unchanged = measure(tmp_path, repos=2, pulls=20, share=0.1)
    assert (unchanged.lists, unchanged.queries) == (2, 0)
