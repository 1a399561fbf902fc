"""``otelsync report``: the report of a run, as a folder of files."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from otelsync.cli import options
from otelsync.cli.catching_up import stores
from otelsync.cli.progress_line import ProgressLine
from otelsync.errors import OtelsyncError

if TYPE_CHECKING:
    from otelsync.reports.writing import Summary
    from otelsync.settings import Settings
    from otelsync.shipping.ledger import Ledger

_NICE: Final = 10
"""By how much making reports in the background stands back behind all else; nice(1)."""


@click.command(name="report")
@options.sync_id_argument
@click.option("--last", is_flag=True, help="The latest run; so it is without SYNC_ID.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the run's folder goes. [OTELSYNC_REPORTS_DIR; reports/sync]",
)
@click.option(
    "--group-by",
    metavar="KIND",
    help="What has a file of its own: a kind of groups such as repo, or an attribute. [the outermost kind]",
)
@click.option("--in-background", multiple=True, hidden=True, help="The runs, where whoever ships calls.")
@options.json_option("The figures as JSON, as in summary.json.")
@options.home_option
def command(
    sync_id: str | None,
    last: bool,
    output: Path | None,
    group_by: str | None,
    in_background: tuple[str, ...],
    as_json: bool,
    home: Path | None,
) -> None:
    """Write the report of a run: the latest, or the one that SYNC_ID names.

    SYNC_ID may be the beginning of a sync id, of its hexadecimal part, or of a trace id.
    """
    if last and sync_id is not None:
        raise click.UsageError("either SYNC_ID or --last")
    from otelsync.reports.writing import make_report, summary_json

    settings = options.settings_of(home)
    output = output or settings.reports_dir
    if in_background:
        _make_in_background(settings, in_background, output)
        return
    from otelsync.store.several import store_of

    with ProgressLine() as line:
        places = stores(settings)
        report = make_report(
            store_of(places, sync_id),
            sync_id,
            output,
            group_by=group_by or None,
            ledgers=_ledgers(settings),
            others=places,
            trace_url=settings.trace_url,
            progress=line.show if line.is_shown else None,
        )
    if as_json:
        click.echo(json.dumps(summary_json(report.summary), indent=2).replace("\x7f", "\\u007f"))
        return
    _tell(report.folder, report.summary)


def _make_in_background(settings: Settings, names: Sequence[str], output: Path) -> None:
    """Make reports from what is in the store, as whoever called is the one that ships; then remove what is too many.

    Raises:
        OtelsyncError: One of them cannot be made; the others have been.
    """
    from otelsync.reports.writing import remove_oldest, write_report

    os.nice(_NICE)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a supervisor has blocked what it waits for
    failures: list[OtelsyncError] = []
    for name in names:
        try:
            write_report(settings.store_file, name, output, ledgers=_ledgers(settings), trace_url=settings.trace_url)
        except OtelsyncError as error:
            failures.append(error)
    remove_oldest(output, settings.reports_keep)
    if failures:
        raise failures[0]


def _ledgers(settings: Settings) -> dict[str, Ledger]:
    from otelsync.shipping.ledger import read_ledger

    return {directory.name: read_ledger(directory) for directory in settings.journal_directories()}


def _tell(folder: Path, summary: Summary) -> None:
    from otelsync.text.printable import printable
    from otelsync.text.quantities import counted, duration

    click.echo(
        f"{printable(summary.pipeline, 60)}  {printable(summary.name, 60)}\n"
        f"{printable(summary.outcome or 'ended', 20)} after {duration(summary.duration_ns)},"
        f" {summary.items.line}, {counted(summary.error_count, 'error')}"
    )
    if not summary.reconciles:
        click.echo(f"the counts do not reconcile: {printable(summary.discrepancies[0].what, 100)}")
    for name in ("_SYNC_SUMMARY.md", "waterfall.html", "summary.json"):
        click.echo(f"  {printable(folder / name)}")
    click.echo(f"  and {counted(len(summary.groups), 'file')} by {printable(summary.group_label, 60)}")
