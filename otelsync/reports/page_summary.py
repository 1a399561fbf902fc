"""The upper part of the page: what the summary says, as cards and tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from otelsync.reports.comparison import differences
from otelsync.reports.figures import ACTIONS, Comparison, Group, Occurrence, Summary, took
from otelsync.reports.html_text import text
from otelsync.reports.time_spent import CATEGORIES, TITLES
from otelsync.text.quantities import day_and_time, duration, timestamp

_OUTCOMES: Final = ("success", "partial", "failure", "interrupted", "cancelled", "running")
_MOST_GROUPS: Final = 500
"""Rows of the table of groups. The Markdown has all."""


def badge(outcome: str) -> str:
    """An outcome in its colour."""
    style = f" o-{outcome}" if outcome in _OUTCOMES else ""
    return f'<span class="badge{style}">{text(outcome or "ended", 20)}</span>'


def summary_sections(summary: Summary, shown: Collection[str]) -> Iterator[str]:
    """The sections in pieces. `shown`: ids of the spans that can be linked to."""
    yield from _heading(summary)
    yield from _notes(summary)
    yield from _cards(summary)
    yield from _time(summary)
    yield from _groups(summary)
    yield from _errors(summary, shown)
    yield '<div class="two">\n'
    yield from _rate_limits(summary)
    if summary.previous is not None:
        yield from _comparison(summary, summary.previous)
    yield "</div>\n"


def _heading(summary: Summary) -> Iterator[str]:
    service = f", service {text(summary.service, 60)}" if summary.service else ""
    yield (
        f'<header class="top">\n<h1>{text(summary.pipeline or "trace", 80)} {badge(summary.outcome)}</h1>\n'
        f'<p class="soft"><span class="mono">{text(summary.name, 60)}</span>, started'
        f" {day_and_time(summary.started_at_ns)} UTC{service}, trace"
        f' <span class="mono">{text(summary.trace_id)}</span></p>\n</header>\n'
    )


def _notes(summary: Summary) -> Iterator[str]:
    if summary.error:
        yield f'<p class="note o-failure">{text(summary.error, 400)}</p>\n'
    if summary.outcome == "interrupted":
        yield (
            '<p class="note o-interrupted">The run was interrupted. The counts go up to the last record that its'
            " processes wrote.</p>\n"
        )
    if summary.outcome == "running":
        yield '<p class="note">The run has not ended. The counts go up to the last record that was stored.</p>\n'
    if summary.discrepancies:
        yield '<div class="note"><strong>The counts do not reconcile.</strong>\n'
        yield from _table(
            "",
            ("what", "expected#", "found#"),
            [(text(one.what), f"{one.expected:,}", f"{one.found:,}") for one in summary.discrepancies],
        )
        yield "</div>\n"


def _cards(summary: Summary) -> Iterator[str]:
    items = summary.items
    cards = [(duration(summary.duration_ns), "took"), (f"{items.fetched:,}", "fetched")]
    cards += [(f"{getattr(items, action):,}", action) for action in ACTIONS if getattr(items, action)]
    cards += [(f"{summary.api_calls:,}", "API calls"), (f"{summary.retries.resent:,}", "requests sent again")]
    errors = "error" if summary.error_count == 1 else "errors"
    cards += [(took(summary.waited_ns), "waited"), (f"{summary.error_count:,}", errors)]
    yield '<ul class="cards">\n'
    for figure, what in cards:
        bad = ' class="o-failure"' if what in ("failed", "error", "errors") and figure != "0" else ""
        yield f'<li><b{bad}>{figure}</b><span class="soft">{what}</span></li>\n'
    yield "</ul>\n"


def _time(summary: Summary) -> Iterator[str]:
    total = sum(summary.time_ns.values())
    if not total:
        return
    kinds = [kind for kind in CATEGORIES if summary.time_ns[kind]]
    yield '<section aria-labelledby="time"><h2 id="time">Where the time went</h2>\n'
    yield '<svg class="stack" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">'
    left = 0.0
    for kind in kinds:
        width = summary.time_ns[kind] * 1000 / total
        yield f'<rect class="c-{kind}" x="{left:.2f}" width="{width:.2f}" height="10"/>'
        left += width
    yield '</svg>\n<ul class="legend">\n'
    for kind in sorted(kinds, key=lambda kind: -summary.time_ns[kind]):
        share = summary.time_ns[kind] / total
        yield (
            f'<li><span class="dot c-{kind}"></span>{TITLES[kind]} <b>{duration(summary.time_ns[kind])}</b>'
            f' <span class="soft">{share:.1%}</span></li>\n'
        )
    yield (
        f'</ul>\n<p class="soft">Own time of spans, without that of their children: {duration(total)} in all, within'
        f" {duration(summary.duration_ns)}. Parallel work and time in a queue count for each.</p>\n</section>\n"
    )


def _groups(summary: Summary) -> Iterator[str]:
    if not summary.groups:
        return
    title = "repo" if summary.group_by == "repo" else text(summary.group_by, 60)
    yield f'<section aria-labelledby="groups"><h2 id="groups">By {title}</h2>\n'
    head = (title, "status", "fetched#", *(f"{action}#" for action in ACTIONS), "API calls#", "time#", "waited#")
    rows = [
        _group_row(f'<a href="{text(group.file)}">{text(group.name, 80)}</a>', group)
        for group in summary.groups[:_MOST_GROUPS]
    ]
    if len(summary.groups) > _MOST_GROUPS:
        rows.append([f"and {len(summary.groups) - _MOST_GROUPS:,} more", *[""] * 10])
    items = summary.items
    counts = [f"{number:,}" for number in (items.fetched, *(getattr(items, action) for action in ACTIONS))]
    times = [took(summary.duration_ns), took(summary.waited_ns)]
    rows.append(["all", badge(summary.outcome), *counts, f"{summary.api_calls:,}", *times])
    yield from _table("", head, rows, total=True)
    yield "</section>\n"


def _group_row(name: str, group: Group) -> Sequence[str]:
    items = group.items
    counts = [f"{number:,}" for number in (items.fetched, *(getattr(items, action) for action in ACTIONS))]
    times = [took(group.duration_ns), took(group.waited_ns)]
    return [name, badge(group.outcome), *counts, f"{group.api_calls:,}", *times]


def _errors(summary: Summary, shown: Collection[str]) -> Iterator[str]:
    if not summary.errors:
        return
    yield f'<section aria-labelledby="errors"><h2 id="errors">Errors: {summary.error_count:,}</h2>\n'
    rows = []
    for error in summary.errors:
        where = ", ".join(f"{text(name, 60)} ({count:,})" for name, count in [*error.stages.items()][:3])
        rows.append([text(error.type, 80), f"{error.count:,}", where, text(error.message, 200)])
    yield from _table("By type, each counted once, where it arose", ("type", "count#", "where", "message"), rows)
    occurrences = [(error.type, at) for error in summary.errors for at in error.occurrences]
    yield from _table(
        "With the log record that says so",
        ("type", "at", "log record", "span", "trace"),
        [
            [
                text(kind, 80),
                text(" #".join(part for part in (at.repo, at.change) if part), 100),
                f"{text(at.log, 100)} <span class='soft'>{timestamp(at.logged_at_ns)}</span>" if at.log else "",
                _link(at, shown),
                f'<span class="mono">{text(at.trace_id)}</span>',
            ]
            for kind, at in occurrences[:100]
        ],
    )
    yield "</section>\n"


def _link(at: Occurrence, shown: Collection[str]) -> str:
    span_id = f'<span class="mono">{text(at.span_id)}</span>'
    return f'<a href="#s-{text(at.span_id)}">{span_id}</a>' if at.span_id in shown else span_id


def _rate_limits(summary: Summary) -> Iterator[str]:
    if not (summary.rate_limits or summary.waits):
        return
    yield '<section aria-labelledby="limits"><h2 id="limits">Rate limits</h2>\n'
    if summary.rate_limits:
        yield from _table(
            "As they were last seen",
            ("limit of", "limit#", "remaining#", "lowest#", "reset (UTC)"),
            [
                [
                    text(limit.resource or "all requests", 80),
                    *("" if value is None else f"{value:,}" for value in (limit.limit, limit.remaining, limit.lowest)),
                    "" if limit.reset_at_ns is None else day_and_time(limit.reset_at_ns),
                ]
                for limit in summary.rate_limits
            ],
        )
    if summary.waits:
        yield from _table(
            "Waits",
            ("kind", "count#", "planned#", "actual#", "longest#"),
            [
                [
                    text(wait.kind, 60),
                    f"{wait.count:,}",
                    *(duration(value) for value in (wait.planned_ns, wait.actual_ns, wait.longest_ns)),
                ]
                for wait in summary.waits
            ],
        )
    yield "</section>\n"


def _comparison(summary: Summary, before: Comparison) -> Iterator[str]:
    yield '<section aria-labelledby="before"><h2 id="before">Compared with the run before</h2>\n'
    rows = [[title, *figures] for title, *figures in differences(summary, before)]
    caption = f"{text(before.sync_id, 60)}, {day_and_time(before.started_at_ns)} UTC, {text(before.outcome, 20)}"
    yield from _table(caption, ("", "before#", "now#", "difference#"), rows)
    for title, names in (("New types of error", before.new_errors), ("Newly failed", before.new_failures)):
        if names:
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            yield f"<p>{title}: {', '.join(text(name, 80) for name in names[:10])}{more}</p>\n"
    yield "</section>\n"


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, total: bool = False) -> Iterator[str]:
    """A table of cells that are HTML already. A heading that ends in ``#`` stands over numbers."""
    rows = [*rows]
    numbers = [name.endswith("#") for name in head]
    yield '<div class="scroll" tabindex="0"><table>'
    yield f"<caption>{caption}</caption>" if caption else ""
    yield "<thead><tr>"
    for name, number in zip(head, numbers, strict=True):
        yield f'<th scope="col"{_NUMBER if number else ""}>{name.removesuffix("#")}</th>'
    yield "</tr></thead>\n<tbody>\n"
    for index, row in enumerate(rows):
        yield '<tr class="all">' if total and index == len(rows) - 1 else "<tr>"
        yield f'<th scope="row">{row[0]}</th>'
        for cell, number in zip(row[1:], numbers[1:], strict=True):
            yield f"<td{_NUMBER}>{_soft(cell)}</td>" if number else f"<td>{cell}</td>"
        yield "</tr>\n"
    yield "</tbody></table></div>\n"


def _soft(number: str) -> str:
    """A nought catches the eye less than a figure does."""
    return f'<span class="zero">{number}</span>' if number in ("0", "+0") else number


_NUMBER: Final = ' class="n"'
