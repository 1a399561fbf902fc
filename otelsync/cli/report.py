"""``otelsync report``: the report of a run, as a folder of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otelsync.cli import options
from otelsync.cli.catching_up import catch_up, journal_directories

if TYPE_CHECKING:
    from otelsync.views.report import Summary


@click.command(name="report")
@click.argument("sync_id", required=False)
@click.option("--last", is_flag=True, help="The latest run; so it is without SYNC_ID.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the run's folder goes.  [default: reports/sync]",
)
@click.option(
    "--group-by",
    default="repo",
    show_default=True,
    metavar="ATTRIBUTE",
    help="What has a file of its own: repo, or an attribute such as customer.",
)
@options.json_option("The figures as JSON, as in summary.json.")
@options.home_option
def command(
    sync_id: str | None, last: bool, output: Path | None, group_by: str, as_json: bool, home: Path | None
) -> None:
    """Write the report of a run: the latest, or the one that SYNC_ID names.

    SYNC_ID may be the beginning of a sync id, of its hexadecimal part, or of a trace id.
    """
    if last and sync_id is not None:
        raise click.UsageError("either SYNC_ID or --last")
    from otelsync.shipping.ledger import read_ledger
    from otelsync.views.report import DIRECTORY, make_report

    settings = options.settings_of(home)
    catch_up(settings)
    ledgers = {directory.name: read_ledger(directory) for directory in journal_directories(settings)}
    report = make_report(
        settings.store_file, sync_id, output or DIRECTORY, group_by=group_by or "repo", ledgers=ledgers
    )
    if as_json:
        from otelsync.views.report import summary_json

        click.echo(json.dumps(summary_json(report.summary), indent=2).replace("\x7f", "\\u007f"))
        return
    _tell(report.folder, report.summary)


def _tell(folder: Path, summary: Summary) -> None:
    from otelsync.views.printable import printable
    from otelsync.views.quantities import counted, duration
    from otelsync.views.report.figures import items_line

    click.echo(
        f"{printable(summary.pipeline, 60)}  {printable(summary.name, 60)}\n"
        f"{printable(summary.outcome or 'ended', 20)} after {duration(summary.duration_ns)},"
        f" {items_line(summary.items)}, {counted(summary.error_count, 'error')}"
    )
    if not summary.reconciles:
        click.echo(f"the counts do not reconcile: {printable(summary.discrepancies[0].what, 100)}")
    for name in ("_SYNC_SUMMARY.md", "waterfall.html", "summary.json"):
        click.echo(f"  {printable(folder / name)}")
    click.echo(f"  and {counted(len(summary.groups), 'file')} by {printable(summary.group_by, 60)}")
