"""``otelsync events``: the catalogue of log events, and whether source code keeps to it."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import click

from otelsync.cli import options
from otelsync.errors import CatalogueError
from otelsync.logs.events import Catalogue, catalogues, known
from otelsync.logs.logged_events import check
from otelsync.text.printable import printable
from otelsync.text.quantities import counted
from otelsync.views import catalogue as views


@click.command(name="events")
@click.option("--catalogue", "modules", metavar="MODULE", multiple=True, help="Those that a module of yours declares.")
@click.option("--markdown", "as_markdown", is_flag=True, help="As a page.")
@click.option(
    "--check",
    "paths",
    metavar="PATH",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Whether the Python code there logs what is declared, and declares what it logs.",
)
@click.option("--messages", is_flag=True, help="With --check: messages have to be declared too, and not only events.")
@click.argument("more", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path, exists=True))
@options.json_option("A JSON list.")
def command(
    modules: tuple[str, ...],
    as_markdown: bool,
    paths: tuple[Path, ...],
    messages: bool,
    more: tuple[Path, ...],
    as_json: bool,
) -> None:
    """The log events that otelsync knows: id, level, name, fields, and what each says.

    With --check, source code is held against the catalogues. The exit code is 1 if they disagree.
    """
    if more and not paths:
        raise click.UsageError("paths are for --check")
    own = views.own()
    shown = _declared_by(modules) if modules else own
    if paths:
        _check([*paths, *more], messages=messages)
    elif as_json:
        click.echo(views.as_json(shown))
    elif as_markdown:
        click.echo(views.markdown(shown if modules else None))
    else:
        options.draw(views.lines(shown))


def _declared_by(modules: tuple[str, ...]) -> list[Catalogue]:
    """The catalogues that come with these modules; those of a module that was loaded before count as well."""
    before = set(catalogues())
    for name in modules:
        if "" not in sys.path:
            sys.path.insert(0, "")
        try:
            import_module(name)
        except Exception as error:
            raise CatalogueError(f"the module {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    found = [each for each in catalogues() if each not in before or each.source in modules]
    if not found:
        raise CatalogueError(f"{', '.join(modules)}: no catalogue is declared there")
    return found


def _check(paths: list[Path], *, messages: bool) -> None:
    findings = check(paths, known, messages=messages)
    for finding in findings:
        click.echo(printable(finding))
    if findings:
        click.echo(f"{counted(len(findings), 'disagreement')} between the code and its catalogue", err=True)
        raise click.exceptions.Exit(1)
