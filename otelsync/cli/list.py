"""``otelsync list``: the runs in the local store, latest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from otelsync.cli import options
from otelsync.cli.catching_up import stores
from otelsync.errors import RunNotFoundError
from otelsync.store.several import latest_runs
from otelsync.text.paint import Line, Piece
from otelsync.text.printable import cells, cut, pad, printable
from otelsync.text.quantities import day_and_time, duration

_HEAD = ("sync id", "pipeline", "service", "started (UTC)", "took", "outcome", "spans", "errors")
_STATE = _HEAD.index("outcome")
_RIGHT = frozenset(("took", "spans", "errors"))
_STYLES = {
    "success": "green",
    "partial": "yellow",
    "failure": "red",
    "interrupted": "red",
    "cancelled": "yellow",
    "running": "cyan",
}


@click.command(name="list")
@click.option("every_trace", "--all", is_flag=True, help="Traces without a pipeline too.")
@click.option("most", "-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many.")
@options.home_option
def command(every_trace: bool, most: int, home: Path | None) -> None:
    """The runs in the local store, latest first. Without any, the traces of Celery tasks."""
    settings = options.settings_of(home)
    try:
        runs = latest_runs(stores(settings), most=most + 1, every_trace=every_trace)
    except RunNotFoundError as nothing:
        click.echo(str(nothing))
        return
    if not runs:
        click.echo("no sync run has been recorded yet; --all shows other traces")
        return
    rows = [
        (
            run.name,
            cut(run.title, 32),
            printable(run.service or "", 20),
            day_and_time(run.start_ns),
            duration(run.duration_ns),
            run.state,
            f"{run.spans:,}",
            f"{run.errors:,}",
        )
        for run in runs[:most]
    ]
    widths = [max(map(cells, column)) for column in zip(_HEAD, *rows, strict=True)]
    # Columns keep their widths: a narrow terminal wraps the lines, and no name is cut.
    options.draw(_lines(rows, widths), least_width=sum(widths) + 2 * len(widths))
    if len(runs) > most:
        click.echo(f"and older ones: --limit {most * 10}")


def _lines(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[Line]:
    for row in (_HEAD, *rows):
        columns = [
            text.rjust(width) if name in _RIGHT else pad(text, width)
            for text, width, name in zip(row, widths, _HEAD, strict=True)
        ]
        style = "bold" if row is _HEAD else ""
        state = style or _STYLES.get(row[_STATE], "")
        before, after = ["  ".join(columns[:_STATE]) + "  ", "  ".join(["", *columns[_STATE + 1 :]])]
        yield [Piece(before, style), Piece(columns[_STATE], state), Piece(after, style)]
