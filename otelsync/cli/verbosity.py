"""``otelsync verbosity``: which records the programs that run let through, changed without a restart."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from otelsync.cli import options
from otelsync.errors import ConfigurationError, OtelsyncError
from otelsync.levels import level_name, parse
from otelsync.logs import verbosity
from otelsync.settings import Settings
from otelsync.text.printable import printable

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@click.command(name="verbosity")
@click.argument("levels", nargs=-1, metavar="[NAME=LEVEL]...")
@click.option("--for", "length", metavar="TIME", help="How long: 90s, 10m, 2h, 1d. By default until --reset.")
@click.option("--service", help="Only of this service. By default of all that record under the home directory.")
@click.option("--reset", is_flag=True, help="Let the settings hold again.")
@options.home_option
def command(levels: tuple[str, ...], length: str | None, service: str | None, reset: bool, home: Path | None) -> None:
    """Change the least level of records while programs run: sync.pr=DEBUG, or a level alone for all.

    NAME is the beginning of a logger's or an event's name. What was asked for before is forgotten. Programs notice
    within about a second, with their next record or span. Without an argument: what holds now.
    """
    settings = Settings.from_environment(home=home, service_name=service)
    directories = settings.journal_directories()
    if service is not None:
        directories = [directory for directory in directories if directory == settings.journal]
    if not directories:
        raise OtelsyncError(f"nothing is recorded under {printable(settings.home)}; is --service or --home right?")
    if reset or levels:
        _write(directories, () if reset else levels, time.time() + _seconds(length) if length else None)
    for directory in directories:
        click.echo(f"{printable(directory.name)}: {_said(directory)}")


def _seconds(length: str) -> float:
    found = re.fullmatch(r"(?a)(\d{1,6})([smhd])", length.strip())
    if found is None or not int(found[1]):
        raise ConfigurationError("--for", length, "write it as 90s, 10m, 2h or 1d")
    return int(found[1]) * _UNITS[found[2]]


def _write(directories: list[Path], levels: tuple[str, ...], until: float | None) -> None:
    try:
        parsed = parse(levels)
    except ValueError as error:
        raise ConfigurationError("verbosity", " ".join(levels), str(error)) from None
    for directory in directories:
        try:
            verbosity.write(directory, parsed, until)
        except OSError as error:
            raise OtelsyncError(f"{printable(directory)}: the levels cannot be changed: {error}") from error


def _said(directory: Path) -> str:
    try:
        levels, until = verbosity.read(directory)
    except ValueError as error:
        return f"{verbosity.FILE} cannot be read: {printable(error)}"
    if not levels:
        return "as its settings say"
    said = ", ".join(f"{printable(name)}={level_name(level)}" for name, level in levels.items())
    return said + (f" until {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M:%S} UTC" if until is not None else "")
