"""Runs in flight as lines for people, and as a document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from otelsync.text.paint import Line, Piece
from otelsync.text.plurals import label, plural
from otelsync.text.printable import printable
from otelsync.text.quantities import counted, duration, instant, timestamp
from otelsync.views.process_now import LastItem, LimitLeft, Progress
from otelsync.views.run_now import RUNNING, STUCK, WAITING, Place, Remaining, RunNow, StageNow, Wait
from otelsync.vocabulary import BATCH, GROUP, NAMED_REPO, NAMED_STAGE, part_of

_STYLES: Final = {RUNNING: "cyan", WAITING: "yellow", STUCK: "bold red"}
_SECOND: Final = 1_000_000_000
_LONGEST_NAME: Final = 60
_MOST_COUNTS: Final = 6

NOTHING: Final = "no run is in flight"


def lines_of(run: RunNow, now_ns: int) -> Iterator[Line]:
    """A run in a few lines: how it stands, then each place where it is worked on, then the rate limits."""
    yield _head(run, now_ns)
    progress = _progress(run.progress, run.remaining)
    if progress:
        yield [Piece(f"  {_of_all(run.progress)}{progress}")]
    for place in run.places:
        yield from _lines_of_place(place, run, now_ns)
    if run.state == STUCK and not run.places:
        yield [Piece(f"  ! no record for {_since(run.last_record_ns, now_ns)}", "bold red")]
    for limit in run.limits:
        yield [Piece(f"  {limit_text(limit)}", "dim")]


def _head(run: RunNow, now_ns: int) -> Line:
    who = "dispatched" if run.dispatched else f"pid {run.pid}"
    phase = f"  phase {printable(run.phase, 24)}" if run.phase else ""
    return [
        Piece(f"{printable(run.sync_id, 40)}  {printable(run.pipeline, 40)}  ", "bold"),
        Piece(run.state, _STYLES[run.state]),
        Piece(f"  {_since(run.started_ns, now_ns)}  {printable(run.service, 24)}  {who}{phase}"),
    ]


def _lines_of_place(place: Place, run: RunNow, now_ns: int) -> Iterator[Line]:
    for depth, stage in enumerate(place.stages):
        last = _last(place.last_item) if depth == 0 and place.last_item is not None else ""
        pid = f"  pid {place.pid}" if depth == 0 and place.pid != run.pid else ""
        told = (_since(stage.since_ns, now_ns), _progress(stage.progress, stage.remaining), last)
        yield [
            Piece("  " * (depth + 1)),
            Piece(_name(stage), "" if depth else "bold"),
            Piece(f"  {'  '.join(filter(None, told))}{pid}"),
        ]
    indent = "  " * (len(place.stages) + 1)
    if place.parallel > 1:
        yield [Piece(f"{indent}and {counted(place.parallel - 1, 'stage')} more at the same time", "dim")]
    if place.wait is not None:
        yield [Piece(indent + wait_text(place.wait, now_ns), "yellow")]
    if place.state == STUCK:
        yield [Piece(f"{indent}! no record for {_since(place.last_record_ns, now_ns)}, though it lives", "bold red")]


def _of_all(progress: Progress | None) -> str:
    """``all customers so far:``, where it is a sum over groups."""
    if progress is None or progress.span_id:
        return ""
    return f"all {plural(progress.groups[-1][0])} so far: "


def _last(item: LastItem) -> str:
    """``last #4711``, ``last order 4711``."""
    return (
        f"last #{printable(item.key, 16)}"
        if item.kind == "pr"
        else f"last {label(item.kind)} {printable(item.key, 40)}"
    )


def _name(stage: StageNow) -> str:
    """``acme/api``, ``customer GREYSON``, ``batch create_items number=3``: the name as people say it."""
    sort, kind = part_of(stage.name)
    name = stage.name.removeprefix(NAMED_STAGE).removeprefix(NAMED_REPO)
    if sort in (GROUP, BATCH) and kind != "repo":
        name = f"{label(kind)} {name.partition(' ')[2]}"
    return printable(name, _LONGEST_NAME)


def wait_text(wait: Wait, now_ns: int) -> str:
    """``waiting for the primary rate limit until 14:05:00 UTC, 12m05s more``."""
    kind = printable(wait.kind, 24 if wait.until_ns is not None else _LONGEST_NAME)
    if wait.until_ns is None:
        return f"waiting: {kind}, {_since(wait.since_ns, now_ns)} so far"
    more = wait.until_ns - now_ns
    rest = f"{_words(more / _SECOND)} more" if more > 0 else f"over for {_since(wait.until_ns, now_ns)}"
    limit = f"for the {kind} rate limit" if kind else "for the rate limit"
    again = f"to try again ({kind})" if kind else "to try again"
    what = limit if wait.what == "rate_limit" else again
    return f"waiting {what} until {instant(wait.until_ns):%H:%M:%S} UTC, {rest}"


def limit_text(limit: LimitLeft) -> str:
    """``rate limit core: 1,200 of 5,000 left, full again at 14:05:00 UTC``."""
    name = f" {printable(limit.name, 80)}" if limit.name else ""
    of = f" of {limit.limit:,}" if limit.limit is not None else ""
    again = "probably again" if limit.is_assumed else "full again"
    until = f", {again} at {instant(_nanoseconds(limit.reset)):%H:%M:%S} UTC" if limit.reset is not None else ""
    return f"rate limit{name}: {limit.remaining:,}{of} left{until}"


