"""``otelsync list``: the runs in the local store, latest first."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from otelsync.cli import options
from otelsync.cli.catching_up import stores
from otelsync.errors import RunNotFoundError
from otelsync.store.runs import Run, Wanted
from otelsync.store.several import latest_runs
from otelsync.text.moments import moment
from otelsync.text.paint import Line, Piece
from otelsync.text.printable import cells, cut, pad, printable
from otelsync.text.quantities import day_and_time, duration, timestamp
from otelsync.views.styles import STYLES
from otelsync.vocabulary import OUTCOMES

_HEAD: Final = ("sync id", "pipeline", "service", "started (UTC)", "took", "outcome", "spans", "errors")
_RIGHT: Final = frozenset(("took", "spans", "errors"))
_GIVE_WAY: Final = ("service", "started (UTC)", "spans", "errors", "took")
"""Columns that a narrow terminal does not get, the first first: a sync id says when it was. --json has all."""


def _since(ctx: click.Context, param: click.Parameter, said: str | None) -> int:
    try:
        return 0 if said is None else moment(said, time.time_ns())
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.command(name="list")
@click.option("every_trace", "--all", is_flag=True, help="Traces without a pipeline too.")
@click.option("most", "-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many.")
@click.option(
    "since_ns", "--since", callback=_since, metavar="TIME", help="Begun since: 30m, 12h, 7d, 2026-01-31 (UTC)."
)
@click.option(
    "outcomes", "--outcome", multiple=True, type=click.Choice(OUTCOMES), help="Of this outcome; may be repeated."
)
@options.json_option("A JSON array of runs.")
@options.home_option
def command(
    every_trace: bool, most: int, since_ns: int, outcomes: tuple[str, ...], as_json: bool, home: Path | None
) -> None:
    """The runs in the local store, latest first. Without any, the traces of Celery tasks."""
    settings = options.settings_of(home)
    wanted = Wanted(since_ns, frozenset(outcomes))
    try:
        runs = latest_runs(stores(settings), most=most + 1, every_trace=every_trace, wanted=wanted)
    except RunNotFoundError as nothing:
        click.echo("[]" if as_json else str(nothing))
        return
    if as_json:
        click.echo(json.dumps([*map(_described, runs[:most])], indent=2).replace("\x7f", "\\u007f"))
    elif runs:
        _draw(runs[:most])
    elif wanted == Wanted():
        click.echo("no sync run has been recorded yet; --all shows other traces")
    else:
        click.echo("no run is like that; without --since and --outcome there may be some")
    if len(runs) > most:
        click.echo(f"and older ones: --limit {most * 10}", err=as_json)


def _described(run: Run) -> dict[str, Any]:
    return {
        "sync_id": run.sync_id,
        "trace_id": run.trace_id,
        "pipeline": run.pipeline,
        "title": run.title,
        "service": run.service,
        "started_at": timestamp(run.start_ns),
        "ended_at": None if run.end_ns is None else timestamp(run.end_ns),
        "duration_seconds": round(run.duration_ns / 1e9, 6),
        "outcome": run.state or None,
        "spans": run.spans,
        "errors": run.errors,
        "logs": run.logs,
        "items": dict(run.account.totals) if run.account is not None else {},
    }


def _draw(runs: Sequence[Run]) -> None:
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
        for run in runs
    ]
    table = {name: [name, *column] for name, *column in zip(_HEAD, *rows, strict=True)}
    widths = {name: max(map(cells, column)) for name, column in table.items()}
    known = options.known_width()
    if known is not None:
        _fit(widths, known)
    # No sync id is cut: a terminal that is narrower still wraps the lines.
    options.draw(_lines(table, widths), least_width=_whole(widths))


def _whole(widths: dict[str, int]) -> int:
    return sum(widths.values()) + 2 * (len(widths) - 1)


def _fit(widths: dict[str, int], known: int) -> None:
    """Leave out columns until the others fit, or cut what the pipelines are called."""
    for name in _GIVE_WAY:
        if _whole(widths) > known:
            del widths[name]
    too_much = _whole(widths) - known
    if too_much > 0:
        widths["pipeline"] = max(widths["pipeline"] - too_much, len("pipeline"))


def _lines(table: dict[str, list[str]], widths: dict[str, int]) -> Iterator[Line]:
    for number, state in enumerate(table["outcome"]):
        pieces: list[Piece] = []
        for name, width in widths.items():
            text = table[name][number]
            style = "bold" if number == 0 else STYLES.get(state, "") if name == "outcome" else ""
            gap = "  " if pieces else ""
            pieces.append(Piece(gap + (text.rjust(width) if name in _RIGHT else pad(text, width)), style))
        yield pieces
