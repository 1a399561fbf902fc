"""Shows how far a sync is: bars on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .patience import Wait

_PLAIN_INTERVAL = 5.0


class Display(Protocol):
    """What a sync tells while it works."""

    def repository(self, name: str, pull_requests: int) -> None:
        """A repository begins; it has so many pull requests."""

    def advance(self) -> None:
        """One pull request is done, however it went."""

    def repository_done(self, name: str, summary: str) -> None:
        """A repository has ended."""

    def waiting(self, wait: Wait) -> None:
        """A rate limit is waited for."""


class PlainDisplay:
    """Lines of text: one a repository, and one every few seconds in between."""

    def __init__(self, repositories: int, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._repositories = repositories
        self._out = out
        self._clock = clock
        self._finished = 0
        self._name = ""
        self._done = self._total = 0
        self._spoken = clock()

    def repository(self, name: str, pull_requests: int) -> None:
        """Remember what is being done."""
        self._name, self._done, self._total = name, 0, pull_requests

    def advance(self) -> None:
        """Say how far it is, if nothing has been said for a while."""
        self._done += 1
        if self._clock() - self._spoken >= _PLAIN_INTERVAL:
            self._say(f"[{self._finished + 1}/{self._repositories}] {self._name}: {self._done} of {self._total}")

    def repository_done(self, name: str, summary: str) -> None:
        """Say what became of a repository."""
        self._finished += 1
        self._say(f"[{self._finished}/{self._repositories}] {name}: {summary}")

    def waiting(self, wait: Wait) -> None:
        """Say that a rate limit is waited for."""
        self._say(_waiting_text(wait))

    def _say(self, line: str) -> None:
        self._spoken = self._clock()
        print(line, file=self._out, flush=True)


class TerminalDisplay:
    """Two bars: repositories, and the pull requests of the present one."""

    def __init__(self, progress: Progress, repositories: int) -> None:
        self._progress = progress
        self._all = progress.add_task("repositories", total=repositories)
        self._one = progress.add_task("pull requests", total=None)
        self._name = ""

    def repository(self, name: str, pull_requests: int) -> None:
        """Begin the second bar anew."""
        self._name = escape(name)
        self._progress.reset(self._one, total=pull_requests, description=self._name)

    def advance(self) -> None:
        """Move the second bar."""
        self._progress.update(self._one, advance=1, description=self._name)

    def repository_done(self, name: str, summary: str) -> None:
        """Move the first bar and leave a line behind."""
        self._progress.advance(self._all)
        self._progress.console.print(f"{escape(name)}: {escape(summary)}", highlight=False)

    def waiting(self, wait: Wait) -> None:
        """Say so in place of the repository's name."""
        self._progress.update(self._one, description=escape(_waiting_text(wait)))


@contextmanager
def display(repositories: int, out: TextIO | None = None) -> Iterator[Display]:
    """The display that suits `out` (default: standard output), for the length of the block."""
    out = out or sys.stdout
    console = Console(file=out)
    if not console.is_terminal:
        yield PlainDisplay(repositories, out)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield TerminalDisplay(progress, repositories)


def _waiting_text(wait: Wait) -> str:
    return f"waiting {wait.seconds:.0f} s for the {wait.reason} rate limit"