def _progress(progress: Progress | None, remaining: Remaining | None) -> str:
    """``1,240 of 5,000  24.8%  8m05s to 12m10s left  created 1,200, failed 40``."""
    if progress is None:
        return ""
    of = f" of {progress.total:,}" if progress.total is not None else " done"
    percent = f"{progress.percent:.1f}%" if progress.percent is not None else ""
    ends = dict.fromkeys((_words(remaining.low), _words(remaining.high))) if remaining is not None else {}
    left = f"{' to '.join(ends)} left" if ends else ""
    told = [(name, count) for name, count in progress.counts.items() if name != "fetched" and count]
    counts = ", ".join(f"{printable(name, 16)} {count:,}" for name, count in told[:_MOST_COUNTS])
    return "  ".join(filter(None, (f"{progress.done:,}{of}", percent, left, counts)))


def _words(seconds: float) -> str:
    """Whole seconds, or minutes and more."""
    whole = round(max(seconds, 0.0))
    return f"{whole}s" if whole < 100 else duration(whole * _SECOND)


def _since(then_ns: int, now_ns: int) -> str:
    return _words(max(now_ns - then_ns, 0) // _SECOND)


def _nanoseconds(seconds: float) -> int:
    """Nanoseconds within what an instant can be; 0 for NaN, of which `max` gives the first argument."""
    return int(min(max(0.0, seconds), 1e12) * _SECOND)


# One line, for those who read no terminal


def line_of(run: RunNow, now_ns: int) -> str:
    """All of a run in one line."""
    parts = [f"{printable(run.sync_id, 40)} {printable(run.pipeline, 40)} {run.state}", *_told_of(run, now_ns)]
    return ", ".join(filter(None, parts))


def _told_of(run: RunNow, now_ns: int) -> Iterator[str]:
    yield " ".join(_progress(run.progress, run.remaining).split())
    for place in run.places:
        for stage in place.stages[:1]:
            told = " ".join(_progress(stage.progress, stage.remaining).split())
            yield " ".join(filter(None, (_name(stage), told)))
        if place.wait is not None:
            yield wait_text(place.wait, now_ns)
    if run.state == STUCK:
        yield f"no record for {_since(run.last_record_ns, now_ns)}"


def signature(run: RunNow) -> tuple[object, ...]:
    """Return what changes when a line about the run is worth writing."""
    return (
        run.state,
        run.phase,
        _figures(run.progress),
        tuple(
            (place.pid, place.state, place.wait, _name(place.stages[0]), _figures(place.stages[0].progress))
            for place in run.places
            if place.stages
        ),
    )


def _figures(progress: Progress | None) -> tuple[int, int | None] | None:
    return (progress.done, progress.total) if progress is not None else None


# For programs


def document(runs: Sequence[RunNow], now_ns: int) -> dict[str, Any]:
    """Runs as a JSON document. Seconds are from now; times are RFC 3339 in UTC."""
    return {"time": timestamp(now_ns), "runs": [_run(run, now_ns) for run in runs]}


def _run(run: RunNow, now_ns: int) -> dict[str, Any]:
    return {
        "sync_id": run.sync_id,
        "pipeline": run.pipeline,
        "service": run.service,
        "trace_id": run.trace_id,
        "state": run.state,
        "dispatched": run.dispatched,
        "pid": run.pid,
        "phase": run.phase or None,
        "started": timestamp(run.started_ns),
        "running_seconds": _seconds(run.started_ns, now_ns),
        "silent_seconds": _seconds(run.last_record_ns, now_ns),
        "progress": _progress_document(run.progress, run.remaining),
        "at": [_place(place, now_ns) for place in run.places],
        "rate_limits": [
            {
                "name": limit.name or None,
                "remaining": limit.remaining,
                "limit": limit.limit,
                "reset": timestamp(_nanoseconds(limit.reset)) if limit.reset is not None else None,
            }
            for limit in run.limits
        ],
    }


def _place(place: Place, now_ns: int) -> dict[str, Any]:
    wait, last = place.wait, place.last_item
    return {
        "pid": place.pid,
        "state": place.state,
        "repo": next((name for kind, name in reversed(place.groups) if kind == "repo"), None),
        "groups": [{"kind": kind, "name": name} for kind, name in place.groups],
        "task": place.task or None,
        "parallel": place.parallel,
        "silent_seconds": _seconds(place.last_record_ns, now_ns),
        "last_item": _item_document(last) if last is not None else None,
        "waiting": _wait_document(wait) if wait is not None else None,
        "stages": [
            {
                "name": stage.name,
                "running_seconds": _seconds(stage.since_ns, now_ns),
                "progress": _progress_document(stage.progress, stage.remaining),
            }
            for stage in place.stages
        ],
    }


def _item_document(item: LastItem) -> dict[str, Any]:
    return {"kind": item.kind, "id": item.key, "ended": timestamp(item.end_ns)}


def _wait_document(wait: Wait) -> dict[str, Any]:
    until = timestamp(wait.until_ns) if wait.until_ns is not None else None
    return {"for": wait.what, "kind": wait.kind, "since": timestamp(wait.since_ns), "until": until}


def _progress_document(progress: Progress | None, remaining: Remaining | None) -> dict[str, Any] | None:
    if progress is None:
        return None
    return {
        "done": progress.done,
        "total": progress.total,
        "percent": progress.percent,
        "eta_low_seconds": round(remaining.low, 1) if remaining is not None else None,
        "eta_high_seconds": round(remaining.high, 1) if remaining is not None else None,
        "counts": dict(progress.counts),
    }


def _seconds(then_ns: int, now_ns: int) -> float:
    return round(max(now_ns - then_ns, 0) / _SECOND, 1)
