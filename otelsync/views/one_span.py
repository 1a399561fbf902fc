"""All that is known of one span: attributes, events, traceback, links, log records, and the run it belongs to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from otelsync import vocabulary
from otelsync.store.records import Record, line_of, records
from otelsync.store.runs import Run, find_run
from otelsync.store.spans import StoredSpan, corrected, otlp_json, read
from otelsync.text.paint import Line, Piece
from otelsync.text.printable import pad, printable, wrapped
from otelsync.text.quantities import counted, day_and_time, duration, instant
from otelsync.views.styles import STYLES

_MOST_LINES: Final = 1_000
"""Lines of one value that are shown."""
_MOST_RECORDS: Final = 200
_ROOMY: Final = 68
"""Cells of the longest command that is named."""
_WIDEST_KEY: Final = 36
_KINDS: Final = ("", "internal", "server", "client", "producer", "consumer")
_TRACEBACKS: Final = (vocabulary.EXCEPTION_STACKTRACE, "exception", "stack_info", "stack")
"""Fields whose text is one for many lines, which are shown below the others."""


@dataclass(frozen=True, slots=True)
class OneSpan:
    """A span and what belongs to it."""

    run: Run
    span: StoredSpan
    parent: StoredSpan | None
    children: int
    service: str
    scope: str
    records: list[Record]
    """Its own log records, not those of spans below it; one more than are shown if there are more."""
    linked: Mapping[str, str]
    """Names of the runs that its links lead to, by trace id."""


def read_span(store: sqlite3.Connection, trace_id: str, span_id: str) -> OneSpan:
    """Return a span that is in the store. Raises RunNotFoundError if it has gone meanwhile."""
    run = find_run(store, trace_id)
    of_id = "INDEXED BY spans_by_time WHERE trace_id = ? AND span_id = ? ORDER BY end_ns IS NULL LIMIT 1"
    span = corrected(next(read(store, of_id, (trace_id, span_id))), run.corrected)
    (children,) = store.execute(
        "SELECT count(*) FROM spans INDEXED BY spans_by_parent WHERE parent_span_id = ? AND trace_id = ?",
        (span_id, trace_id),
    ).fetchone()
    service, scope, version = store.execute(
        "SELECT json_extract(resources.attributes, '$.\"service.name\"'), scopes.name, scopes.version FROM spans"
        " INDEXED BY spans_by_time LEFT JOIN resources ON resources.id = spans.resource"
        " LEFT JOIN scopes ON scopes.id = spans.scope WHERE trace_id = ? AND start_ns = ? AND span_id = ?",
        (trace_id, span.start_ns, span_id),
    ).fetchone()
    linked = {str(link.get("traceId")) for link in _listed(span.links_json)}
    names = store.execute(
        "SELECT trace_id, coalesce(sync_id, '') FROM runs WHERE trace_id IN (SELECT value FROM json_each(?))",
        (json.dumps(sorted(linked)),),
    )
    return OneSpan(
        run,
        span,
        next(read(store, of_id, (trace_id, span.parent_span_id)), None) if span.parent_span_id else None,
        children,
        str(service or ""),
        f"{scope or ''} {version or ''}".strip(),
        [*islice(records(store, run, span=span_id, below=False), _MOST_RECORDS + 1)],
        dict(names.fetchall()),
    )


def span_json(one: OneSpan) -> dict[str, Any]:
    """Return it as `otlp_json` does, with ``syncId``, ``service`` and ``logs``, its own log records."""
    logs = [
        {
            "timeUnixNano": str(record.time_ns),
            "severityText": record.level,
            "severityNumber": record.severity,
            "logger": record.logger,
            "event": record.event,
            "attributes": json.loads(record.attributes_json),
        }
        for record in one.records[:_MOST_RECORDS]
    ]
    more = {"moreLogs": True} if len(one.records) > _MOST_RECORDS else {}
    return {"syncId": one.run.sync_id or "", "service": one.service, **otlp_json(one.span), "logs": logs, **more}


def span_lines(one: OneSpan, width: int | None) -> Iterator[Line]:
    """Yield the lines of a page about it; long ones are broken at `width` cells, or not at all."""
    yield from _heading(one, width)
    yield []
    yield from _whence(one, width)
    yield from _section("attributes", _fields(one.span.attributes, width, 2))
    yield from _section("events", _events(one.span, width))
    yield from _section("links", _links(one, width))
    yield from _section("log records", _records(one, width))
    yield []
    yield [Piece("look further", "bold")]
    span_id = one.span.span_id if width is None or width >= _ROOMY else one.span.span_id[:8]
    yield [Piece(f"  otelsync logs {one.run.name} --span {span_id}")]
    yield [Piece("      log records of the spans below it too", "dim")]
    yield [Piece(f"  otelsync show {one.run.name}")]


def _heading(one: OneSpan, width: int | None) -> Iterator[Line]:
    span = one.span
    title = " ".join(filter(None, (printable(span.name, 200), span.detail, span.label({}))))
    first, *others = wrapped(title, width)
    yield [Piece(first, "bold")]
    yield from ([Piece(other, "bold")] for other in others)
    yield [Piece(span.span_id, "cyan")]
    took, when = duration(span.duration_ns(one.run.last_ns)), "so far" if span.running else "after"
    how = f"{took} {when}" if span.running else f"{when} {took}"
    outcome = span.outcome or "ended"
    milliseconds = span.start_ns // 1_000_000 % 1000
    started = f"started {day_and_time(span.start_ns)}.{milliseconds:03} UTC"
    facts = wrapped(", ".join(filter(None, (f"{outcome} {how}", started, span.attempt))), width)
    yield [Piece(outcome, STYLES.get(outcome, "")), Piece(facts[0][len(outcome) :])]
    yield from ([Piece(line)] for line in facts[1:])
    if span.failed:
        for number, line in enumerate(_broken(span.status_message or span.error, width, 2)):
            yield [Piece("! " if not number else "  ", "red"), Piece(line, "red")]


def _whence(one: OneSpan, width: int | None) -> Iterator[Line]:
    span = one.span
    facts = {"run": f"{one.run.name}  {one.run.title}", "trace": span.trace_id}
    if span.parent_span_id:
        known = printable(one.parent.name, 60) if one.parent is not None else "not recorded"
        facts["parent"] = f"{printable(span.parent_span_id, 16)}  {known}"
    if one.children:
        facts["below it"] = counted(one.children, "span")
    kind = _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else ""
    facts |= {"kind": kind, "service": printable(one.service, 60), "recorded by": printable(one.scope, 80)}
    for name, value in facts.items():
        for number, line in enumerate(wrapped(value, _less(width, 14)) if value else ()):
            yield [Piece(pad("" if number else name, 14), "dim"), Piece(line)]


def _section(title: str, lines: Iterable[Line]) -> Iterator[Line]:
    for number, line in enumerate(lines):
        if not number:
            yield []
            yield [Piece(title, "bold")]
        yield line


def _fields(fields: Mapping[str, Any], width: int | None, indent: int) -> Iterator[Line]:
    """List fields in two columns; what has several lines has them, and stands below its name."""
    keys = {key: printable(key, _WIDEST_KEY) for key in fields}
    column = max((len(shown) for shown in keys.values()), default=0) + 2
    if width is not None:
        column = min(column, max(width // 2 - indent, 8))
    margin = " " * indent
    for key, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if "\n" in text.strip() or key in _TRACEBACKS:
            yield [Piece(f"{margin}{keys[key]}", "dim")]
            yield from ([Piece(f"{margin}  {line}")] for line in _broken(text, width, indent + 2))
            continue
        for number, line in enumerate(_broken(text, width, indent + column)):
            yield [Piece(margin + pad("" if number else keys[key], column), "dim"), Piece(line)]


def _events(span: StoredSpan, width: int | None) -> Iterator[Line]:
    for event in _listed(span.events_json):
        at = event.get("timeUnixNano")
        at_ns = int(at) if isinstance(at, str) and at.isdigit() else span.start_ns
        yield [
            Piece(f"  {_clock(at_ns)}  ", "dim"),
            Piece(printable(event.get("name", ""), 80)),
            Piece(f"  {duration(max(at_ns - span.start_ns, 0))} after its start", "dim"),
        ]
        yield from _fields(_last(event.get("attributes"), _TRACEBACKS), width, 6)


def _links(one: OneSpan, width: int | None) -> Iterator[Line]:
    for link in _listed(one.span.links_json):
        trace_id = str(link.get("traceId", ""))
        run = printable(one.linked.get(trace_id, ""), 60)
        yield [Piece(f"  {printable(link.get('spanId', ''), 16)}"), Piece(f"  trace {printable(trace_id, 32)}", "dim")]
        if run:
            yield [Piece(f"      run {run}")]
        yield from _fields(_last(link.get("attributes"), ()), width, 6)


def _records(one: OneSpan, width: int | None) -> Iterator[Line]:
    """List its own log records, each as `otelsync logs` has it, with what has several lines below it."""
    told = {text.strip() for event in _listed(one.span.events_json) for text in _texts(event.get("attributes"))}
    around = one.span.attributes | {vocabulary.SYNC_ID: one.run.sync_id, vocabulary.SYNC_PIPELINE: one.run.pipeline}
    for record in one.records[:_MOST_RECORDS]:
        fields: dict[str, Any] = json.loads(record.attributes_json)
        long = {key: value for key, value in fields.items() if _is_long(key, value)}
        short = {key: value for key, value in fields.items() if key not in long and around.get(key) != value}
        time, level, event, *_ = line_of(record)
        yield [Piece("  "), time, level, event]
        yield from _fields(short, width, 6)
        for key, value in long.items():
            if value.strip() in told:
                yield [Piece(f"      {printable(key, _WIDEST_KEY)}", "dim"), Piece("  as in the event above", "dim")]
            else:
                yield from _fields({key: value}, width, 6)
    if len(one.records) > _MOST_RECORDS:
        yield [Piece(f"  the first {_MOST_RECORDS:,}; otelsync logs has all", "dim")]


def _is_long(key: str, value: object) -> bool:
    return isinstance(value, str) and (key in _TRACEBACKS or "\n" in value.strip())


def _texts(attributes: object) -> Iterator[str]:
    if isinstance(attributes, dict):
        yield from (value for value in attributes.values() if isinstance(value, str) and "\n" in value)


def _last(attributes: object, keys: Iterable[str]) -> dict[str, Any]:
    """Return attributes with those of some keys behind all others."""
    held = dict(attributes) if isinstance(attributes, dict) else {}
    behind = {key: held.pop(key) for key in keys if key in held}
    return held | behind


def _broken(text: str, width: int | None, indent: int) -> Iterator[str]:
    """Yield printable lines of a text that has line breaks of its own, which it keeps."""
    lines = text.expandtabs(4).rstrip("\n").split("\n")
    for line in lines[:_MOST_LINES]:
        yield from wrapped(printable(line.removesuffix("\r")), _less(width, indent))
    if len(lines) > _MOST_LINES:
        yield f"... and {len(lines) - _MOST_LINES:,} lines more; --json has them"


def _less(width: int | None, indent: int) -> int | None:
    return None if width is None else max(width - indent, 20)


def _listed(text: str | None) -> list[dict[str, Any]]:
    return [each for each in json.loads(text) if isinstance(each, dict)] if text else []


def _clock(nanoseconds: int) -> str:
    return f"{instant(nanoseconds):%H:%M:%S.%f}"[:-3]
