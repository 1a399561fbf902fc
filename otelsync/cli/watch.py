"""``otelsync watch``: the runs in flight, drawn anew every second; without a terminal, a line for each change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click

from otelsync.cli import options
from otelsync.cli.ps import in_flight, stuck_option
from otelsync.errors import RunNotFoundError
from otelsync.text.paint import Line, Piece
from otelsync.text.printable import printable
from otelsync.text.quantities import day_and_time, duration
from otelsync.views.in_flight import InFlight
from otelsync.views.in_flight_text import NOTHING, line_of, lines_of, signature
from otelsync.views.run_now import RunNow

_EVERY = 1.0
"""Seconds."""


@click.command(name="watch")
@click.argument("sync_id", required=False)
@stuck_option
@options.home_option
def command(sync_id: str | None, stuck_minutes: float, home: Path | None) -> None:
    """Watch the runs in flight, or the one that SYNC_ID names until it ends. q or Ctrl-C leaves.

    What is not a terminal gets a line for each change.
    """
    settings = options.settings_of(home)
    with closing(in_flight(settings, stuck_minutes)) as watched:
        watch = _Watch(watched, sync_id)
        try:
            if options.on_terminal():
                _on_screen(watch)
            else:
                _line_by_line(watch)
        except KeyboardInterrupt:
            return


class _Watch:
    """The runs that somebody watches, from look to look."""

    def __init__(self, watched: InFlight, wanted: str | None) -> None:
        self._watched = watched
        self._wanted = wanted
        self._before: dict[str, RunNow] = {}
        self._now_ns = 0
        self.ended: list[str] = []
        """Lines on the runs that have ended since the last look."""

    def look(self) -> list[RunNow]:
        """The runs at this moment. Raises RunNotFoundError if the one that is wanted was never there."""
        self._now_ns = time.time_ns()
        runs = [run for run in self._watched.look(self._now_ns) if _is_meant(run, self._wanted)]
        now = {run.sync_id: run for run in runs}
        self.ended = [self._end_of(run) for sync_id, run in self._before.items() if sync_id not in now]
        if self._wanted is not None and not runs and not self._before:
            raise RunNotFoundError(
                f"no run in flight is called {printable(self._wanted, 60)!r}; otelsync ps lists them"
            )
        self._before = now
        return runs

    @property
    def now_ns(self) -> int:
        """Time of the last look."""
        return self._now_ns

    def is_over(self) -> bool:
        """Return whether there is nothing to wait for any more."""
        return self._wanted is not None and bool(self.ended) and not self._before

    def _end_of(self, run: RunNow) -> str:
        name = f"{printable(run.sync_id, 40)} {printable(run.pipeline, 40)}"
        ended = self._watched.how_ended(run.sync_id)
        if ended is None:
            return f"{name} has gone without an end"
        return f"{name} ended: {printable(ended.outcome, 12)} after {duration(ended.end_ns - run.started_ns)}"


def _is_meant(run: RunNow, wanted: str | None) -> bool:
    """Return whether a run's sync id, its hexadecimal part or its trace id begins so."""
    if wanted is None:
        return True
    sync_id, wanted = run.sync_id.upper(), wanted.strip().upper()
    names = (sync_id, sync_id.rpartition("-")[2], run.trace_id.upper())
    return any(name.startswith(wanted) for name in names)


def _on_screen(watch: _Watch) -> None:
    from otelsync.cli.screen import Screen, until

    ended: list[str] = []

    def frame() -> Sequence[Line] | None:
        runs = watch.look()
        ended.extend(watch.ended)
        if watch.is_over():
            return None
        return [*_title(watch), *_body(runs, watch.now_ns), *([Piece(line, "dim")] for line in ended[-5:])]

    watch.look()  # before the screen is taken, so that an error is said in the usual place
    with Screen() as screen:
        until("q", screen, _EVERY, frame)
    for line in ended:
        click.echo(line)


def _title(watch: _Watch) -> list[Line]:
    return [[Piece(f"{day_and_time(watch.now_ns)} UTC", "dim"), Piece("  q leaves", "dim")], []]


def _body(runs: Sequence[RunNow], now_ns: int) -> list[Line]:
    if not runs:
        return [[Piece(NOTHING)], []]
    lines: list[Line] = []
    for run in runs:
        lines += [*lines_of(run, now_ns), []]
    return lines


def _line_by_line(watch: _Watch) -> None:
    told: dict[str, tuple[object, ...]] = {}
    while True:
        for run in watch.look():
            if told.get(run.sync_id) != (now := signature(run)):
                told[run.sync_id] = now
                click.echo(f"{day_and_time(watch.now_ns)} {line_of(run, watch.now_ns)}")
        for line in watch.ended:
            click.echo(f"{day_and_time(watch.now_ns)} {line}")
        if watch.is_over():
            return
        time.sleep(_EVERY)
