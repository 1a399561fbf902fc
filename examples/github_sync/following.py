"""Follows a run in the terminal: a table that is drawn anew on a terminal, a line for each change anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TextIO

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from .status import TeamStatus, duration

POLL: Final = 0.5
"""Seconds between two looks."""
_COLORS: Final = {"Waiting": "dim", "Syncing": "cyan", "Synced": "green", "Error": "red"}
_BAR: Final = 20
"""Characters."""


def follow(look: Callable[[], TeamStatus], is_over: Callable[[TeamStatus], bool], out: TextIO) -> TeamStatus:
    """Show how far a sync is until it is over; returns how it stands then."""
    console = Console(file=out)
    return _live(look, is_over, console) if console.is_terminal else _lines(look, is_over, out)


def table_of(found: TeamStatus) -> Group:
    """Return the table of a team's repositories, and below it what is wrong with them."""
    table = Table(title=title_of(found), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("repository", "", ""):
        table.add_column(name, no_wrap=True)
    for name in ("pull requests", "failed"):
        table.add_column(name, no_wrap=True, justify="right")
    for each in found.repositories:
        color = _COLORS.get(each.badge, "")
        pulls = f"{each.completed:,}" + (f" of {each.total:,}" if each.total is not None else "")
        table.add_row(
            escape(each.full_name),
            f"[{color}]{each.badge}[/]" if color else each.badge,
            ProgressBar(100, each.progress, width=_BAR),
            pulls,
            str(each.dead_letters or ""),
        )
    wrong = [f"{escape(each.full_name)}: [red]{_harmless(each.error)}[/]" for each in found.repositories if each.error]
    return Group(table, *wrong)


def _harmless(text: str) -> str:
    """Return a text of GitHub's as it can be shown: no control characters, and no markup."""
    return escape("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text))


def title_of(found: TeamStatus) -> str:
    """Return a line on the whole: the phase, the wait that is going on, and the time that is left."""
    parts = [f"{found.team}: {found.outcome}"]
    if found.phase:
        parts.append(found.phase.replace("_", " "))
    if found.waiting_seconds:
        parts.append(f"waiting {duration(found.waiting_seconds)} for a rate limit")
    if found.eta_seconds is not None:
        parts.append(f"about {duration(found.eta_seconds)} left")
    return ", ".join(escape(part) for part in parts)


def _live(look: Callable[[], TeamStatus], is_over: Callable[[TeamStatus], bool], console: Console) -> TeamStatus:
    found = look()
    with Live(table_of(found), console=console, auto_refresh=False, transient=True) as live:
        while not is_over(found):
            time.sleep(POLL)
            found = look()
            live.update(table_of(found), refresh=True)
    return found


def _lines(look: Callable[[], TeamStatus], is_over: Callable[[TeamStatus], bool], out: TextIO) -> TeamStatus:
    began, said, waited_until = time.monotonic(), "", 0.0
    while True:
        found = look()
        line = _line(found)
        if line != said:
            _say(out, began, line)
            said = line
        until = time.monotonic() + found.waiting_seconds
        if found.waiting_seconds and until > waited_until + POLL:  # another wait, and not the same a moment later
            _say(out, began, f"waiting {duration(found.waiting_seconds)} for a rate limit")
            waited_until = until
        if is_over(found):
            return found
        time.sleep(POLL)


def _line(found: TeamStatus) -> str:
    phase = found.phase.replace("_", " ")
    (done, repositories), (pulls, known) = found.done, found.pulls
    return f"{phase}: {done} of {repositories} repositories, {pulls:,} of {known:,} pull requests"


def _say(out: TextIO, began: float, line: str) -> None:
    print(f"{time.monotonic() - began:6.0f} s  {line}", file=out, flush=True)
