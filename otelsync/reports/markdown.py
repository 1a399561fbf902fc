"""The Markdown of a report: the summary of the run, and one file for each group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from otelsync.reports.comparison import MOST_GROUPS, differences
from otelsync.reports.figures import ErrorType, Group, GroupChange, Item, Operation, Summary, items_line, took
from otelsync.reports.time_spent import CATEGORIES, TITLES
from otelsync.text.markdown import table, text
from otelsync.text.quantities import counted, day_and_time, duration, timestamp
from otelsync.vocabulary import ACTIONS

_MOST_OPERATIONS = 30
_SOURCES = {
    "spans": "counted from its pull requests, as it did not come to its end",
    "records": "from its last record of progress, as it did not come to its end",
    "groups": "the sum of its parts, as it has no total of its own",
}


def summary_markdown(summary: Summary) -> str:
    """``_SYNC_SUMMARY.md``."""
    return _document(
        [
            f"# {text(summary.pipeline or 'trace', 80)}: {text(summary.outcome or 'ended')}",
            "",
            *_about(summary),
            *_verdict(summary),
            *_groups(summary),
            *_time(summary.time_ns, summary.duration_ns),
            *_errors(summary.errors, summary.error_count),
            *_retries(summary),
            *_rate_limits(summary),
            *_comparison(summary),
            *_operations(summary.operations),
            *_events(summary),
            *_ledger(summary),
            *_further(summary),
        ]
    )


def group_markdown(summary: Summary, group: Group) -> str:
    """The file of one group."""
    return _document(
        [
            f"# {text(group.name, 120)}: {text(group.outcome or 'ended')}",
            "",
            f"Part of {text(summary.pipeline, 80)} {text(summary.name, 60)} ({text(summary.outcome)}), "
            f"[summary](_SYNC_SUMMARY.md), [waterfall](waterfall.html).",
            "",
            f"- Started {day_and_time(group.started_at_ns)} UTC, took {duration(group.duration_ns)}, "
            f"waited {took(group.waited_ns)}",
            f"- Items: {items_line(group.items)}{_source(group.items_from)}",
            f"- API calls: {group.api_calls:,}, {group.api_failed:,} failed, "
            f"{counted(group.resent, 'request')} sent again",
            *([f"- Repos: {', '.join(text(repo, 80) for repo in group.repos)}"] if summary.group_by != "repo" else []),
            "",
            *_group_discrepancies(summary, group),
            *_items("Failed pull requests", group.failed, group.items.failed, errors=True),
            *_items("Slowest pull requests", group.slowest, len(group.slowest), errors=False),
            *_time(group.time_ns, group.duration_ns),
            *_operations(group.operations),
        ]
    )


def _document(lines: Sequence[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


def _source(items_from: str) -> str:
    return f" ({_SOURCES[items_from]})" if items_from in _SOURCES else ""


def _about(summary: Summary) -> Iterator[str]:
    ended = f"ended {day_and_time(summary.ended_at_ns)} UTC" if summary.ended_at_ns is not None else "has not ended"
    yield f"- Sync id: {text(summary.sync_id or 'none')}, trace id: {text(summary.trace_id)}"
    yield f"- Started {day_and_time(summary.started_at_ns)} UTC, {ended}, took {duration(summary.duration_ns)}"
    if summary.service:
        yield f"- Service: {text(summary.service)}"
    if summary.phase and summary.outcome not in ("success", "partial"):
        yield f"- Phase: {text(summary.phase)}"
    if summary.attributes:
        yield f"- With {', '.join(f'{text(key)} = {text(value)}' for key, value in summary.attributes.items())}"
    yield f"- Items: {items_line(summary.items)}{_source(summary.items_from)}"
    if summary.error:
        yield f"- Why: {text(summary.error, 300)}"
    yield "- Every span to scale: [waterfall.html](waterfall.html)"
    yield ""


def _verdict(summary: Summary) -> Iterator[str]:
    if summary.outcome == "interrupted":
        yield "**The run was interrupted.** The counts go up to the last record that its processes wrote."
        yield ""
    if summary.outcome == "running":
        yield "**The run has not ended.** The counts go up to the last record that was stored."
        yield ""
    if not summary.reconciles:
        yield "**The counts do not reconcile.**"
        yield ""
        yield from table(
            ("what", "expected:", "found:", "difference:"),
            [
                (text(one.what), f"{one.expected:,}", f"{one.found:,}", f"{one.found - one.expected:+,}")
                for one in summary.discrepancies
            ],
        )


def _groups(summary: Summary) -> Iterator[str]:
    if not summary.groups:
        return
    title = "repo" if summary.group_by == "repo" else text(summary.group_by, 60)
    yield f"## By {title}"
    yield ""
    rows = [_group_row(f"[{text(group.name, 80)}]({group.file})", group) for group in summary.groups]
    if summary.outside.items or summary.outside.api_calls:
        rows.append(_group_row("outside of these", summary.outside))
    total = summary.items
    rows.append(
        [
            "**all**",
            f"**{text(summary.outcome)}**",
            *(f"**{number:,}**" for number in (total.fetched, *(getattr(total, action) for action in ACTIONS))),
            f"**{summary.api_calls:,}**",
            f"**{duration(summary.duration_ns)}**",
            f"**{took(summary.waited_ns)}**",
        ]
    )
    yield from table((title, "status", "fetched:", *(f"{a}:" for a in ACTIONS), "API calls:", "time:", "waited:"), rows)


def _group_row(name: str, group: Group) -> list[str]:
    items = group.items
    counts = [f"{number:,}" for number in (items.fetched, *(getattr(items, action) for action in ACTIONS))]
    return [
        name,
        text(group.outcome),
        *counts,
        f"{group.api_calls:,}",
        took(group.duration_ns),
        took(group.waited_ns),
    ]


def _group_discrepancies(summary: Summary, group: Group) -> Iterator[str]:
    mine = [one for one in summary.discrepancies if one.group == group.name]
    if mine:
        yield "**The counts do not reconcile.**"
        yield ""
        yield from table(
            ("what", "expected:", "found:"), [(text(one.what), f"{one.expected:,}", f"{one.found:,}") for one in mine]
        )


def _items(title: str, items: Sequence[Item], total: int, *, errors: bool) -> Iterator[str]:
    if not items:
        return
    more = f", the first {len(items)} of {total:,}" if total > len(items) else ""
    yield f"## {title}{more}"
    yield ""
    yield from table(
        ("number", "repo", "title", "error" if errors else "what became of it", "took:", "span id", "trace id"),
        [
            (
                text(item.change),
                text(item.repo, 80),
                text(item.title, 80),
                text(item.error if errors else item.action),
                duration(item.duration_ns),
                item.span_id,
                item.trace_id,
            )
            for item in items
        ],
    )


def _time(time_ns: Mapping[str, int], took_ns: int) -> Iterator[str]:
    figures = dict(time_ns)
    total = sum(figures.values())
    if not total:
        return
    yield "## Where the time went"
    yield ""
    yield from table(
        ("", "time:", "share:"),
        [
            (TITLES[kind], duration(figures[kind]), f"{figures[kind] / total:.1%}")
            for kind in sorted(CATEGORIES, key=lambda kind: -figures[kind])
            if figures[kind]
        ],
    )
    yield (
        f"Own time of spans: what is left of each when its children's is taken off; {duration(total)} in all, within"
        f" {duration(took_ns)}. Parallel work and time in a queue count for each."
    )
    yield ""


def _errors(errors: Sequence[ErrorType], total: int) -> Iterator[str]:
    if not errors:
        return
    yield f"## Errors: {total:,}"
    yield ""
    yield "Each is counted once, where it arose."
    yield ""
    yield from table(
        ("type", "count:", "where", "message of the first"),
        [
            (
                text(error.type),
                f"{error.count:,}",
                ", ".join(f"{text(name, 60)} ({count:,})" for name, count in [*error.stages.items()][:3]),
                text(error.message, 160),
            )
            for error in errors
        ],
    )
    rows = [
        (
            text(error.type),
            text(" #".join(part for part in (at.repo, at.change) if part), 100),
            f"{text(at.log, 100)} {timestamp(at.logged_at_ns)}" if at.log else "",
            at.span_id,
            at.trace_id,
        )
        for error in errors
        for at in error.occurrences
    ]
    yield from table(("type", "at", "log record", "span id", "trace id"), rows)


def _retries(summary: Summary) -> Iterator[str]:
    retries = summary.retries
    if not (retries.resent or retries.by_reason or retries.recovered or retries.tasks):
        return
    yield "## Retries"
    yield ""
    yield f"- {counted(retries.resent, 'request')} sent again"
    for reason, count in retries.by_reason.items():
        yield f"- sync.api.retry, reason {text(reason, 60)}: {count:,}"
    if retries.recovered:
        yield f"- {counted(retries.recovered, 'request')} failed in a stage that did not"
    if retries.tasks:
        yield f"- {counted(retries.tasks, 'attempt')} of a task put back"
    yield ""


def _rate_limits(summary: Summary) -> Iterator[str]:
    if not (summary.rate_limits or summary.waits):
        return
    yield "## Rate limits"
    yield ""
    if summary.rate_limits:
        yield from table(
            ("limit of", "limit:", "remaining:", "lowest:", "reset (UTC)", "last seen (UTC)"),
            [
                (
                    text(limit.resource or "all requests", 80),
                    *(_number(value) for value in (limit.limit, limit.remaining, limit.lowest)),
                    "" if limit.reset_at_ns is None else day_and_time(limit.reset_at_ns),
                    day_and_time(limit.seen_at_ns),
                )
                for limit in summary.rate_limits
            ],
        )
    if summary.waits:
        yield from table(
            ("waits", "count:", "planned:", "actual:", "longest:"),
            [
                (
                    text(wait.kind, 60),
                    f"{wait.count:,}",
                    *(duration(value) for value in (wait.planned_ns, wait.actual_ns, wait.longest_ns)),
                )
                for wait in summary.waits
            ],
        )


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _comparison(summary: Summary) -> Iterator[str]:
    before = summary.previous
    if before is None:
        return
    yield f"## Compared with {text(before.sync_id)}"
    yield ""
    yield f"The run of {day_and_time(before.started_at_ns)} UTC before this one ({text(before.outcome)})."
    yield ""
    yield from table(("", "before:", "now:", "difference:"), differences(summary, before))
    if before.new_errors:
        yield f"Types of error that it did not have: {', '.join(text(kind, 80) for kind in before.new_errors)}"
        yield ""
    if before.new_failures:
        yield f"Failed now and not then: {', '.join(text(name, 80) for name in before.new_failures)}"
        yield ""
    if before.groups:
        more = f" (the {MOST_GROUPS} that changed most)" if len(before.groups) == MOST_GROUPS else ""
        yield f"What changed{more}:"
        yield ""
        yield from table(("", "status", "time", "fetched", "failed"), map(_change, before.groups))


def _change(change: GroupChange) -> Sequence[str]:
    return (
        text(change.name, 80),
        _arrow(change.outcome_before, change.outcome),
        _arrow(
            None if change.duration_before_ns is None else duration(change.duration_before_ns),
            None if change.duration_ns is None else duration(change.duration_ns),
        ),
        _arrow(change.fetched_before, change.fetched),
        _arrow(change.failed_before, change.failed),
    )


def _arrow(before: object, now: object) -> str:
    then, here = ("none" if value is None else text(value) or "none" for value in (before, now))
    return here if then == here else f"{then} → {here}"


def _operations(operations: Sequence[Operation]) -> Iterator[str]:
    if not operations:
        return
    yield "## Spans by name"
    yield ""
    yield from table(
        ("name", "count:", "failed:", "own time:", "total:", "mean:", "slowest:"),
        [
            (
                text(one.name, 80),
                f"{one.count:,}",
                f"{one.failed:,}",
                duration(one.own_ns),
                duration(one.total_ns),
                duration(one.total_ns // max(one.count, 1)),
                duration(one.slowest_ns),
            )
            for one in operations[:_MOST_OPERATIONS]
        ],
    )


def _events(summary: Summary) -> Iterator[str]:
    if not summary.events:
        return
    yield "## Logged at WARNING or above"
    yield ""
    yield from table(
        ("level", "id", "event", "count:", "first (UTC)", "last (UTC)"),
        [
            (
                text(one.level),
                text(one.id),
                text(one.event, 120),
                f"{one.count:,}",
                day_and_time(one.first_at_ns),
                day_and_time(one.last_at_ns),
            )
            for one in summary.events
        ],
    )


def _ledger(summary: Summary) -> Iterator[str]:
    rows = summary.rows
    yield "## Ledger"
    yield ""
    came = f"of {rows.spans_counted:,} that came in and ended, {rows.running:,} open"
    yield f"- {counted(rows.spans, 'span')} in the store, {came}"
    yield f"- {counted(rows.logs, 'log record')} in the store, of {rows.logs_counted:,} that came in"
    yield f"- {counted(rows.pull_requests, 'pull request')} with an action, {summary.items.fetched:,} items fetched"
    for journal in summary.journals:
        for line in journal.lines:
            yield f"- Journal {text(journal.name)}, of all runs: {text(line)}"
        if journal.dropped or journal.pending:
            yield (
                f"- **Journal {text(journal.name)} dropped {journal.dropped:,} records and has {journal.pending:,} that"
                " are not shipped yet, of this run or another: the figures may be too low**"
            )
    yield ""


def _further(summary: Summary) -> Iterator[str]:
    yield "## Look further"
    yield ""
    name = text(summary.name, 60)
    yield f"- otelsync show {name}"
    yield f"- otelsync logs {name} --level ERROR"
    yield f"- otelsync report {name}"
