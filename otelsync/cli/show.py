"""``otelsync show``: the waterfall of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from otelsync.cli import options
from otelsync.cli.catching_up import store_with


@click.command(name="show")
@click.argument("sync_id", required=False)
@click.option("every_span", "--all", is_flag=True, help="Every span, nothing rolled up.")
@options.json_option("A JSON array of spans, with the field names of OTLP/JSON.")
@options.home_option
def command(sync_id: str | None, every_span: bool, as_json: bool, home: Path | None) -> None:
    """The waterfall of a run: the latest, or the one that SYNC_ID names.

    SYNC_ID may be the beginning of a sync id, of its hexadecimal part, or of a trace id.
    """
    settings = options.settings_of(home)
    store = store_with(settings, sync_id)
    if as_json:
        _print_json(store, sync_id, every_span)
        return
    from otelsync.views.waterfall import render_run

    render_run(
        store,
        sync_id,
        width=options.width(),
        color=options.on_terminal(),
        every_span=every_span,
        trace_url=settings.trace_url,
    )


def _print_json(store_path: Path, sync_id: str | None, every_span: bool) -> None:
    from otelsync.store.runs import find_run, open_store
    from otelsync.store.spans import json_array, json_line, otlp_texts
    from otelsync.store.tree import RunTree
    from otelsync.views.outline import outline_json

    with open_store(store_path) as store:
        run = find_run(store, sync_id)
        if every_span:
            texts = otlp_texts(store, "WHERE trace_id = ? ORDER BY start_ns, span_id", (run.trace_id,), run.corrected)
        else:
            texts = map(json_line, outline_json(RunTree(store, run)))
        sys.stdout.writelines(json_array(texts))
