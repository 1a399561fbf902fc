"""``otelsync show``: the waterfall of a run, or all of one of its spans."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otelsync.cli import options
from otelsync.cli.catching_up import store_with, stores

if TYPE_CHECKING:
    from otelsync.settings import Settings


@click.command(name="show")
@options.sync_id_argument
@click.option("every_span", "--all", is_flag=True, help="Every span, nothing rolled up.")
@click.option(
    "--span", metavar="ID", help="All of one span, of any run or of SYNC_ID; the beginning of its id will do."
)
@options.json_option("A JSON array of spans, with the field names of OTLP/JSON; with --span an object.")
@options.home_option
def command(sync_id: str | None, every_span: bool, span: str | None, as_json: bool, home: Path | None) -> None:
    """The waterfall of a run: the latest, or the one that SYNC_ID names.

    SYNC_ID may be the beginning of a sync id, of its hexadecimal part, or of a trace id.

    With --span: attributes, events, tracebacks, links and log records of a span, and the run that it belongs to.
    """
    if every_span and span is not None:
        raise click.UsageError("either --all or --span")
    settings = options.settings_of(home)
    if span is not None:
        _show_span(settings, sync_id, span, as_json)
        return
    store = store_with(settings, sync_id)
    if as_json:
        _print_json(store, sync_id, every_span)
        return
    from otelsync.views.waterfall import render_run

    render_run(
        store,
        sync_id,
        width=options.width(),
        color=options.colored(),
        every_span=every_span,
        trace_url=settings.trace_url,
    )


def _show_span(settings: Settings, sync_id: str | None, wanted: str, as_json: bool) -> None:
    from otelsync.store.runs import open_store
    from otelsync.store.span_ids import span_of
    from otelsync.text.trace_address import trace_address
    from otelsync.views.one_span import read_span, span_json, span_lines

    place, meant = span_of(stores(settings), wanted, sync_id)
    with open_store(place) as store:
        one = read_span(store, meant.trace_id, meant.span_id)
    if as_json:
        click.echo(json.dumps(span_json(one), indent=2).replace("\x7f", "\\u007f"))
        return
    width = options.known_width()
    options.draw(span_lines(one, width), least_width=0 if width else options.UNBOUNDED)
    address = trace_address(settings.trace_url, meant.trace_id, meant.span_id, one.run.sync_id)
    if address:
        click.echo(f"\ntrace  {address}")


def _print_json(store_path: Path, sync_id: str | None, every_span: bool) -> None:
    """Print the spans of a run; how many are left out is said on standard error."""
    from otelsync.store.runs import find_run, open_store
    from otelsync.store.spans import json_array, json_line, otlp_texts
    from otelsync.store.tree import RunTree
    from otelsync.text.quantities import counted
    from otelsync.views.outline import outline_json

    with open_store(store_path) as store:
        run = find_run(store, sync_id)
        if every_span:
            texts = otlp_texts(store, "WHERE trace_id = ? ORDER BY start_ns, span_id", (run.trace_id,), run.corrected)
            sys.stdout.writelines(json_array(texts))
            return
        shown = [*map(json_line, outline_json(RunTree(store, run)))]
        sys.stdout.writelines(json_array(shown))
        (there_are,) = store.execute("SELECT count(*) FROM spans WHERE trace_id = ?", (run.trace_id,)).fetchone()
    if there_are > len(shown):
        left_out = counted(there_are - len(shown), "span")
        sys.stdout.flush()
        click.echo(f"otelsync: {left_out} of {there_are:,} left out, rolled up with others; --all has them", err=True)
