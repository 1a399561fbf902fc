"""``otelsync watch``: the runs in flight, drawn anew every second; without a terminal, a line for each change."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import click

from otelsync.cli import options
from otelsync.cli.ps import stuck_option
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
@options.sync_id_argument
@stuck_option
@options.home_option
def command(sync_id: str | None, stuck_minutes: float, home: Path | None) -> None:
    """Watch the runs in flight, or the one that SYNC_ID names until it ends. q or Ctrl-C leaves.

    What is not a terminal gets a line for each change.
    """
    settings = options.settings_of(home)
    options.note_if_nothing_is_in(settings)
    watched = InFlight(settings.journal_directories, settings.store_file, stuck_after=stuck_minutes * 60)
    with closing(watched), suppress(KeyboardInterrupt):
        (_on_screen if options.on_terminal() else _line_by_line)(_looks(watched, sync_id))


class _Look(NamedTuple):
    """The runs that somebody watches, at one moment."""

    now_ns: int
    runs: Sequence[RunNow]
    ended: Sequence[str]
    """Lines on the runs that have ended since the look before."""
    is_last: bool
    """True if there is nothing to wait for any more."""


def _looks(watched: InFlight, wanted: str | None) -> Iterator[_Look]:
    """Look as often as asked. Raises RunNotFoundError if the run that is wanted is not there at first."""
    before: dict[str, RunNow] = {}
    while True:
        now_ns = time.time_ns()
        now = {run.sync_id: run for run in watched.look(now_ns) if _is_meant(run, wanted)}
        if wanted is not None and not now and not before:
            raise RunNotFoundError(f"no run in flight is called {printable(wanted, 60)!r}; otelsync ps lists them")
        ended = [_end_of(run, watched) for sync_id, run in before.items() if sync_id not in now]
        yield _Look(now_ns, [*now.values()], ended, wanted is not None and not now)
        before = now


def _end_of(run: RunNow, watched: InFlight) -> str:
    name = f"{printable(run.sync_id, 40)} {printable(run.pipeline, 40)}"
    ended = watched.how_ended(run.sync_id)
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


def _on_screen(looks: Iterator[_Look]) -> None:
    from otelsync.cli.screen import Screen

    ended: list[str] = []
    first = next(looks)  # before the screen is taken, so that an error is said in the usual place
    with Screen() as screen:
        for look in chain([first], looks):
            ended += look.ended
            if look.is_last:
                break
            screen.draw([*_frame(look), *([Piece(line, "dim")] for line in ended[-5:])])
            if "q" in screen.key_within(_EVERY):
                break
    for line in ended:
        click.echo(line)


def _frame(look: _Look) -> Iterator[Line]:
    yield [Piece(f"{day_and_time(look.now_ns)} UTC", "dim"), Piece("  q leaves", "dim")]
    yield []
    for run in look.runs:
        yield from lines_of(run, look.now_ns)
        yield []
    if not look.runs:
        yield from ([Piece(NOTHING)], [])


def _line_by_line(looks: Iterator[_Look]) -> None:
    told: dict[str, tuple[object, ...]] = {}
    for look in looks:
        time_of_look = day_and_time(look.now_ns)
        for run in look.runs:
            if told.get(run.sync_id) != (now := signature(run)):
                told[run.sync_id] = now
                click.echo(f"{time_of_look} {line_of(run, look.now_ns)}")
        for line in look.ended:
            click.echo(f"{time_of_look} {line}")
        if look.is_last:
            return
        time.sleep(_EVERY)
