"""Reports: what a run has to say for itself, as files for people and programs, made from the local store alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from otelsync import settings
from otelsync.reports.comparison import compare, run_before
from otelsync.reports.figures import Summary
from otelsync.reports.folder import PAGE, SUMMARY, TEXT, ReportError, folder_name, remove_oldest, write_folder
from otelsync.reports.grouping import grouping
from otelsync.reports.items import Items
from otelsync.reports.markdown import group_markdown, summary_markdown
from otelsync.reports.page import page
from otelsync.reports.selection import select
from otelsync.reports.summary import summarize
from otelsync.shipping.ledger import Ledger
from otelsync.store.runs import find_run, open_store, traces_of
from otelsync.text.quantities import timestamp
from otelsync.text.trace_address import trace_address
from otelsync.version import __version__

__all__ = ["Report", "ReportError", "Summary", "make_report", "remove_oldest", "summary_json", "write_report"]

Progress = Callable[[str, int, int], None]
FORMAT: Final = 2
"""Of `summary.json`: a change that readers would stumble over needs another number."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report that has been written."""

    folder: Path
    summary: Summary


def write_report(
    store_path: Path | str,
    sync_id: str | None = None,
    directory: Path | str = settings.REPORTS,
    *,
    group_by: str | None = None,
    ledgers: Mapping[str, Ledger] | None = None,
    trace_url: str | None = None,
) -> Path:
    """Write the report of a run, over an earlier one of the same run.

    Args:
        store_path: The local store.
        sync_id: What names the run, as `otelsync.store.runs.find_run` takes it. None: the latest.
        directory: Where the run's folder goes.
        group_by: What has a file each: a kind of groups such as ``repo``, or an attribute. None: the outermost kind.
        ledgers: Of journal directories, by name: what of their records is not in the store.
        trace_url: What addresses of traces are made of, as ``OTELSYNC_TRACE_URL`` has it; None: there are none.

    Returns:
        The run's folder, with ``_SYNC_SUMMARY.md``, ``summary.json``, ``waterfall.html`` and a file for each group.

    Raises:
        RunNotFoundError: No run, or more than one, is called so.
        StoreError: The store cannot be read.
        ReportError: The folder cannot be written.
    """
    return make_report(store_path, sync_id, directory, group_by=group_by, ledgers=ledgers, trace_url=trace_url).folder


def make_report(
    store_path: Path | str,
    sync_id: str | None,
    directory: Path | str,
    *,
    group_by: str | None,
    ledgers: Mapping[str, Ledger] | None,
    others: Sequence[Path] = (),
    trace_url: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Write a report as `write_report` does, and return its figures with it.

    Args, where they are not those of `write_report`:
        others: All stores, of which one holds what journals still held: then nothing that waits there is missing here.
        progress: Called now and then with what is done, how much of it has been, and how much there is (0: unknown).
    """
    tell = progress or _nobody
    with open_store(store_path) as store:
        run = find_run(store, sync_id)
        divided = grouping(store, traces_of(store, run), group_by)
        summary = summarize(store, run, divided, ledgers=ledgers, progress=partial(tell, "reading spans"))
        address = trace_address(trace_url, run.trace_id, run.root_span_id, run.sync_id)
        summary = replace(summary, trace_url=address)
        if others:
            summary = replace(summary, journals=tuple(replace(journal, pending=0) for journal in summary.journals))
        for before, its_store in run_before(run, [Path(store_path), *others]):
            with open_store(its_store) as earlier:
                told = partial(tell, "reading the run before")
                short = summarize(earlier, before, divided, in_short=True, progress=told)
            summary = replace(summary, previous=compare(summary, short))
        tell("choosing what the page shows", 0, 0)
        nodes = select(store, run, summary.traces)
    folder = Path(directory) / folder_name(run.sync_id, run.trace_id)
    texts: dict[str, Iterable[str]] = {group.file: [group_markdown(summary, group)] for group in summary.groups}
    texts[PAGE] = page(summary, nodes, trace_url)
    texts[TEXT] = [summary_markdown(summary)]
    texts[SUMMARY] = [json.dumps(summary_json(summary), indent=2).replace("\x7f", "\\u007f"), "\n"]
    tell("writing files", 0, 0)
    write_folder(folder, texts)
    return Report(folder, summary)


def _nobody(what: str, done: int, whole: int) -> None:
    """Tell nobody."""


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return the contents of ``summary.json``: durations in seconds (``_seconds``), instants as RFC 3339 (``_at``)."""
    return {
        "format": FORMAT,
        "otelsync": __version__,
        "reconciles": summary.reconciles,
        **_plain(summary),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Items):
        return value.by_name()
    if is_dataclass(value):
        return dict(_field(field.name, getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):  # its keys are somebody else's names
        return {key: _plain(held) for key, held in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _field(key: str, value: Any) -> tuple[str, Any]:
    if key.endswith("_at_ns"):
        return key.removesuffix("_ns"), None if value is None else timestamp(value)
    if key.endswith("_ns"):
        return f"{key.removesuffix('_ns')}_seconds", _seconds(value)
    return key, _plain(value)


def _seconds(nanoseconds: Any) -> Any:
    if isinstance(nanoseconds, Mapping):
        return {kind: _seconds(held) for kind, held in nanoseconds.items()}
    return None if nanoseconds is None else round(nanoseconds / 1e9, 6)
