"""What the command line shows of a run: lines, or a table on a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from examples.github_sync import following
from examples.github_sync.status import RepositoryStatus, TeamStatus

HOSTILE = "\x1b[2J[bold]gone\x07"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def team(phase: str, *, done: int = 0, error: str | None = None, waiting: float = 0.0) -> TeamStatus:
    """Return how a team of two repositories stands."""
    repositories = [
        RepositoryStatus("acme/api", "Synced" if done == 10 else "Syncing", done * 10, done, 10, None, 1, None),
        RepositoryStatus("acme/web", "Error" if error else "Waiting", 0, 0, None, error, 0, None),
    ]
    return TeamStatus("red", phase, None, None, repositories, {}, [], 90.0 if waiting else None, waiting)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again at once."""
    monkeypatch.setattr(following, "POLL", 0.0)


def followed(out: io.StringIO, *looks: TeamStatus) -> TeamStatus:
    """Follow a run that is over with the last of these looks."""
    told: Iterator[TeamStatus] = iter(looks)
    return following.follow(lambda: next(told), lambda now: now.phase == "completed", out)


def test_without_a_terminal_each_change_is_a_line() -> None:
    """What is as before is not said again, nor how a wait goes on."""
    out = io.StringIO()
    looks = [team("syncing"), team("syncing", waiting=30.0), team("syncing", waiting=20.0), team("syncing", done=4)]
    last = followed(out, *looks, team("syncing", done=4), team("completed", done=10, error="404"))
    assert [line.partition("s  ")[2] for line in out.getvalue().splitlines()] == [
        "syncing: 0 of 2 repositories, 0 of 10 pull requests",
        "waiting 30s for a rate limit",
        "syncing: 0 of 2 repositories, 4 of 10 pull requests",
        "completed: 2 of 2 repositories, 10 of 10 pull requests",
    ]
    assert last.outcome == "partial"


def test_on_a_terminal_it_is_a_table_that_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """With bars, badges, the wait and what is left; it goes when the run is over."""
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    followed(out, team("syncing"), team("syncing", done=4, waiting=30.0), team("completed", done=10, error="404"))
    said = out.getvalue()
    assert "waiting 30s for a rate limit, about 1m30s left" in said
    for shown in ("Syncing", "Waiting", "4 of 10", "Synced", "Error", "404", "\x1b[2K"):
        assert shown in said


@pytest.mark.parametrize("out", [io.StringIO(), Terminal()], ids=["file", "terminal"])
def test_hostile_text_is_text(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """What GitHub says is neither a control sequence nor markup."""
    monkeypatch.setenv("TERM", "xterm")
    followed(out, team("syncing", error=HOSTILE), team("completed", done=10, error=HOSTILE))
    Console(file=out).print(following.table_of(team("completed", error=HOSTILE)))
    assert "\x1b[2J" not in out.getvalue()
    assert "\x07" not in out.getvalue()
    assert "[bold]gone" in re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
