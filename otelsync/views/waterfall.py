"""The waterfall of a run in the terminal: a tree, bars to scale, and what was slow, failed and counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import IO, Final

from otelsync.store.runs import Run, find_run, open_store
from otelsync.store.spans import StoredSpan
from otelsync.store.tree import MOST_FAILED, Family, RunTree
from otelsync.text.item_counts import apart, items_line
from otelsync.text.paint import Line, Piece, painter
from otelsync.text.printable import cells, pad, printable, wrapped
from otelsync.text.quantities import counted, day_and_time, duration
from otelsync.text.trace_address import trace_address
from otelsync.views.outline import Entry, outline, unrolled
from otelsync.views.styles import STYLES
from otelsync.views.time_table import time_table, whereabouts

_ROOMY: Final = 100
"""Cells of a line that has room for all figures."""
_NARROW: Final = 70
"""Cells of a line that has no room for remarks."""


def render_run(
    store_path: Path | str,
    sync_id: str | None = None,
    *,
    width: int = 120,
    color: bool = False,
    file: IO[str] | None = None,
    every_span: bool = False,
    hints: bool = True,
    trace_url: str | None = None,
) -> None:
    """Print the waterfall of a run.

    Args:
        store_path: The local store.
        sync_id: What names the run, as `find_run` takes it. None: the latest.
        width: Terminal cells.
        color: Whether to draw for a terminal; else the text is plain.
        file: Where to; None: standard output.
        every_span: Whether to show each span, however many there are.
        hints: Whether to end with the commands that show more.
        trace_url: What the trace's address is made of, which is the last line and never cut; None: there is none.

    Raises:
        RunNotFoundError: No run, or more than one, is called so.
        StoreError: The store cannot be read.
    """
    draw = painter(width=width, color=color, file=file)
    with open_store(store_path) as store:
        tree = RunTree(store, find_run(store, sync_id))
        for line in _waterfall(tree, _Chart(tree.run, width, blocks=color), every_span=every_span, hints=hints):
            draw(line)
        run = tree.run
    address = trace_address(trace_url, run.trace_id, run.root_span_id, run.sync_id)
    if address:
        print(f"\ntrace  {address}", file=file)


def _waterfall(tree: RunTree, chart: _Chart, *, every_span: bool, hints: bool) -> Iterator[Line]:
    yield from _heading(tree.run, chart.width)
    for entry in unrolled(tree) if every_span else outline(tree):
        yield from chart.lines(entry)
    yield []
    yield from time_table(tree, chart.width)
    yield from _errors(tree, chart.width)
    yield from _items(tree, chart.width)
    if hints:
        yield from _commands(tree.run, chart.width, every_span=every_span)


class _Chart:
    """Columns of a line, `width` cells wide: the tree, the bar (of block elements, if `blocks`), the figures."""

    def __init__(self, run: Run, width: int, *, blocks: bool) -> None:
        self._first = run.first_ns
        self.width = width
        self._last = max(run.last_ns, run.first_ns + 1)
        self._bar_cells = max(width // 6, 8)
        self._tree_cells = max(width * 11 // 30, 20)
        self._one, self._many, self._running = ("█", "▒", "▶") if blocks else ("#", "=", ">")
        self._around: list[Mapping[str, object]] = []
        """Attributes of what is shown around the next line, by depth."""

    def lines(self, entry: Entry) -> Iterator[Line]:
        indent = "  " * entry.depth
        if entry.note:
            yield [Piece(indent + entry.note, "dim")]
            return
        label = self._label(entry)
        if entry.family is not None:
            yield self._family(indent, entry.family, entry.span, label)
        elif entry.span is not None:
            yield self._span(indent, entry.span, label)
            if entry.span.failed:
                yield [Piece(indent + "  "), Piece("! " + entry.span.error, "red")]

    def _label(self, entry: Entry) -> str:
        """Return the label of an entry's span, beside what is shown around it."""
        del self._around[entry.depth :]
        label = entry.span.label(self._around[-1] if self._around else {}) if entry.span is not None else ""
        self._around.append(entry.span.attributes if entry.span is not None else {})
        return label

    def _span(self, indent: str, span: StoredSpan, label: str) -> Line:
        outcome = span.outcome
        style = STYLES.get(outcome, "red" if span.failed else "")
        title = " ".join(part for part in (printable(span.name, 200), span.detail, label) if part)
        took = duration(span.duration_ns(self._last))
        return [
            Piece(pad(indent + title, self._tree_cells), "bold" if not indent else ""),
            *self._bar(span.start_ns, span.end_ns, self._one, style or "blue"),
            Piece(f"{took:>7}  "),
            Piece(outcome, style),
            Piece(f"  {attempt}" if (attempt := span.attempt) else "", "dim"),
        ]

    def _family(self, indent: str, family: Family, slowest: StoredSpan | None, label: str) -> Line:
        counts = _counted(family)
        name = printable(family.name, max(self._tree_cells - len(indent) - len(counts) - 1, 8))
        title = Piece(pad(f"{indent}{name} {counts}", self._tree_cells))
        end = None if family.running else family.end_ns
        bar = self._bar(family.start_ns, end, self._many, "red" if family.failed else "blue")
        if not family.count or slowest is None:
            return [title, *bar]
        p50, p95 = (duration(value) for value in family.percentiles(0.5, 0.95))
        middle = f" {p95:>7} p95" if self.width >= _ROOMY else ""
        figures = f"{p50:>7} p50{middle} {duration(family.slowest_ns):>7} max"
        if self.width < _NARROW:
            return [title, *bar, Piece(figures)]
        return [title, *bar, Piece(figures), Piece(f" {slowest.mark or label or slowest.span_id}", "dim")]

    def _bar(self, start_ns: int, end_ns: int | None, glyph: str, style: str) -> list[Piece]:
        first = min(int(self._at(start_ns)), self._bar_cells - 1)
        last = self._bar_cells if end_ns is None else ceil(self._at(end_ns) - 1e-9)
        length = max(last - first, 1)
        bar = glyph * length if end_ns is not None else glyph * (length - 1) + self._running
        rest = " " * (self._bar_cells - first - length)
        return [Piece(" |", "dim"), Piece(" " * first + bar + rest, style), Piece("| ", "dim")]

    def _at(self, instant: int) -> float:
        """Return the cell of the bar that an instant falls into."""
        share = (min(max(instant, self._first), self._last) - self._first) / (self._last - self._first)
        return share * self._bar_cells


