"""Spans that somebody means by the beginning of an id: in one run, in a store, in several stores."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otelsync.errors import RunNotFoundError
from otelsync.store.runs import find_run, open_store, traces_of
from otelsync.text.printable import printable

_MOST_CANDIDATES: Final = 10
_BEGINS: Final = "span_id >= ? AND span_id < ? || 'g'"
"""A condition that SQLite answers from the index alone: ids are hexadecimal."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span that may be meant."""

    trace_id: str
    span_id: str
    name: str = ""
    sync_id: str = ""

    @property
    def line(self) -> str:
        """Its id, and what is known of it. Printable."""
        return "  ".join(filter(None, (self.span_id, printable(self.name, 40), printable(self.sync_id, 40))))


def spans_called(store: sqlite3.Connection, wanted: str, traces: Sequence[str] | None = None) -> list[Candidate]:
    """Return the spans whose id begins so, a few of many: of these traces, or of all."""
    prefix = wanted.strip().lower()
    if not prefix:
        return []
    query = (
        "SELECT DISTINCT spans.trace_id, spans.span_id, spans.name, coalesce(runs.sync_id, spans.trace_id)"
        " FROM spans INDEXED BY spans_by_time LEFT JOIN runs ON runs.trace_id = spans.trace_id"
    )
    if traces is None:
        rows = store.execute(f"{query} WHERE {_BEGINS} LIMIT ?", (prefix, prefix, _MOST_CANDIDATES + 1)).fetchall()
        return [Candidate(*row) for row in rows]
    return [
        Candidate(*row)
        for trace_id in traces
        for row in store.execute(
            f"{query} WHERE spans.trace_id = ? AND {_BEGINS} LIMIT ?", (trace_id, prefix, prefix, _MOST_CANDIDATES + 1)
        )
    ]


def spans_logged(store: sqlite3.Connection, wanted: str, traces: Sequence[str]) -> Iterator[Candidate]:
    """Yield spans of these traces that log records name, recorded or not, whose id begins so."""
    prefix = wanted.strip().lower()
    for trace_id in traces if prefix else ():
        query = f"SELECT DISTINCT span_id FROM logs INDEXED BY logs_by_time WHERE trace_id = ? AND {_BEGINS} LIMIT ?"
        for (span_id,) in store.execute(query, (trace_id, prefix, prefix, _MOST_CANDIDATES + 1)):
            yield Candidate(trace_id, span_id)


def the_span(candidates: Sequence[Candidate], wanted: str, where: str = "the run has") -> Candidate:
    """Return the one that these are, given that each stands there once.

    Raises:
        RunNotFoundError: There is none, or several; then the message lists them.
    """
    if not candidates:
        raise RunNotFoundError(f"{where} no span whose id begins with {printable(wanted, 40)!r}")
    if len(candidates) > 1:
        listed = "".join(f"\n  {each.line}" for each in candidates[:_MOST_CANDIDATES])
        more = "\n  ..." if len(candidates) > _MOST_CANDIDATES else ""
        raise RunNotFoundError(f"{printable(wanted, 40)!r} may be any of these spans; give more of it:{listed}{more}")
    return candidates[0]


def span_of(paths: Sequence[Path], wanted: str, run: str | None) -> tuple[Path, Candidate]:
    """Return the span that is meant, and the first of several stores that has it.

    Args:
        paths: The stores; what the first has goes before what the others have.
        wanted: The beginning of its id.
        run: What names its run, as `find_run` takes it. None: any.

    Raises:
        RunNotFoundError: There is no such span, or there are several; or no such run.
        StoreError: A store cannot be read.
    """
    found: dict[tuple[str, str], tuple[Path, Candidate]] = {}
    is_there = False
    for path in paths:
        with suppress(RunNotFoundError), open_store(path) as store:
            traces = traces_of(store, find_run(store, run)) if run is not None else None
            is_there = True
            for each in spans_called(store, wanted, traces):
                found.setdefault((each.trace_id, each.span_id), (path, each))
    if not is_there:
        with open_store(paths[-1]) as store:  # it says why
            find_run(store, run)
    where = "the run has" if run is not None else "there is"
    meant = the_span([each for _, each in found.values()], wanted, where)
    return found[meant.trace_id, meant.span_id]
