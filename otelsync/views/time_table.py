"""The table of kinds of spans in a run, those first in which most time went, with the time that tasks were queued."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from typing import Final

from otelsync.store.own_time import MOST_READ, Queue
from otelsync.store.spans import StoredSpan
from otelsync.store.tree import Family, RunTree
from otelsync.text.paint import Line, Piece
from otelsync.text.printable import pad, printable
from otelsync.text.quantities import duration

MOST_KINDS: Final = 10
"""Lines of the table."""
_QUEUED: Final = "waiting in the queue"
_FULL: Final = 82
"""Cells of all columns."""


def time_table(tree: RunTree, width: int) -> Iterator[Line]:
    """Yield its lines. Own time is that in which no child ran; spans beside each other count each.

    Of a run that is too large for that, time counts for a span and for what it stands in.
    """
    times = tree.own_times()
    kinds = tree.kinds(None if times is None else times.by_name)
    if times is not None and times.queue.waited_ns:
        kinds.insert(bisect([-kind.own_ns for kind in kinds], -times.queue.waited_ns), _queued(times.queue))
    name_cells, has_mean = (36, True) if width >= _FULL else (max(width - 37, 12), False)
    yield _head(name_cells, "total" if times is None else "own", has_mean=has_mean)
    for kind in kinds[:MOST_KINDS]:
        slowest = tree.slowest(kind)
        figures = [kind.total_ns if times is None else kind.own_ns]
        figures += [kind.total_ns // kind.count] * has_mean + [kind.slowest_ns]
        yield [
            Piece(pad(printable(kind.name, name_cells - 1), name_cells)),
            Piece(f"{kind.count:>11,}"),
            Piece(f"{kind.failed:>8,}", "red" if kind.failed else ""),
            Piece("".join(f"{duration(figure):>9}" for figure in figures)),
            Piece(f"  {whereabouts(slowest)}" if slowest and has_mean else "", "dim"),
        ]
    if len(kinds) > MOST_KINDS:
        yield [Piece(f"and {len(kinds) - MOST_KINDS:,} kinds more", "dim")]
    if times is None:
        yield [Piece(f"total: with what stands below; own times of over {MOST_READ:,} spans: otelsync report", "dim")]


def whereabouts(span: StoredSpan) -> str:
    """Return what tells a span from others, and where it stands."""
    return " ".join(part for part in (span.group, span.detail, span.label({})) if part) or span.span_id


def _head(name_cells: int, time: str, *, has_mean: bool) -> Sequence[Piece]:
    columns = (time, *(["mean"] if has_mean else []), "slowest")
    title = pad("where the time went", name_cells)
    return [Piece(f"{title}{'count':>11}{'failed':>8}{''.join(f'{column:>9}' for column in columns)}", "bold")]


def _queued(queue: Queue) -> Family:
    return Family(
        _QUEUED,
        count=queue.tasks,
        total_ns=queue.waited_ns,
        own_ns=queue.waited_ns,
        slowest_ns=queue.longest_ns,
        slowest=queue.longest,
    )
