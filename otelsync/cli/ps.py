"""``otelsync ps``: the runs in flight, what each is at, and which are stuck."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

import click

from otelsync.cli import options
from otelsync.views.in_flight import STUCK_AFTER, InFlight
from otelsync.views.in_flight_text import NOTHING, document, lines_of

stuck_option = click.option(
    "stuck_minutes",
    "--stuck-after",
    type=click.FloatRange(min=0, min_open=True),
    default=STUCK_AFTER / 60,
    show_default=True,
    metavar="MINUTES",
    help="Without a record for so long, a run counts as stuck.",
)


@click.command(name="ps")
@stuck_option
@options.json_option("A JSON object.")
@options.home_option
def command(stuck_minutes: float, as_json: bool, home: Path | None) -> None:
    """The runs in flight: where each is, how far, and how long it still takes. Stuck ones are marked."""
    settings = options.settings_of(home)
    options.note_if_nothing_is_in(settings)
    watched = InFlight(settings.journal_directories, settings.store_file, stuck_after=stuck_minutes * 60)
    now_ns = time.time_ns()
    with closing(watched):
        runs = watched.look(now_ns)
    if as_json:
        click.echo(json.dumps(document(runs, now_ns), indent=2))
        return
    if not runs:
        click.echo(NOTHING)
    for number, run in enumerate(runs):
        options.draw([*([[]] if number else []), *lines_of(run, now_ns)])
