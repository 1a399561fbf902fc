"""``otelsync logs``: the log records of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from otelsync.cli import options
from otelsync.cli.catching_up import store_with
from otelsync.store.records import LEVELS, json_of, line_of, records
from otelsync.store.runs import find_run, open_store


@click.command(name="logs")
@options.sync_id_argument
@click.option("--span", metavar="ID", help="Only of this span and those below it; the beginning of its id will do.")
@click.option("--level", type=click.Choice(list(LEVELS), case_sensitive=False), help="Of this level or above.")
@options.json_option("One JSON object a line.")
@options.home_option
def command(sync_id: str | None, span: str | None, level: str | None, as_json: bool, home: Path | None) -> None:
    """The log records of a run, in the order of time: the latest run, or the one that SYNC_ID names."""
    settings = options.settings_of(home)
    with open_store(store_with(settings, sync_id)) as store:
        found = records(store, find_run(store, sync_id), span=span, level=level.lower() if level else None)
        if as_json:
            sys.stdout.writelines(f"{json_of(record)}\n" for record in found)
        else:
            options.draw(map(line_of, found), least_width=options.UNBOUNDED)
