"""Calls to GitHub's API: no more than it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.incremental_calls import measure


@pytest.mark.slow
def test_an_incremental_sync_asks_for_what_has_changed(tmp_path: Path) -> None:
    """Of 50 repositories with 1 % of changes: within 10 % of the least possible; a history comes by whole pages.

    A list that was asked for before, and is as it was, is a 304, which counts for no limit.
    """
    history, first, changed, unchanged, again = measure(tmp_path, repos=50, pulls=100, share=0.01)
    assert (history.pulls, history.calls) == (5000, 100)
    assert (changed.pulls, unchanged.pulls) == (50, 0)
    assert first.pulls == 0
    assert (unchanged.not_modified, again.not_modified) == (0, 50)
    for part in (history, first, changed, unchanged, again):
        assert part.least <= part.calls <= part.least * 1.1, part