def _counted(family: Family) -> str:
    parts = [f"x{family.count:,}"]
    if family.failed:
        parts.append(f"({family.failed:,} failed)")
    if family.running:
        parts.append(f"(+{family.running:,} running)")
    return " ".join(parts)


def _heading(run: Run, width: int) -> Iterator[Line]:
    title, name = Piece(run.title, "bold"), Piece(run.name, "cyan")
    yield from [[title, Piece("  "), name]] if cells(run.title) + cells(run.name) + 2 <= width else [[title], [name]]
    state = run.state or "ended"
    when = "so far" if run.running else "after"
    took = duration(run.duration_ns)
    facts = [f"started {day_and_time(run.start_ns)} UTC"]
    if run.service:
        facts.append(f"service {printable(run.service, 40)}")
    facts += [counted(run.spans, "span"), counted(run.errors, "error"), *_tried_again(run)]
    facts.append(counted(run.logs, "log record"))
    how_long = f" {took} {when}" if run.running else f" {when} {took}"
    first, *others = _filled([f"{state}{how_long}", *facts], width)
    yield [Piece(state, STYLES.get(state, "")), Piece(first[len(state) :])]
    yield from ([Piece(other)] for other in others)
    yield []


def _filled(facts: Iterable[str], width: int) -> list[str]:
    """Return lines of facts with commas between, none of them broken."""
    lines = [""]
    for fact in facts:
        longer = f"{lines[-1]}, {fact}" if lines[-1] else fact
        if lines[-1] and cells(longer) >= width:  # there may be a comma behind it
            lines[-1] += ","
            lines.append(fact)
        else:
            lines[-1] = longer
    return lines


def _tried_again(run: Run) -> Iterator[str]:
    account = run.account
    if account is not None and (account.retries or account.recovered or account.put_back):
        put_back = f", {counted(account.put_back, 'task')} put back" if account.put_back else ""
        yield f"{counted(account.retries, 'retry', 'retries')} ({account.recovered:,} recovered){put_back}"


def _errors(tree: RunTree, width: int) -> Iterator[Line]:
    """List the first errors, each where it arose."""
    account = tree.run.account
    if account is None or not account.errors:
        return
    spans = tree.named(account.errors)[:MOST_FAILED]
    yield []
    more = f", the first {len(spans)} of {account.error_count:,}" if account.error_count > len(spans) else ""
    yield [Piece(f"errors{more}", "bold red")]
    items = tree.items_around(spans)
    for span in spans:
        where = whereabouts(span)
        if (item := items.get(span.span_id)) is not None:
            where = f"{whereabouts(item)} {where.removeprefix(item.group).lstrip()}".rstrip()
        line = f"{span.span_id}  {printable(span.name, 40)}" + ("" if where == span.span_id else f"  {where}")
        error = Piece(f"  {span.error}", "red")
        is_short = width >= _ROOMY or cells(line) + cells(error.text) <= width
        yield from [[Piece(line), error]] if is_short else [[Piece(line)], [error]]


def _items(tree: RunTree, width: int) -> Iterator[Line]:
    """Return the fate of what was fetched."""
    account = tree.run.account
    if account is not None and account.totals:
        totals = {printable(name, 40): count for name, count in account.totals.items()}
        yield []
        for number, part in enumerate(wrapped(items_line(*apart(totals)), max(width - 7, 20))):
            yield [Piece("       " if number else "items  ", "bold"), Piece(part)]


def _commands(run: Run, width: int, *, every_span: bool) -> Iterator[Line]:
    commands = {
        f"show {run.name} --all": "" if every_span else "every span",
        f"show {run.name} --span ID": "all of one span, with its traceback",
        f"logs {run.name}": "its log records; --span ID, --level ERROR" if run.logs else "",
        f"show {run.name} --json": "for other programs",
    }
    yield []
    yield [Piece("look further", "bold")]
    column = max(map(cells, commands))
    for command, remark in commands.items():
        if remark:
            fits = column + cells(remark) + 13 <= width
            yield [Piece(f"  otelsync {pad(command, column)}"), Piece(f"  {remark}" if fits else "", "dim")]
