"""Options that several commands share: where the data is, and how wide and colourful the output may be."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from otelsync.cli.completing import sync_ids
from otelsync.settings import Settings
from otelsync.text.colors import wants_color
from otelsync.text.paint import Line, painter
from otelsync.text.printable import printable

PLAIN_WIDTH = 120
"""Cells of a line where no terminal says how many it has."""

UNBOUNDED = 1 << 20
"""Cells: lines that a terminal wraps, and that are not cut."""

Command = TypeVar("Command", bound=Callable[..., Any])

home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the journals and the store are. [OTELSYNC_HOME]",
)

sync_id_argument = click.argument("sync_id", required=False, shell_complete=sync_ids)


def metrics_options(command: Command) -> Command:
    """``--metrics-port`` and ``--metrics-host``."""
    port = click.option(
        "--metrics-port",
        type=click.IntRange(0, 65_535),
        help="Serve metrics for Prometheus; 0 takes a free port. [OTELSYNC_METRICS_PORT]",
    )
    host = click.option("--metrics-host", help="The address to serve them on. [OTELSYNC_METRICS_HOST; 127.0.0.1]")
    return port(host(command))


def json_option(what: str) -> Callable[[Command], Command]:
    """``--json``."""
    return click.option("as_json", "--json", is_flag=True, help=what)


def settings_of(home: Path | None) -> Settings:
    """The settings of the environment. Raises ConfigurationError."""
    return Settings.from_environment(home=home)


def note_if_nothing_is_in(settings: Settings) -> None:
    """Say on standard error that nothing was recorded where the runs in flight are looked for: it may be a wrong place.

    Only of a home that was named; the usual one is right.
    """
    is_named = settings.home != Settings.from_environment({}).home
    if is_named and not settings.journal_directories() and not settings.store_file.exists():
        where = printable(settings.journal_dir or settings.home)
        click.echo(f"otelsync: nothing has been recorded yet in {where}", err=True)


def on_terminal() -> bool:
    """Return whether standard output is a terminal that can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def colored() -> bool:
    """Return whether standard output gets colours: a terminal does, but for ``NO_COLOR`` and ``FORCE_COLOR``."""
    return wants_color(is_terminal=on_terminal())


def known_width() -> int | None:
    """Cells of a line, as ``COLUMNS`` or the terminal says; None if neither says anything."""
    if on_terminal() or os.environ.get("COLUMNS", "").isdigit():
        return max(shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns, 40)
    return None


def width() -> int:
    """Cells of a line: what ``COLUMNS`` or the terminal says, or else `PLAIN_WIDTH`."""
    return known_width() or PLAIN_WIDTH


def draw(lines: Iterable[Line], *, least_width: int = 0) -> None:
    """Draw lines on standard output, each cut to its width, or to `least_width` if that is more."""
    paint = painter(width=max(width(), least_width), color=colored())
    for line in lines:
        paint(line)
